//! The one table of routes: it drives the server's router, the scopes, the OpenAPI document and what a client asks.

use crate::frame::FrameKind;
use crate::rights::Scope;

/// The version of the protocol, in the header [`PROTOCOL_HEADER`] of every request and answer.
pub const PROTOCOL: &str = "1";
/// The header that names the protocol's version.
pub const PROTOCOL_HEADER: &str = "burnlog-protocol";
/// The header with the id of the ledger: in every answer about a ledger, and in requests of those who know it.
pub const LEDGER_HEADER: &str = "burnlog-ledger";
/// The header with the scopes of whoever asked, with commas between: in every answer about a ledger.
pub const SCOPES_HEADER: &str = "burnlog-scopes";
/// The header of an answer that was given before the folds had reached what the ledger holds.
pub const BEHIND_HEADER: &str = "burnlog-behind";
/// The ledger that a URL without a name means.
pub const DEFAULT_LEDGER: &str = "default";

/// Whether a text may name a ledger: 1 to 63 of `a-z`, `0-9`, `_` and `-`.
pub fn is_ledger_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

/// What can be asked of a ledger on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// What the ledger holds.
    Stat,
    /// Heads of feeds.
    Feeds,
    /// Entries of a feed.
    Entries,
    /// Appending a batch.
    Append,
    /// Looking for addresses.
    Find,
    /// Getting events.
    Get,
    /// Erasing payloads.
    Erase,
    /// Giving back space.
    Compact,
    /// Checking what the store keeps for itself.
    Check,
    /// A question to the projections.
    Ask,
    /// Full-text search.
    Search,
    /// Sessions as JSON lines.
    Sessions,
    /// Calls as JSON lines.
    Turns,
    /// Sums as JSON lines.
    Usage,
    /// Blocks of conversations as JSON lines.
    Content,
    /// How sessions hang together, as JSON lines.
    Relationships,
}

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GET: changes nothing.
    Get,
    /// POST.
    Post,
}

/// The kind of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// None.
    Nothing,
    /// A frame.
    Frame(FrameKind),
    /// One JSON object.
    Json,
    /// JSON objects, one a line.
    JsonLines,
}

impl Content {
    /// Returns the media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Nothing => "text/plain",
            Self::Frame(_) => "application/vnd.burnlog.frame",
            Self::Json => "application/json",
            Self::JsonLines => "application/x-ndjson",
        }
    }
}

/// A parameter of a query: its name and what it means.
pub type Parameter = (&'static str, &'static str);

/// A route of a ledger.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// What it is for.
    pub operation: Operation,
    /// The method.
    pub method: Method,
    /// The path; `{ledger}` and `{writer}` stand for names.
    pub path: &'static str,
    /// Any of these scopes is enough.
    pub scopes: &'static [Scope],
    /// The parameters of the query.
    pub parameters: &'static [Parameter],
    /// The body of a request.
    pub request: Content,
    /// The body of an answer.
    pub answer: Content,
    /// One sentence.
    pub summary: &'static str,
    /// Whether sending it twice does what sending it once does, and answers the same.
    pub repeatable: bool,
}

/// The parameters that may be given more than once; all of theirs count.
pub const REPEATED_PARAMETERS: [&str; 2] = ["tag", "kind"];

const EITHER: &[Scope] = &[Scope::Append, Scope::Read];
const READ: &[Scope] = &[Scope::Read];
const ADMIN: &[Scope] = &[Scope::Admin];

const FILTER: &[Parameter] = &[
    ("since", "from this instant on: RFC 3339 or a day"),
    ("until", "before this instant"),
    ("project", "of this project: its folder"),
    ("session", "of this session: its id or a unique prefix"),
    ("source", "of this source"),
    ("model", "of this model"),
    ("host", "recorded by this host"),
    ("tag", "stamped with this KEY=VALUE; may be repeated"),
    ("limit", "at most this many rows; 1,000 without, 10,000 at most"),
    ("after", "the `next` of the last line of the answer before"),
];

const CONTENT: &[Parameter] = &[
    ("kind", "of this kind of block; may be repeated"),
    ("since", "from this instant on: RFC 3339 or a day"),
    ("until", "before this instant"),
    ("project", "of this project: its folder"),
    ("session", "of this session: its id or a unique prefix"),
    ("source", "of this source"),
    ("model", "of this model"),
    ("host", "recorded by this host"),
    ("tag", "stamped with this KEY=VALUE; may be repeated"),
    ("limit", "at most this many blocks; 1,000 without, 10,000 at most"),
    ("after", "the `next` of the last line of the answer before"),
];

const USAGE: &[Parameter] = &[
    ("by", "what the sums are grouped by, with commas"),
    ("since", "from this instant on: RFC 3339 or a day"),
    ("until", "before this instant"),
    ("project", "of this project: its folder"),
    ("session", "of this session: its id or a unique prefix"),
    ("source", "of this source"),
    ("model", "of this model"),
    ("host", "recorded by this host"),
    ("tag", "stamped with this KEY=VALUE; may be repeated"),
];

const fn route(
    operation: Operation,
    method: Method,
    path: &'static str,
    scopes: &'static [Scope],
    summary: &'static str,
) -> Route {
    let (parameters, nothing): (&[Parameter], _) = (&[], Content::Nothing);
    let repeatable = matches!(method, Method::Get);
    Route {
        operation,
        method,
        path,
        scopes,
        parameters,
        request: nothing,
        answer: nothing,
        summary,
        repeatable,
    }
}

impl Route {
    const fn with(mut self, request: Content, answer: Content) -> Self {
        self.request = request;
        self.answer = answer;
        self
    }

    const fn asking(mut self, parameters: &'static [Parameter]) -> Self {
        self.parameters = parameters;
        self
    }

    const fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }
}

use Content::{Frame, JsonLines, Nothing};
use Method::{Get, Post};

/// Every route of a ledger.
pub const ROUTES: &[Route] = &[
    route(Operation::Stat, Get, "/v1/ledgers/{ledger}", EITHER, "Counts what the ledger holds.")
        .with(Nothing, Frame(FrameKind::Stat)),
    route(
        Operation::Feeds,
        Get,
        "/v1/ledgers/{ledger}/feeds",
        EITHER,
        "Lists heads of feeds by ascending id.",
    )
    .with(Nothing, Frame(FrameKind::Feeds))
    .asking(&[
        ("after", "the id of the feed before the first one, `ed25519:` and 64 hex digits"),
        ("since", "a token of an earlier answer, in hex: only feeds that moved since"),
        ("limit", "at most this many feeds"),
    ]),
    route(
        Operation::Entries,
        Get,
        "/v1/ledgers/{ledger}/feeds/{writer}/entries",
        EITHER,
        "Reads entries of a feed with their events; with the scope append alone, without the events.",
    )
    .with(Nothing, Frame(FrameKind::Entries))
    .asking(&[
        ("from", "the index of the first entry"),
        ("entries", "at most this many entries"),
        ("bytes", "at most this many bytes, but one entry at least"),
    ]),
    route(
        Operation::Append,
        Post,
        "/v1/ledgers/{ledger}/append",
        &[Scope::Append],
        "Appends one signed batch: all or nothing, durable before the answer.",
    )
    .with(Frame(FrameKind::Append), Nothing),
    route(
        Operation::Find,
        Post,
        "/v1/ledgers/{ledger}/find",
        EITHER,
        "Tells which events are there, and where.",
    )
    .with(Frame(FrameKind::Find), Frame(FrameKind::Found))
    .repeatable(),
    route(Operation::Get, Post, "/v1/ledgers/{ledger}/get", READ, "Gets events by their addresses.")
        .with(Frame(FrameKind::Get), Frame(FrameKind::Bodies))
        .repeatable(),
    route(Operation::Erase, Post, "/v1/ledgers/{ledger}/erase", ADMIN, "Makes payloads unreadable, durably.")
        .with(Frame(FrameKind::Erase), Nothing)
        .repeatable(),
    route(Operation::Compact, Post, "/v1/ledgers/{ledger}/compact", ADMIN, "Gives back space.")
        .with(Nothing, Frame(FrameKind::Compacted))
        .repeatable(),
    route(
        Operation::Check,
        Get,
        "/v1/ledgers/{ledger}/check",
        ADMIN,
        "Checks what the store keeps for itself.",
    )
    .with(Nothing, Frame(FrameKind::Damages)),
    route(Operation::Ask, Post, "/v1/ledgers/{ledger}/ask", READ, "Asks the projections one question.")
        .with(Frame(FrameKind::Question), Frame(FrameKind::Reply))
        .repeatable(),
    route(Operation::Search, Get, "/v1/ledgers/{ledger}/search", READ, "Finds words in conversations.")
        .with(Nothing, JsonLines)
        .asking(SEARCH),
    route(Operation::Sessions, Get, "/v1/ledgers/{ledger}/sessions", READ, "Lists sessions, newest first.")
        .with(Nothing, JsonLines)
        .asking(FILTER),
    route(Operation::Turns, Get, "/v1/ledgers/{ledger}/turns", READ, "Lists API calls in the order of time.")
        .with(Nothing, JsonLines)
        .asking(FILTER),
    route(Operation::Usage, Get, "/v1/ledgers/{ledger}/usage", READ, "Sums calls and tokens.")
        .with(Nothing, JsonLines)
        .asking(USAGE),
    route(
        Operation::Content,
        Get,
        "/v1/ledgers/{ledger}/content",
        READ,
        "Lists the blocks of conversations.",
    )
    .with(Nothing, JsonLines)
    .asking(CONTENT),
    route(
        Operation::Relationships,
        Get,
        "/v1/ledgers/{ledger}/relationships",
        READ,
        "Lists how a session hangs together with others.",
    )
    .with(Nothing, JsonLines)
    .asking(RELATIONSHIPS),
];

const RELATIONSHIPS: &[Parameter] = &[
    ("session", "what hangs together with this session: its id or a unique prefix"),
    ("since", "at least one end is in a session from this instant on: RFC 3339 or a day"),
    ("until", "… before this instant"),
    ("project", "… of this project: its folder"),
    ("source", "… of this source"),
    ("model", "… of this model"),
    ("host", "… recorded by this host"),
    ("tag", "… stamped with this KEY=VALUE; may be repeated"),
    ("limit", "at most this many rows"),
];

const SEARCH: &[Parameter] = &[
    ("q", "the words: all of them, \"phrases\", pre*, one OR another, -not"),
    (
        "kind",
        "of this kind of block: text, thinking, tool_use, tool_result, summary, system; may be repeated",
    ),
    ("sort", "score or time"),
    ("since", "from this instant on: RFC 3339 or a day"),
    ("until", "before this instant"),
    ("project", "of this project: its folder"),
    ("session", "of this session: its id or a unique prefix"),
    ("source", "of this source"),
    ("model", "of this model"),
    ("host", "recorded by this host"),
    ("tag", "stamped with this KEY=VALUE; may be repeated"),
    ("limit", "at most this many hits"),
];

impl Operation {
    /// Returns its route.
    pub fn route(self) -> &'static Route {
        ROUTES.iter().find(|route| route.operation == self).expect("every operation has a route")
    }

    /// Returns the stable name: the last word of the path.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stat => "stat",
            other => other.route().path.rsplit('/').next().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_words_and_no_path() {
        for good in ["default", "team_a-1", "x", &"a".repeat(63)] {
            assert!(is_ledger_name(good), "{good}");
        }
        for wrong in ["", ".", "..", "a/b", "%2e%2e", "A", "a b", "a\0", "ä", &"a".repeat(64)] {
            assert!(!is_ledger_name(wrong), "{wrong} was accepted");
        }
    }

    #[test]
    fn every_operation_has_one_route_with_a_scope() {
        for (index, route) in ROUTES.iter().enumerate() {
            assert!(!route.scopes.is_empty(), "{}", route.path);
            let same = |other: &&Route| other.operation == route.operation;
            assert_eq!(ROUTES.iter().position(|other| same(&other)), Some(index), "{}", route.path);
            assert_eq!(route.operation.route().path, route.path);
        }
    }
}
