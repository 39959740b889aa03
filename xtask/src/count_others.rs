//! Counts HOME folders of the other harnesses straight from their files: the second opinion on their fixtures and on any set of
//! real sessions. Deliberately simple and slow, reads every value as a tree, and shares no code with sources or projections.

use crate::count::Counts;
use crate::generate::{Days, Tokens, list_days};
use crate::output::say;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A harness and how its files are counted.
pub(crate) type Counter = fn(&[PathBuf]) -> Result<Counts>;

/// All of them, by the names that burnlog has for them.
pub(crate) const COUNTERS: [(&str, Counter); 3] =
    [("codex", count_codex), ("opencode", count_opencode), ("gemini-cli", count_gemini)];

/// Counts HOME folders as one and prints what each harness has, by day and model.
pub(crate) fn run(homes: &[PathBuf]) -> Result<()> {
    for (name, count) in COUNTERS {
        let counts = count(homes)?;
        let summary = serde_json::json!({ "source": name, "files": counts.files, "records": counts.records, "total": counts.total });
        say(summary.to_string())?;
        for group in &counts.days {
            say(serde_json::json!({ "source": name, "group": group }).to_string())?;
        }
    }
    Ok(())
}

/// One call as the files tell it.
struct Call {
    day: String,
    model: String,
    tokens: Tokens,
}

/// Calls by identity. Of two with one identity the one with the greater rank is kept.
#[derive(Default)]
struct Calls(BTreeMap<String, (i64, Call)>);

impl Calls {
    fn add(&mut self, id: String, rank: i64, call: Call) {
        let is_better = self.0.get(&id).is_none_or(|(known, _)| rank > *known);
        if is_better {
            self.0.insert(id, (rank, call));
        }
    }

    fn finish(self, counts: &mut Counts) {
        let mut days = Days::new();
        for (_, call) in self.0.into_values() {
            counts.total.add_call(&call.tokens);
            days.entry((call.day, call.model)).or_default().add_call(&call.tokens);
        }
        counts.days = list_days(days);
    }
}

/// Lists the files below a folder with one of these extensions, sorted by name; a folder that is not there has none.
fn list(folder: &Path, extensions: &[&str], files: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
        if path.is_dir() {
            list(&path, extensions, files)?;
        } else if path
            .extension()
            .and_then(|name| name.to_str())
            .is_some_and(|name| extensions.contains(&name))
        {
            files.push(path);
        }
    }
    files.sort_by(|a, b| a.file_name().cmp(&b.file_name()).then_with(|| a.cmp(b)));
    Ok(())
}

/// The records of a file of lines; what is not JSON is counted and `None`.
fn lines(path: &Path, counts: &mut Counts) -> Result<Vec<Option<Value>>> {
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    counts.files += 1;
    counts.bytes += bytes.len() as u64;
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let last = lines.pop().unwrap_or_default();
    if serde_json::from_slice::<Value>(last).is_ok() {
        lines.push(last);
    } else {
        counts.pending += u64::from(!last.is_empty());
    }
    counts.records += lines.len() as u64;
    Ok(lines
        .into_iter()
        .map(|line| {
            let value = serde_json::from_str(&String::from_utf8_lossy(line)).ok();
            counts.blank += u64::from(line.is_empty());
            counts.not_utf8 += u64::from(std::str::from_utf8(line).is_err());
            counts.unreadable += u64::from(value.is_none() && !line.is_empty());
            value
        })
        .collect())
}

fn text<'v>(value: &'v Value, path: &str) -> Option<&'v str> {
    value.pointer(path).and_then(Value::as_str)
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

fn day_of_text(instant: Option<&str>) -> String {
    let instant: Option<jiff::Timestamp> = instant.and_then(|text| text.parse().ok());
    instant.map_or_else(|| "unknown".to_owned(), |instant| instant.to_string()[..10].to_owned())
}

fn day_of_millis(millis: Option<i64>) -> String {
    let instant = millis.and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    instant.map_or_else(|| "unknown".to_owned(), |instant| instant.to_string()[..10].to_owned())
}

/// Counts rollouts. A call is a step of the counters; that a step is a copy is told by the counters that stand in the file
/// of the session that was copied, or else by the session that the last of several `session_meta` names.
fn count_codex(homes: &[PathBuf]) -> Result<Counts> {
    let (mut counts, mut calls) = (Counts::default(), Calls::default());
    let mut files = Vec::new();
    for home in homes {
        list(&home.join(".codex/sessions"), &["jsonl"], &mut files)?;
        list(&home.join(".codex/archived_sessions"), &["jsonl"], &mut files)?;
    }
    let mut known: HashMap<String, HashSet<String>> = HashMap::new();
    for path in files {
        let records: Vec<Value> = lines(&path, &mut counts)?.into_iter().flatten().collect();
        count_rollout(&records, &mut known, &mut calls);
    }
    calls.finish(&mut counts);
    Ok(counts)
}

fn count_rollout(records: &[Value], known: &mut HashMap<String, HashSet<String>>, calls: &mut Calls) {
    let metas: Vec<&str> = records
        .iter()
        .filter(|record| text(record, "/type") == Some("session_meta"))
        .filter_map(|record| text(record, "/payload/id"))
        .collect();
    let own = metas.first().copied().unwrap_or_default();
    let origins: Vec<String> = metas.iter().skip(1).map(|id| (*id).to_owned()).collect();
    let mut model = records
        .iter()
        .filter(|record| text(record, "/type") == Some("turn_context"))
        .find_map(|record| text(record, "/payload/model"))
        .unwrap_or_default();
    let (mut before, mut began_anew) = ([0u64; 3], 0);
    for record in records {
        if text(record, "/type") == Some("turn_context") {
            model = text(record, "/payload/model").unwrap_or(model);
        }
        let Some(usage) = record.pointer("/payload/info/total_token_usage").filter(|usage| usage.is_object())
        else {
            continue;
        };
        let now = ["/input_tokens", "/cached_input_tokens", "/output_tokens"].map(|path| number(usage, path));
        if now == before {
            continue;
        }
        if now[0] < before[0] || now[2] < before[2] {
            (before, began_anew) = ([0; 3], began_anew + 1);
        }
        let step = [now[0] - before[0], now[1].saturating_sub(before[1]), now[2] - before[2]];
        before = now;
        let position = format!("{began_anew} {now:?}");
        if origins.iter().any(|origin| known.get(origin).is_some_and(|known| known.contains(&position))) {
            continue;
        }
        known.entry(own.to_owned()).or_default().insert(position.clone());
        let tokens = Tokens {
            input: step[0].saturating_sub(step[1]),
            output: step[2],
            cache_read: step[1],
            ..Tokens::default()
        };
        let day = day_of_text(text(record, "/timestamp"));
        calls.add(format!("{own} {position}"), 0, Call { day, model: model.to_owned(), tokens });
    }
}

/// Counts assistant messages of the tree and of the database: of each the version that was completed last. A message that is
/// older than its session was copied there by a fork: it is not counted where the one that it was copied from is.
fn count_opencode(homes: &[PathBuf]) -> Result<Counts> {
    let (mut counts, mut calls) = (Counts::default(), Calls::default());
    let mut steps: HashMap<String, BTreeMap<String, Tokens>> = HashMap::new();
    let mut messages: Vec<Value> = Vec::new();
    for home in homes {
        let folder = home.join(".local/share/opencode");
        let mut files = Vec::new();
        list(&folder.join("storage"), &["json"], &mut files)?;
        for path in files {
            let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            counts.files += 1;
            counts.bytes += bytes.len() as u64;
            match serde_json::from_slice::<Value>(&bytes) {
                Ok(value) => {
                    counts.records += 1;
                    messages.push(value);
                }
                Err(_) => counts.pending += 1,
            }
        }
        let database = folder.join("opencode.db");
        if database.exists() {
            counts.files += 1;
            read_database(&database, &mut counts, &mut messages)?;
        }
    }
    for part in messages.iter().filter(|value| text(value, "/type") == Some("step-finish")) {
        let (id, message) = (text(part, "/id"), text(part, "/messageID"));
        let step = opencode_tokens(part);
        steps
            .entry(message.unwrap_or_default().into())
            .or_default()
            .insert(id.unwrap_or_default().into(), step);
    }
    let copies = copied_messages(&messages);
    for message in messages.iter().filter(|value| text(value, "/role") == Some("assistant")) {
        let id = text(message, "/id").unwrap_or_default();
        if copies.contains(id) {
            continue;
        }
        let completed = message.pointer("/time/completed").and_then(Value::as_i64);
        let mut tokens = opencode_tokens(message);
        if completed.is_none() && tokens == Tokens::default() {
            steps.get(id).into_iter().flat_map(BTreeMap::values).for_each(|step| tokens.add(step));
        }
        let day = day_of_millis(message.pointer("/time/created").and_then(Value::as_i64));
        let model = text(message, "/modelID").unwrap_or_default().to_owned();
        calls.add(id.to_owned(), completed.unwrap_or(0), Call { day, model, tokens });
    }
    calls.finish(&mut counts);
    Ok(counts)
}

/// Returns the ids of the messages that are copies of another one that is there, or of an earlier copy of it.
fn copied_messages(messages: &[Value]) -> HashSet<String> {
    let created = |value: &Value| value.pointer("/time/created").and_then(Value::as_i64);
    let sessions: HashMap<&str, i64> = messages
        .iter()
        .filter(|value| value.get("role").is_none() && value.get("type").is_none())
        .filter_map(|value| Some((text(value, "/id")?, created(value)?)))
        .collect();
    let mut alike: BTreeMap<String, BTreeMap<(i64, &str), bool>> = BTreeMap::new();
    for message in messages.iter().filter(|value| value.pointer("/time/completed").is_some()) {
        let (Some(id), Some(session)) = (text(message, "/id"), text(message, "/sessionID")) else { continue };
        if opencode_tokens(message) == Tokens::default() {
            continue;
        }
        let kept = ["/time", "/tokens", "/modelID", "/providerID", "/cost", "/path", "/finish"];
        let kept = kept.map(|path| message.pointer(path).map_or("-".to_owned(), Value::to_string)).join(" ");
        let began = sessions.get(session).copied();
        let is_copy = began.is_some_and(|began| created(message).is_some_and(|created| created < began));
        // The session of a copy is younger than that of what it was copied from.
        alike.entry(kept).or_default().insert((began.unwrap_or(i64::MIN), id), is_copy);
    }
    let behind_the_first = alike.values().flat_map(|messages| messages.iter().skip(1));
    behind_the_first.filter(|(_, is_copy)| **is_copy).map(|((_, id), _)| (*id).to_owned()).collect()
}

fn opencode_tokens(value: &Value) -> Tokens {
    Tokens {
        input: number(value, "/tokens/input"),
        output: number(value, "/tokens/output"),
        cache_read: number(value, "/tokens/cache/read"),
        cache_write_5m: number(value, "/tokens/cache/write"),
        cache_write_1h: 0,
    }
}

/// Reads messages and parts of a database that nobody has open, as the objects that the tree would hold.
fn read_database(path: &Path, counts: &mut Counts, messages: &mut Vec<Value>) -> Result<()> {
    let uri = format!("file:{}?mode=ro&immutable=1", path.display());
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_URI;
    let connection = rusqlite::Connection::open_with_flags(uri, flags)?;
    counts.records += connection.query_row("SELECT count(*) FROM session", [], |row| row.get::<_, u64>(0))?;
    let mut select = connection.prepare("SELECT id, time_created FROM session")?;
    let rows = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
    for row in rows {
        let (id, created) = row?;
        messages.push(serde_json::json!({ "id": id, "time": { "created": created } }));
    }
    for (table, message) in [("message", "NULL"), ("part", "message_id")] {
        let mut select =
            connection.prepare(&format!("SELECT id, {message}, session_id, data FROM {table}"))?;
        let rows = select.query_map([], |row| {
            let ids = (row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?, row.get::<_, String>(2)?);
            Ok((ids, row.get::<_, String>(3)?))
        })?;
        for row in rows {
            let ((id, message, session), data) = row?;
            counts.records += 1;
            let mut value: Value = serde_json::from_str(&data).with_context(|| format!("{table} {id}"))?;
            value["id"] = id.into();
            value["messageID"] = message.into();
            value["sessionID"] = session.into();
            messages.push(value);
        }
    }
    Ok(())
}

/// Counts messages of Gemini CLI: of each the version that has tokens.
fn count_gemini(homes: &[PathBuf]) -> Result<Counts> {
    let (mut counts, mut calls) = (Counts::default(), Calls::default());
    let mut files = Vec::new();
    for home in homes {
        list(&home.join(".gemini/tmp"), &["json", "jsonl"], &mut files)?;
    }
    files.retain(|path| path.iter().any(|name| name == "chats"));
    for path in files {
        let records = if path.extension().is_some_and(|name| name == "json") {
            let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            counts.files += 1;
            counts.bytes += bytes.len() as u64;
            counts.records += 1;
            let mut whole: Value = serde_json::from_slice(&bytes)?;
            whole["messages"].as_array_mut().map(std::mem::take).unwrap_or_default()
        } else {
            lines(&path, &mut counts)?.into_iter().flatten().collect()
        };
        for message in records.iter().filter(|record| text(record, "/type") == Some("gemini")) {
            let cached = number(message, "/tokens/cached");
            let tokens = Tokens {
                input: number(message, "/tokens/input") - cached + number(message, "/tokens/tool"),
                output: number(message, "/tokens/output"),
                cache_read: cached,
                ..Tokens::default()
            };
            let rank = i64::from(message.pointer("/tokens").is_some_and(Value::is_object));
            let model = text(message, "/model").unwrap_or_default().to_owned();
            let call = Call { day: day_of_text(text(message, "/timestamp")), model, tokens };
            calls.add(text(message, "/id").unwrap_or_default().to_owned(), rank, call);
        }
    }
    calls.finish(&mut counts);
    Ok(counts)
}
