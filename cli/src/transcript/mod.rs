//! A session as a person reads it: rows say what stands where, the ledger has the text, a renderer writes it. Knows no
//! source and no terminal. What cannot be read is an item in its place.

mod html;
mod json;
mod markdown;
mod plan;
mod read;
mod rows;
mod terminal;
mod text;

pub(crate) use html::Html;
pub(crate) use json::Json;
pub(crate) use markdown::Markdown;
pub(crate) use plan::{Plan, plan};
pub(crate) use read::{Fetched, PayloadReader, write};
pub(crate) use terminal::Terminal;
pub(crate) use text::{block_text, one_line};

use burnlog_log::{Address, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;
use std::io;

/// Where an item stands in the log.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Place {
    /// The stream.
    pub(crate) stream: String,
    /// The record number in it.
    pub(crate) seq: u64,
    /// The event.
    pub(crate) address: Address,
    /// Where in the payload.
    pub(crate) start: u64,
    /// Its length there.
    pub(crate) bytes: u64,
}

/// One thing of a transcript. The field names are those of `show --format json`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Item {
    /// Somebody in the place of the user begins to speak; what is said follows.
    Turn { ordinal: Option<u64>, class: String, timestamp: Option<Timestamp> },
    /// Somebody begins to speak of whom no row tells, such as in history copied from a session that is not there.
    Speaker { role: &'static str },
    /// A model begins to answer; what it says follows.
    Call {
        call: String,
        model: Option<String>,
        timestamp: Option<Timestamp>,
        input_tokens: Option<i64>,
        output_tokens: Option<i64>,
        cache_read_tokens: Option<i64>,
        cache_write_tokens: Option<i64>,
        reasoning_tokens: Option<i64>,
        stop_reason: Option<String>,
        complete: bool,
        sidechain: bool,
    },
    /// Text. The role is that of the record: `assistant`, `user`, `system`, `title` ….
    Text {
        role: &'static str,
        text: String,
        #[serde(flatten)]
        place: Place,
    },
    /// What a model thought.
    Thinking {
        text: String,
        #[serde(flatten)]
        place: Place,
    },
    /// A tool is asked for.
    ToolUse {
        tool_use: Option<String>,
        tool: Option<String>,
        timestamp: Option<Timestamp>,
        summary: String,
        input: Option<Box<RawValue>>,
        #[serde(flatten)]
        place: Place,
    },
    /// What it gave back.
    ToolResult {
        tool_use: Option<String>,
        tool: Option<String>,
        timestamp: Option<Timestamp>,
        error: Option<bool>,
        /// Whether it stands right behind its use here.
        #[serde(skip)]
        follows: bool,
        text: String,
        #[serde(flatten)]
        place: Place,
    },
    /// An image, by reference.
    Image {
        media_type: Option<String>,
        image_bytes: Option<u64>,
        tool_use: Option<String>,
        #[serde(flatten)]
        place: Place,
    },
    /// A block of any other kind.
    Block {
        kind: String,
        text: String,
        #[serde(flatten)]
        place: Place,
    },
    /// The context was replaced by a summary.
    Compaction { trigger: Option<String>, tokens_before: Option<i64>, timestamp: Option<Timestamp> },
    /// The agent says something that no model gave: an error of the API, a limit. Its text follows.
    Notice { error: Option<String>, status: Option<i64>, timestamp: Option<Timestamp> },
    /// A record that cannot be shown.
    Lost { reason: &'static str, message: String, stream: String, seq: u64, address: Address },
    /// History that was copied from another session begins.
    Copied { from_session: Option<String>, records: u64, shown: bool },
    /// It ends.
    CopiedEnd { from_session: Option<String> },
    /// Another session began this one, as a subagent or a process of its own.
    BegunBy { kind: String, session: String },
    /// This session began another one, which has a transcript of its own.
    Began { kind: String, session: String, agent: Option<String> },
}

/// A subagent whose transcript is folded in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agent {
    /// Its id.
    pub(crate) id: Option<String>,
    /// The tool use that started it.
    pub(crate) tool_use: Option<String>,
    /// Its stream; of one whose records stand in its parent's stream absent.
    pub(crate) stream: Option<String>,
}

/// What was left out, by count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct LeftOut {
    /// Records that say again what was shown.
    pub(crate) repeated_records: u64,
    /// Older versions of records that were rewritten in place.
    pub(crate) older_versions: u64,
    /// Records of users and models in which no place of a text is known.
    pub(crate) records_without_content: u64,
}

/// Writes a transcript in one form.
pub(crate) trait Renderer {
    /// The session: its fields are those of `sessions --json`.
    fn begin(&mut self, session: &crate::commands::SessionLine) -> io::Result<()>;
    /// The next item.
    fn item(&mut self, item: &Item) -> io::Result<()>;
    /// A subagent begins; its items follow.
    fn begin_agent(&mut self, agent: &Agent) -> io::Result<()>;
    /// It ends.
    fn end_agent(&mut self) -> io::Result<()>;
    /// Nothing follows.
    fn end(&mut self, left_out: &LeftOut) -> io::Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn items(text: &str) -> Vec<Item> {
        let place =
            || Place { stream: text.to_owned(), seq: 1, address: Address([7; 32]), start: 0, bytes: 9 };
        let name = || Some(text.to_owned());
        let text = || text.to_owned();
        let input = RawValue::from_string(serde_json::json!({ "command": text() }).to_string()).ok();
        vec![
            Item::Copied { from_session: name(), records: 1, shown: true },
            Item::Turn { ordinal: None, class: text(), timestamp: None },
            Item::Text { role: "user", text: text(), place: place() },
            Item::Speaker { role: "assistant" },
            Item::Text { role: "assistant", text: text(), place: place() },
            Item::Text { role: "system", text: text(), place: place() },
            Item::Thinking { text: text(), place: place() },
            Item::ToolUse {
                tool_use: name(),
                tool: name(),
                timestamp: None,
                summary: text(),
                input,
                place: place(),
            },
            Item::ToolResult {
                tool_use: name(),
                tool: name(),
                timestamp: None,
                error: Some(true),
                follows: false,
                text: text(),
                place: place(),
            },
            Item::Image { media_type: name(), image_bytes: None, tool_use: name(), place: place() },
            Item::Block { kind: text(), text: text(), place: place() },
            Item::Compaction { trigger: name(), tokens_before: Some(1), timestamp: None },
            Item::Notice { error: name(), status: Some(500), timestamp: None },
            Item::Lost {
                reason: "unknown",
                message: text(),
                stream: text(),
                seq: 1,
                address: Address([7; 32]),
            },
            Item::CopiedEnd { from_session: name() },
            Item::BegunBy { kind: text(), session: text() },
            Item::Began { kind: text(), session: text(), agent: name() },
        ]
    }

    #[test]
    fn in_html_no_text_begins_with_blank_lines() {
        let place = Place { stream: "s".to_owned(), seq: 1, address: Address([7; 32]), start: 0, bytes: 9 };
        let mut out = Vec::new();
        let text = "\n\n  let me look\n\nat it\n".to_owned();
        Html::new(&mut out, false).item(&Item::Text { role: "assistant", text, place }).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "<div class=\"text \">  let me look\n\nat it</div>\n");
    }

    /// A prompt is read as it was typed; what a harness put in its place is folded where it is long.
    #[test]
    fn in_html_only_what_nobody_typed_is_folded() {
        let lines = "a line\n".repeat(40);
        for (class, is_folded) in [("prompt", false), ("meta", true), ("command_output", true)] {
            let place =
                Place { stream: "s".to_owned(), seq: 1, address: Address([7; 32]), start: 0, bytes: 9 };
            let mut out = Vec::new();
            let mut html = Html::new(&mut out, false);
            html.item(&Item::Turn { ordinal: None, class: class.to_owned(), timestamp: None }).unwrap();
            html.item(&Item::Text { role: "user", text: lines.clone(), place }).unwrap();
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.contains("<details class=\"\"><summary>a line"), is_folded, "{class}");
            assert!(text.contains(lines.trim_end()), "{class}");
        }
    }

    /// What an element of ours begins with.
    const OURS: &[&str] = &[
        "<div class=\"text ",
        "</div>",
        "<pre>",
        "</pre>",
        "<details class=\"",
        "</details>",
        "<summary>",
        "</summary>",
        "<h2 class=\"",
        "</h2>",
        "</body></html>",
        "</html>",
        "<div class=\"dim\">",
    ];

    fn rendered(text: &str, renderer: &mut dyn Renderer) {
        let agent = Agent { id: Some(text.to_owned()), tool_use: None, stream: None };
        renderer.begin_agent(&agent).unwrap();
        for item in &items(text) {
            renderer.item(item).unwrap();
        }
        renderer.end_agent().unwrap();
        renderer
            .end(&LeftOut { repeated_records: 1, older_versions: 2, records_without_content: 3 })
            .unwrap();
    }

    /// Text that would do harm where it is not escaped.
    fn hostile() -> impl Strategy<Value = String> {
        let parts = prop_oneof![
            Just("\u{1b}[2J".to_owned()),
            Just("\u{9b}31m".to_owned()),
            Just("\u{202e}".to_owned()),
            Just("</pre></details><script>".to_owned()),
            Just("\"'<img onerror=x>".to_owned()),
            Just("\n```\n~~~\n".to_owned()),
            Just("\r\0\u{7f}".to_owned()),
            any::<String>(),
        ];
        proptest::collection::vec(parts, 0..8).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn whatever_was_recorded_no_form_lets_control_characters_out(text in hostile(), full: bool) {
            let mut outs: [Vec<u8>; 5] = Default::default();
            let [plain, coloured, markdown, html, json] = &mut outs;
            rendered(&text, &mut Terminal::new(plain, false, full));
            rendered(&text, &mut Terminal::new(coloured, true, full));
            rendered(&text, &mut Markdown::new(markdown, full));
            rendered(&text, &mut Html::new(html, full));
            rendered(&text, &mut Json::new(json));
            for (at, out) in outs.into_iter().enumerate() {
                let mut out = String::from_utf8(out).unwrap();
                if at == 1 {
                    for ours in ["0", "1", "2", "31", "1;32", "36", "33"] {
                        out = out.replace(&format!("\u{1b}[{ours}m"), "");
                    }
                }
                let bad = out.chars().find(|it| it.is_control() && !matches!(it, '\n' | '\t'));
                prop_assert_eq!(bad, None, "form {}", at);
            }
        }

        #[test]
        fn html_has_no_element_but_ours(text in hostile(), full: bool) {
            let mut out = Vec::new();
            rendered(&text, &mut Html::new(&mut out, full));
            let out = String::from_utf8(out).unwrap();
            for (at, _) in out.match_indices('<') {
                prop_assert!(OURS.iter().any(|ours| out[at..].starts_with(ours)), "{}", &out[at..]);
            }
            prop_assert_eq!(out.matches("<details").count(), out.matches("</details>").count());
        }

        #[test]
        fn folds_of_markdown_close_whatever_stands_in_them(text in hostile(), full: bool) {
            let mut out = Vec::new();
            rendered(&text, &mut Markdown::new(&mut out, full));
            // Inside of fences nothing is an element; what opens and closes one is as CommonMark says.
            let (mut open, mut fence) = (0i64, None::<String>);
            for line in String::from_utf8(out).unwrap().lines() {
                let line = line.strip_prefix("> ").unwrap_or(line);
                let mark = line.trim_start_matches(' ');
                let first = mark.chars().next().filter(|it| matches!(it, '`' | '~') && line.len() - mark.len() < 4);
                let run: String = mark.chars().take_while(|it| Some(*it) == first).collect();
                let rest = &mark[run.len()..];
                match &fence {
                    Some(known) => {
                        if run.starts_with(known.as_str()) && rest.trim().is_empty() {
                            fence = None;
                        }
                    }
                    None if run.len() >= 3 && (first == Some('~') || !rest.contains('`')) => fence = Some(run),
                    None => {
                        let count = |tag: &str| line.matches(tag).count() as i64;
                        open += count("<details>") - count("</details>");
                    }
                }
            }
            prop_assert_eq!((fence, open), (None, 0));
        }
    }
}
