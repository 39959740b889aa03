//! Scoring blocks by BM25: most of what a search of common words takes, so the latest and those behind them are scored at
//! once, each on a connection of its own.

use crate::search::{SqliteSearch, number};
use burnlog_projections::RANKED_BLOCKS_MAX;
use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, OpenFlags, params};
use std::collections::HashSet;
use std::path::PathBuf;

/// How many of the latest blocks are scored here; more than half, because the other has to walk past these.
const FRONT_BLOCKS: usize = RANKED_BLOCKS_MAX / 5 * 3;
/// How many are behind them, and one more that tells that more match than are ranked.
const BEHIND_BLOCKS: usize = RANKED_BLOCKS_MAX - FRONT_BLOCKS + 1;

/// A block and how well it matches.
pub(crate) type Scored = (i64, f64);

impl SqliteSearch {
    /// Returns the blocks indexed last with their scores, and whether more match than are ranked.
    pub(crate) fn latest_scored(&self, expression: &str) -> rusqlite::Result<(Vec<Scored>, bool)> {
        let (path, text) = (self.path.clone(), expression.to_owned());
        // Nobody waits for it where there is nothing behind.
        let behind = std::thread::Builder::new().spawn(move || score_behind(path, &text));
        self.snapshot(|connection| {
            let mut scored = score(connection, expression, 0, FRONT_BLOCKS)?;
            if scored.len() == FRONT_BLOCKS {
                let there = behind.ok().and_then(|behind| behind.join().ok()?.ok());
                let there = there.filter(|behind| Some(behind.revision) == revision(connection).ok());
                match there {
                    Some(behind) => scored.extend(behind.scored),
                    // For whatever reason: then it is done here.
                    None => scored.extend(score(connection, expression, FRONT_BLOCKS, BEHIND_BLOCKS)?),
                }
            }
            let capped = scored.len() > RANKED_BLOCKS_MAX;
            scored.truncate(RANKED_BLOCKS_MAX);
            Ok((scored, capped))
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
struct Behind {
    revision: Option<i64>,
    scored: Vec<Scored>,
}

/// Scores the blocks behind the latest, on a connection of its own.
fn score_behind(path: PathBuf, expression: &str) -> rusqlite::Result<Behind> {
    let access = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, access)?;
    let transaction = connection.transaction()?;
    let revision = revision(&transaction)?;
    let scored = score(&transaction, expression, FRONT_BLOCKS, BEHIND_BLOCKS)?;
    Ok(Behind { revision, scored })
}

fn revision(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    number(connection, "revision")
}

/// Scores at most `count` blocks behind the `before` that were indexed last. Nothing is computed of those.
fn score(
    connection: &Connection,
    expression: &str,
    before: usize,
    count: usize,
) -> rusqlite::Result<Vec<Scored>> {
    let mut statement = connection.prepare_cached(
        "SELECT rowid, -bm25(texts) FROM texts WHERE texts MATCH ?1 ORDER BY rowid DESC LIMIT ?2 OFFSET ?3",
    )?;
    let parameters = params![expression, count as i64, before as i64];
    statement.query_map(parameters, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
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

    /// In a file two connections score at once; in memory there is nothing that another one could read.
    #[test]
    fn both_together_are_what_one_walk_gives() {
        let folder = tempfile::tempdir().unwrap();
        for (path, blocks) in [
            (folder.path().join("few"), 40),
            (folder.path().join("many"), 4000),
            (":memory:".into(), 4000),
            (folder.path().join("capped"), RANKED_BLOCKS_MAX as i64 * 2),
        ] {
            let index = filled(&path, blocks);
            for expression in ["word", "word AND other", "nowhere", "(\"wo\" *) NOT other"] {
                let (scored, capped) = index.latest_scored(expression).unwrap();
                let mut whole = score(&index.connection, expression, 0, blocks as usize).unwrap();
                assert_eq!(capped, whole.len() > RANKED_BLOCKS_MAX, "{path:?} {expression}");
                whole.truncate(RANKED_BLOCKS_MAX);
                assert_eq!(scored, whole, "{path:?} {expression}");
            }
        }
    }

    #[test]
    fn another_connection_says_which_state_it_saw() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let index = filled(&path, RANKED_BLOCKS_MAX as i64);
        let behind = score_behind(path, "word").unwrap();
        assert_eq!(behind.revision, revision(&index.connection).unwrap());
        let whole = score(&index.connection, "word", 0, RANKED_BLOCKS_MAX).unwrap();
        assert_eq!(behind.scored, whole[FRONT_BLOCKS..]);
        assert!(score_behind(folder.path().join("absent"), "word").is_err());
    }
}
