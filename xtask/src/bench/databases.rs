//! `cargo xtask bench --databases`: replay into SQLite and Postgres, beside what the databases do at best with the same bytes in
//! the same run. Wall time, because half of the work is the server's.

use super::bare::{self, Copies};
use super::measure::{Cost, Scale, middle};
use super::server::Server;
use super::set::Set;
use crate::generate::Parameters;
use crate::output::say;
use crate::totals::Archive;
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Instant;

/// How many processes write at once.
const WRITERS: u64 = 8;

/// Figures of all runs by name: seconds of wall time.
type Figures = BTreeMap<&'static str, Vec<f64>>;

/// A ratio of two figures, what it is about, and what it should reach.
struct Ratio {
    what: &'static str,
    of: &'static str,
    to: &'static str,
    should: &'static str,
}

const RATIOS: [Ratio; 8] = [
    Ratio { what: "sqlite: bare inserts / replay", of: "sqlite bare", to: "sqlite replay", should: ">= 0.5" },
    Ratio {
        what: "sqlite: replay again / first",
        of: "sqlite again",
        to: "sqlite replay",
        should: "<= 0.05",
    },
    Ratio {
        what: "sqlite: one percent new / first",
        of: "sqlite 1 %",
        to: "sqlite replay",
        should: "<= 0.05",
    },
    Ratio { what: "postgres: COPY / replay", of: "postgres bare", to: "postgres replay", should: ">= 0.5" },
    Ratio {
        what: "postgres: replay again / first",
        of: "postgres again",
        to: "postgres replay",
        should: "<= 0.05",
    },
    Ratio {
        what: "postgres: one percent new / first",
        of: "postgres 1 %",
        to: "postgres replay",
        should: "<= 0.05",
    },
    Ratio {
        what: "postgres: one writer / eight",
        of: "postgres 1 writer",
        to: "postgres 8 writers",
        should: ">= 1.5",
    },
    Ratio {
        what: "usage: postgres / sqlite",
        of: "postgres usage",
        to: "sqlite usage",
        should: "30 ms each",
    },
];

/// What some work took that starts processes of its own and asks a server.
struct Span {
    /// Seconds from beginning to end.
    wall_s: f64,
    /// Processor seconds of the processes that were started and have ended.
    writers_s: f64,
    /// Processor seconds of the whole machine, with the server's; `None` where the system does not tell.
    all_s: Option<f64>,
}

impl Span {
    fn of(work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let (writers, all, begun) = (children_s()?, machine_s(), Instant::now());
        work()?;
        let wall_s = begun.elapsed().as_secs_f64();
        let all_s = all.zip(machine_s()).map(|(before, after)| after - before);
        Ok(Self { wall_s, writers_s: children_s()? - writers, all_s })
    }
}

/// Processor seconds of all children that have ended.
fn children_s() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    Ok((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e6)
}

/// Seconds that the processors of this machine were busy since it started, all together.
fn machine_s() -> Option<f64> {
    /// Of the first line of this file, in hundredths of a second: user, nice, system, idle, iowait, irq, softirq (proc(5)).
    const BUSY: [usize; 5] = [0, 1, 2, 5, 6];
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<f64> =
        text.lines().next()?.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
    BUSY.iter().map(|at| fields.get(*at)).sum::<Option<f64>>().map(|hundredths| hundredths / 100.0)
}

/// What is measured with what.
pub(super) struct Databases<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) program: PathBuf,
    pub(super) scale: Scale,
    pub(super) parameters: &'a Parameters,
}

impl Databases<'_> {
    /// Measures everything `runs` times below `scratch` and prints medians and ratios.
    pub(super) fn run(&self, scratch: &Path, runs: u32, json: bool) -> Result<()> {
        let set = Set::generated(self.workspace, self.parameters)?;
        let one_percent = Set::generated(self.workspace, &self.part(100, 1))?;
        let server = Server::start()?;
        let mut figures = Figures::new();
        for number in 0..runs {
            let folder = scratch.join(format!("databases-{number}"));
            self.once(&folder, &server, &set, &one_percent, &mut figures)?;
            std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        }
        let medians: BTreeMap<&str, f64> =
            figures.into_iter().filter_map(|(name, seconds)| Some((name, middle(seconds)?))).collect();
        if json { say(serde_json::to_string_pretty(&medians)?) } else { say(table(&medians, &set, runs)) }
    }

    /// The parameters of a set that is `1 / parts` as large and has other sessions.
    fn part(&self, parts: u64, seed: u64) -> Parameters {
        let all = self.parameters;
        Parameters { sessions: all.sessions.div_ceil(parts as _), seed: all.seed + seed, ..all.clone() }
    }

    fn once(
        &self,
        folder: &Path,
        server: &Server,
        set: &Set,
        more: &Set,
        figures: &mut Figures,
    ) -> Result<()> {
        let mut note = |name: &'static str, seconds: f64| figures.entry(name).or_default().push(seconds);
        let archive = self.archive(&folder.join("archive"), set)?;
        let from = format!("file:{}", archive.state().join("ledger").display());
        note("sqlite bare", bare::sqlite(&set.home, &folder.join("bare.sqlite"))?);
        let copies = Copies::write(&set.home, &folder.join("copies"))?;
        note("postgres bare", copies.bring(server)?);
        let sqlite = format!("sqlite:{}", folder.join("ledger.sqlite").display());
        let postgres = server.database("replayed")?;
        let stores = [
            (&sqlite, ["sqlite replay", "sqlite again", "sqlite 1 %", "sqlite usage"]),
            (&postgres, ["postgres replay", "postgres again", "postgres 1 %", "postgres usage"]),
        ];
        for (to, names) in &stores {
            for name in &names[..2] {
                note(name, self.weigh(&archive, &["replay", "--from", &from, "--to", to])?.wall_s);
            }
            self.weigh(&archive, &["project", "update", "--store", to])?;
            note(names[3], self.weigh(&archive, &["usage", "--json", "--store", to])?.wall_s);
        }
        let root = more.home.to_str().context("the path of the set is UTF-8")?;
        self.weigh(&archive, &["ingest", "--root", root])?;
        for (to, names) in &stores {
            note(names[2], self.weigh(&archive, &["replay", "--from", &from, "--to", to])?.wall_s);
        }
        let [one, eight] = self.writers(folder, server)?;
        note("postgres 1 writer", one.wall_s);
        note("postgres 8 writers", eight.wall_s);
        note("1 writer, its CPU", one.writers_s);
        note("8 writers, their CPU", eight.writers_s);
        if let (Some(one), Some(eight)) = (one.all_s, eight.all_s) {
            note("1 writer, all CPU", one);
            note("8 writers, all CPU", eight);
        }
        Ok(())
    }

    /// Brings eight ledgers into Postgres, one after the other and then all at once. Returns what both took.
    fn writers(&self, folder: &Path, server: &Server) -> Result<[Span; 2]> {
        let archives = (0..=WRITERS).map(|number| {
            let set = Set::generated(self.workspace, &self.part(WRITERS, 10 + number))?;
            self.archive(&folder.join(format!("writer-{number}")), &set)
        });
        let archives: Vec<Archive> = archives.collect::<Result<_>>()?;
        let start = |archive: &Archive, to: &str| -> Result<Child> {
            let from = format!("file:{}", archive.state().join("ledger").display());
            let mut command = archive.command(&["replay", "--quiet", "--from", &from, "--to", to]);
            command.stdout(Stdio::null()).spawn().context("start burnlog")
        };
        let end = |mut child: Child| -> Result<()> {
            ensure!(child.wait()?.success(), "a writer failed");
            Ok(())
        };
        // The first of them makes the tables, so that this is in nobody's time.
        let to = [server.database("one_by_one")?, server.database("at_once")?];
        for to in &to {
            end(start(&archives[0], to)?)?;
        }
        let one = Span::of(|| archives[1..].iter().try_for_each(|archive| end(start(archive, &to[0])?)))?;
        let eight = Span::of(|| {
            let children: Result<Vec<Child>> =
                archives[1..].iter().map(|archive| start(archive, &to[1])).collect();
            children?.into_iter().try_for_each(end)
        })?;
        Ok([one, eight])
    }

    /// An archive with a set in its default ledger.
    fn archive(&self, folder: &Path, set: &Set) -> Result<Archive> {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let archive = Archive::new(&self.program, folder.to_path_buf());
        let root = set.home.to_str().context("the path of the set is UTF-8")?;
        self.weigh(&archive, &["ingest", "--root", root])?;
        Ok(archive)
    }

    fn weigh(&self, archive: &Archive, arguments: &[&str]) -> Result<Cost> {
        Ok(self.scale.weigh(&self.program, arguments, &archive.environment())?.0)
    }
}

fn table(medians: &BTreeMap<&str, f64>, set: &Set, runs: u32) -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut out = format!(
        "generated: {} files, {:.1} MB; medians of {runs} runs, {processors} processors, wall time but where it says CPU\n\n",
        set.files,
        set.bytes as f64 / 1e6,
    );
    for (name, seconds) in medians {
        out.push_str(&format!("{name:<22} {:>10.1} ms\n", seconds * 1e3));
    }
    out.push('\n');
    for Ratio { what, of, to, should } in &RATIOS {
        if let (Some(of), Some(to)) = (medians.get(of), medians.get(to)) {
            out.push_str(&format!("{what:<36} {:>8.3}   {should}\n", of / to));
        }
    }
    if let (Some(one), Some(busy)) = (medians.get("postgres 1 writer"), medians.get("8 writers, all CPU")) {
        let what = format!("the same, were {processors} processors always busy");
        out.push_str(&format!("{what:<36} {:>8.3}   what binds\n", one * processors as f64 / busy));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bare_loops_bring_every_record() {
        let home = tempfile::tempdir().unwrap();
        let parameters = Parameters {
            sessions: 2,
            turns: 10,
            content: 40,
            seed: 5,
            projects: 1,
            fork_every: 0,
            odd_every: 0,
        };
        let truth = crate::generate::write_set(home.path(), &parameters).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("bare.sqlite");
        assert!(bare::sqlite(home.path(), &path).unwrap() > 0.0);
        let connection = rusqlite::Connection::open(&path).unwrap();
        let count: u64 = connection.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
        assert!(count > 0 && count <= truth.records + truth.pending, "{count} of {}", truth.records);
        Copies::write(home.path(), &scratch.path().join("copies")).unwrap();
        let script = std::fs::read_to_string(scratch.path().join("copies/all.sql")).unwrap();
        assert!(script.contains("on conflict do nothing; commit;"));
    }
}
