//! What the cases are built of: small made-up session records, ledgers of them, and dumps.

use crate::{DumpOptions, ErasureReceipt, FoldLimits, MemoryProjections, Projector, RowReader, dump};
use burnlog_log::{
    Address, Batch, Kind, Ledger, LedgerId, MemoryBackend, Outcome, Part, Position, Timestamp, WriterId,
    WriterKey,
};
use std::fmt::Write;

/// One record on its way into a ledger.
#[derive(Debug, Clone)]
pub struct Record {
    /// The kind of the event.
    pub kind: Kind<'static>,
    /// The source.
    pub source: &'static str,
    /// The stream.
    pub stream: String,
    /// The record number.
    pub seq: u64,
    /// Which part it is, if it is one.
    pub part: Option<Part>,
    /// The bytes.
    pub payload: Vec<u8>,
}

/// A line of a Claude Code file.
pub fn line(stream: &str, seq: u64, payload: impl Into<Vec<u8>>) -> Record {
    let (stream, payload) = (stream.to_owned(), payload.into());
    Record { kind: Kind::Line, source: "claude-code", stream, seq, part: None, payload }
}

/// A line as a session writes them, with what all of them have and `rest`.
pub fn session_line(kind: &str, session: &str, second: u32, rest: &str) -> String {
    format!(
        r#"{{"type":"{kind}","uuid":"{}","sessionId":"{session}","timestamp":"{}","cwd":"/work/demo","gitBranch":"main","version":"2.1.0","isSidechain":false,{rest}}}"#,
        uuid(session, second),
        instant(second),
    )
}

/// A line of an API call.
pub fn answer(session: &str, second: u32, id: &str, output: u32, stop: Option<&str>) -> String {
    let stop = stop.map_or("null".to_owned(), |stop| format!("\"{stop}\""));
    session_line(
        "assistant",
        session,
        second,
        &format!(
            r#""requestId":"req_{id}","message":{{"id":"{id}","role":"assistant","model":"model-a","content":[{{"type":"text","text":"hello"}}],"stop_reason":{stop},"usage":{{"input_tokens":3,"output_tokens":{output},"cache_read_input_tokens":100,"cache_creation_input_tokens":7,"cache_creation":{{"ephemeral_5m_input_tokens":5,"ephemeral_1h_input_tokens":2}},"service_tier":"standard"}}}}"#
        ),
    )
}

/// A line of an API call that asks for a tool.
pub fn tool_use(session: &str, second: u32, id: &str, tool: &str) -> String {
    session_line(
        "assistant",
        session,
        second,
        &format!(
            r#""message":{{"id":"{id}","role":"assistant","model":"model-a","content":[{{"type":"tool_use","id":"{tool}","name":"Edit","input":{{"file_path":"/work/demo/a.rs"}}}}],"stop_reason":"tool_use","usage":{{"input_tokens":1,"output_tokens":9}}}}"#
        ),
    )
}

/// A line with what a tool gave back.
pub fn tool_result(session: &str, second: u32, tool: &str, is_error: bool) -> String {
    session_line(
        "user",
        session,
        second,
        &format!(
            r#""message":{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"{tool}","content":"four","is_error":{is_error}}}]}}"#
        ),
    )
}

/// A line that a person typed.
pub fn prompt(session: &str, second: u32, text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    session_line("user", session, second, &format!(r#""message":{{"role":"user","content":{text}}}"#))
}

/// A stamp: its selector and what it sets, as JSON objects.
pub fn stamp(selector: &str, set: &str, second: u32) -> Record {
    let payload = format!(r#"{{"selector":{selector},"set":{set},"at":"{}"}}"#, instant(second));
    Record {
        kind: Kind::Stamp,
        source: "burnlog",
        stream: "stamps".to_owned(),
        seq: 0,
        part: None,
        payload: payload.into_bytes(),
    }
}

/// The receipt of an erasure.
pub fn receipt(erased: &[Address], second: u32) -> Record {
    let at = Timestamp::from_micros(i64::from(second) * 1_000_000);
    let receipt = ErasureReceipt { erased: erased.to_vec(), at, reason: None };
    Record {
        kind: Kind::Erase,
        source: "burnlog",
        stream: "erasures".to_owned(),
        seq: 0,
        part: None,
        payload: serde_json::to_vec(&receipt).unwrap(),
    }
}

/// A line that says when its file began, and is in no chain.
pub fn begun(session: &str, second: u32) -> String {
    let at = instant(second);
    format!(
        r#"{{"type":"queue-operation","operation":"dequeue","timestamp":"{at}","sessionId":"{session}"}}"#
    )
}

/// A line that came from another session, as it says.
pub fn forked(session: &str, second: u32, from: &str) -> String {
    session_line(
        "system",
        session,
        second,
        &format!(r#""content":"forked","forkedFrom":{{"sessionId":"{from}","messageUuid":"u"}}"#),
    )
}

/// A line with what a tool gave back that started a subagent.
pub fn started_agent(session: &str, second: u32, tool: &str, agent: &str) -> String {
    session_line(
        "user",
        session,
        second,
        &format!(
            r#""toolUseResult":{{"agentId":"{agent}"}},"message":{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"{tool}","content":[{{"type":"text","text":"done"}},{{"type":"image","source":{{}}}}]}}]}}"#
        ),
    )
}

/// The instant of a second, as sessions write it.
pub fn instant(second: u32) -> String {
    Timestamp::from_micros(1_767_225_600_000_000 + i64::from(second) * 1_000_000).to_string()
}

/// A uuid made of a session and a number; copies of a line keep it.
pub fn uuid(session: &str, second: u32) -> String {
    let hash = burnlog_log::PayloadHash::of(format!("{session} {second}").as_bytes()).to_string();
    let hex = &hash[3..];
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
}

/// Made-up sessions: several sessions and streams, calls in several lines, tools, forks, odd lines.
/// The same seed gives the same records.
pub fn made_up(seed: u64, lines: u32) -> Vec<Record> {
    let mut random = Random(seed);
    let mut records = Vec::new();
    for second in 0..lines {
        let session = format!("s{}", random.below(4));
        let (id, tool) = (format!("msg_{}", random.below(40)), format!("toolu_{}", random.below(30)));
        let payload = match random.below(20) {
            16 => forked(&session, second, &format!("s{}", random.below(5))),
            17 => started_agent(&session, second, &tool, ["x", "y"][random.below(2) as usize]),
            18 => {
                let selector = match random.below(3) {
                    0 => format!(r#"{{"session":"{session}"}}"#),
                    1 => format!(r#"{{"session":"{session}","source":"claude-code"}}"#),
                    _ => format!(r#"{{"call":"{id}"}}"#),
                };
                let value = ["\"a\"", "\"b\"", "null"][random.below(3) as usize];
                let parent = random.below(5);
                let set = format!(r#"{{"team":{value},"parentAgentId":"s{parent}"}}"#);
                records.push(stamp(&selector, &set, random.below(50) as u32));
                prompt(&session, random.below(9) as u32, ["one", "two"][random.below(2) as usize])
            }
            0..5 => answer(&session, second, &id, random.below(50) as u32, None),
            5..8 => answer(&session, second, &id, random.below(50) as u32, Some("end_turn")),
            8 | 9 => tool_use(&session, second, &id, &tool),
            10 | 11 => tool_result(&session, second, &tool, random.below(2) == 0),
            12 => prompt(&session, second, "what now?"),
            13 => session_line(
                "system",
                &session,
                second,
                r#""subtype":"compact_boundary","compactMetadata":{"trigger":"auto","preTokens":1000}"#,
            ),
            14 => {
                format!(r#"{{"type":"custom-title","customTitle":"title {second}","sessionId":"{session}"}}"#)
            }
            15 => begun(&session, random.below(u64::from(lines)) as u32),
            _ => "{\"type\":\"assistant\",\"mess".to_owned(),
        };
        let payload = if random.below(4) == 0 { payload.replace("main", "topic") } else { payload };
        let stream = if random.below(5) == 0 { format!("{session}/subagents/agent-x") } else { session };
        // Many at the beginning of a file, which says what is a copy.
        let records_max = if random.below(3) == 0 { 10 } else { 300 };
        let seq = random.below(records_max);
        // A fork has the same line in another file.
        if random.below(4) == 0 {
            records.push(line(&format!("s{}", random.below(4)), seq, payload.clone()));
        }
        records.push(line(&stream, seq, payload));
    }
    records
}

/// A small generator of numbers (splitmix64).
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// Returns the next number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Shuffles a list.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

/// The id of every ledger of the suite.
pub const LEDGER: LedgerId = LedgerId([7; 16]);

/// Makes an empty ledger.
pub fn ledger() -> Ledger {
    Ledger::new(MemoryBackend::new(LEDGER))
}

/// The feed of a number.
pub fn feed(number: u8) -> WriterId {
    WriterKey::from_secret([number; 32]).writer()
}

/// Makes a batch of records.
pub fn batch(records: &[Record]) -> Batch {
    let mut batch = Batch::default();
    for record in records {
        let position = Position {
            kind: record.kind.clone(),
            source: record.source.into(),
            stream: record.stream.as_str().into(),
            seq: record.seq,
            part: record.part,
        };
        batch.push(position, &record.payload).unwrap();
    }
    batch
}

/// Appends records to the feed of a number.
pub fn append(ledger: &Ledger, number: u8, records: &[Record]) -> Vec<Outcome> {
    let mut writer = ledger.writer(WriterKey::from_secret([number; 32])).unwrap();
    writer.append(&batch(records), Timestamp::from_micros(0)).unwrap()
}

/// Folds all that a ledger has, in small commits.
pub fn catch_up(store: &mut dyn crate::FoldStore, ledger: &Ledger) -> crate::CaughtUp {
    Projector::new(store, ledger, small_limits()).unwrap().catch_up(ledger).unwrap()
}

/// Limits that make even small logs take several commits.
pub fn small_limits() -> FoldLimits {
    FoldLimits {
        pending_bytes_max: 20_000,
        page: burnlog_log::Limit { entries: 17, bytes: 1 << 20 },
        ..FoldLimits::default()
    }
}

/// The dump of a store as one text.
pub fn dumped(reader: &(impl RowReader + ?Sized)) -> String {
    let mut text = String::new();
    dump(reader, &DumpOptions::default(), &mut |line| {
        writeln!(text, "{line}").unwrap();
        Ok(())
    })
    .unwrap();
    text
}

/// The dump that a memory store has of a ledger that it never saw before.
pub fn dump_of(ledger: &Ledger) -> String {
    let mut store = MemoryProjections::new();
    catch_up(&mut store, ledger);
    dumped(&store)
}

/// The dump that a memory store has of records in one feed.
pub fn expected_dump(records: &[Record]) -> String {
    dumped(&folded(records))
}

/// A memory store with these records folded.
pub fn folded(records: &[Record]) -> MemoryProjections {
    let ledger = ledger();
    append(&ledger, 1, records);
    let mut store = MemoryProjections::new();
    let mut projector = Projector::new(&mut store, &ledger, FoldLimits::default()).unwrap();
    projector.catch_up(&ledger).unwrap();
    drop(projector);
    store
}
