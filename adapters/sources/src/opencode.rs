//! OpenCode before 1.2: one file for each object in `storage/{session,message,part,…}` below `~/.local/share/opencode`, and one
//! level deeper, by project, in the oldest versions; files of `opencode export` where somebody names one. Knows paths
//! and the field that says where a session ran; the database of newer versions is in `opencode_db`.

use crate::files::Files;
use crate::source::{Environment, Identity, Root, Shape, Source, Stream, name_text};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Kinds of objects in the order of their folders.
const KINDS: [&str; 3] = ["session", "message", "part"];

const DATABASE: &str = "opencode.db";

pub(crate) struct OpenCode;

impl Source for OpenCode {
    fn name(&self) -> &'static str {
        "opencode"
    }

    fn variables(&self) -> &'static [&'static str] {
        &["XDG_DATA_HOME", "OPENCODE_DB"]
    }

    fn roots(&self, environment: &Environment) -> Vec<Root> {
        let home = environment.home.as_deref();
        let folder = match environment.variable("XDG_DATA_HOME") {
            Some(folder) => Path::new(folder).join("opencode"),
            None => match home {
                Some(home) => home.join(".local/share/opencode"),
                None => return Vec::new(),
            },
        };
        let mut roots = below(&folder);
        // Absolute, or a name in the agent's folder.
        if let Some(database) = environment.variable("OPENCODE_DB").filter(|name| *name != ":memory:") {
            roots.push(Root { path: folder.join(database), prefix: PathBuf::from(DATABASE) });
        }
        roots
    }

    fn home_roots(&self, home: &Path) -> Vec<Root> {
        below(&home.join(".local/share/opencode"))
    }

    fn claim_folder(&self, files: &dyn Files, folder: &Path) -> Vec<Root> {
        let is_there = |root: &Root| files.stat(&root.path).is_ok();
        let is_tree = KINDS.iter().filter(|kind| files.stat(&folder.join(kind)).is_ok()).count() >= 2;
        if is_tree {
            return vec![whole(folder.to_path_buf())];
        }
        let has_database = files.stat(&folder.join(DATABASE)).is_ok();
        let has_tree = KINDS.iter().any(|kind| files.stat(&folder.join("storage").join(kind)).is_ok());
        if has_database || has_tree {
            below(folder).into_iter().filter(is_there).collect()
        } else {
            Vec::new()
        }
    }

    /// A file of the tree by the folders above it, else any `.json` file as an export: what it is, its content says.
    fn claim_file(&self, file: &Path) -> Option<Root> {
        let names: Vec<_> = file.iter().collect();
        let at_kind =
            |name: &&std::ffi::OsStr| KINDS.iter().any(|kind| name.as_encoded_bytes() == kind.as_bytes());
        let prefix = match names.iter().rposition(at_kind) {
            Some(at) if names.len() - at == 3 => names[at..].iter().collect(),
            _ => PathBuf::from(names.last()?),
        };
        self.identify(&prefix)?;
        Some(Root { path: file.to_path_buf(), prefix })
    }

    fn identify(&self, path: &Path) -> Option<Identity> {
        let names: Vec<String> = path.iter().map(name_text).collect();
        if names == [DATABASE] {
            let (stream, project_folder) = (Stream::Named(DATABASE.to_owned()), String::new());
            return Some(Identity { stream, shape: Shape::Rows, project_folder, companion: None });
        }
        let stem = names.last()?.strip_suffix(".json")?.to_owned();
        // `<project>/storage/…` in the oldest versions; there `session/{info,message,part}`.
        let below = names.iter().position(|name| name == "storage").map_or(0, |at| at + 1);
        let folders = &names[below..names.len() - 1];
        let stream = match folders {
            [] => Stream::InContent { stem },
            [first, info, ..] if first == "session" && info == "info" => named("session", &stem),
            [first, kind, _, ..] if first == "session" && KINDS[1..].contains(&kind.as_str()) => {
                named(kind, &stem)
            }
            [kind, ..] => named(kind, &stem),
        };
        // Parts stand in the folder of their message, messages and the rest in that of their session.
        let companion = match (folders.first().map(String::as_str), folders.last()) {
            (Some("session"), _) if folders.len() < 3 => None,
            (_, Some(message)) if message.starts_with("msg_") => Some(format!("message/{message}")),
            (_, Some(session)) if session.starts_with("ses_") => Some(format!("session/{session}")),
            _ => Some(format!("session/{}", names.last()?.strip_suffix(".json")?)),
        };
        let (shape, project_folder) = (Shape::Object, String::new());
        Some(Identity { stream, shape, project_folder, companion })
    }

    /// An export is the session that its `info` names.
    fn stream_in(&self, stem: &str, head: &[u8]) -> Option<String> {
        let at = memchr::memmem::find(head, b"\"ses_")? + 1;
        let length = head[at..].iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')?;
        let session = std::str::from_utf8(&head[at..at + length]).unwrap_or(stem);
        Some(format!("export/{session}"))
    }

    fn project_in(&self, head: &[u8]) -> Option<String> {
        let fields: Fields<'_> = serde_json::from_slice(head).ok()?;
        let folder = fields.directory.or(fields.path.and_then(|path| path.cwd));
        folder.filter(|folder| !folder.is_empty()).map(Cow::into_owned)
    }
}

fn named(kind: &str, stem: &str) -> Stream {
    Stream::Named(format!("{kind}/{stem}"))
}

/// Sessions come first, then messages: they say where the objects ran that do not say it themselves.
fn below(folder: &Path) -> Vec<Root> {
    let storage = folder.join("storage");
    let kind = |kind: &str| Root { path: storage.join(kind), prefix: PathBuf::from(kind) };
    let mut roots: Vec<Root> = KINDS.into_iter().map(kind).collect();
    roots.push(whole(storage.clone()));
    roots.push(whole(folder.join("project")));
    roots.push(Root { path: folder.join(DATABASE), prefix: PathBuf::from(DATABASE) });
    roots
}

fn whole(path: PathBuf) -> Root {
    Root { path, prefix: PathBuf::new() }
}

/// The fields that say where a session ran: of a session, or of an assistant's message.
#[derive(Default, serde::Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    directory: Option<Cow<'a, str>>,
    #[serde(borrow)]
    path: Option<Place<'a>>,
}

#[derive(Default, serde::Deserialize)]
struct Place<'a> {
    #[serde(borrow)]
    cwd: Option<Cow<'a, str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(path: &str) -> Option<Stream> {
        OpenCode.identify(Path::new(path)).map(|identity| identity.stream)
    }

    #[test]
    fn paths_name_their_streams() {
        assert_eq!(stream("session/0a1b/ses_1.json"), Some(named("session", "ses_1")));
        assert_eq!(stream("message/ses_1/msg_1.json"), Some(named("message", "msg_1")));
        assert_eq!(stream("part/msg_1/prt_1.json"), Some(named("part", "prt_1")));
        assert_eq!(stream("session_diff/ses_1.json"), Some(named("session_diff", "ses_1")));
        assert_eq!(stream("p/storage/session/info/ses_1.json"), Some(named("session", "ses_1")));
        assert_eq!(stream("p/storage/session/message/ses_1/msg_1.json"), Some(named("message", "msg_1")));
        assert_eq!(stream("p/storage/session/part/ses_1/msg_1/prt_1.json"), Some(named("part", "prt_1")));
        assert_eq!(stream("export.json"), Some(Stream::InContent { stem: "export".to_owned() }));
        assert_eq!(stream("opencode.db"), Some(Stream::Named(DATABASE.to_owned())));
        assert_eq!(stream("migration"), None);
    }

    #[test]
    fn an_export_is_the_session_that_it_names() {
        let name = |head: &str| OpenCode.stream_in("x", head.as_bytes());
        assert_eq!(name("{\"info\": {\"id\": \"ses_1aB\", \"x\""), Some("export/ses_1aB".to_owned()));
        assert_eq!(name("{\"info\": {\"id\": \"ses_1"), None);
        assert_eq!(name("{}"), None);
    }

    #[test]
    fn a_session_and_a_message_say_where_they_ran() {
        let project = |head: &str| OpenCode.project_in(head.as_bytes());
        assert_eq!(project("{\"directory\":\"/a\"}").as_deref(), Some("/a"));
        assert_eq!(project("{\"path\":{\"cwd\":\"/b\"}}").as_deref(), Some("/b"));
        assert_eq!(project("{\"path\":{\"cwd\":\"/b\"}").as_deref(), None);
    }
}
