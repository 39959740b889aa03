//! A file seam as on a slower disk, for measurements: its syncs of active segments take longer, and are counted.

use crate::files::{Access, File, Files, SystemFiles};
use crate::through::{FileThrough, FilesThrough};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The operating system with slower syncs of active segments, which are counted.
#[derive(Debug, Clone)]
pub struct Slowed {
    delay: Duration,
    syncs: Arc<AtomicU64>,
}

impl Slowed {
    /// Makes each sync take so much longer.
    pub fn new(delay: Duration) -> Self {
        Self { delay, syncs: Arc::default() }
    }

    /// Returns how many syncs there were, all clones together.
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct SlowedFile {
    inner: Arc<dyn File>,
    /// `None` for files that are no segments.
    slowed: Option<Slowed>,
}

impl FilesThrough for Slowed {
    fn inner(&self) -> &dyn Files {
        &SystemFiles
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let inner = SystemFiles.open(path, access)?;
        let is_segment = path.extension().is_some_and(|ending| ending == "jsonl");
        Ok(Arc::new(SlowedFile { inner, slowed: is_segment.then(|| self.clone()) }))
    }
}

impl FileThrough for SlowedFile {
    fn inner(&self) -> &dyn File {
        &*self.inner
    }

    fn sync(&self) -> io::Result<()> {
        if let Some(Slowed { delay, syncs }) = &self.slowed {
            syncs.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(*delay);
        }
        self.inner.sync()
    }
}
