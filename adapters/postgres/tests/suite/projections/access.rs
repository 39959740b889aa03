//! Claims about who may do what, about the schema's steps, and about what people see with SQL alone.

use super::{Projections, open};
use burnlog_log::{Backend, ErrorKind};
use burnlog_postgres::{Database, PostgresBackend, PostgresOptions, PostgresProjections};
use burnlog_projections::conformance::build::{
    append, catch_up, dumped, expected_dump, ledger, made_up, small_limits,
};
use burnlog_projections::conformance::{Fixture, VIEWS};
use burnlog_projections::{BlockFilter, Filter, PageRequest, Projector, Queries, UsageBy, blocks};

fn open_to_read(url: &str) -> burnlog_log::Result<PostgresProjections> {
    PostgresProjections::open(url, &PostgresOptions { create: false, ..PostgresOptions::default() })
}

/// A place with a made-up log folded into it.
fn filled() -> Projections {
    let place = Projections::create();
    let ledger = ledger();
    append(&ledger, 1, &made_up(43, 300));
    catch_up(&mut open(&place.0), &ledger);
    place
}

/// Makes a role with a password and rights; the name is the database's, because roles belong to the cluster.
fn role(database: &Database, rights: &str) -> String {
    let name = database.rows("select current_database()").unwrap().remove(0).remove(0);
    database.run(&format!("create role {name} login password 'hunter2'")).unwrap();
    database.run(&rights.replace("ROLE", &name)).unwrap();
    name
}

#[test]
fn a_role_that_may_only_read_asks_everything_also_after_a_rebuild() {
    let place = filled();
    let database = &place.0;
    let name = role(
        database,
        "grant usage on schema burnlog to ROLE; grant select on all tables in schema burnlog to ROLE",
    );
    let mut reader = open_to_read(&database.url_as(&name, "hunter2")).unwrap();
    let expected = expected_dump(&made_up(43, 300));
    assert_eq!(dumped(&reader), expected);
    let log = ledger();
    append(&log, 1, &made_up(43, 300));
    let mut store = open(database);
    Projector::rebuild(&mut store, &log, small_limits()).unwrap().catch_up(&log).unwrap();
    assert_eq!(dumped(&reader), expected);
    assert_eq!(
        reader.usage(&Filter::default(), &[UsageBy::Model]).unwrap(),
        store.usage(&Filter::default(), &[UsageBy::Model]).unwrap()
    );
    let of_reader = database.url_as(&name, "hunter2");
    let backend =
        PostgresBackend::open(&of_reader, &PostgresOptions { create: false, ..PostgresOptions::default() });
    assert!(backend.is_ok(), "{backend:?}");
    let may = |relation: &str| {
        database
            .rows(&format!("select has_table_privilege('{name}', 'burnlog.{relation}', 'select')"))
            .unwrap()
    };
    assert_eq!((may("turns"), may("hosts")), (vec![vec!["t".to_owned()]], vec![vec!["t".to_owned()]]));
    append(&log, 1, &made_up(44, 20));
    let error =
        Projector::new(&mut reader, &log, small_limits()).and_then(|mut p| p.catch_up(&log)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    drop((reader, backend, store));
    database.run(&format!("drop owned by {name}; drop role {name}")).unwrap();
}

#[test]
fn a_ledger_of_an_older_program_is_read_and_gets_the_tables_when_it_is_folded() {
    let place = Projections::create();
    let database = &place.0;
    let backend = PostgresBackend::open(database.url(), &PostgresOptions::default()).unwrap();
    let id = backend.location().id;
    database
        .run(
            "drop table burnlog.projections, burnlog.projection_generations, burnlog.projection_cursors; \
             delete from burnlog.burnlog_schema where number > 1",
        )
        .unwrap();
    assert_eq!(open_to_read(database.url()).unwrap_err().kind(), ErrorKind::NotFound);
    let again = PostgresBackend::open(database.url(), &PostgresOptions::default()).unwrap();
    assert_eq!(again.location().id, id);
    let steps = || database.rows("select max(number) from burnlog.burnlog_schema").unwrap().concat();
    assert_eq!(steps(), ["1"], "whoever only appends changes no tables");
    std::thread::scope(|scope| {
        let opens: Vec<_> = (0..4).map(|_| scope.spawn(|| drop(open(database)))).collect();
        assert!(opens.into_iter().all(|open| open.join().is_ok()));
    });
    assert_eq!(steps(), ["2"]);
    open_to_read(database.url()).unwrap();
}

#[test]
fn a_schema_of_a_newer_program_is_unsupported() {
    let place = filled();
    place.0.run("insert into burnlog.burnlog_schema (number) values (99)").unwrap();
    assert_eq!(open_to_read(place.0.url()).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn without_anything_folded_queries_find_nothing() {
    let place = Projections::create();
    assert_eq!(open_to_read(place.0.url()).unwrap_err().kind(), ErrorKind::NotFound);
    drop(PostgresBackend::open(place.0.url(), &PostgresOptions::default()).unwrap());
    let store = open_to_read(place.0.url()).unwrap();
    assert_eq!(store.usage(&Filter::default(), &[]).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn people_see_instants_and_names_with_sql_alone() {
    let place = filled();
    let store = open(&place.0);
    let all = PageRequest { after: None, limit: usize::MAX };
    let turns = store.turns(&Filter::default(), &all).unwrap().items;
    let shown = place
        .0
        .rows(
            "select call, to_char(timestamp at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US'), session, model, complete \
             from burnlog.turns order by timestamp nulls first, source collate \"C\", call collate \"C\"",
        )
        .unwrap();
    assert_eq!(shown.len(), turns.len());
    for (row, turn) in shown.iter().zip(&turns) {
        let call = &turn.call;
        let at = call.timestamp.map_or_else(String::new, |at| at.to_string());
        assert_eq!((&row[0], &row[2]), (&call.call, &call.session.to_string()));
        assert_eq!(row[1].split('.').next(), at.trim_end_matches('Z').split('.').next());
        assert_eq!(row[4], if call.complete { "t" } else { "f" });
    }
    // An instant without a date is absent for people, and spoils no other row.
    let table =
        place.0.rows("select 'burnlog.calls_g' || generation from burnlog.projection_generations").unwrap();
    place
        .0
        .run(&format!(
            "update {} set timestamp = -9223372036854775808 where call = '{}'",
            table[0][0], shown[0][0]
        ))
        .unwrap();
    let rows = place.0.rows("select count(*), count(timestamp) from burnlog.calls").unwrap().concat();
    assert_eq!(rows[0].parse::<usize>().unwrap(), turns.len());
    assert_eq!(rows[1].parse::<usize>().unwrap(), turns.len() - 1);
    let micros = place.0.rows(
        "select extract(epoch from timestamptz '1970-01-01 00:00:00+00' + 1767225600123457 * interval '1 microsecond')",
    );
    assert_eq!(micros.unwrap(), [["1767225600.123457"]]);
}

#[test]
fn views_take_blocks_apart_as_lists_do() {
    let place = filled();
    let store = open(&place.0);
    let all = PageRequest { after: None, limit: usize::MAX };
    let mut expected = Vec::new();
    for session in store.sessions(&Filter::default(), &all).unwrap().items {
        let filter = BlockFilter {
            source: session.source.to_string(),
            session: session.session.to_string(),
            ..BlockFilter::default()
        };
        for block in blocks(&store, &filter, &all).unwrap().items {
            expected.push(vec![
                block.stream.to_string(),
                block.seq.to_string(),
                block.ordinal.to_string(),
                block.kind.clone(),
                block.start.to_string(),
                block.bytes.to_string(),
                block.tool_use.unwrap_or_default(),
            ]);
        }
    }
    let mut shown = place
        .0
        .rows("select stream, seq, ordinal, kind, start, bytes, tool_use from burnlog.content")
        .unwrap();
    shown.sort();
    expected.sort();
    assert!(expected.len() > 50);
    assert_eq!(shown, expected);
    for view in ["sessions", "usage_daily", "tool_results", "hosts", "streams", "relationships", "stamps"] {
        place.0.rows(&format!("select * from burnlog.{view} limit 1")).unwrap();
    }
}

#[test]
fn people_see_days_as_dates() {
    let place = filled();
    let generation =
        place.0.rows("select max(generation) from burnlog.projection_generations").unwrap().concat();
    let table = format!("burnlog.usage_daily_g{}", generation[0]);
    let same = format!("select count(*) from {table} t join burnlog.usage_daily u on u.day::text = t.day");
    assert_ne!(place.0.rows(&same).unwrap(), [["0"]]);
    let kinds = place.0.rows("select distinct pg_typeof(day) from burnlog.usage_daily").unwrap();
    assert_eq!(kinds, [["date"]]);
    // A day for which there is no date is absent, and spoils no other row.
    let days = place.0.rows("select count(*) from burnlog.usage_daily where day is not null").unwrap();
    for day in ["", "0000-01-01", "-0001-01-01", "-009999-01-01", "+12026-01-01"] {
        let set = format!(
            "update {table} set day = '{day}' where ctid = (select max(ctid) from {table} where day > '1')"
        );
        place.0.run(&set).unwrap();
    }
    let left = place.0.rows("select count(*), count(*) - 5 from burnlog.usage_daily").unwrap().concat();
    assert_eq!(place.0.rows("select count(day) from burnlog.usage_daily").unwrap().concat()[0], left[1]);
    assert_eq!(days.concat()[0], left[0]);
}

#[test]
fn the_views_for_people_show_what_they_always_did() {
    let place = filled();
    for (view, expected) in VIEWS {
        let sql = format!(
            "select string_agg(column_name, ' ' order by ordinal_position) from information_schema.columns \
             where table_schema = 'burnlog' and table_name = '{view}'"
        );
        assert_eq!(place.0.rows(&sql).unwrap().concat(), [expected], "{view}");
    }
    let sql = "select count(*) filter (where t.project is distinct from s.project), count(t.project) > 0 \
               from burnlog.turns t join burnlog.sessions s using (source, session)";
    assert_eq!(place.0.rows(sql).unwrap().concat(), ["0", "t"]);
}
