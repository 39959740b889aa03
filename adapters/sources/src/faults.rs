//! Tests of what the file system can do to an ingest, through the seam: files that vanish, grow, fail or turn into
//! something else between two calls.

use crate::cursor::FeedPoint;
use crate::cursor_file::CursorFile;
use crate::discover::{Places, discover_in};
use crate::files::{FileStat, Files, Listing, OpenFile, OsFiles};
use crate::ingest::{Acknowledged, Options, ingest_in};
use crate::report::Report;
use burnlog_log::{Address, Batch, ErrorKind, Outcome, Root, WriterId};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Removed between the walk and the opening.
    Vanish,
    /// A folder takes its place between the walk and the opening.
    Folder,
    /// Grows after its stat was taken, before it is read.
    GrowAfterStat,
    /// Reading fails behind this many bytes.
    FailAt(u64),
    /// Reads give this many bytes at most, and every other one is interrupted.
    Trickle(usize),
    /// Is cut to this length once this much was read.
    CutWhileRead(u64),
    /// Listing the folder ends with an error.
    ListFails,
}

/// The system's files, but one of them.
struct Faulty {
    name: &'static str,
    fault: Fault,
    opened: Cell<u32>,
}

impl Faulty {
    fn is_meant(&self, path: &Path) -> bool {
        path.file_name().is_some_and(|name| name == self.name)
    }
}

impl Files for Faulty {
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        OsFiles.canonical(path)
    }

    fn stat(&self, path: &Path) -> io::Result<FileStat> {
        OsFiles.stat(path)
    }

    fn list(&self, path: &Path) -> io::Result<Listing> {
        let mut listing = OsFiles.list(path)?;
        if self.is_meant(path) && self.fault == Fault::ListFails {
            listing.error = Some(io::Error::from_raw_os_error(5));
        }
        Ok(listing)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        self.opened.set(self.opened.get() + 1);
        if !self.is_meant(path) {
            return OsFiles.open(path);
        }
        match self.fault {
            Fault::Vanish => fs::remove_file(path)?,
            Fault::Folder => {
                fs::remove_file(path)?;
                fs::create_dir(path)?;
            }
            _ => {}
        }
        let file = FaultyFile {
            path: path.to_path_buf(),
            file: fs::File::open(path)?,
            fault: self.fault,
            read: 0,
            odd: false,
        };
        Ok(Box::new(file))
    }
}

struct FaultyFile {
    path: PathBuf,
    file: fs::File,
    fault: Fault,
    read: u64,
    odd: bool,
}

impl Read for FaultyFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = match self.fault {
            Fault::FailAt(end) if self.read >= end => return Err(io::Error::from_raw_os_error(5)),
            Fault::CutWhileRead(end) if self.read >= end => {
                fs::File::options().write(true).open(&self.path)?.set_len(end)?;
                buffer.len()
            }
            Fault::FailAt(end) | Fault::CutWhileRead(end) => buffer.len().min((end - self.read) as usize),
            Fault::Trickle(bytes) => {
                self.odd = !self.odd;
                if self.odd {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                buffer.len().min(bytes)
            }
            _ => buffer.len(),
        };
        let read = self.file.read(&mut buffer[..wanted])?;
        self.read += read as u64;
        Ok(read)
    }
}

impl Seek for FaultyFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl OpenFile for FaultyFile {
    fn stat(&self) -> io::Result<FileStat> {
        let stat = OpenFile::stat(&self.file)?;
        if self.fault == Fault::GrowAfterStat {
            fs::File::options().append(true).open(&self.path)?.write_all(b"{\"late\":1}\n")?;
        }
        Ok(stat)
    }
}

struct Home {
    folder: tempfile::TempDir,
    stored: RefCell<Vec<(Address, Vec<u8>)>>,
    record_bytes_max: usize,
}

impl Home {
    fn new() -> Self {
        let home =
            Self { folder: tempfile::tempdir().unwrap(), stored: RefCell::default(), record_bytes_max: 1000 };
        fs::create_dir_all(home.path("")).unwrap();
        home.write("s.jsonl", "{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n");
        home.write("t.jsonl", "{\"a\":1}\n");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(".claude/projects/-work").join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    /// Ingests with a fault of `s.jsonl` (or of the project's folder) and returns the report and how many files were opened.
    fn ingest(&self, fault: Fault) -> (Report, u32) {
        let name = if fault == Fault::ListFails { "-work" } else { "s.jsonl" };
        let files = Faulty { name, fault, opened: Cell::new(0) };
        let mut cursors = CursorFile::open(self.folder.path().join("cursors"), WriterId([1; 32])).unwrap();
        let plan = discover_in(&files, &Places::Roots(vec![self.folder.path().to_path_buf()]));
        let options =
            Options { batch_bytes: 1, record_bytes_max: self.record_bytes_max, ..Options::default() };
        let mut sink = |batch: &Batch| {
            let mut stored = self.stored.borrow_mut();
            let mut known: HashSet<Address> = stored.iter().map(|(address, _)| *address).collect();
            let mut outcomes = Vec::new();
            for event in batch.events() {
                if known.insert(event.address) {
                    outcomes.push(Outcome::New(stored.len() as u64));
                    stored.push((event.address, event.payload.to_vec()));
                } else {
                    outcomes.push(Outcome::Present);
                }
            }
            Ok(Acknowledged { outcomes, point: FeedPoint { size: stored.len() as u64, root: Root([0; 32]) } })
        };
        let report = ingest_in(&files, plan, &mut cursors, &options, &mut sink, &mut ()).unwrap();
        (report, files.opened.get())
    }

    fn payloads(&self) -> Vec<String> {
        self.stored.borrow().iter().map(|(_, payload)| String::from_utf8(payload.clone()).unwrap()).collect()
    }
}

#[test]
fn a_file_that_vanishes_before_it_is_opened_is_counted() {
    let home = Home::new();
    let (report, _) = home.ingest(Fault::Vanish);
    assert_eq!((report.total().failed, report.total().new), (1, 1));
    assert_eq!(report.failed[0].path, home.path("s.jsonl"));
    assert_eq!(report.failed[0].error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_folder_in_place_of_a_file_is_counted() {
    let home = Home::new();
    let (report, _) = home.ingest(Fault::Folder);
    assert_eq!((report.total().failed, report.total().new), (1, 1));
    assert_eq!(report.failed[0].error.kind(), ErrorKind::Invalid);
    let (report, _) = home.ingest(Fault::None);
    assert_eq!((report.total().failed, report.failed.len()), (0, 1));
}

#[test]
fn bytes_appended_between_stat_and_read_are_recorded_once() {
    let home = Home::new();
    let (report, _) = home.ingest(Fault::GrowAfterStat);
    assert_eq!(report.total().new, 5);
    let (report, opened) = home.ingest(Fault::None);
    // The stat that was kept is older than what was read: the file is looked at again and has nothing new.
    assert_eq!((report.total().records, report.total().rewritten, opened), (0, 0, 1));
    let (report, opened) = home.ingest(Fault::None);
    assert_eq!((report.total().unchanged, opened), (2, 0));
    assert_eq!(home.payloads().len(), 5);
}

#[test]
fn a_read_that_fails_half_way_keeps_what_came_before() {
    for at in 0..24 {
        let home = Home::new();
        let (report, _) = home.ingest(Fault::FailAt(at));
        assert_eq!((report.total().failed, report.total().pending_bytes), (1, 0));
        assert_eq!(report.failed[0].error.kind(), ErrorKind::Unavailable);
        let whole_lines = at / 8;
        assert_eq!(report.total().records, 1 + whole_lines, "failed at {at}");
        let (report, _) = home.ingest(Fault::None);
        assert_eq!(
            (report.total().records, report.total().present, report.total().rewritten),
            (3 - whole_lines, 0, 0)
        );
        assert_eq!(home.payloads().len(), 4);
    }
}

#[test]
fn a_long_record_that_fails_half_way_is_read_again_as_a_whole() {
    let mut home = Home::new();
    home.record_bytes_max = 10;
    let content = format!("{{}}\n{}\n{{}}\n", "x".repeat(45));
    home.write("s.jsonl", &content);
    // The end of the long record is looked for first: reading it is the second time.
    for at in 3..110 {
        home.stored.borrow_mut().clear();
        fs::remove_file(home.folder.path().join("cursors")).ok();
        home.ingest(Fault::FailAt(at));
        home.ingest(Fault::CutWhileRead(at));
        home.write("s.jsonl", &content);
        home.ingest(Fault::None);
        let payloads = home.payloads();
        let parts = payloads.iter().filter(|payload| payload.starts_with('x') && payload.len() == 10).count();
        assert!(parts >= 4, "failed at {at}: {payloads:?}");
        let (report, _) = home.ingest(Fault::None);
        assert_eq!(report.total().unchanged, 2);
    }
}

#[test]
fn short_and_interrupted_reads_change_nothing() {
    let whole = Home::new();
    whole.ingest(Fault::None);
    for bytes in 1..9 {
        let home = Home::new();
        home.ingest(Fault::Trickle(bytes));
        assert_eq!(home.payloads(), whole.payloads());
    }
}

#[test]
fn a_file_cut_while_it_is_read_is_noticed_the_next_time() {
    let home = Home::new();
    home.ingest(Fault::CutWhileRead(10));
    let (report, _) = home.ingest(Fault::None);
    assert_eq!((report.total().records, report.total().pending_bytes), (0, 2));
    home.write("s.jsonl", "{\"a\":1}\n{\"b\":2}\n");
    assert_eq!(home.ingest(Fault::None).0.total().new, 1);
}

#[test]
fn a_folder_that_cannot_be_listed_to_its_end_is_counted_and_what_was_seen_is_read() {
    let home = Home::new();
    let (report, _) = home.ingest(Fault::ListFails);
    assert_eq!((report.total().new, report.failed.len()), (4, 1));
    assert_eq!(report.failed[0].path, home.path("").components().as_path());
}
