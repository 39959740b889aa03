//! `burnlog hook install` and `uninstall`: our hooks in an agent's settings, and nothing else of them.

use super::Context;
use crate::args::HookSettings;
use crate::output::print_one;
use crate::settings::{self, COMMAND_END, EVENTS};
use burnlog_log::{Error, ErrorKind, Result};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The fields of `hook install --json` and `hook uninstall --json`.
#[derive(serde::Serialize)]
struct Hooked {
    settings: PathBuf,
    events: [&'static str; 2],
    changed: bool,
}

/// What an install did, so that an uninstall can give back the very bytes that were there.
#[derive(serde::Serialize, serde::Deserialize)]
struct Receipt {
    settings: PathBuf,
    /// The text before; absent where there was no file.
    before: Option<String>,
    after: String,
}

pub(super) fn install(context: &Context, arguments: &HookSettings) -> anyhow::Result<ExitCode> {
    if context.global.store.is_some() {
        let message = "a hook stores where the agent's environment says; set RELAYBURN_STORAGE there instead of --store";
        return Err(Error::new(ErrorKind::Invalid, "install hook", message).into());
    }
    let path = path(context, arguments)?;
    let before = read(&path)?;
    let text = before.clone().unwrap_or_else(|| "{}\n".to_owned());
    let after =
        settings::install(&text, &command()?).map_err(|why| not_settings("install hook", &path, &why))?;
    let changed = before.as_ref() != Some(&after);
    if changed && !arguments.print {
        write(&path, before.as_deref(), Some(&after))?;
        let receipt = Receipt { settings: path.clone(), before, after: after.clone() };
        keep(context, &receipt);
    }
    finish(context, arguments, path, Some(&after), changed)
}

pub(super) fn uninstall(context: &Context, arguments: &HookSettings) -> anyhow::Result<ExitCode> {
    let path = path(context, arguments)?;
    let Some(before) = read(&path)? else { return finish(context, arguments, path, None, false) };
    let receipt = kept(context, &path).filter(|receipt| receipt.after == before);
    let after = if let Some(receipt) = receipt {
        receipt.before
    } else {
        let text = settings::uninstall(&before);
        Some(text.map_err(|why| not_settings("uninstall hook", &path, &why))?)
    };
    let changed = after.as_ref() != Some(&before);
    if changed && !arguments.print {
        write(&path, Some(&before), after.as_deref())?;
    }
    finish(context, arguments, path, after.as_deref(), changed)
}

fn finish(
    context: &Context,
    arguments: &HookSettings,
    path: PathBuf,
    after: Option<&str>,
    changed: bool,
) -> anyhow::Result<ExitCode> {
    if arguments.print {
        io::stdout().lock().write_all(after.unwrap_or_default().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let hooked = Hooked { settings: path, events: EVENTS, changed };
    let what = if changed { "changed" } else { "nothing to change in" };
    let text = format!("{what} {} (hooks for {})\n", hooked.settings.display(), EVENTS.join(" and "));
    print_one(&context.global, &hooked, || text)?;
    Ok(ExitCode::SUCCESS)
}

/// The settings file. A link is followed: people keep settings elsewhere and link to them.
fn path(context: &Context, arguments: &HookSettings) -> Result<PathBuf> {
    let sources = context.environment.sources();
    let configured = sources.variables.iter().find(|(name, _)| name == "CLAUDE_CONFIG_DIR");
    let path = match (&arguments.settings, configured, &sources.home) {
        (Some(path), _, _) => path.clone(),
        (None, Some((_, folders)), _) => {
            let folders = folders.to_string_lossy();
            Path::new(folders.split(',').next().unwrap_or_default().trim()).join("settings.json")
        }
        (None, None, Some(home)) => home.join(".claude/settings.json"),
        (None, None, None) => {
            let message = "HOME is not set; name the file with --settings";
            return Err(Error::new(ErrorKind::Invalid, "find settings", message));
        }
    };
    Ok(fs::canonicalize(&path).or_else(|_| std::path::absolute(&path)).unwrap_or(path))
}

/// This program by its whole path: an agent may have another PATH than this shell.
fn command() -> Result<String> {
    let program = std::env::current_exe().map_err(|error| {
        Error::new(ErrorKind::Unavailable, "install hook", "the system does not tell where this program is")
            .caused_by(error)
    })?;
    let program = program.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    let quoted = format!("'{}'", program.replace('\'', r"'\''"));
    Ok(format!("{}{COMMAND_END}", if program.chars().all(is_plain) { program.to_string() } else { quoted }))
}

fn not_settings(operation: &'static str, path: &Path, why: &str) -> Error {
    let message = format!(
        "{why}; the file was left as it is: mend it, or add by hand what --print shows for an empty one"
    );
    Error::new(ErrorKind::Invalid, operation, message).at(path.display())
}

fn failed(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    move |error| {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
            io::ErrorKind::InvalidData | io::ErrorKind::IsADirectory => ErrorKind::Invalid,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, operation, "the settings were left as they are").at(path.display()).caused_by(error)
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read settings", path)(error)),
    }
}

/// Replaces the file whole, or removes it, unless it changed since it was read. Keeps its mode.
fn write(path: &Path, before: Option<&str>, after: Option<&str>) -> Result<()> {
    let failed = failed("write settings", path);
    if read(path)?.as_deref() != before {
        let message = "the settings changed this very moment; try again";
        return Err(Error::new(ErrorKind::Conflict, "write settings", message).at(path.display()));
    }
    let Some(after) = after else { return fs::remove_file(path).map_err(failed) };
    let beside = path.with_extension(format!("json.new-{}", std::process::id()));
    let replace = || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&beside)?;
        file.write_all(after.as_bytes())?;
        if let Ok(metadata) = fs::metadata(path) {
            file.set_permissions(metadata.permissions())?;
        }
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    replace().map_err(|error| {
        // Best effort: the error is what matters.
        let _ = fs::remove_file(&beside);
        failed(error)
    })
}

fn receipt_path(context: &Context) -> PathBuf {
    context.environment.home.folder().join("host").join("hook-claude-code.json")
}

/// Keeps the receipt. Without one an uninstall takes the hooks out of the text as it finds it.
fn keep(context: &Context, receipt: &Receipt) {
    let _ = context
        .environment
        .home
        .keep_private(&receipt_path(context), &serde_json::to_vec(receipt).expect("plain data"));
}

fn kept(context: &Context, path: &Path) -> Option<Receipt> {
    let text = fs::read(receipt_path(context)).ok()?;
    serde_json::from_slice(&text).ok().filter(|receipt: &Receipt| receipt.settings == path)
}
