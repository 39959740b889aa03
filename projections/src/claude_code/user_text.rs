//! What a text in the place of the user looks like. Tags that the agent writes are told from tags that a person
//! types by their shape as a whole: nothing but complete elements of known names, in known company.

use crate::json::Taken;
use burnlog_log::scan::Scanner;

/// The shape of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Shape {
    /// Anything that a person may have typed.
    #[default]
    Plain,
    /// The invocation of a slash command or a shell line.
    Command,
    /// What such a command printed.
    CommandOutput,
    /// What a background task reports.
    Notification,
    /// A reminder or caveat that the agent adds.
    Reminder,
    /// The mark of an interruption.
    Interruption,
}

/// A text, as far as the folds need it: its length and shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Prose {
    pub(crate) characters: i64,
    pub(crate) shape: Shape,
}

impl<'a> Taken<'a> for Prose {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        if from.peek()? != b'"' {
            return from.skip();
        }
        let raw = from.string()?;
        // Only what begins like an element or a mark needs to be looked at as text.
        let looks_like_one = matches!(raw.first_mark(), Some(b'<' | b'[' | b'\\'));
        let shape = if looks_like_one { shape(&raw.text()) } else { Shape::Plain };
        *self = Self { characters: raw.characters() as i64, shape };
        Some(())
    }
}

/// Tells the shape of a text.
pub(crate) fn shape(text: &str) -> Shape {
    match text.trim_start().as_bytes().first() {
        Some(b'[') => interruption(text.trim()),
        Some(b'<') => elements(text.trim()).unwrap_or_default(),
        _ => Shape::Plain,
    }
}

fn interruption(text: &str) -> Shape {
    match text {
        "[Request interrupted by user]" | "[Request interrupted by user for tool use]" => Shape::Interruption,
        _ => Shape::Plain,
    }
}

/// Tells the shape of a text that is nothing but elements; `None` when it is anything else.
fn elements(text: &str) -> Option<Shape> {
    let mut rest = text;
    let mut shape = None;
    let mut has_name = false;
    while !rest.is_empty() {
        let (name, inner, after) = element(rest)?;
        has_name |= name == "command-name" && inner.trim_start().starts_with('/');
        let this = match name {
            "command-name" | "command-message" | "command-args" | "bash-input" => Shape::Command,
            "local-command-stdout" | "local-command-stderr" | "bash-stdout" | "bash-stderr" => {
                Shape::CommandOutput
            }
            "task-notification" if inner.contains("<task-id>") => Shape::Notification,
            "system-reminder" | "local-command-caveat" => Shape::Reminder,
            _ => return None,
        };
        // A shell line stands alone; the parts of a slash command only with its name.
        has_name |= name == "bash-input";
        if *shape.get_or_insert(this) != this {
            return None;
        }
        rest = after.trim_start();
    }
    shape.filter(|shape| *shape != Shape::Command || has_name)
}

/// Splits the element at the front of a text: name, inner text, rest.
fn element(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.strip_prefix('<')?.split_once('>')?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    if !is_name || name.len() > 40 {
        return None;
    }
    let end = rest.find(&format!("</{name}>"))?;
    Some((name, &rest[..end], &rest[end + name.len() + 3..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_the_agent_are_told_from_tags_that_a_person_types() {
        for (text, expected) in [
            (
                "<command-name>/clear</command-name>\n<command-message>clear</command-message>\n<command-args></command-args>",
                Shape::Command,
            ),
            ("<bash-input>ls</bash-input>", Shape::Command),
            ("<local-command-stdout></local-command-stdout>", Shape::CommandOutput),
            ("<bash-stdout>a</bash-stdout><bash-stderr></bash-stderr>", Shape::CommandOutput),
            (
                "<task-notification>\n<task-id>a</task-id>\n<status>done</status>\n</task-notification>",
                Shape::Notification,
            ),
            ("<system-reminder>\nremember\n</system-reminder>", Shape::Reminder),
            ("[Request interrupted by user]", Shape::Interruption),
            ("<command-name>", Shape::Plain),
            ("<command-name>is a tag</command-name>", Shape::Plain),
            ("<command-name>/x</command-name> what is this?", Shape::Plain),
            ("what does <task-notification> mean", Shape::Plain),
            ("<task-notification>what is it</task-notification>", Shape::Plain),
            ("[Request interrupted by user] is what I saw", Shape::Plain),
            ("<div>hello</div>", Shape::Plain),
            ("", Shape::Plain),
            ("plain", Shape::Plain),
        ] {
            assert_eq!(shape(text), expected, "{text}");
        }
    }
}
