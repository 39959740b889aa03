//! What a ledger is: content-addressed events, feeds of one writer each, and the seam behind which backends
//! keep them. No driver, no runtime, no terminal, no clock, no randomness, no environment.

mod address;
mod backend;
mod batch;
mod checked;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod event;
mod failpoint;
mod feed;
mod hashing;
mod incomplete;
mod ledger;
pub mod limits;
#[cfg(feature = "conformance")]
mod memory;
mod replay;
pub mod scan;
mod time;
mod verify;

pub use address::{Address, LedgerId, PayloadHash, Root, Signature, WriterId, parse_hex, push_hex};
pub use backend::{
    Ahead, Append, Backend, Compacted, Damage, Entry, FeedState, FeedsPage, Found, Location, NewEvent, Page,
    Presence, Stat, Token,
};
pub use batch::{Batch, BatchEvent};
pub use checked::{CheckedEvent, EventChecker, HashedPayload};
pub use error::{Error, ErrorKind, Result};
pub use event::{
    Body, Kind, Part, Position, SKELETON_VERSION, Skeleton, SkeletonFrozen, check_payload, push_number,
};
#[cfg(feature = "failpoints")]
pub use failpoint::arm_failpoint;
pub use failpoint::failpoint;
pub use feed::{BatchHead, Frontier, VerifiedHead, WriterKey, leaf, node};
pub use incomplete::{Completed, Incomplete};
pub use ledger::{Ledger, Outcome, SignedEntry, Writer};
pub use limits::Limit;
#[cfg(feature = "conformance")]
pub use memory::MemoryBackend;
pub use replay::{Divergence, ReplayProgress, ReplayReport, replay, replay_since};
pub use time::Timestamp;
pub use verify::{Finding, Severity, Verified, verify};
