//! The server over real sockets.
#![allow(clippy::unwrap_used)] // these are tests
