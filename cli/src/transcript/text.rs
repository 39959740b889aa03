//! From the JSON that stands at a place to text for people: strings decoded, whatever is wrong with them; tools summed
//! up in a line; long texts cut. Knows no terminal.

use serde_json::Value;
use std::borrow::Cow;

/// The fields of a tool's input that tell best what it is about, the best first.
const TELLING: &[&str] = &[
    "command",
    "cmd",
    "file_path",
    "notebook_path",
    "filePath",
    "path",
    "pattern",
    "query",
    "url",
    "description",
    "skill",
    "subject",
    "prompt",
    "input",
    "text",
];

/// Decodes a JSON string. Escapes that mean no character (lone surrogates) and bytes that are not UTF-8 become U+FFFD.
/// What is no JSON string comes as it stands.
pub(crate) fn decode(raw: &[u8]) -> String {
    if let Ok(text) = serde_json::from_slice::<String>(raw) {
        return text;
    }
    let text = String::from_utf8_lossy(raw);
    let Some(inner) = text.strip_prefix('"') else { return text.into_owned() };
    let inner = inner.strip_suffix('"').unwrap_or(inner);
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let (character, taken) = unescape(&rest[at..]);
        out.push(character);
        rest = rest.get(at + taken..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// The character of an escape, and how many bytes the escape takes.
fn unescape(text: &str) -> (char, usize) {
    let hex = |at: usize| text.get(at..at + 4).and_then(|digits| u16::from_str_radix(digits, 16).ok());
    match text.as_bytes().get(1) {
        Some(b'n') => ('\n', 2),
        Some(b't') => ('\t', 2),
        Some(b'r') => ('\r', 2),
        Some(b'b') => ('\u{8}', 2),
        Some(b'f') => ('\u{c}', 2),
        Some(mark @ (b'"' | b'\\' | b'/')) => (char::from(*mark), 2),
        Some(b'u') => {
            let low = || if text.get(6..8) == Some("\\u") { hex(8) } else { None };
            match hex(2) {
                None => ('\u{fffd}', 2),
                Some(high @ 0xd800..0xdc00) => match low() {
                    Some(low @ 0xdc00..0xe000) => {
                        let code = 0x10000 + ((u32::from(high) - 0xd800) << 10) + (u32::from(low) - 0xdc00);
                        (char::from_u32(code).unwrap_or('\u{fffd}'), 12)
                    }
                    _ => ('\u{fffd}', 6),
                },
                Some(code) => (char::from_u32(u32::from(code)).unwrap_or('\u{fffd}'), 6),
            }
        }
        // A lone backslash, or one before a character that needs none.
        _ => ('\u{fffd}', 1),
    }
}

/// The text of a block of any kind.
pub(crate) fn block_text(kind: &str, raw: &[u8]) -> String {
    match raw.first() {
        Some(b'"') => decode(raw),
        Some(b'[') if kind == "tool_result" => result_text(raw),
        _ => String::from_utf8_lossy(raw).into_owned(),
    }
}

/// The texts of a result that is a list of blocks; images stand as blocks of their own.
fn result_text(raw: &[u8]) -> String {
    let Ok(Value::Array(blocks)) = serde_json::from_slice(raw) else {
        return String::from_utf8_lossy(raw).into_owned();
    };
    let mut out = String::new();
    for block in &blocks {
        let text = match (block.get("type").and_then(Value::as_str), block.get("text")) {
            (_, Some(Value::String(text))) => text.clone(),
            (Some("image"), _) => continue,
            _ => block.to_string(),
        };
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&text);
    }
    out
}

/// What Codex writes in front of what a command printed; from rollouts of versions 0.118 to 0.142.
const HEADER: &[&str] = &[
    "Chunk ID: ",
    "Wall time: ",
    "Process exited with code ",
    "Process running with session ID ",
    "Original token count: ",
    "Exit code: ",
];

/// A longer line is no header: each is shown whole.
const HEADER_LINE_MAX: usize = 80;

/// Parts a result into what its harness says of the command and what the command printed; nothing is said where it does not
/// begin so.
pub(crate) fn headed(text: &str) -> (Vec<&str>, &str) {
    let mut header = Vec::new();
    let mut rest = text;
    while let Some((line, behind)) = rest.split_once('\n') {
        if line == "Output:" && !header.is_empty() {
            return (header, behind);
        }
        if line.len() > HEADER_LINE_MAX
            || header.len() == HEADER.len()
            || !HEADER.iter().any(|begin| line.starts_with(begin))
        {
            break;
        }
        header.push(line);
        rest = behind;
    }
    (Vec::new(), text)
}

/// One line that says what a tool was asked for.
pub(crate) fn summary(input: &[u8]) -> String {
    let value: Value = match serde_json::from_slice(input) {
        // Some sources keep the input as a JSON text.
        Ok(Value::String(text)) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        Ok(value) => value,
        Err(_) => return block_text("tool_use", input),
    };
    let fields = match value {
        Value::Object(fields) => fields,
        Value::String(text) => return text,
        other => return other.to_string(),
    };
    if let Some(Value::Array(todos)) = fields.get("todos") {
        return format!("{} todos", todos.len());
    }
    let texts = TELLING.iter().filter_map(|name| fields.get(*name).and_then(telling));
    let mut best: Vec<Cow<'_, str>> = texts.take(2).collect();
    // A path says more beside a pattern, and a description beside nothing.
    if fields.contains_key("command") || fields.contains_key("cmd") || fields.contains_key("description") {
        best.truncate(1);
    }
    if best.is_empty() && !fields.is_empty() {
        return Value::Object(fields).to_string();
    }
    best.join(" ")
}

fn telling(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) if !text.is_empty() => Some(Cow::Borrowed(text)),
        Value::Array(parts) if parts.iter().all(Value::is_string) && !parts.is_empty() => {
            let parts: Vec<&str> = parts.iter().filter_map(Value::as_str).collect();
            Some(Cow::Owned(parts.join(" ")))
        }
        _ => None,
    }
}

/// The media type of an image block and the length of what it holds, decoded.
pub(crate) fn image(raw: &[u8]) -> (Option<String>, Option<u64>) {
    #[derive(serde::Deserialize)]
    struct Block<'a> {
        #[serde(borrow)]
        source: Option<Source<'a>>,
    }
    #[derive(serde::Deserialize)]
    struct Source<'a> {
        media_type: Option<String>,
        #[serde(borrow)]
        data: Option<Cow<'a, str>>,
    }
    let Ok(Block { source: Some(source) }) = serde_json::from_slice::<Block<'_>>(raw) else {
        return (None, None);
    };
    let decoded = |data: &str| (data.trim_end_matches('=').len() as u64) * 3 / 4;
    (source.media_type, source.data.as_deref().map(decoded))
}

/// The beginning of a text: at most so many lines and bytes; and how many bytes are left out.
pub(crate) fn cut(text: &str, lines: usize, bytes: usize) -> (&str, usize) {
    let text = text.trim_end();
    let by_lines = text.match_indices('\n').nth(lines.saturating_sub(1)).map_or(text.len(), |(at, _)| at);
    let mut end = by_lines.min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    // A cut that saves nothing worth saying is none.
    if text.len() - end < 40 && !text[end..].contains('\n') {
        (text, 0)
    } else {
        (&text[..end], text.len() - end)
    }
}

/// A text in one line, cut to so many characters; says with an ellipsis where something is missing.
pub(crate) fn one_line(text: &str, characters: usize) -> String {
    let mut words = text.split_whitespace();
    let mut out = String::new();
    let mut left = characters;
    for word in &mut words {
        if !out.is_empty() {
            out.push(' ');
        }
        for character in word.chars() {
            if left == 0 {
                out.push('…');
                return out;
            }
            left -= 1;
            out.push(character);
        }
        left = left.saturating_sub(1);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strings_are_decoded_whatever_is_wrong_with_them() {
        assert_eq!(decode(br#""a\nb\u00e9\ud83d\ude00""#), "a\nb\u{e9}\u{1f600}");
        assert_eq!(decode(br#""a\ud83d""#), "a\u{fffd}");
        assert_eq!(
            decode(br#""\udc00\n\t\"\\\/\b\f\r\q\uZZZZ""#),
            "\u{fffd}\n\t\"\\/\u{8}\u{c}\r\u{fffd}q\u{fffd}ZZZZ"
        );
        assert_eq!(decode(b"\"a\xffb\""), "a\u{fffd}b");
        assert_eq!(decode(b"12"), "12");
    }

    #[test]
    fn a_tool_is_summed_up_by_what_tells_best() {
        for (input, expected) in [
            (r#"{"command":"ls -la","description":"List"}"#, "ls -la"),
            (r#"{"command":["bash","-lc","ls"]}"#, "bash -lc ls"),
            (r#"{"file_path":"/a","old_string":"x","new_string":"y"}"#, "/a"),
            (r#"{"pattern":"foo","path":"/src"}"#, "/src foo"),
            (r#"{"todos":[1,2]}"#, "2 todos"),
            (r#""{\"cmd\":\"make\"}""#, "make"),
            (r#""plain""#, "plain"),
            (r#"{"x":1}"#, r#"{"x":1}"#),
            ("{}", ""),
            ("{broken", "{broken"),
        ] {
            assert_eq!(summary(input.as_bytes()), expected, "{input}");
        }
    }

    #[test]
    fn what_a_harness_says_of_a_command_is_parted_from_its_output() {
        let text = "Chunk ID: f1\nWall time: 0.1 seconds\nProcess exited with code 1\nOutput:\nOutput:\n\nx";
        let header = vec!["Chunk ID: f1", "Wall time: 0.1 seconds", "Process exited with code 1"];
        assert_eq!(headed(text), (header, "Output:\n\nx"));
        assert_eq!(headed("Exit code: 0\nOutput:\n"), (vec!["Exit code: 0"], ""));
        let long = format!("Chunk ID: {}\nOutput:\nx", "f".repeat(80));
        let many = format!("{}Output:\nx", "Exit code: 0\n".repeat(7));
        let plain =
            ["", "Output:\nx", "Exit code: 0\nx\nOutput:\ny", "Exit code: 0", "x\nOutput:\ny", &long, &many];
        for plain in plain {
            assert_eq!(headed(plain), (Vec::new(), plain));
        }
    }

    #[test]
    fn results_are_texts_and_images_are_references() {
        let list = br#"[{"type":"text","text":"a"},{"type":"image","source":{}},{"type":"text","text":"b"},{"type":"x"}]"#;
        assert_eq!(block_text("tool_result", list), "a\nb\n{\"type\":\"x\"}");
        let block = br#"{"type":"image","source":{"media_type":"image/png","data":"AAAA"}}"#;
        assert_eq!(image(block), (Some("image/png".to_owned()), Some(3)));
        assert_eq!(image(b"{}"), (None, None));
    }

    proptest! {
        #[test]
        fn a_cut_loses_no_byte_uncounted(text in "[a-zé\n]{0,300}", lines in 1..5usize, bytes in 0..200usize) {
            let (kept, more) = cut(&text, lines, bytes);
            prop_assert!(text.starts_with(kept));
            prop_assert_eq!(kept.len() + more, text.trim_end().len());
        }

        #[test]
        fn whatever_is_valid_decodes_as_it_was(text: String) {
            let raw = serde_json::to_vec(&text).unwrap();
            prop_assert_eq!(decode(&raw), text);
        }

        #[test]
        fn no_bytes_bring_it_down(raw: Vec<u8>) {
            let quoted = [b"\"", raw.as_slice()].concat();
            for raw in [&raw, &quoted] {
                let _ = (decode(raw), summary(raw), block_text("tool_result", raw), image(raw));
            }
        }
    }
}
