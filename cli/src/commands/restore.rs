//! `burnlog restore`: the files of a session as they were.

use super::{Context, FOUND_WANTING};
use crate::args::Restore;
use crate::output::{Column, Cut, Printer, count, say};
use crate::rebuild::{Rebuilder, Wanted};
use burnlog_log::{Error, ErrorKind, PayloadHash, Result, WriterId, push_hex};
use burnlog_projections::{extents, is_imported, resolve_session};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The fields of `restore --json`.
#[derive(serde::Serialize)]
struct Line {
    stream: String,
    path: PathBuf,
    records: u64,
    bytes: u64,
    blake3: PayloadHash,
    /// Whether the bytes are those that an extent wrote down.
    exact: bool,
    /// Without an extent: the feed whose testimony it is.
    seen_by: Option<WriterId>,
}

const COLUMNS: &[Column<Line>] = &[
    Column::shrinking("file", Cut::Start, |line| line.path.display().to_string()),
    Column::number("records", |line| count(line.records)),
    Column::number("bytes", |line| count(line.bytes)),
    Column::text("exact", |line| if line.exact { "yes" } else { "as seen" }.to_owned()),
    Column::text("blake3", |line| line.blake3.to_string()[3..19].to_owned()),
];

pub(super) fn run(context: &Context, arguments: &Restore) -> anyhow::Result<ExitCode> {
    let global = &context.global;
    let (ledger, store) = context.ledger_and_queries()?;
    let (source, session) = resolve_session(&*store, &arguments.session)?;
    let rebuilder = Rebuilder { ledger: &ledger, queries: &*store };
    let mut jobs: Vec<Job> = Vec::new();
    let mut streams = store.streams(&source, &session)?;
    // Records that another program made of a session are no file of it.
    let imported = streams.extract_if(.., |stream| is_imported(&stream.stream)).count();
    if streams.is_empty() && imported > 0 {
        say(
            global,
            &format!(
                "burnlog: no session file of {session} was recorded, only imported records: nothing to restore"
            ),
        );
    }
    for stream in streams {
        let known = extents(&*store, &source, &stream.stream)?;
        let take = if arguments.all { known.len() } else { 1 };
        for extent in known.iter().take(take) {
            let mark = (known.len() > 1 && arguments.all).then(|| short(&extent.root));
            let path = arguments.to.join(file_name(&stream.stream, mark.as_deref()));
            let witnesses = rebuilder.witnesses(extent)?;
            let wanted = |(feed, index)| Wanted::Extent { extent: Box::new(extent.clone()), feed, index };
            jobs.push((stream.stream.to_string(), path, witnesses.into_iter().map(wanted).collect()));
        }
        if known.is_empty() {
            match rebuilder.best_witness(&source, &stream.stream)? {
                Some(feed) => {
                    let path = arguments.to.join(file_name(&stream.stream, None));
                    jobs.push((stream.stream.to_string(), path, vec![Wanted::SeenBy(feed)]));
                }
                None => say(global, &format!("burnlog: no feed saw stream {}", stream.stream)),
            }
        }
    }
    refuse_existing(&jobs, arguments.force)?;
    let mut printer = Printer::new(global, COLUMNS).without_word();
    let (mut failed, mut inexact) = (false, false);
    for (stream, path, wanted) in jobs {
        match restore_by_any(&rebuilder, &source, &stream, &path, &wanted) {
            Ok(line) => {
                inexact |= !line.exact;
                printer.row(&line)?;
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                failed = true;
                say(global, &format!("burnlog: {error}; this file was not written"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    printer.finish()?;
    if inexact {
        say(
            global,
            "as seen: no extent was written down (ingest --final does), so a later end, or a missing last newline, would not show",
        );
    }
    Ok(if failed { ExitCode::from(FOUND_WANTING) } else { ExitCode::SUCCESS })
}

/// A stream, where it goes, and whose testimony may be used, one after the other.
type Job = (String, PathBuf, Vec<Wanted>);

/// Restores by the first testimony that gives the bytes.
fn restore_by_any(
    rebuilder: &Rebuilder<'_>,
    source: &str,
    stream: &str,
    path: &Path,
    wanted: &[Wanted],
) -> Result<Line> {
    let mut last = Error::new(ErrorKind::Corrupt, "restore", "no feed holds the extent").at(stream);
    for wanted in wanted {
        match restore(rebuilder, source, stream, path, wanted) {
            Err(error) if error.kind() == ErrorKind::Corrupt => last = error,
            other => return other,
        }
    }
    Err(last)
}

fn restore(
    rebuilder: &Rebuilder<'_>,
    source: &str,
    stream: &str,
    path: &Path,
    wanted: &Wanted,
) -> Result<Line> {
    let failed = |error: std::io::Error| {
        let message = "the file could not be written; name another folder with --to";
        Error::new(ErrorKind::Unavailable, "restore", message).at(path.display()).caused_by(error)
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let beside = PathBuf::from(format!("{}.part", path.display()));
    let mut out = BufWriter::new(File::create(&beside).map_err(failed)?);
    let rebuilt = rebuilder.write(source, stream, wanted, &mut out);
    let rebuilt = rebuilt.and_then(|rebuilt| out.flush().map_err(failed).map(|()| rebuilt));
    match rebuilt {
        Ok(rebuilt) => {
            fs::rename(&beside, path).map_err(failed)?;
            let seen_by = if let Wanted::SeenBy(feed) = wanted { Some(*feed) } else { None };
            let (records, bytes, blake3) = (rebuilt.records, rebuilt.bytes, rebuilt.hash);
            Ok(Line {
                stream: stream.to_owned(),
                path: path.to_owned(),
                records,
                bytes,
                blake3,
                exact: seen_by.is_none(),
                seen_by,
            })
        }
        Err(error) => {
            // Best effort: the error below is what matters.
            let _ = fs::remove_file(&beside);
            Err(error)
        }
    }
}

fn refuse_existing(jobs: &[Job], force: bool) -> Result<()> {
    match jobs.iter().find(|(_, path, _)| !force && path.exists()) {
        None => Ok(()),
        Some((_, path, _)) => {
            let message = "the file exists; nothing was written; --force writes over it";
            Err(Error::new(ErrorKind::Invalid, "restore", message).at(path.display()))
        }
    }
}

/// A path below the target for any stream name whatever: no part of it leads elsewhere or is too long.
fn file_name(stream: &str, mark: Option<&str>) -> PathBuf {
    let mut path = PathBuf::new();
    let parts: Vec<&str> = stream.split('/').collect();
    for (at, part) in parts.iter().enumerate() {
        let is_last = at + 1 == parts.len();
        let mut name = match *part {
            "" => "%".to_owned(),
            "." => "%2E".to_owned(),
            ".." => "%2E%2E".to_owned(),
            part => part.replace('\0', "%00"),
        };
        if name.len() > 200 {
            let hash = PayloadHash::of(part.as_bytes()).to_string();
            let end = (0..=180).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
            name.truncate(end);
            name.push_str(&format!("~{}", &hash[3..15]));
        }
        if is_last {
            if let Some(mark) = mark {
                name.push_str(&format!("@{mark}"));
            }
            // A companion object is no list of lines.
            name.push_str(if part.strip_suffix(".meta").is_some() { ".json" } else { ".jsonl" });
        }
        path.push(Path::new(&name));
    }
    path
}

fn short(root: &[u8]) -> String {
    let mut hex = Vec::new();
    push_hex(&mut hex, &root[..root.len().min(4)]);
    String::from_utf8_lossy(&hex).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_stream_name_leads_outside() {
        assert_eq!(file_name("a/subagents/agent-b", None), Path::new("a/subagents/agent-b.jsonl"));
        assert_eq!(file_name("a/subagents/agent-b.meta", None), Path::new("a/subagents/agent-b.meta.json"));
        assert_eq!(file_name("../../etc/passwd", None), Path::new("%2E%2E/%2E%2E/etc/passwd.jsonl"));
        assert_eq!(file_name("/etc", Some("12")), Path::new("%/etc@12.jsonl"));
        assert_eq!(file_name("", None), Path::new("%.jsonl"));
        let long = file_name(&"é".repeat(300), None);
        assert!(long.to_str().unwrap().len() < 255);
        assert_ne!(long, file_name(&"é".repeat(301), None));
    }
}
