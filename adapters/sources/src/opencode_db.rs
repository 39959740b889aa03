//! The rows of `opencode.db` (OpenCode from 1.2 on) as records, by the template of `docs/format.md`. Reads a snapshot and writes
//! nothing beside the user's database; knows tables and columns, not what a row means.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row, Statement};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The tables that hold sessions. Of the others some repeat these (`event`), and some hold credentials (`account`).
const TABLES: [&str; 6] = ["session", "message", "part", "session_message", "todo", "project"];

/// The columns beside `data` of a table that has it. Whatever else such a table gains repeats what `data` says.
const COLUMNS_BESIDE_DATA: [&str; 6] =
    ["id", "message_id", "session_id", "time_created", "time_updated", "type"];

/// How long a writer may hold the database.
const BUSY: Duration = Duration::from_secs(5);

/// How often a copy is made anew because the database changed meanwhile.
const COPIES_MAX: u32 = 5;

/// Rows that were changed this long before the newest are read again, in milliseconds: their writers' clocks may differ.
const OVERLAP_MS: i64 = 600_000;

/// Says whether sessions of a folder are wanted.
pub(crate) type Admits<'a> = dyn Fn(Option<&str>) -> bool + 'a;

/// Takes the stream and the payload of a row.
pub(crate) type Each<'a, E> = dyn FnMut(&str, &[u8]) -> Result<(), E> + 'a;

/// Which rows are asked for.
pub(crate) struct Wanted<'w> {
    /// What an earlier reading returned; rows that changed before are not read. `None`: every row.
    pub(crate) since: Option<i64>,
    /// Whether a session of this folder is wanted; `None`: every session, and what belongs to none.
    pub(crate) admits: Option<&'w Admits<'w>>,
}

/// An open snapshot.
pub(crate) struct Database {
    connection: Connection,
    /// The copy, if one was needed; goes when this is dropped.
    _copy: Option<tempfile::TempDir>,
}

impl Database {
    /// Opens a snapshot.
    ///
    /// A database that is in use has its `-shm` file: it is read in place, under the locks that its writer respects. One that
    /// nobody has open is read as it lies, and where a write-ahead log was left behind, in a private copy, because
    /// taking the log up would write.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        for _ in 0..COPIES_MAX {
            if beside(path, "-shm").exists() {
                return Ok(Self { connection: connect(path, "mode=ro")?, _copy: None });
            }
            let before = state(path)?;
            if before.1.is_none_or(|(bytes, _)| bytes == 0) {
                return Ok(Self { connection: connect(path, "mode=ro&immutable=1")?, _copy: None });
            }
            let folder = tempfile::tempdir()?;
            let copy = folder.path().join("copy.db");
            fs::copy(path, &copy)?;
            fs::copy(beside(path, "-wal"), beside(&copy, "-wal"))?;
            if state(path)? == before && !beside(path, "-shm").exists() {
                return Ok(Self { connection: connect(&copy, "mode=rw")?, _copy: Some(folder) });
            }
        }
        Err(io::Error::other("the database changed each time that a copy of it was made; try again"))
    }

    /// The connection, for whoever reads other tables than those of OpenCode.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Calls `each` with the stream and payload of each wanted row: sessions first, in the order of their ids.
    /// Returns the latest instant at which a row changed, for the next reading.
    pub(crate) fn rows<E: From<io::Error>>(
        &self,
        wanted: &Wanted<'_>,
        each: &mut Each<'_, E>,
    ) -> Result<Option<i64>, E> {
        let transaction = self.connection.unchecked_transaction().map_err(refused)?;
        let sessions = wanted.admits.map(|admits| admitted(&transaction, admits)).transpose()?;
        let mut latest = wanted.since;
        for table in TABLES {
            let columns = columns_of(&transaction, table)?;
            if columns.is_empty() {
                continue;
            }
            let read = TableRows { table, columns, sessions: sessions.as_ref() };
            latest = latest.max(read.rows(&transaction, wanted.since, each)?);
        }
        Ok(latest)
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

type FileState = (u64, std::time::SystemTime);

/// Size and time of the database and of its log.
fn state(path: &Path) -> io::Result<(FileState, Option<FileState>)> {
    let of = |path: &Path| fs::metadata(path).and_then(|stat| Ok((stat.len(), stat.modified()?)));
    Ok((of(path)?, of(&beside(path, "-wal")).ok()))
}

fn connect(path: &Path, options: &str) -> io::Result<Connection> {
    use std::os::unix::ffi::OsStrExt;
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                uri.push(char::from(*byte));
            }
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    let access = if options == "mode=rw" {
        OpenFlags::SQLITE_OPEN_READ_WRITE
    } else {
        OpenFlags::SQLITE_OPEN_READ_ONLY
    };
    let flags = access | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(format!("{uri}?{options}"), flags).map_err(refused)?;
    connection.busy_timeout(BUSY).map_err(refused)?;
    Ok(connection)
}

fn refused(error: rusqlite::Error) -> io::Error {
    io::Error::other(error)
}

/// The names of a table's columns, sorted, so that a migrated table and a fresh one make the same payloads.
fn columns_of(connection: &Connection, table: &str) -> io::Result<Vec<String>> {
    let names = || {
        let mut names = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
        names.query_map([table], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    };
    let mut names = names().map_err(refused)?;
    if names.iter().any(|name| name == "data") {
        names.retain(|name| name == "data" || COLUMNS_BESIDE_DATA.contains(&name.as_str()));
    }
    names.sort_unstable();
    Ok(names)
}

/// The sessions whose folder is admitted.
fn admitted(connection: &Connection, admits: &Admits<'_>) -> io::Result<HashSet<String>> {
    let select = || {
        let mut select = connection.prepare("SELECT id, directory FROM session")?;
        let rows =
            select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?)))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()
    };
    let sessions = select().map_err(refused)?;
    Ok(sessions.into_iter().filter(|(_, folder)| admits(folder.as_deref())).map(|(id, _)| id).collect())
}

/// The rows of one table.
struct TableRows<'t> {
    table: &'static str,
    columns: Vec<String>,
    sessions: Option<&'t HashSet<String>>,
}

impl TableRows<'_> {
    fn position(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|name| name == column)
    }

    fn rows<E: From<io::Error>>(
        &self,
        connection: &Connection,
        since: Option<i64>,
        each: &mut Each<'_, E>,
    ) -> Result<Option<i64>, E> {
        let updated = self.position("time_updated");
        let since = since.filter(|_| updated.is_some()).map(|since| since.saturating_sub(OVERLAP_MS));
        let mut select = self.select(connection, since.is_some()).map_err(refused)?;
        let mut rows = match since {
            Some(since) => select.query([since]),
            None => select.query([]),
        }
        .map_err(refused)?;
        let (mut latest, mut stream, mut payload) = (None, String::new(), Vec::new());
        while let Some(row) = rows.next().map_err(refused)? {
            if let Some(ValueRef::Integer(at)) =
                updated.map(|at| row.get_ref(at)).transpose().map_err(refused)?
            {
                latest = latest.max(Some(at));
            }
            if !self.is_wanted(row).map_err(refused)? {
                continue;
            }
            self.name(row, &mut stream).map_err(refused)?;
            payload.clear();
            self.payload(row, &mut payload).map_err(refused)?;
            each(&stream, &payload)?;
        }
        Ok(latest)
    }

    fn select<'c>(&self, connection: &'c Connection, since: bool) -> rusqlite::Result<Statement<'c>> {
        let quoted: Vec<String> =
            self.columns.iter().map(|name| format!("\"{}\"", name.replace('"', "\"\""))).collect();
        let filter = if since { " WHERE time_updated IS NULL OR time_updated >= ?1" } else { "" };
        connection.prepare(&format!("SELECT {} FROM {}{filter} ORDER BY rowid", quoted.join(","), self.table))
    }

    fn is_wanted(&self, row: &Row<'_>) -> rusqlite::Result<bool> {
        let Some(sessions) = self.sessions else { return Ok(true) };
        let column = if self.table == "session" { "id" } else { "session_id" };
        let Some(at) = self.position(column) else { return Ok(false) };
        Ok(
            matches!(row.get_ref(at)?, ValueRef::Text(id) if std::str::from_utf8(id).is_ok_and(|id| sessions.contains(id))),
        )
    }

    /// `<table>/<id>`; of a table without ids the session and the position.
    fn name(&self, row: &Row<'_>, stream: &mut String) -> rusqlite::Result<()> {
        stream.clear();
        stream.push_str(self.table);
        let keys: &[&str] = if self.position("id").is_some() { &["id"] } else { &["session_id", "position"] };
        for key in keys {
            stream.push('/');
            match self.position(key).map(|at| row.get_ref(at)).transpose()? {
                Some(ValueRef::Text(id)) => stream.push_str(&String::from_utf8_lossy(id)),
                Some(ValueRef::Integer(number)) => stream.push_str(&number.to_string()),
                _ => {}
            }
        }
        Ok(())
    }

    /// The template: `{"v":1,"table":…,<columns by name>,"data":<as it stands>}`.
    fn payload(&self, row: &Row<'_>, out: &mut Vec<u8>) -> rusqlite::Result<()> {
        out.extend_from_slice(format!("{{\"v\":1,\"table\":\"{}\"", self.table).as_bytes());
        let mut data = None;
        for (at, name) in self.columns.iter().enumerate() {
            let value = row.get_ref(at)?;
            if name == "data" {
                data = Some(value);
                continue;
            }
            push_name(out, name);
            push_value(out, value);
        }
        if let Some(data) = data {
            match data {
                ValueRef::Text(text) if crate::json::is_object(text) => {
                    push_name(out, "data");
                    out.extend_from_slice(text);
                }
                other => {
                    push_name(out, "data_text");
                    push_value(out, other);
                }
            }
        }
        out.push(b'}');
        Ok(())
    }
}

fn push_name(out: &mut Vec<u8>, name: &str) {
    out.push(b',');
    serde_json::to_writer(&mut *out, name).expect("writing to memory cannot fail");
    out.push(b':');
}

/// Numbers in decimal, text as a JSON string with U+FFFD for what is not UTF-8, bytes in hexadecimal, a number that JSON does not have as `null`.
fn push_value(out: &mut Vec<u8>, value: ValueRef<'_>) {
    let written = match value {
        ValueRef::Null => serde_json::to_writer(&mut *out, &()),
        ValueRef::Integer(number) => serde_json::to_writer(&mut *out, &number),
        ValueRef::Real(number) => serde_json::to_writer(&mut *out, &number),
        ValueRef::Text(text) => serde_json::to_writer(&mut *out, &String::from_utf8_lossy(text)),
        ValueRef::Blob(bytes) => {
            let mut text = Vec::with_capacity(2 * bytes.len());
            burnlog_log::push_hex(&mut text, bytes);
            serde_json::to_writer(&mut *out, &String::from_utf8_lossy(&text))
        }
    };
    written.expect("writing to memory cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = "
        CREATE TABLE session (id TEXT PRIMARY KEY, title TEXT, directory TEXT, cost REAL, parent_id TEXT, time_updated INTEGER);
        CREATE TABLE message (id TEXT PRIMARY KEY, session_id TEXT, time_created INTEGER, time_updated INTEGER, data TEXT, more TEXT);
        CREATE TABLE part (id TEXT PRIMARY KEY, message_id TEXT, session_id TEXT, time_created INTEGER, time_updated INTEGER, data TEXT);
        CREATE TABLE todo (session_id TEXT, position INTEGER, content TEXT, time_updated INTEGER, PRIMARY KEY (session_id, position));
        CREATE TABLE account (id TEXT PRIMARY KEY, access_token TEXT);
        INSERT INTO session VALUES ('ses_1', 'a \"title\"', '/a', 0.5, NULL, 1000000), ('ses_2', 't', '/b', 1, 'ses_1', 2000000);
        INSERT INTO message VALUES ('msg_1', 'ses_1', 5, 1000000, '{\"role\": \"user\"}', 'x'), ('msg_2', 'ses_2', 6, 2000000, '{\"role\"', NULL);
        INSERT INTO part VALUES ('prt_1', 'msg_1', 'ses_1', 5, 1000000, '{}');
        INSERT INTO todo VALUES ('ses_1', 0, x'00ff', NULL);
        INSERT INTO account VALUES ('a', 'secret');";

    fn rows(
        database: &Database,
        since: Option<i64>,
        admits: Option<&Admits<'_>>,
    ) -> (Vec<String>, Option<i64>) {
        let mut rows = Vec::new();
        let latest = database
            .rows::<io::Error>(&Wanted { since, admits }, &mut |stream, payload| {
                rows.push(format!("{stream} {}", std::str::from_utf8(payload).unwrap()));
                Ok(())
            })
            .unwrap();
        (rows, latest)
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn rows_become_records_by_the_template() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a db%?.db");
        Connection::open(&path).unwrap().execute_batch(SCHEMA).unwrap();
        let (all, latest) = rows(&Database::open(&path).unwrap(), None, None);
        assert_eq!(
            all,
            [
                r#"session/ses_1 {"v":1,"table":"session","cost":0.5,"directory":"/a","id":"ses_1","parent_id":null,"time_updated":1000000,"title":"a \"title\""}"#,
                r#"session/ses_2 {"v":1,"table":"session","cost":1.0,"directory":"/b","id":"ses_2","parent_id":"ses_1","time_updated":2000000,"title":"t"}"#,
                r#"message/msg_1 {"v":1,"table":"message","id":"msg_1","session_id":"ses_1","time_created":5,"time_updated":1000000,"data":{"role": "user"}}"#,
                r#"message/msg_2 {"v":1,"table":"message","id":"msg_2","session_id":"ses_2","time_created":6,"time_updated":2000000,"data_text":"{\"role\""}"#,
                r#"part/prt_1 {"v":1,"table":"part","id":"prt_1","message_id":"msg_1","session_id":"ses_1","time_created":5,"time_updated":1000000,"data":{}}"#,
                r#"todo/ses_1/0 {"v":1,"table":"todo","content":"00ff","position":0,"session_id":"ses_1","time_updated":null}"#,
            ]
        );
        assert_eq!(latest, Some(2_000_000));
        assert_eq!(names(folder.path()), ["a db%?.db"]);
    }

    #[test]
    fn what_changed_and_what_is_admitted_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("opencode.db");
        Connection::open(&path).unwrap().execute_batch(SCHEMA).unwrap();
        let database = Database::open(&path).unwrap();
        let streams = |rows: Vec<String>| -> Vec<String> {
            rows.iter().map(|row| row.split(' ').next().unwrap().to_owned()).collect()
        };
        let since = streams(rows(&database, Some(2_000_000), None).0);
        assert_eq!(since, ["session/ses_2", "message/msg_2", "todo/ses_1/0"]);
        let admits = |folder: Option<&str>| folder == Some("/a");
        let admitted = streams(rows(&database, None, Some(&admits)).0);
        assert_eq!(admitted, ["session/ses_1", "message/msg_1", "part/prt_1", "todo/ses_1/0"]);
    }

    /// A log that was left behind is read, one that is in use as well, and nothing is made or changed beside the database.
    #[test]
    fn the_log_is_respected_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("opencode.db");
        let writer = Connection::open(&path).unwrap();
        writer.pragma_update(None, "journal_mode", "WAL").unwrap();
        writer.execute_batch(SCHEMA).unwrap();
        assert_eq!(names(folder.path()), ["opencode.db", "opencode.db-shm", "opencode.db-wal"]);
        assert_eq!(rows(&Database::open(&path).unwrap(), None, None).0.len(), 6);
        // What a machine that lost its power leaves: the database and its log.
        let left = tempfile::tempdir().unwrap();
        for name in ["opencode.db", "opencode.db-wal"] {
            fs::copy(folder.path().join(name), left.path().join(name)).unwrap();
        }
        let before = fs::read(left.path().join("opencode.db-wal")).unwrap();
        assert_eq!(rows(&Database::open(&left.path().join("opencode.db")).unwrap(), None, None).0.len(), 6);
        assert_eq!(names(left.path()), ["opencode.db", "opencode.db-wal"]);
        assert_eq!(fs::read(left.path().join("opencode.db-wal")).unwrap(), before);
        drop(writer);
        assert_eq!(rows(&Database::open(&path).unwrap(), None, None).0.len(), 6);
        assert_eq!(names(folder.path()), ["opencode.db"]);
    }

    #[test]
    fn what_is_no_database_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("opencode.db");
        fs::write(&path, "no database at all, but long enough to look at".repeat(100)).unwrap();
        let read = |database: Database| {
            database.rows::<io::Error>(&Wanted { since: None, admits: None }, &mut |_, _| Ok(()))
        };
        assert!(Database::open(&path).and_then(read).is_err());
        assert!(Database::open(&folder.path().join("none.db")).is_err());
    }
}
