//! Forks of sources that copy history under new names and do not say so: which session a fork came out of, and where the
//! copy ends. Found by the calls that both sessions have, when it is asked for.

use crate::copies::{Instance, original};
use crate::groups::{Family, Group};
use crate::links::{CopiedHistory, Link};
use crate::lookup::live;
use crate::queries::Queries;
use crate::records::{RecordClass, RecordPlace, fingerprint};
use crate::relationships::KIND_FORK;
use crate::resolved::{Resolved, resolve};
use crate::slice;
use crate::sources::copies_calls;
use crate::table::{Row, Value};
use crate::text::Name;
use burnlog_log::{Result, Timestamp};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// Returns the links to a session that is a fork, and to those that are forks of it. Errors as [`live`].
pub(crate) fn forks(queries: &dyn Queries, source: &str, session: &str) -> Result<Vec<Link>> {
    if !copies_calls(source) {
        return Ok(Vec::new());
    }
    let mut known = Groups::new(queries, source);
    let mut links: Vec<Link> = known.fork_of(session)?.into_iter().collect();
    for other in known.sessions_with_calls_of(session)? {
        links.extend(known.fork_of(&other)?.filter(|link| link.from_session.as_deref() == Some(session)));
    }
    Ok(links)
}

/// Returns the link to a session that is a fork. Errors as [`live`].
pub(crate) fn fork_of(queries: &dyn Queries, source: &str, session: &str) -> Result<Option<Link>> {
    if !copies_calls(source) {
        return Ok(None);
    }
    Groups::new(queries, source).fork_of(session)
}

/// What the groups of a source mean, each read once.
struct Groups<'q> {
    queries: &'q dyn Queries,
    source: Name,
    resolved: BTreeMap<Name, Resolved>,
}

impl<'q> Groups<'q> {
    fn new(queries: &'q dyn Queries, source: &str) -> Self {
        Self { queries, source: Name::from(source), resolved: BTreeMap::new() }
    }

    fn read(&mut self, session: &Name) -> Result<()> {
        if !self.resolved.contains_key(session) {
            let key = [text(&self.source), text(session)];
            let row =
                self.queries.get(live(self.queries)?, Group::TABLE, &key)?.map(Group::read).transpose()?;
            self.resolved.insert(session.clone(), row.as_ref().map(resolve).unwrap_or_default());
        }
        Ok(())
    }

    fn instances(&self, session: &Name) -> &[Instance] {
        self.resolved.get(session).map_or(&[], |resolved| &resolved.instances)
    }

    /// Returns, for each of these identities, the sessions that may have calls with it.
    fn families(&self, identities: &[Name]) -> Result<Vec<Vec<Name>>> {
        let generation = live(self.queries)?;
        let mut families = Vec::with_capacity(identities.len());
        for some in identities.chunks(slice::SLICE_VALUES / Family::TABLE.key) {
            let keys: Vec<_> =
                some.iter().flat_map(|identity| [text(&self.source), text(identity)]).collect();
            for row in self.queries.get_many(generation, Family::TABLE, &keys)? {
                let family = row.map(Family::read).transpose()?;
                families.push(family.iter().flat_map(Family::names).collect());
            }
        }
        Ok(families)
    }

    /// Returns the other sessions that may have calls of this one.
    fn sessions_with_calls_of(&mut self, session: &str) -> Result<BTreeSet<Name>> {
        let session = Name::from(session);
        self.read(&session)?;
        let identities: Vec<_> =
            self.instances(&session).iter().filter_map(|instance| instance.identity.clone()).collect();
        let others = self.families(&identities)?.into_iter().flatten();
        Ok(others.filter(|other| *other != session).collect())
    }

    /// The session of the latest call that was copied, of which another session has the original, is the one that the
    /// fork came out of: a fork copies from the beginning up to one place.
    fn fork_of(&mut self, session: &str) -> Result<Option<Link>> {
        let session = Name::from(session);
        self.read(&session)?;
        let is_copy = |it: &&Instance| it.copied_after.is_some() && it.identity.is_some();
        let mut copies: Vec<Instance> = self.instances(&session).iter().filter(is_copy).cloned().collect();
        copies.sort_by(|one, two| {
            (one.call.timestamp, &one.call.call).cmp(&(two.call.timestamp, &two.call.call))
        });
        let identities: Vec<_> = copies.iter().filter_map(|copy| copy.identity.clone()).collect();
        let families = self.families(&identities)?;
        for (at, family) in families.iter().enumerate().rev() {
            for member in family {
                self.read(member)?;
            }
            let identity = &identities[at];
            let members = family.iter().flat_map(|member| self.instances(member));
            let from = original(members.filter(|instance| instance.identity.as_ref() == Some(identity)));
            if let Some(from) = from.filter(|from| from.call.session != session) {
                let records =
                    families[..=at].iter().filter(|family| family.contains(&from.call.session)).count();
                return Ok(Some(self.link(from, &copies[at], records)));
            }
        }
        Ok(None)
    }

    fn link(&self, from: &Instance, copy: &Instance, records: usize) -> Link {
        let (after, call) = (copy.copied_after.unwrap_or_default(), &copy.call);
        let micros = i64::try_from(after).unwrap_or(i64::MAX).saturating_mul(1000);
        let at = call.kept_at.map(|ended| Timestamp::from_micros(ended.as_micros().saturating_add(micros)));
        let end = RecordPlace {
            seq: 0,
            address: call.place,
            class: RecordClass::Assistant,
            fingerprint: fingerprint(&call.call),
        };
        Link {
            source: self.source.clone(),
            kind: KIND_FORK.into(),
            from_session: Some(from.call.session.clone()),
            from_stream: Some(from.call.stream.clone()),
            to_session: call.session.clone(),
            to_stream: Some(call.stream.clone()),
            agent: None,
            at,
            tool_use: None,
            record: Some(from.call.call.clone()),
            place: None,
            copied: Some(CopiedHistory { records: records as u64, end }),
        }
    }
}

fn text(name: &str) -> Value<'_> {
    Value::Text(Cow::Borrowed(name))
}
