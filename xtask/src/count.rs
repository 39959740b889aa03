//! Counts a HOME folder of Claude Code sessions straight from its files: the second opinion on `gen` and on the
//! fixtures. Deliberately simple and slow, and shares no code with sources or projections.

use crate::generate::{Days, Group, Sum, Tokens, list_days};
use crate::output::say;
use anyhow::{Context, Result};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What the files hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Counts {
    /// `.jsonl` files.
    pub(crate) files: u64,
    /// `.meta.json` files beside those of subagents, which no other figure counts.
    pub(crate) meta_files: u64,
    pub(crate) bytes: u64,
    /// Records, blank lines included; unterminated incomplete last ones not.
    pub(crate) records: u64,
    pub(crate) blank: u64,
    /// Records that are a JSON object but for bytes that are not UTF-8.
    pub(crate) not_utf8: u64,
    /// Records that are JSON and not an object.
    pub(crate) not_objects: u64,
    /// Records that are not JSON, whatever stands for such bytes.
    pub(crate) unreadable: u64,
    /// Unterminated last records that are not complete.
    pub(crate) pending: u64,
    /// Distinct messages under the model `<synthetic>`.
    pub(crate) notices: u64,
    /// Calls without a row that has a stop reason.
    pub(crate) floor_calls: u64,
    /// Calls that exist in `progress` rows alone.
    pub(crate) progress_only_calls: u64,
    /// Distinct calls and the tokens of their kept rows.
    pub(crate) total: Sum,
    /// The same by day (UTC, of the kept row) and model.
    pub(crate) days: Vec<Group>,
}

/// Counts a HOME folder and prints the result as JSON.
pub(crate) fn run(home: &Path) -> Result<()> {
    say(serde_json::to_string_pretty(&count_home(home)?)?)
}

/// Counts everything under `home/.claude/projects`.
pub(crate) fn count_home(home: &Path) -> Result<Counts> {
    let mut files = Vec::new();
    list_session_files(&home.join(".claude/projects"), &mut files)?;
    let mut counts = Counts::default();
    let mut calls = HashMap::new();
    let mut notices = HashSet::new();
    for path in &files {
        let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        count_file(&bytes, &mut counts, &mut calls, &mut notices);
    }
    counts.files = files.len() as u64;
    counts.meta_files = files.iter().filter(|path| path.with_extension("meta.json").exists()).count() as u64;
    counts.notices = notices.len() as u64;
    let mut days = Days::new();
    for call in calls.into_values() {
        counts.floor_calls += u64::from(!call.finished);
        counts.progress_only_calls += u64::from(!call.outside_progress);
        let kept = call.kept;
        counts.total.add_call(&kept.tokens);
        days.entry((kept.day, kept.model)).or_default().add_call(&kept.tokens);
    }
    counts.days = list_days(days);
    Ok(counts)
}

/// Lists the `.jsonl` files below a folder, sorted by path.
pub(crate) fn list_session_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            list_session_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "jsonl") {
            files.push(path);
        }
    }
    Ok(())
}

/// A call as far as its rows were seen.
#[derive(Debug)]
struct Seen {
    finished: bool,
    outside_progress: bool,
    kept: Row,
}

/// What decides which row of a call is kept, first field first.
type Rank = (bool, bool, u64, Option<jiff::Timestamp>, Reverse<[u8; 32]>);

/// One row of a call.
#[derive(Debug)]
struct Row {
    rank: Rank,
    day: String,
    model: String,
    tokens: Tokens,
}

fn count_file(
    bytes: &[u8],
    counts: &mut Counts,
    calls: &mut HashMap<String, Seen>,
    notices: &mut HashSet<String>,
) {
    counts.bytes += bytes.len() as u64;
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let last = lines.pop().unwrap_or_default();
    if Object::parse(last).is_some() {
        lines.push(last);
    } else if !last.is_empty() {
        counts.pending += 1;
    }
    for line in lines {
        counts.records += 1;
        if line.iter().all(u8::is_ascii_whitespace) {
            counts.blank += 1;
        } else if let Some(object) = Object::parse(line) {
            if let Some(found) = assistant_row(&object, line) {
                add_row(found, calls, notices);
            }
        } else {
            let mended = String::from_utf8_lossy(line);
            if Object::parse(mended.as_bytes()).is_some() {
                counts.not_utf8 += 1;
            } else if serde_json::from_str::<IgnoredAny>(&mended).is_ok() {
                counts.not_objects += 1;
            } else {
                counts.unreadable += 1;
            }
        }
    }
}

/// An assistant row: the message id, whether it stood in a `progress` row, whether it has a stop reason, the row.
struct Found {
    id: String,
    in_progress: bool,
    finished: bool,
    row: Row,
}

fn add_row(found: Found, calls: &mut HashMap<String, Seen>, notices: &mut HashSet<String>) {
    let Found { id, in_progress, finished, row } = found;
    if row.model == "<synthetic>" {
        notices.insert(id);
        return;
    }
    match calls.entry(id) {
        std::collections::hash_map::Entry::Vacant(vacant) => {
            vacant.insert(Seen { finished, outside_progress: !in_progress, kept: row });
        }
        std::collections::hash_map::Entry::Occupied(mut occupied) => {
            let seen = occupied.get_mut();
            seen.finished |= finished;
            seen.outside_progress |= !in_progress;
            if row.rank > seen.kept.rank {
                seen.kept = row;
            }
        }
    }
}

fn assistant_row(object: &Object<'_>, line: &[u8]) -> Option<Found> {
    let kind = object.text("type")?;
    if kind == "progress" {
        let inner = object.object("data")?.object("message")?;
        return (inner.text("type")? == "assistant").then(|| message_row(&inner, line, true)).flatten();
    }
    (kind == "assistant").then(|| message_row(object, line, false)).flatten()
}

fn message_row(object: &Object<'_>, line: &[u8], in_progress: bool) -> Option<Found> {
    let message = object.object("message")?;
    let id = message.text("id")?.into_owned();
    let finished = message.text("stop_reason").is_some();
    let usage = message.object("usage");
    let field = |name: &str| usage.as_ref().and_then(|usage| usage.number(name));
    let split = usage.as_ref().and_then(|usage| usage.object("cache_creation"));
    let lifetime = |name: &str| split.as_ref().and_then(|split| split.number(name));
    let written = field("cache_creation_input_tokens").unwrap_or(0);
    let tokens = Tokens {
        input: field("input_tokens").unwrap_or(0),
        output: field("output_tokens").unwrap_or(0),
        cache_read: field("cache_read_input_tokens").unwrap_or(0),
        cache_write_5m: match &split {
            Some(_) => lifetime("ephemeral_5m_input_tokens").unwrap_or(0),
            None => written,
        },
        cache_write_1h: lifetime("ephemeral_1h_input_tokens").unwrap_or(0),
    };
    let instant: Option<jiff::Timestamp> = object.text("timestamp").and_then(|text| text.parse().ok());
    let day = instant.map_or_else(|| "unknown".to_owned(), |instant| instant.to_string()[..10].to_owned());
    let hash = Reverse(*blake3::hash(line).as_bytes());
    let rank = (usage.is_some(), finished, tokens.output, instant, hash);
    let model = message.text("model").unwrap_or_default().into_owned();
    Some(Found { id, in_progress, finished, row: Row { rank, day, model, tokens } })
}

/// A JSON object whose values are not looked into until asked for; of equal keys the last one counts.
struct Object<'a>(HashMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Object<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        serde_json::from_str(std::str::from_utf8(line).ok()?).ok()
    }

    fn object(&self, name: &str) -> Option<Object<'a>> {
        self.0.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }

    fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.0.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok()).map(|Text(text)| text)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name).and_then(|raw| serde_json::from_str(raw.get()).ok())
    }
}

/// A string, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = HashMap::new();
                while let Some((Text(key), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    fields.insert(key, value);
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{Parameters, Truth, write_set};

    fn counts_of(text: &[u8]) -> Counts {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".claude/projects/-p");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("s.jsonl"), text).unwrap();
        count_home(home.path()).unwrap()
    }

    #[test]
    fn the_truth_of_a_generated_set_is_what_its_files_say() {
        for seed in [1, 2, 77] {
            let home = tempfile::tempdir().unwrap();
            let parameters = Parameters {
                sessions: 45,
                turns: 60,
                content: 40,
                seed,
                projects: 4,
                fork_every: 4,
                odd_every: 50,
            };
            let truth = write_set(home.path(), &parameters).unwrap();
            let counts = count_home(home.path()).unwrap();
            let Truth { files, bytes, records, blank, not_utf8, unreadable, pending, notices, .. } = truth;
            let Truth { meta_files, floor_calls, progress_only_calls, total, days, .. } = truth;
            assert!(truth.forks > 5 && truth.agent_files > 0 && truth.progress_only_calls > 0);
            assert!(blank > 0 && not_utf8 > 0 && unreadable > 0 && pending > 0 && truth.tool_errors > 0);
            assert_eq!(total.calls, 45 * 60);
            let expected = Counts {
                files,
                meta_files,
                bytes,
                records,
                blank,
                not_utf8,
                not_objects: 0,
                unreadable,
                pending,
                notices,
                floor_calls,
                progress_only_calls,
                total,
                days,
            };
            assert_eq!(counts, expected);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let parameters = Parameters {
            sessions: 3,
            turns: 30,
            content: 50,
            seed: 9,
            projects: 2,
            fork_every: 2,
            odd_every: 20,
        };
        let read = || {
            let home = tempfile::tempdir().unwrap();
            write_set(home.path(), &parameters).unwrap();
            let mut files = Vec::new();
            list_session_files(home.path(), &mut files).unwrap();
            files.iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(read(), read());
    }

    #[test]
    fn of_many_rows_of_a_call_one_is_counted() {
        let row = |stop: &str, output: u64, second: u64| {
            format!(
                "{{\"type\":\"assistant\",\"timestamp\":\"2026-03-02T06:00:{second:02}Z\",\"message\":{{\"id\":\"m\",\
                 \"model\":\"x\",\"stop_reason\":{stop},\"usage\":{{\"input_tokens\":3,\"output_tokens\":{output}}}}}}}\n"
            )
        };
        let text = [row("null", 900, 1), row("\"end_turn\"", 7, 2), row("\"end_turn\"", 5, 3)].concat();
        let counts = counts_of(text.as_bytes());
        assert_eq!((counts.records, counts.total.calls, counts.floor_calls), (3, 1, 0));
        assert_eq!((counts.total.tokens.input, counts.total.tokens.output), (3, 7));
    }

    #[test]
    fn odd_lines_are_told_apart() {
        let counts = counts_of(
            b"\n{}\n\0\0\0\n{\"a\":\"\\ud800\",\"a\":1}\n[1]\n{\"a\":\"\xff\"}\n{\"a\":1}{\n  \n{\"cut",
        );
        assert_eq!(counts.records, 8);
        assert_eq!((counts.blank, counts.pending), (2, 1));
        assert_eq!((counts.not_utf8, counts.not_objects, counts.unreadable), (1, 1, 2));
        assert_eq!(counts_of(b"{}\n{\"whole\":1}").records, 2);
    }
}
