//! Imported turns: what one says, in the form in which facts keep it, and the rows that it makes.

use super::record::{Coverage, Record, Usage};
use crate::calls::Call;
use crate::json::{Count, Flag};
use crate::sources::SourceRecord;
use crate::streams::Stream;
use crate::text::{Name, Tokens, instant_of, key_text};
use crate::tool_uses::ToolUse;
use burnlog_log::{Address, Timestamp};

/// A turn: of Codex all calls of one turn of the user, else one call.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(crate) struct ImportedTurn {
    /// The message id; of Codex the turn's.
    pub(crate) call: String,
    session: String,
    stream: String,
    at: Option<i64>,
    model: Option<String>,
    cwd: Option<String>,
    usage: [Option<i64>; 6],
    clamped: bool,
    stop_reason: Option<String>,
    sidechain: bool,
    agent: Option<String>,
    payload_prefix: i64,
    tools: Vec<ImportedTool>,
}

#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
struct ImportedTool {
    id: String,
    name: Option<String>,
    target: Option<String>,
    is_error: Option<bool>,
}

/// The most tool uses that a stored fact keeps: a fact has at most 1 MiB.
const FACT_TOOLS_MAX: usize = 512;

impl ImportedTurn {
    /// Returns the turn as a fact keeps it.
    pub(crate) fn to_fact(&self) -> Box<Self> {
        let mut turn = self.clone();
        turn.tools.truncate(FACT_TOOLS_MAX);
        Box::new(turn)
    }

    pub(super) fn of(fields: &Record<'_>, id: &str, stream: &Stream, record: &SourceRecord<'_>) -> Self {
        let own = |text: Option<&str>| text.map(|text| key_text(text).into_owned());
        let coverage = fields.fidelity.as_ref().and_then(|fidelity| fidelity.coverage.as_ref());
        let usage = fields.usage.as_ref();
        let subagent = fields.subagent.as_deref();
        let tools = fields.tools.iter().filter_map(|tool| {
            Some(ImportedTool {
                id: own(tool.id.as_deref().filter(|id| !id.is_empty()))?,
                name: own(tool.name.as_deref()),
                target: own(tool.target.as_deref()),
                is_error: tool.is_error.0,
            })
        });
        Self {
            call: key_text(id).into_owned(),
            session: stream.session.to_string(),
            stream: stream.stream.to_string(),
            at: fields.ts.as_deref().and_then(instant_of).map(Timestamp::as_micros),
            model: own(fields.model.as_deref().filter(|model| !model.is_empty())),
            cwd: own(fields.project.as_deref()),
            usage: usage.map(|usage| numbers(usage, coverage)).unwrap_or_default(),
            clamped: usage.is_some_and(|usage| counts(usage).iter().any(|count| count.clamped)),
            stop_reason: stop_reason(&stream.source, fields.stop_reason.as_deref()),
            sidechain: subagent.is_some_and(|subagent| subagent.sidechain.0 != Some(false)),
            agent: own(subagent.and_then(|subagent| subagent.agent.as_deref())),
            payload_prefix: i64::from_be_bytes(
                *record.payload_hash.0.first_chunk().expect("a hash has 32 bytes"),
            ),
            tools: tools.collect(),
        }
    }
}

fn counts(usage: &Usage<'_>) -> [Count; 6] {
    let writes = [usage.cache_write_5m, usage.cache_write_1h];
    [usage.input, usage.output, usage.cache_read, writes[0], writes[1], usage.reasoning]
}

/// The numbers that were told. Where nothing says which were, a reasoning of 0 is taken for an absent one.
fn numbers(usage: &Usage<'_>, coverage: Option<&Coverage<'_>>) -> [Option<i64>; 6] {
    let mut numbers = counts(usage).map(|count| count.value);
    let Some(coverage) = coverage else {
        numbers[5] = numbers[5].filter(|reasoning| *reasoning > 0);
        return numbers;
    };
    let writes = coverage.cache_write;
    let told = [coverage.input, coverage.output, coverage.cache_read, writes, writes, coverage.reasoning];
    for (number, Flag(told)) in numbers.iter_mut().zip(told) {
        *number = number.filter(|number| told != Some(false) || *number > 0);
    }
    numbers
}

/// Newer versions write stop reasons their own way, and `silent` where there was none.
fn stop_reason(source: &str, reason: Option<&str>) -> Option<String> {
    let reason = reason.filter(|reason| !matches!(*reason, "" | "silent"))?;
    let is_anthropic = matches!(source, "claude-code" | "anthropic-api");
    Some(key_text(&if is_anthropic { reason.replace('-', "_") } else { reason.to_owned() }).into_owned())
}

/// Returns the row of a turn under the key `call`.
pub(crate) fn call_of(turn: &ImportedTurn, source: &Name, call: String, place: Address) -> Call {
    let name = |text: &Option<String>| text.as_deref().map(Name::from);
    let [input, output, cache_read, cache_write_5m, cache_write_1h, reasoning] =
        turn.usage.map(|number| number.map(Tokens));
    let at = turn.at.map(Timestamp::from_micros);
    Call {
        source: source.clone(),
        call,
        request: None,
        model: name(&turn.model),
        input_tokens: input,
        output_tokens: output,
        cache_read_tokens: cache_read,
        cache_write_5m_tokens: cache_write_5m,
        cache_write_1h_tokens: cache_write_1h,
        reasoning_tokens: reasoning,
        stop_reason: name(&turn.stop_reason),
        // Codex names no reason; a turn that did not end was not written.
        complete: turn.stop_reason.is_some() || &**source == "codex",
        service_tier: None,
        speed: None,
        clamped: turn.clamped,
        kept_at: at,
        payload_prefix: turn.payload_prefix,
        place,
        session: Name::from(&*turn.session),
        stream: Name::from(&*turn.stream),
        seq: 0,
        copied: false,
        timestamp: at,
        cwd: name(&turn.cwd),
        branch: None,
        version: None,
        sidechain: turn.sidechain,
        agent: name(&turn.agent),
        contested: false,
        elsewhere: Vec::new(),
        forms: Vec::new(),
    }
}

/// Returns the rows of the tool uses of a turn. Neither half counts as seen: a raw record is kept before them.
pub(crate) fn tool_uses_of(
    turn: &ImportedTurn,
    source: &Name,
    place: Address,
) -> impl Iterator<Item = ToolUse> {
    turn.tools.iter().map(move |tool| {
        let mut row = ToolUse::unseen(source.clone(), tool.id.clone());
        row.call = Some(turn.call.clone());
        row.tool = tool.name.as_deref().map(Name::from);
        row.target = tool.target.as_deref().map(Name::from);
        row.session = Some(Name::from(&*turn.session));
        row.used_at = turn.at.map(Timestamp::from_micros);
        row.place = Some(place);
        row.is_error = tool.is_error;
        row
    })
}
