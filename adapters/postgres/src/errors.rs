//! What the server's and the driver's errors mean to a caller. The one place that knows SQLSTATE codes.

use burnlog_log::{Error, ErrorKind};
use tokio_postgres::error::{DbError, SqlState};

/// Translates an error of the driver.
pub(crate) fn of_driver(operation: &'static str, url: &str, error: &tokio_postgres::Error) -> Error {
    if let Some(server) = error.as_db_error() {
        return of_server(operation, url, server);
    }
    let cause = causes(error);
    let (kind, message) = if let Some(tls) = tls_cause(error) {
        (ErrorKind::Denied, format!("{tls}; check `sslmode` and `sslrootcert` in the URL"))
    } else if cause.contains("password missing") {
        (ErrorKind::Denied, "the server asks for a password and the URL has none".to_owned())
    } else if cause.contains("authentication") {
        (ErrorKind::Denied, format!("{cause}; check user and password in the URL"))
    } else if cause.contains("error serializing") || cause.contains("error deserializing") {
        (ErrorKind::Corrupt, format!("the server answered with something else than was asked: {cause}"))
    } else {
        (ErrorKind::Unavailable, format!("no answer from the server: {cause}"))
    };
    Error::new(kind, operation, message).at(url)
}

/// Whether the server refused the password.
pub(crate) fn is_wrong_password(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::INVALID_PASSWORD)
}

/// The error for a password that the same server took a while ago.
pub(crate) fn password_no_longer_taken(operation: &'static str, url: &str) -> Error {
    let message = "the server refuses the password that it took before: the connection was cut while it was sent, or the password \
                   was changed. Retry; if it stays so, check user and password in the URL";
    Error::new(ErrorKind::Unavailable, operation, message).at(url)
}

/// The error for a call that took longer than the time allowed to it.
pub(crate) fn timed_out(operation: &'static str, url: &str) -> Error {
    let message = "the server did not answer in time; the outcome of a write is unknown";
    Error::new(ErrorKind::Unavailable, operation, message).at(url)
}

/// Says that stored rows are not what this program wrote.
pub(crate) fn corrupt(operation: &'static str, url: &str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, operation, message).at(url)
}

fn of_server(operation: &'static str, url: &str, error: &DbError) -> Error {
    let (kind, next) = meaning(error.code());
    let mut message = format!("{} (SQLSTATE {})", error.message(), error.code().code());
    if let Some(detail) = error.detail() {
        message = format!("{message}: {detail}");
    }
    if !next.is_empty() {
        message = format!("{message}; {next}");
    }
    Error::new(kind, operation, message).at(url)
}

/// Says what a caller can do about a code, and the next step for a person.
fn meaning(code: &SqlState) -> (ErrorKind, &'static str) {
    match code.code() {
        "28P01" | "28000" => (ErrorKind::Denied, "check user and password in the URL, and pg_hba.conf"),
        "42501" => (ErrorKind::Denied, "grant this role what the README of this backend lists"),
        "3D000" => (ErrorKind::NotFound, "create it with `createdb`, or name another in the URL"),
        "3F000" | "42P01" | "42703" => {
            (ErrorKind::NotFound, "the ledger's tables are gone or changed; open the ledger again")
        }
        "25006" => (ErrorKind::Unavailable, "this server is a read-only standby; connect to the primary"),
        "57014" | "55P03" => {
            (ErrorKind::Unavailable, "somebody else was slower than the time allowed; try again")
        }
        "40001" | "40P01" | "23505" => {
            (ErrorKind::Unavailable, "another transaction was in the way; try again")
        }
        "25P03" | "25P04" | "57P01" | "57P02" | "57P03" | "57P05" => {
            (ErrorKind::Unavailable, "the server ended the connection; try again")
        }
        "53300" => (ErrorKind::Unavailable, "raise max_connections, or put PgBouncer in front"),
        "53100" => (ErrorKind::Unavailable, "make room on the server's disk"),
        "XX001" | "XX002" | "58P01" | "58P02" => {
            (ErrorKind::Corrupt, "the server cannot read its own files: run `verify`, then restore them")
        }
        "0A000" | "42883" | "42704" => (ErrorKind::Unsupported, "burnlog needs PostgreSQL 13 or newer"),
        code if code.starts_with("08") || code.starts_with("53") || code.starts_with("57") => {
            (ErrorKind::Unavailable, "try again")
        }
        code if code.starts_with("58") => {
            (ErrorKind::Unavailable, "the server's own files fail it; see its log")
        }
        // XX000 is what a missing chunk of a TOAST value or a broken index page comes as.
        code if code.starts_with("XX") => (ErrorKind::Corrupt, "run `verify`, and see the server's log"),
        _ => (ErrorKind::Invalid, ""),
    }
}

/// The error and its causes, each said once.
fn causes(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The sentence of a failed TLS handshake, if that is what this is.
fn tls_cause(error: &tokio_postgres::Error) -> Option<String> {
    if error.to_string().contains("TLS handshake") {
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            let rustls = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            if let Some(rustls) = rustls.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                return Some(format!("the server's TLS was refused: {rustls}"));
            }
            if error.to_string().contains("does not support TLS") {
                return Some(error.to_string());
            }
            cause = error.source();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_the_caller_what_to_do() {
        for (code, kind) in [
            ("28P01", ErrorKind::Denied),
            ("3D000", ErrorKind::NotFound),
            ("40P01", ErrorKind::Unavailable),
            ("57P01", ErrorKind::Unavailable),
            ("08006", ErrorKind::Unavailable),
            ("53400", ErrorKind::Unavailable),
            ("XX001", ErrorKind::Corrupt),
            ("XX000", ErrorKind::Corrupt),
            ("22P02", ErrorKind::Invalid),
        ] {
            assert_eq!(meaning(&SqlState::from_code(code)).0, kind, "{code}");
        }
    }
}
