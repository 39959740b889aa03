//! Twenty clients over a faulty link, to a server that is killed and started again: nothing acknowledged is lost, nothing is
//! stored twice, and every batch is in the feed whose key signed it.

use crate::{Machine, text};
use burnlog_http::{HttpBackend, HttpOptions, HttpTarget};
use burnlog_log::{Address, Batch, ErrorKind, Kind, Ledger, Limit, Position, Timestamp, WriterKey};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

const CLIENTS: u8 = 20;
const BATCHES: u64 = 6;
/// After so many connections the link is sound, so that the test ends.
const FAULTY_CONNECTIONS: u64 = 600;

fn chance(seed: u64) -> u64 {
    let mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A link that spoils connections: some are refused, some are cut on the way there or back after so many bytes, some get a
/// gateway's answer, and of some everything that was sent arrives a second time, late.
struct Link {
    address: SocketAddr,
    server: Arc<Mutex<SocketAddr>>,
    stopping: Arc<AtomicBool>,
}

impl Link {
    fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Arc::new(Mutex::new(server));
        let stopping = Arc::new(AtomicBool::new(false));
        let (to, stop) = (Arc::clone(&server), Arc::clone(&stopping));
        std::thread::spawn(move || {
            for (number, stream) in (0..).zip(listener.incoming().map_while(Result::ok)) {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let to = *to.lock().unwrap();
                std::thread::spawn(move || carry(number, stream, to));
            }
        });
        Self { address, server, stopping }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // Wakes the one who accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// Carries one connection. What goes wrong here goes wrong for the client as well, which is the point.
fn carry(number: u64, mut client: TcpStream, to: SocketAddr) {
    let dice = chance(number);
    let limit = 300 + (chance(!number) % 30_000) as usize;
    let fate = if number < FAULTY_CONNECTIONS { dice % 10 } else { 9 };
    if fate == 0 {
        return;
    }
    if fate == 1 {
        let _ = client.read(&mut [0; 512]);
        let _ =
            client.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return;
    }
    let Ok(server) = TcpStream::connect(to) else { return };
    let (up, down) = match fate {
        2 | 3 => (limit, usize::MAX),
        4..=6 => (usize::MAX, limit / 20),
        _ => (usize::MAX, usize::MAX),
    };
    let (Ok(from_client), Ok(to_client)) = (client.try_clone(), client.try_clone()) else { return };
    let (Ok(from_server), Ok(to_server)) = (server.try_clone(), server.try_clone()) else { return };
    let back = std::thread::spawn(move || pump(from_server, to_client, down, None));
    let mut sent = Vec::new();
    pump(from_client, to_server, up, (fate == 7).then_some(&mut sent));
    let _ = back.join();
    if let Ok(mut again) = TcpStream::connect(to) {
        let _ = again.write_all(&sent);
        let _ = again.shutdown(Shutdown::Write);
        let _ = again.read_to_end(&mut Vec::new());
    }
}

/// Copies up to `limit` bytes, then cuts both ways.
fn pump(mut from: TcpStream, mut to: TcpStream, limit: usize, mut kept: Option<&mut Vec<u8>>) {
    let (mut left, mut buffer) = (limit, [0; 4096]);
    while left > 0 {
        let Ok(read) = from.read(&mut buffer) else { break };
        let read = read.min(left);
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            break;
        }
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(&buffer[..read]);
        }
        left -= read;
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn serve(machine: &Machine, store: &str) -> (Child, SocketAddr) {
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--store", store];
    let mut server = machine.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
    let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
        line.split_once("listening on http://").map(|(_, address)| address.parse().unwrap())
    });
    std::thread::spawn(move || lines.for_each(drop));
    (server, address.expect("it says where it listens"))
}

/// A batch of which a part is this client's own, and a part every client has.
fn batch(client: u8, number: u64) -> Batch {
    let mut batch = Batch::default();
    let mut push = |stream: &str, seq: u64| {
        let position =
            Position { kind: Kind::Line, source: "test".into(), stream: stream.into(), seq, part: None };
        let payload = format!("{{\"stream\":{stream:?},\"n\":{seq},\"text\":\"{}\"}}", "x".repeat(500));
        batch.push(position, payload.as_bytes()).unwrap();
    };
    (0..4).for_each(|at| push(&format!("own-{client}"), number * 4 + at));
    (0..4).for_each(|at| push("shared", number * 4 + at));
    batch
}

/// Appends all of a client's batches, each until it is acknowledged, and returns what was.
fn client(number: u8, link: SocketAddr, done: &AtomicU64) -> Vec<Address> {
    let target = HttpTarget::parse(&format!("http://{link}")).unwrap();
    let options = HttpOptions { attempts: 2, ..HttpOptions::default() };
    let mut acknowledged = Vec::new();
    for at in 0..BATCHES {
        let batch = batch(number, at);
        loop {
            let appended = burnlog_http::open(&target, &options)
                .map(|link| Ledger::new(HttpBackend::new(link)))
                .and_then(|ledger| ledger.writer(WriterKey::from_secret([number; 32])))
                .and_then(|mut writer| writer.append(&batch, Timestamp::from_micros(at as i64)));
            match appended {
                Ok(_) => break,
                Err(error) => {
                    let kind = error.kind();
                    assert!(matches!(kind, ErrorKind::Unavailable | ErrorKind::Conflict), "{error}");
                }
            }
        }
        acknowledged.extend(batch.events().map(|event| event.address));
        done.fetch_add(1, Ordering::Relaxed);
    }
    acknowledged
}

#[test]
fn twenty_clients_converge_over_a_faulty_link_while_the_server_is_killed_and_restarted() {
    let machine = Machine::new("server");
    let store = format!("file:{}", text(machine.path("served")));
    let (mut server, address) = serve(&machine, &store);
    let link = Link::start(address);
    let done = AtomicU64::new(0);
    let acknowledged: Vec<Vec<Address>> = std::thread::scope(|scope| {
        let (done, address) = (&done, link.address);
        let clients: Vec<_> =
            (1..=CLIENTS).map(|number| scope.spawn(move || client(number, address, done))).collect();
        // Killed each time a quarter of the batches has come in, whatever is under way.
        let all = u64::from(CLIENTS) * BATCHES;
        for quarter in 1..4 {
            while done.load(Ordering::Relaxed) < all * quarter / 4
                && !clients.iter().any(std::thread::ScopedJoinHandle::is_finished)
            {
                std::thread::yield_now();
            }
            server.kill().unwrap();
            server.wait().unwrap();
            let (again, address) = serve(&machine, &store);
            server = again;
            *link.server.lock().unwrap() = address;
        }
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    drop(link);
    server.kill().unwrap();
    server.wait().unwrap();

    let found = machine.rows(&["verify", "--store", &store]);
    let verified = found.last().unwrap();
    assert_eq!(verified["verified"]["damages"], 0, "{found:?}");
    let options = burnlog_jsonl::JsonlOptions::default();
    let ledger = Ledger::new(burnlog_jsonl::JsonlBackend::open(&machine.path("served"), options).unwrap());
    for (number, acknowledged) in (1..=CLIENTS).zip(&acknowledged) {
        let feed = WriterKey::from_secret([number; 32]).writer();
        let page = ledger.read(&feed, 0, Limit::default()).unwrap();
        let entries: Vec<Address> = page.entries.iter().map(|entry| entry.address).collect();
        assert_eq!(&entries, acknowledged, "client {number}: once each, in order, and nothing else");
    }
    assert_eq!(ledger.stat().unwrap().events, (u64::from(CLIENTS) + 1) * BATCHES * 4);
}
