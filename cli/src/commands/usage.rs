//! `burnlog usage`: what calls add up to, by any dimensions, and what they cost at list prices.

use super::Context;
use crate::args::{self, By};
use crate::filter;
use crate::output::{Column, Cut, Printer, count, counted, print_line, say, short_count};
use anyhow::Context as _;
use burnlog_log::{Error, ErrorKind};
use burnlog_projections::{
    Day, Filter, NanoUsd, PriceClass, PriceTable, Queries, Usage, UsageBy, UsageGroup,
};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use std::collections::BTreeMap;
use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

/// How wide a full bar is.
const BAR_WIDTH: usize = 20;

/// One line of `usage --json`: the values of the dimensions, then the sums.
pub(super) struct Group {
    key: Vec<(By, String)>,
    usage: Usage,
    /// Of the calls that have a price; absent when none has.
    cost: Option<NanoUsd>,
    unpriced_calls: i64,
    /// Of the largest group, 0 to 1.
    share: f64,
    /// Of the row of the total, the dimension whose column says what it is.
    total_under: Option<By>,
}

/// What calls cost as far as prices are known.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    priced: Option<NanoUsd>,
    unpriced_calls: i64,
}

pub(super) fn run(context: &Context, arguments: &args::Usage) -> anyhow::Result<ExitCode> {
    let store = context.queries()?;
    let filter = filter::of_arguments(&arguments.filter, &*store)?;
    let prices = prices(context, arguments.prices.clone())?;
    let by = distinct(&arguments.by);
    let (mut groups, total) = sums(&*store, &filter, &by, &prices)?;
    order(&mut groups, &by, arguments.cost);
    let left_out = groups.len().saturating_sub(arguments.filter.limit.unwrap_or(usize::MAX));
    groups.truncate(arguments.filter.limit.unwrap_or(usize::MAX));
    if context.global.json {
        let mut printer = Printer::new(&context.global, &[]);
        groups.iter().try_for_each(|group| printer.row(group))?;
        printer.finish()?;
        return print_line(&serde_json::json!({ "total": total }).to_string()).map(|()| ExitCode::SUCCESS);
    }
    let unpriced = total.unpriced_calls;
    let mut printer = Printer::with_columns(&context.global, columns(&by, arguments.cost));
    groups.iter().try_for_each(|group| printer.row(group))?;
    if !context.global.csv && groups.len() > 1 {
        // Says so where the first dimension would stand.
        printer.row(&Group { total_under: by.first().copied(), ..total })?;
    }
    printer.finish()?;
    if left_out > 0 {
        let groups = counted(left_out as u64, "group");
        say(&context.global, &format!("burnlog: {groups} more in the total than --limit shows"));
    }
    if arguments.cost && !context.global.csv && unpriced > 0 {
        let calls = count(unpriced.max(0) as u64);
        let retrieved = prices.retrieved();
        print_line(&format!(
            "unpriced: {calls} calls of models, speeds or tiers that the price table of {retrieved} does not have"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The table of `--prices`, else of `prices.json` in the host's state, else the built-in one.
pub(super) fn prices(context: &Context, given: Option<PathBuf>) -> anyhow::Result<PriceTable> {
    let own = context.environment.home.prices();
    let path = given.or_else(|| own.exists().then_some(own));
    let Some(path) = path else { return Ok(PriceTable::built_in()) };
    let text = std::fs::read(&path).map_err(|error| {
        let message = "the price table cannot be read";
        Error::new(ErrorKind::Invalid, "read price table", message).at(path.display()).caused_by(error)
    })?;
    Ok(PriceTable::parse(&text).map_err(|error| error.at(path.display()))?)
}

/// The sums of each group, and the total in which every call is once.
pub(super) fn sums(
    store: &dyn Queries,
    filter: &Filter,
    by: &[By],
    prices: &PriceTable,
) -> anyhow::Result<(Vec<Group>, Group)> {
    let groups = groups(store, filter, by, prices)?;
    let total =
        self::groups(store, filter, &[], prices)?.pop().context("a total without calls is a total")?;
    Ok((groups, total))
}

fn distinct(by: &[By]) -> Vec<By> {
    let mut kept = Vec::new();
    for one in by {
        if !kept.contains(one) {
            kept.push(*one);
        }
    }
    kept
}

/// Sums by the dimensions, with costs: prices differ by model, day and price class, so these are asked for as well.
fn groups(
    store: &dyn Queries,
    filter: &Filter,
    by: &[By],
    prices: &PriceTable,
) -> anyhow::Result<Vec<Group>> {
    let mut dimensions: Vec<UsageBy> = by.iter().map(|by| by.dimension()).collect();
    let count = dimensions.len();
    dimensions.extend([UsageBy::Model, UsageBy::Day, UsageBy::PriceClass]);
    let mut sums: BTreeMap<Vec<String>, (Usage, Cost)> = BTreeMap::new();
    if by.is_empty() {
        sums.insert(Vec::new(), Default::default());
    }
    for UsageGroup { mut key, usage } in store.usage(filter, &dimensions)? {
        let priced = key.split_off(count);
        let day = Day::parse(&priced[1]).unwrap_or_default();
        let cost = prices.cost(&priced[0], day, &PriceClass::parse(&priced[2]), &usage);
        let (sum, costs) = sums.entry(key).or_default();
        sum.add(&usage);
        match cost {
            Some(cost) => costs.priced = Some(costs.priced.unwrap_or_default().plus(cost)),
            None => costs.unpriced_calls += usage.calls,
        }
    }
    let group = |(key, (usage, cost)): (Vec<String>, (Usage, Cost))| Group {
        key: by.iter().copied().zip(key).collect(),
        usage,
        cost: cost.priced,
        unpriced_calls: cost.unpriced_calls,
        share: 0.0,
        total_under: None,
    };
    Ok(sums.into_iter().map(group).collect())
}

/// Times in their order, anything else by size; and how large each is beside the largest.
fn order(groups: &mut [Group], by: &[By], by_cost: bool) {
    let weight = |group: &Group| {
        if by_cost { group.cost.map_or(0, |cost| cost.0) } else { tokens(&group.usage) }
    };
    let largest = groups.iter().map(weight).max().unwrap_or(0).max(1);
    for group in &mut *groups {
        group.share = weight(group) as f64 / largest as f64;
    }
    if !matches!(by.first(), Some(By::Day | By::Week | By::Month)) {
        groups.sort_by_key(|group| std::cmp::Reverse(weight(group)));
    }
}

fn tokens(usage: &Usage) -> i64 {
    let parts = [
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_5m_tokens,
        usage.cache_write_1h_tokens,
    ];
    parts.iter().fold(0, |sum, tokens| sum.saturating_add(tokens.0))
}

fn cache_write(usage: &Usage) -> i64 {
    usage.cache_write_5m_tokens.0.saturating_add(usage.cache_write_1h_tokens.0)
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Project => "project",
            Self::Session => "session",
            Self::Source => "source",
            Self::Host => "host",
            Self::Branch => "branch",
        }
    }

    fn dimension(self) -> UsageBy {
        match self {
            Self::Model => UsageBy::Model,
            Self::Day => UsageBy::Day,
            Self::Week => UsageBy::Week,
            Self::Month => UsageBy::Month,
            Self::Project => UsageBy::Project,
            Self::Session => UsageBy::Session,
            Self::Source => UsageBy::Source,
            Self::Host => UsageBy::Host,
            Self::Branch => UsageBy::Branch,
        }
    }

    fn column(self) -> &'static Column<Group> {
        static MODEL: Column<Group> =
            Column::shrinking("model", Cut::End, |group: &Group| group.value(By::Model)).told_by(20);
        static DAY: Column<Group> = Column::text("day", |group| group.value(By::Day));
        static WEEK: Column<Group> = Column::text("week", |group| group.value(By::Week));
        static MONTH: Column<Group> = Column::text("month", |group| group.value(By::Month));
        static PROJECT: Column<Group> =
            Column::shrinking("project", Cut::Start, |group: &Group| group.value(By::Project)).told_by(20);
        static SESSION: Column<Group> =
            Column::shrinking("session", Cut::End, |group: &Group| group.value(By::Session)).told_by(9);
        static SOURCE: Column<Group> = Column::text("source", |group| group.value(By::Source));
        static HOST: Column<Group> = Column::shrinking("host", Cut::End, |group| group.value(By::Host));
        static BRANCH: Column<Group> = Column::shrinking("branch", Cut::End, |group| group.value(By::Branch));
        match self {
            Self::Model => &MODEL,
            Self::Day => &DAY,
            Self::Week => &WEEK,
            Self::Month => &MONTH,
            Self::Project => &PROJECT,
            Self::Session => &SESSION,
            Self::Source => &SOURCE,
            Self::Host => &HOST,
            Self::Branch => &BRANCH,
        }
    }
}

impl Group {
    /// The value of a dimension, for people.
    fn value(&self, by: By) -> String {
        match self.key.iter().position(|(dimension, _)| *dimension == by) {
            Some(at) if self.key[at].1.is_empty() => "(none)".to_owned(),
            Some(at) => self.key[at].1.clone(),
            None if self.total_under == Some(by) => "total".to_owned(),
            None => String::new(),
        }
    }
}

impl Serialize for Group {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Group", self.key.len() + 9)?;
        for (by, value) in &self.key {
            fields.serialize_field(by.name(), &Some(value).filter(|value| !value.is_empty()))?;
        }
        let usage = &self.usage;
        fields.serialize_field("calls", &usage.calls)?;
        fields.serialize_field("incomplete_calls", &usage.incomplete_calls)?;
        fields.serialize_field("input_tokens", &usage.input_tokens)?;
        fields.serialize_field("output_tokens", &usage.output_tokens)?;
        fields.serialize_field("cache_read_tokens", &usage.cache_read_tokens)?;
        fields.serialize_field("cache_write_tokens", &cache_write(usage))?;
        fields.serialize_field("reasoning_tokens", &usage.reasoning_tokens)?;
        fields.serialize_field("cost_nanousd", &self.cost)?;
        fields.serialize_field("unpriced_calls", &self.unpriced_calls)?;
        fields.end()
    }
}

/// The columns: the dimensions, the sums, the cost when asked for, a bar when somebody looks at it.
fn columns(by: &[By], with_cost: bool) -> Vec<&'static Column<Group>> {
    static SUMS: [Column<Group>; 5] = [
        Column::number("calls", |group: &Group| number(group.usage.calls)),
        Column::number("input", |group: &Group| number(group.usage.input_tokens.0))
            .or_short(|group: &Group| short(group.usage.input_tokens.0)),
        Column::number("cache read", |group: &Group| number(group.usage.cache_read_tokens.0))
            .or_short(|group: &Group| short(group.usage.cache_read_tokens.0)),
        Column::number("cache write", |group: &Group| number(cache_write(&group.usage)))
            .or_short(|group: &Group| short(cache_write(&group.usage))),
        Column::number("output", |group: &Group| floor(group) + &number(group.usage.output_tokens.0))
            .or_short(|group: &Group| floor(group) + &short(group.usage.output_tokens.0)),
    ];
    // What is left out of the output, or has no price, is left out of the cost.
    static COST: Column<Group> = Column::number("cost", |group| match group.cost {
        None if group.unpriced_calls == 0 => "-".to_owned(),
        None => "unpriced".to_owned(),
        Some(cost) if group.unpriced_calls + group.usage.incomplete_calls == 0 => dollars(cost),
        Some(cost) => format!("≥{}", dollars(cost)),
    });
    static BAR: Column<Group> = Column::text("", |group: &Group| bar(group.share)).spare();
    let mut columns: Vec<&'static Column<Group>> = by.iter().map(|by| by.column()).collect();
    columns.extend(&SUMS);
    if with_cost {
        columns.push(&COST);
    }
    if stdout().is_terminal() {
        columns.push(&BAR);
    }
    columns
}

fn number(number: i64) -> String {
    count(number.max(0) as u64)
}

fn short(number: i64) -> String {
    short_count(number.max(0) as u64)
}

/// Without a final row the output of a call is a floor.
fn floor(group: &Group) -> String {
    if group.usage.incomplete_calls > 0 { "≥" } else { "" }.to_owned()
}

/// Dollars and cents; of less than a cent four digits.
fn dollars(cost: NanoUsd) -> String {
    let nanos = cost.0.max(0) as u64;
    if nanos > 0 && nanos < 10_000_000 {
        return format!("$0.{:04}", nanos.div_ceil(100_000));
    }
    let cents = (nanos + 5_000_000) / 10_000_000;
    format!("${}.{:02}", count(cents / 100), cents % 100)
}

/// Eighths of blocks.
fn bar(share: f64) -> String {
    let eighths = (share.clamp(0.0, 1.0) * (BAR_WIDTH * 8) as f64).round() as usize;
    let mut text = "█".repeat(eighths / 8);
    text.push_str(["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_rounded_to_what_can_be_read() {
        for (nanos, text) in [
            (0, "$0.00"),
            (1, "$0.0001"),
            (2_550_000, "$0.0026"),
            (10_000_000, "$0.01"),
            (1_234_567_890_000, "$1,234.57"),
        ] {
            assert_eq!(dollars(NanoUsd(nanos)), text);
        }
    }

    #[test]
    fn bars_end_in_eighths() {
        assert_eq!(bar(1.0), "█".repeat(BAR_WIDTH));
        assert_eq!(bar(0.0), "");
        assert_eq!(bar(1.5 / BAR_WIDTH as f64), "█▌");
    }
}
