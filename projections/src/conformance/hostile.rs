//! Claims about what nobody writes on purpose: whatever the records of a session file, a stamp or an import say, they are folded,
//! and into the same rows by every store.

#![allow(missing_docs)] // the names of the cases are the claims

use super::Fixture;
use super::build::{Random, Record, answer, append, catch_up, dumped, folded, ledger, line, stamp};
use crate::{Filter, PageRequest, Queries, UsageBy};
use burnlog_log::{Kind, Timestamp};
use serde_json::Value;

/// Files of every source, whose records are real but for the mutations below.
const FILES: [(&str, Kind<'static>, &str, &str); 6] = [
    (
        "claude-code",
        Kind::Line,
        "s-1",
        include_str!(
            "../../../fixtures/sessions/claude-code/.claude/projects/-work-demo/11111111-1111-4111-8111-111111111111.jsonl"
        ),
    ),
    (
        "claude-code",
        Kind::Line,
        "s-2",
        include_str!(
            "../../../fixtures/sessions/claude-code/.claude/projects/-work-demo/77777777-7777-4777-8777-777777777777.jsonl"
        ),
    ),
    (
        "codex",
        Kind::Line,
        "rollout-2026-01-12T10-00-00-019bb000-0000-7000-8000-0000000000a1",
        include_str!(
            "../../../fixtures/sessions/codex/.codex/sessions/2026/01/12/rollout-2026-01-12T10-00-00-019bb000-0000-7000-8000-0000000000a1.jsonl"
        ),
    ),
    (
        "gemini-cli",
        Kind::Line,
        "session-1",
        include_str!(
            "../../../fixtures/sessions/gemini-cli/.gemini/tmp/demo/chats/session-2026-03-02T10-00-6b5c0000.jsonl"
        ),
    ),
    (
        "claude-code",
        Kind::Record,
        "relayburn/s-1",
        include_str!("../../../fixtures/sessions/relayburn/v1/ledger.jsonl"),
    ),
    (
        "opencode",
        Kind::Line,
        "message/msg_a1",
        include_str!(
            "../../../fixtures/sessions/opencode/.local/share/opencode/storage/message/ses_demo1/msg_a1.json"
        ),
    ),
];

/// What stands where a value was taken out, until a hostile one takes its place.
const HOLE: &str = "a hole in a record";

/// Texts and numbers that databases refuse or that do not fit, as they stand in JSON. Of long ones the beginning is repeated.
const HOSTILE: [&str; 34] = [
    r#""""#,
    r#"" ""#,
    r#""\u0000""#,
    r#""a\u0000b""#,
    r#""\ud800""#,
    r#""x\udfff\ud83d\ude00""#,
    r#""\ufeff\u202e\uffff\ud83f\udffe""#,
    r#""'; drop table calls; --""#,
    r#""\\x00 %s {} $1 \b\f""#,
    r#""0000-01-01T00:00:00Z""#,
    r#""-0001-01-01T00:00:00Z""#,
    r#""9999-12-31T23:59:60.999999999Z""#,
    r#""+300000-01-01T00:00:00Z""#,
    r#""300000-01-01T00:00:00Z""#,
    r#""2026-02-31T25:61:61Z""#,
    "18446744073709551615",
    "18446744073709551616",
    "9223372036854775807",
    "-9223372036854775808",
    "-1",
    "0",
    "0.5",
    "1e308",
    "-1e308",
    "1e400",
    "253402300800000",
    "9007199254740993",
    "true",
    "null",
    "[]",
    "{}",
    r#"[[["deep"]]]"#,
    r#"{"":"","\u0000":"\u0000"}"#,
    r#"["\u0000",1e400,null]"#,
];

/// A text of so many bytes that no compression makes short, so that it does not fit into a page of an index.
fn long_text(random: &mut Random, bytes: usize) -> String {
    let character = |_| match random.below(20) {
        0 => 'é',
        at => char::from(b'a' + (at + random.below(7)) as u8 % 26),
    };
    let text: String = (0..bytes).map(character).collect();
    format!("\"{text}\"")
}

fn hostile(random: &mut Random) -> String {
    match random.below(40) {
        // Beyond any page; the longest few, because they are slow.
        0 => long_text(random, 1 << 20),
        1..=4 => long_text(random, 3000),
        at => HOSTILE[(at + random.below(34)) as usize % HOSTILE.len()].to_owned(),
    }
}

fn leaves(value: &Value) -> u64 {
    match value {
        Value::Array(list) => list.iter().map(leaves).sum(),
        Value::Object(fields) => fields.values().map(leaves).sum(),
        _ => 1,
    }
}

/// Takes the leaf of a number out.
fn take_out(value: &mut Value, number: &mut u64) {
    let children: Vec<&mut Value> = match value {
        Value::Array(list) => list.iter_mut().collect(),
        Value::Object(fields) => fields.values_mut().collect(),
        leaf => {
            if *number == 0 {
                *leaf = Value::from(HOLE);
            }
            *number = number.wrapping_sub(1);
            return;
        }
    };
    for child in children {
        take_out(child, number);
    }
}

/// Returns a record with some of its values replaced.
fn mutated(line: &str, random: &mut Random) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_str::<Value>(line) else { return line.into() };
    let count = leaves(&value);
    for _ in 0..random.below(4).min(count) {
        let mut number = random.below(count);
        take_out(&mut value, &mut number);
    }
    let parts: Vec<String> = value.to_string().split(&format!("\"{HOLE}\"")).map(str::to_owned).collect();
    let mut text = parts[0].clone();
    for part in &parts[1..] {
        text.push_str(&hostile(random));
        text.push_str(part);
    }
    text.into_bytes()
}

/// Names of streams and sources that no file has.
fn hostile_stream(stream: &str, random: &mut Random) -> String {
    match random.below(12) {
        0 => format!("{stream}\0{}", random.below(3)),
        1 => format!("{stream}{}", "é".repeat(2000)),
        2 => format!("relayburn/{stream}"),
        3 => String::new(),
        _ => stream.to_owned(),
    }
}

fn records(seed: u64) -> Vec<Record> {
    let mut random = Random(seed);
    let mut records = Vec::new();
    for (source, kind, stream, file) in &FILES {
        let stream = hostile_stream(stream, &mut random);
        for (seq, line) in (0..).zip(file.lines()) {
            let seq = if *source == "opencode" { 0 } else { seq };
            let payload = mutated(line, &mut random);
            let (kind, stream) = (kind.clone(), stream.clone());
            records.push(Record { kind, source, stream, seq, part: None, payload });
        }
    }
    let writer = mutated(r#"{"host":"h","os":"o","version":"1","arch":"a"}"#, &mut random);
    let (stream, source) = ("writer".to_owned(), "burnlog");
    records.push(Record { kind: Kind::Writer, source, stream, seq: 0, part: None, payload: writer });
    for _ in 0..6 {
        let selector = mutated(r#"{"session":"s-1","source":"claude-code"}"#, &mut random);
        let set = mutated(r#"{"ticket":"A-1","owner":"ann"}"#, &mut random);
        let (selector, set) = (String::from_utf8_lossy(&selector), String::from_utf8_lossy(&set));
        records.push(stamp(&selector, &set, random.below(9) as u32));
    }
    let stream = "a stream\0of nobody".to_owned();
    let payload = b"\xff\0not JSON".to_vec();
    records.push(Record {
        kind: Kind::Line,
        source: "a source\0of nobody",
        stream,
        seq: u64::MAX,
        part: None,
        payload,
    });
    records
}

fn folds_alike(fixture: &impl Fixture, seed: u64) {
    let records = records(seed);
    let (ledger, mut store) = (ledger(), fixture.open());
    append(&ledger, 1, &records);
    catch_up(store.folds(), &ledger);
    let expected = folded(&records);
    let (dump, other) = (dumped(&*store), dumped(&expected));
    for (line, other) in dump.lines().zip(other.lines()) {
        assert_eq!(line, other, "seed {seed}");
    }
    assert_eq!(dump.len(), other.len(), "seed {seed}");
    let (filter, all) = (Filter::default(), PageRequest { after: None, limit: usize::MAX });
    // No midnight, so that the sums are those of the calls themselves.
    let exact = Filter { since: Some(Timestamp::from_micros(i64::MIN + 1)), ..Filter::default() };
    for by in [
        &[][..],
        &[UsageBy::Day],
        &[UsageBy::Month, UsageBy::Model],
        &[UsageBy::Host, UsageBy::Branch],
        &[UsageBy::Project, UsageBy::PriceClass],
        &[UsageBy::Session],
    ] {
        for filter in [&filter, &exact] {
            let (sums, others) = (store.usage(filter, by).unwrap(), expected.usage(filter, by).unwrap());
            assert_eq!(sums, others, "seed {seed}, {by:?}, {filter:?}");
        }
    }
    let (sessions, others) =
        (store.sessions(&filter, &all).unwrap(), expected.sessions(&filter, &all).unwrap());
    assert_eq!(sessions, others, "seed {seed}");
    let (turns, others) = (store.turns(&filter, &all).unwrap(), expected.turns(&filter, &all).unwrap());
    assert_eq!(turns, others, "seed {seed}");
}

/// How many made-up ledgers there are.
const SEEDS: u64 = 6;

pub fn whatever_records_say_is_folded_alike<F: Fixture>(_: &F) {
    for seed in 1..=SEEDS {
        folds_alike(&F::create(), seed);
    }
}

pub fn no_text_is_too_long_for_an_index(fixture: &impl Fixture) {
    let mut random = Random(3);
    let mut records = Vec::new();
    for (source, kind, stream, file) in &FILES {
        for (seq, line) in (0..).zip(file.lines()) {
            let Ok(mut value) = serde_json::from_str::<Value>(line) else { continue };
            // One text of each record, another one each time.
            let mut number = random.below(leaves(&value).max(1));
            take_out(&mut value, &mut number);
            let hole = format!("\"{HOLE}\"");
            let text = value.to_string().replacen(&hole, &long_text(&mut random, 6000), 1);
            let seq = if *source == "opencode" { 0 } else { seq };
            let (kind, stream, payload) = (kind.clone(), (*stream).to_owned(), text.into_bytes());
            records.push(Record { kind, source, stream, seq, part: None, payload });
        }
    }
    let (ledger, mut store) = (ledger(), fixture.open());
    append(&ledger, 1, &records);
    catch_up(store.folds(), &ledger);
    assert_eq!(dumped(&*store), dumped(&folded(&records)));
}

pub fn sums_end_at_the_greatest_number(fixture: &impl Fixture) {
    let said = |seq: u32, id: &str| {
        let text = answer("s", seq, id, 1, None);
        let tokens = text.replace(r#""output_tokens":1"#, r#""output_tokens":18446744073709551615"#);
        line("s", seq.into(), tokens)
    };
    let records = [said(0, "one"), said(1, "two")];
    let (ledger, mut store) = (ledger(), fixture.open());
    append(&ledger, 1, &records);
    catch_up(store.folds(), &ledger);
    let exact = Filter { since: Some(Timestamp::from_micros(1)), ..Filter::default() };
    for filter in [Filter::default(), exact] {
        let sums = store.usage(&filter, &[]).unwrap();
        assert_eq!((sums[0].usage.calls, sums[0].usage.output_tokens.0), (2, i64::MAX), "{filter:?}");
        assert_eq!(sums[0].usage.input_tokens.0, 6, "what fits is added as it is");
    }
}
