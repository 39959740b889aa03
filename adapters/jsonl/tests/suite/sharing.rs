//! Several handles and threads at once: two that append, readers meanwhile, groups of appends, opening what is no ledger.

use crate::Jsonl;
use burnlog_jsonl::{Durability, JsonlBackend, JsonlOptions};
use burnlog_log::conformance::Fixture;
use burnlog_log::conformance::build::{Event, TestFeed, assert_feed, read_all};
use burnlog_log::{Backend, ErrorKind, Limit, Presence};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

impl Jsonl {
    fn folder(&self) -> PathBuf {
        self.0.path().join("ledger")
    }

    fn handle(&self) -> JsonlBackend {
        JsonlBackend::create(&self.folder()).unwrap()
    }

    /// The names of the segments with an ending.
    fn segments(&self, ending: &str) -> Vec<String> {
        let listed = std::fs::read_dir(self.folder().join("segments")).unwrap();
        let names = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.strip_suffix(ending).is_some()).collect()
    }
}

#[test]
fn two_handles_see_each_other_and_share_events() {
    let place = Jsonl::create();
    let (first, second) = (place.handle(), place.handle());
    let (mut one, mut two) = (TestFeed::new(1), TestFeed::new(2));
    let events = Event::lines("a", 6);
    one.append(&first, &events[..3]).unwrap();
    // The second handle knows what the first one made durable, so entries are enough.
    let mut prepared = two.prepare(&events[..4]);
    prepared.events.drain(..3);
    prepared.apply(&second).unwrap();
    (two.frontier, two.heads) = (prepared.frontier, vec![prepared.head]);
    one.append(&first, &events[3..]).unwrap();
    for backend in [&first, &second] {
        assert_feed(backend, &one, &events);
        assert_feed(backend, &two, &events[..4]);
        assert_eq!(backend.stat().unwrap().events, 6);
    }
    // Each process has a segment of its own; both are taken up again instead of making more.
    assert_eq!(place.segments(".jsonl").len(), 2);
    drop((first, second));
    one.append(&place.handle(), &Event::lines("b", 1)).unwrap();
    two.append(&place.handle(), &Event::lines("b", 1)).unwrap();
    assert_eq!(place.segments(".jsonl").len(), 2);
}

#[test]
fn a_token_of_a_ledger_that_fell_back_and_grew_again_misses_nothing() {
    let place = Jsonl::create();
    let append = |number: u8, batches: usize| {
        let (backend, mut feed) = (place.handle(), TestFeed::new(number));
        for batch in 0..batches {
            feed.append(&backend, &Event::lines(&format!("{number}-{batch}"), 1)).unwrap();
        }
    };
    append(1, 2);
    let files: Vec<PathBuf> = [".jsonl", ".durable"]
        .iter()
        .flat_map(|ending| place.segments(ending))
        .map(|name| place.folder().join("segments").join(name))
        .collect();
    let kept: Vec<Vec<u8>> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();
    append(2, 3);
    let token = place.handle().feeds(None, None, 10).unwrap().token;
    assert_eq!(place.handle().feeds(None, Some(&token), 10).unwrap().heads, []);
    // Put back from a copy, its segment comes to the same length and beyond with other feeds.
    files.iter().zip(kept).for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    append(3, 1);
    append(4, 5);
    assert_eq!(place.handle().feeds(None, Some(&token), 10).unwrap().heads.len(), 3);
}

#[test]
fn the_same_feed_in_two_handles_is_arbitrated() {
    let place = Jsonl::create();
    let (first, second) = (place.handle(), place.handle());
    let mut feed = TestFeed::new(1);
    let stale = feed.prepare(&Event::lines("b", 1));
    feed.append(&first, &Event::lines("a", 1)).unwrap();
    assert_eq!(stale.refused(&second).kind(), ErrorKind::Conflict);
    let mut other = feed.prepare(&Event::lines("c", 1));
    other.expected_root = stale.head.root;
    assert_eq!(other.refused(&second).kind(), ErrorKind::Forked);
    feed.append(&second, &Event::lines("c", 1)).unwrap();
    let found = first.find(&feed.id(), &[Event::lines("c", 1)[0].address]).unwrap();
    assert_eq!((found[0].presence, found[0].index), (Presence::Present, Some(1)));
}

#[test]
fn what_one_handle_seals_erases_and_compacts_the_other_reads_on() {
    let place = Jsonl::create();
    let (writer, reader) = (place.handle(), JsonlBackend::open_read_only(&place.folder()).unwrap());
    let mut feed = TestFeed::new(1);
    let events = Event::lines("a", 30);
    feed.append(&writer, &events[..10]).unwrap();
    assert_feed(&reader, &feed, &events[..10]);
    writer.seal().unwrap();
    assert_feed(&reader, &feed, &events[..10]);
    feed.append(&writer, &events[10..]).unwrap();
    let token = reader.feeds(None, None, 10).unwrap().token;
    writer.compact().unwrap();
    assert_feed(&reader, &feed, &events);
    assert!(reader.feeds(None, Some(&token), 10).unwrap().heads.is_empty(), "compacting moves no feed");
    writer.erase(&[events[4].address]).unwrap();
    let presence =
        |backend: &JsonlBackend| backend.find(&feed.id(), &[events[4].address]).unwrap()[0].presence;
    assert_eq!(presence(&reader), Presence::Erased);
    writer.compact().unwrap();
    assert_eq!(presence(&reader), Presence::Erased);
    let page = read_all(&reader, &feed.id(), Limit::default());
    assert_eq!(page.entries[5].body, events[5].body());
    assert_eq!(page.heads, feed.heads);
}

#[test]
fn readers_always_see_whole_batches_while_others_append() {
    let place = Jsonl::create();
    let options = JsonlOptions { segment_bytes_max: 40_000, ..JsonlOptions::default() };
    drop(place.handle());
    let (folder, is_done) = (place.folder(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let appending: Vec<_> = (1..=3u8)
            .map(|number| {
                let (folder, options) = (&folder, options.clone());
                scope.spawn(move || {
                    let backend = JsonlBackend::open(folder, options).unwrap();
                    let mut feed = TestFeed::new(number);
                    for chunk in Event::lines(&format!("s{number}"), 240).chunks(4) {
                        feed.append(&backend, chunk).unwrap();
                    }
                    feed
                })
            })
            .collect();
        let reading: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let backend = JsonlBackend::open_read_only(&folder).unwrap();
                    let mut last = [0; 4];
                    while !is_done.load(Ordering::Relaxed) {
                        for number in 1..=3 {
                            let page = read_all(
                                &backend,
                                &TestFeed::new(number).id(),
                                Limit { entries: 50, bytes: 1 << 20 },
                            );
                            let size = page.heads.last().map_or(0, |head| head.size);
                            assert_eq!(page.entries.len() as u64, size);
                            assert!(size.is_multiple_of(4) && size >= last[number as usize]);
                            last[number as usize] = size;
                        }
                    }
                })
            })
            .collect();
        let feeds: Vec<TestFeed> = appending.into_iter().map(|thread| thread.join().unwrap()).collect();
        is_done.store(true, Ordering::Relaxed);
        for thread in reading {
            thread.join().unwrap();
        }
        let backend = place.handle();
        for (feed, number) in feeds.iter().zip(1..) {
            assert_feed(&backend, feed, &Event::lines(&format!("s{number}"), 240));
        }
        backend.check(&mut |damage| panic!("{damage:?}")).unwrap();
    });
    assert!(!place.segments(".zst").is_empty(), "segments were sealed meanwhile");
}

#[test]
fn many_threads_share_their_syncs_and_depend_on_each_other() {
    let place = Jsonl::create();
    let backend = place.handle();
    let shared = Event::lines("shared", 40);
    std::thread::scope(|scope| {
        for number in 1..=8 {
            let (backend, shared) = (&backend, &shared);
            scope.spawn(move || {
                let mut feed = TestFeed::new(number);
                for chunk in shared.chunks(2) {
                    feed.append(backend, chunk).unwrap();
                }
            });
        }
    });
    assert_eq!(backend.stat().unwrap().events, 40, "each event is stored once");
    drop(backend);
    let backend = place.handle();
    for number in 1..=8 {
        let page = read_all(&backend, &TestFeed::new(number).id(), Limit::default());
        let bodies: Vec<_> = page.entries.into_iter().map(|entry| entry.body).collect();
        assert_eq!(bodies, shared.iter().map(Event::body).collect::<Vec<_>>());
    }
}

#[test]
fn without_syncs_everything_is_there_after_closing() {
    let place = Jsonl::create();
    let options = JsonlOptions { create: true, durability: Durability::Os, ..JsonlOptions::default() };
    let mut feed = TestFeed::new(1);
    let events = Event::lines("a", 9);
    let reader = place.handle();
    for chunk in events.chunks(3) {
        let backend = JsonlBackend::open(&place.folder(), options.clone()).unwrap();
        feed.append(&backend, chunk).unwrap();
    }
    assert_feed(&reader, &feed, &events);
    assert_feed(&place.handle(), &feed, &events);
}

#[test]
fn what_is_no_ledger_is_refused() {
    let place = Jsonl::create();
    let open = |create: bool| {
        JsonlBackend::open(&place.folder(), JsonlOptions { create, ..JsonlOptions::default() })
    };
    assert_eq!(open(false).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(JsonlBackend::open_read_only(&place.folder()).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!place.folder().exists(), "looking makes nothing");
    std::fs::write(place.folder(), b"a file").unwrap();
    assert_eq!(open(true).unwrap_err().kind(), ErrorKind::Invalid);
    std::fs::remove_file(place.folder()).unwrap();
    std::fs::create_dir(place.folder()).unwrap();
    std::fs::write(place.folder().join("thesis.doc"), b"mine").unwrap();
    assert_eq!(open(true).unwrap_err().kind(), ErrorKind::Invalid);
    std::fs::remove_file(place.folder().join("thesis.doc")).unwrap();
    drop(open(true).unwrap());
    let identity = place.folder().join("ledger.json");
    let text = std::fs::read_to_string(&identity).unwrap();
    std::fs::write(&identity, text.replace("\"burnlog_ledger\":1", "\"burnlog_ledger\":2")).unwrap();
    assert_eq!(open(true).unwrap_err().kind(), ErrorKind::Unsupported);
    std::fs::write(&identity, b"{").unwrap();
    assert_eq!(open(true).unwrap_err().kind(), ErrorKind::Corrupt);
    std::fs::remove_file(&identity).unwrap();
    TestFeed::new(1).append(&place.handle(), &Event::lines("a", 1)).unwrap();
    std::fs::remove_file(&identity).unwrap();
    assert_eq!(open(true).unwrap_err().kind(), ErrorKind::Corrupt, "segments without ledger.json");
}

#[test]
fn a_segment_of_a_newer_format_is_refused_and_one_of_another_ledger_is_left_alone() {
    let place = Jsonl::create();
    let mut feed = TestFeed::new(1);
    feed.append(&place.handle(), &Event::lines("a", 2)).unwrap();
    let other = Jsonl::create();
    TestFeed::new(2).append(&other.handle(), &Event::lines("b", 2)).unwrap();
    let name = other.segments(".jsonl").remove(0);
    std::fs::copy(other.folder().join("segments").join(&name), place.folder().join("segments").join(&name))
        .unwrap();
    let backend = place.handle();
    assert_feed(&backend, &feed, &Event::lines("a", 2));
    assert!(backend.take_notices().iter().any(|notice| notice.message.contains("another ledger")));
    assert!(backend.read(&TestFeed::new(2).id(), 0, Limit::default()).unwrap().state.is_none());
    feed.append(&backend, &Event::lines("c", 1)).unwrap();
    drop(backend);
    let path = place.folder().join("segments").join(&name);
    let text = std::fs::read_to_string(&path).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    let body = first[18..].replace("\"format\":2", "\"format\":9");
    let header = format!("{{\"crc\":\"{:08x}\",{body}", crc32fast::hash(body.as_bytes()));
    std::fs::write(&path, format!("{header}\n{rest}")).unwrap();
    let error = JsonlBackend::create(&place.folder()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn more_events_than_memory_keeps_are_found_again() {
    let place = Jsonl::create();
    let mut feed = TestFeed::new(1);
    let events = Event::lines("many", 5 * 16_384);
    let backend = place.handle();
    for chunk in events.chunks(16_384) {
        feed.append(&backend, chunk).unwrap();
    }
    let find = |backend: &JsonlBackend| {
        for (chunk, first) in events.chunks(4096).zip((0..).step_by(4096)) {
            let addresses: Vec<_> = chunk.iter().map(|event| event.address).collect();
            for (found, index) in backend.find(&feed.id(), &addresses).unwrap().iter().zip(first..) {
                assert_eq!((found.presence, found.index), (Presence::Present, Some(index)));
            }
        }
    };
    find(&backend);
    drop(backend);
    let backend = JsonlBackend::open_read_only(&place.folder()).unwrap();
    assert_eq!(backend.take_notices(), []);
    find(&backend);
    // Into the middle of a large batch, backwards as well.
    for from in [70_000u64, 40_000, 39_999, 81_919, 0] {
        let page = backend.read(&feed.id(), from, Limit { entries: 3, bytes: u64::MAX }).unwrap();
        let expected = &events[from as usize..(from as usize + 3).min(events.len())];
        assert_eq!(page.entries.len(), expected.len());
        for (entry, event) in page.entries.iter().zip(expected) {
            assert_eq!(entry.body, event.body());
        }
    }
    assert_eq!(backend.stat().unwrap().events, events.len() as u64);
}

#[test]
fn nothing_is_acknowledged_into_a_segment_that_is_gone() {
    for replaced in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let ledger = folder.path().join("ledger");
        let backend = JsonlBackend::create(&ledger).unwrap();
        let mut feed = TestFeed::new(1);
        feed.append(&backend, &Event::lines("s", 3)).unwrap();
        let segments = ledger.join("segments");
        let is_active = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "jsonl");
        let mut paths = std::fs::read_dir(&segments).unwrap().map(|entry| entry.unwrap().path());
        let segment = paths.find(is_active).unwrap();
        let aside = folder.path().join("aside");
        std::fs::rename(&segment, &aside).unwrap();
        if replaced {
            std::fs::copy(&aside, &segment).unwrap();
        }
        let late: Vec<Event> = (3..5).map(|seq| Event::line("s", seq, b"{}")).collect();
        let prepared = feed.prepare(&late);
        // The first outcome is unknown to whoever waits for the sync; from then on the place is named.
        assert_eq!(prepared.refused(&backend).kind(), ErrorKind::Unavailable, "replaced: {replaced}");
        let named = prepared.refused(&backend);
        assert_eq!(named.kind(), ErrorKind::NotFound, "replaced: {replaced}");
        assert_eq!(named.location(), segment.display().to_string());
        drop(backend);
        // Put back and opened again, the ledger is as it was acknowledged.
        std::fs::rename(&aside, &segment).unwrap();
        let backend = JsonlBackend::create(&ledger).unwrap();
        let size = backend.read(&feed.id(), 0, Limit::default()).unwrap().state.unwrap().head.size;
        assert_eq!(size, 3);
        feed.append(&backend, &late).unwrap();
    }
}
