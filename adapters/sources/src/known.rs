//! The files of a plan, remembered so that some of them can be planned again without another walk: for whoever is told
//! which files change.

use crate::discover::{Plan, PlannedFile, with_log};
use crate::files::{FileKind, Files, OsFiles, io_error};
use crate::report::Failed;
use crate::source::{Identity, Shape, Source};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};

/// Files beside a database that change with it.
const BESIDE_A_DATABASE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The files of a plan.
#[derive(Debug)]
pub struct KnownFiles {
    files: HashMap<PathBuf, (&'static dyn Source, Identity)>,
    roots: Vec<(&'static str, PathBuf)>,
}

impl Plan {
    /// Returns the files of this plan, to be planned again.
    pub fn known(&self) -> KnownFiles {
        let file = |file: &PlannedFile| (file.path.clone(), (file.source, file.identity.clone()));
        KnownFiles { files: self.files.iter().map(file).collect(), roots: self.roots.clone() }
    }
}

impl KnownFiles {
    /// Plans these paths alone, as they are now; files that are gone are in the plan as such. `None` when a path is none
    /// of the known files: then only a new walk tells what it is.
    pub fn plan(&self, paths: &BTreeSet<PathBuf>) -> Option<Plan> {
        let mut plan = Plan { roots: self.roots.clone(), ..Plan::default() };
        let mut only: BTreeSet<PathBuf> = BTreeSet::new();
        for path in paths {
            let path = self.named(path)?;
            if !only.insert(path.to_path_buf()) {
                continue;
            }
            let (source, identity) = &self.files[path];
            match OsFiles.stat(path) {
                Ok(stat) if stat.kind == FileKind::File => {
                    let is_database = identity.shape == Shape::Rows;
                    let stat = if is_database { with_log(&OsFiles, path, stat) } else { stat };
                    let (path, identity) = (path.to_path_buf(), identity.clone());
                    plan.files.push(PlannedFile { source: *source, path, stat, identity });
                }
                Ok(_) => return None,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let error = io_error("look at file", path, error);
                    plan.failed.push(Failed { path: path.to_path_buf(), error });
                }
            }
        }
        plan.only = Some(only);
        Some(plan)
    }

    /// The known file that a path stands for.
    fn named<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        if self.files.contains_key(path) {
            return Some(path);
        }
        let text = path.to_str()?;
        let database = BESIDE_A_DATABASE.iter().find_map(|end| text.strip_suffix(end))?;
        Some(Path::new(database)).filter(|path| self.files.contains_key(*path))
    }
}
