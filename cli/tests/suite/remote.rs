//! A ledger on a server through the whole program: what hosts without a ledger of their own store and ask is what they
//! would store and ask at home, whatever backend is behind the server.

use crate::{Machine, claude_fixtures, text};
use burnlog_http::{Call, HttpOptions, HttpTarget, Operation};
use burnlog_postgres::Cluster;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

/// `burnlog serve` on a free port, with a ledger of one kind.
struct Served {
    machine: Machine,
    store: String,
    server: Child,
    url: String,
    /// Reads the log to its end, so that the server never waits for a reader.
    log: Option<std::thread::JoinHandle<String>>,
}

impl Served {
    fn start(kind: &str, more: &[&str]) -> Self {
        let machine = Machine::new("server");
        let store = format!("{kind}:{}", text(machine.path("served")));
        Self::over(machine, store, more)
    }

    fn over(machine: Machine, store: String, more: &[&str]) -> Self {
        let arguments = [&["serve", "--listen", "127.0.0.1:0", "--store", &store], more].concat();
        let mut server = machine.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let mut address = None;
        while address.is_none() {
            let line = lines.next().expect("it says where it listens").unwrap();
            address = line.split_once("listening on ").map(|(_, url)| url.to_owned());
        }
        let log = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>().join("\n"));
        let url = format!("{}/v1/ledgers/default", address.unwrap());
        Self { machine, store, server, url, log: Some(log) }
    }

    /// Stops it as a system does, and returns its log.
    fn stop(&mut self) -> String {
        let id = self.server.id().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(self.server.wait().unwrap().success());
        self.log.take().unwrap().join().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have been stopped.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

const SESSION: &str = "11111111-1111-4111-8111-111111111111";

fn everything_is_as_at_home(mut served: Served) {
    let (home, pod) = (Machine::new("pod"), Machine::new("pod"));
    home.ok(&["ingest", "--final", "--root", &claude_fixtures()]);
    let store = served.url.clone();
    let first = pod.json(&["ingest", "--final", "--store", &store, "--root", &claude_fixtures()]);
    assert!(first["new"].as_u64().unwrap() > 10, "{first}");
    let again = pod.json(&["ingest", "--store", &store, "--root", &claude_fixtures()]);
    assert_eq!((&again["unchanged"], &again["new"]), (&first["files"], &serde_json::json!(0)));
    assert!(
        !pod.path("burn/ledger").exists() && !pod.path("burn/projections").exists(),
        "nothing is kept here"
    );

    for command in [
        &["sessions"][..],
        &["sessions", "--json"],
        &["turns", "--json"],
        &["usage", "--by", "day,model", "--json"],
        &["content", "--json"],
        &["relationships", "--json"],
        &["relationships", "--tree"],
        &["conflicts", "--json"],
        &["diagnostics", "--json"],
        &["diagnostics", "--json", "--session", SESSION],
        &["diagnostics", "--json", "--host", "pod", "--since", "2026-03-02"],
        &["export", "--table", "usage_daily", "--host", "pod", "--since", "2026-03-02T08:00:01Z"],
        &["export", "--table", "diagnostics", "--project", "/work/demo"],
        &["show", SESSION],
        &["show", SESSION, "--format", "json"],
        &["export", "--table", "calls"],
        &["export", "--table", "records"],
        &["project", "dump"],
    ] {
        let there = pod.ok(&[command, &["--store", &store]].concat());
        assert_eq!(there, home.ok(command), "{command:?}");
        assert!(!there.is_empty() || command[0] == "conflicts", "{command:?}");
    }
    assert!(!home.rows(&["search", "the"]).is_empty());
    assert_eq!(pod.rows(&["search", "the", "--store", &store]), home.rows(&["search", "the"]));
    pod.ok(&["stamp", "--session", SESSION, "team=a", "--store", &store]);
    assert_eq!(pod.rows(&["sessions", "--tag", "team=a", "--store", &store]).len(), 1);
    let stamps =
        |filter: &str| pod.ok(&["export", "--table", "stamps", "--session", filter, "--store", &store]);
    assert!(stamps(SESSION).lines().count() == 1 && stamps("2222").is_empty());
    pod.ok(&["verify", "--store", &store]);
    pod.ok(&["restore", SESSION, "--store", &store, "--to", &text(pod.path("out"))]);
    home.ok(&["restore", SESSION, "--to", &text(home.path("out"))]);
    let restored =
        |machine: &Machine| std::fs::read(machine.path("out").join(format!("{SESSION}.jsonl"))).unwrap();
    assert_eq!(restored(&pod), restored(&home));
    let status = pod.json(&["status", "--store", &store]);
    assert_eq!(status["ledger"]["backend"], "http");
    assert_eq!(status["projections"][0]["behind"], 0);
    pod.ok(&["compact", "--store", &store]);

    // Erased there and here: both tell the same of what is left, and the search of the server finds nothing of it.
    let other = "22222222-2222-4222-8222-222222222222";
    pod.ok(&["erase", other, "--yes", "--store", &store]);
    home.ok(&["erase", other, "--yes"]);
    for command in [&["sessions", "--json"][..], &["content", "--json"], &["search", "width", "--json"]] {
        assert_eq!(pod.ok(&[command, &["--store", &store]].concat()), home.ok(command), "{command:?}");
    }

    // Another host brings its own ledger, and takes all of it back to another place.
    let local = format!("file:{}", text(home.ledger()));
    let pushed = home.json(&["replay", "--from", &local, "--to", &store]);
    let of = |report: &serde_json::Value| {
        (report["divergences"].clone(), report["feeds"].clone(), report["events_sent"].clone())
    };
    // All that the server lacks is who the other host is, and its receipt: the records are there already.
    assert_eq!(of(&pushed), (serde_json::json!([]), serde_json::json!(1), serde_json::json!(2)));
    let back = format!("file:{}", text(home.path("back")));
    let pulled = home.json(&["replay", "--from", &store, "--to", &back]);
    assert_eq!((&pulled["divergences"], &pulled["feeds"]), (&serde_json::json!([]), &serde_json::json!(2)));

    let log = served.stop();
    assert!(log.contains("\"operation\":\"append\"") && !log.contains("/work/demo"), "{log}");
    served.machine.ok(&["verify", "--store", &served.store]);
}

#[test]
fn a_jsonl_ledger_behind_a_server_is_as_at_home() {
    everything_is_as_at_home(Served::start("file", &["--log", "json"]));
}

#[test]
fn a_sqlite_ledger_behind_a_server_is_as_at_home() {
    everything_is_as_at_home(Served::start("sqlite", &["--log", "json"]));
}

#[test]
fn a_redb_ledger_behind_a_server_is_as_at_home() {
    everything_is_as_at_home(Served::start("redb", &["--log", "json"]));
}

#[test]
fn a_postgres_ledger_behind_a_server_is_as_at_home() {
    let database = Cluster::shared().and_then(Cluster::database).unwrap_or_else(|error| panic!("{error}"));
    everything_is_as_at_home(Served::over(
        Machine::new("server"),
        database.url().to_owned(),
        &["--log", "json"],
    ));
}

/// The folds count at home; before a server, which folds later, the ingest does.
#[test]
fn what_cannot_be_read_is_counted_alike_at_home_before_a_server_and_in_a_dry_run() {
    let served = Served::start("file", &[]);
    let (home, pod) = (Machine::new("pod"), Machine::new("pod"));
    let folder = home.path("odd/.claude/projects/p");
    std::fs::create_dir_all(&folder).unwrap();
    let session = format!("\"sessionId\":\"{SESSION}\"");
    let lines: [&[u8]; 9] = [
        b"\xef\xbb\xbf{\"type\":\"summary\"}",
        b" \t",
        b"",
        b"\0\0",
        b"[1]",
        b"{\"a\":1}{\"b\":2}",
        b"{\"type\":\"user\",\"text\":\"\xff\"}",
        b"\xff\xfe",
        b"{\"type\":\"user\"",
    ];
    let mut file = format!("{{{session},\"type\":\"user\"}}\n").into_bytes();
    for line in lines {
        file.extend_from_slice(line);
        file.push(b'\n');
    }
    std::fs::write(folder.join(format!("{SESSION}.jsonl")), file).unwrap();
    let root = text(home.path("odd"));
    let counted = |found: serde_json::Value| (found["records"].clone(), found["unreadable"].clone());
    let there = counted(pod.json(&["ingest", "--store", &served.url, "--root", &root]));
    let dry = counted(home.json(&["ingest", "--dry-run", "--root", &root]));
    let here = counted(home.json(&["ingest", "--root", &root]));
    assert_eq!(here, (10.into(), 4.into()));
    assert_eq!((&there, &dry), (&here, &here));
}

#[test]
fn tokens_are_made_listed_and_revoked_while_the_server_runs() {
    let mut served = Served::start("file", &[]);
    let (machine, pod) = (&served.machine, Machine::new("pod"));
    let made = machine.json(&["token", "create", "--scope", "append,read", "--name", "ci"]);
    let (id, token) = (made["id"].as_str().unwrap(), made["token"].as_str().unwrap());
    let run = |token: Option<&str>, arguments: &[&str]| {
        let mut command = pod.command(&[arguments, &["--json"]].concat());
        command.env("RELAYBURN_STORAGE", "http").env("RELAYBURN_HTTP_URL", &served.url);
        if let Some(token) = token {
            command.env("RELAYBURN_HTTP_TOKEN", token);
        }
        crate::Ended::of(command.output().unwrap())
    };
    let ingested = run(Some(token), &["ingest", "--root", &claude_fixtures()]);
    assert_eq!(ingested.code, 0, "{}", ingested.stderr);
    assert_eq!(run(Some(token), &["sessions"]).code, 0);
    for (token, arguments) in
        [(None, &["sessions"][..]), (Some("burnlog_guessed"), &["sessions"]), (Some(token), &["compact"])]
    {
        let ended = run(token, arguments);
        assert_eq!(ended.code, 2, "{arguments:?}");
        assert!(ended.stderr.contains("\"kind\":\"Denied\""), "{}", ended.stderr);
        assert!(!ended.stderr.contains("burnlog_"), "{}", ended.stderr);
    }
    let listed = machine.ok(&["token", "list", "--json"]);
    assert!(listed.contains("\"name\":\"ci\"") && !listed.contains(token), "{listed}");
    machine.ok(&["token", "revoke", id]);
    assert_eq!(run(Some(token), &["sessions"]).code, 2);
    // Who was refused can be told from the log, and nobody can use what stands there.
    let log = served.stop();
    let lines = |status: &str| log.lines().filter(|line| line.contains(status)).collect::<Vec<_>>();
    let (denied, unknown) = (lines("status=403"), lines("status=401"));
    assert!(!denied.is_empty() && denied.iter().all(|line| line.contains(id)), "{log}");
    assert!(unknown.iter().any(|line| line.contains(id)), "a token that was revoked: {log}");
    assert!(unknown.iter().any(|line| !line.contains(id)) && !log.contains(token), "{log}");
}

/// What is withheld is no damage, and what may be seen is shown.
#[test]
fn with_a_token_that_may_only_append_status_shows_a_part_and_verify_says_what_it_takes() {
    let served = Served::start("file", &[]);
    let pod = Machine::new("pod");
    let token = |scope: &str| served.machine.json(&["token", "create", "--scope", scope])["token"].clone();
    let (append, read) = (token("append"), token("read"));
    let run = |token: &serde_json::Value, arguments: &[&str]| {
        let mut command = pod.command(&[arguments, &["--store", &served.url]].concat());
        command.env("RELAYBURN_HTTP_TOKEN", token.as_str().unwrap());
        crate::Ended::of(command.output().unwrap())
    };
    assert_eq!(run(&append, &["ingest", "--root", &claude_fixtures()]).code, 0);
    let verified = run(&append, &["verify", "--json"]);
    assert_eq!((verified.code, verified.stdout.as_str()), (2, ""), "{}", verified.stderr);
    let error: serde_json::Value = serde_json::from_str(verified.stderr.trim()).unwrap();
    assert_eq!((&error["error"]["kind"], &error["error"]["operation"]), (&"Denied".into(), &"verify".into()));
    assert!(error["error"]["message"].as_str().unwrap().contains("scope read"), "{error}");
    let verified = run(&read, &["verify", "--json"]);
    assert_eq!(verified.code, 0, "it may not check the store itself, and says so");
    let unchecked =
        verified.stdout.lines().find(|line| line.contains("\"code\":\"store-unchecked\"")).unwrap();
    assert!(unchecked.contains("\"severity\":\"warning\""), "{unchecked}");

    let shown = run(&append, &["status"]);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    assert!(shown.stdout.contains("not shown: hosts and projections"), "{}", shown.stdout);
    let json = run(&append, &["status", "--json"]).stdout;
    let status: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert!(
        status["ledger"]["events"].as_u64().unwrap() > 10 && status["feeds"][0]["size"].is_u64(),
        "{json}"
    );
    assert!(status["withheld"].as_str().unwrap().contains("scope read"), "{json}");
    let json = run(&read, &["status", "--json"]).stdout;
    let status: serde_json::Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!(
        (&status["withheld"], &status["projections"][0]["behind"]),
        (&serde_json::Value::Null, &0.into())
    );
}

#[test]
fn a_host_that_is_not_known_is_said_with_those_that_are() {
    let machine = Machine::new("laptop");
    machine.ok(&["ingest", "--root", &claude_fixtures()]);
    assert!(!machine.ok(&["sessions", "--host", "laptop"]).is_empty());
    for (command, host) in [("sessions", "laptob"), ("turns", ""), ("usage", "Laptop")] {
        let ended = machine.run(&[command, "--host", host]);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{command}");
        assert!(ended.stderr.contains(&format!("no host {host:?}; known: laptop")), "{}", ended.stderr);
    }
}

/// What a store says of itself, where it is and how it failed, is for whoever runs the server.
#[test]
fn a_store_that_fails_is_told_to_the_log_alone() {
    let mut served = Served::start("file", &["--log", "json"]);
    let pod = Machine::new("pod");
    let folder = text(served.machine.path("served"));
    let ingest = ["ingest", "--store", &served.url, "--root", &claude_fixtures()];
    pod.ok(&ingest);
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::write(&folder, "in the way").unwrap();
    let failed = pod.run(&["compact", "--store", &served.url]);
    assert_eq!(failed.code, 2, "{}", failed.stderr);
    assert!(failed.stderr.contains(&served.url), "{}", failed.stderr);
    let place = text(served.machine.path(""));
    let place = place.trim_end_matches('/');
    assert!(!failed.stderr.contains(place), "{}", failed.stderr);
    let log = served.stop();
    let failure = log.lines().find(|line| line.contains("\"failure\"")).expect("it is in the log");
    assert!(failure.contains(&folder) && failure.contains("\"request\""), "{failure}");
}

#[test]
fn lists_are_served_to_any_program_with_the_fields_of_the_command_line() {
    let served = Served::start("file", &[]);
    let pod = Machine::new("pod");
    pod.ok(&["ingest", "--store", &served.url, "--root", &claude_fixtures()]);
    let link = burnlog_http::open(&HttpTarget::parse(&served.url).unwrap(), &HttpOptions::default()).unwrap();
    let list = |operation: Operation, parameters: &[(&str, &str)]| {
        let call = parameters.iter().fold(Call::new(operation), |call, (name, value)| call.with(name, value));
        link.ask("list", call).map(|body| String::from_utf8(body).unwrap())
    };
    for (operation, command) in [
        (Operation::Sessions, &["sessions", "--json"][..]),
        (Operation::Turns, &["turns", "--json"]),
        (Operation::Usage, &["usage", "--json"]),
        (Operation::Content, &["content", "--json"]),
        (Operation::Relationships, &["relationships", "--json"]),
    ] {
        let printed = pod.ok(&[command, &["--store", &served.url]].concat());
        let mut printed: Vec<&str> = printed.lines().collect();
        let listed = list(operation, &[]).unwrap();
        let mut listed: Vec<&str> = listed.lines().collect();
        if operation == Operation::Usage {
            // The command orders groups by size, for people.
            printed.sort_unstable();
            listed.sort_unstable();
        }
        assert_eq!(listed, printed, "{command:?}");
    }
    // Two pages put together are the whole list.
    let whole = list(Operation::Turns, &[]).unwrap();
    let first = list(Operation::Turns, &[("limit", "2")]).unwrap();
    let lines: Vec<&str> = first.lines().collect();
    let next: serde_json::Value = serde_json::from_str(lines[2]).unwrap();
    let rest = list(Operation::Turns, &[("after", next["next"].as_str().unwrap())]).unwrap();
    assert_eq!([&lines[..2], &rest.lines().collect::<Vec<_>>()].concat(), whole.lines().collect::<Vec<_>>());
    // So are the blocks, page by page.
    let whole = list(Operation::Content, &[]).unwrap();
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let mut parameters = vec![("limit", "3")];
        parameters.extend(after.as_deref().map(|after| ("after", after)));
        let page = list(Operation::Content, &parameters).unwrap();
        let mut lines: Vec<String> = page.lines().map(str::to_owned).collect();
        assert!(lines.len() <= 4, "{page}");
        let last: serde_json::Value = serde_json::from_str(lines.last().unwrap()).unwrap();
        after = last["next"].as_str().map(str::to_owned);
        lines.truncate(lines.len() - usize::from(after.is_some()));
        pages.append(&mut lines);
        if after.is_none() {
            break;
        }
    }
    assert!(pages.len() > 6);
    assert_eq!(pages, whole.lines().collect::<Vec<_>>());
    let unknown = list(Operation::Sessions, &[("host", "nobody")]).unwrap_err();
    assert_eq!(unknown.kind(), burnlog_log::ErrorKind::NotFound, "{unknown}");
    for wrong in [("tag", "x"), ("since", "soon"), ("limit", "many"), ("sesion", "x"), ("after", "x")] {
        let error = list(Operation::Sessions, &[wrong]).unwrap_err();
        assert_eq!(error.kind(), burnlog_log::ErrorKind::Invalid, "{wrong:?}: {error}");
    }
}

#[test]
fn what_is_no_server_or_none_for_us_is_said_with_the_next_step() {
    let machine = Machine::new("pod");
    let said = |url: &str, token: Option<&str>| {
        let mut command = machine.command(&["status", "--store", url]);
        if let Some(token) = token {
            command.env("RELAYBURN_HTTP_TOKEN", token);
        }
        let ended = crate::Ended::of(command.output().unwrap());
        assert_eq!(ended.code, 2, "{}", ended.stderr);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
        ended.stderr
    };
    assert!(said("http://127.0.0.1:1", None).contains("no answer"));
    assert!(said("http://example.invalid", Some("hunter2")).contains("https://"));
    assert!(said("https://u:hunter2@127.0.0.1:1", None).contains("RELAYBURN_HTTP_TOKEN"));
    let served = Served::start("file", &[]);
    let other = served.url.replace("default", "nobody");
    let said_of_other = said(&other, None);
    assert!(said_of_other.contains("no ledger of that name"), "{said_of_other}");
    // An ingest makes none there.
    assert!(said_of_other.contains("--ledger NAME=URL") && !said_of_other.contains("burnlog ingest"));
    let refused = machine.run(&["project", "update", "--store", &served.url]);
    assert!(refused.stderr.contains("where the server's store is"), "{}", refused.stderr);
}
