//! The default backend: a ledger in a folder of JSONL segments. See the README for the life of an append and for
//! what each file is for. Holds storage only: it parses no record and knows no projection.

mod append;
mod backend;
mod block;
mod blocks;
mod bodies;
mod cache;
mod check;
mod check_places;
mod codec;
mod commit;
mod compact;
#[cfg(test)]
mod decoders;
mod decompress;
mod encode;
mod erase;
mod erased;
mod files;
mod flush;
mod gather;
mod identity;
mod index;
mod lean;
mod line;
mod lock;
mod map;
mod options;
mod pack;
mod payload;
mod published;
mod query;
mod read;
mod recover;
mod refresh;
mod scan;
mod seal;
mod sealed;
mod segment;
#[cfg(feature = "faults")]
mod simulated;
#[cfg(feature = "faults")]
mod slowed;
mod store;
#[cfg(feature = "faults")]
mod through;
mod turn;
mod writer;

pub use backend::JsonlBackend;
pub use files::{Access, File, Files, Listed, SystemFiles};
pub use map::Mapped;
pub use options::{Durability, JsonlOptions};
pub use recover::{DamagedRange, Recovered, Verdict, recover};
#[cfg(feature = "faults")]
pub use simulated::{Fault, Simulated};
#[cfg(feature = "faults")]
pub use slowed::Slowed;
pub use store::Notice;
#[cfg(feature = "faults")]
pub use through::{FileThrough, FilesThrough};
