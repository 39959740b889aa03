//! The server's half of the projections: what answers a decoded question.

use crate::questions::{self, Belonging, Question, ROWS_MAX, TableName};
use burnlog_log::Result;
use burnlog_projections::{FeedCursor, PageRequest, Queries};

/// Answers a question with the message that [`HttpQueries`](crate::HttpQueries) understands. Waiting for the folds is the caller's.
pub fn reply(queries: &dyn Queries, question: &Question) -> Result<Vec<u8>> {
    let bounded =
        |page: &PageRequest| PageRequest { after: page.after.clone(), limit: page.limit.min(ROWS_MAX) };
    Ok(match question {
        Question::State { .. } => questions::encode_store_state(&queries.state()?),
        Question::Get(generation, TableName(table), keys) => {
            questions::encode_some(&queries.get_many(*generation, table, keys)?)
        }
        Question::Scan(generation, TableName(table), after, limit) => {
            let rows = queries.scan(*generation, table, after.as_deref(), (*limit).min(ROWS_MAX))?;
            questions::encode_values(&rows)
        }
        Question::Cursors(generation) => questions::encode_cursors(&queries.cursors(*generation)?),
        Question::Cursor(generation, feed) => {
            let next = queries.cursor(*generation, feed)?;
            questions::encode_cursors(&[FeedCursor { feed: *feed, next }])
        }
        Question::Sessions(filter, page) => {
            let page = queries.sessions(filter, &bounded(page))?;
            questions::encode_rows(&page.items, page.next.as_ref())
        }
        Question::Turns(filter, page) => {
            let page = queries.turns(filter, &bounded(page))?;
            let (calls, projects): (Vec<_>, Vec<_>) =
                page.items.into_iter().map(|turn| (turn.call, turn.project)).unzip();
            let rows = questions::encode_rows(&calls, page.next.as_ref());
            let projects: Vec<Option<&str>> = projects.iter().map(|project| project.as_deref()).collect();
            questions::encode_beside(&rows, &projects)
        }
        Question::Of(belonging, source, name) => match belonging {
            Belonging::Streams => questions::encode_rows(&queries.streams(source, name)?, None),
            Belonging::Edges => questions::encode_rows(&queries.edges(source, name)?, None),
            Belonging::StreamsBeginningWith => {
                questions::encode_rows(&queries.streams_beginning_with(source, name)?, None)
            }
            Belonging::UserTurns => questions::encode_rows(&queries.user_turns(source, name)?, None),
            Belonging::ToolUses => questions::encode_rows(&queries.tool_uses(source, name)?, None),
        },
        Question::Usage(filter, by) => questions::encode_usage(&queries.usage(filter, by)?),
    })
}
