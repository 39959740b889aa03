//! Ledgers over HTTP: the router, who may do what, the limits, and the folds that follow appends. What a request does to a
//! ledger is decided in `burnlog-http`; which stores are behind it is decided by whoever starts the server.

mod answers;
mod body;
mod config;
mod folds;
mod header;
mod hosted;
mod listen;
mod metrics;
mod openapi;
mod origin;
mod query;
mod router;
mod running;
mod tls;
mod tokens;
mod unstuck;
mod work;

pub use config::{LARGE_BYTES, Limits, ServerConfig, TlsFiles};
pub use hosted::{Hosted, ProjectedLedger, Projections};
pub use openapi::openapi;
pub use running::Running;
pub use tokens::{NewToken, TokenRecord, Tokens};
