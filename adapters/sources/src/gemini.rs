//! Gemini CLI: `tmp/<project>/chats/session-<when>-<id>.{json,jsonl}` below `~/.gemini`, and `chats/<session id>/<id>.jsonl` of
//! subagents. Knows paths; its files do not say where a session ran, only the hash or short name of it.

use crate::files::Files;
use crate::source::{Environment, Identity, Root, Shape, Source, Stream, name_text};
use std::path::{Path, PathBuf};

pub(crate) struct GeminiCli;

impl Source for GeminiCli {
    fn name(&self) -> &'static str {
        "gemini-cli"
    }

    fn variables(&self) -> &'static [&'static str] {
        &["GEMINI_CLI_HOME"]
    }

    fn roots(&self, environment: &Environment) -> Vec<Root> {
        let home = environment.variable("GEMINI_CLI_HOME").map(Path::new).or(environment.home.as_deref());
        home.map_or_else(Vec::new, |home| self.home_roots(home))
    }

    fn home_roots(&self, home: &Path) -> Vec<Root> {
        vec![Root { path: home.join(".gemini/tmp"), prefix: PathBuf::new() }]
    }

    fn claim_folder(&self, files: &dyn Files, folder: &Path) -> Vec<Root> {
        let root = |path: &Path, prefix: PathBuf| vec![Root { path: path.to_path_buf(), prefix }];
        let has_chats = |folder: &Path| files.stat(&folder.join("chats")).is_ok();
        let any_has_chats = |folder: &Path| {
            let listing = files.list(folder).unwrap_or_default();
            listing.entries.iter().any(|(name, _)| has_chats(&folder.join(name)))
        };
        let name = folder.file_name().map(PathBuf::from).unwrap_or_default();
        if has_chats(folder) {
            root(folder, name)
        } else if any_has_chats(folder) {
            root(folder, PathBuf::new())
        } else if any_has_chats(&folder.join("tmp")) {
            root(&folder.join("tmp"), PathBuf::new())
        } else {
            Vec::new()
        }
    }

    fn claim_file(&self, file: &Path) -> Option<Root> {
        let names: Vec<_> = file.iter().collect();
        let chats = names.iter().rposition(|name| *name == "chats")?;
        let prefix: PathBuf = names[chats.saturating_sub(1)..].iter().collect();
        self.identify(&prefix)?;
        Some(Root { path: file.to_path_buf(), prefix })
    }

    fn identify(&self, path: &Path) -> Option<Identity> {
        let names: Vec<String> = path.iter().map(name_text).collect();
        let (project, below) = match names.as_slice() {
            [project, chats, below @ ..] if chats == "chats" => (project.clone(), below),
            _ => return None,
        };
        let file = below.last()?;
        let (stem, shape) = match (file.strip_suffix(".jsonl"), file.strip_suffix(".json")) {
            (Some(stem), _) => (stem, Shape::Lines),
            (None, Some(stem)) => (stem, Shape::Object),
            _ => return None,
        };
        let stream = match below {
            [_] if stem.starts_with("session-") => stem.to_owned(),
            [session, _] => format!("{session}/{stem}"),
            _ => return None,
        };
        let (stream, companion) = (Stream::Named(stream), None);
        Some(Identity { stream, shape, project_folder: project, companion })
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
    fn paths_name_their_streams() {
        let stream = |path: &str| {
            GeminiCli.identify(Path::new(path)).map(|identity| (identity.stream, identity.shape))
        };
        let named = |name: &str, shape| Some((Stream::Named(name.to_owned()), shape));
        assert_eq!(
            stream("0a/chats/session-2026-01-02-1.json"),
            named("session-2026-01-02-1", Shape::Object)
        );
        assert_eq!(stream("demo/chats/session-1.jsonl"), named("session-1", Shape::Lines));
        assert_eq!(stream("demo/chats/5a4b/c3.jsonl"), named("5a4b/c3", Shape::Lines));
        for other in ["demo/logs.json", "demo/chats/notes.json", "demo/chats/session-1.txt", "session-1.json"]
        {
            assert_eq!(stream(other), None, "{other}");
        }
    }
}
