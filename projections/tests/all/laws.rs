//! The laws: merges are joins, and a fold of the same events gives the same dump whatever their order, repetition,
//! feeds and commits.

use burnlog_log::{Address, Kind, Timestamp};
use burnlog_projections::conformance::build::{
    Random, Record, append, batch, catch_up, dump_of, dumped, folded, ledger, line, made_up, receipt,
    small_limits,
};
use burnlog_projections::{
    Call, Compaction, Conflict, Content, Day, Diagnostic, Extent, Feed, Group, MemoryProjections, Merge,
    Name, Notice, Preview, Projector, Relationship, Rollup, Row, RowReader, Session, Stamp, Stream,
    StreamFeed, TABLES, Tokens, ToolUse, UsageDay, UserTurn, Values, live,
};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn name() -> impl Strategy<Value = Name> {
    "[a-c]".prop_map(|text| Name::from(text.as_str()))
}

fn names() -> impl Strategy<Value = Option<Name>> {
    proptest::option::of(name())
}

fn instant() -> impl Strategy<Value = Option<Timestamp>> {
    proptest::option::of((0i64..4).prop_map(Timestamp::from_micros))
}

fn tokens() -> impl Strategy<Value = Option<Tokens>> {
    proptest::option::of((0i64..3).prop_map(Tokens))
}

fn place() -> impl Strategy<Value = Address> {
    (0u8..3).prop_map(|byte| Address([byte; 32]))
}

fn call() -> impl Strategy<Value = Call> {
    let kept = (tokens(), tokens(), tokens(), names(), instant(), -2i64..2, place(), names());
    let home = (name(), name(), any::<bool>(), instant(), names(), any::<bool>(), names(), 0i64..3);
    (kept, home, proptest::collection::btree_set(name(), 0..3)).prop_map(|(kept, home, mut elsewhere)| {
        elsewhere.remove(&home.0);
        Call {
            source: "s".into(),
            call: "m".to_owned(),
            request: None,
            model: kept.7,
            input_tokens: kept.0,
            output_tokens: kept.1,
            cache_read_tokens: kept.2,
            cache_write_5m_tokens: None,
            cache_write_1h_tokens: None,
            reasoning_tokens: None,
            complete: kept.3.is_some(),
            stop_reason: kept.3,
            service_tier: None,
            speed: None,
            clamped: false,
            kept_at: kept.4,
            payload_prefix: kept.5,
            place: kept.6,
            session: home.0,
            stream: home.1,
            copied: home.2,
            timestamp: home.3,
            cwd: home.4,
            branch: None,
            version: None,
            sidechain: home.5,
            agent: home.6,
            seq: home.7,
            contested: false,
            forms: Vec::new(),
            elsewhere: elsewhere.into_iter().collect(),
        }
    })
}

fn tool_use() -> impl Strategy<Value = ToolUse> {
    let used = proptest::option::of((any::<bool>(), names(), names(), name(), instant(), place()));
    let result = (any::<bool>(), any::<bool>(), 0i64..3, name(), instant(), place());
    let result = proptest::option::of(result);
    (used, result).prop_map(|(used, result)| {
        let mut row = ToolUse::unseen("s".into(), "t".to_owned());
        if let Some((copied, tool, target, session, at, place)) = used {
            row.place = Some(place);
            (row.use_copied, row.tool, row.target) = (Some(copied), tool, target);
            (row.session, row.used_at, row.call) = (Some(session), at, Some("m".to_owned()));
        }
        if let Some((copied, is_error, bytes, session, at, place)) = result {
            row.result_place = Some(place);
            (row.result_copied, row.is_error, row.result_bytes) = (Some(copied), Some(is_error), Some(bytes));
            (row.result_session, row.result_at) = (Some(session), at);
        }
        row
    })
}

fn user_turn() -> impl Strategy<Value = UserTurn> {
    (any::<bool>(), instant(), name(), name(), name(), 0i64..2, place(), 0i64..2).prop_map(|row| UserTurn {
        source: "s".into(),
        turn: "u".to_owned(),
        copied: row.0,
        timestamp: row.1,
        session: row.2,
        stream: row.3,
        class: row.4,
        characters: row.5,
        images: 0,
        text_prefix: row.7,
        contested: false,
        forms: Vec::new(),
        place: row.6,
    })
}

fn compaction() -> impl Strategy<Value = Compaction> {
    (any::<bool>(), instant(), name(), name(), names(), tokens(), place()).prop_map(|row| Compaction {
        source: "s".into(),
        compaction: "u".to_owned(),
        copied: row.0,
        timestamp: row.1,
        session: row.2,
        stream: row.3,
        trigger: row.4,
        tokens_before: row.5,
        place: row.6,
    })
}

fn notice() -> impl Strategy<Value = Notice> {
    let status = proptest::option::of(0i64..2);
    (any::<bool>(), instant(), name(), name(), names(), status, place()).prop_map(|row| Notice {
        source: "s".into(),
        notice: "u".to_owned(),
        copied: row.0,
        timestamp: row.1,
        session: row.2,
        stream: row.3,
        error: row.4,
        status: row.5,
        place: row.6,
    })
}

fn stream() -> impl Strategy<Value = Stream> {
    let project = proptest::option::of((name(), 0i64..3));
    let title = proptest::option::of((name(), 1i64..4));
    let version = proptest::option::of((name(), 0i64..3));
    let span = proptest::option::of((0i64..4, 0i64..4));
    let first = proptest::option::of((name(), 0i64..3, names()));
    let parts = (project, title, version, span, 0i64..4, first);
    parts.prop_map(|(project, title, version, span, records, first)| {
        let mut row = Stream::unseen("s".into(), "t".into(), "t".into(), None);
        row.project_seq = project.as_ref().map_or(0, |project| project.1);
        row.project = project.map(|project| project.0);
        row.title_place = title.as_ref().map_or(0, |title| title.1);
        row.title = title.map(|title| title.0.to_string());
        row.version_seq = version.as_ref().map_or(0, |version| version.1);
        row.version = version.map(|version| version.0);
        row.first_at = span.map(|(one, two)| Timestamp::from_micros(one.min(two)));
        row.last_at = span.map(|(one, two)| Timestamp::from_micros(one.max(two)));
        row.records = records;
        row.first_record = first.as_ref().map(|first| first.0.to_string());
        row.first_record_seq = first.as_ref().map_or(0, |first| first.1);
        row.first_parent = first.and_then(|first| first.2).map(|parent| parent.to_string());
        row
    })
}

fn extent() -> impl Strategy<Value = Extent> {
    (0u8..3, 0i64..3, 0i64..3, any::<bool>()).prop_map(|(root, records, bytes, ends_with_newline)| Extent {
        source: "s".into(),
        stream: "t".into(),
        place: Address([1; 32]),
        root: vec![root],
        records,
        bytes,
        ends_with_newline,
    })
}

fn content() -> impl Strategy<Value = Content> {
    proptest::collection::btree_set((0u64..20, 0u8..3), 0..6).prop_map(|records| {
        let entry =
            |(seq, byte): &(u64, u8)| format!(r#"[{seq},"0000000000{byte:02x}",["text",{byte},{seq},"x"]]"#);
        let entries: Vec<String> = records.iter().map(entry).collect();
        let blocks = format!("[{}]", entries.join(","));
        Content { source: "s".into(), stream: "t".into(), chunk: 0, blocks }
    })
}

/// Rows of objects that are rewritten in place: one version of each record, of a rank of its own, perhaps without blocks.
fn ranked_content() -> impl Strategy<Value = Content> {
    proptest::collection::btree_map(0u64..4, 0u8..6, 0..4).prop_map(|records| {
        let entry = |(seq, byte): (&u64, &u8)| {
            let block = if byte % 3 == 0 { String::new() } else { format!(r#",["text",{byte},{seq}]"#) };
            let address = format!("{:02x}0000000000", byte * 37);
            format!(r#"[{seq},"{address}","0{byte:x}"{block}]"#)
        };
        let entries: Vec<String> = records.iter().map(entry).collect();
        let blocks = format!("[{}]", entries.join(","));
        Content { source: "s".into(), stream: "t".into(), chunk: 0, blocks }
    })
}

fn relationship() -> impl Strategy<Value = Relationship> {
    (names(), instant(), names(), names(), place()).prop_map(|row| Relationship {
        source: "s".into(),
        from_session: "f".into(),
        to_session: "t".into(),
        kind: "fork".into(),
        agent: "".into(),
        stream: row.0,
        at: row.1,
        tool_use: row.2.map(|id| id.to_string()),
        record: row.3.map(|id| id.to_string()),
        place: row.4,
    })
}

fn stamp() -> impl Strategy<Value = Stamp> {
    (names(), instant(), -2i64..2, place()).prop_map(|row| Stamp {
        selects: "session".into(),
        source: "".into(),
        target: "t".into(),
        stamp_key: "k".into(),
        value: row.0.map(|value| value.to_string()),
        at: row.1,
        payload_prefix: row.2,
        place: row.3,
    })
}

fn conflict(kind: &'static str) -> impl Strategy<Value = Conflict> {
    let one = (any::<bool>(), instant(), name(), name(), -2i64..2, place());
    one.prop_map(move |row| Conflict {
        source: "s".into(),
        kind: kind.into(),
        identity: "i".to_owned(),
        form: "f".to_owned(),
        copied: row.0,
        timestamp: row.1,
        session: row.2,
        stream: row.3,
        payload_prefix: row.4,
        place: row.5,
    })
}

fn conflict_of_calls() -> impl Strategy<Value = Conflict> {
    conflict("call")
}

fn conflict_of_turns() -> impl Strategy<Value = Conflict> {
    conflict("user_turn")
}

fn feed() -> impl Strategy<Value = Feed> {
    (names(), 0i64..3).prop_map(|(host, host_index)| Feed {
        feed: vec![1],
        writer: host.as_ref().map(ToString::to_string),
        host,
        host_index,
    })
}

fn stream_feed() -> impl Strategy<Value = StreamFeed> {
    (0i64..5).prop_map(|records| StreamFeed {
        source: "s".into(),
        stream: "t".into(),
        feed: vec![1],
        records,
    })
}

fn preview() -> impl Strategy<Value = Preview> {
    "[a-c]{1,2}".prop_map(|text| Preview {
        address_begins_with: "000000000000".to_owned(),
        seq: 1,
        ordinal: 0,
        text,
    })
}

fn session() -> impl Strategy<Value = Session> {
    let told = (proptest::option::of((name(), 0i64..3)), proptest::option::of((name(), 1i64..4)));
    let span = proptest::option::of((0i64..4, 0i64..4));
    (told, span, proptest::array::uniform6(-3i64..4)).prop_map(|((project, title), span, counts)| {
        let [calls, input_tokens, streams, copied_calls, prompts, tool_errors] = counts;
        Session {
            source: "s".into(),
            session: "t".into(),
            project_place: project.as_ref().map_or(0, |project| project.1),
            project: project.map(|project| project.0),
            title_place: title.as_ref().map_or(0, |title| title.1),
            title: title.map(|title| title.0.to_string()),
            first_at: span.map(|(one, two)| Timestamp::from_micros(one.min(two))),
            last_at: span.map(|(one, two)| Timestamp::from_micros(one.max(two))),
            calls,
            input_tokens,
            streams,
            copied_calls,
            prompts,
            tool_errors,
            ..Session::default()
        }
    })
}

fn usage_day() -> impl Strategy<Value = UsageDay> {
    proptest::array::uniform4(-3i64..4).prop_map(|[calls, incomplete_calls, input_tokens, output_tokens]| {
        UsageDay {
            day: Day::default(),
            source: "s".into(),
            calls,
            incomplete_calls,
            input_tokens,
            output_tokens,
            ..UsageDay::default()
        }
    })
}

fn diagnostic() -> impl Strategy<Value = Diagnostic> {
    proptest::array::uniform7(-3i64..4).prop_map(|counts| {
        let [understood, unknown, unreadable, superseded, oversized, erased, other_kinds] = counts;
        Diagnostic {
            source: "s".into(),
            understood,
            unknown,
            unreadable,
            superseded,
            oversized,
            erased,
            other_kinds,
            ..Diagnostic::default()
        }
    })
}

fn merged<R: Merge>(one: &R, two: &R) -> R {
    let mut joined = one.clone();
    joined.merge(two.clone());
    joined
}

macro_rules! joins {
    ($($law:ident: $row:ident,)*) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(400))]
            $(
                #[test]
                fn $law(one in $row(), two in $row(), three in $row()) {
                    prop_assert_eq!(merged(&one, &two), merged(&two, &one));
                    prop_assert_eq!(merged(&merged(&one, &two), &three), merged(&one, &merged(&two, &three)));
                    prop_assert_eq!(merged(&one, &one), one.clone());
                    let both = merged(&one, &two);
                    prop_assert_eq!(merged(&both, &two), both);
                }
            )*
        }
    };
}

joins! {
    calls_are_joined: call,
    tool_uses_are_joined: tool_use,
    user_turns_are_joined: user_turn,
    compactions_are_joined: compaction,
    notices_are_joined: notice,
    streams_are_joined: stream,
    contents_are_joined: content,
    contents_of_versions_are_joined: ranked_content,
    relationships_are_joined: relationship,
    stamps_are_joined: stamp,
    conflicts_of_calls_are_joined: conflict_of_calls,
    conflicts_of_turns_are_joined: conflict_of_turns,
    extents_are_joined: extent,
    feeds_are_joined: feed,
    stream_feeds_are_joined: stream_feed,
    previews_are_joined: preview,
}

fn applied<R: Rollup>(one: &R, two: &R) -> R {
    let mut sum = one.clone();
    sum.apply(two);
    sum
}

/// Sums know no order and no grouping; that nothing is added twice is for those who make the differences.
macro_rules! sums {
    ($($law:ident: $row:ident,)*) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(400))]
            $(
                #[test]
                fn $law(one in $row(), two in $row(), three in $row()) {
                    prop_assert_eq!(applied(&one, &two), applied(&two, &one));
                    prop_assert_eq!(applied(&applied(&one, &two), &three), applied(&one, &applied(&two, &three)));
                }
            )*
        }
    };
}

sums! {
    sessions_are_added_up: session,
    days_are_added_up: usage_day,
    diagnostics_are_added_up: diagnostic,
}

/// The rows of a table in the order of their keys.
fn table(store: &MemoryProjections, table: &'static burnlog_projections::Table) -> Vec<Values> {
    store.scan(live(store).unwrap(), table, None, usize::MAX).unwrap()
}

/// The rows that `project dump` leaves out, of which the next fold makes those that it shows. Not the families: they may also
/// name groups that told of them before more of their facts came.
fn kept_beside(store: &MemoryProjections) -> [Vec<Values>; 2] {
    [Group::TABLE, Extent::TABLE].map(|kept| table(store, kept))
}

/// Lines and what else is in the feeds of a host: extents of their streams, and what it says of itself.
fn with_extents(seed: u64, lines: u32) -> Vec<Record> {
    let mut random = Random(seed ^ 2);
    let mut records = made_up(seed, lines);
    for number in 0..=lines / 10 {
        let (stream, count) = (format!("s{}", random.below(4)), random.below(300));
        let root = format!("{:02x}", random.below(3)).repeat(32);
        let payload = format!(
            r#"{{"stream":"{stream}","records":{count},"bytes":9,"ends_with_newline":true,"root":"sha256:{root}","chosen":[]}}"#
        );
        records.push(Record { kind: Kind::Extent, ..line(&stream, 0, payload) });
        let payload = format!(r#"{{"host":"h{}","version":"{number}"}}"#, random.below(3));
        records.push(Record { kind: Kind::Writer, source: "burnlog", ..line("w", 0, payload) });
    }
    records
}

/// Folds records split over feeds, shuffled, repeated and cut anywhere, and asks for the dump of one plain fold.
pub(crate) fn converges(records: &[Record], seed: u64, feeds: u8, piece: usize) -> Result<(), TestCaseError> {
    let plain = folded(records);
    let (expected, beside) = (dumped(&plain), kept_beside(&plain));
    let mut random = Random(seed ^ 1);
    let mut parts: Vec<Vec<Record>> = vec![Vec::new(); usize::from(feeds)];
    for record in records {
        let first = random.below(u64::from(feeds)) as usize;
        parts[first].push(record.clone());
        let again = random.below(u64::from(feeds)) as usize;
        if again != first {
            parts[again].push(record.clone());
        }
    }
    let ledger = ledger();
    let mut store = MemoryProjections::new();
    for (number, part) in parts.iter_mut().enumerate() {
        random.shuffle(part);
        for piece in part.chunks(piece) {
            append(&ledger, number as u8 + 1, piece);
            if random.below(2) == 0 {
                catch_up(&mut store, &ledger);
            }
        }
    }
    catch_up(&mut store, &ledger);
    prop_assert_eq!(dumped(&store), expected.clone());
    prop_assert_eq!(kept_beside(&store), beside.clone());
    let mut projector = Projector::rebuild(&mut store, &ledger, small_limits()).unwrap();
    projector.catch_up(&ledger).unwrap();
    drop(projector);
    prop_assert_eq!(dumped(&store), expected);
    prop_assert_eq!(kept_beside(&store), beside);
    Ok(())
}

/// The laws below say something of every row type: what is shuffled makes rows of each.
#[test]
fn what_is_shuffled_makes_rows_of_every_table() {
    let mut made = BTreeSet::new();
    for seed in 0..12 {
        for records in [
            with_extents(seed, 100),
            crate::codex::made_up(seed, 60),
            crate::opencode::made_up(seed, 60),
            crate::gemini::made_up(seed, 40),
            crate::relayburn::mixed(seed, 30),
        ] {
            let store = folded(&records);
            made.extend(TABLES.iter().filter(|rows| !table(&store, rows).is_empty()).map(|rows| rows.name));
        }
    }
    let all: BTreeSet<&str> = TABLES.iter().map(|table| table.name).collect();
    assert_eq!(made, all);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Laws 1 to 4: any split over feeds, any order, any repetition, any cut into commits, and a rebuild.
    #[test]
    fn a_dump_depends_on_the_events_alone(seed: u64, lines in 1u32..120, feeds in 1u8..4, piece in 1usize..60) {
        converges(&with_extents(seed, lines), seed, feeds, piece)?;
    }

    /// Law 4 with erasures between folds, by any host, of what was folded and of what was not: the rows are those of a
    /// rebuild, and none of them was made of what is gone.
    #[test]
    fn an_erasure_leaves_what_a_rebuild_leaves(seed: u64, lines in 1u32..100, piece in 1usize..40) {
        let (ledger, mut store, mut random) = (ledger(), MemoryProjections::new(), Random(seed));
        let records = made_up(seed, lines);
        let mut folded: Vec<Record> = Vec::new();
        for (number, piece) in (1..).zip(records.chunks(piece)) {
            append(&ledger, 1 + random.below(2) as u8, piece);
            folded.extend(piece.iter().filter(|record| record.kind == Kind::Line).cloned());
            if random.below(2) == 0 {
                catch_up(&mut store, &ledger);
            }
            let batch = batch(&folded);
            let mut erased: Vec<_> = batch.events().map(|event| event.address).collect();
            erased.retain(|_| random.below(20) == 0);
            erased.sort_unstable();
            erased.dedup();
            if random.below(2) == 0 && !erased.is_empty() {
                ledger.erase(&erased).unwrap();
                append(&ledger, 3, &[receipt(&erased, number)]);
            }
        }
        catch_up(&mut store, &ledger);
        prop_assert_eq!(dumped(&store), dump_of(&ledger));
    }

    /// What `without_content` leaves out to measure the rest is content alone, in every commit.
    #[test]
    fn without_content_everything_else_is_folded(seed: u64, lines in 1u32..120) {
        let ledger = ledger();
        append(&ledger, 1, &made_up(seed, lines));
        let mut store = MemoryProjections::new();
        let mut projector = Projector::new(&mut store, &ledger, small_limits()).unwrap().without_content().unwrap();
        projector.catch_up(&ledger).unwrap();
        drop(projector);
        let is_content = |line: &&str| line.starts_with("{\"projection\":\"content\"");
        let (all, left) = (dump_of(&ledger), dumped(&store));
        prop_assert!(!left.lines().any(|line| is_content(&line)));
        let others: Vec<&str> = all.lines().filter(|line| !is_content(line)).collect();
        prop_assert_eq!(left.lines().collect::<Vec<_>>(), others);
        prop_assert!(lines < 40 || all.lines().any(|line| is_content(&line)));
    }

    /// No bytes stop a fold, and every record is counted once.
    #[test]
    fn any_bytes_are_counted(payloads in proptest::collection::vec(any::<Vec<u8>>(), 1..20)) {
        let records: Vec<Record> = payloads
            .into_iter()
            .enumerate()
            .map(|(seq, payload)| burnlog_projections::conformance::build::line("s", seq as u64, payload))
            .collect();
        let store = burnlog_projections::conformance::build::folded(&records);
        let counted: i64 = burnlog_projections::diagnostics(&store)
            .unwrap()
            .iter()
            .map(|row| row.understood + row.unknown + row.unreadable)
            .sum();
        prop_assert_eq!(counted, records.len() as i64);
    }
}
