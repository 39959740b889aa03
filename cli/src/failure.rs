//! How a command ends when it cannot do its work: one sentence with the place and the next step, exit code 2.

use burnlog_log::{Error, ErrorKind};
use std::io::{self, Write};
use std::process::ExitCode;

/// Reports an error on standard error and returns the exit code. A closed pipe is no error.
pub(crate) fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    if is_closed_pipe(error) {
        return ExitCode::SUCCESS;
    }
    let mut stderr = io::stderr().lock();
    // Nobody is left to tell when standard error fails.
    let _ = if json {
        writeln!(stderr, "{}", object(error))
    } else {
        let ours = error.downcast_ref::<Error>();
        let (operation, location, message) = match ours {
            Some(error) => (error.operation(), error.location(), sentence(error)),
            None => ("run", "", format!("{error:#}")),
        };
        let place = if location.is_empty() { String::new() } else { format!(" ({location})") };
        let hint = ours.and_then(hint).map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        writeln!(stderr, "burnlog: {operation}: {message}{place}{hint}")
    };
    ExitCode::from(2)
}

/// Says what failed of a command that goes on: a sentence that begins with `what`, or with `--json` the object of the error.
pub(crate) fn tell_failed(what: &str, error: &anyhow::Error, json: bool) {
    if json {
        tell(&object(error).to_string());
    } else {
        tell(&format!("burnlog: {what}: {}", one_line(error)));
    }
}

/// An error as the object that `--json` promises.
fn object(error: &anyhow::Error) -> serde_json::Value {
    let ours = error.downcast_ref::<Error>();
    let (kind, operation, location, message) = match ours {
        Some(error) => (error.kind().name(), error.operation(), error.location(), sentence(error)),
        None => ("Invalid", "run", "", format!("{error:#}")),
    };
    let hint = ours.and_then(hint);
    serde_json::json!({ "error": {
        "kind": kind, "operation": operation, "location": location, "message": message, "hint": hint,
    } })
}

/// Says one line on standard error, whatever happens to it.
pub(crate) fn tell(line: &str) {
    // Nobody is left to tell when standard error fails.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// An error in one line: what and where.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let text = match error.downcast_ref::<Error>() {
        Some(ours) if ours.location().is_empty() => format!("{}: {}", ours.operation(), sentence(ours)),
        Some(ours) => format!("{}: {} ({})", ours.operation(), sentence(ours), ours.location()),
        None => format!("{error:#}"),
    };
    text.replace('\n', " ")
}

fn sentence(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{}: {source}", error.message()),
        None => error.message().to_owned(),
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
            || cause
                .downcast_ref::<serde_json::Error>()
                .is_some_and(|error| error.io_error_kind() == Some(io::ErrorKind::BrokenPipe))
            || cause.downcast_ref::<csv::Error>().is_some_and(|error| match error.kind() {
                csv::ErrorKind::Io(error) => error.kind() == io::ErrorKind::BrokenPipe,
                _ => false,
            })
    })
}

/// What a person can do, by kind; `None` where the message says it already.
fn hint(error: &Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::Corrupt if is_ledger(error.operation()) => {
            Some("burnlog verify names all damage; nothing was changed")
        }
        ErrorKind::Forked => {
            Some("two histories were signed with one key; both heads are kept under RELAYBURN_HOME/host")
        }
        ErrorKind::Unsupported if !error.message().contains("upgrade") => Some("upgrade burnlog"),
        ErrorKind::Unavailable if is_ledger(error.operation()) && error.operation() != "restore" => {
            Some("retry later; what was acknowledged is stored, and a retry stores nothing twice")
        }
        // A server's ledgers are made where it runs, and named when it starts.
        ErrorKind::NotFound if error.operation() == "open ledger" && error.location().starts_with("http") => {
            Some(
                "burnlog serve names the ledgers that it serves; without --ledger NAME=URL there is one, default",
            )
        }
        ErrorKind::NotFound if error.operation().contains("ledger") => Some("burnlog ingest makes a ledger"),
        _ => None,
    }
}

/// Whether `verify` can say more: not about files of this host, and not while the ledger does not open at all.
fn is_ledger(operation: &str) -> bool {
    !matches!(
        operation,
        "open ledger"
            | "create ledger"
            | "read key"
            | "read remembered heads"
            | "open projections"
            | "open feed"
    )
}

/// Reports a command line that makes no sense, or prints the help that was asked for. With `--json` among the
/// arguments an error is an object here too.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || !std::env::args_os().any(|argument| argument == "--json") {
        // Nobody is left to tell when the terminal is gone.
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
    }
    let text = error.render().to_string();
    let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let error = Error::new(ErrorKind::Invalid, "read arguments", format!("{message}; see burnlog --help"));
    report(&error.into(), true)
}
