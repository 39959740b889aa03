//! A Postgres server of its own for `bench`: a folder, a socket in it that nobody else can reach, all of it durable. Shares
//! no code with the cluster of the adapter's tests.

use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running server. It ends, and its folder goes, when this is dropped.
pub(super) struct Server {
    folder: PathBuf,
    binaries: PathBuf,
    child: Child,
}

impl Server {
    /// Starts a server. Fails, with what to install, where there is none.
    pub(super) fn start() -> Result<Self> {
        let binaries = binaries().context("no PostgreSQL server found: apt-get install postgresql")?;
        let folder = std::env::temp_dir().join(format!("burnlog-bench-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        let account = account()?;
        if let Some((user, group)) = account {
            chown(&folder, Some(user), Some(group))?;
        }
        let as_account = |program: &str| {
            let mut command = Command::new(binaries.join(program));
            command.current_dir(&folder).stdout(Stdio::null());
            if let Some((user, group)) = account {
                command.uid(user).gid(group);
            }
            command
        };
        let data = folder.join("data");
        let initialised =
            as_account("initdb").arg("-D").arg(&data).args(["-U", "burnlog", "--auth=trust"]).output();
        let initialised = initialised.context("start initdb")?;
        ensure!(initialised.status.success(), "initdb: {}", String::from_utf8_lossy(&initialised.stderr));
        let mut postgres = as_account("postgres");
        postgres.arg("-D").arg(&data).arg("-k").arg(&folder).args(["-c", "listen_addresses="]);
        let child =
            postgres.stderr(fs::File::create(folder.join("log"))?).spawn().context("start postgres")?;
        let mut server = Self { folder, binaries, child };
        while server.psql("postgres", &["-c", "select 1"]).is_err() {
            if let Some(ended) = server.child.try_wait()? {
                bail!("postgres {ended}: {}", fs::read_to_string(server.folder.join("log"))?);
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Ok(server)
    }

    /// Makes an empty database and returns its URL.
    pub(super) fn database(&self, name: &str) -> Result<String> {
        self.psql("postgres", &["-c", &format!("drop database if exists {name} with (force)")])?;
        self.psql("postgres", &["-c", &format!("create database {name}")])?;
        let folder = self.folder.to_str().context("the temporary folder is UTF-8")?;
        Ok(format!("postgres://burnlog@{}/{name}", folder.replace('/', "%2F")))
    }

    /// Runs `psql` on a database; everything it is told must succeed.
    pub(super) fn psql(&self, database: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.binaries.join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "burnlog", "-d", database]);
        let output = command.arg("-h").arg(&self.folder).args(arguments).output().context("start psql")?;
        ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An immediate end: nothing of it is kept.
        let stopped = Command::new("kill").args(["-QUIT", &self.child.id().to_string()]).status();
        if stopped.is_ok() {
            let _ = self.child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn binaries() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = versions.into_iter().rev().map(|(_, folder)| folder).chain(std::env::split_paths(&path));
    let has = |folder: &Path| ["initdb", "postgres", "psql"].iter().all(|name| folder.join(name).is_file());
    folders.into_iter().find(|folder| has(folder))
}

/// Whom the server runs as: it refuses to run as root.
fn account() -> Result<Option<(u32, u32)>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd")?;
    let line = accounts.lines().find(|line| line.starts_with("postgres:"));
    let mut numbers = line.context("no account `postgres`")?.split(':').skip(2).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(user)), Some(Ok(group))) => Ok(Some((user, group))),
        _ => bail!("the account `postgres` has no numbers"),
    }
}
