//! Whether bytes are one complete JSON object. Builds no value.

use serde::de::IgnoredAny;
use std::io::{BufReader, Read};

/// Returns whether `text` is exactly one JSON object in UTF-8; white space around it is allowed.
pub(crate) fn is_object(text: &[u8]) -> bool {
    let first = text.iter().position(|byte| !byte.is_ascii_whitespace());
    first.is_some_and(|first| text[first] == b'{')
        && serde_json::from_slice::<IgnoredAny>(text).is_ok()
        && std::str::from_utf8(text).is_ok()
}

/// Returns whether `text`, which no newline ends, can stand as a record as it is: one JSON object that ends with its
/// brace. Between a carriage return and its newline such a record is whole only where `after_return`
/// says that the record before ended the same way.
pub(crate) fn is_complete_record(text: &[u8], after_return: bool) -> bool {
    let body = if after_return { text.strip_suffix(b"\r") } else { Some(text) };
    body.is_some_and(|body| body.last() == Some(&b'}') && is_object(body))
}

/// Returns whether the folds read a record: any JSON, bytes that are no UTF-8 inside its texts and a byte-order mark before it
/// allowed, or nothing but white space.
pub(crate) fn is_readable(record: &[u8]) -> bool {
    let record = record.strip_prefix(b"\xef\xbb\xbf").unwrap_or(record);
    // What is skipped is not looked at as UTF-8.
    record.iter().all(u8::is_ascii_whitespace) || serde_json::from_slice::<IgnoredAny>(record).is_ok()
}

/// Like [`is_object`] for a record too long to hold. Does not check UTF-8 inside strings.
pub(crate) fn is_object_stream(text: impl Read) -> std::io::Result<bool> {
    let mut text = BufReader::with_capacity(1 << 16, text);
    let mut first = [0];
    loop {
        if text.read(&mut first)? == 0 {
            return Ok(false);
        }
        match first[0] {
            b'{' => break,
            byte if byte.is_ascii_whitespace() => {}
            _ => return Ok(false),
        }
    }
    match serde_json::from_reader::<_, IgnoredAny>(first.as_slice().chain(text)) {
        Ok(_) => Ok(true),
        Err(error) if error.is_io() => Err(error.into()),
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_whole_object_is_an_object() {
        for good in ["{}", " {\"a\":[1,{\"b\":null}]} ", "{\"a\":\"\\ud800\"}", "{\"n\":1e999999}"] {
            assert!(is_object(good.as_bytes()), "{good}");
        }
        let bad: [&[u8]; 9] =
            [b"", b" ", b"[]", b"{", b"{}{}", b"{} x", b"null", b"{\"a\":\"\xff\"}", b"{\"a\":\"\0\"}"];
        for bad in bad {
            assert!(!is_object(bad), "{bad:?}");
        }
    }

    #[test]
    fn readable_is_what_the_folds_read() {
        let good: [&[u8]; 8] = [
            b"{}",
            b"",
            b" \r",
            b"[1]",
            b"null",
            b"{\"a\":\"\xff\"}",
            b"\xef\xbb\xbf{\"a\":1}",
            b"{\"a\":1e400}\r",
        ];
        for good in good {
            assert!(is_readable(good), "{good:?}");
        }
        let bad: [&[u8]; 6] = [b"{", b"{}{}", b"\xff\xfe", b"{\"a\":\"\0\"}", b"{\xff:1}", b"\0"];
        for bad in bad {
            assert!(!is_readable(bad), "{bad:?}");
        }
    }

    #[test]
    fn no_proper_prefix_of_a_record_is_complete() {
        let record = b"{\"a\":{\"b\":[{}]},\"c\":\"}\"}";
        for cut in 0..record.len() {
            assert!(!is_complete_record(&record[..cut], false), "{cut}");
        }
        assert!(is_complete_record(record, false));
        assert!(!is_complete_record(record, true));
        assert!(is_complete_record(b"{}\r", true));
        assert!(!is_complete_record(b"{}\r", false));
        assert!(!is_complete_record(b"{} ", false));
    }

    #[test]
    fn a_long_record_is_judged_the_same() {
        for text in ["{\"a\":1}", "  {\"a\":1}\r", "{\"a\":1}}", "[{}", "x}", "{}{}", "", "  "] {
            assert_eq!(is_object_stream(text.as_bytes()).unwrap(), is_object(text.as_bytes()), "{text}");
        }
    }
}
