//! The search index in a SQLite file of its own: a contentless FTS5 table of words, and packed runs that tell where
//! their blocks are. It may be deleted at any time; whoever searches next builds it again.

use crate::convert::{Located, failed};
use crate::opening::unchanging;
use crate::search_find::Scored;
use burnlog_log::{Error, ErrorKind, LedgerId, Result, WriterId};
use burnlog_projections::{
    FeedCursor, FoundBlocks, SearchBatch, SearchIdentity, SearchIndex, SearchQuery, SearchRequest, SearchRun,
    SearchState,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};
use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

/// The version of the tables of the file.
const FILE_VERSION: i64 = 1;
/// How words are cut out of texts: Unicode letters and digits, without case and accents. What stands between them parts
/// words, also `_`, `.` and `/`: an identifier or path in a query is a phrase of its parts, and a part alone finds it.
pub(crate) const TOKENIZER: &str = "unicode61 remove_diacritics 2";
/// How many words FTS5 keeps in memory before it writes a segment, in bytes.
const WORDS_BYTES: i64 = 32 << 20;

const TABLES: &str = "
CREATE TABLE search_meta (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
CREATE TABLE search_cursors (feed BLOB PRIMARY KEY, next INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE search_streams (
    number INTEGER PRIMARY KEY, source TEXT NOT NULL, stream TEXT NOT NULL, session TEXT NOT NULL,
    UNIQUE (source, stream)
);
CREATE TABLE search_runs (
    first INTEGER PRIMARY KEY, stream INTEGER NOT NULL, chunk INTEGER NOT NULL, records BLOB NOT NULL
);
CREATE INDEX search_runs_by_chunk ON search_runs (stream, chunk);
";

/// A search index in a SQLite file.
#[derive(Debug)]
pub struct SqliteSearch {
    pub(crate) connection: Connection,
    pub(crate) kept: RefCell<Option<Scored>>,
    pub(crate) place: String,
}

impl SqliteSearch {
    /// Opens the file, which is made if it is missing.
    ///
    /// `Corrupt` when it is damaged or no search index: delete it, and it is built again. `Unsupported` when a newer
    /// program made it; `Invalid` when a folder stands there.
    pub fn open(path: &Path, busy_timeout: Duration) -> Result<Self> {
        let access = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        Self::open_as(path, path, busy_timeout, access)
    }

    /// Opens a file only for finding. `NotFound` when it is missing.
    pub fn open_to_read(path: &Path, busy_timeout: Duration) -> Result<Self> {
        if !path.exists() {
            let message = "nothing was indexed yet; run search where the folder can be written";
            return Err(Error::new(ErrorKind::NotFound, "open search index", message).at(path.display()));
        }
        let access = OpenFlags::SQLITE_OPEN_READ_ONLY;
        match Self::open_as(path, path, busy_timeout, access) {
            Err(error) if error.kind() == ErrorKind::Denied => match unchanging(path) {
                Some(url) => {
                    Self::open_as(url.as_ref(), path, busy_timeout, access | OpenFlags::SQLITE_OPEN_URI)
                }
                None => Err(error),
            },
            result => result,
        }
    }

    fn open_as(name: &Path, path: &Path, busy_timeout: Duration, access: OpenFlags) -> Result<Self> {
        let place = path.display().to_string();
        if path.is_dir() {
            let message = "a folder stands where the file of the search index belongs; move it away";
            return Err(Error::new(ErrorKind::Invalid, "open search index", message).at(place));
        }
        let mut connection = Connection::open_with_flags(name, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .located("open search index", &place)?;
        let writable = access.contains(OpenFlags::SQLITE_OPEN_READ_WRITE);
        prepare(&mut connection, busy_timeout, writable).located("open search index", &place)?;
        let index = Self { connection, kept: RefCell::new(None), place };
        index.check_version()?;
        Ok(index)
    }

    fn check_version(&self) -> Result<()> {
        let refused =
            |kind, message: String| Err(Error::new(kind, "open search index", message).at(&self.place));
        match self.number("file_version").map_err(|error| {
            if error.sqlite_error_code() == Some(rusqlite::ffi::ErrorCode::CannotOpen) {
                return failed("open search index", &self.place, error);
            }
            let message = "this is no search index; delete it, and it is built again";
            Error::new(ErrorKind::Corrupt, "open search index", message).at(&self.place).caused_by(error)
        })? {
            Some(FILE_VERSION) => Ok(()),
            Some(newer) if newer > FILE_VERSION => refused(
                ErrorKind::Unsupported,
                format!("the file has version {newer}, this program reads {FILE_VERSION}; upgrade burnlog"),
            ),
            other => refused(
                ErrorKind::Corrupt,
                format!("the file has version {other:?}; delete it, and it is built again"),
            ),
        }
    }

    fn number(&self, name: &str) -> rusqlite::Result<Option<i64>> {
        number(&self.connection, name)
    }

    /// Runs `work` in a transaction that has the write lock from its beginning.
    fn write<T>(
        &mut self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<Result<T>>,
    ) -> Result<T> {
        let Self { connection, place, .. } = self;
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).located(operation, place)?;
        let done = work(&transaction).located(operation, place)??;
        transaction.commit().located(operation, place)?;
        Ok(done)
    }
}

fn number(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT value FROM search_meta WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

fn set_number(connection: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare_cached("INSERT OR REPLACE INTO search_meta (name, value) VALUES (?1, ?2)")?;
    statement.execute(params![name, value]).map(drop)
}

/// Sets the connection up and makes the tables of a new file.
fn prepare(connection: &mut Connection, busy_timeout: Duration, writable: bool) -> rusqlite::Result<()> {
    connection.busy_timeout(busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.pragma_update(None, "cache_size", -(8 << 10))?;
    if !writable {
        return Ok(());
    }
    let tables = |connection: &Connection| {
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
    };
    if tables(connection)? == 0 {
        connection.pragma_update(None, "journal_mode", "WAL")?;
    }
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    if tables(connection)? == 0 {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have been first.
        if tables(&transaction)? == 0 {
            transaction.execute_batch(TABLES)?;
            make_words(&transaction)?;
            set_number(&transaction, "file_version", FILE_VERSION)?;
        }
        transaction.commit()?;
    }
    Ok(())
}

fn make_words(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "CREATE VIRTUAL TABLE texts USING fts5(text, content='', contentless_delete=1, tokenize=\"{TOKENIZER}\");
         INSERT INTO texts (texts, rank) VALUES ('hashsize', {WORDS_BYTES});"
    ))
}

pub(crate) fn revision(connection: &Connection) -> rusqlite::Result<u64> {
    Ok(number(connection, "revision")?.map_or(0, |number| number as u64))
}

fn conflict(place: &str, message: &str) -> Error {
    Error::new(ErrorKind::Conflict, "add to search index", message).at(place)
}

/// Reads a run; one that is damaged is an error of the driver's kind, which becomes `Corrupt`.
pub(crate) fn unpacked(
    row: &rusqlite::Row<'_>,
    column: usize,
) -> rusqlite::Result<Vec<burnlog_projections::RunRecord>> {
    let packed = row.get_ref(column)?.as_blob()?;
    SearchRun::unpack(packed).ok_or_else(|| {
        let damage = "a run of the search index is damaged".into();
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, damage)
    })
}

/// Returns the number of a stream, which is made if it is new.
fn stream_number(connection: &Connection, run: &SearchRun) -> rusqlite::Result<i64> {
    let known = connection
        .prepare_cached("SELECT number FROM search_streams WHERE source = ?1 AND stream = ?2")?
        .query_row([&run.source, &run.stream], |row| row.get(0))
        .optional()?;
    if let Some(known) = known {
        return Ok(known);
    }
    connection
        .prepare_cached("INSERT INTO search_streams (source, stream, session) VALUES (?1, ?2, ?3)")?
        .execute([&run.source, &run.stream, &run.session])?;
    Ok(connection.last_insert_rowid())
}

/// Adds runs; returns how many blocks.
fn insert_runs(connection: &Connection, runs: &[SearchRun]) -> rusqlite::Result<u64> {
    let mut next = number(connection, "next_block")?.unwrap_or(1);
    let first = next;
    for run in runs {
        let stream = stream_number(connection, run)?;
        connection
            .prepare_cached(
                "INSERT INTO search_runs (first, stream, chunk, records) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![next, stream, run.chunk, run.pack()])?;
        let mut insert = connection.prepare_cached("INSERT INTO texts (rowid, text) VALUES (?1, ?2)")?;
        let mut start = 0;
        for end in &run.ends {
            insert.execute(params![next, &run.texts[start..*end]])?;
            start = *end;
            next += 1;
        }
    }
    set_number(connection, "next_block", next)?;
    Ok((next - first) as u64)
}

/// Drops the blocks of one record from the runs of its chunk; returns how many.
fn forget_record(
    connection: &Connection,
    (source, stream, seq, address): &(String, String, u64, [u8; 6]),
) -> rusqlite::Result<u64> {
    let mut forgotten = 0;
    let chunk = (seq / burnlog_projections::CHUNK_RECORDS) as i64;
    for (first, mut run) in runs_of(connection, source, stream, chunk)? {
        let (mut block, before) = (first, forgotten);
        for record in &mut run.records {
            let is_meant = record.seq == *seq && record.address == *address;
            for place in &mut record.blocks {
                if is_meant && place.kind.take().is_some() {
                    connection.prepare_cached("DELETE FROM texts WHERE rowid = ?1")?.execute([block])?;
                    forgotten += 1;
                }
                block += 1;
            }
        }
        if forgotten > before {
            connection
                .prepare_cached("UPDATE search_runs SET records = ?2 WHERE first = ?1")?
                .execute(params![first, run.pack()])?;
        }
    }
    Ok(forgotten)
}

fn runs_of(
    connection: &Connection,
    source: &str,
    stream: &str,
    chunk: i64,
) -> rusqlite::Result<Vec<(i64, SearchRun)>> {
    connection
        .prepare_cached(
            "SELECT r.first, r.records, s.session FROM search_streams s JOIN search_runs r ON r.stream = s.number
             WHERE s.source = ?1 AND s.stream = ?2 AND r.chunk = ?3 ORDER BY r.first",
        )?
        .query_map(params![source, stream, chunk], |row| {
            let (source, stream) = (source.to_owned(), stream.to_owned());
            let run = SearchRun {
                source,
                stream,
                session: row.get(2)?,
                chunk,
                records: unpacked(row, 1)?,
                ..SearchRun::default()
            };
            Ok((row.get(0)?, run))
        })?
        .collect()
}

impl SearchIndex for SqliteSearch {
    fn location(&self) -> String {
        self.place.clone()
    }

    fn state(&self) -> Result<SearchState> {
        let read = || {
            let ledger: Option<[u8; 16]> = self
                .connection
                .query_row("SELECT value FROM search_meta WHERE name = 'ledger'", [], |row| row.get(0))
                .optional()?;
            let count = |name| Ok::<_, rusqlite::Error>(self.number(name)?.unwrap_or(0) as u64);
            let (version, folds) = (count("version")? as u32, count("folds")? as u32);
            Ok(SearchState {
                identity: ledger.map(|ledger| SearchIdentity { ledger: LedgerId(ledger), version, folds }),
                revision: count("revision")?,
                blocks: count("blocks")?,
                cut: count("cut")?,
            })
        };
        read().located("read search index", &self.place)
    }

    fn cursors(&self) -> Result<Vec<FeedCursor>> {
        let read = || {
            self.connection
                .prepare_cached("SELECT feed, next FROM search_cursors ORDER BY feed")?
                .query_map([], |row| Ok(FeedCursor { feed: WriterId(row.get(0)?), next: row.get(1)? }))?
                .collect::<rusqlite::Result<_>>()
        };
        read().located("read search index", &self.place)
    }

    fn runs(&self, source: &str, stream: &str, chunk: i64) -> Result<Vec<SearchRun>> {
        let runs = runs_of(&self.connection, source, stream, chunk);
        let runs = runs.located("read search index", &self.place)?;
        Ok(runs.into_iter().map(|(_, run)| run).collect())
    }

    fn for_each_run(&self, each: &mut dyn FnMut(&str, &str, i64) -> Result<()>) -> Result<()> {
        let mut read = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT s.source, s.stream, r.chunk FROM search_runs r JOIN search_streams s ON s.number = r.stream",
            )?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (source, stream) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
                if let Err(error) = each(source, stream, row.get(2)?) {
                    return Ok(Err(error));
                }
            }
            Ok(Ok(()))
        };
        read().located("read search index", &self.place)?
    }

    fn clear(&mut self, identity: SearchIdentity) -> Result<()> {
        self.write("clear search index", |connection| {
            let revision = revision(connection)?;
            connection.execute_batch(
                "DROP TABLE texts; DELETE FROM search_runs; DELETE FROM search_streams; DELETE FROM search_cursors;
                 DELETE FROM search_meta WHERE name IN ('next_block', 'blocks', 'cut');",
            )?;
            make_words(connection)?;
            connection.execute(
                "INSERT OR REPLACE INTO search_meta (name, value) VALUES ('ledger', ?1)",
                [identity.ledger.0],
            )?;
            set_number(connection, "version", i64::from(identity.version))?;
            set_number(connection, "folds", i64::from(identity.folds))?;
            set_number(connection, "revision", revision as i64 + 1)?;
            Ok(Ok(()))
        })
    }

    fn append(&mut self, expected: u64, batch: &SearchBatch) -> Result<u64> {
        let place = self.place.clone();
        self.write("add to search index", |connection| {
            if revision(connection)? != expected {
                return Ok(Err(conflict(&place, "somebody else added to it meanwhile; read it again")));
            }
            for (feed, from, to) in &batch.cursors {
                let stands: Option<u64> = connection
                    .prepare_cached("SELECT next FROM search_cursors WHERE feed = ?1")?
                    .query_row([feed.0], |row| row.get(0))
                    .optional()?;
                if stands.unwrap_or(0) != *from {
                    return Ok(Err(conflict(&place, "a cursor stands elsewhere; read it again")));
                }
                connection
                    .prepare_cached("INSERT OR REPLACE INTO search_cursors (feed, next) VALUES (?1, ?2)")?
                    .execute(params![feed.0, to])?;
            }
            let blocks = insert_runs(connection, &batch.runs)?;
            let cut: u64 = batch.runs.iter().map(|run| run.cut).sum();
            for (name, more) in [("blocks", blocks), ("cut", cut)] {
                set_number(connection, name, number(connection, name)?.unwrap_or(0) + more as i64)?;
            }
            set_number(connection, "revision", expected as i64 + 1)?;
            Ok(Ok(expected + 1))
        })
    }

    fn forget(&mut self, records: &[(String, String, u64, [u8; 6])]) -> Result<u64> {
        // What is overwritten in the file must not stay in its free pages.
        self.connection
            .pragma_update(None, "secure_delete", "ON")
            .located("erase from search index", &self.place)?;
        let forgotten = self.write("erase from search index", |connection| {
            let mut forgotten = 0;
            for record in records {
                forgotten += forget_record(connection, record)?;
            }
            if forgotten > 0 {
                // A deletion only marks; the words go when segments are merged into one.
                connection.execute_batch("INSERT INTO texts (texts) VALUES ('optimize')")?;
                let left = number(connection, "blocks")?.unwrap_or(0) - forgotten as i64;
                set_number(connection, "blocks", left)?;
                set_number(connection, "revision", revision(connection)? as i64 + 1)?;
            }
            Ok(Ok(forgotten))
        })?;
        if forgotten > 0 {
            // The log of changes has pages as they were.
            self.connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
                .located("erase from search index", &self.place)?;
        }
        Ok(forgotten)
    }

    fn find(&self, query: &SearchQuery, request: &SearchRequest) -> Result<FoundBlocks> {
        self.found(query, request).located("search", &self.place)
    }

    fn matches(&self, query: &SearchQuery, texts: &[String]) -> Result<Vec<Vec<Range<usize>>>> {
        crate::search_find::matches(query, texts).located("search", &self.place)
    }
}
