//! Reads a ledger's URL: what goes to the driver, what is ours (`ledger`, `sslmode`, `sslrootcert`), and the form
//! without secrets. Errors name the option and never repeat its value, because the value may be the password.

use burnlog_log::{Error, ErrorKind, Result};
use std::fmt::Write;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// The schema that holds the ledger where the URL names none.
const LEDGER_DEFAULT: &str = "burnlog";

/// How the server is authenticated, in libpq's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verify {
    /// Encryption at most; the certificate is not looked at.
    Nothing,
    /// The certificate must lead to a trusted root.
    Chain,
    /// It must also be made out to the host of the URL.
    ChainAndHost,
}

/// A parsed URL.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) config: Config,
    pub(crate) verify: Verify,
    /// A file of trusted roots in PEM; the system's roots where absent.
    pub(crate) root_file: Option<String>,
    /// The schema, checked: letters, digits, `_` and `-`.
    pub(crate) ledger: String,
    /// The URL without secrets.
    pub(crate) url: String,
}

impl Target {
    /// Parses `postgres://…[?ledger=NAME]`. `Invalid` with the option to fix.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let Some(rest) = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")) else {
            return Err(invalid("the URL does not begin with postgres://"));
        };
        // A password may contain a question mark, so the query starts behind the credentials.
        let host_start = rest.find('@').map_or(0, |at| at + 1);
        let query_start = rest[host_start..].find('?').map_or(rest.len(), |at| host_start + at);
        let (place, query) = rest.split_at(query_start);
        let mut ours = Options::default();
        let mut theirs = String::new();
        for option in query.trim_start_matches('?').split('&').filter(|option| !option.is_empty()) {
            if !ours.take(option)? {
                theirs.push(if theirs.is_empty() { '?' } else { '&' });
                theirs.push_str(option);
            }
        }
        let mut config: Config = format!("postgres://{place}{theirs}")
            .parse()
            .map_err(|error| invalid(format!("{}; write special characters as %XX", cause_of(&error))))?;
        check_places(&config)?;
        let (ssl_mode, verify) = ours.security()?;
        config.ssl_mode(ssl_mode);
        if config.get_application_name().is_none() {
            config.application_name("burnlog");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(10));
        }
        // A peer that vanished without a word is noticed within a minute or two.
        config.keepalives_idle(Duration::from_secs(30));
        let ledger = ours.ledger.unwrap_or_else(|| LEDGER_DEFAULT.to_owned());
        check_ledger(&ledger)?;
        let url = without_secrets(&config, &ledger);
        Ok(Self { config, verify, root_file: ours.root_file, ledger, url })
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({})", self.url)
    }
}

/// The options that the driver does not know, or not well enough.
#[derive(Default)]
struct Options {
    ledger: Option<String>,
    ssl_mode: Option<String>,
    root_file: Option<String>,
}

impl Options {
    /// Takes the option if it is one of ours.
    fn take(&mut self, option: &str) -> Result<bool> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let slot = match name {
            "ledger" => &mut self.ledger,
            "sslmode" => &mut self.ssl_mode,
            "sslrootcert" => &mut self.root_file,
            _ => return Ok(false),
        };
        *slot = Some(
            percent_decoded(value).ok_or_else(|| invalid(format!("the value of `{name}` is not UTF-8")))?,
        );
        Ok(true)
    }

    /// Returns what to ask of the connection, as libpq does.
    fn security(&self) -> Result<(SslMode, Verify)> {
        Ok(match self.ssl_mode.as_deref().unwrap_or("prefer") {
            "disable" => (SslMode::Disable, Verify::Nothing),
            "allow" | "prefer" => (SslMode::Prefer, Verify::Nothing),
            "require" if self.root_file.is_none() => (SslMode::Require, Verify::Nothing),
            "require" | "verify-ca" => (SslMode::Require, Verify::Chain),
            "verify-full" => (SslMode::Require, Verify::ChainAndHost),
            _ => {
                return Err(invalid(
                    "`sslmode` is one of disable, allow, prefer, require, verify-ca, verify-full",
                ));
            }
        })
    }
}

/// Refuses what an unescaped `@`, `/` or `?` in a password turns into, before any part of it shows up as a host name.
fn check_places(config: &Config) -> Result<()> {
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(invalid("the URL names no host; write postgres://USER@HOST/DATABASE"));
    }
    let odd_host =
        config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(name) if name.contains('@')));
    let odd_user = config.get_user().is_some_and(|user| user.contains(['/', '?', '=']));
    if odd_host || odd_user {
        return Err(invalid("there is an @ too many; write one in a password or an option as %40"));
    }
    Ok(())
}

/// A name that needs no thought when it is quoted, and that belongs to nobody else.
fn check_ledger(name: &str) -> Result<()> {
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if name.is_empty() || name.len() > 63 || !letters {
        return Err(invalid("`ledger` is 1 to 63 letters, digits, _ or -"));
    }
    if name.starts_with("pg_") || matches!(name, "public" | "information_schema") {
        return Err(invalid("`ledger` names a schema of its own, not public, pg_* or information_schema"));
    }
    Ok(())
}

fn without_secrets(config: &Config, ledger: &str) -> String {
    let mut url = String::from("postgres://");
    if let Some(user) = config.get_user() {
        push_percent_encoded(&mut url, user);
        url.push('@');
    }
    let hosts = config.get_hosts();
    let mut names: Vec<String> = hosts.iter().map(host_name).collect();
    if names.is_empty() {
        names = config.get_hostaddrs().iter().map(ToString::to_string).collect();
    }
    for (position, name) in names.iter().enumerate() {
        if position > 0 {
            url.push(',');
        }
        push_percent_encoded(&mut url, name);
        let ports = config.get_ports();
        if let Some(port) = ports.get(position).or(ports.first()) {
            write!(url, ":{port}").expect("writing to memory cannot fail");
        }
    }
    url.push('/');
    push_percent_encoded(&mut url, config.get_dbname().unwrap_or_default());
    write!(url, "?ledger={ledger}").expect("writing to memory cannot fail");
    url
}

fn host_name(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.to_string_lossy().into_owned(),
    }
}

fn push_percent_encoded(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to memory cannot fail");
        }
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        if let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).ok()
}

/// The driver's own sentence, which names the option but not its value.
fn cause_of(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, "read postgres URL", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_is_taken_out_and_the_rest_goes_to_the_driver() {
        let target =
            Target::parse("postgres://ann:s3cret@db.example:6432/logs?connect_timeout=3&ledger=team-a")
                .unwrap();
        assert_eq!(target.ledger, "team-a");
        assert_eq!(target.config.get_dbname(), Some("logs"));
        assert_eq!(target.config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(target.url, "postgres://ann@db.example:6432/logs?ledger=team-a");
        assert_eq!(format!("{target:?}"), "Target(postgres://ann@db.example:6432/logs?ledger=team-a)");
        let plain = Target::parse("postgresql://db/logs").unwrap();
        assert_eq!((plain.ledger.as_str(), plain.verify), ("burnlog", Verify::Nothing));
    }

    #[test]
    fn no_part_of_a_password_is_ever_repeated() {
        for url in [
            "postgres://ann:hunter2@x@db/logs",
            "postgres://ann:hunter2?@x@db/logs",
            "postgres://db/logs?password=x@hunter2",
            "postgres://ann:hunter2@db:port/logs",
            "postgres://ann:hunter2@db/logs?password",
            "postgres://ann:hunter2@db/logs?nonsense=hunter2",
            "postgres://ann:%ff@db/logs?ledger=hunter2!",
            "postgres://ann:hunter2@",
            "mysql://ann:hunter2@db",
        ] {
            let error = Target::parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        for url in ["postgres://ann:hunter2?@db/logs?ledger=l", "postgres://ann@db/logs?password=hunter2"] {
            let target = Target::parse(url).unwrap();
            assert!(target.config.get_password().is_some_and(|password| password.starts_with(b"hunter2")));
            assert!(!format!("{target:?} {}", target.url).contains("hunter2"));
        }
    }

    #[test]
    fn names_of_ledgers_are_checked() {
        for name in
            ["", "a b", "a\"b", "a;b", "pg_catalog", "public", "information_schema", "é", &"x".repeat(64)]
        {
            let error = Target::parse(&format!("postgres://db/logs?ledger={name}")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{name}");
        }
        assert_eq!(Target::parse("postgres://db/logs?ledger=a%2Db_9").unwrap().ledger, "a-b_9");
    }

    #[test]
    fn sslmode_means_what_libpq_means() {
        let security = |query: &str| {
            let target = Target::parse(&format!("postgres://db/logs?{query}")).unwrap();
            (target.config.get_ssl_mode(), target.verify)
        };
        assert_eq!(security("sslmode=disable"), (SslMode::Disable, Verify::Nothing));
        assert_eq!(security(""), (SslMode::Prefer, Verify::Nothing));
        assert_eq!(security("sslmode=require"), (SslMode::Require, Verify::Nothing));
        assert_eq!(security("sslmode=require&sslrootcert=/ca.pem"), (SslMode::Require, Verify::Chain));
        assert_eq!(security("sslmode=verify-ca"), (SslMode::Require, Verify::Chain));
        assert_eq!(security("sslmode=verify-full"), (SslMode::Require, Verify::ChainAndHost));
        assert!(Target::parse("postgres://db/logs?sslmode=maybe").is_err());
    }
}
