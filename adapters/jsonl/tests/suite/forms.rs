//! The bytes: a golden segment, and odd payloads through every form that a line can take.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use burnlog_jsonl::{JsonlBackend, JsonlOptions, Simulated};
use burnlog_log::conformance::build::{Event, TestFeed, assert_feed};
use burnlog_log::{Address, Append, Backend, Body, Limit, NewEvent, Presence};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

const FOLDER: &str = "/ledger";

fn open(system: &Simulated) -> JsonlBackend {
    open_as(system, usize::MAX)
}

fn open_as(system: &Simulated, pack_bytes_min: usize) -> JsonlBackend {
    let options = JsonlOptions {
        create: true,
        frame_bytes: 64 << 10,
        pack_bytes_min,
        files: Arc::new(system.clone()),
        ..JsonlOptions::default()
    };
    JsonlBackend::open(Path::new(FOLDER), options).unwrap()
}

fn segment(system: &Simulated, ending: &str) -> PathBuf {
    system.paths().into_iter().find(|path| path.to_str().unwrap().ends_with(ending)).unwrap()
}

/// A ledger of fixed id, key and clock: its bytes are part of the format and must never change.
fn golden() -> (Simulated, TestFeed, Vec<Event>) {
    golden_as(usize::MAX)
}

fn golden_as(pack_bytes_min: usize) -> (Simulated, TestFeed, Vec<Event>) {
    let system = Simulated::new(42);
    let events = vec![
        Event::line("s-1", 0, b"{\"type\":\"user\",\"n\":1.0}"),
        Event::line("s-1", 1, b"not json"),
        Event::line("s-1", 2, b"\xff\xfe"),
        Event::line("s-1", 3, b"{}"),
    ];
    let backend = open_as(&system, pack_bytes_min);
    let (mut one, mut two) = (TestFeed::new(1), TestFeed::new(2));
    one.append(&backend, &events[..3]).unwrap();
    two.append(&backend, &events[..1]).unwrap();
    let erased = one.prepare(&events[3..]);
    let sent = [NewEvent { payload: None, ..events[3].new_event() }];
    backend
        .append(&Append {
            expected_size: 3,
            expected_root: erased.expected_root,
            entries: &erased.entries,
            events: &sent,
            head: &erased.head,
            frontier: erased.frontier.peaks(),
        })
        .unwrap();
    (system, one, events)
}

#[test]
fn the_bytes_of_an_active_segment_stay() {
    let (system, ..) = golden();
    let bytes = system.bytes_of(&segment(&system, ".jsonl")).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), include_str!("golden/active-v2.jsonl"));
    let identity = system.bytes_of(&Path::new(FOLDER).join("ledger.json")).unwrap();
    assert_eq!(String::from_utf8(identity).unwrap(), include_str!("golden/ledger-v1.json"));
}

/// What a pack compresses to is a matter of the compressor; that it can be read, and what is in it, must never change.
#[test]
fn packs_are_read_for_ever_and_hold_sealed_lines() {
    let stored = include_str!("golden/packed-v2.jsonl");
    let (system, one, events) = golden_as(0);
    let path = segment(&system, ".jsonl");
    let written = String::from_utf8(system.bytes_of(&path).unwrap()).unwrap();
    let packs = |text: &str| -> Vec<String> {
        let fields = text.lines().filter_map(|line| line.split_once("\"zstd\":\"")?.1.strip_suffix("\"}"));
        let plain = fields.map(|field| decompress_all(&BASE64.decode(field).unwrap()));
        plain.map(|plain| String::from_utf8(plain).unwrap()).collect()
    };
    assert_eq!(packs(&written), packs(stored));
    assert_eq!(packs(stored).len(), 3, "one for each batch");
    system.put(&path, stored.as_bytes());
    let length = stored.len() as u64;
    assert!(burnlog_jsonl::recover(stored.as_bytes(), Some(length)).damage.is_empty());
    system.put(&path.with_extension("durable"), b"");
    let backend = open(&system);
    let page = backend.read(&one.id(), 0, Limit::default()).unwrap();
    let bodies: Vec<Body> = page.entries.into_iter().map(|entry| entry.body).collect();
    let expected: Vec<Body> = events[..3].iter().map(Event::body).collect();
    assert_eq!(bodies[..3], expected);
    assert_eq!(bodies[3], Body::Erased { skeleton: events[3].skeleton.clone().into() });
    backend.check(&mut |damage| assert!(damage.rebuildable, "{damage:?}")).unwrap();
}

#[test]
fn a_segment_of_format_1_is_gone_on_with_in_lines_that_its_readers_know() {
    let (system, mut one, mut events) = golden();
    let path = segment(&system, ".jsonl");
    system.put(&path, include_bytes!("golden/active-v1.jsonl"));
    let more = Event::lines("more", 9);
    let backend = open_as(&system, 0);
    one.frontier.extend([burnlog_log::leaf(&events[3].skeleton)]);
    one.append(&backend, &more).unwrap();
    drop(backend);
    let text = String::from_utf8(system.bytes_of(&path).unwrap()).unwrap();
    assert!(text.contains("\"format\":1") && !text.contains("\"pack\":"), "{text}");
    assert!(text.contains("\"more\""), "it is the segment that is gone on with");
    events.extend(more);
    let backend = open(&system);
    let page = backend.read(&one.id(), 0, Limit::default()).unwrap();
    assert_eq!(page.entries.len(), events.len());
    backend.check(&mut |damage| panic!("{damage:?}")).unwrap();
}

#[test]
fn the_lines_of_a_sealed_segment_stay() {
    let (system, one, events) = golden();
    let backend = open(&system);
    drop(backend);
    let backend = open(&system);
    backend.erase(&[events[0].address]).unwrap();
    backend.compact().unwrap();
    drop(backend);
    let bytes = system.bytes_of(&segment(&system, ".jsonl.zst")).unwrap();
    let plain = decompress_all(&bytes);
    assert_eq!(String::from_utf8(plain).unwrap(), include_str!("golden/sealed-v1.jsonl"));
    let erased = system.bytes_of(&Path::new(FOLDER).join("erased.jsonl")).unwrap();
    assert_eq!(String::from_utf8(erased).unwrap(), include_str!("golden/erased-v1.jsonl"));
    let found = open(&system).find(&one.id(), &[events[0].address]).unwrap();
    assert_eq!((found[0].presence, found[0].index), (Presence::Erased, Some(0)));
}

/// Decompresses as any tool does: frame after frame, skipping those that are to be skipped.
fn decompress_all(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::decode_all(bytes).unwrap()
}

#[test]
fn lines_are_json_for_any_tool() {
    let (system, one, _) = golden();
    for event in odd_events() {
        let mut feed = TestFeed::new(9);
        feed.append(&open(&system), &[event]).ok();
    }
    let active = system.bytes_of(&segment(&system, ".jsonl")).unwrap();
    let backend = open(&system);
    TestFeed::new(3).append(&backend, &Event::lines("z", 1)).unwrap();
    backend.seal().unwrap();
    let sealed = decompress_all(&system.bytes_of(&segment(&system, ".jsonl.zst")).unwrap());
    for bytes in [active, sealed] {
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let value: serde_json::Value = serde_json::from_slice(&lossy(line)).unwrap();
            assert!(value.is_object(), "{value}");
        }
        // Where jq is installed it has the last word.
        if let Ok(mut jq) =
            Command::new("jq").arg("-c").arg(".").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()
        {
            std::io::Write::write_all(&mut jq.stdin.take().unwrap(), &bytes).unwrap();
            assert!(jq.wait().unwrap().success(), "jq refused a line");
        }
    }
    assert_eq!(one.heads.len(), 1);
}

/// Lone surrogates are JSON but not Unicode: serde_json refuses what jq replaces.
fn lossy(line: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(line).replace("\\ud800", "\\ufffd").into_bytes()
}

fn odd_payloads() -> Vec<Vec<u8>> {
    let mut payloads: Vec<Vec<u8>> = [
        "",
        " ",
        "\r",
        "{}",
        "{} ",
        " {}",
        "{}\r",
        "null",
        "0",
        "-0",
        "1e400",
        "\"\"",
        "\"\\ud800\"",
        "{\"a\":1,\"a\":2}",
        "{\"a\":18446744073709551616}",
        "{\"a\":\"\u{2028}\u{85}\"}",
        "{\"payload\":\"b3:\"}",
        "\"payload\":\"b3:",
        "{\"crc\":\"00000000\",\"entry\":0}",
        "{\"a\":\"\\u0000\"}",
        "[\n]",
        "{\"a\":tru}",
        "}",
        "\u{feff}{}",
        "a\u{0}b",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    payloads.extend([
        b"\x00".to_vec(),
        b"\xff".to_vec(),
        b"{\"a\":\"\xed\xa0\x80\"}".to_vec(),
        b"{\"a\":\"\xc3\"}".to_vec(),
        [b"[".repeat(200), b"]".repeat(200)].concat(),
        [b"[".repeat(201), b"]".repeat(201)].concat(),
        [b"{\"a\":".repeat(100_000), b"1".to_vec(), b"}".repeat(100_000)].concat(),
        format!("{{\"big\":\"{}\"}}", "é".repeat(1 << 20)).into_bytes(),
        vec![0; 100_000],
        (0..=255).cycle().take(70_000).collect(),
    ]);
    payloads
}

fn odd_events() -> Vec<Event> {
    let streams = ["plain", "quo\"te \\ back", "\u{0}\u{1f}\u{7f}\u{2028}", "\"payload\":\"b3:\"", ""];
    let payloads = odd_payloads().into_iter().enumerate();
    payloads.map(|(n, payload)| Event::line(streams[n % streams.len()], n as u64, &payload)).collect()
}

#[test]
fn odd_payloads_come_back_from_every_form() {
    come_back(usize::MAX);
}

#[test]
fn odd_payloads_come_back_from_packs() {
    come_back(0);
}

fn come_back(pack_bytes_min: usize) {
    let system = Simulated::new(1);
    let events = odd_events();
    let mut feed = TestFeed::new(1);
    let backend = open_as(&system, pack_bytes_min);
    for chunk in events.chunks(5) {
        feed.append(&backend, chunk).unwrap();
    }
    assert_feed(&backend, &feed, &events);
    assert!(backend.seal().unwrap());
    assert_feed(&backend, &feed, &events);
    // Erasing one rewrites the segment; the others must come through that as well.
    let last = Event::line("erased", 0, b"secret");
    feed.append(&backend, std::slice::from_ref(&last)).unwrap();
    assert!(backend.seal().unwrap());
    backend.erase(&[events[3].address, last.address]).unwrap();
    backend.compact().unwrap();
    drop(backend);
    for path in system.paths() {
        let bytes = system.bytes_of(&path).unwrap();
        let bytes = if path.extension().is_some_and(|ending| ending == "zst") {
            decompress_all(&bytes)
        } else {
            bytes
        };
        assert!(memchr::memmem::find(&bytes, b"secret").is_none(), "{} still has it", path.display());
    }
    let backend = open(&system);
    let got = backend.get(
        &events.iter().map(|event| event.address).collect::<Vec<_>>(),
        Limit { entries: 1000, bytes: u64::MAX },
    );
    for (n, (body, event)) in got.unwrap().into_iter().zip(&events).enumerate() {
        let expected =
            if n == 3 { Body::Erased { skeleton: event.skeleton.clone().into() } } else { event.body() };
        assert_eq!(body, Some(expected), "payload {n}");
    }
}

/// The backend is told that an address is the hash of a skeleton and that the skeleton names the payload. Where that is
/// not so, or the skeleton is not even text, it must still give back what it was given, sealed or not.
#[test]
fn events_that_do_not_fit_their_hashes_are_kept_as_they_are() {
    for pack_bytes_min in [0, usize::MAX] {
        are_kept(pack_bytes_min);
    }
}

fn are_kept(pack_bytes_min: usize) {
    let system = Simulated::new(1);
    let fitting = Event::line("a", 0, b"{}");
    let mut events = vec![fitting.clone()];
    events.push(Event { payload: b"[]".to_vec(), ..Event::line("a", 1, b"{}") });
    events.push(Event { address: Address([3; 32]), ..Event::line("a", 2, b"{}") });
    for (n, skeleton) in
        [&b""[..], b"{}", b"\xff\x00\n", b"{\"a\":\n1}", b"no object", b"{\"payload\":\"b3:\"}"]
            .iter()
            .enumerate()
    {
        events.push(Event {
            address: Address([40 + n as u8; 32]),
            skeleton: skeleton.to_vec(),
            payload: b"1".to_vec(),
        });
    }
    let newer = format!(
        "{{\"v\":2,\"payload\":\"{}\",\"bytes\":2,\"new\":{{\"payload\":\"b3:\"}}}}",
        burnlog_log::PayloadHash::of(b"{}")
    );
    let address = Address::of(newer.as_bytes());
    events.push(Event { address, skeleton: newer.into_bytes(), payload: b"{}".to_vec() });
    let backend = open_as(&system, pack_bytes_min);
    let mut feed = TestFeed::new(1);
    feed.append(&backend, &events).unwrap();
    assert_feed(&backend, &feed, &events);
    assert!(backend.seal().unwrap());
    assert_feed(&backend, &feed, &events);
    backend.erase(&[fitting.address]).unwrap();
    backend.compact().unwrap();
    drop(backend);
    system.remove_folder(&Path::new(FOLDER).join("index"));
    let backend = open(&system);
    let got =
        backend.get(&events.iter().map(|event| event.address).collect::<Vec<_>>(), Limit::default()).unwrap();
    for (body, event) in got.into_iter().zip(&events).skip(1) {
        assert_eq!(body, Some(event.body()));
    }
    backend.check(&mut |damage| panic!("{damage:?}")).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_bytes_come_back_active_and_sealed(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..12), stream in any::<String>(), is_packed: bool) {
        let system = Simulated::new(1);
        let events: Vec<Event> =
            payloads.iter().enumerate().map(|(n, payload)| Event::line(&stream, n as u64, payload)).collect();
        let backend = open_as(&system, if is_packed { 0 } else { usize::MAX });
        let mut feed = TestFeed::new(1);
        feed.append(&backend, &events).unwrap();
        assert_feed(&backend, &feed, &events);
        backend.seal().unwrap();
        assert_feed(&backend, &feed, &events);
    }
}

#[test]
fn single_events_of_a_large_frame_are_those_of_the_feed_in_any_order() {
    let system = Simulated::new(7);
    // One frame of some 1.2 MB, which is decompressed piece by piece where one event is wanted.
    let options = || JsonlOptions {
        create: true,
        frame_bytes: 2 << 20,
        files: Arc::new(system.clone()),
        ..JsonlOptions::default()
    };
    let backend = JsonlBackend::open(Path::new(FOLDER), options()).unwrap();
    let text = |seq: u64| format!("{{\"n\":{seq},\"text\":\"{}\"}}", "word ".repeat(40 + seq as usize % 300));
    let events: Vec<Event> = (0..1200).map(|seq| Event::line("s", seq, text(seq).as_bytes())).collect();
    let mut feed = TestFeed::new(1);
    for batch in events.chunks(300) {
        feed.append(&backend, batch).unwrap();
    }
    backend.seal().unwrap();
    let alone = Limit { entries: 1, bytes: u64::MAX };
    // Each order with a cold cache: forwards, backwards, and with gaps that no piece of the frame has.
    let orders: [Vec<usize>; 3] = [
        (0..events.len()).collect(),
        (0..events.len()).rev().collect(),
        (0..events.len()).map(|at| at * 577 % events.len()).collect(),
    ];
    for order in orders {
        let backend = JsonlBackend::open(Path::new(FOLDER), options()).unwrap();
        for at in order {
            let body = backend.get(&[events[at].address], alone).unwrap().remove(0);
            let Some(Body::Present { payload, .. }) = body else { panic!("event {at}: {body:?}") };
            assert_eq!(payload, text(at as u64).as_bytes());
        }
        assert_feed(&backend, &feed, &events);
    }
}
