//! Cutting a snippet out of a text: one line around the matches, never through a character. Knows no query.

use std::ops::Range;

/// How much stands before the first match, in characters.
const LEAD_CHARACTERS: usize = 32;

/// A piece of a text, on one line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snippet {
    /// The piece; an ellipsis stands where something is missing, one space for each stretch of white space.
    pub text: String,
    /// Where the matches stand in it, in bytes.
    pub matches: Vec<Range<usize>>,
}

/// Cuts the piece of at most about `characters` characters with the most matches, the first of such.
///
/// `matches` are in bytes, ascending and apart; such as do not lie on characters of the text are left out.
pub fn snippet(text: &str, matches: &[Range<usize>], characters: usize) -> Snippet {
    let fits = |range: &&Range<usize>| range.start < range.end && text.get((*range).clone()).is_some();
    let matches: Vec<&Range<usize>> = matches.iter().filter(fits).collect();
    let best = best_start(text, &matches, characters.saturating_sub(LEAD_CHARACTERS));
    let start = lead(text, best);
    let mut out = Snippet::default();
    if start > 0 {
        out.text.push('…');
    }
    let (mut left, mut open) = (characters, None);
    let mut coming = matches.into_iter().skip_while(|range| range.end <= start).peekable();
    let mut is_space = true;
    let mut end = start;
    for (offset, character) in text[start..].char_indices() {
        let at = start + offset;
        if left == 0 {
            break;
        }
        if coming.peek().is_some_and(|range| range.start <= at && at < range.end) && open.is_none() {
            open = Some(out.text.len());
        }
        // Whatever could move a terminal's cursor counts as space too.
        let blank = character.is_whitespace() || character.is_control();
        if !(blank && is_space) {
            out.text.push(if blank { ' ' } else { character });
            left -= 1;
        }
        is_space = blank;
        end = at + character.len_utf8();
        if coming.peek().is_some_and(|range| range.end <= end) {
            coming.next();
            out.matches.extend(open.take().map(|from| from..out.text.len()));
        }
    }
    out.matches.extend(open.map(|from| from..out.text.len()));
    out.matches.retain(|range| range.start < range.end);
    if text[end..].trim().is_empty() {
        let last = out.matches.last().map_or(0, |range| range.end);
        out.text.truncate(out.text.trim_end().len().max(last));
    } else {
        out.text.push('…');
    }
    out
}

/// Returns the start of the match behind which most others stand within so many bytes.
fn best_start(text: &str, matches: &[&Range<usize>], width: usize) -> usize {
    let mut best = (0, 0);
    let mut end = 0;
    for (at, range) in matches.iter().enumerate() {
        end = end.max(at);
        while matches.get(end).is_some_and(|other| other.end <= range.start + width) {
            end += 1;
        }
        if end - at > best.0 {
            best = (end - at, range.start);
        }
    }
    let first = matches.first().map_or(0, |range| range.start);
    (if best.0 == 0 { first } else { best.1 }).min(text.len())
}

/// Goes back from a match by the lead: to the start of the text, or of a word where one starts there.
fn lead(text: &str, from: usize) -> usize {
    let before: Vec<(usize, char)> = text[..from].char_indices().rev().take(LEAD_CHARACTERS + 1).collect();
    if before.len() <= LEAD_CHARACTERS {
        return 0;
    }
    let gap = before.iter().rev().find(|(_, character)| character.is_whitespace());
    let oldest = before.last().map_or(from, |(at, character)| at + character.len_utf8());
    gap.map_or(oldest, |(at, character)| at + character.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(text: &str, word: &str) -> Vec<Range<usize>> {
        text.match_indices(word).map(|(at, word)| at..at + word.len()).collect()
    }

    fn marked(snippet: &Snippet) -> String {
        let mut out = String::new();
        let mut at = 0;
        for range in &snippet.matches {
            out.push_str(&snippet.text[at..range.start]);
            out.push('[');
            out.push_str(&snippet.text[range.clone()]);
            out.push(']');
            at = range.end;
        }
        out + &snippet.text[at..]
    }

    #[test]
    fn short_texts_are_whole_and_on_one_line() {
        let text = "  one\n\n two\tthree\u{1b}[31m ";
        assert_eq!(marked(&snippet(text, &find(text, "two"), 100)), "one [two] three [31m");
        assert_eq!(marked(&snippet("one two", &[], 100)), "one two");
        assert_eq!(marked(&snippet("", &[], 100)), "");
        let phrase = "of one\n  two";
        assert_eq!(marked(&snippet(phrase, std::slice::from_ref(&(3..12)), 100)), "of [one two]");
    }

    #[test]
    fn long_texts_are_cut_around_where_most_matches_are() {
        let text = format!(
            "{}needle {}needle and needle {}",
            "hay ".repeat(50),
            "straw ".repeat(60),
            "end ".repeat(50)
        );
        let cut = snippet(&text, &find(&text, "needle"), 60);
        assert_eq!(marked(&cut), "…straw straw straw straw straw [needle] and [needle] end end end …");
    }

    #[test]
    fn matches_that_are_no_places_of_the_text_are_left_out() {
        let cut = snippet("äöü", &[1..2, 0..2, 5..99], 10);
        assert_eq!(marked(&cut), "[ä]öü");
    }

    proptest! {
        #[test]
        fn every_piece_is_whole_characters_and_as_long_as_asked(
            text in "[a-c äé€\u{1f600}\n]{0,300}",
            word in "[a-cä€]{1,2}",
            characters in 1usize..80,
        ) {
            let matches = find(&text, &word);
            let cut = snippet(&text, &matches, characters);
            prop_assert!(cut.text.chars().count() <= characters + 2);
            for range in &cut.matches {
                prop_assert!(cut.text.get(range.clone()).is_some_and(|shown| word.starts_with(shown) || word.contains(shown)));
            }
            // The first of the matches is shown where there is room for it.
            if !matches.is_empty() && characters > LEAD_CHARACTERS + 4 {
                prop_assert!(!cut.matches.is_empty());
            }
        }
    }
}
