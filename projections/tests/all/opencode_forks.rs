//! Forks of OpenCode: copied messages under new ids are the calls that they were copied from, whatever came first, and no
//! two calls are taken for one.

use crate::laws::converges;
use burnlog_log::Kind;
use burnlog_projections::conformance::build::{Random, Record, append, catch_up, dumped, folded, ledger};
use burnlog_projections::{
    Call, CallSession, Filter, Link, MemoryProjections, Queries, Row, RowReader, Session, Tokens, ToolUse,
    Usage, UserTurn, for_each_link, live, relationships,
};
use proptest::prelude::*;

/// Some days before ids begin anew, so that these do in the middle of what is made up here.
const START: i64 = 26 * (1 << 36) - 40_000;

fn rows<R: Row>(store: &MemoryProjections) -> Vec<R> {
    let rows = store.scan(live(store).unwrap(), R::TABLE, None, usize::MAX).unwrap();
    rows.into_iter().map(|row| R::read(row).unwrap()).collect()
}

fn total(store: &MemoryProjections) -> Usage {
    store.usage(&Filter::default(), &[]).unwrap()[0].usage
}

fn object(stream: &str, payload: String) -> Record {
    let (stream, payload) = (stream.to_owned(), payload.into_bytes());
    Record { kind: Kind::Line, source: "opencode", stream, seq: 0, part: None, payload }
}

/// An id as OpenCode makes it `at` milliseconds after [`START`].
fn id(at: i64, number: i64) -> String {
    let digits = ((START + at) * 4096 + number) & ((1 << 48) - 1);
    format!("msg_{digits:012x}abcdefghijKLMN")
}

/// A question and its answer: when it began, how long it took, and what it used.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Exchange {
    at: i64,
    took: Option<i64>,
    output: u64,
}

impl Exchange {
    fn new(at: i64) -> Self {
        Self { at, took: Some(500), output: 20 }
    }

    /// Its objects in a session, under ids of which the first was made at `made`: where it was asked, or later in a fork.
    fn objects(&self, session: &str, made: i64) -> Vec<Record> {
        let (question, answer, at) = (id(made, 1), id(made, 2), START + self.at);
        let user = format!(
            r#"{{"id":"{question}","sessionID":"{session}","role":"user","time":{{"created":{at}}}}}"#
        );
        let (completed, used) = match self.took {
            Some(took) => (format!(r#","completed":{}"#, at + took), self.output),
            None => (String::new(), 0),
        };
        let assistant = format!(
            r#"{{"id":"{answer}","sessionID":"{session}","role":"assistant","parentID":"{question}","modelID":"m","providerID":"p","mode":"build","path":{{"cwd":"/work"}},"cost":0.5,"tokens":{{"input":{used},"output":{used},"reasoning":0,"cache":{{"read":0,"write":0}}}},"finish":"stop","time":{{"created":{at}{completed}}}}}"#
        );
        let tool = format!(
            r#"{{"id":"prt_{answer}","messageID":"{answer}","sessionID":"{session}","type":"tool","callID":"c","tool":"bash","state":{{"status":"completed","input":{{}},"output":"x","time":{{"start":{},"end":{}}}}}}}"#,
            at + 1,
            at + 2
        );
        vec![
            object(&format!("message/{question}"), user),
            object(&format!("message/{answer}"), assistant),
            object(&format!("part/prt_{answer}"), tool),
        ]
    }

    fn own(&self, session: &str) -> Vec<Record> {
        self.objects(session, self.at)
    }
}

/// What a fork made at `forked` copies.
fn copies(exchanges: &[Exchange], session: &str, forked: i64) -> Vec<Record> {
    (0..).zip(exchanges).flat_map(|(number, exchange)| exchange.objects(session, forked + number)).collect()
}

/// A session of three calls, and a fork that copies two of them and goes on.
fn session_and_fork() -> (Vec<Record>, Vec<Record>) {
    let exchanges = [0, 10_000, 20_000].map(Exchange::new);
    let original = exchanges.iter().flat_map(|exchange| exchange.own("ses_z")).collect();
    let mut fork = copies(&exchanges[..2], "ses_a", 60_000);
    fork.extend(Exchange::new(70_000).own("ses_a"));
    (original, fork)
}

/// Trap 8: what a fork copies is counted where it was made, whichever of the two comes first.
#[test]
fn trap_08_a_fork_of_opencode_counts_what_it_adds() {
    let (original, fork) = session_and_fork();
    let expected = dumped(&folded(&[original.clone(), fork.clone()].concat()));
    for parts in [[&original, &fork], [&fork, &original]] {
        let (ledger, mut store) = (ledger(), MemoryProjections::new());
        for (number, record) in (0u8..).zip(parts.into_iter().flatten()) {
            append(&ledger, number % 3 + 1, std::slice::from_ref(record));
            catch_up(&mut store, &ledger);
        }
        assert_eq!(dumped(&store), expected);
        assert_eq!((total(&store).calls, total(&store).output_tokens), (4, Tokens(80)));
        let sessions: Vec<_> = rows::<Session>(&store)
            .iter()
            .map(|row| (row.session.to_string(), row.calls, row.copied_calls))
            .collect();
        assert_eq!(sessions, [("ses_a".to_owned(), 1, 2), ("ses_z".to_owned(), 3, 0)]);
        let shared = rows::<CallSession>(&store);
        let shared: Vec<_> = shared.iter().map(|row| (row.call.clone(), &*row.session)).collect();
        assert_eq!(shared, [(id(0, 2), "ses_a"), (id(10_000, 2), "ses_a")]);
        let calls: Vec<Call> = rows(&store);
        assert!(calls.iter().all(|call| !call.copied && *call.stream == format!("message/{}", call.call)));
    }
}

/// Until the original is there the first copy stands in for it; both copies are then one call.
#[test]
fn copies_without_their_original_are_one_call() {
    let exchanges = [Exchange::new(0)];
    let forks = [copies(&exchanges, "ses_b", 60_000), copies(&exchanges, "ses_a", 90_000)].concat();
    let (ledger, mut store) = (ledger(), MemoryProjections::new());
    append(&ledger, 1, &forks);
    catch_up(&mut store, &ledger);
    let call = &rows::<Call>(&store)[0];
    assert_eq!((total(&store).calls, &*call.session, call.copied), (1, "ses_b", true));
    append(&ledger, 2, &exchanges[0].own("ses_z"));
    catch_up(&mut store, &ledger);
    let call = &rows::<Call>(&store)[0];
    assert_eq!((total(&store).calls, &*call.session, call.copied), (1, "ses_z", false));
    assert_eq!(rows::<CallSession>(&store).len(), 2);
    assert_eq!(rows::<Call>(&store).len(), 1);
}

/// Trap 9: calls of two sessions that say the same stay two, where no id says that one was made later, also where they used
/// nothing or did not end; and their copies are no further calls.
#[test]
fn trap_09_calls_of_opencode_that_look_alike_stay_apart() {
    let exchange = Exchange::new(0);
    let other = exchange.objects("ses_b", 1);
    assert_eq!(total(&folded(&[exchange.own("ses_a"), other.clone()].concat())).calls, 2);
    // A copy is one of the first of them.
    let copied = copies(&[exchange], "ses_c", 60_000);
    let store = folded(&[exchange.own("ses_a"), other, copied].concat());
    assert_eq!(total(&store).calls, 2);
    let shared: Vec<_> = rows::<CallSession>(&store);
    assert_eq!((shared.len(), &shared[0].call), (1, &id(0, 2)));
    for exchange in [Exchange { output: 0, ..exchange }, Exchange { took: None, ..exchange }] {
        let alike = [exchange.own("ses_a"), exchange.objects("ses_b", 1)].concat();
        assert_eq!(total(&folded(&alike)).calls, 2);
        let forks = [copies(&[exchange], "ses_c", 60_000), copies(&[exchange], "ses_d", 90_000)].concat();
        assert_eq!(total(&folded(&forks)).calls, 1);
        assert_eq!(total(&folded(&[alike, forks].concat())).calls, 2);
    }
}

/// A message that grows is a call of its own until it has ended, and then perhaps one of which a copy is there.
#[test]
fn a_call_finds_its_copy_when_it_has_ended() {
    let exchange = Exchange::new(0);
    let (ledger, mut store) = (ledger(), MemoryProjections::new());
    let half = Exchange { took: None, ..exchange };
    for (records, calls) in [
        (half.own("ses_z"), 1),
        (copies(&[exchange], "ses_a", 60_000), 2),
        (exchange.own("ses_z"), 1),
        (half.own("ses_z"), 1),
    ] {
        append(&ledger, 1, &records);
        catch_up(&mut store, &ledger);
        assert_eq!(total(&store).calls, calls);
        assert_eq!(rows::<Call>(&store).len() as i64, calls);
    }
    assert_eq!(&*rows::<Call>(&store)[0].session, "ses_z");
}

/// The end of an answer is changed afterwards: the copy is then of another call.
#[test]
fn a_call_that_changes_loses_its_copy() {
    let (first, last) = (Exchange::new(0), Exchange { took: Some(900), ..Exchange::new(0) });
    let (ledger, mut store) = (ledger(), MemoryProjections::new());
    append(&ledger, 1, &[first.own("ses_z"), copies(&[first], "ses_a", 60_000)].concat());
    catch_up(&mut store, &ledger);
    assert_eq!((total(&store).calls, rows::<CallSession>(&store).len()), (1, 1));
    append(&ledger, 1, &last.own("ses_z"));
    catch_up(&mut store, &ledger);
    assert_eq!((total(&store).calls, rows::<CallSession>(&store).len()), (2, 0));
}

#[test]
fn what_stands_in_copied_history_is_marked() {
    let (original, fork) = session_and_fork();
    let store = folded(&[original, fork].concat());
    let copied = |session: &str| {
        let turns = rows::<UserTurn>(&store);
        let turns = turns.iter().filter(|row| row.copied && &*row.session == session).count();
        let tools = rows::<ToolUse>(&store);
        let is_copied = |row: &&ToolUse| row.use_copied == Some(true) && row.result_copied == Some(true);
        (turns, tools.iter().filter(|row| row.session.as_deref() == Some(session)).filter(is_copied).count())
    };
    assert_eq!((copied("ses_a"), copied("ses_z")), ((2, 2), (0, 0)));
}

fn short(link: &Link) -> (&str, &str, &str, u64) {
    let from = link.from_session.as_deref().unwrap_or_default();
    (&link.kind, from, &link.to_session, link.copied.map_or(0, |copied| copied.records))
}

/// Trap 8: a fork has a link to what it came out of, with the place where the copy ends.
#[test]
fn trap_08_a_fork_of_opencode_is_linked_and_measured() {
    let (original, mut fork) = session_and_fork();
    let of_fork = [Exchange::new(0), Exchange::new(10_000), Exchange::new(70_000)];
    fork.extend(copies(&of_fork, "ses_b", 90_000));
    let store = folded(&[original, fork].concat());
    let links = |session: &str| relationships(&store, "opencode", session).unwrap();
    let (of_a, of_b, of_z) = (links("ses_a"), links("ses_b"), links("ses_z"));
    let to_a = ("fork", "ses_z", "ses_a", 2);
    let to_b = ("fork", "ses_a", "ses_b", 3);
    assert_eq!(of_z.links.iter().map(short).collect::<Vec<_>>(), [to_a]);
    assert_eq!(of_a.links.iter().map(short).collect::<Vec<_>>(), [to_a, to_b]);
    assert_eq!(of_b.links.iter().map(short).collect::<Vec<_>>(), [to_b]);
    assert_eq!([&*of_a.root, &*of_b.root, &*of_z.root], ["ses_z"; 3]);
    let link = &of_a.links[0];
    let (last, first) = (id(60_001, 2), id(10_000, 2));
    assert_eq!(link.to_stream.as_deref(), Some(&*format!("message/{last}")));
    assert_eq!(link.record.as_deref(), Some(&*first));
    assert_eq!(link.at.map(burnlog_log::Timestamp::as_micros), Some((START + 60_001) * 1000));
    let mut all = Vec::new();
    for_each_link(&store, &mut |link| {
        all.push(link);
        Ok(())
    })
    .unwrap();
    assert_eq!(all.iter().map(short).collect::<Vec<_>>(), [to_a, to_b]);
}

/// Sessions with forks of forks, some of whose messages are seen in several versions.
fn made_up(seed: u64, count: u64) -> Vec<Record> {
    let mut random = Random(seed);
    let mut sessions: Vec<Vec<Exchange>> = vec![Vec::new()];
    let mut records = Vec::new();
    for step in 0..count {
        let (at, from) = (step as i64 * 1000, random.below(sessions.len() as u64) as usize);
        let name = format!("ses_{}", 9 - from);
        match random.below(4) {
            0 if sessions.len() < 5 => {
                let length = random.below(sessions[from].len() as u64 + 1) as usize;
                let copied = sessions[from][..length].to_vec();
                records.extend(copies(&copied, &format!("ses_{}", 9 - sessions.len()), at + 600));
                sessions.push(copied);
            }
            choice => {
                let exchange = Exchange { at, took: Some(100), output: random.below(2) * 7 };
                if choice == 1 {
                    records.extend(Exchange { took: None, ..exchange }.own(&name));
                }
                if choice != 1 || random.below(2) == 0 {
                    records.extend(exchange.own(&name));
                    sessions[from].push(exchange);
                }
            }
        }
    }
    records.retain(|_| random.below(8) > 0);
    records
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Laws 1, 3 and 4 where history is copied.
    #[test]
    fn a_dump_of_forks_depends_on_the_objects_alone(seed: u64, count in 1u64..40, feeds in 1u8..4, piece in 1usize..20) {
        converges(&made_up(seed, count), seed, feeds, piece)?;
    }

    /// Sums kept on the way are those of the rows, and each call that ended is there once.
    #[test]
    fn each_call_of_forks_is_counted_once(seed: u64, count in 1u64..40) {
        let records = made_up(seed, count);
        prop_assume!(!records.is_empty());
        let store = folded(&records);
        let mut calls: Vec<_> = rows::<Call>(&store)
            .into_iter()
            .filter(|call| call.complete)
            .map(|call| call.timestamp)
            .collect();
        let before = calls.len();
        calls.sort_unstable();
        calls.dedup();
        prop_assert_eq!(calls.len(), before);
        prop_assert_eq!(rows::<Call>(&store).len() as i64, total(&store).calls);
    }
}
