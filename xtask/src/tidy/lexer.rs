//! Blanks out what is not code in Rust source, so that rules see code alone. Knows comments, strings and characters;
//! keeps every newline, so that line numbers stay true.

/// Returns `source` with the insides of comments, strings and character literals replaced by spaces.
pub(crate) fn code_only(source: &str) -> String {
    let mut scan = Scan { bytes: source.as_bytes(), at: 0, out: Vec::with_capacity(source.len()) };
    while scan.at < scan.bytes.len() {
        scan.step();
    }
    String::from_utf8(scan.out).expect("only ASCII was written in place of what was blanked")
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    out: Vec<u8>,
}

impl Scan<'_> {
    fn step(&mut self) {
        let rest = &self.bytes[self.at..];
        let after_name = self.at > 0 && is_name(self.bytes[self.at - 1]);
        match rest {
            [b'/', b'/', ..] => {
                let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                self.blank(length);
            }
            [b'/', b'*', ..] => self.blank(block_comment(rest)),
            [b'"', ..] => self.blank(quoted(rest, 0)),
            [b'b' | b'c', b'"', ..] if !after_name => self.blank(1 + quoted(&rest[1..], 0)),
            [b'b', b'\'', ..] if !after_name => self.blank(1 + character(&rest[1..]).unwrap_or(0)),
            [b'r', b'"' | b'#', ..] if !after_name => self.raw(0),
            [b'b' | b'c', b'r', b'"' | b'#', ..] if !after_name => self.raw(1),
            [b'\'', ..] => match character(rest) {
                Some(length) => self.blank(length),
                None => self.copy(),
            },
            _ => self.copy(),
        }
    }

    /// A raw string behind a prefix of `prefix` bytes before its `r`, or a raw name such as `r#type`.
    fn raw(&mut self, prefix: usize) {
        let rest = &self.bytes[self.at + prefix + 1..];
        let hashes = rest.iter().take_while(|byte| **byte == b'#').count();
        if rest.get(hashes) != Some(&b'"') {
            self.copy();
            return;
        }
        let body = &rest[hashes + 1..];
        let end = (0..body.len())
            .find(|start| {
                body[*start] == b'"'
                    && body[start + 1..].iter().take_while(|byte| **byte == b'#').count() >= hashes
            })
            .map_or(body.len(), |start| start + 1 + hashes);
        self.blank(prefix + 1 + hashes + 1 + end);
    }

    fn copy(&mut self) {
        let byte = self.bytes[self.at];
        self.out.push(if byte.is_ascii() { byte } else { b'_' });
        self.at += 1;
    }

    fn blank(&mut self, length: usize) {
        let end = (self.at + length.max(1)).min(self.bytes.len());
        let blanked = self.bytes[self.at..end].iter();
        self.out.extend(blanked.map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
        self.at = end;
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The length of a block comment; comments nest.
fn block_comment(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < text.len() {
        match &text[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a string with escapes that begins at `start`.
fn quoted(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// The length of a character literal; `None` for a lifetime.
fn character(text: &[u8]) -> Option<usize> {
    match text {
        [b'\'', b'\\', _, rest @ ..] => {
            rest.iter().take(12).position(|byte| *byte == b'\'').map(|end| end + 4)
        }
        [b'\'', first, ..] => {
            let width = match first {
                0xf0.. => 4,
                0xe0.. => 3,
                0xc0.. => 2,
                _ => 1,
            };
            (text.get(1 + width) == Some(&b'\'')).then_some(width + 2)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::code_only;

    /// What stands between « and » must be blanked, and nothing else.
    #[test]
    fn strings_comments_and_characters_are_blanked() {
        for marked in [
            "a «// { b»\nc",
            "a «/* { /* } */ { */» c",
            "f(«\"{ \\\" }\"»)",
            "f(«r#\"{ \"quoted\" }\"#»);",
            "f(«br\"\\\"», «b\"}\"», «b'}'»)",
            "x(«'{'», «'\\''», «'\\u{7d}'», «'a'»)",
            "fn f<'a>(x: &'a str) {}",
            "r#type { 'outer: loop {} }",
            "var«\"x\"»",
        ] {
            let source = marked.replace(['«', '»'], "");
            let mut blanked = false;
            let mut expected = String::new();
            for c in marked.chars() {
                match c {
                    '«' => blanked = true,
                    '»' => blanked = false,
                    _ => expected.push(if blanked { ' ' } else { c }),
                }
            }
            assert_eq!(code_only(&source), expected, "{source}");
        }
    }

    #[test]
    fn newlines_survive_in_every_blank() {
        let source = "\"a\nb\" /* c\nd */ r\"e\nf\"\n";
        assert_eq!(code_only(source).matches('\n').count(), 4);
        assert_eq!(code_only("\"never closed\n").len(), 14);
        assert_eq!(code_only("caf\u{e9}").len(), 5);
    }
}
