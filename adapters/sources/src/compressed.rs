//! Session files that an agent compressed: read as if they were not. The plain bytes go into a file without a name, so
//! that places in it can be come back to; whoever reads sees the records and numbers of the plain file.

use crate::files::{FileStat, Files, OpenFile};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Opens a session file, and takes it out of its compression where its name says that it is in one.
pub(crate) fn open(files: &dyn Files, path: &Path) -> io::Result<Box<dyn OpenFile>> {
    let file = files.open(path)?;
    if path.extension().is_none_or(|extension| extension != "zst") {
        return Ok(file);
    }
    let stat = file.stat()?;
    let mut plain = tempfile::tempfile()?;
    io::copy(&mut zstd::stream::read::Decoder::new(file)?, &mut plain)?;
    plain.seek(SeekFrom::Start(0))?;
    Ok(Box::new(Plain { plain, stat }))
}

/// The plain bytes of a compressed file, with the stat of that file: it tells whether something changed.
struct Plain {
    plain: File,
    stat: FileStat,
}

impl Read for Plain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.plain.read(buffer)
    }
}

impl Seek for Plain {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.plain.seek(to)
    }
}

impl OpenFile for Plain {
    fn stat(&self) -> io::Result<FileStat> {
        Ok(self.stat)
    }
}
