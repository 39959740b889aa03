//! From a URL to a ledger: the one place that names every adapter, and that decides which projections go with
//! which ledger.

use crate::args::{Durability, Global};
use crate::environment::Environment;
use crate::output::say;
use burnlog_jsonl::{JsonlBackend, JsonlOptions};
use burnlog_log::{Error, ErrorKind, Ledger, Result};
use burnlog_sqlite::{SqliteOptions, SqliteProjections};
use std::path::{Path, PathBuf};

/// Where a ledger is, as the user says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreUrl {
    /// `file:DIR`: JSONL segments in a folder.
    File(PathBuf),
}

/// What a ledger is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reading; never makes a ledger, works on a read-only folder and beside a writer.
    Read,
    /// Appending and maintaining what exists.
    Write,
    /// Appending; makes the ledger when there is none.
    Create(Durability),
}

impl StoreUrl {
    /// Parses a URL of `--store`, `--from` or `--to`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let invalid = |message: String| Err(Error::new(ErrorKind::Invalid, "open ledger", message));
        let Some((scheme, rest)) = text.split_once(':') else {
            return invalid(format!("{text:?} is not a store URL; write file:DIR"));
        };
        match scheme {
            "file" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                if path.is_empty() {
                    return invalid(format!("{text:?} names no folder; write file:DIR"));
                }
                Ok(Self::File(PathBuf::from(path)))
            }
            _ => invalid(format!("this program has no backend {scheme:?}; it has file:DIR")),
        }
    }

    /// Chooses the store: `--store`, else `RELAYBURN_STORAGE`, else the default ledger.
    pub(crate) fn choose(global: &Global, environment: &Environment) -> Result<Self> {
        if let Some(url) = &global.store {
            return Self::parse(url);
        }
        match environment.storage.as_deref() {
            None | Some("file") => Ok(Self::File(environment.home.ledger())),
            Some(other) => Err(Error::new(
                ErrorKind::Invalid,
                "open ledger",
                format!("RELAYBURN_STORAGE is {other:?}; this program has the backend file"),
            )),
        }
    }
}

/// Opens a ledger.
pub(crate) fn ledger(url: &StoreUrl, access: Access, global: &Global) -> Result<Ledger> {
    match url {
        StoreUrl::File(folder) => {
            let options = JsonlOptions {
                create: matches!(access, Access::Create(_)),
                read_only: access == Access::Read,
                durability: match access {
                    Access::Create(Durability::Os) => burnlog_jsonl::Durability::Os,
                    _ => burnlog_jsonl::Durability::Batch,
                },
                ..JsonlOptions::default()
            };
            let backend = JsonlBackend::open(folder, options)?;
            for notice in backend.take_notices() {
                say(global, &format!("burnlog: {} ({})", notice.message, notice.place));
            }
            Ok(Ledger::new(backend))
        }
    }
}

/// Where the projections of a ledger are kept on this host.
pub(crate) fn projections_path(environment: &Environment, ledger: &Ledger) -> PathBuf {
    environment.home.projections(ledger.location().id)
}

/// Opens the projections of a ledger for folding. A damaged file is put aside and said so: the log has everything.
pub(crate) fn projections(
    path: &Path,
    environment: &Environment,
    global: &Global,
) -> Result<SqliteProjections> {
    environment.home.create_projections_folder()?;
    match SqliteProjections::open(path, &SqliteOptions::default()) {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            let aside = path.with_extension("sqlite.damaged");
            say(global, &format!("burnlog: {error}; moved to {} and folded anew", aside.display()));
            move_aside(path, &aside)?;
            SqliteProjections::open(path, &SqliteOptions::default())
        }
        other => other,
    }
}

/// Opens projections for queries; makes and changes nothing.
pub(crate) fn queries(path: &Path) -> Result<SqliteProjections> {
    SqliteProjections::open(path, &SqliteOptions { read_only: true, ..SqliteOptions::default() })
}

fn move_aside(path: &Path, aside: &Path) -> Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let of = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        match std::fs::rename(of(path), of(aside)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "move projections aside",
                    "the rename failed",
                )
                .at(path.display())
                .caused_by(error));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_make_no_sense_say_what_would() {
        assert_eq!(StoreUrl::parse("file:/a/b").unwrap(), StoreUrl::File("/a/b".into()));
        assert_eq!(StoreUrl::parse("file:///a/b").unwrap(), StoreUrl::File("/a/b".into()));
        assert_eq!(StoreUrl::parse("file:a").unwrap(), StoreUrl::File("a".into()));
        for wrong in ["", "/a/b", "file:", "ftp://x", "C"] {
            let error = StoreUrl::parse(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.message().contains("file:DIR"), "{error}");
        }
    }
}
