//! A network that delays, cuts and halves connections at places drawn from a seed, and at every place in turn.

use crate::kill::{assert_same, source};
use crate::{database, open};
use burnlog_log::conformance::build::{Event, TestFeed, assert_feed};
use burnlog_log::{Backend, ErrorKind, Ledger, replay};
use burnlog_postgres::{Database, PostgresBackend, PostgresOptions};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// What a network does to the connections that go through it.
#[derive(Default)]
struct Weather {
    /// Bytes of answers that still arrive before the next connection is cut; negative: nothing is cut.
    answers_left: AtomicI64,
    /// The same for requests.
    requests_left: AtomicI64,
    cuts: AtomicU64,
    /// So many cuts come of themselves, each after a number of bytes that is drawn.
    cuts_max: AtomicU64,
    bytes_of_answers: AtomicU64,
    bytes_of_requests: AtomicU64,
    /// Draws where to break what passes into pieces that arrive one after the other; 0 leaves it whole.
    seed: AtomicU64,
}

impl Weather {
    fn clear() -> Arc<Self> {
        let this = Self::default();
        this.calm();
        Arc::new(this)
    }

    fn calm(&self) {
        self.answers_left.store(-1, Ordering::SeqCst);
        self.requests_left.store(-1, Ordering::SeqCst);
    }

    /// After how many bytes the next cut comes; negative for never.
    fn next_cut(&self) -> i64 {
        if self.cuts.load(Ordering::SeqCst) + 2 >= self.cuts_max.load(Ordering::SeqCst) {
            return -1;
        }
        (self.draw() % 40_000) as i64
    }

    fn draw(&self) -> u64 {
        let mut state = self.seed.load(Ordering::SeqCst);
        if state != 0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            self.seed.store(state, Ordering::SeqCst);
        }
        state
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

/// Passes connections on to the database's server through `weather`. Returns the URL through it, without TLS.
fn through(database: &Database, weather: &Arc<Weather>) -> String {
    let behind = database.url().split_once('@').unwrap().1;
    let server = behind.split_once('/').unwrap().0.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap().to_string();
    let url = format!("{}?sslmode=disable", database.url().replace(&server, &here));
    let weather = Arc::clone(weather);
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(&server).unwrap();
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let (client_too, server_too) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let (there, back) = (Arc::clone(&weather), Arc::clone(&weather));
            std::thread::spawn(move || pass_on(client, server, Way::There, &there));
            std::thread::spawn(move || pass_on(server_too, client_too, Way::Back, &back));
        }
    });
    url
}

/// Copies until one side ends or the weather cuts it. Every second cut ends one direction alone, in the middle of
/// what was on its way.
fn pass_on(mut from: TcpStream, mut to: TcpStream, way: Way, weather: &Weather) {
    let (left, passed) = match way {
        Way::There => (&weather.requests_left, &weather.bytes_of_requests),
        Way::Back => (&weather.answers_left, &weather.bytes_of_answers),
    };
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let before = left.load(Ordering::SeqCst);
        let arriving = if before < 0 { count } else { count.min(before as usize) };
        if before >= 0 {
            left.store(before - arriving as i64, Ordering::SeqCst);
        }
        passed.fetch_add(arriving as u64, Ordering::SeqCst);
        if send_in_pieces(&mut to, &bytes[..arriving], weather).is_err() {
            break;
        }
        if arriving < count {
            left.store(weather.next_cut(), Ordering::SeqCst);
            if weather.cuts.fetch_add(1, Ordering::SeqCst) % 2 == 1 {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// The delay is what this network does; nobody waits for it to be over.
fn send_in_pieces(to: &mut TcpStream, bytes: &[u8], weather: &Weather) -> std::io::Result<()> {
    let draw = weather.draw();
    if draw == 0 || bytes.len() < 2 {
        return to.write_all(bytes);
    }
    let (first, second) = bytes.split_at(1 + (draw >> 8) as usize % (bytes.len() - 1));
    to.write_all(first)?;
    std::thread::sleep(Duration::from_micros(draw % 1500));
    to.write_all(second)
}

/// What this test asks of a network that cuts an append at every byte: it was refused with outcome unknown or came about,
/// and either way the writer above ends with the batch there once.
fn cut_everywhere(way: Way, step: usize) {
    let database = database();
    drop(open(&database));
    let weather = Weather::clear();
    let backend = PostgresBackend::open(&through(&database, &weather), &PostgresOptions::default()).unwrap();
    let (passed, left) = match way {
        Way::There => (&weather.bytes_of_requests, &weather.requests_left),
        Way::Back => (&weather.bytes_of_answers, &weather.answers_left),
    };
    let mut feed = TestFeed::new(1);
    let mut all = Vec::new();
    let mut append = |round: usize, prepare: &dyn Fn()| {
        let events = Event::lines(&format!("round {round:05}"), 3);
        let prepared = feed.prepare(&events);
        prepare();
        let first = prepared.apply(&backend);
        weather.calm();
        if let Err(error) = &first {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            // Asked again, it is there already or comes about now.
            match prepared.apply(&backend) {
                Ok(()) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            }
        }
        feed.frontier = prepared.frontier;
        feed.heads.push(prepared.head);
        all.extend(events);
        first.is_err()
    };
    append(0, &|| {});
    let before = passed.load(Ordering::SeqCst);
    append(1, &|| {});
    // The same append again and again, each cut a little later than the one before.
    let bytes = (passed.load(Ordering::SeqCst) - before) as usize;
    let mut failed = 0;
    for (round, at) in (2..).zip((0..bytes).step_by(step)) {
        failed += usize::from(append(round, &|| left.store(at as i64, Ordering::SeqCst)));
    }
    assert!(failed > bytes / step / 2, "{failed} of {bytes} bytes, one in {step}, were cut");
    assert_feed(&backend, &feed, &all);
    assert_eq!(backend.stat().unwrap().events, all.len() as u64);
    backend.check(&mut |damage| panic!("{damage:?}")).unwrap();
}

#[test]
fn an_append_whose_answers_are_cut_at_any_byte_is_there_once() {
    cut_everywhere(Way::Back, 3);
}

#[test]
fn an_append_whose_requests_are_cut_at_any_byte_is_there_once() {
    cut_everywhere(Way::There, 31);
}

#[test]
fn a_replay_over_a_network_that_delays_and_cuts_converges() {
    let source = source();
    for seed in [1, 0xBAD_5EED] {
        let database = database();
        drop(open(&database));
        let weather = Weather::clear();
        weather.seed.store(seed, Ordering::SeqCst);
        weather.cuts_max.store(30, Ordering::SeqCst);
        let url = through(&database, &weather);
        let there = Ledger::new(PostgresBackend::open(&url, &PostgresOptions::default()).unwrap());
        weather.answers_left.store(300, Ordering::SeqCst);
        weather.requests_left.store(20_000, Ordering::SeqCst);
        let report = loop {
            match replay(&source, &there, &mut |_| {}) {
                Ok(report) => break report,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
            }
        };
        assert_eq!(report.divergences, []);
        assert!(weather.cuts.load(Ordering::SeqCst) > 5, "hardly anything was cut");
        weather.calm();
        assert_same(&source, &there);
    }
}
