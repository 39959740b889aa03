//! Checking: every page through redb's own check, and every table against the others. Reports and goes on.

use crate::backend::RedbBackend;
use crate::check_tables::check_tables;
use crate::fault::{Fail, caught};
use crate::options::Durability;
use crate::overlay::Overlay;
use crate::place::{Store, builder};
use crate::read::read_state;
use crate::tables::META;
use burnlog_log::{Damage, Error, ErrorKind, Result};
use redb::{ReadableDatabase, StorageBackend};

/// The bytes of pages kept while all of them are read once.
const CHECK_CACHE_BYTES: usize = 8 << 20;
/// How often pages are read again because a writer in another process changed the file meanwhile.
const ATTEMPTS_MAX: usize = 3;
/// The bytes of a redb file that every commit changes.
const HEADER_BYTES: usize = 320;

/// Checks the ledger and reports each damage.
pub(crate) fn check(backend: &RedbBackend, report: &mut dyn FnMut(Damage)) -> Result<()> {
    let mut find = |code, place: &str, message: String| {
        let place = format!("{}: {place}", backend.place.name());
        report(Damage { code, place, message, rebuildable: false });
    };
    backend.exclusively("check", |store| {
        if let Some(message) = check_pages(backend, store)? {
            find("redb-page", "pages", message);
        }
        let txn = store.begin_read()?;
        check_tables(&txn, &backend.codecs, &mut find)
    })
}

/// Lets redb verify the checksum of every page; returns what it says of damage.
fn check_pages(backend: &RedbBackend, store: &Store) -> Result<Option<String>, Fail> {
    for _ in 0..ATTEMPTS_MAX {
        let before = header(&*backend.place.contents()?)?;
        let damage = verify_pages(backend, store)?;
        // A reader holds nobody off: what looks damaged may be a page that a writer has used again.
        let is_still = matches!(store, Store::Writer(_)) || before == header(&*backend.place.contents()?)?;
        if damage.is_none() || is_still {
            return Ok(damage);
        }
    }
    let message = "another process keeps writing while the pages are read: check again when it is done";
    Err(Error::new(ErrorKind::Unavailable, "check", message).at(backend.place.name()).into())
}

fn header(contents: &dyn StorageBackend) -> Result<[u8; HEADER_BYTES], Fail> {
    let mut header = [0; HEADER_BYTES];
    contents.read(0, &mut header).map_err(|error| Fail::from(redb::Error::Io(error)))?;
    Ok(header)
}

fn verify_pages(backend: &RedbBackend, store: &Store) -> Result<Option<String>, Fail> {
    let overlay =
        Overlay::new(backend.place.contents()?).map_err(|error| Fail::from(redb::Error::Io(error)))?;
    let verified = caught(|| {
        let mut builder = builder(&backend.options);
        builder.set_cache_size(CHECK_CACHE_BYTES).set_check_integrity_on_open(true);
        let database = builder.create_with_backend(overlay)?;
        // Counters that do not decode are no damage of the page.
        Ok(read_state(&database.begin_read()?.open_table(META)?).map_or(u64::MAX, |state| state.clock))
    });
    let clock = match verified {
        Ok(clock) => clock,
        Err(Fail::Damaged(what)) => return Ok(Some(what)),
        Err(Fail::Redb(error)) => {
            return match *error {
                redb::Error::Io(_) => Err(Fail::Redb(error)),
                error => Ok(Some(error.to_string())),
            };
        }
        Err(fail) => return Err(fail),
    };
    // redb goes back to the commit before where the newest one is damaged and was not made in two phases.
    let is_synced = backend.options.durability == Durability::Batch;
    let newest =
        caught(|| read_state(&store.begin_read()?.open_table(META)?)).map_or(clock, |state| state.clock);
    Ok((is_synced && clock < newest)
        .then(|| "the pages of the newest commit do not have their checksums".to_owned()))
}
