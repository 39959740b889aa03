//! relayburn: the ledgers that another archive keeps, 1.x as JSON lines (`ledger.jsonl`, `content/<session>.jsonl`), 2.x as SQLite
//! (`burn.sqlite`, `content.sqlite`). Read only where somebody names them, never by themselves. Knows paths alone; how
//! records are told apart is in `relayburn_record`, how they are read in `relayburn_import`.

use crate::files::Files;
use crate::source::{Environment, Identity, Root, Shape, Source, Stream, name_text};
use std::path::{Path, PathBuf};

/// The name of this source, in reports and in the skeletons of records that name no session.
pub(crate) const NAME: &str = "relayburn";

/// The file of 1.x that holds everything but content.
pub(crate) const LEDGER: &str = "ledger.jsonl";
/// The folder of 1.x with one file of content for each session.
pub(crate) const CONTENT: &str = "content";
/// The database of 2.x that holds everything but content.
pub(crate) const DATABASE: &str = "burn.sqlite";
/// The database of 2.x that holds content.
pub(crate) const CONTENT_DATABASE: &str = "content.sqlite";

pub(crate) struct Relayburn;

impl Source for Relayburn {
    fn name(&self) -> &'static str {
        NAME
    }

    fn variables(&self) -> &'static [&'static str] {
        &[]
    }

    /// None: what is in such a ledger was derived from session files that are mostly still there, and its folder is that of this
    /// program as well. Who wants it imported names it.
    fn roots(&self, _: &Environment) -> Vec<Root> {
        Vec::new()
    }

    fn home_roots(&self, _: &Path) -> Vec<Root> {
        Vec::new()
    }

    fn claim_folder(&self, files: &dyn Files, folder: &Path) -> Vec<Root> {
        let is_there = |name: &&str| files.stat(&folder.join(name)).is_ok();
        let is_content = folder.file_name().is_some_and(|name| name == CONTENT)
            && folder.parent().is_some_and(|parent| files.stat(&parent.join(LEDGER)).is_ok());
        if is_content {
            return vec![Root { path: folder.to_path_buf(), prefix: PathBuf::from(CONTENT) }];
        }
        if ![LEDGER, DATABASE, CONTENT_DATABASE].iter().any(is_there) {
            return Vec::new();
        }
        let own = [LEDGER, CONTENT, DATABASE, CONTENT_DATABASE].into_iter().filter(is_there);
        own.map(|name| Root { path: folder.join(name), prefix: PathBuf::from(name) }).collect()
    }

    fn claim_file(&self, file: &Path) -> Option<Root> {
        let name = PathBuf::from(file.file_name()?);
        let parent = file.parent().and_then(Path::file_name).filter(|parent| *parent == CONTENT);
        let prefix = parent.map_or_else(|| name.clone(), |parent| Path::new(parent).join(&name));
        self.identify(&prefix)?;
        Some(Root { path: file.to_path_buf(), prefix })
    }

    fn identify(&self, path: &Path) -> Option<Identity> {
        let names: Vec<String> = path.iter().map(name_text).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let is_own = match names[..] {
            [LEDGER | DATABASE | CONTENT_DATABASE] => true,
            [CONTENT, file] => file.strip_suffix(".jsonl").is_some(),
            _ => false,
        };
        is_own.then(|| Identity {
            stream: Stream::Named(names.join("/")),
            shape: Shape::Rows,
            project_folder: String::new(),
            companion: None,
        })
    }

    fn stream_in(&self, _: &str, _: &[u8]) -> Option<String> {
        None
    }

    fn project_in(&self, _: &[u8]) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_tell_what_is_a_ledgers() {
        let is_own = |path: &str| Relayburn.identify(Path::new(path)).is_some();
        for own in ["ledger.jsonl", "content/s1.jsonl", "burn.sqlite", "content.sqlite"] {
            assert!(is_own(own), "{own}");
        }
        for other in
            ["content", "content/s1.json", "archive.sqlite", "ledger", "a/ledger.jsonl", "cursors.json"]
        {
            assert!(!is_own(other), "{other}");
        }
        let claimed = |path: &str| Relayburn.claim_file(Path::new(path)).map(|root| root.prefix);
        assert_eq!(claimed("/x/content/s1.jsonl"), Some(PathBuf::from("content/s1.jsonl")));
        assert_eq!(claimed("/x/burn.sqlite"), Some(PathBuf::from("burn.sqlite")));
        assert_eq!(claimed("/x/s1.jsonl"), None);
    }
}
