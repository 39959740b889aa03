//! A ledger over HTTP: the messages, the client that is a [`Backend`](burnlog_log::Backend), and the server's half of the
//! protocol without sockets. Both halves are functions from requests to answers; what carries them is a [`Transport`].
//! `docs/protocol.md` is the normative text.

mod call;
mod client;
mod codec;
mod frame;
mod messages;
mod questions;
mod refusal;
mod remote;
mod reply;
mod rights;
mod routes;
mod sent;
mod serve;
mod small;
mod target;
mod wire;

pub use call::{Answer, Broken, BrokenBy, Call, Transport, other_ledger, unpack};
pub use client::{HttpBackend, Link, Retries};
pub use codec::{Decoder, Encoder};
pub use frame::{
    FRAME_VERSION, FrameHeader, FrameKind, FrameReader, HEADER_BYTES, MAGIC, MESSAGE_BYTES_MAX, frame,
    is_too_long, too_long, unframe,
};
pub use questions::{Belonging, Question, ROWS_MAX, TableName};
pub use refusal::{Refusal, Refused, is_of_store, status_of};
pub use remote::HttpQueries;
pub use reply::reply;
pub use rights::{Rights, Scope};
pub use routes::{
    BEHIND_HEADER, Content, DEFAULT_LEDGER, LEDGER_HEADER, Method, Operation, PROTOCOL, PROTOCOL_HEADER,
    Parameter, REPEATED_PARAMETERS, ROUTES, Route, SCOPES_HEADER, is_ledger_name,
};
pub use sent::{SentBatch, decode_append, encode_append};
pub use serve::{Asked, PAGE_MAX, admit, answer_of, append, perform, refuse, refuse_asked, serve, success};
pub use target::HttpTarget;
pub use wire::{HttpOptions, open};
