//! `cargo xtask gen`: a deterministic HOME folder of made-up sessions and the exact truth about it. The same
//! parameters give the same bytes on every machine. Reads nothing but its arguments.

mod call;
mod clock;
mod random;
mod session;
mod text;
mod thread;
mod truth;

use crate::output::say;
use anyhow::{Context, Result, bail};
use random::Random;
use session::{Plan, Script, Written};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use thread::{Class, Line};
pub(crate) use truth::{Days, Group, Sum, Tokens, Truth, list_days};

/// Goes up whenever the same parameters give other bytes.
pub(crate) const SHAPE: u32 = 1;

/// Parameters of a set.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args, serde::Serialize, serde::Deserialize)]
pub(crate) struct Parameters {
    /// Session files to write, not counting those of subagents.
    #[arg(long, default_value_t = 200)]
    pub(crate) sessions: u64,
    /// Distinct API calls of each session.
    #[arg(long, default_value_t = 500)]
    pub(crate) turns: u64,
    /// Mean length of a block of text, in bytes.
    #[arg(long, default_value_t = 160)]
    pub(crate) content: u64,
    /// The seed: another one gives other text and numbers of the same shape.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Project folders to spread the sessions over.
    #[arg(long, default_value_t = 10)]
    pub(crate) projects: u64,
    /// Each so-manieth session begins with history copied from the one before; 0 for none.
    #[arg(long, default_value_t = 20)]
    pub(crate) fork_every: u64,
    /// One line among so many is blank, cut, spliced, not UTF-8 or full of NUL; 0 for none.
    #[arg(long, default_value_t = 4000)]
    pub(crate) odd_every: u64,
}

/// Arguments of `gen`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The folder to write to; it becomes a HOME (`OUT/.claude/projects/…`) and must not have one yet.
    out: PathBuf,
    #[command(flatten)]
    parameters: Parameters,
}

/// Writes a set and prints its truth as JSON.
pub(crate) fn run(options: &Options) -> Result<()> {
    let truth = write_set(&options.out, &options.parameters)?;
    say(serde_json::to_string_pretty(&truth)?)
}

/// Writes a set under `out` and returns its truth.
pub(crate) fn write_set(out: &Path, parameters: &Parameters) -> Result<Truth> {
    let projects = out.join(".claude/projects");
    if projects.exists() {
        bail!("{} exists already; name a new folder, or remove it", projects.display());
    }
    let mut random = Random::new(parameters.seed);
    let (mut truth, mut days) = (Truth::default(), Days::new());
    let mut before: Option<Written> = None;
    for number in 0..parameters.sessions {
        let mut script = Script::new(&mut random, &mut truth, &mut days, plan(parameters, number));
        let forks = parameters.fork_every > 0 && number > 0 && number % parameters.fork_every == 0;
        if let Some(before) = before.as_ref().filter(|_| forks) {
            script.copy_history(before, number / parameters.fork_every % 2 == 1);
        }
        let written = script.run();
        save(&projects, number, &written, &mut truth)?;
        before = Some(written);
    }
    truth.days = list_days(days);
    Ok(truth)
}

/// Makes the lines by which the session `session` grows during one more turn, and the truth about them alone.
pub(crate) fn one_turn(session: &str, seed: u64) -> (Vec<u8>, Truth) {
    let parameters =
        Parameters { sessions: 1, turns: 2, content: 160, seed, projects: 1, fork_every: 0, odd_every: 0 };
    let mut random = Random::new(seed ^ 0x7475_726e);
    let (mut truth, mut days) = (Truth::default(), Days::new());
    let script = Script::new(&mut random, &mut truth, &mut days, plan(&parameters, 5000 + seed % 1000));
    let lines = script.one_turn(session);
    truth.days = list_days(days);
    truth.records = lines.len() as u64;
    (lines.iter().flat_map(|line| line.bytes.iter().copied().chain([b'\n'])).collect(), truth)
}

fn plan(parameters: &Parameters, number: u64) -> Plan {
    Plan {
        number,
        calls: parameters.turns,
        content: parameters.content,
        projects: parameters.projects,
        odd_every: parameters.odd_every,
    }
}

/// Writes the files of one session and counts them.
fn save(projects: &Path, number: u64, written: &Written, truth: &mut Truth) -> Result<()> {
    let Written { session, cwd, lines, agents, flat } = written;
    let encoded: String = cwd.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let folder = projects.join(encoded);
    let ending = match number % 40 {
        7 => Ending::Incomplete,
        3 | 11 | 19 | 27 => Ending::Bare,
        _ => Ending::Newline,
    };
    truth.sessions += 1;
    save_file(&folder.join(format!("{session}.jsonl")), lines, ending, truth)?;
    for agent in agents {
        let stem = format!("agent-{}", agent.agent);
        let folder = if *flat { folder.clone() } else { folder.join(session).join("subagents") };
        save_file(&folder.join(format!("{stem}.jsonl")), &agent.lines, Ending::Newline, truth)?;
        truth.agent_files += 1;
        if !flat {
            let meta = folder.join(format!("{stem}.meta.json"));
            fs::write(&meta, "{\"agentType\":\"general-purpose\",\"description\":\"look around\"}")
                .with_context(|| format!("write {}", meta.display()))?;
            truth.meta_files += 1;
        }
    }
    Ok(())
}

/// How a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// With a newline.
    Newline,
    /// With a complete record and no newline.
    Bare,
    /// In the middle of a record.
    Incomplete,
}

fn save_file(path: &Path, lines: &[Line], ending: Ending, truth: &mut Truth) -> Result<()> {
    let mut bytes = Vec::with_capacity(lines.iter().map(|line| line.bytes.len() + 1).sum());
    for line in lines {
        bytes.extend_from_slice(&line.bytes);
        bytes.push(b'\n');
        truth.records += 1;
        truth.blank += u64::from(line.class == Class::Blank);
        truth.not_utf8 += u64::from(line.class == Class::NotUtf8);
        truth.unreadable += u64::from(line.class == Class::Unreadable);
    }
    let complete_object = lines.last().is_some_and(|line| line.class == Class::Record);
    match ending {
        Ending::Bare if complete_object => {
            bytes.pop();
        }
        Ending::Incomplete => {
            bytes.extend_from_slice(b"{\"type\":\"user\",\"message\":{\"role\":\"user\",\"cont");
            truth.pending += 1;
        }
        _ => {}
    }
    let folder = path.parent().context("a session file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let mut file = fs::File::create(path).with_context(|| format!("create {}", path.display()))?;
    file.write_all(&bytes).with_context(|| format!("write {}", path.display()))?;
    truth.files += 1;
    truth.bytes += bytes.len() as u64;
    Ok(())
}
