//! A network between the backend and the server that loses what it is told to lose.

use crate::{database, open};
use burnlog_log::conformance::build::{Event, TestFeed, assert_feed};
use burnlog_log::{Backend, Batch, ErrorKind, Kind, Ledger, Position, Timestamp, WriterKey};
use burnlog_postgres::{Database, PostgresBackend, PostgresOptions};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Everything arrives.
const CLEAR: u8 = 0;
/// The `COMMIT` of the next append arrives; its answer does not, and the connection ends.
const LOSE_ANSWER: u8 = 1;
/// That append is on its way.
const LOSING: u8 = 3;
/// Nothing arrives any more, and nobody says so.
const SILENT: u8 = 2;

/// Passes connections on to the database's server. Returns the URL through it, without TLS.
fn proxy(database: &Database) -> (String, Arc<AtomicU8>) {
    let behind = database.url().split_once('@').unwrap().1;
    let server = behind.split_once('/').unwrap().0.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap().to_string();
    let url = format!("{}?sslmode=disable", database.url().replace(&server, &here));
    let mood = Arc::new(AtomicU8::new(CLEAR));
    let shared = Arc::clone(&mood);
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(&server).unwrap();
            let (client_too, server_too) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let (requests, answers) = (Arc::clone(&shared), Arc::clone(&shared));
            let request = move |bytes: &[u8]| {
                if requests.load(Ordering::Relaxed) == LOSE_ANSWER && contains(bytes, b".entries (writer") {
                    requests.store(LOSING, Ordering::Relaxed);
                }
                if requests.load(Ordering::Relaxed) == SILENT { Fate::Lost } else { Fate::Arrives }
            };
            let answer = move |bytes: &[u8]| match answers.load(Ordering::Relaxed) {
                LOSING if contains(bytes, b"COMMIT\0") => {
                    answers.store(CLEAR, Ordering::Relaxed);
                    Fate::Cut
                }
                SILENT => Fate::Lost,
                _ => Fate::Arrives,
            };
            std::thread::spawn(move || pass_on(client, server, request));
            std::thread::spawn(move || pass_on(server_too, client_too, answer));
        }
    });
    (url, mood)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// What becomes of bytes.
enum Fate {
    Arrives,
    Lost,
    /// Lost, and the connection ends.
    Cut,
}

/// Copies until one side ends.
fn pass_on(mut from: TcpStream, mut to: TcpStream, fate: impl Fn(&[u8]) -> Fate) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let goes_on = match fate(&bytes[..count]) {
            Fate::Arrives => to.write_all(&bytes[..count]).is_ok(),
            Fate::Lost => true,
            Fate::Cut => false,
        };
        if !goes_on {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[test]
fn an_append_whose_answer_was_lost_is_there_once() {
    let database = database();
    drop(open(&database));
    let (url, mood) = proxy(&database);
    let backend = PostgresBackend::open(&url, &PostgresOptions::default()).unwrap();
    let (mut feed, events) = (TestFeed::new(1), Event::lines("a", 3));
    let prepared = feed.prepare(&events);
    mood.store(LOSE_ANSWER, Ordering::Relaxed);
    assert_eq!(prepared.refused(&backend).kind(), ErrorKind::Unavailable);
    assert_eq!(mood.load(Ordering::Relaxed), CLEAR, "the answer was lost, nothing else");
    assert_eq!(prepared.refused(&backend).kind(), ErrorKind::Conflict, "it is there already");
    feed.frontier = prepared.frontier;
    feed.heads.push(prepared.head);
    assert_feed(&backend, &feed, &events);
    assert_eq!(backend.stat().unwrap().events, 3);
}

#[test]
fn a_writer_does_not_notice_that_an_answer_was_lost() {
    let database = database();
    drop(open(&database));
    let (url, mood) = proxy(&database);
    let ledger = Ledger::new(PostgresBackend::open(&url, &PostgresOptions::default()).unwrap());
    let mut writer = ledger.writer(WriterKey::from_secret([1; 32])).unwrap();
    for seq in 0..4 {
        let mut batch = Batch::default();
        let position =
            Position { kind: Kind::Line, source: "test".into(), stream: "a".into(), seq, part: None };
        batch.push(position, b"{}").unwrap();
        mood.store(LOSE_ANSWER, Ordering::Relaxed);
        writer.append(&batch, Timestamp::from_micros(1)).unwrap();
        mood.store(CLEAR, Ordering::Relaxed);
    }
    assert_eq!((writer.size(), ledger.stat().unwrap().events), (4, 4));
    assert_eq!(ledger.feeds().unwrap()[0].size, 4);
}

#[test]
fn a_server_that_goes_silent_is_given_up_and_asked_again() {
    let database = database();
    drop(open(&database));
    let (url, mood) = proxy(&database);
    let short = Duration::from_millis(300);
    let options =
        PostgresOptions { statement_timeout: short, lock_timeout: short, ..PostgresOptions::default() };
    let backend = PostgresBackend::open(&url, &options).unwrap();
    mood.store(SILENT, Ordering::Relaxed);
    assert_eq!(backend.stat().unwrap_err().kind(), ErrorKind::Unavailable);
    mood.store(CLEAR, Ordering::Relaxed);
    assert_eq!(backend.stat().unwrap().events, 0);
}
