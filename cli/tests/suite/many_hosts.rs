//! Many hosts and one Postgres: whoever saw what, in whatever order, however often they were killed, there is one truth.

use crate::postgres::database;
use crate::{Ended, Machine, assistant, claude_fixtures, copy_folder};
use burnlog_jsonl::{JsonlBackend, JsonlOptions};
use burnlog_log::conformance::build::read_all;
use burnlog_log::{Address, Backend, Limit};
use burnlog_postgres::{Connection, Database, PostgresBackend, PostgresOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Stdio};

const LABELS: [&str; 8] = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"];
const SESSIONS: usize = 9;

/// Where a process ends of itself where the program has such points; elsewhere the name says nothing to it.
const POINTS: [&str; 4] =
    ["ingest-acknowledged:1", "cursors-unsaved:1", "ingest-acknowledged:2", "projections-committed:3"];

/// The lines of a session: some 20 KB each, so that an ingest is several batches. Two sessions share their calls.
fn lines(session: usize, count: usize) -> String {
    let line = |number: usize| {
        let padding = format!("{session}-{number} ").repeat(3000);
        let message = format!("m{}-{number}", session / 2);
        assistant(&format!("s{session}"), &message, 3, Some("end_turn")).replacen("hi", &padding, 1)
    };
    (0..count).map(line).collect()
}

/// Whether a host sees a session, and how far: early, or as it ended.
fn sees(host: usize, session: usize) -> Option<usize> {
    match (host + session) % 3 {
        0 => None,
        1 => Some(7),
        _ => Some(20),
    }
}

/// The hosts with what each of them sees.
fn hosts() -> Vec<Machine> {
    let host = |(number, label): (usize, &&'static str)| {
        let machine = Machine::new(label);
        if number % 2 == 0 {
            copy_folder(Path::new(&claude_fixtures()), &machine.path("home"));
        }
        for session in 0..SESSIONS {
            if let Some(count) = sees(number, session) {
                machine.session(&format!("s{session}"), lines(session, count));
            }
        }
        machine
    };
    LABELS.iter().enumerate().map(host).collect()
}

/// One host that sees everything, all of it stored.
fn one_host() -> Machine {
    let machine = Machine::new("one");
    copy_folder(Path::new(&claude_fixtures()), &machine.path("home"));
    (0..SESSIONS).for_each(|session| drop(machine.session(&format!("s{session}"), lines(session, 20))));
    machine.ok(&["ingest"]);
    machine
}

/// What a ledger holds beside the cards of writers: distinct addresses, and entries.
fn held(backend: &dyn Backend) -> (BTreeSet<Address>, usize, u64) {
    let (mut addresses, mut entries, mut cards) = (BTreeSet::new(), 0, 0);
    for head in backend.feeds(None, None, 1000).unwrap().heads {
        let page = read_all(backend, &head.feed, Limit::default());
        let mut own = BTreeSet::new();
        for entry in &page.entries {
            assert!(own.insert(entry.address), "an address twice in one feed");
            let skeleton = entry.body.skeleton().unwrap();
            if skeleton.starts_with(b"{\"v\":1,\"kind\":\"writer\"") {
                cards += 1;
            } else {
                addresses.insert(entry.address);
                entries += 1;
            }
        }
    }
    assert_eq!(backend.stat().unwrap().events, addresses.len() as u64 + cards, "events are stored once");
    (addresses, entries, cards)
}

fn held_by_one(machine: &Machine) -> BTreeSet<Address> {
    let options = JsonlOptions { read_only: true, ..JsonlOptions::default() };
    held(&JsonlBackend::open(&machine.ledger(), options).unwrap()).0
}

fn open(database: &Database) -> PostgresBackend {
    PostgresBackend::open(database.url(), &PostgresOptions::default()).unwrap()
}

fn start(machine: &Machine, url: &str, variable: (&str, &str)) -> Child {
    let mut command = machine.command(&["ingest", "--wait", "60"]);
    command.env("RELAYBURN_STORAGE", "postgres").env("RELAYBURN_POSTGRES_URL", url);
    command.env(variable.0, variable.1).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Kills the child once the ledger has so many entries, and tells whether it was still at work.
fn kill_when(child: &mut Child, watching: &Connection, entries: u64) -> bool {
    loop {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        let sum = &watching.rows("select coalesce(sum(size), 0) from burnlog.feeds").unwrap()[0][0];
        if sum.parse::<u64>().unwrap() >= entries {
            child.kill().unwrap();
            child.wait().unwrap();
            return true;
        }
    }
}

#[test]
fn eight_hosts_that_are_killed_and_come_again_leave_one_truth() {
    let (hosts, reference, database) = (hosts(), one_host(), database());
    let (url, dump) = (database.url(), reference.dump());
    drop(open(&database));
    let watching = database.connect().unwrap();
    let mut children: Vec<Child> = hosts
        .iter()
        .zip(POINTS.iter().chain([""; 4].iter()))
        .map(|(host, point)| start(host, url, ("BURNLOG_FAILPOINT", point)))
        .collect();
    let mut killed = 0;
    for (at, entries) in [(4, 1), (5, 40), (6, 90), (7, 160), (4, 200), (5, 240)] {
        killed += u32::from(kill_when(&mut children[at], &watching, entries));
        children[at] = start(&hosts[at], url, ("TZ", "UTC"));
    }
    assert!(killed >= 3, "{killed} were killed at work");
    for (host, child) in hosts.iter().zip(children) {
        let ended = Ended::of(child.wait_with_output().unwrap());
        if cfg!(not(feature = "failpoints")) {
            assert_eq!(ended.code, 0, "{}", ended.stderr);
        }
        host.ok(&["ingest", "--store", url]);
        let again = host.json(&["ingest", "--store", url]);
        assert_eq!(again["records"], 0, "{again}");
    }
    let (addresses, entries, cards) = held(&open(&database));
    assert_eq!(addresses, held_by_one(&reference));
    assert!(entries > 2 * addresses.len() && cards >= 8, "{entries} entries, {cards} cards");
    let reader = Machine::new("reader");
    for machine in [&hosts[0], &hosts[5], &reader] {
        machine.ok(&["project", "update", "--store", url]);
        assert_eq!(machine.ok(&["project", "dump", "--store", url]), dump);
    }
    reader.ok(&["verify", "--store", url]);
    let mut seen_by: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in reader.rows(&["sessions", "--store", url]) {
        let hosts = row["hosts"].as_str().unwrap().split(',').map(|host| host.trim().to_owned()).collect();
        seen_by.insert(row["session"].as_str().unwrap().to_owned(), hosts);
    }
    for session in 0..SESSIONS {
        let hosts = (0..LABELS.len()).filter(|host| sees(*host, session).is_some());
        let expected: BTreeSet<String> = hosts.map(|host| LABELS[host].to_owned()).collect();
        assert_eq!(seen_by[&format!("s{session}")], expected, "who saw session {session}");
    }
}

/// How many of our transactions wait for somebody.
fn waiting(database: &Database) -> usize {
    let sql = "select distinct pid from pg_locks l join pg_stat_activity a using (pid) \
               where not l.granted and a.datname = current_database()";
    database.rows(sql).unwrap().len()
}

#[test]
fn one_key_used_by_two_processes_at_once_doubles_nothing() {
    let (database, reference) = (database(), Machine::new("one"));
    let url = database.url();
    let machines = [Machine::new("left"), Machine::new("right")];
    for (number, machine) in machines.iter().enumerate() {
        for session in [0, 1, 2 + number] {
            machine.session(&format!("s{session}"), lines(session, 20));
            reference.session(&format!("s{session}"), lines(session, 20));
        }
    }
    reference.ok(&["ingest"]);
    drop(open(&database));
    // Every append stops in its middle until the lock is free, so that both are on their way at the same size.
    let holder = database.connect().unwrap();
    holder.run("select pg_advisory_lock(42)").unwrap();
    let stop = "create function burnlog.wait() returns trigger language plpgsql as \
                $$ begin perform pg_advisory_xact_lock_shared(42); return new; end $$; \
                create trigger wait before insert on burnlog.entries for each row execute function burnlog.wait()";
    database.run(stop).unwrap();
    let key = "5eed".repeat(16);
    let mut children = machines.each_ref().map(|machine| start(machine, url, ("RELAYBURN_WRITER_KEY", &key)));
    while waiting(&database) < 2 {
        assert!(children.iter_mut().all(|child| child.try_wait().unwrap().is_none()), "one has ended");
    }
    holder.run("select pg_advisory_unlock(42)").unwrap();
    for child in children {
        let ended = Ended::of(child.wait_with_output().unwrap());
        assert_eq!(ended.code, 0, "{}", ended.stderr);
    }
    let backend = open(&database);
    let (addresses, entries, cards) = held(&backend);
    assert_eq!((addresses.len(), cards), (entries, 2), "one feed, and a card of each");
    assert_eq!(addresses, held_by_one(&reference));
    let size = backend.feeds(None, None, 5).unwrap().heads[0].size;
    for machine in &machines {
        let ended =
            Ended::of(start(machine, url, ("RELAYBURN_WRITER_KEY", &key)).wait_with_output().unwrap());
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        machine.ok(&["project", "update", "--store", url]);
        assert_eq!(machine.ok(&["project", "dump", "--store", url]), reference.dump());
    }
    assert_eq!(backend.feeds(None, None, 5).unwrap().heads[0].size, size);
    machines[0].ok(&["verify", "--store", url]);
}
