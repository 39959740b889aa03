//! Laws 1, 2 and 6 over random files, cuts, rewrites, lost answers and lost cursors.

use crate::support::{Event, Host, in_one_shot};
use burnlog_log::{Ledger, LedgerId, MemoryBackend};
use burnlog_sources::Options;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn record() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0..5u8, "[a-c{}\\[\\]\\\\\" ]{0,6}").prop_map(|(n, text)| {
            format!("{{\"n\":{n},\"t\":{}}}", serde_json::Value::String(text)).into_bytes()
        }),
        1 => Just(b"{}".to_vec()),
        1 => Just(Vec::new()),
        1 => Just(b"\0\0".to_vec()),
        1 => proptest::collection::vec(prop_oneof![Just(b'{'), Just(b'}'), Just(b'"'), Just(b'\r'), any::<u8>()], 0..9)
            .prop_map(|bytes| bytes.into_iter().filter(|byte| *byte != b'\n').collect()),
    ]
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    (proptest::collection::vec(
        (record(), prop_oneof![9 => Just("\n"), 1 => Just("\r\n"), 1 => Just("")]),
        0..8,
    ))
    .prop_map(|records| {
        records.into_iter().flat_map(|(record, end)| [record, end.as_bytes().to_vec()].concat()).collect()
    })
}

/// The records that stood as whole objects without a newline where the file was cut, and then went on: what law 2
/// allows a cut to add.
fn spliced(content: &[u8], cuts: &[usize]) -> BTreeSet<Vec<u8>> {
    let goes_on = |cut: &&usize| !matches!(content.get(**cut), None | Some(b'\n'));
    let last = |cut: &usize| content[..*cut].rsplit(|byte| *byte == b'\n').next().unwrap().to_vec();
    cuts.iter().filter(goes_on).map(last).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<u8>),
    Rewrite(Vec<u8>),
    Truncate(usize),
    Remove,
    Close,
    LoseCursors,
    /// The n-th batch fails, stored or not; then everything is tried again.
    Crash(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => content().prop_map(Step::Append),
        2 => content().prop_map(Step::Rewrite),
        1 => (0..60usize).prop_map(Step::Truncate),
        1 => Just(Step::Remove),
        2 => Just(Step::Close),
    ]
}

fn step_or_loss() -> impl Strategy<Value = Step> {
    prop_oneof![
        9 => step(),
        1 => Just(Step::LoseCursors),
        1 => (0..3usize, any::<bool>()).prop_map(|(batches, stores)| Step::Crash(batches, stores)),
    ]
}

fn take(host: &mut Host, name: &str, step: &Step) {
    let path = host.path(name);
    host.has_lost_knowledge |= matches!(step, Step::LoseCursors | Step::Crash(..));
    let now = std::fs::read(&path).unwrap_or_default();
    match step {
        Step::Append(more) => host.append(name, more),
        Step::Rewrite(content) => host.write(name, content),
        Step::Truncate(bytes) => host.write(name, &now[..now.len().min(*bytes)]),
        Step::Remove => drop(std::fs::remove_file(&path)),
        Step::Close => drop(host.close()),
        Step::LoseCursors => drop(std::fs::remove_file(host.cursor_path())),
        Step::Crash(batches, stores) => {
            (host.crash_after, host.crash_stores) = (Some(*batches), *stores);
            host.options.recheck = true;
            drop(host.try_ingest_from(&[host.home()]));
            host.options.recheck = false;
            host.crash_after = None;
        }
    }
}

/// A quarter of the usual number: each case is a home folder with several ingests.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases / 4, failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn incremental_is_one_shot(content in content(), mut cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5), long in prop_oneof![Just(6usize), Just(1000)]) {
        let mut cuts: Vec<usize> = cuts.drain(..).map(|cut| cut.index(content.len() + 1)).collect();
        cuts.sort_unstable();
        let options = Options { batch_bytes: 60, record_bytes_max: long, ..Options::default() };
        let mut host = Host::new();
        host.options = options.clone();
        for cut in cuts.iter().chain([&content.len()]) {
            host.write("s.jsonl", &content[..*cut]);
            host.ingest();
        }
        let expected = in_one_shot("s.jsonl", &content, &options);
        let lines = host.lines();
        prop_assert!(expected.is_subset(&lines));
        let allowed = spliced(&content, &cuts);
        let is_allowed = |event: &&Event| allowed.iter().any(|record| record.windows(event.payload.len().max(1)).any(|part| part == event.payload));
        let extra: Vec<&Event> = lines.difference(&expected).filter(|event| !is_allowed(event)).collect();
        prop_assert!(extra.is_empty(), "{:?}", extra);
        host.close();
        if !content.is_empty() {
            prop_assert!(host.restored().iter().any(|(_, restored)| *restored == content));
        }
    }

    #[test]
    fn every_extent_restores_whatever_happened(steps in prop_oneof![
        proptest::collection::vec((any::<bool>(), step().boxed()), 1..12),
        proptest::collection::vec((any::<bool>(), step_or_loss().boxed()), 1..12),
    ]) {
        let mut host = Host::new();
        host.options.record_bytes_max = 12;
        for (is_first, step) in &steps {
            let name = if *is_first { "s.jsonl" } else { "t.jsonl" };
            take(&mut host, name, step);
            host.ingest();
        }
        host.close();
        // Restoring checks length and root of every extent. Without losses it never has to guess.
        let restored = host.restored();
        for (name, stream) in [("s.jsonl", "s"), ("t.jsonl", "t")] {
            let content = std::fs::read(host.path(name)).unwrap_or_default();
            if !content.is_empty() {
                let wanted = (stream.to_owned(), content);
                prop_assert!(restored.contains(&wanted), "{:?} is not in {:?}", wanted, restored);
            }
        }
        let size = host.feed_size();
        host.ingest();
        host.close();
        prop_assert_eq!(host.feed_size(), size);
    }

    #[test]
    fn the_same_file_on_many_hosts_is_stored_once(content in content(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 3)) {
        let ledger = Ledger::new(MemoryBackend::new(LedgerId([0; 16])));
        let expected = in_one_shot("s.jsonl", &content, &Options::default()).len() as u64;
        let mut stored = 0;
        for (key, cut) in (1..).zip(&cuts) {
            // Cuts at the ends of lines: those inside may add a version of a spliced record.
            let cut = content[..cut.index(content.len() + 1)].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let mut host = Host::in_ledger(ledger.clone(), key);
            host.write("s.jsonl", &content[..cut]);
            stored += host.ingest().total().new;
            host.write("s.jsonl", &content);
            stored += host.ingest().total().new;
            let again = host.ingest().total();
            prop_assert_eq!((again.new, again.known, again.records), (0, 0, 0));
            host.options.recheck = true;
            prop_assert_eq!(host.ingest().total().records, 0);
        }
        prop_assert_eq!(stored, expected);
        prop_assert_eq!(ledger.stat().unwrap().events, expected);
    }
}
