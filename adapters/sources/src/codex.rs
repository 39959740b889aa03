//! Codex: `sessions/YYYY/MM/DD/rollout-<when>-<uuid>.jsonl` and `archived_sessions/` below `~/.codex`, each perhaps
//! compressed, `.jsonl.zst`. Knows paths and the
//! one field that says where a session ran; what else a line holds is for the projections.

use crate::files::Files;
use crate::source::{Environment, Identity, Root, Shape, Source, Stream, complete_records, name_text};
use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The folders below the agent's own that hold sessions.
const FOLDERS: [&str; 2] = ["sessions", "archived_sessions"];

pub(crate) struct Codex;

impl Source for Codex {
    fn name(&self) -> &'static str {
        "codex"
    }

    fn variables(&self) -> &'static [&'static str] {
        &["CODEX_HOME"]
    }

    fn roots(&self, environment: &Environment) -> Vec<Root> {
        let home = environment.home.as_deref();
        match environment.variable("CODEX_HOME") {
            Some(folder) => below(Path::new(folder)),
            None => home.map_or_else(Vec::new, |home| self.home_roots(home)),
        }
    }

    fn home_roots(&self, home: &Path) -> Vec<Root> {
        below(&home.join(".codex"))
    }

    fn claim_folder(&self, files: &dyn Files, folder: &Path) -> Vec<Root> {
        let own: Vec<Root> =
            below(folder).into_iter().filter(|root| has_rollouts(files, &root.path, 4)).collect();
        if own.is_empty() && has_rollouts(files, folder, 4) {
            return vec![Root { path: folder.to_path_buf(), prefix: PathBuf::new() }];
        }
        own
    }

    fn claim_file(&self, file: &Path) -> Option<Root> {
        let prefix = PathBuf::from(file.file_name()?);
        self.identify(&prefix)?;
        Some(Root { path: file.to_path_buf(), prefix })
    }

    fn identify(&self, path: &Path) -> Option<Identity> {
        let name = name_text(path.file_name()?);
        // Compressed or not, it is the same stream: the agent compresses what it does not write to any more.
        let stem = name.strip_suffix(".zst").unwrap_or(&name).strip_suffix(".jsonl")?;
        stem.starts_with("rollout-").then(|| Identity {
            stream: Stream::Named(stem.to_owned()),
            shape: Shape::Lines,
            project_folder: String::new(),
            companion: None,
        })
    }

    fn stream_in(&self, _: &str, _: &[u8]) -> Option<String> {
        None
    }

    fn project_in(&self, head: &[u8]) -> Option<String> {
        complete_records(head).find_map(project_of)
    }
}

fn below(folder: &Path) -> Vec<Root> {
    FOLDERS.map(|name| Root { path: folder.join(name), prefix: PathBuf::new() }).into()
}

/// Whether a folder holds rollouts, down to `levels` folders below it. Looks into the first few folders of each level only.
fn has_rollouts(files: &dyn Files, folder: &Path, levels: u32) -> bool {
    let Ok(listing) = files.list(folder) else { return false };
    if listing.entries.iter().any(|(name, _)| Codex.identify(Path::new(name)).is_some()) {
        return true;
    }
    let is_part =
        |name: &OsStr| name.to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    levels > 0
        && listing
            .entries
            .iter()
            .filter(|(name, _)| is_part(name))
            .take(4)
            .any(|(name, _)| has_rollouts(files, &folder.join(name), levels - 1))
}

/// The fields that say where a session ran.
#[derive(Default, serde::Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    payload: Option<Payload<'a>>,
}

#[derive(Default, serde::Deserialize)]
struct Payload<'a> {
    #[serde(borrow)]
    cwd: Option<Cow<'a, str>>,
}

fn project_of(record: &[u8]) -> Option<String> {
    let fields: Fields<'_> = serde_json::from_slice(record).ok()?;
    fields.payload?.cwd.filter(|folder| !folder.is_empty()).map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_their_streams() {
        let stream = |path: &str| Codex.identify(Path::new(path)).map(|identity| identity.stream);
        let named = |name: &str| Some(Stream::Named(name.to_owned()));
        assert_eq!(
            stream("2026/07/06/rollout-2026-07-06T09-18-06-1.jsonl"),
            named("rollout-2026-07-06T09-18-06-1")
        );
        assert_eq!(stream("rollout-1.jsonl"), named("rollout-1"));
        assert_eq!(stream("rollout-1.jsonl.zst"), named("rollout-1"));
        for other in ["history.jsonl", "2026/07/06/rollout-1.json", "rollout-1.zst", "session_index.jsonl"] {
            assert_eq!(stream(other), None, "{other}");
        }
    }

    #[test]
    fn the_first_folder_named_is_the_project() {
        let head = b"{\"type\":\"session_meta\",\"payload\":{\"cwd\":\"/home/me/a\"}}\n{\"payload\":{\"cwd\":\"/b\"}}\n";
        assert_eq!(Codex.project_in(head).as_deref(), Some("/home/me/a"));
        assert_eq!(Codex.project_in(b"[]\n{\"payload\":{\"cwd\":7}}\n{\"payload\":{\"cwd\":\"/b"), None);
    }
}
