//! A file of projections that is built beside its name: without a journal, which halves what is written, because nobody
//! else reads it and it is thrown away where it is not finished. What is finished gets a log of changes and then the
//! name (`docs/decisions/0024`).

use crate::convert::Located;
use crate::numbered;
use crate::opening::{SqliteOptions, SqliteProjections};
use burnlog_log::{Error, ErrorKind, Result, failpoint};
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The state of a file that does not have its name yet.
#[derive(Debug)]
pub(crate) struct Building {
    name: PathBuf,
    file: PathBuf,
    since: Instant,
    /// Whether the name meant nothing before: then what is there is better than nothing.
    is_first: bool,
    /// What failed in the midst of a change, which nothing takes back.
    broken: Option<String>,
}

impl Building {
    /// Begins a file beside `name`; nothing where none can be made there, or no link.
    pub(crate) fn begin(name: &Path) -> Option<Self> {
        let is_first = numbered::file_of(name).is_none();
        let file = numbered::create(name).ok()?;
        Some(Self { name: name.to_owned(), file, since: Instant::now(), is_first, broken: None })
    }

    /// Returns the file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Sets up a connection to the empty file: it alone has the file, and writes each page once and in place.
    pub(crate) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "journal_mode", "OFF")?;
        connection.pragma_update(None, "synchronous", "OFF")
    }

    /// `Unavailable` where something failed before.
    pub(crate) fn check(&self, operation: &'static str, place: &str) -> Result<()> {
        let Some(broken) = &self.broken else { return Ok(()) };
        let message = format!("{broken}; the rows that were being built are lost: run the command again");
        Err(Error::new(ErrorKind::Unavailable, operation, message).at(place))
    }

    /// Notes that a transaction failed. What was refused before it changed anything is no harm.
    pub(crate) fn failed(&mut self, error: &Error, has_changed: bool) {
        if has_changed || error.kind() != ErrorKind::Conflict {
            self.broken.get_or_insert_with(|| error.message().to_owned());
        }
    }

    /// Whether a first file has been built for so long that its rows are shown as far as they are.
    pub(crate) fn is_due(&self, options: &SqliteOptions) -> bool {
        self.is_first && self.since.elapsed() >= options.unshown_max
    }
}

impl SqliteProjections {
    /// Begins a new file beside this one, to be shown in its place when it has caught up, where the file is one that
    /// [`SqliteOptions::linked`] made; else returns this one, in which a generation can be built.
    pub fn anew(self) -> Result<Self> {
        let name = PathBuf::from(&self.place);
        let is_linked = matches!(numbered::file_of(&name), Some((file, true)) if file == self.file);
        let building =
            Some(&name).filter(|_| is_linked && self.options.linked).and_then(|it| Building::begin(it));
        let Some(building) = building else { return Ok(self) };
        let generation = self.last_generation()?.unwrap_or(0);
        let built = Self::open_building(&name, building, &self.options)?;
        // Generations are told apart by their numbers, whichever file they are in.
        let sql = "INSERT INTO projections_meta (name, value) VALUES ('generation', ?1)";
        built.connection.execute(sql, [generation]).located("open projections", &built.place)?;
        Ok(built)
    }

    /// Opens the file that is being built.
    pub(crate) fn open_building(name: &Path, building: Building, options: &SqliteOptions) -> Result<Self> {
        let access = OpenFlags::SQLITE_OPEN_READ_WRITE;
        let file = building.file().to_owned();
        let opened = Self::open_as(&file, name, access, options, Some(building));
        if opened.is_err() {
            numbered::remove(&file);
        }
        opened
    }

    /// Gives a file that was built its name. From here on it is written as any other.
    pub(crate) fn show_built(&mut self) -> Result<()> {
        const OPERATION: &str = "show projections";
        let Some(building) = &self.building else { return Ok(()) };
        building.check(OPERATION, &self.place)?;
        let journaled = || {
            // What is written next, the first page, syncs all before it.
            self.connection.pragma_update(None, "synchronous", "FULL")?;
            self.connection.pragma_update(None, "user_version", 1)?;
            self.connection.pragma_update(None, "locking_mode", "NORMAL")?;
            let switch = |mode| {
                self.connection
                    .pragma_update_and_check(None, "journal_mode", mode, |row| row.get::<_, String>(0))
            };
            // A file system without shared memory takes no log of changes; then there is a journal for each.
            if switch("WAL")? != "wal" {
                switch("DELETE")?;
            }
            self.connection.pragma_update(None, "synchronous", "NORMAL")
        };
        journaled().located(OPERATION, &self.place)?;
        failpoint("projections-built");
        numbered::link(&building.name, &building.file).map_err(|error| {
            let message =
                "the link to the file that was built cannot be made; check the folder and try again";
            Error::new(ErrorKind::Denied, OPERATION, message).at(&self.place).caused_by(error)
        })?;
        failpoint("projections-shown");
        let name = building.name.clone();
        self.building = None;
        numbered::sweep(&name);
        Ok(())
    }

    /// Whether the name means another file than the one that is open.
    pub(crate) fn has_lost_its_name(&self) -> bool {
        let is_other = |(file, _): (PathBuf, bool)| file != self.file;
        self.building.is_none() && numbered::file_of(Path::new(&self.place)).is_some_and(is_other)
    }
}

impl Drop for SqliteProjections {
    fn drop(&mut self) {
        let Some(building) = &self.building else { return };
        let (is_first, is_broken) = (building.is_first, building.broken.is_some());
        let file = building.file.clone();
        let has_rows = || self.last_generation().is_ok_and(|last| last.is_some());
        // An ingest that failed leaves the rows of what it stored; a rebuild that did leaves those from before.
        if is_first && !is_broken && has_rows() && self.show_built().is_ok() {
            return;
        }
        numbered::remove(&file);
    }
}
