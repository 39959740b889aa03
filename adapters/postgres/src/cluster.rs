//! A private Postgres cluster for tests and measurements: one folder, one free port, gone with the process that
//! started it, however that ends. Behind the feature `cluster`; no part of a ledger.

use crate::options::PostgresOptions;
use crate::pool::Pool;
use crate::target::Target;
use burnlog_log::{Error, ErrorKind, Result};
use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The password of the cluster's superuser `burnlog`.
const PASSWORD: &str = "cluster@secret";

/// Starts the server anew at each line of its standard input, without letting it put anything in order. When the input
/// ends, which it does with the process that holds the other side, it stops the server by its process id and removes the
/// folder.
const GUARDIAN: &str = r#"folder=$1; shift; "$@" & server=$!
while read -r _; do kill -QUIT $server; wait $server; "$@" & server=$!; done
kill -QUIT $server 2>/dev/null; wait $server; rm -rf "$folder""#;

/// Runs what follows as user `$1` of group `$2`, in mounts of its own, with a disk of `$3` bytes at [`SMALL_DISK`]. Root gives
/// up its rights for it; anybody else takes them in a namespace of their own, and is themselves again after the mount.
const WITH_SMALL_DISK: &str = r#"user=$1; group=$2; bytes=$3; shift 3
export user group bytes
mount='mount -t tmpfs -o size=$bytes,mode=0700,uid=$owner,gid=$owning_group none /mnt &&'
if [ "$(id -u)" = 0 ]; then
    exec env owner="$user" owning_group="$group" unshare -m sh -c "$mount"' exec setpriv --reuid=$user --regid=$group --clear-groups "$@"' sh "$@"
fi
exec env owner=0 owning_group=0 unshare -rm sh -c "$mount"' exec unshare -U --map-user=$user --map-group=$group "$@"' sh "$@""#;

/// What the server says when it has ended.
const IS_DOWN: &str = "database system is shut down";

/// Where a server that was started with [`Cluster::start_with_small_disk`] has its small disk; nobody else sees it.
pub const SMALL_DISK: &str = "/mnt";

/// A running server with a superuser.
pub struct Cluster {
    pool: Pool,
    url: String,
    /// Ends the server when it is dropped; absent for a server that was given.
    guardian: Option<Child>,
    /// What the server says.
    log: Mutex<Receiver<String>>,
}

/// A database of its own in a cluster; dropped with this value.
pub struct Database {
    cluster: &'static Cluster,
    pool: Pool,
    name: String,
    url: String,
}

/// One connection, kept until this value is dropped.
pub struct Connection(Pool);

impl Cluster {
    /// Returns the cluster of this process: started at the first call, or the server that `BURNLOG_TEST_POSTGRES`
    /// names (a URL of a role that may create databases).
    ///
    /// `NotFound`, with what to install, where there are no binaries.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Cluster>> = OnceLock::new();
        let started = SHARED.get_or_init(|| match std::env::var("BURNLOG_TEST_POSTGRES") {
            Ok(url) if !url.is_empty() => Self::given(&url),
            // What a crash of the machine would lose does not matter to a test.
            _ => Self::start(&["-c", "fsync=off", "-c", "full_page_writes=off"]),
        });
        started.as_ref().map_err(|error| {
            Error::new(error.kind(), error.operation(), error.message()).at(error.location())
        })
    }

    /// Starts a cluster with these arguments of `postgres` and keeps it for the rest of the process.
    pub fn start_for_ever(arguments: &[&str]) -> Result<&'static Self> {
        Self::start(arguments).map(|cluster| &*Box::leak(Box::new(cluster)))
    }

    /// Starts a cluster that offers TLS with this certificate and key (files in PEM), for the rest of the process.
    pub fn start_with_tls(certificate: &Path, key: &Path) -> Result<&'static Self> {
        let arguments = ["-c", "ssl=on", "-c", "ssl_cert_file=server.pem", "-c", "ssl_key_file=server.key"];
        let files = [(certificate, "server.pem"), (key, "server.key")];
        Self::start_as(&arguments, &files, None).map(|cluster| &*Box::leak(Box::new(cluster)))
    }

    /// Starts a cluster that has a disk of so many bytes at [`SMALL_DISK`], for tablespaces, for the rest of the process.
    ///
    /// `Unavailable` where this process may not mount.
    pub fn start_with_small_disk(bytes: u64) -> Result<&'static Self> {
        let arguments = ["-c", "fsync=off", "-c", "full_page_writes=off"];
        Self::start_as(&arguments, &[], Some(bytes)).map(|cluster| &*Box::leak(Box::new(cluster)))
    }

    /// Starts a cluster with these arguments of `postgres`.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        Self::start_as(arguments, &[], None)
    }

    fn start_as(arguments: &[&str], files: &[(&Path, &str)], small_disk: Option<u64>) -> Result<Self> {
        let binaries = find_binaries()?;
        let account = Account::unprivileged()?;
        let folder = make_folder(&account)?;
        let data = initialise(&account, &binaries, &folder)?;
        for (from, name) in files {
            account.copy(from, &data.join(name)).map_err(|error| failed(from, error))?;
        }
        let mut last = String::new();
        // Between finding a free port and using it somebody else may take it.
        for _ in 0..5 {
            let port = free_port().map_err(|error| failed(&folder, error))?;
            let mut server = match small_disk {
                None => account.command(Path::new("/bin/sh"), &folder),
                Some(bytes) => account.command_with_small_disk(bytes, &folder),
            };
            server.args(["-c", GUARDIAN, "guardian"]).arg(&folder).arg(binaries.join("postgres"));
            server.arg("-D").arg(&data).arg("-k").arg(&folder).args(["-p", &port.to_string()]);
            server.args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=200"]).args(arguments);
            let mut guardian = server
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .process_group(0)
                .spawn()
                .map_err(|error| failed(&folder, error))?;
            let log = listen(&mut guardian);
            match wait_until_ready(&log) {
                Ok(()) => {
                    let password = PASSWORD.replace('@', "%40");
                    let url = format!("postgres://burnlog:{password}@127.0.0.1:{port}/postgres");
                    let mut cluster = Self::given(&url)?;
                    cluster.guardian = Some(guardian);
                    cluster.log = Mutex::new(log);
                    return Ok(cluster);
                }
                Err(said) => {
                    drop(guardian.stdin.take());
                    let _ = guardian.wait();
                    last = said;
                }
            }
        }
        Err(failed(&folder, last))
    }

    /// Uses a server that runs already.
    pub fn given(url: &str) -> Result<Self> {
        let pool = Pool::new(Target::parse(url)?, &PostgresOptions::default())?;
        Ok(Self { pool, url: url.to_owned(), guardian: None, log: Mutex::new(channel().1) })
    }

    /// Ends the server as a power failure would, starts it again, and returns when it takes connections.
    ///
    /// `Unsupported` for a server that was given.
    pub fn restart_immediately(&self) -> Result<()> {
        let failed = |why: String| Error::new(ErrorKind::Unavailable, "restart postgres", why);
        let Some(mut input) = self.guardian.as_ref().and_then(|guardian| guardian.stdin.as_ref()) else {
            let message = "only a server that was started here is restarted";
            return Err(Error::new(ErrorKind::Unsupported, "restart postgres", message));
        };
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        // What it said so far is not the answer, and what it says of its end is not that it failed to start.
        log.try_iter().for_each(drop);
        input.write_all(b"again\n").map_err(|error| failed(error.to_string()))?;
        if !log.iter().any(|line| line.contains(IS_DOWN)) {
            return Err(failed("the server is gone".to_owned()));
        }
        wait_until_ready(&log).map_err(failed)
    }

    /// Makes a new, empty database.
    pub fn database(&'static self) -> Result<Database> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("burnlog_test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        self.run(&format!("create database {name} template template0"))?;
        let (place, query) = self.url.split_once('?').unwrap_or((&self.url, ""));
        let place = place.rsplit_once('/').map_or(place, |(place, _)| place);
        let url =
            if query.is_empty() { format!("{place}/{name}") } else { format!("{place}/{name}?{query}") };
        let pool = Pool::new(Target::parse(&url)?, &PostgresOptions::default())?;
        Ok(Database { cluster: self, pool, name, url })
    }

    /// Runs statements as the superuser, outside any database of a test.
    pub fn run(&self, sql: &str) -> Result<()> {
        self.pool.plain("run", async |session| session.run(sql).await)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut guardian) = self.guardian.take() {
            drop(guardian.stdin.take());
            let _ = guardian.wait();
        }
    }
}

impl Database {
    /// Returns its URL, password included.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns its URL with another option added: `ledger=NAME`, `sslmode=require`, …
    pub fn url_with(&self, option: &str) -> String {
        let separator = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{separator}{option}", self.url)
    }

    /// Returns its URL for another role.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        let behind = self.url.split_once('@').map_or("", |(_, behind)| behind);
        format!("postgres://{user}:{password}@{behind}")
    }

    /// Dumps it with `pg_dump`, as a nightly backup does, and returns the archive.
    pub fn dump(&self) -> Result<Vec<u8>> {
        let mut dump = Command::new(find_program("pg_dump")?);
        dump.args(["--format=custom", "--dbname", &self.url]);
        let done = dump.output().map_err(|error| failed(Path::new("pg_dump"), error))?;
        succeeded("pg_dump", &done.stderr, done.status.success())?;
        Ok(done.stdout)
    }

    /// Puts what [`Database::dump`] returned in its place, with `pg_restore`. Everybody's connection ends.
    pub fn restore(&self, archive: &[u8]) -> Result<()> {
        let file = std::env::temp_dir().join(format!("{}.dump", self.name));
        std::fs::write(&file, archive).map_err(|error| failed(&file, error))?;
        self.cluster.run(&format!("drop database {} with (force)", self.name))?;
        self.cluster.run(&format!("create database {} template template0", self.name))?;
        let mut restore = Command::new(find_program("pg_restore")?);
        restore.args(["--exit-on-error", "--dbname", &self.url]).arg(&file);
        let done = restore.output().map_err(|error| failed(Path::new("pg_restore"), error))?;
        let _ = std::fs::remove_file(&file); // in the folder for what is temporary
        succeeded("pg_restore", &done.stderr, done.status.success())
    }

    /// Makes one connection of the superuser, with transactions and locks of its own.
    pub fn connect(&self) -> Result<Connection> {
        let options = PostgresOptions { connections: 1, ..PostgresOptions::default() };
        Ok(Connection(Pool::new(Target::parse(&self.url)?, &options)?))
    }

    /// Runs statements as the superuser.
    pub fn run(&self, sql: &str) -> Result<()> {
        self.pool.plain("run", async |session| session.run(sql).await)
    }

    /// Runs one statement as the superuser and returns its rows as text.
    pub fn rows(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        self.pool.plain("run", async |session| session.rows_as_text(sql).await)
    }
}

impl Connection {
    /// Runs statements.
    pub fn run(&self, sql: &str) -> Result<()> {
        self.0.plain("run", async |session| session.run(sql).await)
    }

    /// Runs one statement and returns its rows as text.
    pub fn rows(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        self.0.plain("run", async |session| session.rows_as_text(sql).await)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The cluster goes away with the process; a given server keeps what cannot be dropped now.
        let _ = self.cluster.run(&format!("drop database if exists {} with (force)", self.name));
    }
}

fn succeeded(program: &str, said: &[u8], has_succeeded: bool) -> Result<()> {
    if has_succeeded {
        return Ok(());
    }
    let message = format!("{program} failed: {}", String::from_utf8_lossy(said));
    Err(Error::new(ErrorKind::Unavailable, "run postgres", message))
}

/// Finds the folder with `initdb` and `postgres`.
fn find_binaries() -> Result<PathBuf> {
    find_folder_with(&["initdb", "postgres"])
}

/// Finds a program that comes with the server; it need not be in the server's folder.
fn find_program(name: &str) -> Result<PathBuf> {
    find_folder_with(&[name]).map(|folder| folder.join(name))
}

/// Finds the folder with these programs: in the search path, else where distributions put the newest version.
fn find_folder_with(programs: &[&str]) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    folders.extend(versions.into_iter().rev().map(|(_, folder)| folder));
    let found = folders
        .into_iter()
        .find(|folder| folder.is_absolute() && programs.iter().all(|program| folder.join(program).is_file()));
    found.ok_or_else(|| {
        let message =
            "no PostgreSQL server found: apt-get install postgresql, or set BURNLOG_TEST_POSTGRES=URL";
        Error::new(ErrorKind::NotFound, "start postgres", message)
    })
}

/// The account that the server runs as: it refuses to run as root.
struct Account(Option<(u32, u32)>);

impl Account {
    fn unprivileged() -> Result<Self> {
        let myself = std::fs::metadata("/proc/self").map(|metadata| metadata.uid());
        if myself.is_ok_and(|uid| uid != 0) {
            return Ok(Self(None));
        }
        let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let find = |name: &str| {
            let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut numbers = line.split(':').skip(2).map(str::parse);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
        };
        find("postgres").or_else(|| find("nobody")).map(|account| Self(Some(account))).ok_or_else(|| {
            let message = "a server cannot run as root, and there is no account `postgres` or `nobody`";
            Error::new(ErrorKind::NotFound, "start postgres", message)
        })
    }

    /// Copies a file so that the account, and nobody else, can read it.
    fn copy(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        std::fs::write(to, std::fs::read(from)?)?;
        std::fs::set_permissions(to, Permissions::from_mode(0o600))?;
        match self.0 {
            Some((user, group)) => chown(to, Some(user), Some(group)),
            None => Ok(()),
        }
    }

    fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
        if let Some((user, group)) = self.0 {
            command.uid(user).gid(group);
        }
        command
    }

    /// A command as this account, for a program and its arguments that follow, which sees a small disk at [`SMALL_DISK`].
    fn command_with_small_disk(&self, bytes: u64, folder: &Path) -> Command {
        let mut command = Self(None).command(Path::new("/bin/sh"), folder);
        let own = || std::fs::metadata("/proc/self").map(|it| (it.uid(), it.gid())).unwrap_or_default();
        let (user, group) = self.0.unwrap_or_else(own);
        command.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").args(["-c", WITH_SMALL_DISK, "small"]);
        command.args([user.to_string(), group.to_string(), bytes.to_string()]).arg("/bin/sh");
        command
    }
}

/// Makes the data folder of a cluster.
fn initialise(account: &Account, binaries: &Path, folder: &Path) -> Result<PathBuf> {
    let data = folder.join("data");
    std::fs::write(folder.join("password"), PASSWORD).map_err(|error| failed(folder, error))?;
    let mut initdb = account.command(&binaries.join("initdb"), folder);
    initdb.arg("-D").arg(&data).arg("--pwfile").arg(folder.join("password")).args([
        "-U",
        "burnlog",
        "--auth-local=trust",
        "--auth-host=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
    ]);
    let output = initdb.output().map_err(|error| failed(folder, error))?;
    if output.status.success() {
        Ok(data)
    } else {
        Err(failed(folder, String::from_utf8_lossy(&output.stderr)))
    }
}

fn make_folder(account: &Account) -> Result<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| failed(Path::new(""), error))?;
    // A folder for temporary files of root alone is of no use to another account.
    let parent = if account.0.is_some() { PathBuf::from("/tmp") } else { std::env::temp_dir() };
    let folder = parent.join(format!("burnlog-postgres-{:016x}", u64::from_le_bytes(random)));
    std::fs::DirBuilder::new().mode(0o700).create(&folder).map_err(|error| failed(&folder, error))?;
    if let Some((user, group)) = account.0 {
        chown(&folder, Some(user), Some(group)).map_err(|error| failed(&folder, error))?;
    }
    Ok(folder)
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Hears what the server says, to its end, so that it never waits for somebody to read its log.
fn listen(guardian: &mut Child) -> Receiver<String> {
    let (said, heard) = channel();
    if let Some(log) = guardian.stderr.take() {
        std::thread::spawn(move || read_log(log, &said));
    }
    heard
}

/// Waits for the server to say that it is ready; where it ends before, returns what it said.
fn wait_until_ready(log: &Receiver<String>) -> std::result::Result<(), String> {
    let mut said = String::new();
    for line in log {
        if line.contains("ready to accept connections") {
            return Ok(());
        }
        // The last line before it gives up; the guardian itself still waits for its input to end. Whoever connects too
        // early is told so with FATAL as well.
        let over = line.contains(IS_DOWN)
            || line.contains("FATAL")
                && !["the database system is", "terminating"].iter().any(|usual| line.contains(usual));
        said.push_str(&line);
        said.push('\n');
        if over {
            break;
        }
    }
    Err(said)
}

fn read_log(log: impl Read, said: &Sender<String>) {
    for line in BufReader::new(log).split(b'\n').map_while(std::result::Result::ok) {
        let _ = said.send(String::from_utf8_lossy(&line).into_owned());
    }
}

fn failed(folder: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, "start postgres", why.to_string()).at(folder.display())
}
