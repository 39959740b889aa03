//! What `bench` found, as a table for people and as JSON.

use super::measure::Cost;
use super::raw::Loop;
use super::watching::Watched;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// One measured command.
#[derive(Debug, Serialize)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The command line, without the paths of this run.
    pub(crate) command: &'static str,
    /// Medians over all runs.
    #[serde(flatten)]
    pub(crate) cost: Cost,
    pub(crate) cpu_s: f64,
    /// The raw loops that this command cannot do without.
    pub(crate) limit: &'static [&'static str],
    /// Their processor time, summed.
    pub(crate) limit_cpu_s: f64,
    /// `cpu_s` over `limit_cpu_s`.
    pub(crate) ratio: Option<f64>,
}

/// Bytes on disk after the cold ingest.
#[expect(clippy::struct_field_names, reason = "units stand last in every name")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Sizes {
    pub(crate) source_bytes: u64,
    /// Segments: the events themselves.
    pub(crate) segments_bytes: u64,
    /// Everything else in the ledger, the index above all.
    pub(crate) index_bytes: u64,
    pub(crate) projections_bytes: u64,
    /// Cursors, keys, remembered heads.
    pub(crate) host_bytes: u64,
    /// The payloads alone in frames of 1 MiB, zstd level 3: the raw limit of the segments.
    pub(crate) compressed_bytes: u64,
}

/// Everything that one run of `bench` found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) source: String,
    pub(crate) files: u64,
    pub(crate) runs: usize,
    pub(crate) processors: usize,
    /// Whether the totals were compared with the truth, and agreed.
    pub(crate) totals_checked: bool,
    pub(crate) cases: Vec<Case>,
    pub(crate) sizes: Sizes,
    pub(crate) watched: Option<Watched>,
    pub(crate) loops: BTreeMap<String, Loop>,
}

impl Report {
    /// The report as text.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        let Self { source, files, runs, processors, totals_checked, .. } = self;
        let megabytes = self.sizes.source_bytes as f64 / 1e6;
        let checked = if *totals_checked { "totals right to the token" } else { "totals not checked" };
        let _ = writeln!(
            out,
            "{source}: {files} files, {megabytes:.1} MB; medians of {runs} runs, {processors} processors, warm page cache; {checked}\n"
        );
        self.push_cases(&mut out);
        self.push_sizes(&mut out);
        self.push_watched(&mut out);
        self.push_loops(&mut out);
        out
    }

    fn push_cases(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "{:<14} {:>10} {:>10} {:>10} {:>7} {:>10} {:>10}",
            "", "wall", "CPU", "limit", "ratio", "peak", "anonymous"
        );
        for case in &self.cases {
            let ratio = case.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let anonymous = case.cost.anonymous_bytes.map_or_else(|| "-".to_owned(), memory);
            let limit = if case.limit.is_empty() { "-".to_owned() } else { seconds(case.limit_cpu_s) };
            let _ = writeln!(
                out,
                "{:<14} {:>10} {:>10} {limit:>10} {ratio:>7} {:>10} {anonymous:>10}",
                case.name,
                seconds(case.cost.wall_s),
                seconds(case.cpu_s),
                memory(case.cost.peak_bytes),
            );
        }
        out.push_str(
            "\nCPU is user and system time of the whole process; limit is the CPU time of the raw loops that the work cannot do without, on\n\
             one thread; peak is the resident high-water mark with mapped files, anonymous the sampled one without them.\n\n",
        );
    }

    fn push_watched(&self, out: &mut String) {
        let Some(Watched { changes, delay_p50_s, delay_p99_s, settled_bytes, last_bytes, .. }) =
            &self.watched
        else {
            return;
        };
        let _ = writeln!(
            out,
            "ingest --watch: a change is in the queries after {} (half of them), {} (99 in 100); anonymous memory {} after 10,000\n\
             changes, {} after {changes}\n",
            seconds(*delay_p50_s),
            seconds(*delay_p99_s),
            memory(*settled_bytes),
            memory(*last_bytes),
        );
    }

    fn push_sizes(&self, out: &mut String) {
        let Sizes {
            source_bytes,
            segments_bytes,
            index_bytes,
            projections_bytes,
            host_bytes,
            compressed_bytes,
        } = self.sizes;
        let all = segments_bytes + index_bytes + projections_bytes + host_bytes;
        for (name, bytes) in [
            ("segments", segments_bytes),
            ("index", index_bytes),
            ("projections", projections_bytes),
            ("host", host_bytes),
            ("all on disk", all),
            ("payloads zstd", compressed_bytes),
        ] {
            let share = bytes as f64 / (source_bytes.max(1)) as f64;
            let _ = writeln!(out, "{name:<14} {:>10} {share:>10.3} of the source", memory(bytes));
        }
        out.push('\n');
    }

    fn push_loops(&self, out: &mut String) {
        let _ = writeln!(
            out,
            "{:<18} {:>10} {:>10} {:>12} {:>10}",
            "raw loop", "CPU", "wall", "items", "MB/CPU s"
        );
        for (name, cost) in &self.loops {
            let rate = if cost.bytes > 0 && cost.cpu_s > 0.0 {
                format!("{:.0}", cost.bytes as f64 / 1e6 / cost.cpu_s)
            } else {
                "-".to_owned()
            };
            let (cpu, wall) = (seconds(cost.cpu_s), seconds(cost.wall_s));
            let _ = writeln!(out, "{name:<18} {cpu:>10} {wall:>10} {:>12} {rate:>10}", cost.items);
        }
    }
}

fn seconds(seconds: f64) -> String {
    if seconds < 0.1 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

fn memory(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
