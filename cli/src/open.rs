//! From a URL to a ledger: the one place that names every adapter, and that decides which projections go with
//! which ledger.

use crate::args::{Durability, Global};
use crate::environment::Environment;
use crate::output::say;
use burnlog_http::{Call, HttpBackend, HttpQueries, HttpTarget, Operation, Scope};
use burnlog_jsonl::{JsonlBackend, JsonlOptions};
use burnlog_log::{Error, ErrorKind, Ledger, Result};
use burnlog_postgres::{PostgresBackend, PostgresOptions, PostgresProjections};
use burnlog_projections::{Projections, Queries, RowReader as _};
use burnlog_redb::{RedbBackend, RedbOptions};
use burnlog_sqlite::{SqliteBackend, SqliteLedgerOptions, SqliteOptions, SqliteProjections, SqliteSearch};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What every message about URLs ends with.
const FORMS: &str = "write file:DIR, redb:PATH, sqlite:PATH, postgres://USER@HOST/DATABASE[?ledger=NAME] or https://HOST[/v1/ledgers/NAME]";

/// Where a ledger is, as the user says it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum StoreUrl {
    /// `file:DIR`: JSONL segments in a folder.
    File(PathBuf),
    /// `redb:PATH`: one redb file.
    Redb(PathBuf),
    /// `sqlite:PATH`: one SQLite file, with its projections in it.
    Sqlite(PathBuf),
    /// `postgres://…`: a database. Holds secrets: never printed.
    Postgres(String),
    /// `http(s)://…`: a ledger on a server.
    Http(HttpTarget),
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
    /// Parses a URL of `--store`, `--from` or `--to`. Messages name the scheme only: the rest may be a secret.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let invalid = |message: String| Err(Error::new(ErrorKind::Invalid, "open ledger", message));
        let Some((scheme, rest)) = text.split_once(':') else {
            return invalid(format!("{text:?} is not a store URL; {FORMS}"));
        };
        let path = rest.strip_prefix("//").unwrap_or(rest);
        match scheme {
            "file" | "redb" | "sqlite" if path.is_empty() => {
                invalid(format!("{text:?} names no place; {FORMS}"))
            }
            "file" => Ok(Self::File(PathBuf::from(path))),
            "redb" => Ok(Self::Redb(PathBuf::from(path))),
            "sqlite" => Ok(Self::Sqlite(PathBuf::from(path))),
            "postgres" | "postgresql" => Ok(Self::Postgres(text.to_owned())),
            "http" | "https" => HttpTarget::parse(text).map(Self::Http),
            _ => invalid(format!("this program has no backend {scheme:?}; {FORMS}")),
        }
    }

    /// Chooses the store: `--store`, else `RELAYBURN_STORAGE`, else the default ledger.
    pub(crate) fn choose(global: &Global, environment: &Environment) -> Result<Self> {
        if let Some(url) = &global.store {
            return Self::parse(url);
        }
        let invalid = |message: String| Err(Error::new(ErrorKind::Invalid, "open ledger", message));
        match environment.storage.as_deref() {
            None | Some("file") => Ok(Self::File(environment.home.ledger())),
            Some("redb") => Ok(Self::Redb(environment.redb_path())),
            Some("sqlite") => Ok(Self::Sqlite(environment.sqlite_path())),
            Some("postgres") => match &environment.postgres_url {
                Some(url) => Ok(Self::Postgres(url.clone())),
                None => {
                    invalid("RELAYBURN_STORAGE is postgres; set RELAYBURN_POSTGRES_URL as well".to_owned())
                }
            },
            Some("http") => match &environment.http_url {
                Some(url) => HttpTarget::parse(url).map(Self::Http),
                None => invalid("RELAYBURN_STORAGE is http; set RELAYBURN_HTTP_URL as well".to_owned()),
            },
            Some(other) => invalid(format!(
                "RELAYBURN_STORAGE is {other:?}; it may be file, redb, sqlite, postgres or http"
            )),
        }
    }
}

/// Opens a ledger.
pub(crate) fn ledger(url: &StoreUrl, access: Access, global: &Global) -> Result<Ledger> {
    let ledger = match url {
        StoreUrl::File(folder) => jsonl(folder, access, global)?,
        StoreUrl::Redb(path) => redb(path, access)?,
        StoreUrl::Sqlite(path) => sqlite(path, access)?,
        StoreUrl::Postgres(url) => {
            let create = matches!(access, Access::Create(_));
            Ledger::new(PostgresBackend::open(
                url,
                &PostgresOptions { create, ..PostgresOptions::default() },
            )?)
        }
        StoreUrl::Http(target) => {
            let link = burnlog_http::open(target, &crate::environment::http_options()?)?;
            Ledger::new(HttpBackend::new(link))
        }
    };
    Ok(ledger.with_pause(pause))
}

fn jsonl(folder: &Path, access: Access, global: &Global) -> Result<Ledger> {
    let options = JsonlOptions {
        create: matches!(access, Access::Create(_)),
        read_only: access == Access::Read,
        durability: match access {
            Access::Create(Durability::Os) => burnlog_jsonl::Durability::Os,
            _ => burnlog_jsonl::Durability::Batch,
        },
        // Every event that comes here was hashed by `Ledger`, and the lines have checksums.
        seal_recomputes_hashes: false,
        ..JsonlOptions::default()
    };
    let backend = JsonlBackend::open(folder, options)?;
    for notice in backend.take_notices() {
        say(global, &format!("burnlog: {} ({})", notice.message, notice.place));
    }
    Ok(Ledger::new(backend))
}

/// Makes the folder of a ledger that is one file, where the ledger may be made.
fn make_folder(path: &Path, create: bool) -> Result<()> {
    if let Some(folder) = path.parent().filter(|folder| create && !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| {
            let message = "the folder of the ledger cannot be made";
            Error::new(ErrorKind::Denied, "open ledger", message).at(folder.display()).caused_by(error)
        })?;
    }
    Ok(())
}

fn sqlite(path: &Path, access: Access) -> Result<Ledger> {
    let create = matches!(access, Access::Create(_));
    make_folder(path, create)?;
    let options = SqliteLedgerOptions {
        create,
        read_only: access == Access::Read,
        durability: match access {
            Access::Create(Durability::Os) => burnlog_sqlite::Durability::Os,
            _ => burnlog_sqlite::Durability::Batch,
        },
        ..SqliteLedgerOptions::default()
    };
    Ok(Ledger::new(SqliteBackend::open(path, options)?))
}

fn redb(path: &Path, access: Access) -> Result<Ledger> {
    let create = matches!(access, Access::Create(_));
    make_folder(path, create)?;
    let options = RedbOptions {
        create,
        read_only: access == Access::Read,
        durability: match access {
            Access::Create(Durability::Os) => burnlog_redb::Durability::Os,
            _ => burnlog_redb::Durability::Batch,
        },
        ..RedbOptions::default()
    };
    Ok(Ledger::new(RedbBackend::open(path, options)?))
}

/// Waits before retry 1, 2, …: 20 ms and up, doubled each time to 2 s, and of that a part that differs between processes.
pub(crate) fn pause(attempt: u32) {
    let longest = 20u64 << attempt.min(7);
    let jitter = u64::from(std::process::id()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    std::thread::sleep(Duration::from_millis((longest / 2 + jitter % (longest / 2 + 1)).min(2000)));
}

/// Opens the projections of a ledger in Postgres, which are in its schema; nothing for any other. A ledger's location has
/// no secrets, so the URL is that of the chosen store; a ledger of another store is `Unsupported`.
fn in_postgres(
    ledger: &Ledger,
    environment: &Environment,
    global: &Global,
    create: bool,
) -> Result<Option<PostgresProjections>> {
    if ledger.location().backend != "postgres" {
        return Ok(None);
    }
    let StoreUrl::Postgres(url) = StoreUrl::choose(global, environment)? else { return Ok(None) };
    let options = PostgresOptions { create, connections: 2, ..PostgresOptions::default() };
    let store = PostgresProjections::open(&url, &options)?;
    if store.location() == ledger.location().url {
        return Ok(Some(store));
    }
    let message = "the projections of this ledger are beside it, and the chosen store is another one; name it with --store";
    Err(Error::new(ErrorKind::Unsupported, "open projections", message).at(ledger.location().url))
}

/// Where the projections of a ledger are kept that is not in Postgres: in the file of a SQLite ledger, else on this host.
fn projections_path(environment: &Environment, ledger: &Ledger) -> PathBuf {
    let location = ledger.location();
    match location.url.strip_prefix("sqlite:") {
        Some(path) => PathBuf::from(path),
        None => environment.home.projections(location.id),
    }
}

/// Opens the projections of a ledger for folding, where this program folds them: those of a ledger on a server are
/// folded there.
pub(crate) fn folds(
    ledger: &Ledger,
    environment: &Environment,
    global: &Global,
) -> Result<Option<Box<dyn Projections>>> {
    if is_remote(ledger) { Ok(None) } else { projections(ledger, environment, global).map(Some) }
}

/// `Denied`, before anything is asked that would be withheld, where a server keeps the ledger and lets this program append and not
/// read.
pub(crate) fn require_reading(ledger: &Ledger, operation: &'static str) -> Result<()> {
    if !is_remote(ledger) {
        return Ok(());
    }
    let target = HttpTarget::parse(&ledger.location().url)?;
    burnlog_http::open(&target, &crate::environment::http_options()?)?.require(operation, Scope::Read)
}

/// Whether a server keeps the ledger and its projections.
pub(crate) fn is_remote(ledger: &Ledger) -> bool {
    ledger.location().backend == "http"
}

/// Opens the projections of a ledger for folding. A damaged file is put aside and said so, because the log has
/// everything; not so one with the log in it.
pub(crate) fn projections(
    ledger: &Ledger,
    environment: &Environment,
    global: &Global,
) -> Result<Box<dyn Projections>> {
    if let Some(store) = in_postgres(ledger, environment, global, true)? {
        return Ok(Box::new(store));
    }
    Ok(Box::new(in_sqlite(ledger, environment, global)?))
}

/// Opens the projections of a ledger to fold everything anew, where this program folds them: where they have a file of their own,
/// a new one that takes its place when it has caught up.
pub(crate) fn folds_anew(
    ledger: &Ledger,
    environment: &Environment,
    global: &Global,
) -> Result<Option<Box<dyn Projections>>> {
    if is_remote(ledger) {
        return Ok(None);
    }
    if let Some(store) = in_postgres(ledger, environment, global, true)? {
        return Ok(Some(Box::new(store)));
    }
    Ok(Some(Box::new(in_sqlite(ledger, environment, global)?.anew()?)))
}

/// Opens projections in a SQLite file. Those that have a file of their own are built beside its name.
fn in_sqlite(ledger: &Ledger, environment: &Environment, global: &Global) -> Result<SqliteProjections> {
    let path = &projections_path(environment, ledger);
    environment.home.create_projections_folder()?;
    let is_apart = path.starts_with(environment.home.folder().join("projections"));
    let options = SqliteOptions { linked: is_apart, ..SqliteOptions::default() };
    match SqliteProjections::open(path, &options) {
        Err(error) if error.kind() == ErrorKind::Corrupt && is_apart => {
            let aside = path.with_extension("sqlite.damaged");
            say(global, &format!("burnlog: {error}; moved to {} and folded anew", aside.display()));
            move_aside(path, &aside)?;
            SqliteProjections::open(path, &options)
        }
        other => other,
    }
}

/// Opens projections for queries; makes and changes nothing.
pub(crate) fn queries(
    ledger: &Ledger,
    environment: &Environment,
    global: &Global,
) -> Result<Box<dyn Queries + Send>> {
    if is_remote(ledger) {
        let target = HttpTarget::parse(&ledger.location().url)?;
        let link = burnlog_http::open(&target, &crate::environment::http_options()?)?;
        return Ok(Box::new(HttpQueries::open(link)?));
    }
    if let Some(store) = in_postgres(ledger, environment, global, false)? {
        return Ok(Box::new(store));
    }
    let options = SqliteOptions { read_only: true, ..SqliteOptions::default() };
    Ok(Box::new(SqliteProjections::open(&projections_path(environment, ledger), &options)?))
}

/// Asks the server that keeps a ledger for one of its lists, and returns the lines.
pub(crate) fn remote_list(
    ledger: &Ledger,
    operation: Operation,
    parameters: &[(&str, String)],
) -> Result<Vec<String>> {
    let target = HttpTarget::parse(&ledger.location().url)?;
    let link = burnlog_http::open(&target, &crate::environment::http_options()?)?;
    let call = parameters.iter().fold(Call::new(operation), |call, (name, value)| call.with(name, value));
    let body = link.ask(operation.name(), call)?;
    Ok(String::from_utf8_lossy(&body).lines().map(str::to_owned).collect())
}

/// How long another process that adds to a search index is waited for.
const SEARCH_BUSY: Duration = Duration::from_secs(10);

/// Opens a search index for adding and finding. A damaged one is deleted and said so: it is built again.
pub(crate) fn search_index(path: &Path, environment: &Environment, global: &Global) -> Result<SqliteSearch> {
    environment.home.create_projections_folder()?;
    match SqliteSearch::open(path, SEARCH_BUSY) {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            drop_search_index(path, &error, global)?;
            SqliteSearch::open(path, SEARCH_BUSY)
        }
        // A read-only folder: what is there can be searched.
        Err(error) if error.kind() == ErrorKind::Denied => {
            SqliteSearch::open_to_read(path, SEARCH_BUSY).map_err(|_| error)
        }
        other => other,
    }
}

/// Deletes a damaged search index and says so.
pub(crate) fn drop_search_index(path: &Path, damage: &Error, global: &Global) -> Result<()> {
    say(global, &format!("burnlog: the search index is built anew, it was damaged: {damage}"));
    for suffix in ["", "-wal", "-shm"] {
        match std::fs::remove_file(PathBuf::from(format!("{}{suffix}", path.display()))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let message = "the damaged search index cannot be deleted; delete it by hand";
                let error =
                    Error::new(ErrorKind::Unavailable, "delete search index", message).caused_by(error);
                return Err(error.at(path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn move_aside(path: &Path, aside: &Path) -> Result<()> {
    // The name may be a link to the file, which is not wanted any more.
    let file = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    for suffix in ["", "-wal", "-shm"] {
        let of = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        match std::fs::rename(of(&file), of(aside)) {
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
        let parsed = |text: &str| StoreUrl::parse(text).ok();
        for (text, path) in [("file:/a/b", "/a/b"), ("file:///a/b", "/a/b"), ("file:a", "a")] {
            assert!(parsed(text) == Some(StoreUrl::File(path.into())), "{text}");
        }
        assert!(parsed("sqlite:/a.sqlite") == Some(StoreUrl::Sqlite("/a.sqlite".into())));
        assert!(parsed("redb:/a.redb") == Some(StoreUrl::Redb("/a.redb".into())));
        assert!(matches!(parsed("postgres://u:secret@h/d"), Some(StoreUrl::Postgres(_))));
        for wrong in ["", "/a/b", "file:", "redb:", "sqlite:", "ftp://x:secret@y", "C"] {
            let Err(error) = StoreUrl::parse(wrong) else { panic!("{wrong} was accepted") };
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.message().contains("file:DIR") && !error.message().contains("secret"), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_store_url_is_taken_or_refused_with_what_would_do(scheme in "[a-z:]{0,10}", rest in ".{0,30}") {
            if let Err(error) = StoreUrl::parse(&format!("{scheme}{rest}")) {
                proptest::prop_assert_eq!(error.kind(), ErrorKind::Invalid);
                proptest::prop_assert!(error.message().ends_with(FORMS));
            }
        }
    }
}
