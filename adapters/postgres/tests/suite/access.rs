//! Who may open what: URLs, credentials, rights, versions, several ledgers in one database.

use crate::{database, open};
use burnlog_log::conformance::build::{Event, TestFeed, assert_feed};
use burnlog_log::{Backend, Error, ErrorKind, LedgerId};
use burnlog_postgres::{Database, PostgresBackend, PostgresOptions};

fn refused(url: &str) -> Error {
    let error = PostgresBackend::open(url, &PostgresOptions::default()).expect_err("this must not open");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    error
}

/// Makes a role with a password and rights; the name is the database's, because roles belong to the cluster.
fn role(database: &Database, rights: &str) -> String {
    let name = database.rows("select current_database()").unwrap().remove(0).remove(0);
    database
        .run(&format!("drop role if exists {name}; create role {name} login password 'hunter2'"))
        .unwrap();
    database.run(&rights.replace("ROLE", &name).replace("DATABASE_NAME", &name)).unwrap();
    name
}

#[test]
fn what_is_wrong_with_a_connection_is_told_by_its_kind() {
    let database = database();
    drop(open(&database));
    let name = role(&database, "");
    let wrong = refused(&database.url_as(&name, "hunter2-wrong"));
    assert_eq!(wrong.kind(), ErrorKind::Denied, "{wrong}");
    assert!(wrong.message().contains("check user and password"), "{wrong}");
    let unknown = refused(&database.url_as("nobody_at_all", "hunter2"));
    assert_eq!(unknown.kind(), ErrorKind::Denied, "{unknown}");
    let url = database.url_as(&name, "hunter2");
    let elsewhere = refused(&format!("{}/no_such_database", url.rsplit_once('/').unwrap().0));
    assert_eq!(elsewhere.kind(), ErrorKind::NotFound, "{elsewhere}");
    assert!(elsewhere.message().contains("createdb"), "{elsewhere}");
    // Port 9 is the discard service, which no machine of today runs.
    let unreachable = refused("postgres://ann:hunter2@127.0.0.1:9/logs");
    assert_eq!(unreachable.kind(), ErrorKind::Unavailable, "{unreachable}");
    let no_rights = refused(&url);
    assert_eq!(no_rights.kind(), ErrorKind::Denied, "{no_rights}");
    database.run(&format!("drop role {name}")).unwrap();
}

/// A server says the same of a password of which only a part arrived, so that whoever was let in before may try again.
#[test]
fn a_password_that_was_taken_before_may_be_tried_again() {
    let database = database();
    let name = role(&database, "grant create on database DATABASE_NAME to ROLE");
    let url = database.url_as(&name, "hunter2");
    let backend = PostgresBackend::open(&url, &PostgresOptions::default()).unwrap();
    backend.stat().unwrap();
    let change = |password: &str| {
        database.run(&format!("alter role {name} password '{password}'")).unwrap();
        database
            .rows(&format!(
                "select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = '{name}'"
            ))
            .unwrap();
    };
    change("hunter2-new");
    // The first call may end with the connection that it finds.
    let error = std::iter::repeat_with(|| backend.stat()).take(3).last().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(
        error.message().contains("took before") && error.message().contains("check user and password"),
        "{error}"
    );
    assert_eq!(refused(&url).kind(), ErrorKind::Denied, "who was never let in is told so");
    change("hunter2");
    backend.stat().unwrap();
    drop(backend);
    database.run(&format!("drop owned by {name} cascade; drop role {name}")).unwrap();
}

#[test]
fn the_password_is_in_no_text() {
    let database = database();
    let name = role(&database, "grant create on database DATABASE_NAME to ROLE");
    let url = database.url_as(&name, "hunter2");
    let backend = PostgresBackend::open(&url, &PostgresOptions::default()).unwrap();
    let location = backend.location();
    assert_eq!(location.backend, "postgres");
    assert!(location.url.starts_with(&format!("postgres://{name}@127.0.0.1:")), "{}", location.url);
    assert!(location.url.ends_with("?ledger=burnlog"), "{}", location.url);
    assert!(!format!("{backend:?} {location:?}").contains("hunter2"));
    drop(backend);
    database.run(&format!("drop owned by {name} cascade; drop role {name}")).unwrap();
}

#[test]
fn a_role_with_the_rights_of_the_readme_appends_reads_and_erases() {
    let database = database();
    drop(open(&database));
    let name = role(
        &database,
        "grant usage on schema burnlog to ROLE; grant select, insert, update on all tables in schema burnlog to ROLE",
    );
    let backend =
        PostgresBackend::open(&database.url_as(&name, "hunter2"), &PostgresOptions::default()).unwrap();
    let (mut feed, events) = (TestFeed::new(1), Event::lines("a", 3));
    feed.append(&backend, &events).unwrap();
    assert_feed(&backend, &feed, &events);
    backend.erase(&[events[0].address]).unwrap();
    backend.check(&mut |damage| panic!("{damage:?}")).unwrap();
    assert_eq!(backend.feeds(None, None, 5).unwrap().heads, feed.heads);
    backend.compact().unwrap();
    database.run(&format!("revoke insert, update on all tables in schema burnlog from {name}")).unwrap();
    let error = feed.append(&backend, &Event::lines("b", 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert_eq!(backend.stat().unwrap().events, 3, "reading goes on");
    drop(backend);
    database.run(&format!("drop owned by {name}; drop role {name}")).unwrap();
}

#[test]
fn ledgers_of_one_database_know_nothing_of_each_other() {
    let database = database();
    let open = |name: &str| {
        PostgresBackend::open(&database.url_with(&format!("ledger={name}")), &PostgresOptions::default())
            .unwrap()
    };
    let (first, second) = (open("Team-A"), open("team_b"));
    assert_ne!(first.location().id, second.location().id);
    let (mut feed, events) = (TestFeed::new(1), Event::lines("a", 3));
    feed.append(&first, &events).unwrap();
    assert_eq!(second.stat().unwrap().events, 0);
    assert!(second.feeds(None, None, 5).unwrap().heads.is_empty());
    assert_feed(&open("Team-A"), &feed, &events);
    assert!(second.stat().unwrap().bytes_on_disk > 0);
}

#[test]
fn a_schema_of_a_newer_program_is_refused_by_every_door() {
    let database = database();
    let backend = open(&database);
    database.run("insert into burnlog.burnlog_schema (number) values (99)").unwrap();
    let error = refused(database.url());
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.message().contains("version 99"), "{error}");
    assert_eq!(backend.check(&mut |_| {}).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_schema_that_is_somebody_elses_is_left_alone() {
    let database = database();
    database.run("create schema burnlog; create table burnlog.events (mine text)").unwrap();
    let error = refused(database.url());
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!(
        database.rows("select count(*) from pg_tables where schemaname = 'burnlog'").unwrap(),
        [["1"]]
    );
}

#[test]
fn without_create_a_missing_ledger_is_not_found() {
    let database = database();
    let options = PostgresOptions { create: false, ..PostgresOptions::default() };
    let error = PostgresBackend::open(database.url(), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(database.rows("select 1 from pg_namespace where nspname = 'burnlog'").unwrap().is_empty());
    let id = open(&database).location().id;
    assert_eq!(PostgresBackend::open(database.url(), &options).unwrap().location().id, id);
}

#[test]
fn many_first_opens_at_once_make_one_ledger() {
    let database = database();
    let ids: Vec<LedgerId> = std::thread::scope(|scope| {
        let opens: Vec<_> = (0..6).map(|_| scope.spawn(|| open(&database).location().id)).collect();
        opens.into_iter().map(|open| open.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn a_role_that_commits_without_waiting_for_the_disk_is_made_to_wait() {
    let database = database();
    let backend = open(&database);
    database
        .run(
            "create table burnlog.said (setting text); \
             create function burnlog.tell() returns trigger language plpgsql as \
             $$ begin insert into burnlog.said values (current_setting('synchronous_commit')); return new; end $$; \
             create trigger tell before insert on burnlog.entries for each row execute function burnlog.tell()",
        )
        .unwrap();
    let name = database.rows("select current_database()").unwrap().remove(0).remove(0);
    let mut feed = TestFeed::new(1);
    for setting in ["off", "remote_write"] {
        database.run(&format!("alter database {name} set synchronous_commit = {setting}")).unwrap();
        feed.append(&open(&database), &Event::lines(setting, 1)).unwrap();
    }
    drop(backend);
    assert_eq!(database.rows("select setting from burnlog.said").unwrap(), [["on"], ["remote_write"]]);
}

#[test]
fn nothing_of_a_session_is_left_on_the_server() {
    let database = database();
    let options = PostgresOptions { connections: 1, ..PostgresOptions::default() };
    let backend = PostgresBackend::open(database.url(), &options).unwrap();
    let mut feed = TestFeed::new(1);
    feed.append(&backend, &Event::lines("a", 3)).unwrap();
    feed.append(&backend, &Event::lines("b", 3)).unwrap();
    backend.erase(&[Event::lines("a", 1)[0].address]).unwrap();
    backend.read(&feed.id(), 0, burnlog_log::Limit::default()).unwrap();
    // A pooler in transaction mode gives the next transaction another server connection: kept statements and
    // settings would be missing there, or somebody else's.
    database
        .run(
            "create table burnlog.said (prepared int8, settings int8); \
             create function burnlog.tell() returns trigger language plpgsql as \
             $$ begin insert into burnlog.said select (select count(*) from pg_prepared_statements), \
             (select count(*) from pg_settings where source = 'session' and name not in \
             ('jit', 'enable_seqscan', 'enable_hashjoin', 'enable_mergejoin', 'max_parallel_workers_per_gather', \
             'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_isolation', \
             'transaction_read_only', 'transaction_deferrable')); return new; end $$; \
             create trigger tell before insert on burnlog.entries for each row execute function burnlog.tell()",
        )
        .unwrap();
    feed.append(&backend, &Event::lines("c", 1)).unwrap();
    assert_eq!(database.rows("select prepared, settings from burnlog.said").unwrap(), [["0", "0"]]);
}
