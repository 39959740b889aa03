//! Host-local state: what stays on this machine whatever the backend. Where things are under
//! `RELAYBURN_HOME`, the writer key of each ledger, remembered heads, evidence of forks, the lock of an ingest,
//! the configuration. Knows no session files and no backends.

mod config;
#[cfg(test)]
mod decoders;
mod files;
mod heads;
mod home;
mod hook_log;
mod key;
mod lock;
mod pushed;
mod writer;

pub use config::Config;
pub use heads::RememberedHeads;
pub use home::{Home, LedgerState};
pub use hook_log::HookErrors;
pub use key::{load_or_create_key, parse_key, rotate_key};
pub use lock::IngestLock;
pub use pushed::{PushMark, Pushed};
pub use writer::{Appended, FeedStart, HostWriter, Identity, KnownPoint};
