//! Which columns of a table are shown, and how wide: so that it fits the terminal and its rows can be told apart.

use crate::output::clean;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Cells that give way are cut shorter than this only where nothing else can give way, unless their column says another width.
const CUT_WIDTH: usize = 12;
/// No column is cut shorter than this.
const WIDTH_MIN: usize = 8;

/// A column of a table.
pub(crate) struct Column<R> {
    /// The heading.
    pub(crate) title: &'static str,
    /// Numbers stand right, text left.
    pub(crate) right: bool,
    /// Which end of its cells is cut when the table is too wide; none where they are never cut.
    pub(crate) shrinks: Option<Cut>,
    /// The cell.
    pub(crate) cell: fn(&R) -> String,
    /// As many characters tell one cell from another; fewer are left only where nothing else can give way.
    pub(crate) tells: usize,
    /// The cell where others would be cut too short otherwise.
    pub(crate) short: Option<fn(&R) -> String>,
    /// Whether the column is left out before that.
    pub(crate) spare: bool,
}

/// Which end of a long cell is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The end: names.
    End,
    /// The start: paths.
    Start,
}

impl<R> Column<R> {
    /// A text column.
    pub(crate) const fn text(title: &'static str, cell: fn(&R) -> String) -> Self {
        Self { title, right: false, shrinks: None, cell, tells: CUT_WIDTH, short: None, spare: false }
    }

    /// A number column.
    pub(crate) const fn number(title: &'static str, cell: fn(&R) -> String) -> Self {
        Self { title, right: true, shrinks: None, cell, tells: CUT_WIDTH, short: None, spare: false }
    }

    /// The same with another cell where the table is too wide.
    pub(crate) const fn or_short(self, short: fn(&R) -> String) -> Self {
        Self { short: Some(short), ..self }
    }

    /// The same, left out where the table is too wide.
    pub(crate) const fn spare(self) -> Self {
        Self { spare: true, ..self }
    }

    /// The same, where so many characters tell one cell from another.
    pub(crate) const fn told_by(self, tells: usize) -> Self {
        Self { tells, ..self }
    }

    /// A text column that gives way.
    pub(crate) const fn shrinking(title: &'static str, cut: Cut, cell: fn(&R) -> String) -> Self {
        Self { title, right: false, shrinks: Some(cut), cell, tells: CUT_WIDTH, short: None, spare: false }
    }
}

/// What is shown of a table.
pub(crate) struct Chosen<R: 'static> {
    pub(crate) columns: Vec<&'static Column<R>>,
    pub(crate) is_short: bool,
    pub(crate) widths: Vec<usize>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl<R> Chosen<R> {
    /// Chooses for a table of rows, each in full and in short, that is to be no wider than `most`: all in full, else shorter
    /// numbers, else fewer columns, else both.
    pub(crate) fn of(columns: &[&'static Column<R>], sample: &[[Vec<String>; 2]], most: usize) -> Self {
        let forms = [(false, false), (true, false), (false, true), (true, true)];
        let as_form = |(is_short, is_less): (bool, bool)| {
            let is_kept = |column: &Column<R>| !is_less || !column.spare;
            let row = |forms: &[Vec<String>; 2]| {
                let cells = forms[usize::from(is_short)].iter().zip(columns);
                cells.filter(|(_, column)| is_kept(column)).map(|(cell, _)| cell.clone()).collect()
            };
            let rows: Vec<Vec<String>> = sample.iter().map(row).collect();
            let columns: Vec<_> = columns.iter().copied().filter(|column| is_kept(column)).collect();
            Self { is_short, widths: widths_of(&columns, &rows), columns, rows }
        };
        let fitting = forms.into_iter().map(as_form).find(|it| fits(&it.widths, &it.columns, most));
        let mut chosen = fitting.unwrap_or_else(|| as_form((true, true)));
        shrink(&mut chosen.widths, &chosen.columns, most);
        chosen
    }
}

pub(crate) fn cells<R>(columns: &[&Column<R>], row: &R, is_short: bool) -> Vec<String> {
    let cell = |column: &Column<R>| column.short.filter(|_| is_short).unwrap_or(column.cell);
    columns.iter().map(|column| clean(cell(column)(row))).collect()
}

/// How wide titles and cells are.
fn widths_of<R>(columns: &[&Column<R>], rows: &[Vec<String>]) -> Vec<usize> {
    let mut widths: Vec<usize> = columns.iter().map(|column| column.title.width()).collect();
    for cells in rows {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = (*width).max(cell.width());
        }
    }
    widths
}

/// The width of a table.
fn total(widths: impl ExactSizeIterator<Item = usize>) -> usize {
    let gaps = 2 * widths.len().saturating_sub(1);
    widths.sum::<usize>() + gaps
}

/// Whether a table is no wider than `most` once its cells are cut as far as they can be and still tell one thing from another.
fn fits<R>(widths: &[usize], columns: &[&Column<R>], most: usize) -> bool {
    let cut = |(width, column): (&usize, &&Column<R>)| {
        if column.shrinks.is_some() { (*width).min(column.tells) } else { *width }
    };
    total(widths.iter().zip(columns).map(cut)) <= most
}

/// Takes width from the columns that give way, first from the one with the most to give: as far as their cells still tell one
/// from another, and then on.
fn shrink<R>(widths: &mut [usize], columns: &[&Column<R>], most: usize) {
    while total(widths.iter().copied()) > most {
        let widest = |least: fn(&Column<R>) -> usize| {
            let gives = |i: &usize| columns[*i].shrinks.is_some() && widths[*i] > least(columns[*i]);
            (0..widths.len()).filter(gives).max_by_key(|i| widths[*i] - least(columns[*i]))
        };
        let Some(widest) = widest(|column| column.tells).or_else(|| widest(|_| WIDTH_MIN)) else { return };
        widths[widest] -= 1;
    }
}

/// Cuts a cell to a width, with an ellipsis where something is missing.
pub(crate) fn fit(cell: &str, width: usize, cut: Cut) -> String {
    if cell.width() <= width {
        return cell.to_owned();
    }
    let mut room = width.saturating_sub(1);
    let mut fits = |char: &char| {
        let needed = char.width().unwrap_or(0);
        let yes = needed <= room;
        room = room.saturating_sub(needed);
        yes
    };
    match cut {
        Cut::End => cell.chars().take_while(&mut fits).chain(['…']).collect(),
        Cut::Start => {
            let mut kept: Vec<char> = cell.chars().rev().take_while(&mut fits).collect();
            kept.push('…');
            kept.into_iter().rev().collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{count, short_count};

    #[test]
    fn a_table_that_is_too_wide_loses_digits_then_columns_and_names_last() {
        #[derive(serde::Serialize)]
        struct Row;
        static NAME: Column<Row> = Column::shrinking("name", Cut::End, |_: &Row| "n".repeat(30)).told_by(10);
        static SUM: Column<Row> =
            Column::number("sum", |_: &Row| count(1_234_567)).or_short(|_| short_count(1_234_567));
        static BAR: Column<Row> = Column::text("", |_: &Row| "█".repeat(6)).spare();
        let settled = |most: usize| {
            let columns = vec![&NAME, &SUM, &BAR];
            let sample = vec![[false, true].map(|is_short| cells(&columns, &Row, is_short))];
            let chosen = Chosen::of(&columns, &sample, most);
            (chosen.widths, chosen.is_short, chosen.columns.len())
        };
        assert_eq!(settled(usize::MAX), (vec![30, 9, 6], false, 3));
        assert_eq!(settled(30), (vec![11, 9, 6], false, 3));
        assert_eq!(settled(28), (vec![13, 5, 6], true, 3));
        assert_eq!(settled(24), (vec![13, 9], false, 2));
        assert_eq!(settled(18), (vec![11, 5], true, 2));
        assert_eq!(settled(3), (vec![WIDTH_MIN, 5], true, 2));
    }

    #[test]
    fn cells_are_cut_at_the_right_end_and_by_display_width() {
        assert_eq!(fit("abcdef", 4, Cut::End), "abc…");
        assert_eq!(fit("abcdef", 4, Cut::Start), "…def");
        assert_eq!(fit("日本語文字", 5, Cut::End), "日本…");
    }
}
