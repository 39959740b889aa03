//! `ledger.json`: what makes a folder a ledger, its format and its id. Made last when a ledger is created.

use crate::files::{Access, Files, io_error, read_file};
use burnlog_log::{Error, ErrorKind, LedgerId, Result, failpoint};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// The version of the layout that this crate writes.
const FORMAT: u32 = 1;
pub(crate) const FILE_NAME: &str = "ledger.json";
/// What may lie in a folder in which a ledger is created: an earlier attempt that did not get to its end.
const BEFORE_CREATION: [&str; 5] = ["lock", "segments", "index", "quarantine", "ledger.json.new"];

#[derive(Debug, Serialize, Deserialize)]
struct Text {
    burnlog_ledger: u32,
    id: LedgerId,
}

/// Reads the id of the ledger in `folder`; `None` where there is none.
///
/// `Invalid` when it is not a folder, `Corrupt` when the file cannot be read, `Unsupported` for a newer layout.
pub(crate) fn read(files: &dyn Files, folder: &Path) -> Result<Option<LedgerId>> {
    let path = folder.join(FILE_NAME);
    let bytes = match read_file(files, &path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            let message =
                "a file stands where the ledger's folder belongs; name another folder, or move it away";
            return Err(Error::new(ErrorKind::Invalid, "open ledger", message).at(folder.display()));
        }
        Err(error) => return Err(io_error("open ledger", path.display(), error)),
    };
    parse(&bytes).map(Some).map_err(|error| error.at(path.display()))
}

/// Parses the file.
pub(crate) fn parse(bytes: &[u8]) -> Result<LedgerId> {
    // The version first: a newer file may have other fields.
    #[derive(Deserialize)]
    struct Version {
        burnlog_ledger: u32,
    }
    let corrupt = |error: serde_json::Error| {
        let message = "ledger.json cannot be read; put it back from a backup (the id stands in the first line of each segment)";
        Error::new(ErrorKind::Corrupt, "open ledger", message).caused_by(error)
    };
    let version: Version = serde_json::from_slice(bytes).map_err(corrupt)?;
    if version.burnlog_ledger != FORMAT {
        let message = format!(
            "the ledger has format {}, this program reads {FORMAT}; upgrade burnlog",
            version.burnlog_ledger
        );
        return Err(Error::new(ErrorKind::Unsupported, "open ledger", message));
    }
    serde_json::from_slice::<Text>(bytes).map(|text| text.id).map_err(corrupt)
}

/// Tells whether `folder` holds segments with something in them, whatever else is there.
pub(crate) fn holds_segments(files: &dyn Files, folder: &Path) -> bool {
    files.list(&folder.join("segments")).is_ok_and(|listed| listed.iter().any(|listed| listed.bytes > 0))
}

/// The error for a folder with segments and without `ledger.json`.
pub(crate) fn lost(operation: &'static str, folder: &Path) -> Error {
    let message = "the folder holds segments but no ledger.json; put it back from a backup \
                   (the id stands in the first line of each segment)";
    Error::new(ErrorKind::Corrupt, operation, message).at(folder.display())
}

/// Whether the file of ledger `id` is byte for byte what [`create`] wrote.
pub(crate) fn is_as_written(files: &dyn Files, folder: &Path, id: LedgerId) -> bool {
    read_file(files, &folder.join(FILE_NAME)).is_ok_and(|bytes| bytes == text(id))
}

fn text(id: LedgerId) -> Vec<u8> {
    let mut text = serde_json::to_vec(&Text { burnlog_ledger: FORMAT, id }).expect("plain data is JSON");
    text.push(b'\n');
    text
}

/// Makes a new ledger in `folder`, durably. The caller holds the ledger's lock.
///
/// `Invalid` when the folder holds something else, `Corrupt` when it holds segments without `ledger.json`.
pub(crate) fn create(files: &dyn Files, folder: &Path) -> Result<LedgerId> {
    let failed = |error: io::Error| io_error("create ledger", folder.display(), error);
    for listed in files.list(folder).map_err(failed)? {
        if !BEFORE_CREATION.contains(&listed.name.as_str()) {
            let message = format!(
                "the folder is no ledger and not empty: it holds {:?}; name a new or an empty folder",
                listed.name
            );
            return Err(Error::new(ErrorKind::Invalid, "create ledger", message).at(folder.display()));
        }
    }
    let segments = folder.join("segments");
    files.create_folder(&segments).map_err(failed)?;
    if holds_segments(files, folder) {
        return Err(lost("create ledger", folder));
    }
    files.create_folder(&folder.join("index")).map_err(failed)?;
    files.create_folder(&folder.join("quarantine")).map_err(failed)?;
    let mut id = LedgerId([0; 16]);
    files.random(&mut id.0).map_err(failed)?;
    let text = text(id);
    let new = folder.join("ledger.json.new");
    let write = || {
        let file = files.open(&new, Access::WriteOrCreate)?;
        file.set_bytes(0)?;
        file.write_at(&text, 0)?;
        file.sync()?;
        failpoint("jsonl-ledger-written");
        files.rename(&new, &folder.join(FILE_NAME))?;
        failpoint("jsonl-ledger-renamed");
        files.sync_folder(folder)
    };
    write().map_err(failed)?;
    Ok(id)
}
