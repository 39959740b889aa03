//! PgBouncer in transaction mode between the backend and the server: every transaction may get another connection.

use crate::database;
use burnlog_log::Backend;
use burnlog_log::conformance::Fixture;
use burnlog_log::conformance::build::{Event, TestFeed, assert_feed};
use burnlog_postgres::{Database, PostgresBackend, PostgresOptions};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};

/// How many connections the pooler makes to one database: fewer than the backend makes to it.
const SERVER_CONNECTIONS: usize = 2;

/// Ends the pooler, by its process id, when the input ends, and removes its folder.
const GUARDIAN: &str =
    r#"folder=$1; shift; "$@" & pooler=$!; read -r _; kill $pooler; wait $pooler; rm -rf "$folder""#;

/// A running PgBouncer before the server of this process; ends with the process.
struct Pooler {
    address: String,
    _guardian: Child,
}

fn find_binary() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    folders
        .map(|folder| folder.join("pgbouncer"))
        .find(|file| file.is_file())
        .expect("no pgbouncer found: apt-get install pgbouncer")
}

/// The server behind: host, port, user, password as PgBouncer writes them.
fn server(database: &Database) -> String {
    let (who, place) = database.url().strip_prefix("postgres://").unwrap().split_once('@').unwrap();
    let (user, password) = who.split_once(':').unwrap_or((who, ""));
    let address = place.split('/').next().unwrap();
    let (host, port) = address.split_once(':').unwrap_or((address, "5432"));
    let password = password.replace("%40", "@").replace('\'', "''");
    format!("host={host} port={port} user={user} password='{password}'")
}

impl Pooler {
    fn shared() -> &'static Self {
        static SHARED: OnceLock<Pooler> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&server(&database())))
    }

    fn start(server: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("burnlog-pgbouncer-").tempdir().unwrap().keep();
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut text = format!("[databases]\n* = {server}\n[pgbouncer]\n");
        for (name, value) in [
            ("listen_addr", "127.0.0.1"),
            ("listen_port", &port.to_string()),
            ("unix_socket_dir", ""),
            ("auth_type", "any"),
            ("pool_mode", "transaction"),
            ("default_pool_size", &SERVER_CONNECTIONS.to_string()),
            ("max_client_conn", "500"),
            ("server_idle_timeout", "5"),
        ] {
            writeln!(text, "{name} = {value}").unwrap();
        }
        let file = folder.join("pgbouncer.ini");
        std::fs::write(&file, text).unwrap();
        let mut guardian = Self::command(&folder, &file).spawn().unwrap();
        let mut said = Vec::new();
        let lines = BufReader::new(guardian.stderr.take().unwrap()).lines().map_while(Result::ok);
        let is_up = lines.inspect(|line| said.push(line.clone())).any(|line| line.contains("process up"));
        if !is_up {
            drop(guardian.stdin.take());
            let ended = guardian.wait();
            panic!("pgbouncer ended ({ended:?}): {said:?}");
        }
        Self { address: format!("127.0.0.1:{port}"), _guardian: guardian }
    }

    fn command(folder: &Path, file: &Path) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GUARDIAN, "guardian"]).arg(folder).arg(find_binary());
        // It refuses to run as root.
        if std::fs::metadata("/proc/self").is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0) {
            command.args(["-u", "nobody"]);
        }
        command.arg(file).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn url(&self, database: &Database) -> String {
        let name = database.url().rsplit('/').next().unwrap().split('?').next().unwrap();
        format!("postgres://anybody@{}/{name}?sslmode=disable", self.address)
    }
}

struct Pooled(Database);

impl Fixture for Pooled {
    fn create() -> Self {
        Self(database())
    }

    fn open(&self) -> Arc<dyn Backend> {
        Arc::new(open(&self.0))
    }
}

fn open(database: &Database) -> PostgresBackend {
    PostgresBackend::open(&Pooler::shared().url(database), &PostgresOptions::default()).unwrap()
}

burnlog_log::conformance!(Pooled);

#[test]
fn many_connections_share_few_of_the_server() {
    let database = database();
    let backends: Vec<PostgresBackend> = (0..6).map(|_| open(&database)).collect();
    // Each append notes which connection of the server it had.
    database
        .run(
            "create table burnlog.had (pid int4); create function burnlog.had() returns trigger language plpgsql as \
             $$ begin insert into burnlog.had values (pg_backend_pid()); return new; end $$; \
             create trigger had before insert on burnlog.entries for each row execute function burnlog.had()",
        )
        .unwrap();
    std::thread::scope(|scope| {
        for (backend, number) in backends.iter().zip(1..) {
            scope.spawn(move || {
                let mut feed = TestFeed::new(number);
                let events: Vec<Event> = ["shared", "own"]
                    .iter()
                    .flat_map(|name| {
                        Event::lines(&format!("{name} {}", u8::from(*name == "own") * number), 20)
                    })
                    .collect();
                events.chunks(4).for_each(|chunk| feed.append(backend, chunk).unwrap());
                assert_feed(backend, &feed, &events);
            });
        }
    });
    let had = database.rows("select pid, count(*) from burnlog.had group by pid").unwrap();
    assert!(had.len() <= SERVER_CONNECTIONS, "{had:?}");
    assert_eq!(backends[0].stat().unwrap().events, 20 + 6 * 20);
    backends[0].check(&mut |damage| panic!("{damage:?}")).unwrap();
}
