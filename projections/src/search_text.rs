//! What of a block is indexed: its text, without the JSON around it, up to a bound. Snippets are cut from the very same
//! text. Knows no index.

use crate::json::text_of;
use crate::search::SearchKind;
use crate::text::{instant_of, plain_text};
use burnlog_log::Timestamp;
use burnlog_log::scan::{RawText, Scanner, Step};

/// How much of a block is indexed, in bytes of text.
pub const SEARCH_TEXT_BYTES_MAX: usize = 64 << 10;
/// How deep a value is looked into; texts deeper down are not found.
const DEPTH_MAX: u32 = 32;
/// A text inside a value that has no space in so many bytes is an encoding of something, not words.
const OPAQUE_BYTES_MIN: usize = 512;

/// The text of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockText {
    pub(crate) text: String,
    /// Whether there is more of it.
    pub(crate) cut: bool,
}

/// Returns the text in the JSON value of a block; empty where there is none.
///
/// Of a string that is the string itself, of anything else its strings, each on a line: values, not names, and not what
/// has no words (the data of images).
pub(crate) fn block_text(kind: SearchKind, value: &[u8]) -> BlockText {
    let mut text = texts_of(kind, value, SEARCH_TEXT_BYTES_MAX, usize::MAX);
    let cut = text.len() > SEARCH_TEXT_BYTES_MAX;
    if cut {
        let end = (0..=SEARCH_TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    if text.as_bytes().contains(&0) {
        text = plain_text(&text).into_owned();
    }
    BlockText { text, cut }
}

/// Returns the first characters of the text in the JSON value of a block, without NUL; empty where there is none.
pub(crate) fn block_beginning(kind: SearchKind, value: &[u8], characters: usize) -> String {
    // A character is at most 4 bytes long, and stands in JSON as at most two escapes of 6; the last may be left out.
    let text = texts_of(kind, value, 4 * characters, 12 * (characters + 1));
    let end = text.char_indices().nth(characters).map_or(text.len(), |(end, _)| end);
    plain_text(&text[..end]).into_owned()
}

/// Returns the text in a value, at least `bytes_max` bytes of it where there is more; of each string at least so many
/// bytes as it stands there.
fn texts_of(kind: SearchKind, value: &[u8], bytes_max: usize, raw_bytes_max: usize) -> String {
    let value = String::from_utf8_lossy(value);
    let mut texts = Texts { kind, out: String::new(), bytes_max, raw_bytes_max };
    let mut scanner = Scanner::new(&value);
    if scanner.peek() == Some(b'"') {
        if let Some(raw) = scanner.string() {
            texts.push(raw);
        }
    } else {
        // Damage ends the walk: what was read so far is still good.
        let _ = texts.collect(&mut scanner, DEPTH_MAX);
    }
    texts.out
}

/// The strings of a value, as they are found.
struct Texts {
    kind: SearchKind,
    out: String,
    bytes_max: usize,
    raw_bytes_max: usize,
}

impl Texts {
    fn push(&mut self, raw: RawText<'_>) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
        match raw.plain() {
            Some(plain) if plain.len() <= self.raw_bytes_max => self.out.push_str(plain),
            _ => self.out.push_str(&raw.head(self.raw_bytes_max)),
        }
    }

    /// Walks on; `None` at the end of what is wanted, or at damage.
    fn collect(&mut self, scanner: &mut Scanner<'_>, depth: u32) -> Option<()> {
        if self.out.len() > self.bytes_max {
            return None;
        }
        match scanner.peek()? {
            b'"' => {
                let raw = scanner.string()?;
                if !is_opaque(raw) {
                    self.push(raw);
                }
            }
            b'{' if depth > 0 => {
                scanner.advance();
                let mut is_first = true;
                while let Step::Name(name) = scanner.next_name(&mut is_first)? {
                    // What a tool gave back is a list of blocks, each of which says of what type it is.
                    if self.kind == SearchKind::ToolResult && name.plain() == Some("type") {
                        scanner.skip()?;
                    } else {
                        self.collect(scanner, depth - 1)?;
                    }
                }
            }
            b'[' if depth > 0 => {
                scanner.advance();
                let mut is_first = true;
                while scanner.next_element(&mut is_first)? {
                    self.collect(scanner, depth - 1)?;
                }
            }
            _ => scanner.skip()?,
        }
        Some(())
    }
}

fn is_opaque(raw: RawText<'_>) -> bool {
    let Some(plain) = raw.plain() else { return false };
    let head = plain.as_bytes().get(..OPAQUE_BYTES_MIN);
    head.is_some_and(|head| head.iter().all(u8::is_ascii_graphic))
}

/// Returns when a record says that it was written: its `timestamp`, or in milliseconds `time.created`, `time.start` or
/// `time_created`, else `state.time.start`, which is where a tool use says it that is an object of its own.
pub(crate) fn instant_of_record(payload: &[u8]) -> Option<Timestamp> {
    let text = text_of(payload);
    let mut scanner = Scanner::new(&text);
    (scanner.peek()? == b'{').then(|| scanner.advance())?;
    let (mut is_first, mut begun) = (true, None);
    while let Step::Name(name) = scanner.next_name(&mut is_first)? {
        match (name.plain(), scanner.peek()?) {
            (Some("timestamp"), b'"') => return instant_of(&scanner.string()?.text()),
            (Some("time"), b'{') => {
                let mut found = None;
                created(&mut scanner, &mut found)?;
                return found;
            }
            (Some("state"), b'{') => time_of_state(&mut scanner, &mut begun)?,
            (Some("time_created"), b'0'..=b'9') => return millis(&mut scanner),
            _ => scanner.skip()?,
        }
    }
    begun
}

/// Reads an object to its end and keeps the instant in its `time`; `None` where it is no JSON.
fn time_of_state(scanner: &mut Scanner<'_>, found: &mut Option<Timestamp>) -> Option<()> {
    scanner.advance();
    let mut is_first = true;
    while let Step::Name(name) = scanner.next_name(&mut is_first)? {
        match (name.plain(), scanner.peek()?) {
            (Some("time"), b'{') => created(scanner, found)?,
            _ => scanner.skip()?,
        }
    }
    Some(())
}

/// As [`time_of_state`], of the `time` itself.
fn created(scanner: &mut Scanner<'_>, found: &mut Option<Timestamp>) -> Option<()> {
    scanner.advance();
    let mut is_first = true;
    while let Step::Name(name) = scanner.next_name(&mut is_first)? {
        match (name.plain(), scanner.peek()?) {
            (Some("created" | "start"), b'0'..=b'9') => *found = millis(scanner),
            _ => scanner.skip()?,
        }
    }
    Some(())
}

fn millis(scanner: &mut Scanner<'_>) -> Option<Timestamp> {
    let millis: i64 = scanner.number()?.parse().ok()?;
    Some(Timestamp::from_micros(millis.saturating_mul(1000)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(kind: SearchKind, value: &str) -> String {
        block_text(kind, value.as_bytes()).text
    }

    #[test]
    fn strings_are_taken_out_of_their_json() {
        assert_eq!(text(SearchKind::Text, r#""a\nb\u00e9""#), "a\nbé");
        let input =
            r#"{"file_path":"/a.rs","count":3,"edits":[{"old":"x\ty","new":"z"}],"deep":{"a":{"b":"c"}}}"#;
        assert_eq!(text(SearchKind::ToolUse, input), "/a.rs\nx\ty\nz\nc");
        let result = format!(
            r#"[{{"type":"text","text":"hello"}},{{"type":"image","source":{{"data":"{}"}}}}]"#,
            "A".repeat(600)
        );
        assert_eq!(text(SearchKind::ToolResult, &result), "hello");
        assert_eq!(text(SearchKind::ToolUse, r#"{"type":"kept"}"#), "kept");
        assert_eq!(text(SearchKind::Text, "7"), "");
        assert_eq!(text(SearchKind::Text, "\"a\\u0000b\""), "a\u{fffd}b");
    }

    #[test]
    fn long_blocks_are_cut_and_said_so() {
        let long = block_text(SearchKind::ToolResult, format!("\"{}\"", "é ".repeat(40_000)).as_bytes());
        assert!(long.cut && long.text.len() <= SEARCH_TEXT_BYTES_MAX && long.text.len() > 60_000);
        let many = block_text(SearchKind::ToolUse, format!("[{}0]", "\"word\",".repeat(40_000)).as_bytes());
        assert!(many.cut && many.text.len() <= SEARCH_TEXT_BYTES_MAX);
    }

    #[test]
    fn instants_are_those_of_the_record_itself() {
        let instant = |text: &str| instant_of_record(text.as_bytes()).map(|instant| instant.to_string());
        let line =
            r#"{"message":{"timestamp":"2020-01-01T00:00:00Z"},"timestamp":"2026-02-12T09:37:40.665Z"}"#;
        assert_eq!(instant(line).as_deref(), Some("2026-02-12T09:37:40.665Z"));
        assert_eq!(
            instant(r#"{"time":{"updated":1,"created":1000}}"#).as_deref(),
            Some("1970-01-01T00:00:01Z")
        );
        assert_eq!(
            instant(r#"{"v":1,"time_created":2000,"data":{}}"#).as_deref(),
            Some("1970-01-01T00:00:02Z")
        );
        assert_eq!(
            instant(r#"{"type":"text","text":"x","time":{"start":1000,"end":2000}}"#).as_deref(),
            Some("1970-01-01T00:00:01Z")
        );
        let tool = r#"{"type":"tool","state":{"input":{"time":{"start":1}},"time":{"end":9,"start":3000}},"id":"p"}"#;
        assert_eq!(instant(tool).as_deref(), Some("1970-01-01T00:00:03Z"));
        // What the record itself says goes before what its state does.
        let both = r#"{"state":{"time":{"start":3000}},"timestamp":"1970-01-01T00:00:07Z"}"#;
        assert_eq!(instant(both).as_deref(), Some("1970-01-01T00:00:07Z"));
        for none in ["", "[]", "{}", "{\"timestamp\":7}", "{\"time\":{}}", "{\"timestamp\":\"x\"}", "\u{1}"] {
            assert_eq!(instant(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes: Vec<u8>, text in "[\\[\\]{}\":,a\\\\u0 ]{0,40}") {
            for value in [&bytes[..], text.as_bytes()] {
                block_text(SearchKind::ToolResult, value);
                instant_of_record(value);
            }
        }
    }
}
