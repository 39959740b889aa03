//! Reads the session files of coding agents and turns them into batches of events. Knows where the files are, how
//! their records are told apart and how far each was read; knows nothing of ledgers, what a record means, or terminals.
//!
//! [`discover`] walks, [`ingest`] reads what changed and hands batches to a sink, [`CursorFile`] remembers.

mod below;
mod claude_code;
mod codex;
mod compressed;
mod cursor;
mod cursor_base;
mod cursor_disk;
mod cursor_file;
mod cursor_frame;
mod cursor_image;
#[cfg(test)]
mod cursor_model;
mod discover;
mod extent;
#[cfg(test)]
mod faults;
mod files;
mod filter;
mod gemini;
mod ingest;
mod json;
mod known;
mod lines;
mod opencode;
mod opencode_db;
mod outbox;
mod owners;
mod reading;
mod records;
mod relayburn;
mod relayburn_import;
mod relayburn_record;
mod report;
mod rows;
mod run;
mod source;

pub use cursor::FeedPoint;
pub use cursor_disk::{CursorBytes, CursorDisk};
pub use cursor_file::{CursorFile, SourceState};
pub use cursor_image::CursorImage;
pub use discover::{Places, Plan, discover};
pub use extent::Extent;
pub use filter::Filter;
pub use ingest::{Acknowledged, Options, Sink, ingest};
pub use known::KnownFiles;
pub use report::{Counts, Failed, Notice, Observer, Progress, Report};
pub use source::{Environment, names, variables};
