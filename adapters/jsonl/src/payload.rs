//! Which form a payload takes in a line: verbatim where it is one line of JSON, else escaped text, else base64.
//! Every form gives the same bytes back.

use burnlog_log::scan::Scanner;

/// The deepest nesting that is written verbatim; common tools stop at 256.
const DEPTH_MAX: usize = 200;
/// Text up to this length stays readable whatever it takes.
const SHORT_BYTES: usize = 64;

/// The form of a payload in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The bytes themselves, as a JSON value.
    Raw,
    /// UTF-8 that is not one line of JSON, as a JSON string, unless it is long and mostly escapes.
    Text,
    /// Anything else, as base64 in a JSON string.
    Base64,
}

/// Chooses the form of a payload.
pub(crate) fn form_of(payload: &[u8]) -> Form {
    let Ok(text) = simdutf8::basic::from_utf8(payload) else { return Form::Base64 };
    if is_one_line_of_json(text) {
        Form::Raw
    } else if is_mostly_escapes(payload) {
        Form::Base64
    } else {
        Form::Text
    }
}

/// Whether escapes would make the text more than twice as long: runs of NUL take six bytes for one.
fn is_mostly_escapes(text: &[u8]) -> bool {
    let more = text.iter().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 1,
        0..0x20 => 5,
        _ => 0,
    });
    more.sum::<usize>() > text.len().max(SHORT_BYTES)
}

fn is_one_line_of_json(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_space = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_whitespace);
    if is_space(bytes.first()) || is_space(bytes.last()) {
        return false;
    }
    let mut scanner = Scanner::new(text);
    !scanner.has_newline() && scanner.skip_within(DEPTH_MAX).is_some() && scanner.is_at_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_line_of_shallow_json_is_verbatim() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        for raw in [
            "{}",
            "null",
            "1e999",
            "{\"a\":1,\"a\":2}",
            "\"\\ud800\"",
            "[\u{7f}]x",
            &deep(200),
            "\"\u{2028}\"",
        ] {
            let form = form_of(raw.as_bytes());
            assert_eq!(form == Form::Raw, raw != "[\u{7f}]x", "{raw}");
        }
        let brackets_in_a_string = format!("[\"{}\\\"{}\"]", "[".repeat(300), "{".repeat(300));
        assert_eq!(form_of(brackets_in_a_string.as_bytes()), Form::Raw);
        for text in
            ["", " {}", "{} ", "{}\r", "{\n}", "{\"a\":\"\0\"}", "{", "\"", &deep(201), "{}{}", "\u{feff}{}"]
        {
            assert_eq!(form_of(text.as_bytes()), Form::Text, "{text}");
        }
        for bytes in [b"\xff".as_slice(), b"{\"a\":\"\xc3\x28\"}", b"\"\xed\xa0\x80\""] {
            assert_eq!(form_of(bytes), Form::Base64, "{bytes:?}");
        }
        assert_eq!(form_of(&[0; 12]), Form::Text);
        assert_eq!(form_of(&[0; 13]), Form::Base64);
        assert_eq!(form_of("{\"torn\n".repeat(99).as_bytes()), Form::Text);
    }
}
