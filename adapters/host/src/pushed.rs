//! What was pushed from a ledger to which other one, so that a second push looks only at what moved and `status` can say
//! without the network what still waits. Two files for each destination: a mark that is replaced, and the heads that the
//! destination has, appended; both may be lost, and then a push compares everything once.

use crate::LedgerState;
use crate::files::{create_folder, io_error, read, replace};
use burnlog_log::{BatchHead, LedgerId, Result, Timestamp, Token, WriterId, push_hex};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// From this size, and twice that of the last time, the heads are written anew without those that were overtaken.
const COMPACTED_BYTES_MIN: u64 = 1 << 20;

/// Where the last push to a destination ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PushMark {
    /// The destination's id, 32 hex digits.
    pub to: String,
    /// Its URL without secrets, for people.
    pub url: String,
    /// BLAKE3 of the URL as it was asked for, secrets included: recognises a destination without asking it.
    pub asked: String,
    /// When.
    pub at: Timestamp,
    /// The head that was sent last: a destination without it is not the one it was.
    pub last: Option<BatchHead>,
    /// What [`Pushed::token`] returns, in hex.
    token: Option<String>,
    /// The size of the heads when they were last written anew.
    compacted_bytes: u64,
}

/// What was pushed from one ledger to one other.
#[derive(Debug)]
pub struct Pushed {
    folder: PathBuf,
    to: LedgerId,
    mark: Option<PushMark>,
    reached: Vec<BatchHead>,
    /// The last one among them for which something was sent.
    sent: Option<BatchHead>,
}

impl Pushed {
    /// Loads what is known of pushes to `to`; nothing where a file of it is missing or cannot be read.
    pub fn load(state: &LedgerState, to: LedgerId) -> Result<Self> {
        let folder = state.pushed();
        let mut pushed = Self { folder, to, mark: None, reached: Vec::new(), sent: None };
        let mark = read(&pushed.mark_path())?.and_then(|text| serde_json::from_slice::<PushMark>(&text).ok());
        pushed.mark = mark.filter(|_| pushed.heads_path(&to.to_string()).exists());
        Ok(pushed)
    }

    /// Returns where the last push ended.
    pub fn mark(&self) -> Option<&PushMark> {
        self.mark.as_ref()
    }

    /// Returns the source's token of the last push: what moved since then is what there is to push.
    pub fn token(&self) -> Option<Token> {
        parse_bytes(self.mark.as_ref()?.token.as_deref()?).map(Token)
    }

    /// Forgets all pushes to this destination: it is not what it was.
    pub fn forget(&mut self) -> Result<()> {
        self.mark = None;
        for path in [self.mark_path(), self.heads_path(&self.to.to_string())] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("forget pushes", &path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Notes a head that the destination has, and whether something was sent for it. Nothing is written before [`Pushed::save`].
    pub fn reached(&mut self, head: &BatchHead, is_sent: bool) {
        self.reached.push(*head);
        if is_sent {
            self.sent = Some(*head);
        }
    }

    /// Writes down what was reached. Without a token the next push compares everything.
    pub fn save(&mut self, url: &str, asked: &str, at: Timestamp, token: Option<&Token>) -> Result<()> {
        create_folder(&self.folder)?;
        self.append_reached()?;
        let (before, sent) = (self.mark.take(), self.sent.take());
        let mut mark = PushMark {
            to: self.to.to_string(),
            url: url.to_owned(),
            asked: asked.to_owned(),
            at,
            // What was sent last is what a restore from a backup takes away first.
            last: sent.or(before.as_ref().and_then(|mark| mark.last)).or(self.reached.last().copied()),
            token: token.map(|token| {
                let mut text = Vec::new();
                push_hex(&mut text, &token.0);
                text.iter().map(|byte| char::from(*byte)).collect()
            }),
            compacted_bytes: before.map_or(0, |mark| mark.compacted_bytes),
        };
        self.reached.clear();
        mark.compacted_bytes = self.compact(&mark)?;
        replace(&self.mark_path(), &serde_json::to_vec(&mark).expect("plain data"), false)?;
        self.mark = Some(mark);
        Ok(())
    }

    fn append_reached(&self) -> Result<()> {
        let path = self.heads_path(&self.to.to_string());
        // A line that a crash cut short must not take the next one with it; empty lines are passed over.
        let mut text = vec![b'\n'];
        for head in &self.reached {
            serde_json::to_writer(&mut text, head).expect("a head is plain data");
            text.push(b'\n');
        }
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(&text)).map_err(|error| io_error("write", &path, error))
    }

    /// Drops overtaken heads when there are many; returns the size of the heads after the last time.
    fn compact(&self, mark: &PushMark) -> Result<u64> {
        let path = self.heads_path(&mark.to);
        let bytes = fs::metadata(&path).map_err(|error| io_error("look at", &path, error))?.len();
        if bytes < COMPACTED_BYTES_MIN.max(2 * mark.compacted_bytes) {
            return Ok(mark.compacted_bytes);
        }
        let mut text = Vec::new();
        for head in parse_heads(&read(&path)?.unwrap_or_default()).values() {
            serde_json::to_writer(&mut text, head).expect("a head is plain data");
            text.push(b'\n');
        }
        replace(&path, &text, false)?;
        Ok(text.len() as u64)
    }

    fn mark_path(&self) -> PathBuf {
        self.folder.join(format!("{}.json", self.to))
    }

    fn heads_path(&self, to: &str) -> PathBuf {
        self.folder.join(format!("{to}.heads.jsonl"))
    }
}

impl LedgerState {
    /// Returns where the last push to each destination ended, the latest push last.
    pub fn push_marks(&self) -> Result<Vec<PushMark>> {
        let folder = self.pushed();
        let mut marks = Vec::new();
        let Ok(listed) = fs::read_dir(&folder) else { return Ok(marks) };
        for entry in listed {
            let path = entry.map_err(|error| io_error("list", &folder, error))?.path();
            if path.extension().is_some_and(|ending| ending == "json") {
                marks.extend(read(&path)?.and_then(|text| serde_json::from_slice::<PushMark>(&text).ok()));
            }
        }
        marks.sort_by_key(|mark| mark.at);
        Ok(marks)
    }

    /// Returns the newest head of each feed that a destination is known to have.
    pub fn pushed_heads(&self, mark: &PushMark) -> Result<BTreeMap<WriterId, BatchHead>> {
        let path = self.pushed().join(format!("{}.heads.jsonl", mark.to));
        Ok(parse_heads(&read(&path)?.unwrap_or_default()))
    }
}

/// Reads heads and keeps the furthest of each feed. What is not a head is passed over: then more is taken to be unpushed than is.
fn parse_heads(text: &[u8]) -> BTreeMap<WriterId, BatchHead> {
    let mut heads: BTreeMap<WriterId, BatchHead> = BTreeMap::new();
    for head in text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()) {
        let head: BatchHead = head;
        if heads.get(&head.feed).is_none_or(|known| known.size < head.size) {
            heads.insert(head.feed, head);
        }
    }
    heads
}

fn parse_bytes(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burnlog_log::{Frontier, WriterKey, leaf};

    fn head(number: u8, size: u64) -> BatchHead {
        let mut frontier = Frontier::default();
        frontier.extend((0..size).map(|n| leaf(&n.to_le_bytes())));
        WriterKey::from_secret([number; 32]).sign_head(&frontier, Timestamp::from_micros(5))
    }

    fn state(folder: &tempfile::TempDir) -> LedgerState {
        crate::Home::new(folder.path()).ledger_state(LedgerId([1; 16]))
    }

    #[test]
    fn a_push_is_remembered_for_each_destination() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(&folder);
        for (number, at) in [(7, 3), (8, 2)] {
            let mut pushed = Pushed::load(&state, LedgerId([number; 16])).unwrap();
            assert!(pushed.mark().is_none() && pushed.token().is_none());
            pushed.reached(&head(number, 4), true);
            pushed.reached(&head(9, 4), false);
            let token = Token(vec![0, number, 255]);
            pushed.save("file:/b", "b3:asked", Timestamp::from_micros(at), Some(&token)).unwrap();
            let again = Pushed::load(&state, LedgerId([number; 16])).unwrap();
            assert_eq!((again.token(), again.mark().unwrap().last), (Some(token), Some(head(number, 4))));
        }
        let marks = state.push_marks().unwrap();
        assert_eq!(marks.iter().map(|mark| mark.at.as_micros()).collect::<Vec<_>>(), [2, 3]);
        let heads = state.pushed_heads(&marks[1]).unwrap();
        assert_eq!((heads.len(), heads.get(&head(7, 4).feed)), (2, Some(&head(7, 4))));
    }

    #[test]
    fn a_line_cut_short_costs_itself_and_lost_heads_cost_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let (state, to) = (state(&folder), LedgerId([7; 16]));
        let save = |heads: &[BatchHead]| {
            let mut pushed = Pushed::load(&state, to).unwrap();
            for head in heads {
                pushed.reached(head, true);
            }
            pushed.save("file:/b", "b3:asked", Timestamp::from_micros(1), Some(&Token(vec![1]))).unwrap();
        };
        save(&[head(1, 2), head(2, 3)]);
        let path = state.pushed().join(format!("{to}.heads.jsonl"));
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() - 9]).unwrap();
        save(&[head(1, 5)]);
        let heads = state.pushed_heads(&state.push_marks().unwrap()[0]).unwrap();
        assert_eq!(heads.into_values().collect::<Vec<_>>(), [head(1, 5)]);
        fs::remove_file(&path).unwrap();
        assert!(Pushed::load(&state, to).unwrap().token().is_none());
        save(&[head(1, 5)]);
        Pushed::load(&state, to).unwrap().forget().unwrap();
        assert_eq!(state.push_marks().unwrap(), []);
    }

    #[test]
    fn many_pushes_do_not_make_the_heads_grow_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let (state, to) = (state(&folder), LedgerId([7; 16]));
        let mut pushed = Pushed::load(&state, to).unwrap();
        let heads: Vec<BatchHead> = (1..=4).map(|number| head(number, 9)).collect();
        for _ in 0..3 {
            for head in heads.iter().cycle().take(6000) {
                pushed.reached(head, true);
            }
            pushed.save("file:/b", "b3:asked", Timestamp::from_micros(1), None).unwrap();
        }
        let bytes = fs::metadata(state.pushed().join(format!("{to}.heads.jsonl"))).unwrap().len();
        assert!(bytes < COMPACTED_BYTES_MIN, "{bytes}");
        assert_eq!(state.pushed_heads(pushed.mark().unwrap()).unwrap().len(), 4);
    }
}
