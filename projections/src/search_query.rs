//! The language of queries: words that must all be there, "phrases", pre*, one OR another, -not. Knows no index; what
//! an index gets has no syntax left.

use burnlog_log::{Error, ErrorKind, Result};

/// The longest query, in bytes.
const QUERY_BYTES_MAX: usize = 4096;
/// The most words and phrases of a query.
const TERMS_MAX: usize = 64;

/// A word or phrase. It has a letter or digit; how it falls into words is the index's affair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchTerm {
    /// The text, without quotes; no NUL in it.
    pub text: String,
    /// Whether the last word goes on.
    pub prefix: bool,
}

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchQuery {
    /// Of each group at least one term must be there. At least one group, none empty.
    pub wanted: Vec<Vec<SearchTerm>>,
    /// None of these may be there.
    pub unwanted: Vec<SearchTerm>,
}

/// A piece of a query and where it begins, in characters from 1.
#[derive(Debug)]
enum Piece {
    Term { term: SearchTerm, negated: bool, at: usize },
    Or { at: usize },
}

impl SearchQuery {
    /// Reads a query. `AND` between words is what holds anyway; what has no letter or digit is left out.
    ///
    /// `Invalid`, with the place, for a quotation mark that is not closed, an `OR` without two sides, and a query that
    /// names nothing to look for, is longer than 4 KiB or has more than 64 words and phrases.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(invalid(format!("the query has {} bytes, at most {QUERY_BYTES_MAX}", text.len())));
        }
        let (mut wanted, mut unwanted): (Vec<Vec<SearchTerm>>, Vec<SearchTerm>) = (Vec::new(), Vec::new());
        let mut open_or = None;
        // Whether an OR may follow: what came last was a wanted term.
        let mut can_join = false;
        let mut terms = 0;
        for piece in pieces(text)? {
            match piece {
                Piece::Or { at } if !can_join => {
                    return Err(invalid(format!(
                        "OR at character {at} has no word before it that is looked for"
                    )));
                }
                Piece::Or { at } => {
                    open_or = Some(at);
                    can_join = false;
                }
                Piece::Term { negated: true, at, .. } if open_or.is_some() => {
                    return Err(invalid(format!(
                        "the word at character {at} cannot be excluded behind an OR"
                    )));
                }
                Piece::Term { term, negated, .. } => {
                    terms += 1;
                    can_join = !negated;
                    if negated {
                        unwanted.push(term);
                    } else if open_or.take().is_some() {
                        wanted.last_mut().expect("an OR stands behind a wanted term").push(term);
                    } else {
                        wanted.push(vec![term]);
                    }
                }
            }
        }
        if let Some(at) = open_or {
            return Err(invalid(format!(
                "OR at character {at} has no word behind it; write \"OR\" to look for it"
            )));
        }
        if terms > TERMS_MAX {
            return Err(invalid(format!("the query has {terms} words and phrases, at most {TERMS_MAX}")));
        }
        if wanted.is_empty() {
            let why = if unwanted.is_empty() {
                "the query has no letter or digit, and nothing else is indexed"
            } else {
                "the query only says what must not be there; add a word to look for"
            };
            return Err(invalid(why.to_owned()));
        }
        Ok(Self { wanted, unwanted })
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::Invalid, "read query", message)
}

/// Takes a query apart.
fn pieces(text: &str) -> Result<Vec<Piece>> {
    let characters: Vec<char> = text.chars().map(|c| if c == '\0' { ' ' } else { c }).collect();
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < characters.len() {
        if characters[at].is_whitespace() {
            at += 1;
            continue;
        }
        let start = at;
        // Of two dashes neither excludes: that is how options of programs are written.
        let negated = characters[at] == '-' && !matches!(characters.get(at + 1), None | Some('-'));
        at += usize::from(negated);
        let quoted = characters[at] == '"';
        let mut word: String;
        if quoted {
            let length = characters[at + 1..].iter().position(|c| *c == '"').ok_or_else(|| {
                invalid(format!("the quotation mark at character {} is not closed", at + 1))
            })?;
            word = characters[at + 1..at + 1 + length].iter().collect();
            at += length + 2;
        } else {
            let rest = &characters[at..];
            let length = rest.iter().position(|c| c.is_whitespace() || *c == '"').unwrap_or(rest.len());
            word = rest[..length].iter().collect();
            at += length;
        }
        let is_connective = !quoted && !negated;
        if is_connective && word == "OR" {
            pieces.push(Piece::Or { at: start + 1 });
            continue;
        }
        if is_connective && word == "AND" {
            continue;
        }
        let prefix = if quoted { characters.get(at) == Some(&'*') } else { word.ends_with('*') };
        if quoted {
            at += usize::from(prefix);
        } else {
            word.truncate(word.trim_end_matches('*').len());
        }
        if word.chars().any(char::is_alphanumeric) {
            pieces.push(Piece::Term { term: SearchTerm { text: word, prefix }, negated, at: start + 1 });
        }
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A query as text: groups with bars, what is excluded behind a dash, a star behind a prefix.
    fn read(text: &str) -> String {
        let term = |term: &SearchTerm| format!("[{}]{}", term.text, if term.prefix { "*" } else { "" });
        match SearchQuery::parse(text) {
            Ok(query) => {
                let group = |group: &Vec<SearchTerm>| group.iter().map(term).collect::<Vec<_>>().join("|");
                let mut all: Vec<String> = query.wanted.iter().map(group).collect();
                all.extend(query.unwanted.iter().map(|unwanted| format!("-{}", term(unwanted))));
                all.join(" ")
            }
            Err(error) => error.message().to_owned(),
        }
    }

    #[test]
    fn words_phrases_prefixes_alternatives_and_exclusions() {
        for (text, expected) in [
            ("one two", "[one] [two]"),
            ("one AND two", "[one] [two]"),
            ("\"one two\" three", "[one two] [three]"),
            ("pre* \"one tw\"*", "[pre]* [one tw]*"),
            ("a OR b c", "[a]|[b] [c]"),
            ("a b OR c OR d", "[a] [b]|[c]|[d]"),
            ("a -b -\"c d\" -e*", "[a] -[b] -[c d] -[e]*"),
            ("git push --force", "[git] [push] [--force]"),
            ("fn f() -> x", "[fn] [f()] [x]"),
            ("or and \"OR\" \"AND\"", "[or] [and] [OR] [AND]"),
            ("a\"b\"c", "[a] [b] [c]"),
            ("snake_case/path.rs", "[snake_case/path.rs]"),
            ("a\0b", "[a] [b]"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn what_makes_no_query_is_refused_with_the_place() {
        for (text, expected) in [
            ("one \"two", "the quotation mark at character 5 is not closed"),
            ("ä -\"two", "the quotation mark at character 4 is not closed"),
            ("OR b", "OR at character 1 has no word before it"),
            ("a OR", "OR at character 3 has no word behind it"),
            ("a OR OR b", "OR at character 6 has no word before it"),
            ("-a OR b", "OR at character 4 has no word before it"),
            ("a OR -b", "the word at character 6 cannot be excluded"),
            ("-a", "add a word"),
            ("-> * \"\" ()", "no letter or digit"),
            ("", "no letter or digit"),
        ] {
            assert!(read(text).contains(expected), "{text}: {}", read(text));
        }
        assert!(read(&"a ".repeat(65)).contains("at most 64"));
        assert!(read(&"a".repeat(5000)).contains("at most 4096"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: String) {
            match SearchQuery::parse(&text) {
                Ok(query) => {
                    prop_assert!(!query.wanted.is_empty() && query.wanted.iter().all(|group| !group.is_empty()));
                    for term in query.wanted.iter().flatten().chain(&query.unwanted) {
                        prop_assert!(term.text.chars().any(char::is_alphanumeric) && !term.text.contains('\0'));
                    }
                }
                Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Invalid),
            }
        }
    }
}
