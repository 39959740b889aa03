//! The least that a durable append over HTTP can be, on the HTTP stack of `burnlog serve`, for `cargo xtask bench --server`: a handler
//! that writes as many bytes as a ledger does for the same request, syncs, and answers 200. It hashes, checks and compares nothing.
//!
//! `serve_bare FILE` says on standard error where it listens, and goes on until SIGTERM ends it. The query of a request,
//! `bytes=N`, says how much is written: its body, repeated.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // a tool for developers

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::routing::post;
use axum::serve::ListenerExt;
use bytes::Bytes;
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

fn main() {
    let path = std::env::args().nth(1).unwrap();
    let file = Arc::new(Mutex::new(File::create(path).unwrap()));
    // Threads as in the server.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        eprintln!("listening on http://{}", listener.local_addr().unwrap());
        let listener = listener.tap_io(|stream: &mut TcpStream| stream.set_nodelay(true).unwrap());
        let router = Router::new().route("/", post(append)).with_state(file);
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        tokio::select! {
            served = axum::serve(listener, router) => served.unwrap(),
            _ = terminate.recv() => {}
        }
    });
}

async fn append(State(file): State<Arc<Mutex<File>>>, RawQuery(query): RawQuery, body: Bytes) {
    let bytes: usize = query.unwrap().strip_prefix("bytes=").unwrap().parse().unwrap();
    // As the server does for whoever is alone.
    tokio::task::block_in_place(|| {
        let lines = body.repeat(bytes.div_ceil(body.len()));
        let mut file = file.lock().unwrap();
        file.write_all(&lines[..bytes]).unwrap();
        file.sync_data().unwrap();
    });
}
