//! What calls cost: a table of list prices with dates, tiers by length and variants by speed. Integers only. What the table
//! does not name has no price; nothing is guessed from a name that looks alike.

use crate::queries::Usage;
use crate::rollups::Day;
use crate::text::Name;
use burnlog_log::{Error, ErrorKind, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::collections::HashMap;

/// The table that this program brings along.
const BUILT_IN: &str = include_str!("prices.json");
const FORMAT: u32 = 1;
const MILLION: u128 = 1_000_000;
/// The lengths of input from which any provider charges more; sums are kept apart by them.
pub const LENGTHS: [i64; 5] = [100_000, 128_000, 200_000, 256_000, 272_000];

/// Money in billionths of a US dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize)]
#[serde(transparent)]
pub struct NanoUsd(pub i64);

impl NanoUsd {
    /// Adds; saturates.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// What of a call decides its price beside model, day and tokens.
///
/// Text form: nothing for the usual price; `over 200000` for the greatest of [`LENGTHS`] that the input exceeds, the speed or
/// service tier where it is not the usual one, `over 200000 fast` for both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PriceClass {
    /// The greatest of [`LENGTHS`] that the input, cached or not, exceeds; 0 for none.
    pub over: i64,
    /// `fast`, `batch`, …; empty for the usual one.
    pub variant: String,
}

impl PriceClass {
    /// Returns the class of a call: its input tokens (all that the model read), its speed and its service tier.
    pub fn of_call(input_tokens: i64, speed: Option<&str>, service_tier: Option<&str>) -> Self {
        let usual = ["", "standard", "default", "auto"];
        let variant = [speed, service_tier].into_iter().flatten().find(|name| !usual.contains(name));
        let over = LENGTHS.into_iter().rev().find(|length| input_tokens > *length).unwrap_or(0);
        Self { over, variant: variant.unwrap_or_default().to_owned() }
    }

    /// Returns the text form as a name; of the usual class without writing anything.
    pub(crate) fn to_name(&self) -> Name {
        if *self == Self::default() { Name::default() } else { Name::from(self.to_string().as_str()) }
    }

    /// Parses the text form. What has no such form is a variant, and so has no price.
    pub fn parse(text: &str) -> Self {
        let Some(rest) = text.strip_prefix("over ") else {
            return Self { over: 0, variant: text.to_owned() };
        };
        let (digits, variant) = rest.split_once(' ').unwrap_or((rest, ""));
        match digits.parse() {
            Ok(over) => Self { over, variant: variant.to_owned() },
            Err(_) => Self { over: 0, variant: text.to_owned() },
        }
    }
}

impl std::fmt::Display for PriceClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.over, self.variant.as_str()) {
            (0, variant) => f.write_str(variant),
            (over, "") => write!(f, "over {over}"),
            (over, variant) => write!(f, "over {over} {variant}"),
        }
    }
}

/// Prices in nano-dollars for a million tokens. A cache price that is not given is that of input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct Rates {
    input: u64,
    output: u64,
    cache_read: Option<u64>,
    cache_write_5m: Option<u64>,
    cache_write_1h: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct LengthTier {
    tokens: i64,
    #[serde(flatten)]
    rates: Rates,
}

#[derive(Debug, Deserialize)]
struct Price {
    models: Vec<String>,
    /// The first day, `2026-02-12`; from always where absent.
    from: Option<String>,
    #[serde(flatten)]
    rates: Rates,
    /// Rates for inputs that are longer, by ascending length.
    #[serde(default)]
    over: Vec<LengthTier>,
    /// Rates of other speeds and service tiers.
    #[serde(default)]
    variants: BTreeMap<String, Rates>,
}

#[derive(Debug, Deserialize)]
struct File {
    format: u32,
    retrieved: String,
    #[serde(default)]
    sources: Vec<String>,
    prices: Vec<Price>,
}

/// A table of prices.
#[derive(Debug)]
pub struct PriceTable {
    retrieved: String,
    sources: Vec<String>,
    prices: Vec<Price>,
    /// Model to prices by descending first day.
    by_model: HashMap<String, Vec<(Day, usize)>>,
}

impl PriceTable {
    /// Returns the table that this program brings along.
    pub fn built_in() -> Self {
        Self::parse(BUILT_IN.as_bytes()).expect("the table was parsed by a test")
    }

    /// Parses a table; its form is that of the built-in one (`docs/prices.md`). `Invalid` tells what is wrong.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let invalid = |message: String| Error::new(ErrorKind::Invalid, "read price table", message);
        let file: File = serde_json::from_slice(text).map_err(|error| invalid(error.to_string()))?;
        if file.format != FORMAT {
            let message = format!("the table has format {}, this program reads {FORMAT}", file.format);
            return Err(Error::new(ErrorKind::Unsupported, "read price table", message));
        }
        let mut by_model: HashMap<String, Vec<(Day, usize)>> = HashMap::new();
        for (position, price) in file.prices.iter().enumerate() {
            let from = match &price.from {
                None => Day::default(),
                Some(text) => Day::parse(text).ok_or_else(|| invalid(format!("{text:?} is not a day")))?,
            };
            if let Some(tier) = price.over.iter().find(|tier| !LENGTHS.contains(&tier.tokens)) {
                let message = format!("a tier over {} tokens; it may be over {LENGTHS:?}", tier.tokens);
                return Err(invalid(message));
            }
            if !price.over.is_sorted_by_key(|tier| tier.tokens) {
                return Err(invalid(format!("the tiers of {:?} are not ascending", price.models)));
            }
            for model in &price.models {
                let known = by_model.entry(plain_name(model)).or_default();
                if known.iter().any(|(day, _)| *day == from) {
                    return Err(invalid(format!("{model} has two prices from the same day")));
                }
                known.push((from, position));
                known.sort_by_key(|(day, _)| std::cmp::Reverse(*day));
            }
        }
        let File { retrieved, sources, prices, .. } = file;
        Ok(Self { retrieved, sources, prices, by_model })
    }

    /// Returns when the prices were retrieved, as the table says.
    pub fn retrieved(&self) -> &str {
        &self.retrieved
    }

    /// Returns where the prices come from, as the table says.
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// Returns what calls of one model, day and class cost; `None` where the table has no price for them.
    pub fn cost(&self, model: &str, day: Day, class: &PriceClass, usage: &Usage) -> Option<NanoUsd> {
        let prices = self.by_model.get(&plain_name(model))?;
        // A call without a timestamp has the oldest price.
        let (_, position) = prices.iter().find(|(from, _)| *from <= day).or(prices.last())?;
        let price = &self.prices[*position];
        let rates = match class.variant.as_str() {
            "" => price.over.iter().rev().find(|tier| tier.tokens <= class.over).map(|tier| &tier.rates),
            variant => Some(price.variants.get(variant)?),
        };
        Some(rates.unwrap_or(&price.rates).cost(usage))
    }
}

impl Rates {
    fn cost(&self, usage: &Usage) -> NanoUsd {
        let parts = [
            (usage.input_tokens, self.input),
            (usage.output_tokens, self.output),
            (usage.cache_read_tokens, self.cache_read.unwrap_or(self.input)),
            (usage.cache_write_5m_tokens, self.cache_write_5m.unwrap_or(self.input)),
            (usage.cache_write_1h_tokens, self.cache_write_1h.or(self.cache_write_5m).unwrap_or(self.input)),
        ];
        let sum: u128 = parts
            .iter()
            .map(|(tokens, rate)| u128::try_from(tokens.0).unwrap_or(0) * u128::from(*rate))
            .sum();
        NanoUsd(i64::try_from((sum + MILLION / 2) / MILLION).unwrap_or(i64::MAX))
    }
}

/// A model's name without provider, date and marks of context length, in lower case and with dots as dashes:
/// `anthropic/claude-sonnet-4.5`, `claude-sonnet-4-5-20250929` and `claude-sonnet-4-5[1m]` are one.
fn plain_name(model: &str) -> String {
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = name.split(['[', '@', ':']).next().unwrap_or(name);
    let name = name.trim().to_ascii_lowercase().replace('.', "-");
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match name.rsplit_once('-') {
        Some((rest, date)) if date.len() == 8 && is_digits(date) => rest.to_owned(),
        Some((rest, "latest")) => rest.to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Tokens;

    fn usage(input: i64, output: i64, cache_read: i64, write_5m: i64, write_1h: i64) -> Usage {
        Usage {
            calls: 1,
            input_tokens: Tokens(input),
            output_tokens: Tokens(output),
            cache_read_tokens: Tokens(cache_read),
            cache_write_5m_tokens: Tokens(write_5m),
            cache_write_1h_tokens: Tokens(write_1h),
            ..Usage::default()
        }
    }

    fn day(text: &str) -> Day {
        Day::parse(text).unwrap()
    }

    #[test]
    fn a_million_tokens_cost_the_list_price() {
        let table = PriceTable::built_in();
        let million = usage(1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000);
        let cost = table.cost("claude-opus-4-6", day("2026-03-01"), &PriceClass::default(), &million);
        // 5 + 25 + 0.50 + 6.25 + 10 dollars.
        assert_eq!(cost, Some(NanoUsd(46_750_000_000)));
    }

    #[test]
    fn length_and_speed_change_the_price() {
        let table = PriceTable::built_in();
        let million = usage(1_000_000, 0, 0, 0, 0);
        let cost = |model: &str, class: &str| {
            table.cost(model, day("2026-03-01"), &PriceClass::parse(class), &million).map(|cost| cost.0)
        };
        assert_eq!(cost("claude-sonnet-4-5", ""), Some(3_000_000_000));
        assert_eq!(cost("claude-sonnet-4-5", "over 128000"), Some(3_000_000_000));
        assert_eq!(cost("claude-sonnet-4-5", "over 200000"), Some(6_000_000_000));
        assert_eq!(cost("claude-sonnet-4-5", "over 272000"), Some(6_000_000_000));
        assert_eq!(cost("claude-opus-5", "fast"), Some(10_000_000_000));
        assert_eq!(cost("claude-sonnet-4-5", "fast"), None, "no price is better than a wrong one");
    }

    #[test]
    fn names_of_one_model_are_one() {
        for name in ["claude-sonnet-4-5-20250929", "anthropic/claude-sonnet-4.5", "claude-sonnet-4-5[1m]"] {
            assert_eq!(plain_name(name), "claude-sonnet-4-5");
        }
        let table = PriceTable::built_in();
        let one = usage(1, 1, 0, 0, 0);
        for unknown in ["claude-sonnet-99", "", "<synthetic>", "gpt-5.3-codex-spark"] {
            assert_eq!(table.cost(unknown, day("2026-03-01"), &PriceClass::default(), &one), None);
        }
    }

    #[test]
    fn the_price_of_the_day_counts() {
        let text = br#"{"format":1,"retrieved":"2026-01-01","prices":[
            {"models":["m"],"input":1000000,"output":0},
            {"models":["m"],"from":"2026-02-01","input":2000000,"output":0}]}"#;
        let table = PriceTable::parse(text).unwrap();
        let one = usage(1_000_000, 0, 0, 0, 0);
        let cost = |text: &str| table.cost("m", day(text), &PriceClass::default(), &one).map(|cost| cost.0);
        assert_eq!(cost("2026-01-31"), Some(1_000_000));
        assert_eq!(cost("2026-02-01"), Some(2_000_000));
        assert_eq!(cost(""), Some(1_000_000), "without a timestamp the oldest price");
    }

    #[test]
    fn tables_that_make_no_sense_are_refused() {
        for (text, says) in [
            ("{}", "missing field"),
            (r#"{"format":2,"retrieved":"","prices":[]}"#, "format 2"),
            (
                r#"{"format":1,"retrieved":"","prices":[{"models":["m"],"from":"soon","input":1,"output":1}]}"#,
                "soon",
            ),
            (
                r#"{"format":1,"retrieved":"","prices":[{"models":["m"],"input":1,"output":1},{"models":["M"],"input":1,"output":1}]}"#,
                "two prices",
            ),
            (
                r#"{"format":1,"retrieved":"","prices":[{"models":["m"],"input":1,"output":1,"over":[{"tokens":5,"input":1,"output":1}]}]}"#,
                "over 5 tokens",
            ),
        ] {
            let error = PriceTable::parse(text.as_bytes()).unwrap_err();
            assert!(error.message().contains(says), "{error}");
        }
    }

    #[test]
    fn classes_have_one_text_form() {
        for text in ["", "fast", "over 200000", "over 272000 batch"] {
            assert_eq!(PriceClass::parse(text).to_string(), text);
        }
        let class = PriceClass::of_call(250_000, Some("standard"), Some("batch"));
        assert_eq!(class.to_string(), "over 200000 batch");
        assert_eq!(PriceClass::of_call(100_000, None, None), PriceClass::default());
    }
}
