//! Streams: one row for each session file, whoever saw it.

use crate::Derived;
use crate::beginnings::Beginning;
use crate::table::{Merge, row};
use crate::text::{Name, key_text};
use burnlog_log::Timestamp;

/// Where the rank of a title starts in `title_place`; the record number is below.
const TITLE_RANK_SHIFT: u32 = 56;
/// Set in a session's `project_place` for streams that are not the session's own.
const SUBSTREAM: i64 = 1 << 62;

row! {
    /// One session file.
    pub struct Stream in "streams" indexes [["session"], ["first_record"]] dumped true
    key {
        /// The source.
        source: Name,
        /// The stream.
        stream: Name,
    }
    /// The session that the file belongs to.
    session: Name,
    /// The subagent whose file it is; of the session's own file absent.
    agent: Option<Name>,
    /// The folder in the first record that names one.
    project: Option<Name>,
    /// The number of that record.
    project_seq: i64,
    /// The title: the last of the best kind.
    title: Option<String>,
    /// The rank of the title's kind and the number of its record.
    title_place: i64,
    /// The version of the agent in the last record that names one.
    version: Option<Name>,
    /// The number of that record.
    version_seq: i64,
    /// The earliest timestamp of a record that is not known to be a copy.
    first_at: Option<Timestamp>,
    /// The latest timestamp of a record that is not known to be a copy.
    last_at: Option<Timestamp>,
    /// The records that the file had at its longest: the highest number, and one.
    records: i64,
    /// The id of the first record that has one: what copied history is found by.
    first_record: Option<String>,
    /// The number of that record.
    first_record_seq: i64,
    /// The id of the record that it follows, where it names one: in another stream.
    first_parent: Option<String>,
    /// How the file begins, where that tells copied history; of other sources and of subagents absent.
    beginning: Option<Beginning>,
}

impl Stream {
    /// Makes a row of which only the names are known.
    pub fn unseen(source: Name, stream: Name, session: Name, agent: Option<Name>) -> Self {
        Self {
            source,
            stream,
            session,
            agent,
            project: None,
            project_seq: 0,
            title: None,
            title_place: 0,
            version: None,
            version_seq: 0,
            first_at: None,
            last_at: None,
            records: 0,
            first_record: None,
            first_record_seq: 0,
            first_parent: None,
            beginning: None,
        }
    }

    /// Takes a session that only content tells, in the place of the stream's own name, which stands there until then.
    pub(crate) fn offer_session(&mut self, session: Name) {
        if (session == self.stream, &session) < (self.session == self.stream, &self.session) {
            self.session = session;
        }
    }

    /// Takes `cwd` as the project if its record is the first that names one.
    pub(crate) fn offer_project(&mut self, cwd: &Name, seq: i64) {
        let key = (self.project.is_none(), self.project_seq, self.project.as_ref());
        if (false, seq, Some(cwd)) < key {
            self.project = Some(cwd.clone());
            self.project_seq = seq;
        }
    }

    /// Takes `title` if its kind ranks higher (1 to 63), or as high in a later record.
    pub(crate) fn offer_title(&mut self, title: &str, rank: u8, seq: i64) {
        let place = (i64::from(rank) << TITLE_RANK_SHIFT) | seq.min((1 << TITLE_RANK_SHIFT) - 1);
        if (place, Some(title)) > (self.title_place, self.title.as_deref()) {
            self.title = Some(title.to_owned());
            self.title_place = place;
        }
    }

    /// Takes `version` if its record is the last that names one.
    pub(crate) fn offer_version(&mut self, version: &Name, seq: i64) {
        if (true, seq, Some(version)) > (self.version.is_some(), self.version_seq, self.version.as_ref()) {
            self.version = Some(version.clone());
            self.version_seq = seq;
        }
    }

    /// Takes a record's id, and that of the record it follows, if it is the first that has one.
    pub(crate) fn offer_first_record(&mut self, id: &str, parent: Option<&str>, seq: i64) {
        if self.first_record.is_some() && self.first_record_seq < seq {
            return;
        }
        let (id, parent) = (key_text(id), parent.map(key_text));
        let kept = (self.first_record.is_none(), self.first_record_seq, self.first_record.as_deref());
        let kept_parent = (self.first_parent.is_none(), self.first_parent.as_deref());
        if ((false, seq, Some(&*id)), (parent.is_none(), parent.as_deref())) < (kept, kept_parent) {
            self.first_record = Some(id.into_owned());
            self.first_record_seq = seq;
            self.first_parent = parent.map(std::borrow::Cow::into_owned);
        }
    }

    /// Takes a record of a file whose beginning is kept, with its timestamp if it is a mark of when the file began.
    pub(crate) fn offer_beginning(&mut self, seq: u64, mark: Option<Timestamp>) {
        if self.agent.is_none() {
            self.beginning.get_or_insert_default().note(seq, mark);
        }
    }

    /// Whether a record is no copy as far as the beginning of the file tells.
    pub(crate) fn shows_own(&self, seq: u64, at: Timestamp) -> bool {
        let shows = |beginning: &Beginning| beginning.shows_own(seq, at);
        self.agent.is_some() || self.beginning.as_ref().map_or(seq == 0, shows)
    }

    /// Widens the time that the stream spans.
    pub(crate) fn offer_instant(&mut self, instant: Timestamp) {
        self.first_at = Some(self.first_at.map_or(instant, |first| first.min(instant)));
        self.last_at = self.last_at.max(Some(instant));
    }
}

impl Merge for Stream {
    fn merge(&mut self, other: Self) {
        if let Some(project) = &other.project {
            self.offer_project(project, other.project_seq);
        }
        if (other.title_place, &other.title) > (self.title_place, &self.title) {
            self.title = other.title;
            self.title_place = other.title_place;
        }
        if let Some(version) = &other.version {
            self.offer_version(version, other.version_seq);
        }
        for instant in [other.first_at, other.last_at].into_iter().flatten() {
            self.offer_instant(instant);
        }
        self.records = self.records.max(other.records);
        if let Some(id) = &other.first_record {
            self.offer_first_record(id, other.first_parent.as_deref(), other.first_record_seq);
        }
        self.offer_session(other.session);
        if let Some(beginning) = &other.beginning {
            self.beginning.get_or_insert_default().join(beginning);
        }
    }

    fn changed(old: Option<&Self>, new: &Self, derived: &mut Derived) {
        let own = new.stream == new.session;
        let session = derived.session(&new.source, &new.session);
        session.streams += i64::from(old.is_none_or(|old| old.session != new.session));
        if let Some(project) = &new.project {
            let place = if own { new.project_seq } else { SUBSTREAM | new.project_seq };
            session.offer_project(project, place);
        }
        if let Some(title) = &new.title {
            let place = if own { SUBSTREAM | new.title_place } else { new.title_place };
            session.offer_title(title, place);
        }
        for instant in [new.first_at, new.last_at].into_iter().flatten() {
            session.offer_instant(instant);
        }
        if let Some(old) = old.filter(|old| old.session != new.session) {
            derived.session(&old.source, &old.session).streams -= 1;
        }
    }
}
