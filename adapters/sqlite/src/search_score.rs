//! Scoring blocks by BM25: most of what a search of common words takes, so it is done in two halves at once, each on a
//! connection of its own.

use crate::search::{SqliteSearch, number};
use burnlog_projections::RANKED_BLOCKS_MAX;
use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, OpenFlags, params};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::ScopedJoinHandle;

/// Fewer blocks are scored at once: another connection would take longer.
const HALVES_MIN: usize = 1500;

/// A block and how well it matches.
pub(crate) type Scored = (i64, f64);

/// What a half is scored on: the blocks from the first number to the second. Nothing is sent where there is nothing to do.
type Range = (i64, i64);

impl SqliteSearch {
    /// Returns the blocks indexed last with their scores, and whether more match than are ranked.
    pub(crate) fn latest_scored(&self, expression: &str) -> rusqlite::Result<(Vec<Scored>, bool)> {
        std::thread::scope(|scope| {
            let (send, receive) = mpsc::channel();
            let path = self.path.clone();
            let text = expression.to_owned();
            // It gets ready while the blocks are counted here.
            let other = scope.spawn(move || score_half(path, &text, &receive));
            self.snapshot(|connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT rowid FROM texts WHERE texts MATCH ?1 ORDER BY rowid DESC LIMIT ?2",
                )?;
                let limit = RANKED_BLOCKS_MAX as i64 + 1;
                let rows = statement.query_map(params![expression, limit], |row| row.get(0))?;
                let mut latest = rows.collect::<rusqlite::Result<Vec<i64>>>()?;
                let capped = latest.len() > RANKED_BLOCKS_MAX;
                latest.truncate(RANKED_BLOCKS_MAX);
                let (Some(newest), Some(oldest)) = (latest.first(), latest.last()) else {
                    return Ok((Vec::new(), capped));
                };
                let middle = latest[latest.len() / 2];
                if latest.len() < HALVES_MIN || send.send((*oldest, middle - 1)).is_err() {
                    return Ok((score(connection, expression, (*oldest, *newest))?, capped));
                }
                let mut scored = score(connection, expression, (middle, *newest))?;
                let half = wait(other).filter(|half| Some(half.revision) == revision(connection).ok());
                match half {
                    Some(half) => scored.extend(half.scored),
                    None => scored.extend(score(connection, expression, (*oldest, middle - 1))?),
                }
                Ok((scored, capped))
            })
        })
    }

    /// Lets `look` see one state of the file from beginning to end.
    fn snapshot<T>(&self, look: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let transaction = self.connection.unchecked_transaction()?;
        let seen = look(&transaction)?;
        transaction.finish()?;
        Ok(seen)
    }

    /// Returns the scores of blocks; of those that match and are no candidates none is computed.
    pub(crate) fn scored(&self, expression: &str, candidates: Vec<i64>) -> rusqlite::Result<Vec<Scored>> {
        let (Some(newest), Some(oldest)) = (candidates.first().copied(), candidates.last().copied()) else {
            return Ok(Vec::new());
        };
        let wanted: HashSet<i64> = candidates.into_iter().collect();
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
        self.connection.create_scalar_function("is_wanted", 1, flags, move |context| {
            Ok(wanted.contains(&context.get::<i64>(0)?))
        })?;
        // Never cached: the function is another one each time.
        let mut statement = self.connection.prepare(
            "SELECT rowid, -bm25(texts) FROM texts
             WHERE texts MATCH ?1 AND rowid BETWEEN ?2 AND ?3 AND is_wanted(rowid)",
        )?;
        statement
            .query_map(params![expression, oldest, newest], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
    }
}

/// What another connection scored, and the state of the file that it saw.
struct Half {
    revision: Option<i64>,
    scored: Vec<Scored>,
}

/// Scores on a connection of its own; `None` where nothing is asked for.
fn score_half(
    path: PathBuf,
    expression: &str,
    wanted: &mpsc::Receiver<Range>,
) -> rusqlite::Result<Option<Half>> {
    let mut connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    let transaction = connection.transaction()?;
    let revision = revision(&transaction)?;
    let Ok(range) = wanted.recv() else { return Ok(None) };
    let scored = score(&transaction, expression, range)?;
    Ok(Some(Half { revision, scored }))
}

/// Takes the result; `None` where there is none for whatever reason: then it is done here.
fn wait(other: ScopedJoinHandle<'_, rusqlite::Result<Option<Half>>>) -> Option<Half> {
    other.join().ok()?.ok()?
}

fn revision(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    number(connection, "revision")
}

fn score(connection: &Connection, expression: &str, (first, last): Range) -> rusqlite::Result<Vec<Scored>> {
    let mut statement = connection.prepare_cached(
        "SELECT rowid, -bm25(texts) FROM texts WHERE texts MATCH ?1 AND rowid BETWEEN ?2 AND ?3
         ORDER BY rowid DESC",
    )?;
    statement.query_map(params![expression, first, last], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::time::Duration;

    fn filled(path: &Path, blocks: i64) -> SqliteSearch {
        let index = SqliteSearch::open(path, Duration::ZERO).unwrap();
        let transaction = index.connection.unchecked_transaction().unwrap();
        for block in 1..=blocks {
            let text =
                format!("{} {}", "word ".repeat(block as usize % 7), "other ".repeat(block as usize % 11));
            transaction
                .execute("INSERT INTO texts (rowid, text) VALUES (?1, ?2)", params![block, text])
                .unwrap();
        }
        transaction.commit().unwrap();
        index
    }

    /// In a file both halves are scored at once; in memory there is nothing that another connection could read.
    #[test]
    fn two_halves_are_what_one_walk_gives() {
        let folder = tempfile::tempdir().unwrap();
        for (path, blocks) in [
            (folder.path().join("few"), 40),
            (folder.path().join("many"), 4000),
            (":memory:".into(), 4000),
            (folder.path().join("capped"), RANKED_BLOCKS_MAX as i64 * 2),
        ] {
            let index = filled(&path, blocks);
            for expression in ["word", "word AND other", "nowhere", "(\"wo\" *) NOT other"] {
                let (mut scored, capped) = index.latest_scored(expression).unwrap();
                let mut whole = score(&index.connection, expression, (1, blocks)).unwrap();
                assert_eq!(capped, whole.len() > RANKED_BLOCKS_MAX, "{path:?} {expression}");
                whole.truncate(RANKED_BLOCKS_MAX);
                scored.sort_by_key(|(block, _)| -block);
                assert_eq!(scored, whole, "{path:?} {expression}");
            }
        }
    }

    #[test]
    fn another_connection_says_which_state_it_saw_and_ends_where_nothing_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let index = filled(&path, 10);
        let (send, receive) = mpsc::channel();
        send.send((3, 7)).unwrap();
        let half = score_half(path.clone(), "word", &receive).unwrap().unwrap();
        assert_eq!(half.revision, revision(&index.connection).unwrap());
        assert_eq!(half.scored.iter().map(|(block, _)| *block).collect::<Vec<_>>(), [6, 5, 4, 3]);
        drop(send);
        assert!(score_half(path, "word", &receive).unwrap().is_none());
        assert!(score_half(folder.path().join("absent"), "word", &mpsc::channel().1).is_err());
    }
}
