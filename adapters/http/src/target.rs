//! The URL of a ledger on a server: `https://HOST[:PORT][/PREFIX][/v1/ledgers/NAME]`. Knows no token.

use crate::routes::{DEFAULT_LEDGER, is_ledger_name};
use burnlog_log::{Error, ErrorKind, Result};

/// Where a ledger is on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTarget {
    /// Scheme, host, port and prefix, without a slash at the end.
    base: String,
    /// The name or address of the host.
    host: String,
    /// The name of the ledger.
    ledger: String,
}

impl HttpTarget {
    /// Parses a URL. Messages do not repeat it where it may hold a secret.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |message: &str| Error::new(ErrorKind::Invalid, "open ledger", message.to_owned());
        let forms = "write https://HOST[:PORT][/v1/ledgers/NAME]";
        let (scheme, rest) = text
            .split_once("://")
            .filter(|(scheme, _)| matches!(*scheme, "http" | "https"))
            .ok_or_else(|| invalid(&format!("this is not the URL of a server; {forms}")))?;
        if rest.contains('@') {
            return Err(invalid("a URL holds no user and no password; set RELAYBURN_HTTP_TOKEN to a token"));
        }
        if rest.contains(['?', '#', '\\']) || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid(&format!("the URL of a server has no query and no spaces; {forms}")));
        }
        let rest = rest.trim_end_matches('/');
        let (front, ledger) = match rest.split_once("/v1/ledgers/") {
            Some((front, ledger)) => (front, ledger),
            None => (rest, DEFAULT_LEDGER),
        };
        if !is_ledger_name(ledger) {
            return Err(invalid("the name of a ledger is 1 to 63 of a-z, 0-9, _ and -"));
        }
        let authority = front.split('/').next().unwrap_or_default();
        let host = match authority.strip_prefix('[') {
            Some(rest) => rest.split_once(']').map(|(host, _)| host),
            None => authority.split(':').next(),
        };
        let host = host.filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| invalid(&format!("the URL names no host; {forms}")))?.to_owned();
        Ok(Self { base: format!("{scheme}://{front}"), host, ledger: ledger.to_owned() })
    }

    /// Returns scheme, host, port and prefix.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Returns the name of the ledger.
    pub fn ledger(&self) -> &str {
        &self.ledger
    }

    /// Returns the URL of the ledger, which holds no secret.
    pub fn url(&self) -> String {
        format!("{}/v1/ledgers/{}", self.base, self.ledger)
    }

    /// Whether what goes there can be read on the way: plain HTTP to another machine.
    pub fn is_exposed(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        let is_here = self.host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        self.base.starts_with("http://") && !is_here
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_server_and_a_ledger() {
        for (text, base, ledger) in [
            ("https://h", "https://h", "default"),
            ("https://h/", "https://h", "default"),
            ("http://127.0.0.1:8080/v1/ledgers/team", "http://127.0.0.1:8080", "team"),
            ("https://h:1/pre/fix/v1/ledgers/a-b/", "https://h:1/pre/fix", "a-b"),
            ("http://[::1]:80", "http://[::1]:80", "default"),
        ] {
            let target = HttpTarget::parse(text).unwrap();
            assert_eq!((target.base(), target.ledger()), (base, ledger), "{text}");
            assert!(!target.is_exposed());
        }
        assert!(HttpTarget::parse("http://example.org").unwrap().is_exposed());
        for wrong in [
            "",
            "h",
            "ftp://h",
            "https://",
            "https://u:secret@h",
            "https://h?token=secret",
            "https:///x",
            "https://h/v1/ledgers/..",
            "https://h/v1/ledgers/A",
            "https://h/v1/ledgers/a/feeds",
            "https://h h",
        ] {
            let error = HttpTarget::parse(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{wrong}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
