//! The lists of a server: the same rows as the commands print with `--json`, asked for by the parameters of a URL.

use super::content::{BlocksOf, for_each_block};
use super::sessions::{self, SessionHosts};
use super::{Context, relationships, search, turns, usage};
use crate::args::{self, BlockKind, By, Sort};
use crate::filter::{self, ChosenSessions};
use crate::transcript::PayloadReader;
use burnlog_http::{Asked, Operation, PAGE_MAX};
use burnlog_log::{Error, ErrorKind, Ledger, Result};
use burnlog_projections::{Page, PageRequest, PriceTable, Queries, Resume, resolve_session};
use clap::ValueEnum;
use serde::Serialize;

/// Rows of one answer unless `limit` says otherwise, and the most that it may say.
const ROWS: usize = 1000;
const ROWS_MAX: usize = 10_000;

/// What a list is made from.
pub(super) struct Lists<'a> {
    pub(super) context: &'a Context,
    pub(super) ledger: &'a Ledger,
    pub(super) queries: &'a dyn Queries,
}

/// Lines on their way into an answer.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn push(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.0, line)?;
        self.0.push(b'\n');
        Ok(())
    }

    /// Whether the answer is as long as one may be.
    fn is_full(&self) -> bool {
        self.0.len() as u64 >= PAGE_MAX.bytes
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::Invalid, "read arguments", message)
}

impl Lists<'_> {
    /// Writes the list that is asked for. A list that goes on ends with `{"next":…}`, which is the parameter `after` of the
    /// next request.
    pub(super) fn lines(&self, asked: &Asked) -> Result<Vec<u8>> {
        let known = asked.operation.route().parameters;
        if let Some((name, _)) =
            asked.parameters.iter().find(|(name, _)| known.iter().all(|(known, _)| known != name))
        {
            return Err(invalid(format!("there is no parameter {name:?}; see /v1/openapi.json")));
        }
        let mut lines = Lines::default();
        let written = match asked.operation {
            Operation::Sessions => self.sessions(asked, &mut lines),
            Operation::Turns => self.turns(asked, &mut lines),
            Operation::Usage => self.usage(asked, &mut lines),
            Operation::Content => self.content(asked, &mut lines),
            Operation::Relationships => self.relationships(asked, &mut lines),
            Operation::Search => self.search(asked, &mut lines),
            other => Err(invalid(format!("{} is no list", other.name())).into()),
        };
        match written {
            Ok(()) => Ok(lines.0),
            Err(error) => Err(error.downcast::<Error>().unwrap_or_else(|error| {
                Error::new(ErrorKind::Corrupt, asked.operation.name(), format!("{error:#}"))
            })),
        }
    }

    /// Writes rows page by page up to the limit, and where the list goes on.
    fn paged<T>(
        asked: &Asked,
        lines: &mut Lines,
        page: impl Fn(&PageRequest) -> Result<Page<T>>,
        mut write: impl FnMut(&mut Lines, T) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut left = limit(asked)?;
        let mut after = asked.parameter("after").map(|text| Resume(text.to_owned()));
        while left > 0 && !lines.is_full() {
            let answer = page(&PageRequest { after: after.take(), limit: left.min(256) })?;
            left = left.saturating_sub(answer.items.len());
            answer.items.into_iter().try_for_each(|item| write(lines, item))?;
            after = answer.next;
            if after.is_none() {
                return Ok(());
            }
        }
        match after {
            Some(Resume(next)) => lines.push(&serde_json::json!({ "next": next })),
            None => Ok(()),
        }
    }

    fn sessions(&self, asked: &Asked, lines: &mut Lines) -> anyhow::Result<()> {
        let filter = filter::of_arguments(&arguments(asked)?, self.queries)?;
        let mut hosts = SessionHosts::new(self.queries)?;
        Self::paged(
            asked,
            lines,
            |page| self.queries.sessions(&filter, page),
            |lines, session| lines.push(&sessions::line(session, &mut hosts)?),
        )
    }

    fn turns(&self, asked: &Asked, lines: &mut Lines) -> anyhow::Result<()> {
        let filter = filter::of_arguments(&arguments(asked)?, self.queries)?;
        Self::paged(
            asked,
            lines,
            |page| self.queries.turns(&filter, page),
            |lines, turn| lines.push(&turns::line(turn)),
        )
    }

    fn usage(&self, asked: &Asked, lines: &mut Lines) -> anyhow::Result<()> {
        let filter = filter::of_arguments(&arguments(asked)?, self.queries)?;
        let by = asked.parameter("by").unwrap_or("model").split(',').map(value_of::<By>);
        let by = by.collect::<Result<Vec<By>>>()?;
        let prices = self.prices()?;
        let (groups, total) = usage::sums(self.queries, &filter, &by, &prices)?;
        groups.iter().try_for_each(|group| lines.push(group))?;
        lines.push(&serde_json::json!({ "total": total }))
    }

    fn prices(&self) -> anyhow::Result<PriceTable> {
        usage::prices(self.context, None)
    }

    fn content(&self, asked: &Asked, lines: &mut Lines) -> anyhow::Result<()> {
        let filter = filter::of_arguments(&arguments(asked)?, self.queries)?;
        let payloads = PayloadReader::new(self.ledger);
        let kinds: Vec<String> = all(asked, "kind");
        let mut left = limit(asked)?;
        let mut at = asked.parameter("after").map(InContent::parse).transpose()?.unwrap_or_default();
        while left > 0 && !lines.is_full() {
            let page =
                self.queries.sessions(&filter, &PageRequest { after: at.session.clone(), limit: 1 })?;
            // The session may be gone by now, and its blocks with it.
            let in_session = at.blocks.take();
            for session in page.items {
                let blocks = BlocksOf { session: &session, kinds: &kinds };
                let write = &mut |line| lines.push(&line).map(|()| !lines.is_full());
                at.blocks =
                    for_each_block(self.queries, &payloads, &blocks, in_session.clone(), &mut left, write)?;
            }
            if at.blocks.is_none() {
                at.session = page.next;
                if at.session.is_none() {
                    return Ok(());
                }
            }
        }
        lines.push(&serde_json::json!({ "next": at.text() }))
    }

    fn relationships(&self, asked: &Asked, lines: &mut Lines) -> anyhow::Result<()> {
        let arguments = args::Filter { session: None, ..arguments(asked)? };
        let chosen = ChosenSessions::of(&filter::of_arguments(&arguments, self.queries)?, self.queries)?;
        let mut left = arguments.limit.unwrap_or(usize::MAX);
        let mut push = |line: relationships::LinkLine| {
            if left == 0 || !relationships::is_chosen(&line, &chosen) {
                return Ok(());
            }
            left -= 1;
            lines.push(&line)
        };
        let Some(name) = asked.parameter("session") else {
            return relationships::for_each_line(self.queries, &mut push);
        };
        let (source, session) = resolve_session(self.queries, name)?;
        let known = burnlog_projections::relationships(self.queries, &source, &session)?;
        known.links.into_iter().try_for_each(|link| push(relationships::line(link)))
    }

    fn search(&self, asked: &Asked, lines: &mut Lines) -> anyhow::Result<()> {
        let arguments = args::Search {
            query: vec![asked.parameter("q").unwrap_or_default().to_owned()],
            kind: all(asked, "kind").iter().map(|text| value_of::<BlockKind>(text)).collect::<Result<_>>()?,
            sort: asked.parameter("sort").map_or(Ok(Sort::Score), value_of::<Sort>)?,
            filter: arguments(asked)?,
        };
        let found = search::hits(self.context, self.ledger, self.queries, &arguments)?;
        let notes = search::Notes::of(&found);
        found.hits.into_iter().try_for_each(|hit| lines.push(&search::line(hit)))?;
        if notes.is_empty() { Ok(()) } else { lines.push(&serde_json::json!({ "notes": notes })) }
    }
}

/// Where a list of blocks goes on: behind which session, and behind which block of the next one.
#[derive(Debug, Default, PartialEq, Eq)]
struct InContent {
    session: Option<Resume>,
    blocks: Option<Resume>,
}

impl InContent {
    /// The lengths before the texts: either may hold anything.
    fn text(&self) -> String {
        let part = |resume: &Option<Resume>| match resume {
            None => "-".to_owned(),
            Some(Resume(text)) => format!("{}.{text}", text.len()),
        };
        part(&self.session) + &part(&self.blocks)
    }

    fn parse(text: &str) -> Result<Self> {
        let part = |text: &str| {
            if let Some(rest) = text.strip_prefix('-') {
                return Some((None, rest.to_owned()));
            }
            let (length, rest) = text.split_once('.')?;
            let (part, rest) = rest.split_at_checked(length.parse().ok()?)?;
            Some((Some(Resume(part.to_owned())), rest.to_owned()))
        };
        let parts = part(text).and_then(|(session, rest)| Some((session, part(&rest)?)));
        match parts {
            Some((session, (blocks, rest))) if rest.is_empty() => Ok(Self { session, blocks }),
            _ => Err(invalid(format!("after {text:?} is not the next of an answer"))),
        }
    }
}

/// Every parameter of that name, those of several with commas apart.
fn all(asked: &Asked, name: &str) -> Vec<String> {
    let named = asked.parameters.iter().filter(|(known, _)| known == name);
    named.flat_map(|(_, value)| value.split(',').map(str::to_owned)).collect()
}

fn limit(asked: &Asked) -> Result<usize> {
    let Some(text) = asked.parameter("limit") else { return Ok(ROWS) };
    let number: usize = text.parse().map_err(|_| invalid(format!("limit {text:?} is not a number")))?;
    Ok(number.min(ROWS_MAX))
}

/// The parameters of a list as the flags that they are on the command line.
fn arguments(asked: &Asked) -> Result<args::Filter> {
    let text = |name: &str| asked.parameter(name).map(str::to_owned);
    let tags = asked.parameters.iter().filter(|(name, _)| name == "tag").map(|(_, value)| value.clone());
    Ok(args::Filter {
        since: text("since"),
        until: text("until"),
        project: text("project"),
        session: text("session"),
        source: text("source"),
        model: text("model"),
        host: text("host"),
        tag: tags.collect(),
        limit: asked.parameter("limit").map(|_| limit(asked)).transpose()?,
    })
}

fn value_of<T: ValueEnum>(text: &str) -> Result<T> {
    T::from_str(text, false)
        .map_err(|_| invalid(format!("{text:?} is not one of the values; see burnlog --help")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_list_of_blocks_goes_on_is_read_as_it_was_written() {
        let resume = |text: &str| Some(Resume(text.to_owned()));
        for (session, blocks) in
            [(None, None), (resume("a.-1"), None), (None, resume("")), (resume("3.abc"), resume("\u{e9}-"))]
        {
            let at = InContent { session, blocks };
            assert_eq!(InContent::parse(&at.text()).unwrap(), at);
        }
        for wrong in ["", "x", "5.abc-", "-", "1.\u{e9}-", "--x", "99999999999999999999.a-"] {
            assert_eq!(InContent::parse(wrong).unwrap_err().kind(), ErrorKind::Invalid, "{wrong}");
        }
    }
}
