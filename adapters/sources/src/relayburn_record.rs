//! Which event a record of a relayburn ledger becomes, by the rules of `docs/format.md`: the same record gives the same event, whatever
//! line or row of whose ledger it came from. Knows what names a record, not what it means.
//!
//! Format facts: the schemas of relayburn's public repository (github.com/AgentWorkforce/burn), 1.x and 2.x.

use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What stands before the session in the stream of an imported record.
const STREAM_PREFIX: &str = "relayburn/";
/// The longest name of a session, in bytes; a record of another names none.
const SESSION_BYTES_MAX: usize = 4096;
/// The longest name of a source, in bytes.
const SOURCE_BYTES_MAX: usize = 64;

/// The tables of 2.x that hold records as JSON, each with the kind that 1.x gives such a line. What is in `sessions` and
/// `inferences` is made of these; `archive_state` belongs to the program.
pub(crate) const TABLES: [(&str, &str); 5] = [
    ("turns", "turn"),
    ("compactions", "compaction"),
    ("relationships", "relationship"),
    ("tool_result_events", "tool_result_event"),
    ("user_turns", "user_turn"),
];

/// What becomes of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// A `record` event of this source and stream, with the record as payload.
    Record { source: String, stream: String },
    /// A `stamp` event with this payload.
    Stamp(Vec<u8>),
    /// A `record` event of relayburn itself: it names no session, or means what a stamp cannot say.
    Unplaced,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    record: Option<Fields<'a>>,
    #[serde(borrow)]
    source: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "sessionId")]
    session: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    source: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "sessionId")]
    session: Option<Cow<'a, str>>,
}

/// Tells what becomes of a record: a line of `ledger.jsonl`, the same made of a row, or a record of content.
pub(crate) fn place(record: &[u8]) -> Placed {
    let Ok(line) = serde_json::from_slice::<Line<'_>>(record) else { return Placed::Unplaced };
    if line.record.is_none() && line.kind.as_deref() == Some("stamp") {
        return stamp(record).map_or(Placed::Unplaced, Placed::Stamp);
    }
    let (source, session) = match &line.record {
        Some(fields) => (fields.source.as_deref(), fields.session.as_deref()),
        None => (line.source.as_deref(), line.session.as_deref()),
    };
    let session = session.filter(|session| !session.is_empty() && session.len() <= SESSION_BYTES_MAX);
    match (source.and_then(harness), session) {
        (Some(source), Some(session)) => {
            Placed::Record { source: source.to_owned(), stream: format!("{STREAM_PREFIX}{session}") }
        }
        _ => Placed::Unplaced,
    }
}

/// The source whose session it is. Relationships name some sources differently; what comes of a stamp is in the stamp.
fn harness(source: &str) -> Option<&str> {
    match source {
        "native-claude" => Some("claude-code"),
        "native-opencode" => Some("opencode"),
        "spawn-env" | "burnlog" | "relayburn" | "" => None,
        _ => {
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            (source.len() <= SOURCE_BYTES_MAX && source.bytes().all(is_plain)).then_some(source)
        }
    }
}

#[derive(Deserialize)]
struct StampLine<'a> {
    #[serde(borrow)]
    ts: Cow<'a, str>,
    selector: BTreeMap<String, Value>,
    enrichment: BTreeMap<String, Option<String>>,
}

#[derive(serde::Serialize)]
struct StampPayload<'a> {
    selector: BTreeMap<&'static str, &'a str>,
    set: &'a BTreeMap<String, Option<String>>,
    at: &'a str,
}

/// Returns the payload of the `stamp` event that says the same; `None` when none does: ranges of messages or of time.
fn stamp(line: &[u8]) -> Option<Vec<u8>> {
    let stamp: StampLine<'_> = serde_json::from_slice(line).ok()?;
    let mut selected = BTreeMap::new();
    for (name, value) in &stamp.selector {
        match (name.as_str(), value) {
            ("sessionId", Value::String(session)) => selected.insert("session", session.as_str()),
            ("messageId", Value::String(message)) => selected.insert("call", message.as_str()),
            (_, Value::Null) => None,
            _ => return None,
        };
    }
    // Both together mean the message in that session; there a stamp on several things would be on each.
    if selected.contains_key("call") {
        selected.remove("session");
    }
    if selected.is_empty() || stamp.enrichment.is_empty() {
        return None;
    }
    let payload = StampPayload { selector: selected, set: &stamp.enrichment, at: &stamp.ts };
    Some(serde_json::to_vec(&payload).expect("texts and maps of texts are JSON"))
}

/// Makes the line of 1.x that says what a row of 2.x says: the text of the row stands in it as it is.
pub(crate) fn line_of_row(kind: &str, record: &[u8], line: &mut Vec<u8>) {
    line.clear();
    line.extend_from_slice(b"{\"v\":1,\"kind\":\"");
    line.extend_from_slice(kind.as_bytes());
    line.extend_from_slice(b"\",\"record\":");
    line.extend_from_slice(record);
    line.push(b'}');
}

/// Makes the line of 1.x that says what a stamp of 2.x says; `None` when the row is none.
pub(crate) fn line_of_stamp(ts: &str, selector: &str, enrichment: &str) -> Option<Vec<u8>> {
    let is_object = |text: &str| crate::json::is_object(text.as_bytes());
    if !is_object(selector) || !is_object(enrichment) {
        return None;
    }
    let ts = serde_json::to_string(ts).expect("a text is JSON");
    let line = format!(
        "{{\"v\":1,\"kind\":\"stamp\",\"ts\":{ts},\"selector\":{selector},\"enrichment\":{enrichment}}}"
    );
    Some(line.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(source: &str, stream: &str) -> Placed {
        Placed::Record { source: source.to_owned(), stream: stream.to_owned() }
    }

    #[test]
    fn a_record_is_named_by_its_source_and_session() {
        let turn = br#"{"v":1,"kind":"turn","record":{"v":1,"source":"codex","sessionId":"a\/b"}}"#;
        assert_eq!(place(turn), record("codex", "relayburn/a/b"));
        let content = br#"{"v":1,"source":"opencode","sessionId":"ses_1","kind":"text","text":"x"}"#;
        assert_eq!(place(content), record("opencode", "relayburn/ses_1"));
        let native = br#"{"kind":"relationship","record":{"source":"native-claude","sessionId":"s"}}"#;
        assert_eq!(place(native), record("claude-code", "relayburn/s"));
        let mut line = Vec::new();
        line_of_row("turn", br#"{"v":1,"source":"codex","sessionId":"a\/b"}"#, &mut line);
        assert_eq!(line, turn);
    }

    #[test]
    fn what_names_no_session_is_unplaced() {
        let long = format!(r#"{{"source":"codex","sessionId":"{}"}}"#, "x".repeat(SESSION_BYTES_MAX + 1));
        for line in [
            "",
            "{",
            "[]",
            "null",
            r#"{"kind":"turn","record":{"source":"codex"}}"#,
            r#"{"kind":"turn","record":{"source":"codex","sessionId":""}}"#,
            r#"{"kind":"turn","record":{"source":"A b","sessionId":"s"}}"#,
            r#"{"kind":"turn","record":{"source":"burnlog","sessionId":"s"}}"#,
            r#"{"kind":"relationship","record":{"source":"spawn-env","sessionId":"s"}}"#,
            r#"{"kind":"turn","record":{"source":"codex","sessionId":7}}"#,
            &long,
        ] {
            assert_eq!(place(line.as_bytes()), Placed::Unplaced, "{line:.80}");
        }
        assert_eq!(place(b"{\"source\":\"codex\",\"sessionId\":\"\xff\"}"), Placed::Unplaced);
    }

    #[test]
    fn a_stamp_that_can_be_said_is_said() {
        let stamp =
            |selector: &str, set: &str| place(&line_of_stamp("2026-01-01T00:00:00Z", selector, set).unwrap());
        let said = |payload: &str| Placed::Stamp(payload.as_bytes().to_vec());
        assert_eq!(
            stamp(r#"{"sessionId": "s"}"#, r#"{"b":"2","a":"1"}"#),
            said(r#"{"selector":{"session":"s"},"set":{"a":"1","b":"2"},"at":"2026-01-01T00:00:00Z"}"#)
        );
        assert_eq!(
            stamp(r#"{"sessionId":"s","messageId":"m"}"#, r#"{"a":"1"}"#),
            said(r#"{"selector":{"call":"m"},"set":{"a":"1"},"at":"2026-01-01T00:00:00Z"}"#)
        );
        assert_eq!(stamp(r#"{"sessionId":"s","range":{"fromTs":"x"}}"#, r#"{"a":"1"}"#), Placed::Unplaced);
        assert_eq!(stamp("{}", r#"{"a":"1"}"#), Placed::Unplaced);
        assert_eq!(stamp(r#"{"sessionId":"s"}"#, r#"{"a":1}"#), Placed::Unplaced);
        assert_eq!(line_of_stamp("x", "{", "{}"), None);
    }
}
