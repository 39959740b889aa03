//! Crashes and failing disks: whatever write or sync they hit, no acknowledged batch is lost, no half batch appears, nothing is
//! reported as damaged, and appending goes on.

use burnlog_jsonl::{Durability, Fault, JsonlBackend, JsonlOptions, Simulated};
use burnlog_log::conformance::build::{Event, Prepared, TestFeed, assert_feed, read_all};
use burnlog_log::{Address, Backend, BatchHead, Body, ErrorKind, Limit, Result, WriterId};
use std::path::Path;
use std::sync::Arc;

const FOLDER: &str = "/ledger";

fn options(system: &Simulated, durability: Durability) -> JsonlOptions {
    JsonlOptions {
        create: true,
        durability,
        // Small enough that segments are sealed and frames cut in the middle of things.
        segment_bytes_max: 6000,
        seal_bytes_min: 3000,
        frame_bytes: 2000,
        // Of the batches below some go into packs and some do not.
        pack_bytes_min: 900,
        // So that the fifth small batch of a process has room written behind it.
        room_bytes: 6000,
        files: Arc::new(system.clone()),
        ..JsonlOptions::default()
    }
}

fn open(system: &Simulated) -> Result<JsonlBackend> {
    open_as(system, Durability::Batch)
}

fn open_as(system: &Simulated, durability: Durability) -> Result<JsonlBackend> {
    JsonlBackend::open(Path::new(FOLDER), options(system, durability))
}

/// What was acknowledged, and what may be there besides.
#[derive(Default)]
struct Story {
    acknowledged: Vec<BatchHead>,
    /// Batches whose outcome is unknown.
    tried: Vec<BatchHead>,
    erased: Vec<Event>,
    is_created: bool,
}

/// Appends a batch with the first event of each chunk already known from the other feed, and notes what came of it.
fn append(backend: &JsonlBackend, feed: &mut TestFeed, events: &[Event], story: &mut Story) -> Result<()> {
    let prepared = feed.prepare(events);
    let result = prepared.apply(backend);
    match &result {
        Ok(()) => {
            feed.frontier = prepared.frontier;
            feed.heads.push(prepared.head);
            story.acknowledged.push(prepared.head);
        }
        Err(error) if error.kind() == ErrorKind::Unavailable => story.tried.push(prepared.head),
        Err(_) => {}
    }
    result
}

/// A small life of a ledger: batches of two writers that share events, reopening, sealing, erasing, compacting.
fn live(system: &Simulated, story: &mut Story) -> Result<()> {
    live_as(system, story, Durability::Batch)
}

fn live_as(system: &Simulated, story: &mut Story, durability: Durability) -> Result<()> {
    let (mut one, mut two) = (TestFeed::new(1), TestFeed::new(2));
    // Text that does not get much shorter in a pack.
    let text = |n: u64| (0..14).map(|at| Address::of(&[n as u8, at]).to_string()).collect::<String>();
    let long = |n: u64| Event::line("long", n, format!("{{\"text\":\"{}\"}}", text(n)).as_bytes());
    let backend = open_as(system, durability)?;
    story.is_created = true;
    append(&backend, &mut one, &Event::lines("a", 3), story)?;
    append(&backend, &mut two, &Event::lines("a", 5), story)?;
    append(&backend, &mut one, &[Event::line("odd", 0, b"\xff\n"), long(0)], story)?;
    drop(backend);
    let backend = open_as(system, durability)?;
    for n in 1..6 {
        append(&backend, &mut one, &[long(n)], story)?;
        append(&backend, &mut two, &[long(n), Event::line("b", n, b"{}")], story)?;
    }
    let erased = Event::lines("a", 2)[1].clone();
    backend.erase(&[erased.address])?;
    story.erased.push(erased);
    append(&backend, &mut one, &Event::lines("c", 2), story)?;
    backend.compact()?;
    append(&backend, &mut two, &Event::lines("c", 3), story)?;
    Ok(())
}

/// Looks at a ledger after something happened: everything acknowledged is there, whole, and nothing is damaged.
fn examine(backend: &JsonlBackend, story: &Story, what: &str) {
    backend
        .check(&mut |damage| assert!(damage.rebuildable, "{what}: {damage:?}"))
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let find = |feed: &WriterId, size: u64| {
        let page = read_all(backend, feed, Limit::default());
        page.heads.into_iter().find(|head| head.size == size)
    };
    for head in &story.acknowledged {
        assert_eq!(find(&head.feed, head.size), Some(*head), "{what}: an acknowledged batch is gone");
    }
    for number in [1, 2] {
        let feed = TestFeed::new(number).id();
        let page = read_all(backend, &feed, Limit::default());
        for head in &page.heads {
            let known = story.acknowledged.iter().chain(&story.tried).any(|other| other == head);
            assert!(known, "{what}: a batch that nobody wrote");
        }
        let size = page.heads.last().map_or(0, |head| head.size);
        assert_eq!(page.entries.len() as u64, size, "{what}: half a batch");
        for entry in &page.entries {
            match &entry.body {
                Body::Present { skeleton, payload } => {
                    burnlog_log::check_payload(skeleton, payload)
                        .unwrap_or_else(|error| panic!("{what}: {error}"));
                }
                Body::Erased { .. } => {}
                Body::Damaged { place, reason } => panic!("{what}: {place}: {reason}"),
            }
            let is_erased = story.erased.iter().any(|event| event.address == entry.address);
            assert!(
                !is_erased || matches!(entry.body, Body::Erased { .. }),
                "{what}: an erased payload is back"
            );
        }
    }
}

/// Appends one more batch to feed 1, wherever it stands.
fn go_on(backend: &JsonlBackend, what: &str) {
    let mut feed = TestFeed::new(1);
    let page = read_all(backend, &feed.id(), Limit::default());
    let leaves = page.entries.iter().map(|entry| match &entry.body {
        Body::Present { skeleton, .. } | Body::Erased { skeleton } => burnlog_log::leaf(skeleton),
        Body::Damaged { .. } => panic!("{what}: damaged"),
    });
    feed.frontier.extend(leaves);
    feed.append(backend, &Event::lines("after", 3)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let page = read_all(backend, &feed.id(), Limit::default());
    assert_eq!(page.state.map(|state| state.head), feed.heads.last().copied(), "{what}");
}

#[test]
fn the_story_is_long_enough_to_be_worth_crashing() {
    let system = Simulated::new(1);
    let mut story = Story::default();
    live(&system, &mut story).unwrap();
    assert_eq!((story.acknowledged.len(), story.tried.len()), (15, 0));
    let sealed = |path: &Path| path.extension().is_some_and(|ending| ending == "zst");
    assert!(system.paths().iter().any(|path| sealed(path)), "nothing was sealed");
    let (changes, syncs, writes) = system.counts();
    assert!(changes > 100 && syncs > 20 && writes > 40, "{changes} {syncs} {writes}");
    examine(&open(&system).unwrap(), &story, "undisturbed");
}

#[test]
fn a_crash_at_any_operation_loses_nothing_that_was_acknowledged() {
    let undisturbed = Simulated::new(1);
    live(&undisturbed, &mut Story::default()).unwrap();
    let (changes, ..) = undisturbed.counts();
    for at in 1..=changes {
        for seed in 0..4 {
            let what = format!("crash at operation {at} of {changes}, seed {seed}");
            let system = Simulated::new(1).with_fault(Fault::Crash(at));
            let mut story = Story::default();
            live(&system, &mut story).expect_err("the machine was switched off");
            let after = (0..seed).fold(system.after_crash(), |_, _| system.after_crash());
            if !story.is_created && after.bytes_of(&Path::new(FOLDER).join("ledger.json")).is_none() {
                continue;
            }
            let reader = JsonlBackend::open(
                Path::new(FOLDER),
                JsonlOptions { read_only: true, create: false, ..options(&after, Durability::Batch) },
            );
            examine(
                &reader.unwrap_or_else(|error| panic!("{what}: {error}")),
                &story,
                &format!("{what}, reader"),
            );
            let backend = open(&after).unwrap_or_else(|error| panic!("{what}: {error}"));
            examine(&backend, &story, &what);
            go_on(&backend, &what);
            drop(backend);
            go_on_twice(&after, &what);
        }
    }
}

#[test]
fn without_syncs_a_crash_costs_whole_batches_from_the_end() {
    let undisturbed = Simulated::new(1);
    live_as(&undisturbed, &mut Story::default(), Durability::Os).unwrap();
    let (changes, ..) = undisturbed.counts();
    let mut lost = 0;
    for at in 1..=changes {
        for seed in 0..3 {
            let what = format!("crash at operation {at} of {changes} without syncs, seed {seed}");
            let system = Simulated::new(1).with_fault(Fault::Crash(at));
            let mut story = Story::default();
            // A crash while the ledger is closed is noticed by nobody.
            let _ = live_as(&system, &mut story, Durability::Os);
            let after = (0..seed).fold(system.after_crash(), |_, _| system.after_crash());
            if after.bytes_of(&Path::new(FOLDER).join("ledger.json")).is_none() {
                continue;
            }
            let backend = open(&after).unwrap_or_else(|error| panic!("{what}: {error}"));
            let kept: Vec<BatchHead> = [1, 2]
                .iter()
                .flat_map(|number| read_all(&backend, &TestFeed::new(*number).id(), Limit::default()).heads)
                .collect();
            lost += story.acknowledged.iter().filter(|head| !kept.contains(head)).count();
            // Nothing has to be there, but what is there must be whole.
            let tried = [std::mem::take(&mut story.acknowledged), std::mem::take(&mut story.tried)].concat();
            examine(&backend, &Story { tried, ..story }, &what);
            go_on(&backend, &what);
            drop(backend);
            open(&after).unwrap_or_else(|error| panic!("{what}, reopened: {error}"));
        }
    }
    assert!(lost > 0, "the simulated disk lost nothing, so nothing was tested");
}

fn go_on_twice(system: &Simulated, what: &str) {
    let backend = open(system).unwrap_or_else(|error| panic!("{what}, reopened: {error}"));
    backend
        .check(&mut |damage| panic!("{what}, reopened: {damage:?}"))
        .unwrap_or_else(|error| panic!("{what}, reopened: {error}"));
}

/// Runs the story with one fault in the middle. Whatever failed is tried again once, as a caller would.
fn live_with(fault: Fault, what: &str) {
    let system = Simulated::new(1).with_fault(fault);
    let mut story = Story::default();
    let result = live(&system, &mut story);
    system.set_fault(None);
    if let Err(error) = &result {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{what}: {error}");
    }
    if system.bytes_of(&Path::new(FOLDER).join("ledger.json")).is_none() {
        return;
    }
    let backend = open(&system).unwrap_or_else(|error| panic!("{what}: {error}"));
    examine(&backend, &story, what);
    go_on(&backend, what);
    drop(backend);
    // A sync that failed has lost pages for good; only a crash shows that.
    let after = system.after_crash();
    let backend = open(&after).unwrap_or_else(|error| panic!("{what}, then a crash: {error}"));
    examine_after_go_on(&backend, &story, what);
}

fn examine_after_go_on(backend: &JsonlBackend, story: &Story, what: &str) {
    let newest =
        backend.read(&TestFeed::new(1).id(), u64::MAX, Limit::default()).unwrap().state.unwrap().head;
    let mut tried = story.tried.clone();
    tried.push(newest);
    let story = Story {
        acknowledged: story.acknowledged.clone(),
        tried,
        erased: story.erased.clone(),
        is_created: true,
    };
    examine(backend, &story, &format!("{what}, then a crash"));
}

#[test]
fn a_failed_sync_fails_the_append_and_nothing_else() {
    let undisturbed = Simulated::new(1);
    live(&undisturbed, &mut Story::default()).unwrap();
    for at in 1..=undisturbed.counts().1 {
        live_with(Fault::FailedSync(at), &format!("sync {at} failed"));
    }
}

#[test]
fn a_full_disk_fails_the_append_and_nothing_else() {
    let undisturbed = Simulated::new(1);
    live(&undisturbed, &mut Story::default()).unwrap();
    for at in 1..=undisturbed.counts().2 {
        live_with(Fault::FullDisk(at), &format!("write {at} met a full disk"));
    }
}

#[test]
fn after_a_failed_sync_the_same_handle_goes_on() {
    let system = Simulated::new(1);
    let backend = open(&system).unwrap();
    let (mut feed, mut story) = (TestFeed::new(1), Story::default());
    append(&backend, &mut feed, &Event::lines("a", 2), &mut story).unwrap();
    let (_, syncs, _) = system.counts();
    system.set_fault(Some(Fault::FailedSync(syncs + 1)));
    let error = append(&backend, &mut feed, &Event::lines("b", 2), &mut story).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    // Not visible, and the same batch can be sent again.
    let page = read_all(&backend, &feed.id(), Limit::default());
    assert_eq!(page.heads, feed.heads);
    append(&backend, &mut feed, &Event::lines("b", 2), &mut story).unwrap();
    let after = system.after_crash();
    examine(&open(&after).unwrap(), &story, "after a failed sync and a crash");
}

#[test]
fn a_failed_write_leaves_nothing_behind() {
    let system = Simulated::new(1);
    let backend = open(&system).unwrap();
    let mut feed = TestFeed::new(1);
    feed.append(&backend, &Event::lines("a", 2)).unwrap();
    let segment =
        system.paths().into_iter().find(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
    let segment = segment.unwrap();
    let before = system.bytes_of(&segment).unwrap();
    let refused = feed.prepare(&Event::lines("b", 50));
    let (_, _, writes) = system.counts();
    system.set_fault(Some(Fault::FullDisk(writes + 1)));
    assert_eq!(refused.refused(&backend).kind(), ErrorKind::Unavailable);
    assert_eq!(system.bytes_of(&segment).unwrap(), before);
    feed.append(&backend, &Event::lines("c", 1)).unwrap();
}

/// Writes a whole batch and dies before its sync: the lines stay in the page cache.
fn die_before_the_sync(system: &Simulated, backend: JsonlBackend, batch: &Prepared) {
    let (changes, syncs, _) = system.counts();
    system.set_fault(Some(Fault::Crash(changes + 2)));
    batch.apply(&backend).unwrap_err();
    assert_eq!(system.counts().1, syncs + 1, "the sync is where it died");
    system.set_fault(None);
    std::mem::forget(backend);
    system.release_all_locks();
}

#[test]
fn what_a_dead_process_had_written_is_durable_once_somebody_saw_it() {
    let system = Simulated::new(1);
    let mut feed = TestFeed::new(1);
    let backend = open(&system).unwrap();
    feed.append(&backend, &Event::lines("a", 2)).unwrap();
    let batch = feed.prepare(&Event::lines("dead", 2));
    die_before_the_sync(&system, backend, &batch);
    (feed.frontier, feed.heads) = (batch.frontier, vec![feed.heads[0], batch.head]);
    let events = [Event::lines("a", 2), Event::lines("dead", 2)].concat();
    let backend = open(&system).unwrap();
    assert_feed(&backend, &feed, &events);
    for _ in 0..8 {
        assert_feed(&open(&system.after_crash()).unwrap(), &feed, &events);
    }
}

#[test]
fn what_a_dead_process_had_written_is_not_taken_up_once_its_feed_moved_on() {
    let system = Simulated::new(1);
    let (first, second) = (open(&system).unwrap(), open(&system).unwrap());
    let mut feed = TestFeed::new(1);
    feed.append(&first, &Event::lines("a", 2)).unwrap();
    let mut other = TestFeed::new(2);
    other.append(&second, &Event::lines("z", 1)).unwrap();
    die_before_the_sync(&system, first, &feed.prepare(&Event::lines("dead", 2)));
    let backend = second;
    feed.append(&backend, &Event::lines("b", 1)).unwrap();
    drop(backend);
    // Whoever takes up the dead process's segment must not bring back a batch that the feed has overtaken.
    let backend = open(&system).unwrap();
    let events = [Event::lines("a", 2), Event::lines("b", 1)].concat();
    assert_feed(&backend, &feed, &events);
    go_on(&backend, "after a process died");
}

#[test]
fn an_index_never_outlives_what_another_process_did_not_sync() {
    let mut lost = 0;
    for seed in 1..40 {
        let system = Simulated::new(seed);
        let living = open_as(&system, Durability::Os).unwrap();
        let (mut one, mut two) = (TestFeed::new(1), TestFeed::new(2));
        let mut story = Story::default();
        // Two pages, of which a crash may take the first and leave the end.
        append(&living, &mut two, &Event::lines("b", 13), &mut story).unwrap();
        story.tried.append(&mut story.acknowledged);
        let backend = open(&system).unwrap();
        append(&backend, &mut one, &Event::lines("a", 3), &mut story).unwrap();
        let before = system.after_crash();
        backend.compact().unwrap();
        // The worst case is that the index happened to reach the disk whole.
        let after = system.after_crash();
        for path in
            system.paths().into_iter().filter(|path| path.parent() == Some(Path::new("/ledger/index")))
        {
            after.put(&path, &system.bytes_of(&path).unwrap());
        }
        for (number, after) in [before, system.after_crash(), after].into_iter().enumerate() {
            let what = format!("seed {seed}, crash {number}");
            let backend = open(&after).unwrap_or_else(|error| panic!("{what}: {error}"));
            examine(&backend, &story, &what);
            lost += usize::from(read_all(&backend, &two.id(), Limit::default()).entries.is_empty());
            go_on(&backend, &what);
        }
    }
    assert!(lost > 0, "the simulated disk lost nothing, so nothing was tested");
}

#[test]
fn a_lock_that_is_never_given_back_ends_in_in_use() {
    let system = Simulated::new(1);
    let backend = open(&system).unwrap();
    TestFeed::new(1).append(&backend, &Event::lines("a", 1)).unwrap();
    let lock =
        burnlog_jsonl::Files::open(&system, &Path::new(FOLDER).join("lock"), burnlog_jsonl::Access::Read);
    let lock = lock.unwrap();
    assert!(lock.try_lock(true).unwrap());
    let prepared = TestFeed::new(2).prepare(&Event::lines("b", 1));
    let error = prepared.refused(&backend);
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert!(system.paused() >= JsonlOptions::default().lock_wait_max);
    // Reading goes on meanwhile, and so does appending once the lock is free.
    assert_eq!(read_all(&backend, &TestFeed::new(1).id(), Limit::default()).entries.len(), 1);
    drop(lock);
    prepared.apply(&backend).unwrap();
}

#[test]
fn a_reader_changes_nothing() {
    let system = Simulated::new(1);
    let mut story = Story::default();
    live(&system, &mut story).unwrap();
    let before = system.counts();
    let backend = JsonlBackend::open(
        Path::new(FOLDER),
        JsonlOptions { read_only: true, create: false, ..options(&system, Durability::Batch) },
    )
    .unwrap();
    examine(&backend, &story, "read only");
    backend.stat().unwrap();
    for refused in [backend.compact().err(), backend.erase(&[]).err(), backend.seal().err()] {
        assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::Denied));
    }
    let prepared = TestFeed::new(3).prepare(&Event::lines("a", 1));
    assert_eq!(prepared.refused(&backend).kind(), ErrorKind::Denied);
    drop(backend);
    assert_eq!(system.counts(), before);
}
