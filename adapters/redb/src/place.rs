//! Where the bytes of a ledger are: a file, or in tests anything that has redb's storage seam. Opens and creates;
//! knows nothing of what the tables hold.

use crate::fault::{caught, fault};
use crate::options::{Durability, RedbOptions};
use burnlog_log::{Error, ErrorKind, Result};
use redb::backends::FileBackend;
use redb::{
    Builder, ConcurrencyMode, Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, StorageBackend,
};
use std::fs::{self, File};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// An open redb file.
pub(crate) enum Store {
    /// For writing.
    Writer(Closing<Database>),
    /// For reading only.
    Reader(Closing<ReadOnlyDatabase>),
}

impl Store {
    pub(crate) fn writer(database: Database) -> Self {
        Self::Writer(Closing(Some(database)))
    }

    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, redb::Error> {
        match self {
            Self::Writer(database) => database.begin_read(),
            Self::Reader(database) => database.begin_read(),
        }
        .map_err(redb::Error::from)
    }
}

/// A database whose closing may find damage, and then panic.
pub(crate) struct Closing<D>(Option<D>);

impl<D> Deref for Closing<D> {
    type Target = D;

    fn deref(&self) -> &D {
        self.0.as_ref().expect("taken only when dropped")
    }
}

impl<D> DerefMut for Closing<D> {
    fn deref_mut(&mut self) -> &mut D {
        self.0.as_mut().expect("taken only when dropped")
    }
}

impl<D> Drop for Closing<D> {
    fn drop(&mut self) {
        let database = self.0.take();
        // What cannot be closed is recovered by the next open, or refused as damaged.
        let _ = caught(|| {
            drop(database);
            Ok(())
        });
    }
}

/// Where the bytes are.
pub(crate) trait Place: Send + Sync {
    /// What errors call it.
    fn name(&self) -> &str;
    /// Opens what is there, recovering it after a crash.
    fn open(&self, options: &RedbOptions) -> Result<Store>;
    /// `NotFound` where what was opened is not there any more. redb goes on writing into a file that was deleted, so that a
    /// batch would be acknowledged that nobody can ever read.
    fn check_in_place(&self, operation: &'static str) -> Result<()>;
    /// Returns the length in bytes.
    fn bytes(&self) -> Result<u64>;
    /// Returns the bytes once more, without locks, for reading.
    fn contents(&self) -> Result<Box<dyn StorageBackend>>;
}

/// Returns redb's builder with the options.
pub(crate) fn builder(options: &RedbOptions) -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(options.cache_bytes);
    builder.set_concurrency_mode(match options.durability {
        Durability::Batch => ConcurrencyMode::SingleWriter,
        Durability::Os => ConcurrencyMode::ExclusiveWriter,
    });
    builder
}

/// A ledger in a file.
#[derive(Debug)]
pub(crate) struct FilePlace {
    path: PathBuf,
    name: String,
    /// Device and inode of the file that was opened last.
    file: Mutex<Option<(u64, u64)>>,
}

impl FilePlace {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), name: path.display().to_string(), file: Mutex::new(None) }
    }

    fn file_there(&self) -> Option<(u64, u64)> {
        fs::metadata(&self.path).ok().map(|found| (found.dev(), found.ino()))
    }

    fn file(&self) -> MutexGuard<'_, Option<(u64, u64)>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether there is a file, or says why there cannot be a ledger.
    pub(crate) fn exists(&self) -> Result<bool> {
        let refuse = |kind, message: &str| Err(Error::new(kind, "open ledger", message).at(&self.name));
        match fs::metadata(&self.path) {
            Ok(found) if found.is_dir() => {
                refuse(ErrorKind::Invalid, "this is a folder; a redb ledger is a file: name one inside it")
            }
            Ok(found) if found.len() == 0 => refuse(
                ErrorKind::Invalid,
                "the file is empty and so no ledger: remove it to have one made, or restore it",
            ),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(fault("open ledger", &self.name, error)),
        }
    }

    /// Makes the file whole or not at all: `fill` prepares it under another name. A file that somebody else makes
    /// meanwhile is left as it is.
    pub(crate) fn create(
        &self,
        options: &RedbOptions,
        random: &str,
        fill: impl FnOnce(&Database) -> Result<()>,
    ) -> Result<()> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if !folder.is_dir() {
            let message = format!("the folder {} is not there: make it first", folder.display());
            return Err(Error::new(ErrorKind::NotFound, "create ledger", message).at(&self.name));
        }
        let mut draft = self.path.clone().into_os_string();
        draft.push(format!(".{random}.new"));
        let draft = PathBuf::from(draft);
        let result = self.publish(options, folder, &draft, fill);
        let _ = fs::remove_file(&draft); // gone already where all went well
        result
    }

    fn publish(
        &self,
        options: &RedbOptions,
        folder: &Path,
        draft: &Path,
        fill: impl FnOnce(&Database) -> Result<()>,
    ) -> Result<()> {
        let failed = |error: redb::Error| fault("create ledger", &self.name, error);
        let database = builder(options).create(draft).map_err(|error| failed(error.into()))?;
        fill(&database)?;
        database.close().map_err(|error| failed(error.into()))?;
        // A link fails where the name is taken; a rename would replace what another process has just made.
        match fs::hard_link(draft, &self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(_) if !self.path.exists() => {
                fs::rename(draft, &self.path).map_err(|error| failed(error.into()))?;
            }
            Err(error) => return Err(failed(error.into())),
        }
        let sync = File::open(folder).and_then(|folder| folder.sync_all());
        sync.map_err(|error| failed(error.into()))
    }
}

impl Place for FilePlace {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self, options: &RedbOptions) -> Result<Store> {
        // Before it is opened: a file that takes its place meanwhile is refused by the first write.
        *self.file() = self.file_there();
        let opened = if options.read_only {
            builder(options).open_read_only(&self.path).map(|database| Store::Reader(Closing(Some(database))))
        } else {
            builder(options).open(&self.path).map(Store::writer)
        };
        opened.map_err(|error| fault("open ledger", &self.name, error))
    }

    fn check_in_place(&self, operation: &'static str) -> Result<()> {
        if self.file_there() == *self.file() {
            return Ok(());
        }
        let message = "the file was deleted, moved or replaced after it was opened, nothing was written: put it back, \
                       or open it again";
        Err(Error::new(ErrorKind::NotFound, operation, message).at(&self.name))
    }

    fn bytes(&self) -> Result<u64> {
        fs::metadata(&self.path)
            .map(|found| found.len())
            .map_err(|error| fault("count bytes", &self.name, error))
    }

    fn contents(&self) -> Result<Box<dyn StorageBackend>> {
        let failed = |error: redb::Error| fault("check", &self.name, error);
        let file = File::open(&self.path).map_err(|error| failed(error.into()))?;
        Ok(Box::new(FileBackend::new(file).map_err(|error| failed(error.into()))?))
    }
}
