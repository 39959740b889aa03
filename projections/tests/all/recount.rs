//! Counts of some sessions alone are those of a ledger that has the records of these and nothing else.

use crate::codex::{A, B, line as codex_line, meta, rollout};
use burnlog_log::{Kind, Ledger, Limit, Part};
use burnlog_projections::conformance::build::{Record, append, batch, catch_up, ledger, line, made_up};
use burnlog_projections::{
    Diagnostic, Filter, MemoryProjections, PageRequest, Queries, Recount, Recounted, diagnostics,
};
use proptest::prelude::*;

fn folded_of(ledger: &Ledger) -> MemoryProjections {
    let mut store = MemoryProjections::new();
    catch_up(&mut store, ledger);
    store
}

/// The counts that are kept of a ledger with these records alone.
fn kept<'r>(records: impl Iterator<Item = &'r Record>) -> Vec<Diagnostic> {
    let ledger = ledger();
    append(&ledger, 1, &records.cloned().collect::<Vec<_>>());
    diagnostics(&folded_of(&ledger)).unwrap()
}

/// Counts sessions, reading a few records at once.
fn recounted(store: &MemoryProjections, ledger: &Ledger, sessions: &[(&str, &str)]) -> Recounted {
    let mut recount = Recount::new(store, ledger, Limit { entries: 7, bytes: 1 << 20 });
    for (source, session) in sessions {
        recount.add(source, session).unwrap();
    }
    recount.finish()
}

fn sum(rows: &[Diagnostic]) -> i64 {
    let counts = |row: &Diagnostic| {
        row.understood
            + row.unknown
            + row.unreadable
            + row.superseded
            + row.oversized
            + row.erased
            + row.other_kinds
    };
    rows.iter().map(counts).sum()
}

/// Made-up sessions with unterminated records (some of which a line completes), parts, and types that nobody knows.
fn odd_sessions(seed: u64) -> Vec<Record> {
    let mut records = made_up(seed, 60);
    for seq in 0..20 {
        let stream = format!("s{}", seq % 4);
        records.push(Record { kind: Kind::Tail, ..line(&stream, seq * 10, format!("{{\"cut\":{seq}")) });
        records.push(line(
            &stream,
            900 + seq,
            format!(r#"{{"type":"new-{}","version":"3.{seq}"}}"#, seq % 3),
        ));
        records.push(Record {
            part: Some(Part { number: 0, more: true }),
            ..line(&stream, 1000 + seq, "[".repeat(9))
        });
    }
    records
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn a_session_counts_what_a_ledger_of_it_alone_counts(seed: u64, erased in 0..30usize) {
        let records = odd_sessions(seed);
        let ledger = ledger();
        append(&ledger, 1, &records);
        let addresses: Vec<_> = batch(&records).events().map(|event| event.address).collect();
        let before = folded_of(&ledger);
        ledger.erase(&addresses[..erased.min(addresses.len())]).unwrap();
        let store = folded_of(&ledger);
        let page = PageRequest { after: None, limit: 99 };
        let sessions = store.sessions(&Filter::default(), &page).unwrap().items;
        let mut all = Vec::new();
        let mut sums = 0;
        for row in &sessions {
            let alone = [(&*row.source, &*row.session)];
            let Recounted { rows, unread } = recounted(&store, &ledger, &alone);
            prop_assert_eq!(unread, 0);
            if erased == 0 {
                let is_of_it = |record: &&Record| {
                    matches!(record.kind, Kind::Line | Kind::Tail)
                        && record.stream.split('/').next() == Some(&*row.session)
                };
                prop_assert_eq!(&rows, &kept(records.iter().filter(is_of_it)));
            }
            sums += sum(&rows);
            all.extend(alone);
        }
        // All of them together are what is kept, and nobody is asked what was folded before the erasure.
        prop_assert_eq!(&recounted(&store, &ledger, &all).rows, &diagnostics(&store).unwrap());
        prop_assert_eq!(sums, sum(&diagnostics(&store).unwrap()));
        prop_assert_eq!(&recounted(&before, &ledger, &all).rows, &diagnostics(&store).unwrap());
        prop_assert!(recounted(&store, &ledger, &[("codex", "s0"), ("claude-code", "none")]).rows.is_empty());
    }
}

/// What a store cannot read counts as what it was when it was folded.
#[test]
fn records_that_cannot_be_read_any_more_count_without_version_and_type() {
    let (whole, empty) = (ledger(), ledger());
    append(&whole, 1, &odd_sessions(1));
    let store = folded_of(&whole);
    let known = recounted(&store, &whole, &[("claude-code", "s1")]);
    let lost = recounted(&store, &empty, &[("claude-code", "s1")]);
    assert_eq!((known.unread, lost.unread as i64), (0, sum(&known.rows)));
    let [row] = &lost.rows[..] else { panic!("{lost:?}") };
    assert_eq!((&*row.source, &*row.version, &*row.record_type), ("claude-code", "", ""));
    let total = |count: fn(&Diagnostic) -> i64| known.rows.iter().map(count).sum::<i64>();
    assert_eq!((row.understood, row.unknown), (total(|row| row.understood), total(|row| row.unknown)));
    assert_eq!((row.oversized, sum(&lost.rows)), (total(|row| row.oversized), sum(&known.rows)));
}

/// Where one record tells the version of all others of its session, it does so here as well, whichever is read first.
#[test]
fn unknown_records_count_under_the_version_of_their_session() {
    let object = |stream: &str, payload: &str| Record { source: "opencode", ..line(stream, 0, payload) };
    let mut records = rollout(A, &[codex_line(1, "tomorrow", ""), meta(2, A, "")]);
    records.extend(rollout(B, &[codex_line(1, "tomorrow", "")]));
    records.push(object("novelty/x", r#"{"id":"x","sessionID":"ses_1"}"#));
    records.push(object("session/ses_1", r#"{"id":"ses_1","version":"1.1.0","time":{"created":1}}"#));
    let ledger = ledger();
    append(&ledger, 1, &records);
    let store = folded_of(&ledger);
    let all = [("codex", A), ("codex", B), ("opencode", "ses_1")];
    let counted = recounted(&store, &ledger, &all).rows;
    assert_eq!(counted, diagnostics(&store).unwrap());
    let unknown = |rows: &[Diagnostic]| -> Vec<String> {
        let rows = rows.iter().filter(|row| row.unknown > 0);
        rows.map(|row| format!("{} {} {}", row.version, row.record_type, row.unknown)).collect()
    };
    assert_eq!(unknown(&recounted(&store, &ledger, &all[..1]).rows), ["0.142.0 tomorrow 1"]);
    assert_eq!(unknown(&recounted(&store, &ledger, &all[1..2]).rows), [" tomorrow 1"]);
    assert_eq!(unknown(&recounted(&store, &ledger, &all[2..]).rows), ["1.1.0 novelty 1"]);
}
