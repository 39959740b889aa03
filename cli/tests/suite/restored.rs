//! A database that goes back to an older dump while its hosts go on, and passwords on every way out.

use crate::postgres::database;
use crate::{Machine, assistant, files_below};
use burnlog_log::conformance::build::read_all;
use burnlog_log::{
    Address, Backend, Batch, ErrorKind, Kind, Ledger, Limit, Position, Timestamp, WriterId, WriterKey,
};
use burnlog_postgres::{Cluster, Database, PostgresBackend, PostgresOptions};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;

fn name(database: &Database) -> String {
    database.rows("select current_database()").unwrap().remove(0).remove(0)
}

/// Copies a database whole, as a dump would: nobody may be connected meanwhile, so everybody's connection ends.
fn copy(from: &str, to: &str) {
    let cluster = Cluster::shared().unwrap();
    let end =
        format!("select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{from}'");
    cluster.run(&end).unwrap();
    cluster.run(&format!("drop database if exists {to} with (force)")).unwrap();
    cluster.run(&format!("create database {to} template {from}")).unwrap();
}

fn grow(machine: &Machine, session: &str, lines: &str) {
    let path = machine.project().join(format!("{session}.jsonl"));
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(lines.as_bytes()).unwrap();
}

fn addresses(database: &Database) -> BTreeSet<Address> {
    let backend = PostgresBackend::open(database.url(), &PostgresOptions::default()).unwrap();
    let feeds: Vec<WriterId> =
        backend.feeds(None, None, 100).unwrap().heads.iter().map(|head| head.feed).collect();
    let of = |feed: &WriterId| read_all(&backend, feed, Limit::default()).entries;
    feeds.iter().flat_map(of).map(|entry| entry.address).collect()
}

#[test]
fn a_database_restored_to_an_older_copy_gets_what_it_lacks_from_every_host() {
    let database = database();
    let live = name(&database);
    let kept = format!("{live}_dump");
    hosts_go_on_after(&database, || copy(&live, &kept), |()| copy(&kept, &live));
    Cluster::shared().unwrap().run(&format!("drop database {kept} with (force)")).unwrap();
}

/// The numbers of transactions in a dump are those of the time before, and mean nothing in the database that it is put into.
#[test]
fn a_database_restored_from_an_older_pg_dump_gets_what_it_lacks_from_every_host() {
    let database = database();
    hosts_go_on_after(&database, || database.dump().unwrap(), |archive| database.restore(&archive).unwrap());
}

/// Three hosts write, the database goes back to what `keep` returned, the hosts write on: nothing that a host has is missing.
fn hosts_go_on_after<T>(database: &Database, keep: impl FnOnce() -> T, go_back: impl FnOnce(T)) {
    let url = database.url();
    let hosts = ["ant", "bee", "cat"].map(Machine::new);
    let reader = Machine::new("reader");
    let all = Machine::new("all");
    let both = |machine: &Machine, session: &str, lines: &str| {
        grow(machine, session, lines);
        grow(&all, session, lines);
    };
    for (number, host) in hosts.iter().enumerate() {
        both(host, &format!("s{number}"), &assistant(&format!("s{number}"), "m0", 1, Some("end_turn")));
        host.ok(&["ingest", "--store", url]);
    }
    reader.ok(&["project", "update", "--store", url]);
    let kept = keep();
    // Two of three go on after the dump, one of them twice, and the reader folds it.
    for (number, rounds) in [(0, 2), (1, 1)] {
        for round in 1..=rounds {
            let session = format!("s{number}");
            let line = assistant(&session, &format!("m{round}"), 5 + round, Some("end_turn"));
            both(&hosts[number as usize], &session, &line);
            hosts[number as usize].ok(&["ingest", "--store", url]);
        }
    }
    reader.ok(&["project", "update", "--store", url]);
    let before = addresses(database);

    // A program that runs all the while, and has acknowledged what the dump lacks.
    let ledger = Ledger::new(PostgresBackend::open(url, &PostgresOptions::default()).unwrap());
    let mut running = ledger.writer(WriterKey::from_secret([9; 32])).unwrap();
    let mut batch = Batch::default();
    let position =
        |seq| Position { kind: Kind::Line, source: "test".into(), stream: "x".into(), seq, part: None };
    batch.push(position(0), b"{}").unwrap();
    running.append(&batch, Timestamp::from_micros(1)).unwrap();
    go_back(kept);
    batch.push(position(1), b"{}").unwrap();
    let error = running.append(&batch, Timestamp::from_micros(2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "it grows no second history: {error}");
    assert!(addresses(database).len() < before.len(), "the database went back");

    both(&hosts[2], "s2", &assistant("s2", "m9", 9, Some("end_turn")));
    for (host, notices) in hosts.iter().zip([true, true, false]) {
        let ended = host.run(&["ingest", "--store", url]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert_eq!(ended.stderr.contains("started a new feed"), notices, "{}", ended.stderr);
    }
    let after = addresses(database);
    let lost: Vec<_> = before.difference(&after).collect();
    // Nothing but the cards of feeds that ended may be gone; those were written before the dump.
    assert_eq!(lost, Vec::<&Address>::new());
    all.ok(&["ingest"]);
    let dump = all.dump();
    for machine in hosts.iter().chain([&reader]) {
        machine.ok(&["project", "update", "--store", url]);
        assert_eq!(machine.ok(&["project", "dump", "--store", url]), dump, "{}", machine.label);
        machine.ok(&["project", "rebuild", "--store", url]);
        assert_eq!(machine.ok(&["project", "dump", "--store", url]), dump, "{} anew", machine.label);
    }
    for host in &hosts {
        assert_eq!(host.json(&["ingest", "--store", url])["new"], 0);
    }
    reader.ok(&["verify", "--store", url]);
}

#[test]
fn no_way_out_shows_a_password() {
    let (database, machine) = (database(), Machine::new("one"));
    machine.session("s", assistant("s", "m1", 2, Some("end_turn")));
    let role = name(&database);
    database
        .run(&format!(
            "create role {role} login password 'hunter2'; grant create on database {role} to {role}"
        ))
        .unwrap();
    let right = database.url_as(&role, "hunter2");
    machine.ok(&["ingest", "--store", &right]);
    let place = right.split_once('@').unwrap().1;
    let urls = [
        right.clone(),
        format!("postgres://{role}:hunter2-wrong@{place}"),
        format!("postgres://nobody:hunter2@{place}"),
        format!("{}_gone", right.split('?').next().unwrap()),
        format!("postgres://{role}:hunter2@127.0.0.1:9/x"),
        format!("postgres://{role}:hunter2@no.such.host.invalid/x?connect_timeout=1"),
        format!("postgres://{role}:hunter2@x@{place}"),
        format!("postgres://{role}@127.0.0.1/x?password=hunter2&nonsense=hunter2"),
        format!("postgres://{role}:hunter2@{place}?sslmode=verify-full&sslrootcert=/no/such/hunter"),
        format!("{right}?ledger=hunter2%21"),
    ];
    let jsonl = format!("file:{}", crate::text(machine.path("other")));
    for url in &urls {
        for command in [
            &["ingest"][..],
            &["status"],
            &["verify"],
            &["sessions"],
            &["compact"],
            &["project", "update"],
            &["replay", "--from", url, "--to", &jsonl],
        ] {
            for json in [true, false] {
                let mut command = machine.command(command);
                command.env("RELAYBURN_STORAGE", "postgres").env("RELAYBURN_POSTGRES_URL", url);
                if json {
                    command.arg("--json");
                }
                let output = command.env("RUST_BACKTRACE", "1").env("RUST_LOG", "trace").output().unwrap();
                let printed = [output.stdout, output.stderr].concat();
                let printed = String::from_utf8(printed).unwrap();
                assert!(!printed.contains("hunter2"), "{command:?}\n{printed}");
            }
        }
    }
    let kept = ["burn", "other"].map(|folder| machine.path(folder));
    for file in kept.iter().filter(|folder| folder.is_dir()).flat_map(|folder| files_below(folder)) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(7).any(|part| part == b"hunter2"), "{}", file.display());
    }
    database.run(&format!("drop owned by {role} cascade; drop role {role}")).unwrap();
}
