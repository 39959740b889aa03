//! The table of sources whose records the folds understand: one entry and one file each.

use crate::Derived;
use crate::calls::Call;
use crate::claude_code;
use crate::codex;
use crate::compactions::Compaction;
use crate::content::RecordBlocks;
use crate::gemini;
use crate::groups::Group;
use crate::json::{self, Span};
use crate::notices::Notice;
use crate::opencode;
use crate::records::RecordClass;
use crate::relationships::Relationship;
use crate::resolved::Resolved;
use crate::rows::Rows;
use crate::stamps::Stamp;
use crate::store::FoldTransaction;
use crate::streams::Stream;
use crate::text::{Name, Names};
use crate::tool_uses::ToolUse;
use crate::user_turns::UserTurn;
use burnlog_log::{Address, PayloadHash, Result};
use std::borrow::Cow;

/// How one source's records become rows.
pub(crate) struct SourceFold {
    /// The source's name in skeletons.
    pub(crate) name: &'static str,
    /// Whether two forms of one thing are no contradiction: its objects are rewritten in place, or what they mean depends
    /// on facts that may still come.
    pub(crate) rewrites: bool,
    /// What copied history is told by.
    pub(crate) copies: Copies,
    /// Whether a record alone says which session it belongs to: one that was erased then tells of no stream.
    pub(crate) names_session: bool,
    /// Tells the session that a stream belongs to, and the subagent if it is one's.
    pub(crate) locate: fn(stream: &str) -> (&str, Option<&str>),
    /// Folds one record.
    pub(crate) fold: fn(record: &SourceRecord<'_>, stream: &mut Stream, facts: &mut Facts) -> Reading,
    /// Tells what a group of facts means. The same facts give the same rows.
    pub(crate) resolve: fn(group: &Group) -> Resolved,
    /// Tells which part of a row's key names the family of groups that may tell of it; `None` where one group alone does.
    pub(crate) family: fn(name: &str) -> Option<&str>,
}

/// What copied history is told by, beside what records state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copies {
    /// By nothing else.
    Stated,
    /// By how a file begins, which is kept then.
    Beginnings,
    /// By ids: forks copy calls under new names, so that groups tell of instances in place of calls.
    Ids,
}

/// All of them.
pub(crate) const SOURCES: &[SourceFold] = &[claude_code::FOLD, codex::FOLD, opencode::FOLD, gemini::FOLD];

/// Whether objects of a source are rewritten in place.
pub(crate) fn rewrites_in_place(source: &str) -> bool {
    SOURCES.iter().any(|fold| fold.name == source && fold.rewrites)
}

/// Whether forks of a source copy calls under new names.
pub(crate) fn copies_calls(source: &str) -> bool {
    SOURCES.iter().any(|fold| fold.name == source && fold.copies == Copies::Ids)
}

/// One record on its way into rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourceRecord<'a> {
    /// The record number.
    pub(crate) seq: u64,
    /// The event.
    pub(crate) address: Address,
    /// The hash of the payload.
    pub(crate) payload_hash: PayloadHash,
    /// The record.
    pub(crate) payload: &'a [u8],
    /// The session of the stream as it was named, before it was normalised as a key.
    pub(crate) session: &'a str,
}

/// Where a source puts the rows that a record makes.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) names: Names,
    pub(crate) calls: Rows<Call>,
    pub(crate) tool_uses: Rows<ToolUse>,
    pub(crate) user_turns: Rows<UserTurn>,
    pub(crate) compactions: Rows<Compaction>,
    pub(crate) notices: Rows<Notice>,
    pub(crate) relationships: Rows<Relationship>,
    pub(crate) stamps: Rows<Stamp>,
    /// The blocks of the record that is being folded.
    pub(crate) blocks: RecordBlocks,
    groups: Rows<Group>,
    group_bytes: usize,
}

/// What a source made of a record, apart from rows.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// What kind of record it is; also tells whether it was understood.
    pub(crate) class: RecordClass,
    /// Its type, with the subtype after a slash.
    pub(crate) record_type: Name,
    /// The version of the agent that wrote it.
    pub(crate) version: Name,
    /// The fingerprint of its own id.
    pub(crate) fingerprint: [u8; 4],
}

impl Reading {
    /// Makes the reading of a record of which nothing but its class and type is known.
    pub(crate) fn of_class(class: RecordClass, record_type: &str, facts: &mut Facts) -> Self {
        let record_type = facts.names.get(record_type);
        Self { class, record_type, version: facts.names.get(""), fingerprint: [0; 4] }
    }
}

impl Facts {
    /// Returns the payload of a record as text, and begins its blocks: their places are in this text.
    pub(crate) fn text_of<'a>(&mut self, payload: &'a [u8]) -> Cow<'a, str> {
        let text = json::text_of(payload);
        self.blocks.begin(payload, matches!(text, Cow::Borrowed(_)));
        text
    }

    /// Tells of a block of the record that is being folded: its kind, where its value stands in the text of the record,
    /// and the tool use that it belongs to. An absent value is no block.
    pub(crate) fn block(&mut self, kind: &str, span: Span, tool_use: Option<&str>) {
        self.blocks.push(kind, span, tool_use);
    }

    /// Tells that the record being folded is one version of an object that is rewritten in place: of all versions at its
    /// number only the one with the bytewise greatest rank has blocks.
    pub(crate) fn rank_blocks(&mut self, rank: &[u8]) {
        self.blocks.set_rank(rank);
    }

    /// Adds one fact to a group.
    pub(crate) fn note(&mut self, source: &Name, group: &Name, key: Vec<u8>, fact: Vec<u8>) {
        self.group_bytes += key.len() + fact.len() + 150;
        self.groups.merge(Group::of(source.clone(), group.clone(), key, fact));
    }

    /// Returns about how much memory the rows take, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.calls.bytes()
            + self.tool_uses.bytes()
            + self.user_turns.bytes()
            + self.compactions.bytes()
            + self.notices.bytes()
            + self.relationships.bytes()
            + self.stamps.bytes()
            + self.groups.bytes()
            + self.group_bytes
    }

    /// Drops all rows but the groups.
    pub(crate) fn keep_groups(&mut self) {
        *self = Self {
            names: std::mem::take(&mut self.names),
            blocks: std::mem::take(&mut self.blocks),
            groups: std::mem::take(&mut self.groups),
            group_bytes: self.group_bytes,
            ..Self::default()
        };
    }

    /// Takes the groups, in the order of their keys.
    pub(crate) fn take_groups(&mut self) -> Vec<Group> {
        self.group_bytes = 0;
        self.groups.take_sorted()
    }

    /// Writes all rows.
    pub(crate) fn write(&mut self, to: &mut dyn FoldTransaction, derived: &mut Derived) -> Result<()> {
        self.calls.write(to, derived)?;
        self.tool_uses.write(to, derived)?;
        self.user_turns.write(to, derived)?;
        self.compactions.write(to, derived)?;
        self.notices.write(to, derived)?;
        self.relationships.write(to, derived)?;
        self.stamps.write(to, derived)?;
        self.group_bytes = 0;
        self.groups.write(to, derived)
    }
}
