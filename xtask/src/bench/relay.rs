//! A relay between a client and a server on this machine that counts the bytes of both ways: what goes over the wire, headers
//! included.

use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A listening relay. It goes on until the process ends.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    moved: Arc<AtomicU64>,
}

impl Relay {
    /// Starts a relay to `server` on a free port.
    pub(super) fn start(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
        let address = listener.local_addr()?;
        let moved = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&moved);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A client that meets nobody sees its connection end, and says so.
                let Ok(server) = TcpStream::connect(server) else { continue };
                let both = client.try_clone().and_then(|back| Ok((back, server.try_clone()?)));
                let Ok((client_out, server_in)) = both else { continue };
                for (from, to) in [(client, server), (server_in, client_out)] {
                    let counted = Arc::clone(&counted);
                    std::thread::spawn(move || carry(from, to, &counted));
                }
            }
        });
        Ok(Self { address, moved })
    }

    /// The bytes of both ways since this was asked last.
    pub(super) fn taken(&self) -> u64 {
        self.moved.swap(0, Ordering::SeqCst)
    }
}

/// Carries bytes until one side ends, and ends the other.
fn carry(mut from: TcpStream, mut to: TcpStream, counted: &AtomicU64) {
    let _ = to.set_nodelay(true);
    let mut piece = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        // Counted first, so that whoever has the answer finds it counted.
        counted.fetch_add(length as u64, Ordering::SeqCst);
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_counted_both_ways() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let relay = Relay::start(server.local_addr().unwrap()).unwrap();
        let mut client = TcpStream::connect(relay.address).unwrap();
        let (mut accepted, _) = server.accept().unwrap();
        client.write_all(b"question").unwrap();
        let mut asked = [0; 8];
        accepted.read_exact(&mut asked).unwrap();
        accepted.write_all(b"yes").unwrap();
        drop(accepted);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!((&asked[..], &answer[..]), (&b"question"[..], &b"yes"[..]));
        assert_eq!(relay.taken(), 11);
        assert_eq!(relay.taken(), 0);
    }
}
