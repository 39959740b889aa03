//! Which call asked for a tool, where a source tells of a call only behind what it asked for: resolved from the facts of the
//! rollout in which the tool use is at home, and written into its row, whose other columns come from lines alone.

use crate::resolved::Change;
use crate::rows;
use crate::slice;
use crate::store::FoldTransaction;
use crate::table::{Row, Value};
use crate::text::Name;
use crate::tool_uses::ToolUse;
use burnlog_log::{Address, Result};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What one group says of a tool use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolCall {
    /// The tool use.
    pub(crate) tool_use: String,
    /// The records that ask for it: several where a file was rewritten.
    pub(crate) places: Vec<Address>,
    /// The call; absent as long as nothing tells of it.
    pub(crate) call: Option<String>,
}

/// Writes into the rows of tool uses which call asked for them, as far as that changed. The rows are written already.
pub(crate) fn write(changes: &[Change], to: &mut dyn FoldTransaction) -> Result<()> {
    let mut told: BTreeMap<(&Name, &str), Vec<&ToolCall>> = BTreeMap::new();
    for change in changes {
        let before = &change.before.tool_calls;
        for tool in &change.after.tool_calls {
            let known = before.binary_search_by(|known| known.tool_use.cmp(&tool.tool_use));
            if known.is_ok_and(|at| before[at] == *tool) {
                continue;
            }
            told.entry((&change.source, &tool.tool_use)).or_default().push(tool);
        }
    }
    let told: Vec<_> = told.into_iter().collect();
    for told in told.chunks(slice::SLICE_VALUES / ToolUse::TABLE.columns.len()) {
        let keys = told.iter().flat_map(|((source, tool_use), _)| [text(source), text(tool_use)]);
        let stored = to.get(ToolUse::TABLE, &keys.collect::<Vec<_>>())?;
        let mut changed = Vec::new();
        for ((_, tools), row) in told.iter().zip(stored) {
            let Some(mut row) = row.map(ToolUse::read).transpose()? else { continue };
            // Of several files that have the tool use the one counts from which the row was taken.
            let at_home = |tool: &&&ToolCall| row.place.is_some_and(|place| tool.places.contains(&place));
            let Some(tool) = tools.iter().find(at_home) else { continue };
            if row.call != tool.call {
                row.call.clone_from(&tool.call);
                changed.push(row);
            }
        }
        rows::replace_rows(&changed, to)?;
    }
    Ok(())
}

fn text(text: &str) -> Value<'_> {
    Value::Text(Cow::Borrowed(text))
}
