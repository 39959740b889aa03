//! From the flags of a list to the filter of a query.

use crate::args;
use burnlog_log::{Error, ErrorKind, Result, Timestamp};
use burnlog_projections::{Filter, PageRequest, Queries, Resume, resolve_session};

/// Rows asked for at once.
const PAGE_ROWS: usize = 512;

/// Makes the filter; `session` may be a unique prefix.
pub(crate) fn of_arguments(arguments: &args::Filter, queries: &dyn Queries) -> Result<Filter> {
    let session = match &arguments.session {
        None => None,
        Some(name) => Some(resolve_session(queries, name)?),
    };
    Ok(Filter {
        since: arguments.since.as_deref().map(|text| instant("--since", text)).transpose()?,
        until: arguments.until.as_deref().map(|text| instant("--until", text)).transpose()?,
        project: arguments.project.clone(),
        source: match &session {
            Some((source, _)) => Some(source.to_string()),
            None => arguments.source.clone(),
        },
        session: session.map(|(_, session)| session.to_string()),
        model: arguments.model.clone(),
        tags: Vec::new(),
    })
}

fn instant(flag: &str, text: &str) -> Result<Timestamp> {
    Timestamp::parse(text).or_else(|| Timestamp::parse(&format!("{text}T00:00:00Z"))).ok_or_else(|| {
        let message =
            format!("{flag} {text:?} is neither RFC 3339 (2026-03-01T10:00:00Z) nor a day (2026-03-01)");
        Error::new(ErrorKind::Invalid, "read arguments", message)
    })
}

/// Calls `each` with every item of a listing, page by page, up to `limit`.
pub(crate) fn for_each<T>(
    limit: Option<usize>,
    mut page: impl FnMut(&PageRequest) -> Result<burnlog_projections::Page<T>>,
    mut each: impl FnMut(T) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut left = limit.unwrap_or(usize::MAX);
    let mut after: Option<Resume> = None;
    while left > 0 {
        let answer = page(&PageRequest { after: after.take(), limit: left.min(PAGE_ROWS) })?;
        for item in answer.items.into_iter().take(left) {
            left -= 1;
            each(item)?;
        }
        match answer.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_instants_are_read_and_nothing_else() {
        assert_eq!(
            instant("--since", "2026-03-01").unwrap(),
            instant("--since", "2026-03-01T01:00:00+01:00").unwrap()
        );
        assert!(instant("--since", "yesterdy").unwrap_err().message().contains("--since"));
    }
}
