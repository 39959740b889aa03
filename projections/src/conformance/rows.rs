//! Claims about rows: what goes in comes out, in order.

#![allow(missing_docs)] // the names of the cases are the claims

use super::{Fixture, Store, leased};
use crate::{
    Call, Extent, FoldTransaction, Generation, Row, StreamFeed, Table, ToolUse, UserTurn, Value, Values,
};
use burnlog_log::{Address, Error, ErrorKind, Result, Timestamp};
use std::borrow::Cow;

/// Texts that databases have stumbled over. NUL is not among them: the folds take it out.
const ODD_TEXTS: [&str; 9] =
    ["", " ", "'", "\"%_;--", "\u{1}\u{7f}", "\u{fffd}", "Ä ö ß", "\u{1f600}", "\u{10ffff}"];

fn create(store: &mut dyn Store) -> Generation {
    let lease = leased(store.folds());
    let generation = store.create(&lease, 1).unwrap();
    store.release(&lease).unwrap();
    generation
}

/// Runs work in a commit of its own.
fn write<T>(
    store: &mut dyn Store,
    generation: Generation,
    mut work: impl FnMut(&mut dyn FoldTransaction) -> Result<T>,
) -> Result<T> {
    let state = store.state().unwrap();
    let states = [state.live, state.building];
    let revision = states.iter().flatten().find(|state| state.generation == generation).unwrap().revision;
    let mut done = None;
    let lease = leased(store.folds());
    let committed = store.commit(&lease, generation, revision, &mut |to| {
        done = Some(work(to)?);
        Ok(())
    });
    store.release(&lease).unwrap();
    committed?;
    Ok(done.unwrap())
}

fn owned(row: &impl Row) -> Values {
    let mut values = Vec::new();
    row.write(&mut values);
    values.into_iter().map(Value::into_owned).collect()
}

fn insert(store: &mut dyn Store, generation: Generation, row: &impl Row, table: &'static Table) -> bool {
    let values = owned(row);
    write(store, generation, |to| to.insert_new(table, &values)).unwrap() == [true]
}

fn call(name: &str) -> Call {
    Call {
        source: "claude-code".into(),
        call: name.to_owned(),
        request: Some(name.to_owned()),
        model: Some(name.into()),
        input_tokens: Some(crate::Tokens(i64::MAX)),
        output_tokens: Some(crate::Tokens(0)),
        cache_read_tokens: None,
        cache_write_5m_tokens: None,
        cache_write_1h_tokens: None,
        reasoning_tokens: None,
        stop_reason: None,
        complete: true,
        service_tier: Some(name.into()),
        speed: None,
        clamped: false,
        kept_at: Some(Timestamp::from_micros(i64::MIN)),
        payload_prefix: i64::MIN,
        place: Address([255; 32]),
        session: name.into(),
        stream: name.into(),
        seq: i64::MAX,
        copied: true,
        timestamp: Some(Timestamp::from_micros(-1)),
        cwd: None,
        branch: Some("main".into()),
        version: None,
        sidechain: false,
        agent: None,
        contested: false,
        elsewhere: Vec::new(),
        forms: Vec::new(),
    }
}

pub fn every_kind_of_value_comes_back(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let generation = create(&mut *store);
    for text in ODD_TEXTS {
        let row = call(text);
        assert!(insert(&mut *store, generation, &row, Call::TABLE), "{text:?}");
        let values = owned(&row);
        let key = &values[..Call::TABLE.key];
        let inside = write(&mut *store, generation, |to| to.get(Call::TABLE, key)).unwrap().remove(0);
        assert_eq!(Call::read(inside.unwrap()).unwrap(), row);
        let outside = store.get(generation, Call::TABLE, key).unwrap();
        assert_eq!(Call::read(outside.unwrap()).unwrap(), row);
    }
    let extent = Extent {
        source: "s".into(),
        stream: "t".into(),
        place: Address([0; 32]),
        root: vec![0, 1, 255],
        records: 3,
        bytes: i64::MAX,
        ends_with_newline: true,
    };
    insert(&mut *store, generation, &extent, Extent::TABLE);
    drop(store);
    let rows = fixture.open().scan(generation, Extent::TABLE, None, 10).unwrap();
    assert_eq!(Extent::read(rows.into_iter().next().unwrap()).unwrap(), extent);
}

pub fn a_known_key_is_not_inserted_again(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let generation = create(&mut *store);
    let first = ToolUse::unseen("a".into(), "x".to_owned());
    let mut second = first.clone();
    second.tool = Some("Edit".into());
    assert!(insert(&mut *store, generation, &first, ToolUse::TABLE));
    assert!(!insert(&mut *store, generation, &second, ToolUse::TABLE));
    let values = owned(&second);
    let kept = store.get(generation, ToolUse::TABLE, &values[..2]).unwrap().unwrap();
    assert_eq!(ToolUse::read(kept).unwrap(), first);
    write(&mut *store, generation, |to| to.replace(ToolUse::TABLE, &values)).unwrap();
    let kept = store.get(generation, ToolUse::TABLE, &values[..2]).unwrap().unwrap();
    assert_eq!(ToolUse::read(kept).unwrap(), second);
}

pub fn replacing_what_is_not_there_is_not_found(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let generation = create(&mut *store);
    let values = owned(&call("x"));
    let error = write(&mut *store, generation, |to| to.replace(Call::TABLE, &values)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(store.get(generation, Call::TABLE, &values[..2]).unwrap(), None);
}

pub fn a_deleted_row_is_gone_and_may_come_again(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let generation = create(&mut *store);
    let row = call("x");
    let values = owned(&row);
    insert(&mut *store, generation, &row, Call::TABLE);
    for was_there in [true, false] {
        let deleted = write(&mut *store, generation, |to| to.delete(Call::TABLE, &values[..2])).unwrap();
        assert_eq!(deleted, [was_there]);
    }
    assert_eq!(store.get(generation, Call::TABLE, &values[..2]).unwrap(), None);
    assert!(insert(&mut *store, generation, &row, Call::TABLE));
}

fn stream_feed(source: &str, stream: &str, feed: &[u8]) -> StreamFeed {
    StreamFeed { source: source.into(), stream: stream.into(), feed: feed.to_vec(), records: 1 }
}

pub fn rows_are_scanned_in_the_order_of_their_keys(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let generation = create(&mut *store);
    let mut expected = Vec::new();
    for source in ["b", "a", "Z"] {
        for stream in ODD_TEXTS {
            for feed in [&[0u8, 255][..], &[255], &[0], &[]] {
                let row = stream_feed(source, stream, feed);
                insert(&mut *store, generation, &row, StreamFeed::TABLE);
                expected.push((source.as_bytes().to_vec(), stream.as_bytes().to_vec(), feed.to_vec()));
            }
        }
    }
    expected.sort();
    for limit in [1, 7, 1000] {
        let mut found = Vec::new();
        let mut after: Option<Values> = None;
        loop {
            let rows = store.scan(generation, StreamFeed::TABLE, after.as_deref(), limit).unwrap();
            let Some(last) = rows.last() else { break };
            assert!(rows.len() <= limit);
            after = Some(last[..3].to_vec());
            for row in rows {
                let row = StreamFeed::read(row).unwrap();
                found.push((row.source.as_bytes().to_vec(), row.stream.as_bytes().to_vec(), row.feed));
            }
        }
        assert_eq!(found, expected);
    }
}

pub fn a_scan_may_start_within_a_key(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let generation = create(&mut *store);
    for (source, stream) in [("a", "1"), ("a", "2"), ("b", "1"), ("b", "3")] {
        insert(&mut *store, generation, &stream_feed(source, stream, &[1]), StreamFeed::TABLE);
    }
    let after =
        [Value::Text(Cow::Borrowed("a")), Value::Text(Cow::Borrowed("2")), Value::Blob(Cow::Borrowed(&[]))];
    let streams: Vec<String> = store
        .scan(generation, StreamFeed::TABLE, Some(&after), 9)
        .unwrap()
        .into_iter()
        .map(|row| StreamFeed::read(row).unwrap())
        .map(|row| format!("{}{}", row.source, row.stream))
        .collect();
    assert_eq!(streams, ["a2", "b1", "b3"]);
}

fn turn(class: &str, turn: &str) -> UserTurn {
    UserTurn {
        source: "s".into(),
        turn: turn.to_owned(),
        copied: false,
        timestamp: None,
        session: "t".into(),
        stream: "t".into(),
        class: class.into(),
        characters: 1,
        images: 0,
        text_prefix: 0,
        contested: false,
        forms: Vec::new(),
        place: Address([1; 32]),
    }
}

pub fn the_empty_name_is_a_name_like_any_other(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let generation = create(&mut *store);
    for (number, class) in ["another", "", "third", ""].iter().enumerate() {
        insert(&mut *store, generation, &turn(class, &number.to_string()), UserTurn::TABLE);
    }
    let rows = store.scan(generation, UserTurn::TABLE, None, 9).unwrap();
    let classes: Vec<String> =
        rows.into_iter().map(|row| UserTurn::read(row).unwrap().class.to_string()).collect();
    assert_eq!(classes, ["another", "", "third", ""]);
}

pub fn names_outlive_a_failed_commit(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let generation = create(&mut *store);
    let lost = owned(&turn("a class of its own", "1"));
    let failed = write(&mut *store, generation, |to| {
        to.insert_new(UserTurn::TABLE, &lost)?;
        Err::<(), _>(Error::new(ErrorKind::Denied, "test", "no"))
    });
    assert_eq!(failed.unwrap_err().kind(), ErrorKind::Denied);
    insert(&mut *store, generation, &turn("another class", "2"), UserTurn::TABLE);
    insert(&mut *store, generation, &turn("a class of its own", "3"), UserTurn::TABLE);
    let classes: Vec<String> = store
        .scan(generation, UserTurn::TABLE, None, 9)
        .unwrap()
        .into_iter()
        .map(|row| UserTurn::read(row).unwrap().class.to_string())
        .collect();
    assert_eq!(classes, ["another class", "a class of its own"]);
}

/// The values of rows of tool uses, one behind another, and of their keys.
fn tool_uses(names: &[&str], tool: &str) -> (Values, Values) {
    let (mut rows, mut keys) = (Vec::new(), Vec::new());
    for name in names {
        let mut row = ToolUse::unseen("a".into(), (*name).to_owned());
        row.tool = Some(tool.into());
        let values = owned(&row);
        keys.extend_from_slice(&values[..ToolUse::TABLE.key]);
        rows.extend(values);
    }
    (rows, keys)
}

/// The rows of a slice.
fn rows_of(slice: &[Value<'static>]) -> Vec<ToolUse> {
    read(slice.chunks(ToolUse::TABLE.columns.len()).map(<[_]>::to_vec))
}

fn read(rows: impl IntoIterator<Item = Values>) -> Vec<ToolUse> {
    rows.into_iter().map(|values| ToolUse::read(values).unwrap()).collect()
}

/// The tools of what was found.
fn tools(found: Vec<Option<Values>>) -> Vec<Option<String>> {
    let tool = |values| ToolUse::read(values).unwrap().tool.unwrap().to_string();
    found.into_iter().map(|values| values.map(tool)).collect()
}

pub fn answers_are_in_the_order_of_the_slice(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let generation = create(&mut *store);
    let table = ToolUse::TABLE;
    let (some, _) = tool_uses(&["b", "d"], "Read");
    // Not in the order of the keys: the answers follow the slice, not the table.
    let (all, keys) = tool_uses(&["d", "a", "c", "b", ""], "Edit");
    let (gone, gone_keys) = tool_uses(&["c", "x", "a"], "Edit");
    let (inserted, found, deleted) = write(&mut *store, generation, |to| {
        to.insert_new(table, &some)?;
        let inserted = to.insert_new(table, &all)?;
        let found = to.get(table, &keys)?;
        Ok((inserted, found, to.delete(table, &gone_keys)?))
    })
    .unwrap();
    assert_eq!(inserted, [false, true, true, false, true]);
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(tools(found), [text("Read"), text("Edit"), text("Edit"), text("Read"), text("Edit")]);
    assert_eq!(deleted, [true, false, true]);
    let found = store.get_many(generation, table, &keys).unwrap();
    assert_eq!(tools(found), [text("Read"), None, None, text("Read"), text("Edit")]);
    let error = write(&mut *store, generation, |to| to.replace(table, &gone)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "a slice with one unknown key is refused");
}

pub fn a_slice_sees_what_the_transaction_wrote(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let generation = create(&mut *store);
    let table = ToolUse::TABLE;
    let (rows, keys) = tool_uses(&["a", "b"], "Read");
    let (changed, _) = tool_uses(&["a", "b"], "Edit");
    let seen = write(&mut *store, generation, |to| {
        let mut seen = vec![to.get(table, &keys)?];
        to.insert_new(table, &rows)?;
        seen.push(to.get(table, &keys)?);
        to.replace(table, &changed)?;
        seen.push(to.get(table, &keys)?);
        to.delete(table, &keys[..2])?;
        seen.push(to.get(table, &keys)?);
        assert_eq!(to.insert_new(table, &rows)?, [true, false]);
        seen.push(to.get(table, &keys)?);
        Ok(seen)
    })
    .unwrap();
    let (read, edit) = (Some("Read".to_owned()), Some("Edit".to_owned()));
    let expected = [
        [None, None],
        [read.clone(), read.clone()],
        [edit.clone(), edit.clone()],
        [None, edit.clone()],
        [read, edit],
    ];
    assert_eq!(seen.into_iter().map(tools).collect::<Vec<_>>(), expected);
}

pub fn a_key_that_comes_twice_is_invalid(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let generation = create(&mut *store);
    let table = ToolUse::TABLE;
    let (once, _) = tool_uses(&["a", "b"], "Read");
    write(&mut *store, generation, |to| to.insert_new(table, &once)).unwrap();
    for names in [&["a", "a"][..], &["a", "b", "a"]] {
        let (rows, keys) = tool_uses(names, "Edit");
        let kinds = [
            write(&mut *store, generation, |to| to.insert_new(table, &rows)).unwrap_err().kind(),
            write(&mut *store, generation, |to| to.replace(table, &rows)).unwrap_err().kind(),
            write(&mut *store, generation, |to| to.delete(table, &keys)).unwrap_err().kind(),
            write(&mut *store, generation, |to| to.get(table, &keys)).unwrap_err().kind(),
            store.get_many(generation, table, &keys).unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::Invalid; 5]);
    }
    assert_eq!(read(store.scan(generation, table, None, 9).unwrap()), rows_of(&once));
}

pub fn half_a_row_is_invalid(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let generation = create(&mut *store);
    let table = ToolUse::TABLE;
    let (rows, keys) = tool_uses(&["a", "b"], "Read");
    let half = &rows[..rows.len() - 1];
    let error = write(&mut *store, generation, |to| to.insert_new(table, half)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let error = write(&mut *store, generation, |to| to.delete(table, &keys[..3])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(store.get_many(generation, table, &keys[..1]).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(store.scan(generation, table, None, 9).unwrap(), Vec::<Values>::new());
}

pub fn an_empty_slice_does_nothing(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let generation = create(&mut *store);
    write(&mut *store, generation, |to| {
        assert_eq!(to.insert_new(Call::TABLE, &[])?, Vec::<bool>::new());
        assert_eq!(to.get(Call::TABLE, &[])?, Vec::<Option<Values>>::new());
        assert_eq!(to.delete(Call::TABLE, &[])?, Vec::<bool>::new());
        to.replace(Call::TABLE, &[])?;
        to.advance(&[])
    })
    .unwrap();
    assert_eq!(store.get_many(generation, Call::TABLE, &[]).unwrap(), Vec::<Option<Values>>::new());
}

pub fn many_rows_go_in_one_slice(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let generation = create(&mut *store);
    let names: Vec<String> = (0..3000).map(|number| format!("tool {number:04}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (rows, keys) = tool_uses(&names, "Read");
    let table = ToolUse::TABLE;
    let inserted = write(&mut *store, generation, |to| to.insert_new(table, &rows)).unwrap();
    assert!(inserted.len() == 3000 && inserted.iter().all(|inserted| *inserted));
    let found = store.get_many(generation, table, &keys).unwrap();
    assert_eq!(read(found.into_iter().map(Option::unwrap)), rows_of(&rows));
    assert_eq!(read(store.scan(generation, table, None, 5000).unwrap()), rows_of(&rows));
}
