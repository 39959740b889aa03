//! The walk: which session files there are, in sorted order, each once, and everything on the way that could not be
//! looked at. Opens nothing.

use crate::files::{FileKind, FileStat, Files, Listing, OsFiles, io_error};
use crate::report::Failed;
use crate::source::{CLAIMING, Environment, Identity, Root, SOURCES, Shape, Source};
use burnlog_log::{Error, ErrorKind};
use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};

/// Where to look for session files.
#[derive(Debug, Clone)]
pub enum Places {
    /// Where the sources themselves keep them: the home folder and what the environment says.
    Environment(Environment),
    /// Only here: each a HOME, one source's own folder or a part of it, or one file.
    Roots(Vec<PathBuf>),
}

/// The session files that are there, and what is known without opening them.
#[derive(Debug, Default)]
pub struct Plan {
    pub(crate) files: Vec<PlannedFile>,
    pub(crate) roots: Vec<(&'static str, PathBuf)>,
    /// What could not be looked at. Nothing below such a folder is known.
    pub failed: Vec<Failed>,
    /// Places that somebody named and in which no source has anything.
    pub without_sessions: Vec<PathBuf>,
    /// Files beside the sessions that hold none: notes, outputs of tools, indexes.
    pub others: u64,
    /// Set when only these paths were looked at: no other file is known to be gone.
    pub(crate) only: Option<BTreeSet<PathBuf>>,
}

/// A session file, not yet opened.
#[derive(Debug)]
pub(crate) struct PlannedFile {
    pub(crate) source: &'static dyn Source,
    pub(crate) path: PathBuf,
    pub(crate) stat: FileStat,
    pub(crate) identity: Identity,
}

impl Plan {
    /// Returns the source, path and size in bytes of each file, in the order of reading.
    pub fn files(&self) -> impl ExactSizeIterator<Item = (&'static str, &Path, u64)> {
        self.files.iter().map(|file| (file.source.name(), file.path.as_path(), file.stat.size))
    }

    /// Leaves only what is of these sources: nothing of the others is read, and nothing of them is known to be gone.
    pub fn keep_sources(&mut self, names: &[String]) {
        let is_kept = |source: &str| names.iter().any(|name| name == source);
        self.files.retain(|file| is_kept(file.source.name()));
        self.roots.retain(|(source, _)| is_kept(source));
    }

    /// Returns the folders and files that were walked, whether they are there or not: what to watch.
    pub fn roots(&self) -> impl Iterator<Item = &Path> {
        self.roots.iter().map(|(_, path)| path.as_path())
    }
}

impl std::fmt::Debug for dyn Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Walks the places. Follows symbolic links to folders and files; reaches each folder and file once.
///
/// Never fails as a whole: what could not be looked at is in [`Plan::failed`].
pub fn discover(places: &Places) -> Plan {
    discover_in(&OsFiles, places)
}

pub(crate) fn discover_in(files: &dyn Files, places: &Places) -> Plan {
    let mut walk = Walk { files, plan: Plan::default(), seen: HashSet::new() };
    match places {
        Places::Environment(environment) => {
            for source in SOURCES {
                for root in &source.roots(environment) {
                    walk.root(source, root);
                }
            }
        }
        Places::Roots(roots) => roots.iter().for_each(|root| walk.named(root)),
    }
    walk.plan
}

struct Walk<'a> {
    files: &'a dyn Files,
    plan: Plan,
    /// Device and inode of every folder and session file reached so far.
    seen: HashSet<(u64, u64)>,
}

impl Walk<'_> {
    /// Takes a place that somebody named: a HOME, else a source's own folder, else a file.
    fn named(&mut self, place: &Path) {
        let (path, stat) = match self.files.canonical(place).and_then(|path| {
            let stat = self.files.stat(&path)?;
            Ok((path, stat))
        }) {
            Ok(found) => found,
            Err(error) => return self.failed(place, "open root", error),
        };
        if stat.kind != FileKind::Folder {
            let claimed = CLAIMING.iter().find_map(|source| Some((*source, source.claim_file(&path)?)));
            match claimed {
                Some((source, root)) => self.root(source, &root),
                None => self.plan.without_sessions.push(place.to_path_buf()),
            }
            return;
        }
        let at_home: Vec<_> = SOURCES
            .iter()
            .flat_map(|source| source.home_roots(&path).into_iter().map(|root| (*source, root)))
            .collect();
        let is_home = at_home.iter().any(|(_, root)| self.files.stat(&root.path).is_ok());
        let claimed: Vec<_> = if is_home {
            Vec::new()
        } else {
            let claim = |source: &&'static dyn Source| {
                let roots = source.claim_folder(self.files, &path);
                roots.into_iter().map(|root| (*source, root)).collect::<Vec<_>>()
            };
            CLAIMING.iter().map(claim).find(|roots| !roots.is_empty()).unwrap_or_default()
        };
        if !is_home && claimed.is_empty() {
            self.plan.without_sessions.push(place.to_path_buf());
        }
        // The roots of a HOME count even where they are gone: so the sessions that were there are known to be gone.
        for (source, root) in if claimed.is_empty() { at_home } else { claimed } {
            self.root(source, &root);
        }
    }

    fn root(&mut self, source: &'static dyn Source, root: &Root) {
        let path = self.canonical(&root.path);
        self.plan.roots.push((source.name(), path.clone()));
        match self.files.stat(&path) {
            Ok(stat) if stat.kind == FileKind::Folder => self.folder(source, &path, &root.prefix),
            Ok(stat) => match source.identify(&root.prefix) {
                Some(identity) => self.file(source, path, identity, stat),
                None => self.plan.others += 1,
            },
            // A source that has never run, or whose files are all gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.failed(&path, "open root", error),
        }
    }

    /// Resolves a path; of one that is not there, the part that is.
    fn canonical(&self, path: &Path) -> PathBuf {
        match (self.files.canonical(path), path.parent(), path.file_name()) {
            (Ok(path), _, _) => path,
            (Err(_), Some(parent), Some(name)) if !parent.as_os_str().is_empty() => {
                self.canonical(parent).join(name)
            }
            _ => path.to_path_buf(),
        }
    }

    fn folder(&mut self, source: &'static dyn Source, path: &Path, shown: &Path) {
        match self.files.stat(path) {
            Ok(stat) if !self.seen.insert((stat.device, stat.inode)) => return,
            Ok(_) => {}
            Err(error) => return self.failed(path, "open folder", error),
        }
        let Listing { mut entries, error } = match self.files.list(path) {
            Ok(listing) => listing,
            Err(error) => return self.failed(path, "read folder", error),
        };
        if let Some(error) = error {
            self.failed(path, "read folder", error);
        }
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for (name, kind) in entries {
            let (below, shown) = (path.join(&name), shown.join(&name));
            let identity = source.identify(&shown);
            let stat = match kind {
                FileKind::Folder => None,
                _ if kind != FileKind::Link && identity.is_none() => {
                    self.plan.others += 1;
                    continue;
                }
                _ => match self.files.stat(&below) {
                    Ok(stat) => Some(stat).filter(|stat| stat.kind != FileKind::Folder),
                    Err(error) => {
                        self.failed(&below, "look at file", error);
                        continue;
                    }
                },
            };
            match (stat, identity) {
                (Some(stat), Some(identity)) => self.file(source, below, identity, stat),
                (Some(_), None) => self.plan.others += 1,
                // A folder with the name of a session file is no session and no folder of sessions.
                (None, Some(_)) => {
                    let error = io::Error::from(io::ErrorKind::IsADirectory);
                    self.failed(&below, "open session file", error);
                }
                (None, None) => self.folder(source, &below, &shown),
            }
        }
    }

    fn file(&mut self, source: &'static dyn Source, path: PathBuf, identity: Identity, stat: FileStat) {
        if stat.kind != FileKind::File {
            let message = "neither a file nor a folder: a pipe, a socket or a device; move it away";
            let error = Error::new(ErrorKind::Invalid, "open session file", message).at(path.display());
            self.plan.failed.push(Failed { path, error });
        } else if self.seen.insert((stat.device, stat.inode)) {
            let stat = if identity.shape == Shape::Rows { with_log(self.files, &path, stat) } else { stat };
            self.plan.files.push(PlannedFile { source, path, stat, identity });
        }
    }

    fn failed(&mut self, path: &Path, operation: &'static str, error: io::Error) {
        let error = io_error(operation, path, error);
        self.plan.failed.push(Failed { path: path.to_path_buf(), error });
    }
}

/// A database has changed when its write-ahead log has.
pub(crate) fn with_log(files: &dyn Files, path: &Path, stat: FileStat) -> FileStat {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let Ok(log) = files.stat(Path::new(&log)) else { return stat };
    FileStat {
        size: stat.size + log.size,
        modified_ns: stat.modified_ns.max(log.modified_ns),
        // Opening a log as root sets its owner to what it is, which counts as a change of it.
        changed_ns: stat.changed_ns.max(log.modified_ns),
        ..stat
    }
}
