//! Edits of an agent's settings, a JSON text that belongs to a person: what is added and taken away leaves every other byte as
//! it is, order, spaces and all. Knows Claude Code's form of hooks and no files.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// The events that a hook is installed for.
pub(crate) const EVENTS: [&str; 2] = ["Stop", "SessionEnd"];
/// How every command of ours ends, wherever the program is.
pub(crate) const COMMAND_END: &str = " hook event claude-code";
/// Seconds after which the agent goes on without us. An ingest of one session takes milliseconds.
const TIMEOUT_SECONDS: u32 = 30;
const HOOKS: &str = "hooks";

/// A value of a JSON text and where it stands.
struct Node {
    start: usize,
    end: usize,
    children: Vec<Child>,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Object,
    Array,
    Other,
}

/// A member of an object or an element of an array; `start` is that of its key, where it has one.
struct Child {
    key: Option<String>,
    start: usize,
    node: Node,
}

/// The members of an object, in order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl Node {
    /// Parses a text that is an object.
    fn parse(text: &str) -> Result<Self, String> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
        let root = Self::of(text, raw)?;
        if root.form == Form::Object { Ok(root) } else { Err("not a JSON object".to_owned()) }
    }

    fn of(text: &str, raw: &RawValue) -> Result<Self, String> {
        let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
        let failed = |error: serde_json::Error| format!("not JSON: {error}");
        let mut node = Self { start, end: start + raw.get().len(), children: Vec::new(), form: Form::Other };
        match raw.get().as_bytes().first() {
            Some(b'{') => {
                node.form = Form::Object;
                let mut end = start + 1;
                for (key, value) in serde_json::from_str::<Members<'_>>(raw.get()).map_err(failed)?.0 {
                    if node.child(&key).is_some() {
                        return Err(format!("the key {key:?} stands there twice"));
                    }
                    // Between two members there are only spaces and a comma.
                    let start = end + text[end..].find('"').unwrap_or_default();
                    let value = Self::of(text, value)?;
                    end = value.end;
                    node.children.push(Child { key: Some(key), start, node: value });
                }
            }
            Some(b'[') => {
                node.form = Form::Array;
                for value in serde_json::from_str::<Vec<&RawValue>>(raw.get()).map_err(failed)? {
                    let value = Self::of(text, value)?;
                    node.children.push(Child { key: None, start: value.start, node: value });
                }
            }
            _ => {}
        }
        Ok(node)
    }

    fn child(&self, key: &str) -> Option<&Node> {
        self.children.iter().find(|child| child.key.as_deref() == Some(key)).map(|child| &child.node)
    }

    /// As [`Node::child`], refusing one of another form.
    fn child_of_form(&self, key: &str, form: Form) -> Result<Option<&Node>, String> {
        match self.child(key) {
            Some(node) if node.form != form => {
                Err(format!("{key:?} is not what Claude Code understands there"))
            }
            child => Ok(child),
        }
    }

    /// Whether this is a hook of ours.
    fn is_ours(&self, text: &str) -> bool {
        let command = self.child("command").map(|command| &text[command.start..command.end]);
        let command = command.and_then(|command| serde_json::from_str::<String>(command).ok());
        command.is_some_and(|command| command.ends_with(COMMAND_END))
    }
}

/// Returns the text with a hook for each event, or the same text where they are there already.
///
/// An error is a reason for which the text must be left alone: not JSON, or not in the form of such settings.
pub(crate) fn install(text: &str, command: &str) -> Result<String, String> {
    let mut text = text.to_owned();
    for event in EVENTS {
        if places(&Node::parse(&text)?, &text, event)?.is_empty() {
            text = add(&text, event, command)?;
        }
    }
    Ok(text)
}

/// Returns the text without our hooks, and without what was empty but for them.
pub(crate) fn uninstall(text: &str) -> Result<String, String> {
    let mut text = text.to_owned();
    for event in EVENTS {
        while let Some(place) = places(&Node::parse(&text)?, &text, event)?.first() {
            text = remove(&text, event, *place)?;
        }
    }
    Ok(text)
}

/// Finds our hooks for an event: in which group, and which of it.
fn places(root: &Node, text: &str, event: &str) -> Result<Vec<(usize, usize)>, String> {
    let hooks = root.child_of_form(HOOKS, Form::Object)?;
    let Some(groups) = hooks.map(|hooks| hooks.child_of_form(event, Form::Array)).transpose()?.flatten()
    else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for (number, group) in groups.children.iter().enumerate() {
        let Some(hooks) = group.node.child_of_form(HOOKS, Form::Array)? else { continue };
        let ours = hooks.children.iter().enumerate().filter(|(_, hook)| hook.node.is_ours(text));
        found.extend(ours.map(|(at, _)| (number, at)));
    }
    Ok(found)
}

/// Adds a hook, and the containers around it that are not there.
fn add(text: &str, event: &str, command: &str) -> Result<String, String> {
    let root = Node::parse(text)?;
    let group = serde_json::json!({
        HOOKS: [{ "type": "command", "command": command, "timeout": TIMEOUT_SECONDS }]
    });
    let Some(hooks) = root.child_of_form(HOOKS, Form::Object)? else {
        return Ok(insert(text, &root, Some(HOOKS), &serde_json::json!({ event: [group] })));
    };
    Ok(match hooks.child_of_form(event, Form::Array)? {
        Some(groups) => insert(text, groups, None, &group),
        None => insert(text, hooks, Some(event), &serde_json::json!([group])),
    })
}

/// Writes a value as the last child of a container, in the manner of what stands there.
fn insert(text: &str, container: &Node, key: Option<&str>, value: &serde_json::Value) -> String {
    let indent_at = |at: usize| {
        let line = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let blank = text[line..].len() - text[line..].trim_start_matches([' ', '\t']).len();
        &text[line..(line + blank).min(at)]
    };
    let key = key.map_or_else(String::new, |key| format!("{key:?}: "));
    let is_one_line = match (container.children.first(), container.children.last()) {
        (Some(first), _) => !text[container.start..first.start].contains('\n'),
        _ => !text.trim().contains('\n') && text.trim() != "{}",
    };
    let outer = indent_at(container.start);
    let inner = match container.children.last() {
        Some(last) if !is_one_line => indent_at(last.start).to_owned(),
        _ => format!("{outer}{}", unit(text)),
    };
    let value = if is_one_line { value.to_string() } else { pretty(value, &inner, unit(text)) };
    let (at, piece) = match container.children.last() {
        Some(last) if is_one_line => (last.node.end, format!(", {key}{value}")),
        Some(last) => (last.node.end, format!(",\n{inner}{key}{value}")),
        None if is_one_line => (container.start + 1, format!("{key}{value}")),
        None => (container.start + 1, format!("\n{inner}{key}{value}\n{outer}")),
    };
    format!("{}{piece}{}", &text[..at], &text[at..])
}

/// The indentation of the first line that has one.
fn unit(text: &str) -> &str {
    let indented = text.lines().find(|line| line.starts_with([' ', '\t']) && !line.trim().is_empty());
    indented.map_or("  ", |line| &line[..line.len() - line.trim_start().len()])
}

fn pretty(value: &serde_json::Value, indent: &str, unit: &str) -> String {
    use serde::Serialize;
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(unit.as_bytes());
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter));
    written.expect("a value is written into memory");
    String::from_utf8(bytes).expect("JSON is text").replace('\n', &format!("\n{indent}"))
}

/// Removes a hook, and around it whatever would be empty.
fn remove(text: &str, event: &str, (group, hook): (usize, usize)) -> Result<String, String> {
    let root = Node::parse(text)?;
    let gone = || "the hook is not there any more".to_owned();
    let at_key = |node: &Node, key: &str| {
        node.children.iter().position(|child| child.key.as_deref() == Some(key)).ok_or_else(gone)
    };
    // From the outside in: each container and which of its children leads to the hook.
    let mut path = vec![(&root, at_key(&root, HOOKS)?)];
    for key in [Some(event), None, Some(HOOKS), None] {
        let (outer, at) = path[path.len() - 1];
        let node = &outer.children[at].node;
        let next = match (key, node.form) {
            (Some(key), _) => at_key(node, key)?,
            (None, _) if path.len() == 2 => group,
            (None, _) => hook,
        };
        path.push((node, next));
    }
    // A group goes with its last hook, whatever else it says (a matcher); the settings themselves stay.
    while path.len() > 1 {
        let (node, _) = path[path.len() - 1];
        let is_only = match node.form {
            Form::Array => node.children.len() == 1,
            _ => path.len() == 4 || node.children.len() == 1,
        };
        if !is_only {
            break;
        }
        path.pop();
    }
    let (container, at) = path[path.len() - 1];
    let children = &container.children;
    let range = match (at.checked_sub(1), children.get(at + 1)) {
        (Some(before), _) => children[before].node.end..children[at].node.end,
        (None, Some(next)) => children[at].start..next.start,
        (None, None) => container.start + 1..container.end - 1,
    };
    Ok(format!("{}{}", &text[..range.start], &text[range.end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const COMMAND: &str = "/opt/burnlog hook event claude-code";

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_there_stays_byte_for_byte() {
        for text in [
            "{\n    \"zeta\": 1.0,\n    \"alpha\": [1,2,   3],\n    \"hooks\": {\n        \"Stop\": [\n            {\"hooks\": [{\"type\": \"command\", \"command\": \"say done\"}]}\n        ]\n    },\n    \"end\": \"\\u00e9\"\n}\n",
            "{\"model\":\"x\",\"hooks\":{\"PreToolUse\":[]}}",
            "{\n\t\"hooks\": {}\n}",
            "{}",
            "{\"a\": 1e400}",
        ] {
            let installed = install(text, COMMAND).unwrap();
            // Every byte of the old text is there, in its order.
            let mut rest = installed.chars();
            assert!(text.chars().all(|wanted| rest.any(|found| found == wanted)), "{installed}");
            assert_eq!(install(&installed, "/elsewhere/burnlog hook event claude-code").unwrap(), installed);
            for event in EVENTS {
                assert_eq!(places(&Node::parse(&installed).unwrap(), &installed, event).unwrap().len(), 1);
            }
        }
    }

    #[test]
    fn a_new_file_looks_as_a_person_would_write_it() {
        let text = install("{}\n", COMMAND).unwrap();
        assert!(
            text.starts_with("{\n  \"hooks\": {\n    \"Stop\": [\n      {\n        \"hooks\": [\n"),
            "{text}"
        );
        let groups = |event: &str| value(&text)["hooks"][event].clone();
        assert_eq!(
            groups("Stop"),
            json!([{"hooks": [{"type": "command", "command": COMMAND, "timeout": 30}]}])
        );
        assert_eq!(groups("Stop"), groups("SessionEnd"));
        assert_eq!(uninstall(&text).unwrap(), "{}\n");
    }

    #[test]
    fn only_what_is_ours_is_removed() {
        let theirs = json!({"hooks": [{"type": "command", "command": "theirs"}]});
        let ours = json!({"type": "command", "command": COMMAND});
        let mixed = json!({"matcher": "", "hooks": [ours, {"type": "command", "command": "theirs"}]});
        let text = json!({"a": [], "hooks": {"Stop": [theirs, {"hooks": [ours]}, mixed], "SessionEnd": [{"matcher": "", "hooks": [ours]}]}});
        for text in [text.to_string(), serde_json::to_string_pretty(&text).unwrap()] {
            let left = json!({"a": [], "hooks": {"Stop": [theirs, {"matcher": "", "hooks": [{"type": "command", "command": "theirs"}]}]}});
            assert_eq!(value(&uninstall(&text).unwrap()), left);
        }
        let untouched = "{ \"hooks\" : { \"Stop\" : [ ] } }";
        assert_eq!(uninstall(untouched).unwrap(), untouched);
    }

    #[test]
    fn what_is_not_such_settings_is_refused() {
        for text in [
            "",
            "// a comment\n{}",
            "{\"a\":1,}",
            "[]",
            "{\"hooks\":[]}",
            "{\"hooks\":{\"Stop\":{}}}",
            "{\"hooks\":{\"Stop\":[{\"hooks\":{}}]}}",
            "{\"hooks\":{},\"hooks\":{}}",
            "{} {}",
        ] {
            assert!(install(text, COMMAND).is_err(), "{text}");
        }
    }

    /// Any JSON, written in one of several manners.
    fn settings() -> impl proptest::strategy::Strategy<Value = (Value, String)> {
        use proptest::prelude::*;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from)
        ];
        let any = leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-z\"{]{1,4}", inner, 0..3)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        });
        let group = Just(json!({"hooks": [{"type": "command", "command": "other"}]}));
        let hooks = prop::collection::btree_map(
            prop_oneof![
                Just("Stop".to_owned()),
                Just("SessionEnd".to_owned()),
                Just("PreToolUse".to_owned())
            ],
            prop::collection::vec(group, 1..3),
            1..3,
        );
        (prop::collection::btree_map("[a-g]", any, 0..4), prop::option::of(hooks), 0..3).prop_map(
            |(mut map, hooks, manner)| {
                if let Some(hooks) = hooks {
                    map.insert("hooks".to_owned(), json!(hooks));
                }
                let value = json!(map);
                let text = match manner {
                    0 => value.to_string(),
                    1 => serde_json::to_string_pretty(&value).unwrap() + "\n",
                    _ => pretty(&value, "", "\t"),
                };
                (value, text)
            },
        )
    }

    proptest::proptest! {
        #[test]
        fn taking_away_what_was_added_gives_the_same_text((before, text) in settings()) {
            let installed = install(&text, COMMAND).unwrap();
            let found = value(&installed);
            for event in EVENTS {
                let groups = found["hooks"][event].as_array().unwrap();
                proptest::prop_assert_eq!(&groups[groups.len() - 1]["hooks"][0]["command"], COMMAND);
            }
            let back = uninstall(&installed).unwrap();
            proptest::prop_assert_eq!(value(&back), before);
            proptest::prop_assert_eq!(back, text);
        }
    }
}
