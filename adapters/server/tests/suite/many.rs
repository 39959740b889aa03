//! Many connections at once: those who say nothing cost little, those who work get through, and the memory of messages is given back.

use crate::place::{Given, Place};
use crate::raw::{connect, request, send};
use burnlog_log::conformance::build::{Event, TestFeed};
use burnlog_log::{Ledger, verify};
use std::net::TcpStream;

/// The most memory that this process has had, in bytes.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn gauge(place: &Place, name: &str) -> u64 {
    let raw = send(place.running.address(), &request("GET", "/metrics", &[], b""));
    let text = String::from_utf8(raw.body).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap().to_owned();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// A hundred clients append beside a thousand connections on which nothing is said.
#[test]
fn a_hundred_who_work_get_through_beside_a_thousand_who_do_not() {
    let place = Place::new(Given::default());
    let idle: Vec<TcpStream> = (0..1000).map(|_| connect(place.running.address())).collect();
    let before = peak_bytes();
    let sizes: Vec<u64> = std::thread::scope(|scope| {
        let working = (0..100u8).map(|number| {
            let place = &place;
            scope.spawn(move || {
                let (backend, mut feed) = (place.client(), TestFeed::new(number));
                for batch in 0..3 {
                    let events: Vec<Event> = (0..8)
                        .map(|seq| Event::line(&format!("s{number}"), batch * 8 + seq, &[b'7'; 2000]))
                        .collect();
                    feed.append(&*backend, &events).unwrap();
                }
                feed.frontier.size()
            })
        });
        working.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(sizes, [24; 100]);
    assert!(idle.len() == 1000 && gauge(&place, "burnlog_connections") > 0);
    assert_eq!(gauge(&place, "burnlog_message_bytes"), 0, "what was taken was given back");
    // Clients, events and server in one process: the server's share is less.
    let grown = peak_bytes() - before;
    assert!(grown < 256 << 20, "{grown} bytes more");
    let store = Ledger::new(place.store.clone());
    assert_eq!(verify(&store, &[], &mut |_| {}).unwrap().damages, 0);
    assert_eq!(place.client().stat().unwrap().events, 2400);
}
