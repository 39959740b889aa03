//! Sessions and subagents as a graph, drawn as a tree, for Graphviz or for Mermaid. Knows names and kinds of links only;
//! every label is escaped for the language that it is written in.

use crate::commands::LinkLine;
use crate::output::printable;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

/// Which link tells best where a session came from, the best first.
const KINDS: &[&str] = &["continuation", "fork", "copy", "parent", "spawn-env", "subagent"];

/// A session, or a subagent of one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    session: String,
    agent: Option<String>,
}

impl Node {
    fn label(&self) -> String {
        match &self.agent {
            Some(agent) => format!("subagent {agent}"),
            None if self.session.is_empty() => "(a session without an id)".to_owned(),
            None => self.session.clone(),
        }
    }
}

/// The nodes and the links between them.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    nodes: BTreeSet<Node>,
    /// From, to, kind; of several of one kind one.
    links: BTreeSet<(Node, Node, String)>,
}

impl Graph {
    /// Adds what a relationship says. A record that follows one that was never recorded leads from nowhere.
    pub(crate) fn add(&mut self, line: LinkLine) {
        let to = Node { session: line.to_session, agent: line.agent };
        self.nodes.insert(to.clone());
        let Some(from) = line.from_session else { return };
        let from = Node { session: from, agent: None };
        self.nodes.insert(from.clone());
        if from != to {
            self.links.insert((from, to, line.kind));
        }
    }

    /// Keeps what hangs together with a session.
    pub(crate) fn keep_around(&mut self, _source: &str, session: &str) {
        let start = Node { session: session.to_owned(), agent: None };
        let mut kept = BTreeSet::from([start.clone()]);
        let mut open = vec![start];
        let mut neighbours: BTreeMap<&Node, Vec<&Node>> = BTreeMap::new();
        for (from, to, _) in &self.links {
            neighbours.entry(from).or_default().push(to);
            neighbours.entry(to).or_default().push(from);
        }
        while let Some(node) = open.pop() {
            for next in neighbours.get(&node).into_iter().flatten() {
                if kept.insert((*next).clone()) {
                    open.push((*next).clone());
                }
            }
        }
        self.links.retain(|(from, to, _)| kept.contains(from) && kept.contains(to));
        self.nodes = kept;
    }

    /// Draws a tree: each node once, below the one that tells best where it came from.
    pub(crate) fn write_tree(&self, out: &mut impl Write) -> io::Result<()> {
        let rank = |kind: &str| KINDS.iter().position(|known| *known == kind).unwrap_or(KINDS.len());
        let mut parents: BTreeMap<&Node, (usize, &Node, &str)> = BTreeMap::new();
        for (from, to, kind) in &self.links {
            let link = (rank(kind), from, kind.as_str());
            parents.entry(to).and_modify(|known| *known = (*known).min(link)).or_insert(link);
        }
        let mut children: BTreeMap<&Node, Vec<(&str, &Node)>> = BTreeMap::new();
        for (to, (_, from, kind)) in &parents {
            children.entry(from).or_default().push((kind, to));
        }
        let mut drawn = BTreeSet::new();
        let roots = self.nodes.iter().filter(|node| !parents.contains_key(node));
        // Sessions that name each other in a circle have no root: the smallest is drawn as one.
        for root in roots.chain(&self.nodes) {
            draw(root, &children, &mut drawn, out)?;
        }
        Ok(())
    }

    /// Writes a graph for Graphviz.
    pub(crate) fn write_dot(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "digraph sessions {{\n  rankdir=LR;\n  node [shape=box];")?;
        for (at, node) in self.nodes.iter().enumerate() {
            let style = if node.agent.is_some() { ", style=rounded" } else { "" };
            writeln!(out, "  n{at} [label=\"{}\"{style}];", dot(&node.label()))?;
        }
        for (from, to, kind) in self.numbered() {
            writeln!(out, "  n{from} -> n{to} [label=\"{}\"];", dot(kind))?;
        }
        writeln!(out, "}}")
    }

    /// Writes a graph for Mermaid.
    pub(crate) fn write_mermaid(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "flowchart LR")?;
        for (at, node) in self.nodes.iter().enumerate() {
            let (open, close) = if node.agent.is_some() { ("(\"", "\")") } else { ("[\"", "\"]") };
            writeln!(out, "  n{at}{open}{}{close}", mermaid(&node.label()))?;
        }
        for (from, to, kind) in self.numbered() {
            writeln!(out, "  n{from} -->|\"{}\"| n{to}", mermaid(kind))?;
        }
        Ok(())
    }

    /// The links by the numbers of their nodes.
    fn numbered(&self) -> impl Iterator<Item = (usize, usize, &str)> {
        let numbers: BTreeMap<&Node, usize> =
            self.nodes.iter().enumerate().map(|(at, node)| (node, at)).collect();
        self.links.iter().map(move |(from, to, kind)| (numbers[from], numbers[to], kind.as_str()))
    }
}

/// Draws what is below a root, without recursion: chains may be long.
fn draw<'a>(
    root: &'a Node,
    children: &BTreeMap<&'a Node, Vec<(&'a str, &'a Node)>>,
    drawn: &mut BTreeSet<&'a Node>,
    out: &mut impl Write,
) -> io::Result<()> {
    // A node, how it came about, what stands before it, and whether it is the last of its parent.
    let mut open: Vec<(&Node, Option<&str>, String, bool)> = vec![(root, None, String::new(), true)];
    while let Some((node, kind, before, is_last)) = open.pop() {
        if !drawn.insert(node) {
            continue;
        }
        let label = one_line(&node.label());
        let below = match kind {
            None => {
                writeln!(out, "{label}")?;
                before
            }
            Some(kind) => {
                let branch = if is_last { "└─" } else { "├─" };
                let kind = if node.agent.is_some() { String::new() } else { format!("{} ", one_line(kind)) };
                writeln!(out, "{before}{branch} {kind}{label}")?;
                format!("{before}{}", if is_last { "   " } else { "│  " })
            }
        };
        let next = children.get(node).map_or(&[][..], Vec::as_slice);
        for (at, (kind, child)) in next.iter().enumerate().rev() {
            open.push((child, Some(kind), below.clone(), at + 1 == next.len()));
        }
    }
    Ok(())
}

/// A label in one line without control characters.
fn one_line(label: &str) -> String {
    printable(label).replace(['\n', '\t'], " ")
}

/// A label inside the quotes of a DOT string.
fn dot(label: &str) -> String {
    one_line(label).replace('\\', "\\\\").replace('"', "\\\"")
}

/// A label inside the quotes of Mermaid, whose escapes are those of HTML with a number sign.
fn mermaid(label: &str) -> String {
    let mut out = String::new();
    for character in one_line(label).chars() {
        match character {
            '"' | '#' | '&' | '<' | '>' | '`' | '\\' | ';' => {
                out.push_str(&format!("#{};", u32::from(character)));
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(kind: &str, from: Option<&str>, to: &str, agent: Option<&str>) -> LinkLine {
        LinkLine {
            source: "s".to_owned(),
            kind: kind.to_owned(),
            from_session: from.map(str::to_owned),
            from_stream: None,
            to_session: to.to_owned(),
            to_stream: None,
            agent: agent.map(str::to_owned),
            tool_use: None,
            record: None,
            at: None,
            address: None,
            copied_records: None,
            copied_to_seq: None,
        }
    }

    fn drawn(links: &[LinkLine], how: fn(&Graph, &mut Vec<u8>) -> io::Result<()>) -> String {
        let mut graph = Graph::default();
        for link in links {
            graph.add(link.clone());
        }
        let mut out = Vec::new();
        how(&graph, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_session_stands_once_below_what_it_came_out_of() {
        let links = [
            link("subagent", Some("a"), "a", Some("x")),
            link("fork", Some("a"), "b", None),
            link("parent", Some("z"), "b", None),
            link("continuation", Some("b"), "c", None),
            link("parent", None, "lost", None),
        ];
        let tree = drawn(&links, Graph::write_tree);
        assert_eq!(tree, "a\n├─ subagent x\n└─ fork b\n   └─ continuation c\nlost\nz\n");
    }

    #[test]
    fn sessions_that_name_each_other_are_drawn_once() {
        let links = [link("fork", Some("a"), "b", None), link("fork", Some("b"), "a", None)];
        assert_eq!(drawn(&links, Graph::write_tree), "a\n└─ fork b\n");
    }

    #[test]
    fn what_does_not_hang_together_with_a_session_is_left_out() {
        let mut graph = Graph::default();
        for link in [link("fork", Some("a"), "b", None), link("fork", Some("c"), "d", None)] {
            graph.add(link);
        }
        graph.keep_around("s", "b");
        let mut out = Vec::new();
        graph.write_tree(&mut out).unwrap();
        assert_eq!(out, b"a\n\xe2\x94\x94\xe2\x94\x80 fork b\n");
    }

    #[test]
    fn labels_stay_inside_their_quotes() {
        let hostile = [link("fork", Some("a\"];\n x -> y\\"), "b#<&>`;", None)];
        let dot = drawn(&hostile, Graph::write_dot);
        assert!(dot.contains(r#"[label="a\"];  x -> y\\"]"#), "{dot}");
        let mermaid = drawn(&hostile, Graph::write_mermaid);
        assert!(mermaid.contains("[\"a#34;]#59;  x -#62; y#92;\"]"), "{mermaid}");
        assert!(mermaid.contains("[\"b#35;#60;#38;#62;#96;#59;\"]"), "{mermaid}");
    }
}
