//! Claude Code: `projects/<folder of the project>/<session>.jsonl`, `<session>/subagents/agent-<id>.jsonl` with
//! `.meta.json` companions, and in older versions `agent-<id>.jsonl` beside the session. Knows paths and the two
//! fields that say where a file belongs; what else a line holds is for the projections.

use crate::files::{FileKind, Files};
use crate::source::{Environment, Identity, Root, Shape, Source, Stream, complete_records, name_text};
use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest session id that is taken from a line; a longer one cannot be Claude Code's and would crowd the skeleton.
const SESSION_BYTES_MAX: usize = 4096;

const SUBAGENTS: &str = "subagents";

/// Outputs of tools that were too long for the session; whatever their names end with, no session is in there.
const TOOL_RESULTS: &str = "tool-results";

pub(crate) struct ClaudeCode;

impl Source for ClaudeCode {
    fn name(&self) -> &'static str {
        "claude-code"
    }

    fn variables(&self) -> &'static [&'static str] {
        &["CLAUDE_CONFIG_DIR"]
    }

    fn roots(&self, environment: &Environment) -> Vec<Root> {
        let home = environment.home.as_deref();
        let Some(folders) = environment.variable("CLAUDE_CONFIG_DIR") else {
            return home.map_or_else(Vec::new, |home| self.home_roots(home));
        };
        let folders = folders.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        folders
            .filter(|folder| !folder.is_empty())
            .map(|folder| match (folder.strip_prefix(b"~/"), home) {
                (Some(rest), Some(home)) => home.join(OsStr::from_bytes(rest)),
                _ => PathBuf::from(OsStr::from_bytes(folder)),
            })
            .map(|folder| Root { path: folder.join("projects"), prefix: PathBuf::new() })
            .collect()
    }

    fn home_roots(&self, home: &Path) -> Vec<Root> {
        [".claude/projects", ".config/claude/projects"]
            .map(|below| Root { path: home.join(below), prefix: PathBuf::new() })
            .into()
    }

    fn claim_folder(&self, files: &dyn Files, folder: &Path) -> Vec<Root> {
        let projects = folder.join("projects");
        if files.stat(&projects).is_ok_and(|stat| stat.kind == FileKind::Folder) {
            return vec![Root { path: projects, prefix: PathBuf::new() }];
        }
        let names_kept = match what_is(files, folder) {
            Part::Projects => 0,
            Part::Project => 1,
            Part::Session => 2,
            Part::Subagents => 3,
            Part::Nothing => return Vec::new(),
        };
        vec![Root { path: folder.to_path_buf(), prefix: last_names(folder, names_kept) }]
    }

    fn claim_file(&self, file: &Path) -> Option<Root> {
        let in_subagents = file.parent().and_then(Path::file_name) == Some(OsStr::new(SUBAGENTS));
        let prefix = last_names(file, if in_subagents { 4 } else { 2 });
        self.identify(&prefix)?;
        Some(Root { path: file.to_path_buf(), prefix })
    }

    fn identify(&self, path: &Path) -> Option<Identity> {
        let mut names: Vec<String> = path.iter().map(name_text).collect();
        let file = names.pop()?;
        let project_folder = if names.is_empty() { String::new() } else { names.remove(0) };
        if names.iter().any(|name| name == TOOL_RESULTS) {
            return None;
        }
        let is_agent = file.starts_with("agent-");
        let (stem, shape) = match (file.strip_suffix(".jsonl"), file.strip_suffix(".meta.json")) {
            (Some(stem), _) => (stem.to_owned(), Shape::Lines),
            (None, Some(stem)) if is_agent => (format!("{stem}.meta"), Shape::Object),
            _ => return None,
        };
        let stream = if names.is_empty() && is_agent && shape == Shape::Lines {
            Stream::InContent { stem }
        } else {
            names.push(stem);
            Stream::Named(names.join("/"))
        };
        let companion = match &stream {
            Stream::Named(name) => name.strip_suffix(".meta").map(str::to_owned),
            Stream::InContent { .. } => None,
        };
        Some(Identity { stream, shape, project_folder, companion })
    }

    fn stream_in(&self, stem: &str, head: &[u8]) -> Option<String> {
        let mut records = complete_records(head).peekable();
        records.peek()?;
        let session = records.filter_map(|record| fields(record).session).find_map(|id| session_name(&id));
        Some(match session {
            Some(session) => format!("{session}/{SUBAGENTS}/{stem}"),
            None => stem.to_owned(),
        })
    }

    fn project_in(&self, head: &[u8]) -> Option<String> {
        complete_records(head)
            .filter_map(|record| fields(record).project)
            .find(|folder| !folder.is_empty())
            .map(Cow::into_owned)
    }
}

/// Which part of Claude Code's tree a folder is.
enum Part {
    Projects,
    Project,
    Session,
    Subagents,
    Nothing,
}

fn what_is(files: &dyn Files, folder: &Path) -> Part {
    match folder.file_name() {
        Some(name) if name == SUBAGENTS => return Part::Subagents,
        Some(name) if name == "projects" => return Part::Projects,
        _ => {}
    }
    let Ok(listing) = files.list(folder) else { return Part::Nothing };
    let is_session = |name: &OsStr| name.as_bytes().ends_with(b".jsonl");
    let mut part = Part::Nothing;
    for (name, _) in &listing.entries {
        if is_session(name) {
            return Part::Project;
        }
        if name == SUBAGENTS {
            part = Part::Session;
        } else if let Ok(below) = files.list(&folder.join(name)) {
            if below.entries.iter().any(|(name, _)| is_session(name)) && !matches!(part, Part::Session) {
                part = Part::Projects;
            } else if below.entries.iter().any(|(name, _)| name == SUBAGENTS) && matches!(part, Part::Nothing)
            {
                part = Part::Project;
            }
        }
    }
    part
}

fn last_names(path: &Path, count: usize) -> PathBuf {
    let names: Vec<&OsStr> = path.iter().collect();
    names[names.len().saturating_sub(count)..].iter().collect()
}

/// The fields that say where a file belongs.
#[derive(Default, serde::Deserialize)]
struct Fields<'a> {
    #[serde(borrow, rename = "sessionId")]
    session: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "cwd")]
    project: Option<Cow<'a, str>>,
}

/// A line that is not an object with these fields as text says nothing.
fn fields(record: &[u8]) -> Fields<'_> {
    serde_json::from_slice(record).unwrap_or_default()
}

/// A session id as a part of a stream's name: as in the path of the newer layout, where it is a folder.
fn session_name(id: &str) -> Option<String> {
    let usable = !matches!(id, "" | "." | "..") && id.len() <= SESSION_BYTES_MAX;
    usable.then(|| id.replace('/', "%2F"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(path: &str) -> Option<Stream> {
        ClaudeCode.identify(Path::new(path)).map(|identity| identity.stream)
    }

    #[test]
    fn paths_name_their_streams() {
        let named = |name: &str| Some(Stream::Named(name.to_owned()));
        assert_eq!(stream("-home-me/5a4b.jsonl"), named("5a4b"));
        assert_eq!(stream("-home-me/5a4b/subagents/agent-1.jsonl"), named("5a4b/subagents/agent-1"));
        assert_eq!(stream("-home-me/5a4b/subagents/agent-1.meta.json"), named("5a4b/subagents/agent-1.meta"));
        assert_eq!(
            stream("-home-me/5a4b/subagents/runs/r1/agent-1.jsonl"),
            named("5a4b/subagents/runs/r1/agent-1")
        );
        assert_eq!(stream("-home-me/with space.jsonl"), named("with space"));
        assert_eq!(stream("-home-me/.jsonl"), named(""));
        assert_eq!(stream("-home-me/agent-1.jsonl"), Some(Stream::InContent { stem: "agent-1".to_owned() }));
        for other in
            ["-home-me/sessions-index.json", "-home-me/memory/MEMORY.md", "-home-me/s/tool-results/a.jsonl"]
        {
            assert_eq!(stream(other), None, "{other}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_percent_encoded() {
        let path = Path::new(OsStr::from_bytes(b"-p/a\xff\xfeb%.jsonl"));
        assert_eq!(ClaudeCode.identify(path).unwrap().stream, Stream::Named("a%FF%FEb%".to_owned()));
    }

    #[test]
    fn the_first_line_with_a_session_names_it() {
        let stream_in = |head: &str| ClaudeCode.stream_in("agent-1", head.as_bytes());
        assert_eq!(stream_in(""), None);
        assert_eq!(stream_in("{\"sessionId\":\"s\""), None);
        assert_eq!(stream_in("{\"sessionId\":\"s\"}").as_deref(), Some("s/subagents/agent-1"));
        let later = "junk\n\n{\"sessionId\":7}\n{\"sessionId\":\"\"}\n{\"sessionId\":\"a/b c\",\"x\":1}\n{\"sessionId\":\"t\"}\n";
        assert_eq!(stream_in(later).as_deref(), Some("a%2Fb c/subagents/agent-1"));
        assert_eq!(stream_in("{\"type\":\"x\"}\n").as_deref(), Some("agent-1"));
        assert_eq!(stream_in("{\"sessionId\":\"..\"}\n").as_deref(), Some("agent-1"));
        let long = format!("{{\"sessionId\":\"{}\"}}\n", "x".repeat(300));
        assert_eq!(stream_in(&long).unwrap().len(), 300 + "/subagents/agent-1".len());
        let absurd = format!("{{\"sessionId\":\"{}\"}}\n", "x".repeat(70_000));
        assert_eq!(stream_in(&absurd).as_deref(), Some("agent-1"));
    }

    #[test]
    fn the_first_line_with_a_working_folder_names_the_project() {
        let head = b"{\"type\":\"summary\"}\n{\"cwd\":\"D:\\\\x\"}\n{\"cwd\":\"/y\"}\n";
        assert_eq!(ClaudeCode.project_in(head).as_deref(), Some("D:\\x"));
        assert_eq!(ClaudeCode.project_in(b"{\"type\":\"summary\"}\n"), None);
    }

    #[test]
    fn a_list_of_folders_replaces_the_home() {
        let paths = |value: &str| -> Vec<PathBuf> {
            let environment = Environment {
                home: Some(PathBuf::from("/home/me")),
                variables: vec![("CLAUDE_CONFIG_DIR".to_owned(), value.into())],
            };
            ClaudeCode.roots(&environment).into_iter().map(|root| root.path).collect()
        };
        let listed = [PathBuf::from("/a/projects"), PathBuf::from("/home/me/b/projects")];
        assert_eq!(paths("/a, ~/b,,"), listed);
        assert_eq!(paths("")[0], Path::new("/home/me/.claude/projects"));
    }
}
