//! The forms on the wire: bytes that stay as they are, and what the client makes of answers that are not ours.

use crate::link::{Direct, client, once};
use burnlog_http::{
    Answer, Broken, BrokenBy, Call, FrameHeader, FrameKind, HEADER_BYTES, HttpBackend, Link, MAGIC,
    Operation, Rights, Transport, decode_append, encode_append, frame, unframe,
};
use burnlog_log::conformance::build::{Event, TestFeed};
use burnlog_log::{
    Address, Append, Backend, ErrorKind, Ledger, LedgerId, MemoryBackend, NewEvent, PayloadHash,
};
use burnlog_projections::MemoryProjections;
use proptest::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// One entry of each form: cut, next, kept, erased, whole.
fn append_message() -> Vec<u8> {
    let mut events = Event::lines("golden", 4);
    let payload = b"{}".to_vec();
    let hash = PayloadHash::of(&payload);
    let skeleton = format!("{{\"v\":2,\"payload\": \"{hash}\",\"bytes\":2}}").into_bytes();
    events.push(Event { address: Address::of(&skeleton), skeleton, payload });
    let prepared = TestFeed::new(1).prepare(&events);
    let erased = NewEvent { payload: None, ..events[3].new_event() };
    let sent = [events[0].new_event(), events[1].new_event(), erased, events[4].new_event()];
    encode_append(&Append {
        expected_size: prepared.expected_size,
        expected_root: prepared.expected_root,
        entries: &prepared.entries,
        events: &sent,
        head: &prepared.head,
        frontier: prepared.frontier.peaks(),
    })
    .unwrap()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    burnlog_log::push_hex(&mut text, bytes);
    String::from_utf8(text).unwrap()
}

/// Version 1 is these bytes for ever: a client of today must understand a server of tomorrow.
#[test]
fn an_append_is_these_bytes() {
    let golden = include_str!("golden/append-v1.hex").trim();
    assert_eq!(hex(&append_message()), golden);
    let framed = include_str!("golden/frame-v1.hex").trim();
    let mut bytes = vec![0; framed.len() / 2];
    assert!(burnlog_log::parse_hex(framed.as_bytes(), &mut bytes));
    let message = unframe(FrameKind::Append, 1 << 20, &bytes).unwrap();
    assert_eq!(hex(&message), golden, "a frame that was compressed by any version of zstd is read");
    assert_eq!(frame(FrameKind::Append, &message)[..HEADER_BYTES], bytes[..HEADER_BYTES]);
}

#[test]
fn a_header_says_what_follows() {
    let header: [u8; HEADER_BYTES] = frame(FrameKind::Found, b"abc")[..HEADER_BYTES].try_into().unwrap();
    assert_eq!(header[..4], MAGIC);
    assert_eq!(header[4..], [1, 5, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(FrameHeader::parse(&header).unwrap(), FrameHeader { kind: 5, message_bytes: 3 });
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes: Vec<u8>, cut in 0usize..900, at in 0usize..900, byte: u8) {
        let _ = decode_append(bytes.clone().into());
        let _ = burnlog_http::Question::decode(bytes.clone().into());
        let _ = unframe(FrameKind::Append, 1 << 16, &bytes);
        let mut message = append_message();
        message.truncate(cut.min(message.len()));
        let whole = message.len() == append_message().len();
        prop_assert_eq!(decode_append(message.clone().into()).is_ok(), whole);
        if let Some(slot) = message.get_mut(at) {
            *slot = byte;
            let _ = decode_append(message.into());
        }
    }

    /// Whatever the compressed bytes are, no more is unpacked than was announced.
    #[test]
    fn a_frame_is_itself_or_nothing(message: Vec<u8>, at in 0usize..64, byte: u8) {
        let good = frame(FrameKind::Find, &message);
        prop_assert_eq!(unframe(FrameKind::Find, 1 << 20, &good).unwrap(), message.clone());
        let mut bad = good.clone();
        let at = at % good.len();
        bad[at] = byte;
        if let Ok(read) = unframe(FrameKind::Find, 1 << 20, &bad) {
            prop_assert_eq!(read.len(), message.len());
        }
    }
}

/// Answers with what it is told, and counts how often it was asked.
struct Says(Mutex<Box<dyn FnMut() -> Result<Answer, Broken> + Send>>, Arc<AtomicU32>);

impl Transport for Says {
    fn send(&self, _call: &Call) -> Result<Answer, Broken> {
        self.1.fetch_add(1, Ordering::Relaxed);
        (self.0.lock().unwrap())()
    }
}

fn kind_of(answer: impl FnMut() -> Result<Answer, Broken> + Send + 'static) -> ErrorKind {
    let says = Says(Mutex::new(Box::new(answer)), Arc::default());
    let error = Link::open(Box::new(says), "http://test".to_owned(), once()).unwrap_err();
    assert!(error.location().starts_with("http://test"), "{error}");
    error.kind()
}

#[test]
fn what_is_no_answer_of_ours_is_told_apart() {
    let foreign = |status| move || Ok(Answer { status, body: b"<html>".to_vec(), ..Answer::default() });
    let ours = |status, protocol: &'static str| {
        move || Ok(Answer { status, protocol: Some(protocol.to_owned()), ..Answer::default() })
    };
    for (status, kind) in [
        (200, ErrorKind::Invalid),
        (301, ErrorKind::Invalid),
        (404, ErrorKind::Invalid),
        (401, ErrorKind::Denied),
        (429, ErrorKind::Unavailable),
        (502, ErrorKind::Unavailable),
    ] {
        assert_eq!(kind_of(foreign(status)), kind, "{status}");
    }
    assert_eq!(kind_of(ours(200, "2")), ErrorKind::Unsupported);
    assert_eq!(kind_of(ours(200, "0")), ErrorKind::Unsupported);
    assert_eq!(kind_of(ours(200, "1")), ErrorKind::Unavailable, "without a ledger");
    assert_eq!(kind_of(ours(500, "1")), ErrorKind::Unavailable, "without a reason");
    let broken = |why| move || Err(Broken { why, message: "x".to_owned() });
    assert_eq!(kind_of(broken(BrokenBy::Link)), ErrorKind::Unavailable);
    assert_eq!(kind_of(broken(BrokenBy::Tls)), ErrorKind::Denied);
}

#[test]
fn only_what_asks_is_asked_again() {
    let asked = Arc::new(AtomicU32::new(0));
    let direct = Direct {
        ledger: Ledger::new(MemoryBackend::new(LedgerId([7; 16]))),
        rights: Rights::ALL,
        rows: MemoryProjections::new(),
    };
    // The first answer opens the link; then nothing comes.
    let mut opened = false;
    let answer = move || {
        if std::mem::replace(&mut opened, true) {
            return Err(Broken { why: BrokenBy::Link, message: "cut".to_owned() });
        }
        Ok(direct.answer(&Call::new(Operation::Stat)))
    };
    let says = Says(Mutex::new(Box::new(answer)), Arc::clone(&asked));
    let pauses = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&pauses);
    let pause = Arc::new(move |_: u32, _: Option<u64>| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let retries = burnlog_http::Retries { attempts: 4, pause };
    let link = Link::open(Box::new(says), "http://test".to_owned(), retries).unwrap();
    let backend = HttpBackend::new(Arc::new(link));
    let times = |call: &dyn Fn() -> burnlog_log::Result<()>| {
        let before = asked.load(Ordering::Relaxed);
        assert_eq!(call().unwrap_err().kind(), ErrorKind::Unavailable);
        asked.load(Ordering::Relaxed) - before
    };
    assert_eq!(times(&|| backend.stat().map(drop)), 4);
    assert_eq!(times(&|| backend.find(&TestFeed::new(1).id(), &[]).map(drop)), 4);
    assert_eq!(times(&|| backend.compact().map(drop)), 4, "compacting twice gives the same");
    assert_eq!(times(&|| TestFeed::new(1).prepare(&Event::lines("a", 1)).apply(&backend)), 1);
    assert_eq!(pauses.load(Ordering::Relaxed), 9);
}

/// A store that was made anew behind the same URL is another ledger, and nothing of the old one applies to it.
#[test]
fn a_ledger_made_anew_is_refused_by_those_who_knew_the_old_one() {
    struct Behind(Arc<Mutex<Direct>>);
    impl Transport for Behind {
        fn send(&self, call: &Call) -> Result<Answer, Broken> {
            Ok(self.0.lock().unwrap().answer(call))
        }
    }
    let direct = |id| Direct {
        ledger: Ledger::new(MemoryBackend::new(LedgerId([id; 16]))),
        rights: Rights::ALL,
        rows: MemoryProjections::new(),
    };
    let server = Arc::new(Mutex::new(direct(7)));
    let link = Link::open(Box::new(Behind(Arc::clone(&server))), "http://test".to_owned(), once()).unwrap();
    let backend = HttpBackend::new(Arc::new(link));
    backend.stat().unwrap();
    *server.lock().unwrap() = direct(8);
    for error in [
        backend.stat().unwrap_err(),
        TestFeed::new(1).prepare(&Event::lines("a", 1)).apply(&backend).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains("made anew"), "{error}");
    }
    assert_eq!(server.lock().unwrap().ledger.stat().unwrap().events, 0);
}

#[test]
fn the_limits_of_a_page_are_the_servers_as_well() {
    let backend = client(Arc::new(MemoryBackend::new(LedgerId([7; 16]))), Rights::ALL);
    let mut feed = TestFeed::new(1);
    let events: Vec<Event> = (0..5).map(|seq| Event::line("a", seq, &vec![b'x'; 4 << 20])).collect();
    feed.append(&backend, &events).unwrap();
    let all = burnlog_log::Limit { entries: usize::MAX, bytes: u64::MAX };
    let page = backend.read(&feed.id(), 0, all).unwrap();
    assert!(page.entries.len() < 5 && !page.entries.is_empty(), "{}", page.entries.len());
}
