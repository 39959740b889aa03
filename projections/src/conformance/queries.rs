//! Claims about queries: every store answers as one that reads everything.

#![allow(missing_docs)] // the names of the cases are the claims

use super::build::{
    answer, append, catch_up, folded, ledger, line, made_up, prompt, session_line, small_limits,
};
use super::{Fixture, Store};
use crate::{
    BlockFilter, BlockPlace, Filter, MemoryProjections, Page, PageRequest, Projector, Queries, Resume, Turn,
    UsageBy, for_each_link, relationships, resolve_session,
};
use burnlog_log::{ErrorKind, Result, Timestamp};

const ALL: PageRequest = PageRequest { after: None, limit: usize::MAX };

fn store_of(fixture: &impl Fixture, records: &[super::build::Record]) -> Box<dyn Store> {
    let (ledger, mut store) = (ledger(), fixture.open());
    append(&ledger, 1, records);
    catch_up(store.folds(), &ledger);
    store
}

fn filters() -> Vec<Filter> {
    let second = |second: i64| Some(Timestamp::from_micros((1_767_225_600 + second) * 1_000_000));
    let text = |text: &str| Some(text.to_owned());
    let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let none = Filter::default();
    vec![
        none.clone(),
        Filter { session: text("s1"), ..none.clone() },
        Filter { session: text("nowhere"), ..none.clone() },
        Filter { source: text("claude-code"), model: text("model-a"), ..none.clone() },
        Filter { source: text("codex"), ..none.clone() },
        Filter { model: text("model-z"), ..none.clone() },
        Filter { model: text(""), ..none.clone() },
        Filter { project: text("/work/demo"), ..none.clone() },
        Filter { project: text("/work"), ..none.clone() },
        Filter { since: second(100), until: second(200), ..none.clone() },
        Filter { since: second(0), ..none.clone() },
        Filter { until: second(86_400), session: text("s2"), ..none.clone() },
        Filter { since: second(86_400), ..none.clone() },
        Filter { since: second(50), session: text("s0"), project: text("/work/demo"), ..none.clone() },
        Filter { tags: vec![tag("team", "a")], ..none.clone() },
        Filter { tags: vec![tag("team", "b"), tag("parentAgentId", "s1")], ..none.clone() },
        Filter { tags: vec![tag("team", "z")], ..none },
    ]
}

pub fn nothing_folded_is_not_found(fixture: &impl Fixture) {
    let store = fixture.open();
    assert_eq!(store.sessions(&Filter::default(), &ALL).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.usage(&Filter::default(), &[]).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(crate::status(&*store).unwrap_err().kind(), ErrorKind::NotFound);
}

pub fn lists_are_those_of_any_other_store(fixture: &impl Fixture) {
    let mut records = made_up(11, 400);
    // A call without a timestamp, and a session with nothing else.
    records.push(line("bare", 0, r#"{"type":"assistant","message":{"id":"msg_bare","model":"model-b"}}"#));
    let (store, expected) = (store_of(fixture, &records), folded(&records));
    let mut turns = 0;
    for filter in filters() {
        assert_eq!(
            store.sessions(&filter, &ALL).unwrap(),
            expected.sessions(&filter, &ALL).unwrap(),
            "{filter:?}"
        );
        let page = store.turns(&filter, &ALL).unwrap();
        turns += page.items.len();
        assert_eq!(page, expected.turns(&filter, &ALL).unwrap(), "{filter:?}");
    }
    assert!(turns > 100, "the filters let something through");
}

/// Reads a list page by page.
fn paged<T>(list: impl Fn(&PageRequest) -> Result<Page<T>>, limit: usize) -> Vec<T> {
    let mut items = Vec::new();
    let mut page = PageRequest { after: None, limit };
    loop {
        let found = list(&page).unwrap();
        assert!(found.items.len() <= limit);
        items.extend(found.items);
        match found.next {
            Some(next) => page.after = Some(next),
            None => return items,
        }
    }
}

pub fn pages_put_together_are_the_whole_list(fixture: &impl Fixture) {
    let mut records = made_up(12, 300);
    for number in 0..5 {
        let payload =
            format!(r#"{{"type":"assistant","message":{{"id":"msg_bare_{number}","model":"model-b"}}}}"#);
        records.push(line(&format!("bare{number}"), 0, payload));
        // The same instant in several calls.
        records.push(line("same", number, answer("same", 7, &format!("msg_same_{number}"), 1, None)));
    }
    let store = store_of(fixture, &records);
    for filter in filters() {
        let turns = store.turns(&filter, &ALL).unwrap().items;
        let sessions = store.sessions(&filter, &ALL).unwrap().items;
        for limit in [1, 3, 50] {
            let found: Vec<Turn> = paged(|page| store.turns(&filter, page), limit);
            assert_eq!(found, turns, "{filter:?}");
            assert_eq!(paged(|page| store.sessions(&filter, page), limit), sessions, "{filter:?}");
        }
    }
}

pub fn a_resume_of_another_list_is_invalid(fixture: &impl Fixture) {
    let store = store_of(fixture, &made_up(13, 50));
    let filter = Filter::default();
    let page = PageRequest { after: None, limit: 1 };
    let of_turns = store.turns(&filter, &page).unwrap().next;
    assert!(of_turns.is_some());
    for after in [of_turns, Some(Resume("x".to_owned()))] {
        let page = PageRequest { after, limit: 1 };
        assert_eq!(store.sessions(&filter, &page).unwrap_err().kind(), ErrorKind::Invalid);
    }
}

pub fn sums_are_those_of_any_other_store(fixture: &impl Fixture) {
    let mut records = made_up(14, 400);
    records.push(line(
        "bare",
        0,
        r#"{"type":"assistant","message":{"id":"msg_bare","usage":{"output_tokens":5}}}"#,
    ));
    records.push(line("late", 0, answer("late", 90_000, "msg_late", 5, None)));
    let (store, expected) = (store_of(fixture, &records), folded(&records));
    let groupings: [&[UsageBy]; 15] = [
        &[UsageBy::PriceClass],
        &[UsageBy::Branch, UsageBy::PriceClass],
        &[UsageBy::Day, UsageBy::Model, UsageBy::PriceClass],
        &[UsageBy::Week],
        &[UsageBy::Month, UsageBy::Model],
        &[UsageBy::Branch],
        &[UsageBy::Host],
        &[UsageBy::Host, UsageBy::Week, UsageBy::Branch],
        &[],
        &[UsageBy::Day],
        &[UsageBy::Model],
        &[UsageBy::Session],
        &[UsageBy::Project],
        &[UsageBy::Source, UsageBy::Day, UsageBy::Model],
        &[UsageBy::Project, UsageBy::Session],
    ];
    for filter in filters() {
        for by in groupings {
            let sums = store.usage(&filter, by).unwrap();
            assert_eq!(sums, expected.usage(&filter, by).unwrap(), "{filter:?} {by:?}");
        }
    }
}

pub fn hosts_have_the_calls_that_they_recorded(fixture: &impl Fixture) {
    let records: Vec<_> =
        (0..10).map(|seq| line("s", seq, answer("s", seq as u32, &format!("m{seq}"), 1, None))).collect();
    let (ledger, mut store) = (ledger(), fixture.open());
    append(&ledger, 1, &records[..4]);
    append(&ledger, 2, &records);
    catch_up(store.folds(), &ledger);
    let by_host = store.usage(&Filter::default(), &[UsageBy::Host]).unwrap();
    let mut calls: Vec<i64> = by_host.iter().map(|group| group.usage.calls).collect();
    calls.sort_unstable();
    assert_eq!(calls, [4, 10]);
    for group in &by_host {
        let filter = Filter { host: Some(group.key[0].clone()), ..Filter::default() };
        assert_eq!(store.usage(&filter, &[]).unwrap()[0].usage, group.usage);
        assert_eq!(store.turns(&filter, &ALL).unwrap().items.len() as i64, group.usage.calls);
        assert_eq!(store.sessions(&filter, &ALL).unwrap().items.len(), 1);
    }
    let nobody = Filter { host: Some("nobody".to_owned()), ..Filter::default() };
    assert!(store.sessions(&nobody, &ALL).unwrap().items.is_empty());
    assert!(store.turns(&nobody, &ALL).unwrap().items.is_empty());
    assert_eq!(store.usage(&Filter::default(), &[]).unwrap()[0].usage.calls, 10);
}

/// Whole sessions, parts of sessions, and sessions of which each host has other streams.
pub fn sums_by_host_are_those_of_any_other_store(fixture: &impl Fixture) {
    let calls = |stream: &str, from: u64, to: u64| -> Vec<_> {
        let call =
            |seq| line(stream, seq, answer(stream, seq as u32, &format!("msg_{stream}_{seq}"), 3, None));
        (from..to).map(call).collect()
    };
    let (ledger, mut store, mut expected) = (ledger(), fixture.open(), MemoryProjections::new());
    let agent = |session: &str| format!("{session}/subagents/agent-a");
    let of_one = ["s0", "s1", "s2", "s3", "s4", "s6"].map(|session| calls(session, 0, 6)).concat();
    append(&ledger, 1, &[of_one, calls(&agent("s3"), 0, 3), calls(&agent("s1"), 0, 2)].concat());
    let of_two =
        [calls("s1", 0, 6), calls(&agent("s1"), 0, 2), calls("s2", 0, 2), calls("s3", 0, 6)].concat();
    append(&ledger, 2, &[of_two, calls(&agent("s4"), 0, 3)].concat());
    append(&ledger, 3, &[calls("s5", 0, 4), calls("s6", 0, 5), calls("s7", 0, 0)].concat());
    catch_up(store.folds(), &ledger);
    catch_up(&mut expected, &ledger);
    let by_host = store.usage(&Filter::default(), &[UsageBy::Host]).unwrap();
    assert_eq!(by_host.iter().map(|group| group.usage.calls).sum::<i64>(), 41 + 19 + 9);
    let groupings: [&[UsageBy]; 4] = [
        &[UsageBy::Host],
        &[UsageBy::Session, UsageBy::Host],
        &[UsageBy::Host, UsageBy::Project, UsageBy::Month, UsageBy::Model],
        &[UsageBy::Host, UsageBy::Source, UsageBy::PriceClass, UsageBy::Branch, UsageBy::Day],
    ];
    for filter in filters() {
        for by in groupings {
            let sums = store.usage(&filter, by).unwrap();
            assert_eq!(sums, expected.usage(&filter, by).unwrap(), "{filter:?} {by:?}");
        }
    }
}

pub fn what_sessions_hang_together_with_is_that_of_any_other_store(fixture: &impl Fixture) {
    let mut records = made_up(17, 400);
    // Two files with one beginning, and one that goes on from a record of another.
    for seq in 0..6 {
        records.push(line("old", seq, prompt("old", seq as u32, "copied")));
        records.push(line(
            "new",
            seq + 1,
            prompt("old", seq as u32, "copied").replace(r#""sessionId":"old""#, r#""sessionId":"new""#),
        ));
    }
    records.push(line("new", 7, prompt("new", 900, "own")));
    let parent = super::build::uuid("old", 3);
    let next =
        session_line("user", "next", 950, &format!(r#""parentUuid":"{parent}","message":{{"content":"x"}}"#));
    records.push(line("next", 0, next));
    let (store, expected) = (store_of(fixture, &records), folded(&records));
    let mut links = 0;
    for session in ["s0", "s1", "s2", "s3", "s4", "old", "new", "next", "nowhere"] {
        let (one, two) = (store.queries(), &expected as &dyn Queries);
        let source = "claude-code";
        assert_eq!(one.edges(source, session).unwrap(), two.edges(source, session).unwrap(), "{session}");
        assert_eq!(one.user_turns(source, session).unwrap(), two.user_turns(source, session).unwrap());
        assert_eq!(one.tool_uses(source, session).unwrap(), two.tool_uses(source, session).unwrap());
        let found = relationships(one, source, session).unwrap();
        assert_eq!(found, relationships(two, source, session).unwrap(), "{session}");
        links += found.links.len();
        for stream in &found.streams {
            let Some(first) = &stream.stream.first_record else { continue };
            let family = one.streams_beginning_with(source, first).unwrap();
            assert!(family.contains(&stream.stream));
            assert_eq!(family, two.streams_beginning_with(source, first).unwrap());
        }
    }
    assert!(links > 20, "{links} links");
    let all = |queries: &dyn Queries| {
        let mut links = Vec::new();
        for_each_link(queries, &mut |link| {
            links.push(link);
            Ok(())
        })
        .unwrap();
        links
    };
    assert_eq!(all(store.queries()), all(&expected));
    let new = relationships(store.queries(), "claude-code", "new").unwrap();
    assert_eq!((&*new.root, new.links.len()), ("old", 1));
    let copied = new.links[0].copied.unwrap();
    assert_eq!((&*new.links[0].kind, copied.records, copied.end.seq), ("copy", 6, 6));
}

pub fn blocks_put_together_are_the_whole_list(fixture: &impl Fixture) {
    let records = made_up(18, 400);
    let (store, expected) = (store_of(fixture, &records), folded(&records));
    let mut blocks = 0;
    for (session, kinds) in [("s0", &[][..]), ("s1", &["text"]), ("s2", &["tool_use", "image"])] {
        let filter = BlockFilter {
            source: "claude-code".to_owned(),
            session: session.to_owned(),
            stream: None,
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
        };
        let whole = crate::blocks(&expected, &filter, &ALL).unwrap().items;
        blocks += whole.len();
        for limit in [1, 7, 1000] {
            let found: Vec<BlockPlace> = paged(|page| crate::blocks(store.queries(), &filter, page), limit);
            assert_eq!(found, whole, "{session} {limit}");
        }
        let own = BlockFilter { stream: Some(session.to_owned()), ..filter };
        let own = crate::blocks(store.queries(), &own, &ALL).unwrap().items;
        assert!(own.iter().all(|block| &*block.stream == session));
        assert!(!own.is_empty() && own.len() < whole.len());
    }
    assert!(blocks > 100, "{blocks} blocks");
    let of_turns = store.turns(&Filter::default(), &PageRequest { after: None, limit: 1 }).unwrap().next;
    let page = PageRequest { after: of_turns, limit: 1 };
    let refused = crate::blocks(store.queries(), &BlockFilter::default(), &page);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
}

pub fn sums_without_calls_are_one_row_of_zeros(fixture: &impl Fixture) {
    let store = store_of(fixture, &made_up(15, 20));
    let filter = Filter { model: Some("model-z".to_owned()), ..Filter::default() };
    let total = store.usage(&filter, &[]).unwrap();
    assert_eq!((total.len(), total[0].usage), (1, crate::Usage::default()));
    assert_eq!(store.usage(&filter, &[UsageBy::Day]).unwrap(), []);
}

pub fn a_session_is_found_by_a_unique_prefix(fixture: &impl Fixture) {
    let names = ["abc", "abd", "ab", "x%y", "x_y", "ünder"];
    let records: Vec<_> = names.iter().map(|name| line(name, 0, answer(name, 0, name, 1, None))).collect();
    let store = store_of(fixture, &records);
    let found = |name: &str| resolve_session(&*store, name).map(|(_, session)| session.to_string());
    assert_eq!(found("abc").unwrap(), "abc");
    assert_eq!(found("ab").unwrap(), "ab", "an exact id wins over those that begin with it");
    assert_eq!(found("x%").unwrap(), "x%y");
    assert_eq!(found("ü").unwrap(), "ünder");
    let ambiguous = found("a").unwrap_err();
    assert_eq!(ambiguous.kind(), ErrorKind::Invalid);
    assert!(ambiguous.message().contains("abc") && ambiguous.message().contains("abd"));
    assert_eq!(found("zz").unwrap_err().kind(), ErrorKind::NotFound);
}

pub fn records_are_found_by_number(fixture: &impl Fixture) {
    let records: Vec<_> = (0..300).map(|seq| line("s", seq, format!("{{\"n\":{seq}}}"))).collect();
    let mut versions = records.clone();
    versions.push(line("s", 7, "{\"n\":\"another version\"}"));
    versions.push(line("s2", 7, "{}"));
    let store = store_of(fixture, &versions);
    let all = crate::records(&*store, "claude-code", "s", 0..u64::MAX).unwrap();
    assert_eq!(all.len(), 301);
    assert!(all.is_sorted_by_key(|place| (place.seq, place.address)));
    let some = crate::records(&*store, "claude-code", "s", 7..130).unwrap();
    assert_eq!(some.len(), 124);
    assert!(some.iter().all(|place| (7..130).contains(&place.seq)));
    let expected = super::build::batch(&records).event(250).address;
    let found = crate::records(&*store, "claude-code", "s", 250..251).unwrap();
    assert_eq!(found.iter().map(|place| place.address).collect::<Vec<_>>(), [expected]);
    assert_eq!(crate::records(&*store, "claude-code", "s", 900..901).unwrap(), []);
}

pub fn streams_of_a_session_are_listed(fixture: &impl Fixture) {
    let records = [
        line("s", 0, answer("s", 0, "a", 1, None)),
        line("s/subagents/agent-x", 0, answer("s", 1, "b", 1, None)),
        line("s2", 0, answer("s2", 2, "c", 1, None)),
    ];
    let store = store_of(fixture, &records);
    let streams = store.streams("claude-code", "s").unwrap();
    let names: Vec<_> = streams.iter().map(|stream| (&*stream.stream, stream.agent.as_deref())).collect();
    assert_eq!(names, [("s", None), ("s/subagents/agent-x", Some("x"))]);
    assert_eq!(store.streams("claude-code", "nowhere").unwrap(), []);
}

pub fn a_query_goes_on_while_another_generation_is_built(fixture: &impl Fixture) {
    let (ledger, mut store) = (ledger(), fixture.open());
    append(&ledger, 1, &made_up(16, 200));
    catch_up(store.folds(), &ledger);
    let total = |queries: &dyn Queries| queries.usage(&Filter::default(), &[]).unwrap()[0].usage;
    let before = total(store.queries());
    let reader = fixture.open();
    let mut projector = Projector::rebuild(store.folds(), &ledger, small_limits()).unwrap();
    assert_eq!(total(reader.queries()), before);
    projector.flush().unwrap();
    projector.catch_up(&ledger).unwrap();
    drop(projector);
    assert_eq!(total(reader.queries()), before);
    assert_eq!(total(store.queries()), before);
}
