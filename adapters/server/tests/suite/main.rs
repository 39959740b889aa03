//! The server over real sockets: the seam and the projections through it, and everything that it refuses.

#![allow(clippy::unwrap_used)] // these are tests

mod conformance;
mod fuzz;
mod many;
mod place;
mod raw;
mod refusals;
mod tls;
mod tokens;
