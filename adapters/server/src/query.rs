//! The query of a URL, taken apart.

use burnlog_log::{Error, ErrorKind};

/// Takes a query apart; `Invalid` when it is not percent-encoded UTF-8.
pub(crate) fn query(text: &str) -> Result<Vec<(String, String)>, Error> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((unescaped(name)?, unescaped(value)?))
        })
        .collect()
}

fn unescaped(text: &str) -> Result<String, Error> {
    let invalid = || Error::new(ErrorKind::Invalid, "read query", "the query is not percent-encoded UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit().ok_or_else(invalid)?, digit().ok_or_else(invalid)?);
                (high * 16 + low) as u8
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_taken_apart_and_nothing_else_passes() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(query("a=1&b=%41+%c3%a9&c").unwrap(), [pair("a", "1"), pair("b", "A é"), pair("c", "")]);
        for wrong in ["a=%", "a=%4", "a=%zz", "a=%ff"] {
            assert_eq!(query(wrong).unwrap_err().kind(), ErrorKind::Invalid, "{wrong}");
        }
    }
}
