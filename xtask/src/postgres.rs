//! Makes sure that the tests of the Postgres backend find its binaries. Starts nothing: the tests start and stop a
//! private cluster themselves.

use crate::output::say;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the tests need.
const BINARIES: [&str; 2] = ["initdb", "postgres"];

/// Returns whether the binaries are there, installing them with apt where they are not and that may be done.
pub(crate) fn provide() -> Result<bool> {
    if std::env::var_os("BURNLOG_TEST_POSTGRES").is_some_and(|url| !url.is_empty()) || installed() {
        return Ok(true);
    }
    say("   no Postgres binaries found: trying apt-get install postgresql")?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let done =
        apt(&["update", "-qq"]) && apt(&["install", "-y", "-qq", "--no-install-recommends", "postgresql"]);
    if done && installed() {
        return Ok(true);
    }
    say(
        "   Postgres is missing: install its server (Debian: apt-get install postgresql), or set BURNLOG_TEST_POSTGRES=URL",
    )?;
    Ok(false)
}

fn installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folders: Vec<PathBuf> =
        std::env::split_paths(&path).chain(versions.map(|version| version.path().join("bin"))).collect();
    let has_all = |folder: &PathBuf| BINARIES.iter().all(|name| Path::is_file(&folder.join(name)));
    folders.iter().any(has_all)
}
