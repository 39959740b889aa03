//! The laws of rows: merges are joins, sums know no order.

use burnlog_log::{Address, Timestamp};
use burnlog_projections::{
    Call, Compaction, Conflict, Content, Day, Diagnostic, Extent, Feed, Merge, Name, Notice, Preview,
    Relationship, Rollup, Session, Stamp, Stream, StreamFeed, Tokens, ToolUse, UsageDay, UserTurn,
};
use proptest::prelude::*;

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
