//! What the server does not take, and that it stores nothing of it.

use crate::place::{Given, Place};
use crate::raw::{connect, read, request, send};
use burnlog_http::{FrameKind, HEADER_BYTES, MESSAGE_BYTES_MAX, encode_append, frame};
use burnlog_log::conformance::build::{Event, Prepared, TestFeed, assert_feed};
use burnlog_log::{Append, ErrorKind, Ledger, NewEvent};
use burnlog_server::{Limits, openapi};
use std::io::Write;
use std::time::Duration;

const APPEND: &str = "/v1/ledgers/default/append";

fn encoded(prepared: &Prepared) -> Vec<u8> {
    let events: Vec<NewEvent<'_>> = prepared.events.iter().map(Event::new_event).collect();
    encode_append(&Append {
        expected_size: prepared.expected_size,
        expected_root: prepared.expected_root,
        entries: &prepared.entries,
        events: &events,
        head: &prepared.head,
        frontier: prepared.frontier.peaks(),
    })
    .unwrap()
}

#[test]
fn what_does_not_fit_together_is_refused_with_the_record_and_nothing_is_stored() {
    let place = Place::new(Given::default());
    let backend = place.client();
    let (feed, events) = (TestFeed::new(1), Event::lines("a", 3));
    let good = feed.prepare(&events);

    let mut payload = good.clone();
    payload.events[1].payload = b"{\"n\":7}".to_vec();
    let mut skeleton = good.clone();
    skeleton.events[2].skeleton = events[1].skeleton.clone();
    for (wrong, entry) in [(payload, 1), (skeleton, 2)] {
        let raw = send(
            place.running.address(),
            &request("POST", APPEND, &[], &frame(FrameKind::Append, &encoded(&wrong))),
        );
        assert_eq!((raw.status, raw.kind().as_str()), (422, "Invalid"));
        let told = burnlog_http::Refusal::of_json(&raw.body).unwrap().error.location;
        assert_eq!(told, format!("entry {entry} of the batch"));
    }

    let mut forged = good.clone();
    forged.head.signature.0[5] ^= 1;
    let raw = send(
        place.running.address(),
        &request("POST", APPEND, &[], &frame(FrameKind::Append, &encoded(&forged))),
    );
    assert_eq!((raw.status, raw.kind().as_str()), (403, "Denied"));

    // A head that its key signed, over other entries than those that come with it.
    let mut other = feed.prepare(&Event::lines("b", 3));
    (other.entries, other.events) = (good.entries.clone(), good.events.clone());
    assert_eq!(other.refused(&*backend).kind(), ErrorKind::Invalid);

    assert_eq!(backend.stat().unwrap().events, 0);
    assert_feed(&*backend, &feed, &[]);
    good.apply(&*backend).unwrap();
    let replayed = send(
        place.running.address(),
        &request("POST", APPEND, &[], &frame(FrameKind::Append, &encoded(&good))),
    );
    assert_eq!((replayed.status, replayed.kind().as_str()), (409, "Conflict"));
    let head = burnlog_http::Refusal::of_json(&replayed.body).unwrap().error.head;
    assert_eq!(head, Some(good.head), "a conflict comes with the head");
    assert_eq!(backend.stat().unwrap().events, 3);
}

#[test]
fn missing_events_are_named_and_a_retry_with_them_is_taken() {
    let place = Place::new(Given::default());
    let backend = place.client();
    let (feed, events) = (TestFeed::new(1), Event::lines("a", 3));
    let mut prepared = feed.prepare(&events);
    let unsent = prepared.events.remove(1);
    let raw = send(
        place.running.address(),
        &request("POST", APPEND, &[], &frame(FrameKind::Append, &encoded(&prepared))),
    );
    let refusal = burnlog_http::Refusal::of_json(&raw.body).unwrap();
    assert_eq!((raw.status, refusal.error.missing), (424, vec![unsent.address]));
    prepared.events.insert(1, unsent);
    prepared.apply(&*backend).unwrap();
}

#[test]
fn bodies_that_lie_about_themselves_are_refused() {
    let place = Place::new(Given::default());
    let post = |body: &[u8]| send(place.running.address(), &request("POST", APPEND, &[], body));
    let message = encoded(&TestFeed::new(1).prepare(&Event::lines("a", 3)));
    let good = frame(FrameKind::Append, &message);

    for (name, body) in [
        ("nothing", Vec::new()),
        ("no frame", b"{}".to_vec()),
        ("a cut header", good[..HEADER_BYTES - 1].to_vec()),
        ("a cut body", good[..good.len() - 3].to_vec()),
        ("another kind", frame(FrameKind::Find, &message)),
        ("more than the message", frame(FrameKind::Append, &[message.as_slice(), b"x"].concat())),
        ("a message that ends early", frame(FrameKind::Append, &message[..message.len() - 1])),
        ("a length of less", {
            let mut body = good.clone();
            body[8] = body[8].wrapping_sub(1);
            body
        }),
        ("a length of more", {
            let mut body = good.clone();
            body[8] = body[8].wrapping_add(1);
            body
        }),
    ] {
        let raw = post(&body);
        assert_eq!((raw.status, raw.kind().as_str()), (422, "Invalid"), "{name}");
    }

    let mut long = good.clone();
    long[8..16].copy_from_slice(&(MESSAGE_BYTES_MAX + 1).to_le_bytes());
    assert_eq!(post(&long).status, 413);
    let mut newer = good.clone();
    newer[4] = 2;
    assert_eq!(post(&newer).kind(), "Unsupported");
    assert_eq!(place.client().stat().unwrap().events, 0);
}

/// Ten gigabytes of zeros in a megabyte: what is unpacked ends where the header said.
#[test]
fn a_bomb_is_not_unpacked() {
    let place = Place::new(Given::default());
    let mut body = frame(FrameKind::Append, &[0; 4096])[..HEADER_BYTES].to_vec();
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    let zeros = vec![0; 16 << 20];
    for _ in 0..640 {
        encoder.write_all(&zeros).unwrap();
    }
    body.extend(encoder.finish().unwrap());
    assert!(body.len() < 2 << 20);
    let raw = send(place.running.address(), &request("POST", APPEND, &[], &body));
    assert_eq!((raw.status, raw.kind().as_str()), (422, "Invalid"));
    assert_eq!(place.client().stat().unwrap().events, 0, "and it goes on serving");
}

#[test]
fn names_are_no_paths() {
    let place = Place::new(Given::default());
    for path in [
        "/v1/ledgers/..%2f..%2fetc/feeds",
        "/v1/ledgers/%2e%2e/feeds",
        "/v1/ledgers/../feeds",
        "/v1/ledgers/default%00/feeds",
        "/v1/ledgers/DEFAULT/feeds",
        "/v1/ledgers//feeds",
        "/v1/ledgers/nobody/feeds",
        "/v2/ledgers/default",
        "/",
    ] {
        let raw = send(place.running.address(), &request("GET", path, &[], b""));
        assert_eq!((raw.status, raw.kind().as_str()), (404, "NotFound"), "{path}");
        assert!(raw.head.contains("burnlog-protocol: 1"), "{path}");
    }
    for (path, status) in [
        ("/v1/ledgers/default/feeds/..%2f/entries", 422),
        ("/v1/ledgers/default/feeds?after=x", 422),
        ("/v1/ledgers/default/feeds?since=zz", 422),
        ("/v1/ledgers/default/feeds?limit=-1", 422),
        ("/v1/ledgers/default/feeds?limit=%zz", 422),
        ("/v1/ledgers/default/append", 405),
    ] {
        assert_eq!(send(place.running.address(), &request("GET", path, &[], b"")).status, status, "{path}");
    }
}

#[test]
fn another_protocol_and_another_ledger_are_refused() {
    let place = Place::new(Given::default());
    let get = |headers: &[(&str, &str)]| {
        send(place.running.address(), &request("GET", "/v1/ledgers/default", headers, b""))
    };
    assert_eq!(get(&[]).status, 200);
    assert_eq!(get(&[("burnlog-ledger", &"07".repeat(16))]).status, 200);
    assert_eq!(get(&[("burnlog-ledger", &"09".repeat(16))]).status, 422);
    let newer = get(&[("burnlog-protocol", "2")]);
    assert_eq!((newer.status, newer.kind().as_str()), (400, "Unsupported"));
}

#[test]
fn huge_headers_are_refused_and_a_slow_client_is_cut_off() {
    let limits = Limits {
        header_timeout: Duration::from_millis(200),
        piece_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let place = Place::new(Given { limits, ..Given::default() });
    let address = place.running.address();
    let long = "x".repeat(1 << 20);
    let raw = send(address, &request("GET", "/v1/ledgers/default", &[("x-long", &long)], b""));
    assert!(matches!(raw.status, 0 | 431), "{}", raw.status);

    // Half a header, and then nothing: the server ends it, not we.
    let mut slow = connect(address);
    slow.write_all(b"GET /v1/ledgers/default HTTP/1.1\r\nhost: loc").unwrap();
    let raw = read(&mut slow);
    assert!(matches!(raw.status, 0 | 408), "{}", raw.status);

    // Half a body.
    let whole = request("POST", APPEND, &[], &frame(FrameKind::Append, &[1; 4096]));
    let mut slow = connect(address);
    slow.write_all(&whole[..whole.len() - 5]).unwrap();
    assert_eq!(read(&mut slow).status, 408);
    assert_eq!(send(address, &request("GET", "/healthz", &[], b"")).status, 200);
}

#[test]
fn a_header_is_taken_up_to_its_limit_and_not_a_byte_beyond() {
    let place = Place::new(Given::default());
    let address = place.running.address();
    let get = |more: usize| {
        let bytes = request("GET", "/v1/ledgers/default", &[("x-long", &"x".repeat(more))], b"");
        (bytes.len(), send(address, &bytes).status)
    };
    let (shortest, _) = get(0);
    let most = (16 << 10) - shortest;
    assert_eq!(get(most), (16 << 10, 200));
    assert_eq!(get(most + 1).1, 431);
    let (long, path) = ("x".repeat(20 << 10), "/v1/ledgers/default?x=");
    assert_eq!(send(address, &request("GET", &format!("{path}{long}"), &[], b"")).status, 431);
}

#[test]
fn a_parameter_that_is_given_twice_is_named() {
    let place = Place::new(Given::default());
    let get = |path: &str| send(place.running.address(), &request("GET", path, &[], b""));
    for (path, name) in
        [("feeds?limit=1&limit=2", "limit"), ("sessions?since=1&tag=a=1&tag=b=2&since=1", "since")]
    {
        let raw = get(&format!("/v1/ledgers/default/{path}"));
        assert_eq!((raw.status, raw.kind().as_str()), (400, "Invalid"), "{path}");
        let told = burnlog_http::Refusal::of_json(&raw.body).unwrap().error.message;
        assert!(told.contains(name), "{told}");
    }
    assert_eq!(get("/v1/ledgers/default/sessions?tag=a=1&tag=b=2").status, 200);
}

/// An answer that nobody reads is given up, and its memory is there for others again.
#[test]
fn who_reads_nothing_of_an_answer_is_cut_off() {
    let limits = Limits { write_timeout: Duration::from_millis(200), ..Limits::default() };
    let place = Place::new(Given { limits, ..Given::default() });
    let backend = place.client();
    let events: Vec<Event> = (0..2).map(|seq| Event::line("a", seq, &noise(6 << 20))).collect();
    let mut feed = TestFeed::new(1);
    feed.append(&*backend, &events).unwrap();
    let path = format!("/v1/ledgers/default/feeds/{}/entries?bytes=8388608", feed.id());
    // More than the buffers of both ends of all these connections hold.
    let mut stuck: Vec<_> = (0..4).map(|_| connect(place.running.address())).collect();
    for stream in &mut stuck {
        stream.write_all(&request("GET", &path, &[], b"")).unwrap();
    }
    let metrics = || {
        let raw = send(place.running.address(), &request("GET", "/metrics", &[], b""));
        String::from_utf8(raw.body).unwrap()
    };
    // Each asks until the server has closed what it could not write: only the one that asks is open then.
    assert!((0..100_000).any(|_| metrics().contains("\nburnlog_connections 1\n")), "{}", metrics());
    drop(stuck);
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| byte()).collect()
}

/// A request that has announced all the memory there is, and does not come to its end, keeps others out only as long
/// as they are willing to wait.
#[test]
fn who_finds_no_memory_is_told_to_come_again() {
    let limits = Limits { admission_timeout: Duration::from_millis(50), ..Limits::default() };
    let place = Place::new(Given { limits, ..Given::default() });
    let address = place.running.address();
    let mut announced = frame(FrameKind::Append, &[0; 64])[..HEADER_BYTES].to_vec();
    announced[8..16].copy_from_slice(&MESSAGE_BYTES_MAX.to_le_bytes());
    let mut holder = connect(address);
    let whole = request("POST", APPEND, &[], &[announced.as_slice(), &[0; 1024]].concat());
    holder.write_all(&whole[..whole.len() - 1024]).unwrap();
    // The header of the frame is on its way: ask until it has arrived.
    let path = format!("/v1/ledgers/default/feeds/{}/entries", TestFeed::new(1).id());
    let get = request("GET", &path, &[], b"");
    let raw = (0..10_000).map(|_| send(address, &get)).find(|raw| raw.status != 200).unwrap();
    assert_eq!((raw.status, raw.kind().as_str()), (429, "Unavailable"));
    assert!(raw.head.contains("retry-after: 1"), "{}", raw.head);
    drop(holder);
    assert!((0..10_000).any(|_| send(address, &get).status == 200));
}

#[test]
fn a_web_page_gets_nothing_from_a_server_without_tokens() {
    let place = Place::new(Given::default());
    let raw = send(
        place.running.address(),
        b"GET /v1/ledgers/default HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n",
    );
    assert_eq!(raw.status, 401);
    let raw = send(
        place.running.address(),
        b"POST /v1/ledgers/default/compact HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    );
    assert_eq!(raw.status, 401);
}

#[test]
fn what_is_served_beside_ledgers_says_what_it_is() {
    let place = Place::new(Given::default());
    let get = |path: &str| send(place.running.address(), &request("GET", path, &[], b""));
    assert_eq!(get("/healthz").body, b"ok\n");
    assert_eq!(get("/readyz").status, 200);
    assert_eq!(get("/v1/ledgers/default").status, 200);
    let metrics = String::from_utf8(get("/metrics").body).unwrap();
    assert!(metrics.contains("burnlog_requests_total{operation=\"stat\",status=\"2xx\"} 1"), "{metrics}");
    let served: serde_json::Value = serde_json::from_slice(&get("/v1/openapi.json").body).unwrap();
    assert_eq!(served, openapi());
}

/// The document is made from the table that the router is made from; here each of its paths is asked for.
#[test]
fn every_path_of_the_document_is_served_and_knows_its_method() {
    let place = Place::new(Given::default());
    let document = openapi();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), burnlog_http::ROUTES.len() + 4);
    for (path, methods) in paths {
        let path = path.replace("{ledger}", "default").replace("{writer}", "x");
        for method in methods.as_object().unwrap().keys() {
            let raw = send(place.running.address(), &request(&method.to_uppercase(), &path, &[], b""));
            assert!(!matches!(raw.status, 0 | 404 | 405 | 500), "{method} {path}: {}", raw.status);
        }
        let raw = send(place.running.address(), &request("DELETE", &path, &[], b""));
        assert_eq!(raw.status, 405, "{path}");
    }
}

#[test]
fn a_stop_lets_go_of_idle_connections_and_appends_are_there() {
    let place = Place::new(Given::default());
    let (backend, mut feed) = (place.client(), TestFeed::new(1));
    feed.append(&*backend, &Event::lines("a", 3)).unwrap();
    let (store, Place { running, .. }) = (place.store.clone(), place);
    running.stop();
    assert_eq!(Ledger::new(store).stat().unwrap().events, 3);
    assert_eq!(backend.stat().unwrap_err().kind(), ErrorKind::Unavailable);
}
