//! API calls: one row for each, whatever number of lines, copies and feeds tell of it.
//! Two choices are made apart: which line's usage is kept, and which session is the call's home.

use crate::conflicts::{CONFLICT_CALL, Conflict, join_forms};
use crate::prices::PriceClass;
use crate::relayburn::is_imported;
use crate::rollups::{Counts, Day, UsageDay};
use crate::sources::rewrites_in_place;
use crate::table::{Merge, row};
use crate::text::{Name, Tokens, key_text};
use crate::{Derived, order};
use burnlog_log::{Address, Timestamp};
use std::cmp::{Ordering, Reverse};

row! {
    /// One API call.
    ///
    /// `request` to `place` come from the kept line: the one that has a stop reason, then the larger output, then the
    /// later timestamp, then the smaller payload hash. `session` to `agent` come from the home line: not copied, then the
    /// earlier timestamp, then the smaller session, then the rest in order. An imported record counts only where no line is there. An absent number is absent, never 0.
    pub struct Call in "calls" indexes [["session"], ["timestamp"]] dumped true
    key {
        /// The source.
        source: Name,
        /// The message id.
        call: String,
    }
    /// The request id.
    request: Option<String>,
    /// The model.
    model: Option<Name>,
    /// Input tokens that were neither read from nor written to a cache.
    input_tokens: Option<Tokens>,
    /// Output tokens; a floor unless `complete`.
    output_tokens: Option<Tokens>,
    /// Tokens read from a cache.
    cache_read_tokens: Option<Tokens>,
    /// Tokens written to a cache for five minutes.
    cache_write_5m_tokens: Option<Tokens>,
    /// Tokens written to a cache for an hour.
    cache_write_1h_tokens: Option<Tokens>,
    /// Reasoning tokens, where the source tells them.
    reasoning_tokens: Option<Tokens>,
    /// Why the call ended.
    stop_reason: Option<Name>,
    /// Whether a final line came.
    complete: bool,
    /// The service tier, which changes the price.
    service_tier: Option<Name>,
    /// The speed, which changes the price.
    speed: Option<Name>,
    /// Whether a number was out of range and is the nearest that fits.
    clamped: bool,
    /// The timestamp of the kept line.
    kept_at: Option<Timestamp>,
    /// The first eight bytes of the kept line's payload hash: the last tie but one.
    payload_prefix: i64,
    /// The address of the kept line.
    place: Address,
    /// The home session.
    session: Name,
    /// The stream of the home line.
    stream: Name,
    /// The number of the home line in it.
    seq: i64,
    /// Whether the home line is a copy from another session, or its file does not show that it is none.
    copied: bool,
    /// The timestamp of the home line: when the call began.
    timestamp: Option<Timestamp>,
    /// The folder.
    cwd: Option<Name>,
    /// The git branch.
    branch: Option<Name>,
    /// The version of the agent.
    version: Option<Name>,
    /// Whether a subagent made the call.
    sidechain: bool,
    /// The subagent, where the source names it.
    agent: Option<Name>,
    /// Whether final lines contradict each other; their forms are in `conflicts`.
    contested: bool,
    @transient {
        /// The sessions beside the home in which lines of the call were seen, sorted; of a stored row none.
        elsewhere: Vec<Name>,
        /// The forms that contradict each other, as far as they came up since the row was read; of a stored row none.
        forms: Vec<Conflict>,
    }
}

row! {
    /// A session that contains a call and is not the call's home.
    pub struct CallSession in "call_sessions" indexes [["session"]] dumped true
    key {
        /// The source.
        source: Name,
        /// The message id.
        call: String,
        /// The session.
        session: Name,
    }
}

impl Call {
    /// Whether the line says anything of what the call used.
    fn has_usage(&self) -> bool {
        self.input_tokens.is_some() || self.output_tokens.is_some() || self.cache_read_tokens.is_some()
    }

    /// Orders by which line's usage is kept: the greater one. A line without usage is no candidate beside one with.
    fn compare_kept(&self, other: &Self) -> Ordering {
        let first = |row: &Self| (row.has_usage(), row.complete, row.output_tokens, row.kept_at);
        let tie = |row: &Self| Reverse((row.payload_prefix as u64, row.place));
        first(self).cmp(&first(other)).then_with(|| tie(self).cmp(&tie(other))).then_with(|| {
            // Equal addresses are one record and so equal rows, unless someone merges rows of other folds.
            let rest = |row: &Self| {
                (
                    (row.request.clone(), row.model.clone(), row.stop_reason.clone()),
                    (row.input_tokens, row.cache_read_tokens, row.reasoning_tokens),
                    (row.cache_write_5m_tokens, row.cache_write_1h_tokens),
                    (row.service_tier.clone(), row.speed.clone(), row.clamped),
                )
            };
            rest(self).cmp(&rest(other))
        })
    }

    /// Orders by which line is the home: the smaller one.
    fn compare_home(&self, other: &Self) -> Ordering {
        (self.copied, order::absent_last(self.timestamp))
            .cmp(&(other.copied, order::absent_last(other.timestamp)))
            .then_with(|| self.session.cmp(&other.session))
            .then_with(|| (&self.stream, self.seq).cmp(&(&other.stream, other.seq)))
            .then_with(|| {
                let rest = |row: &Self| {
                    (
                        (row.cwd.clone(), row.branch.clone(), row.version.clone()),
                        (row.sidechain, row.agent.clone()),
                    )
                };
                rest(self).cmp(&rest(other))
            })
    }

    fn take_home(&mut self, other: &Self) {
        self.session = other.session.clone();
        self.stream = other.stream.clone();
        self.seq = other.seq;
        self.copied = other.copied;
        self.timestamp = other.timestamp;
        self.cwd.clone_from(&other.cwd);
        self.branch.clone_from(&other.branch);
        self.version.clone_from(&other.version);
        self.sidechain = other.sidechain;
        self.agent.clone_from(&other.agent);
    }

    /// Takes the sessions of both rows, homes included, unless they are one and the same.
    fn take_sessions(&mut self, other: &mut Self) -> Vec<Name> {
        let mut sessions = std::mem::take(&mut self.elsewhere);
        let more = std::mem::take(&mut other.elsewhere);
        if sessions.is_empty() && more.is_empty() && self.session == other.session {
            return sessions;
        }
        for session in more.into_iter().chain([self.session.clone(), other.session.clone()]) {
            if let Err(at) = sessions.binary_search(&session) {
                sessions.insert(at, session);
            }
        }
        sessions
    }

    /// Whether both are final and cannot both be true.
    fn contradicts(&self, other: &Self) -> bool {
        let is_final = |row: &Self| row.complete && row.has_usage();
        let numbers = |row: &Self| {
            (
                (row.input_tokens, row.output_tokens, row.cache_read_tokens),
                (row.cache_write_5m_tokens, row.cache_write_1h_tokens),
            )
        };
        let differ = || {
            numbers(self) != numbers(other)
                || self.model != other.model
                || self.stop_reason != other.stop_reason
        };
        is_final(self)
            && is_final(other)
            && differ()
            && !is_imported(&self.stream)
            && !rewrites_in_place(&self.source)
    }

    /// What the kept line says, if it is final.
    fn form(&self) -> Option<Conflict> {
        let number = |tokens: Option<Tokens>| tokens.map_or("-".to_owned(), |tokens| tokens.0.to_string());
        let name = |name: &Option<Name>| name.as_deref().unwrap_or("-").to_owned();
        let form = format!(
            "{}, {}, input {}, output {}, cache read {}, cache write {} and {}",
            name(&self.model),
            name(&self.stop_reason),
            number(self.input_tokens),
            number(self.output_tokens),
            number(self.cache_read_tokens),
            number(self.cache_write_5m_tokens),
            number(self.cache_write_1h_tokens)
        );
        (self.complete && self.has_usage()).then(|| Conflict {
            source: self.source.clone(),
            kind: CONFLICT_CALL.into(),
            identity: self.call.clone(),
            form: key_text(&form).into_owned(),
            copied: false,
            timestamp: self.kept_at,
            session: Name::default(),
            stream: Name::default(),
            payload_prefix: self.payload_prefix,
            place: self.place,
        })
    }

    /// Takes the forms of both rows, if any contradict each other.
    fn take_forms(&mut self, other: &mut Self) -> Option<Vec<Conflict>> {
        if !self.contested && !other.contested && !self.contradicts(other) {
            return None;
        }
        let mut forms = std::mem::take(&mut self.forms);
        let more = std::mem::take(&mut other.forms);
        join_forms(&mut forms, more.into_iter().chain(self.form()).chain(other.form()));
        Some(forms)
    }

    /// What beside model, day and tokens decides the price.
    pub(crate) fn price_class(&self) -> PriceClass {
        let read = [
            self.input_tokens,
            self.cache_read_tokens,
            self.cache_write_5m_tokens,
            self.cache_write_1h_tokens,
        ];
        let input = read.iter().flatten().fold(0i64, |sum, tokens| sum.saturating_add(tokens.0));
        PriceClass::of_call(input, self.speed.as_deref(), self.service_tier.as_deref())
    }

    /// What this call adds to the totals.
    fn counts(&self) -> Counts {
        let number = |tokens: Option<Tokens>| tokens.unwrap_or_default().0;
        Counts {
            calls: 1,
            incomplete_calls: i64::from(!self.complete),
            input_tokens: number(self.input_tokens),
            output_tokens: number(self.output_tokens),
            cache_read_tokens: number(self.cache_read_tokens),
            cache_write_5m_tokens: number(self.cache_write_5m_tokens),
            cache_write_1h_tokens: number(self.cache_write_1h_tokens),
            reasoning_tokens: number(self.reasoning_tokens),
        }
    }

    /// Returns whether both rows add the same to the same totals.
    fn counts_like(&self, other: &Self) -> bool {
        self.counts() == other.counts()
            && self.model == other.model
            && self.session == other.session
            && (&self.speed, &self.service_tier) == (&other.speed, &other.service_tier)
            && self.branch == other.branch
            && Day::of(self.timestamp) == Day::of(other.timestamp)
    }

    pub(crate) fn count(&self, sign: i64, derived: &mut Derived) {
        let counts = self.counts().times(sign);
        derived.session(&self.source, &self.session).add_counts(&counts);
        let key = UsageDay {
            day: Day::of(self.timestamp),
            source: self.source.clone(),
            model: self.model.clone().unwrap_or_default(),
            session: self.session.clone(),
            price_class: self.price_class().to_name(),
            branch: self.branch.clone().unwrap_or_default(),
            ..UsageDay::default()
        };
        derived.usage(key).add_counts(&counts);
    }
}

impl Merge for Call {
    fn merge(&mut self, mut other: Self) {
        let elsewhere = self.take_sessions(&mut other);
        if is_imported(&self.stream) != is_imported(&other.stream) {
            // What another program made of a record only stands in for it.
            if is_imported(&self.stream) {
                std::mem::swap(self, &mut other);
            }
            self.elsewhere = elsewhere;
            self.elsewhere.retain(|session| *session != self.session);
            return;
        }
        let forms = self.take_forms(&mut other);
        let other_is_home = other.compare_home(self) == Ordering::Less;
        if other.compare_kept(self) == Ordering::Greater {
            std::mem::swap(self, &mut other);
            if !other_is_home {
                self.take_home(&other);
            }
        } else if other_is_home {
            self.take_home(&other);
        }
        self.elsewhere = elsewhere;
        self.elsewhere.retain(|session| *session != self.session);
        self.contested = forms.is_some();
        self.forms = forms.unwrap_or_default();
    }

    fn changed(old: Option<&Self>, new: &Self, derived: &mut Derived) {
        if old.is_none_or(|old| !old.counts_like(new)) {
            if let Some(old) = old {
                old.count(-1, derived);
            }
            new.count(1, derived);
        }
        let membership = |session: &Name| CallSession {
            source: new.source.clone(),
            call: new.call.clone(),
            session: session.clone(),
        };
        if old.is_some_and(|old| old.session != new.session) {
            derived.leaves.push(membership(&new.session));
        }
        derived.joins.extend(new.elsewhere.iter().map(membership));
        derived.conflicts(&new.forms);
    }
}
