//! What a reader of one agent's files must say: where they are, which stream a file is, how to read its first
//! lines. One file for each reader, one table for all. Reads nothing itself.

use crate::claude_code::ClaudeCode;
use crate::codex::Codex;
use crate::files::Files;
use crate::gemini::GeminiCli;
use crate::json;
use crate::opencode::OpenCode;
use crate::relayburn::Relayburn;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Every reader of sessions. A new one is a file beside this one and a line here.
pub(crate) static SOURCES: [&dyn Source; 4] = [&ClaudeCode, &Codex, &OpenCode, &GeminiCli];

/// The readers in the order in which they are asked whether something that somebody named is theirs: the pickiest first.
/// Ledgers of another program are imported only so.
pub(crate) static CLAIMING: [&dyn Source; 5] = [&Relayburn, &Codex, &GeminiCli, &ClaudeCode, &OpenCode];

/// What the process was started with, as far as it says where session files are.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// The user's home folder.
    pub home: Option<PathBuf>,
    /// The variables of [`variables`] that are set, with their values.
    pub variables: Vec<(String, OsString)>,
}

impl Environment {
    /// Returns the value of a variable unless it is empty.
    pub(crate) fn variable(&self, name: &str) -> Option<&OsStr> {
        let (_, value) = self.variables.iter().find(|(set, _)| set == name)?;
        (!value.is_empty()).then_some(value)
    }
}

/// Returns the names of the sources, in the order in which they are read.
pub fn names() -> impl Iterator<Item = &'static str> {
    SOURCES.iter().map(|source| source.name())
}

/// Returns the names of the environment variables that say where session files are.
pub fn variables() -> impl Iterator<Item = &'static str> {
    SOURCES.iter().flat_map(|source| source.variables().iter().copied())
}

/// A folder or file that holds one source's sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) path: PathBuf,
    /// What stands before the paths below `path`, so that they read as they do from the source's own folder.
    pub(crate) prefix: PathBuf,
}

/// How the records of a file are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(crate) enum Shape {
    /// One record a line; grows at its end.
    Lines,
    /// The whole file is one record, rewritten in place.
    Object,
    /// A database: each row is a record, and a stream of its own.
    Rows,
}

/// Which stream a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Its path says it.
    Named(String),
    /// Its first lines say it; see [`Source::stream_in`].
    InContent {
        /// The file's name without its extension.
        stem: String,
    },
}

/// What a path says about the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) stream: Stream,
    pub(crate) shape: Shape,
    /// The name of the project's folder, where there is one.
    pub(crate) project_folder: String,
    /// The stream whose project this file shares when its own content does not name one.
    pub(crate) companion: Option<String>,
}

/// Reads one agent's session files.
pub(crate) trait Source: Sync {
    /// The name in skeletons.
    fn name(&self) -> &'static str;
    /// The environment variables it honours.
    fn variables(&self) -> &'static [&'static str];
    /// Where its files are by environment, whether there are any or not.
    fn roots(&self, environment: &Environment) -> Vec<Root>;
    /// Where its files are below a HOME, whether there are any or not.
    fn home_roots(&self, home: &Path) -> Vec<Root>;
    /// What of a folder is its own: the folder of the source, or a part of that. Nothing when it is not.
    fn claim_folder(&self, files: &dyn Files, folder: &Path) -> Vec<Root>;
    /// Takes a single file that somebody named. `None` when it is not one of its own.
    fn claim_file(&self, file: &Path) -> Option<Root>;
    /// What the path below a root says about a file; `None` for a file that holds no session.
    fn identify(&self, path: &Path) -> Option<Identity>;
    /// The stream that the first lines name; `None` while there is no complete record among them.
    fn stream_in(&self, stem: &str, head: &[u8]) -> Option<String>;
    /// The working folder that the first lines name.
    fn project_in(&self, head: &[u8]) -> Option<String>;
}

/// Returns a file name as text: bytes that are not UTF-8 become `%XX`.
pub(crate) fn name_text(name: &OsStr) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut text = String::with_capacity(name.len());
    for chunk in name.as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            use std::fmt::Write;
            write!(text, "%{byte:02X}").expect("writing to memory cannot fail");
        }
    }
    text
}

/// The lines that will not change any more: terminated ones, and a last one that is whole as it stands.
pub(crate) fn complete_records(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = memchr::memrchr(b'\n', head).map_or(0, |at| at + 1);
    let (terminated, rest) = head.split_at(end);
    let terminated = terminated.strip_suffix(b"\n").map(|lines| lines.split(|byte| *byte == b'\n'));
    let rest = json::is_complete_record(rest, false).then_some(rest);
    terminated.into_iter().flatten().chain(rest)
}
