//! Keeps a ledger in one redb file. One process writes, any number read. The README of this folder tells the life
//! of an append and what each table is for.

mod append;
mod backend;
mod block;
mod bodies;
mod cache;
mod check;
mod check_tables;
mod codec;
mod compact;
#[cfg(test)]
mod crash;
mod directory;
#[cfg(test)]
mod disk;
mod erase;
mod fault;
mod feeds;
#[cfg(test)]
mod flips;
mod group;
mod locate;
mod options;
mod overlay;
mod place;
mod read;
mod tables;

pub use backend::RedbBackend;
pub use options::{Durability, RedbOptions};
