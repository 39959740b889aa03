//! Made-up prose, code and identifiers, already escaped for a JSON string.

use super::random::Random;
use std::fmt::Write;

/// Plain words of programming talk; the share of rare tokens below is what keeps it from compressing too well.
const WORDS: [&str; 64] = [
    "walk", "every", "branch", "before", "rename", "lookup", "table", "still", "holds", "stale", "handle",
    "close", "socket", "twice", "under", "load", "retry", "budget", "expires", "silently", "compare",
    "against", "golden", "output", "split", "module", "along", "seam", "parser", "eats", "trailing", "comma",
    "width", "column", "wraps", "early", "queue", "drains", "slower", "than", "producer", "borrow",
    "outlives", "scope", "inline", "closure", "captures", "path", "merge", "commit", "bisect", "points",
    "there", "fixture", "lacks", "newline", "warning", "becomes", "error", "measure", "first", "then",
    "change", "it",
];

/// Fragments as they stand in source code and terminal output, escaped.
const FRAGMENTS: [&str; 12] = [
    "\\n    let next = ",
    "?;\\n",
    "\\n}\\n\\nfn ",
    " => ",
    "\\\"ok\\\"",
    "\\tpassed\\n",
    " \u{2192} ",
    "caf\u{e9}",
    "::",
    "[..n]",
    "\\\\d+",
    "// ",
];

/// Appends about `bytes` bytes of text.
pub(crate) fn push_text(random: &mut Random, out: &mut String, bytes: u64) {
    let end = out.len() + bytes as usize;
    while out.len() < end {
        let bits = random.bits();
        match bits >> 57 {
            0..=4 => {
                let _ = write!(out, "0x{:08x} ", bits as u32);
            }
            5..=9 => out.push_str(FRAGMENTS[(bits % 12) as usize]),
            _ => {
                out.push_str(WORDS[(bits % 64) as usize]);
                out.push(' ');
            }
        }
    }
}

/// Appends `length` characters of an opaque token, such as a signature.
pub(crate) fn push_token(random: &mut Random, out: &mut String, length: usize) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    let mut bits = 0;
    for position in 0..length {
        if position % 10 == 0 {
            bits = random.bits();
        }
        out.push(char::from(DIGITS[(bits & 63) as usize]));
        bits >>= 6;
    }
}

/// Makes an identifier: a prefix and 22 characters.
pub(crate) fn identifier(random: &mut Random, prefix: &str) -> String {
    let mut out = String::with_capacity(prefix.len() + 22);
    out.push_str(prefix);
    push_token(random, &mut out, 22);
    out
}

/// Makes a version 4 UUID.
pub(crate) fn uuid(random: &mut Random) -> String {
    let (high, low) = (random.bits(), random.bits());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff,
    )
}

/// Makes a short hexadecimal agent id.
pub(crate) fn agent_id(random: &mut Random) -> String {
    format!("{:08x}", random.bits() >> 32)
}
