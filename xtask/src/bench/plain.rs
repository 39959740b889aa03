//! The least that a durable append over HTTP can be: a server that writes the body of every request to a file, syncs, and
//! answers 200. It hashes, checks and compares nothing.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result as IoResult, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Starts the server on a free port; it goes on until the process ends.
pub(super) fn start(path: &Path) -> Result<SocketAddr> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
    let address = listener.local_addr()?;
    let file = Arc::new(Mutex::new(file));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let file = Arc::clone(&file);
            std::thread::spawn(move || serve(stream, &file));
        }
    });
    Ok(address)
}

/// Serves one connection. Whatever goes wrong ends it, and the client says so.
fn serve(stream: TcpStream, file: &Mutex<File>) -> IoResult<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut from = BufReader::new(stream);
    let mut body = Vec::new();
    while let Some(length) = content_length(&mut from)? {
        body.resize(length, 0);
        from.read_exact(&mut body)?;
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&body)?;
        file.sync_data()?;
        drop(file);
        out.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
    Ok(())
}

/// Reads a request's header and returns the length of its body; `None` when the client has ended.
fn content_length(from: &mut impl BufRead) -> IoResult<Option<usize>> {
    let (mut line, mut length) = (String::new(), None);
    loop {
        line.clear();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let field = line.trim_end();
        if field.is_empty() {
            let missing = || Error::new(ErrorKind::InvalidData, "a request without content-length");
            return length.ok_or_else(missing).map(Some);
        }
        if let Some((name, value)) = field.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_in_the_file_when_the_answer_comes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bodies");
        let mut client = TcpStream::connect(start(&path).unwrap()).unwrap();
        for (body, kept) in [("one", "one"), ("", "one"), ("more", "onemore")] {
            write!(client, "POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
            let mut answer = [0; 38];
            client.read_exact(&mut answer).unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), kept);
        }
    }
}
