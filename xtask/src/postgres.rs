//! Makes sure that the tests of the Postgres backend find its binaries and PgBouncer's. Starts nothing: the tests start and
//! stop a private cluster themselves.

use crate::output::say;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Binaries that the tests need, and the package that brings them.
struct Needed {
    what: &'static str,
    binaries: &'static [&'static str],
    package: &'static str,
    otherwise: &'static str,
}

const SERVER: Needed = Needed {
    what: "Postgres",
    binaries: &["initdb", "postgres"],
    package: "postgresql",
    otherwise: ", or set BURNLOG_TEST_POSTGRES=URL",
};
const POOLER: Needed =
    Needed { what: "PgBouncer", binaries: &["pgbouncer"], package: "pgbouncer", otherwise: "" };

/// Returns whether the binaries are there, installing them with apt where they are not and that may be done.
pub(crate) fn provide() -> Result<bool> {
    let is_given = std::env::var_os("BURNLOG_TEST_POSTGRES").is_some_and(|url| !url.is_empty());
    let missing: Vec<&Needed> = [&SERVER, &POOLER]
        .into_iter()
        .filter(|it| !(it.is_installed() || is_given && it.what == "Postgres"))
        .collect();
    if missing.is_empty() {
        return Ok(true);
    }
    let packages: Vec<&str> = missing.iter().map(|it| it.package).collect();
    say(format!("   no binaries found: trying apt-get install {}", packages.join(" ")))?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let install = [&["install", "-y", "-qq", "--no-install-recommends"][..], &packages].concat();
    let done = apt(&["update", "-qq"]) && apt(&install);
    let mut all_there = true;
    for needed in missing {
        if !(done && needed.is_installed()) {
            let Needed { what, package, otherwise, .. } = needed;
            say(format!("   {what} is missing: install it (Debian: apt-get install {package}){otherwise}"))?;
            all_there = false;
        }
    }
    Ok(all_there)
}

impl Needed {
    fn is_installed(&self) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let folders: Vec<PathBuf> = std::env::split_paths(&path)
            .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
            .chain(versions.map(|version| version.path().join("bin")))
            .collect();
        let has_all = |folder: &PathBuf| self.binaries.iter().all(|name| Path::is_file(&folder.join(name)));
        folders.iter().any(has_all)
    }
}
