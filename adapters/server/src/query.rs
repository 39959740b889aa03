//! The query of a URL, taken apart.

use burnlog_http::REPEATED_PARAMETERS;
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

/// Returns a parameter that is given twice although one value of it would count.
pub(crate) fn given_twice(parameters: &[(String, String)]) -> Option<&str> {
    let counts_once = |name: &str| !REPEATED_PARAMETERS.contains(&name);
    let mut names: Vec<&str> =
        parameters.iter().map(|(name, _)| name.as_str()).filter(|name| counts_once(name)).collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
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

    #[test]
    fn what_counts_once_is_given_once() {
        let twice = |text: &str| given_twice(&query(text).unwrap()).map(str::to_owned);
        assert_eq!(twice("limit=1&since=2&limit=1"), Some("limit".to_owned()));
        assert_eq!(twice("limit=1&lim%69t=2"), Some("limit".to_owned()));
        assert_eq!(twice("tag=a=1&kind=text&tag=b=2&kind=text&limit=1"), None);
    }
}
