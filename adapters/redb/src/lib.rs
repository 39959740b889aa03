//! Keeps a ledger in one redb file. See the README of this folder for the life of an append and the tables.

mod codec;
mod tables;
