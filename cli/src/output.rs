//! How rows are printed: tables that fit the terminal, JSON lines, CSV. Rows are printed as they come; only the
//! first few hundred are looked at to choose the widths of a table.

use crate::args::Global;
use crate::table::{Chosen, cells, fit};
pub(crate) use crate::table::{Column, Cut};
use crate::zone;
use burnlog_log::Timestamp;
use serde::Serialize;
use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use unicode_width::UnicodeWidthStr;

/// How many rows decide on the widths of a table.
const SAMPLE_ROWS: usize = 200;
/// Prints the rows of one list.
pub(crate) struct Printer<R: 'static> {
    out: Form,
    columns: Vec<&'static Column<R>>,
    sample: Vec<[Vec<String>; 2]>,
    is_short: bool,
    widths: Option<Vec<usize>>,
    rows: u64,
    /// What is said of a table without rows.
    word: Option<&'static str>,
}

enum Form {
    Table(BufWriter<StdoutLock<'static>>),
    Json(BufWriter<StdoutLock<'static>>),
    Csv(Box<csv::Writer<StdoutLock<'static>>>),
}

impl<R: Serialize> Printer<R> {
    /// Starts a list in the form that the flags ask for.
    pub(crate) fn new(global: &Global, columns: &'static [Column<R>]) -> Self {
        Self::with_columns(global, columns.iter().collect())
    }

    /// As [`Printer::new`], with columns that were chosen.
    pub(crate) fn with_columns(global: &Global, columns: Vec<&'static Column<R>>) -> Self {
        let stdout = io::stdout().lock();
        let out = if global.json {
            Form::Json(BufWriter::new(stdout))
        } else if global.csv {
            Form::Csv(Box::new(csv::Writer::from_writer(stdout)))
        } else {
            Form::Table(BufWriter::new(stdout))
        };
        let word = Some("nothing to list").filter(|_| !global.quiet);
        Self { out, columns, sample: Vec::new(), is_short: false, widths: None, rows: 0, word }
    }

    /// For a list whose caller says what it means that there are no rows.
    pub(crate) fn without_word(self) -> Self {
        Self { word: None, ..self }
    }

    /// For a list of which something else is said when it has no rows.
    pub(crate) fn with_word(self, word: &'static str) -> Self {
        Self { word: self.word.map(|_| word), ..self }
    }

    /// Prints one row, or keeps it until the widths are known.
    pub(crate) fn row(&mut self, row: &R) -> anyhow::Result<()> {
        self.rows += 1;
        match &mut self.out {
            Form::Json(out) => {
                serde_json::to_writer(&mut *out, row)?;
                out.write_all(b"\n")?;
            }
            Form::Csv(out) => out.serialize(row)?,
            Form::Table(_) => {
                if self.widths.is_some() {
                    self.line(&cells(&self.columns, row, self.is_short))?;
                } else {
                    self.sample.push([false, true].map(|is_short| cells(&self.columns, row, is_short)));
                    if self.sample.len() == SAMPLE_ROWS {
                        self.settle()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Prints what is left and returns the number of rows. A table without rows is told of beside it: whoever reads it sees that
    /// nothing failed.
    pub(crate) fn finish(mut self) -> anyhow::Result<u64> {
        if let (Form::Table(_), 0, Some(word)) = (&self.out, self.rows, self.word) {
            tell(&format!("burnlog: {word}"));
        }
        if matches!(self.out, Form::Table(_)) && self.widths.is_none() && self.rows > 0 {
            self.settle()?;
        }
        match &mut self.out {
            Form::Table(out) | Form::Json(out) => out.flush()?,
            Form::Csv(out) => out.flush()?,
        }
        Ok(self.rows)
    }

    /// Chooses columns, cells and widths from the sample, then prints the heading and the sample.
    fn settle(&mut self) -> io::Result<()> {
        let sample = std::mem::take(&mut self.sample);
        let Chosen { columns, is_short, widths, rows } = Chosen::of(&self.columns, &sample, terminal_width());
        (self.columns, self.is_short, self.widths) = (columns, is_short, Some(widths));
        let titles: Vec<String> = self.columns.iter().map(|column| column.title.to_owned()).collect();
        self.line(&titles)?;
        rows.iter().try_for_each(|cells| self.line(cells))
    }

    fn line(&mut self, cells: &[String]) -> io::Result<()> {
        let Form::Table(out) = &mut self.out else { return Ok(()) };
        let widths = self.widths.as_deref().unwrap_or_default();
        let mut text = String::new();
        for ((cell, width), column) in cells.iter().zip(widths).zip(&self.columns) {
            let cell = match column.shrinks {
                Some(cut) => fit(cell, *width, cut),
                None => cell.clone(),
            };
            let padding = " ".repeat(width.saturating_sub(cell.width()));
            let (before, after) = if column.right { (padding.as_str(), "") } else { ("", padding.as_str()) };
            text.extend([before, &cell, after, "  "]);
        }
        writeln!(out, "{}", text.trim_end())
    }
}

/// Prints one object: JSON as is, else the lines that `text` makes.
pub(crate) fn print_one<T: Serialize>(
    global: &Global,
    value: &T,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if global.json {
        serde_json::to_writer(&mut out, value)?;
        out.write_all(b"\n")?;
    } else {
        out.write_all(text().as_bytes())?;
    }
    out.flush()?;
    Ok(())
}

/// Says something to the person on standard error, unless quiet.
pub(crate) fn say(global: &Global, text: &str) {
    if !global.quiet {
        tell(text);
    }
}

fn tell(text: &str) {
    // Nobody is left to tell when standard error fails.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// `1234567` as `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number in at most five characters and its thousands: `1234567` as `1.23M`.
pub(crate) fn short_count(number: u64) -> String {
    let mut value = number as f64;
    for unit in ["", "k", "M", "G"] {
        if value < 999.5 {
            let digits = if unit.is_empty() || value >= 99.95 {
                0
            } else if value >= 9.995 {
                1
            } else {
                2
            };
            return format!("{value:.digits$}{unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.1}T")
}

/// `count` and the noun in the right number: `1 file`, `2 files`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// An instant to the minute, in the zone of `--tz`; nothing where there is none.
pub(crate) fn minute(instant: Option<Timestamp>) -> String {
    instant.map(|instant| zone::shown(instant).chars().take(16).collect()).unwrap_or_default()
}

/// Prints one line on standard output.
pub(crate) fn print_line(line: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(())
}

/// Bytes in the unit that leaves up to four digits, powers of ten.
pub(crate) fn bytes(number: u64) -> String {
    let mut value = number as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            return if unit == "B" || value >= 99.95 {
                format!("{value:.0} {unit}")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// The width that tables may take: `COLUMNS`, else the terminal's, else no limit.
fn terminal_width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    columns.unwrap_or_else(|| {
        if !io::stdout().is_terminal() {
            return usize::MAX;
        }
        terminal_size::terminal_size().map_or(usize::MAX, |(width, _)| usize::from(width.0))
    })
}

/// An instant to the second, in the zone of `--tz`; nothing where there is none.
pub(crate) fn second(instant: Option<Timestamp>) -> String {
    instant.map(zone::shown).unwrap_or_default()
}

/// A text of several lines of which nothing can do more on a terminal than be read: line breaks and tabs stay, other
/// control characters and those that turn the direction of writing round become U+FFFD.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let turns = |it: char| matches!(it, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let is_bad = |it: char| (it.is_control() && !matches!(it, '\n' | '\t')) || turns(it);
    if text.contains(is_bad) {
        Cow::Owned(text.replace("\r\n", "\n").replace(is_bad, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Replaces control characters, which session files are free to contain, so that they cannot reach the terminal.
pub(crate) fn clean(text: String) -> String {
    if text.chars().any(char::is_control) { text.replace(char::is_control, "\u{fffd}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_bytes_get_a_unit() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0, 999, 1000, 99_950, 263_000_000].map(bytes),
            ["0 B", "999 B", "1.0 kB", "100 kB", "263 MB"]
        );
        assert_eq!(counted(1, "file"), "1 file");
        assert_eq!(
            [0, 999, 1000, 12_345, 999_499, 999_500, 1_354_886_930].map(short_count),
            ["0", "999", "1.00k", "12.3k", "999k", "1.00M", "1.35G"]
        );
    }

    #[test]
    fn nothing_printable_moves_the_cursor_or_turns_the_writing_round() {
        assert_eq!(printable("a\r\nb\tc\u{1b}[0m\u{9b}2J\u{202e}"), "a\nb\tc\u{fffd}[0m\u{fffd}2J\u{fffd}");
        assert!(matches!(printable("a\nb"), Cow::Borrowed(_)));
    }

    #[test]
    fn no_cell_reaches_the_terminal_as_more_than_text() {
        assert_eq!(clean("a\u{1b}[31mb".to_owned()), "a\u{fffd}[31mb");
    }
}
