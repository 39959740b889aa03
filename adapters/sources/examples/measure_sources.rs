//! Measures an ingest into a sink that only counts: `measure_sources ROOT [--no-check]`, twice, the second time with nothing to do.

use burnlog_log::{Batch, Outcome, Result, Root, WriterId};
use burnlog_sources::{Acknowledged, CursorFile, FeedPoint, Options, Places, discover, ingest};
use std::path::PathBuf;
use std::time::Instant;

#[allow(clippy::print_stdout, reason = "this is its output")]
fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = PathBuf::from(arguments.first().map_or(".", String::as_str));
    let check_records = !arguments.iter().any(|argument| argument == "--no-check");
    let options = Options { check_records, ..Options::default() };
    let state = std::env::temp_dir().join(format!("burnlog-measure-{}", std::process::id()));
    let mut size = 0;
    for _ in 0..3 {
        let opening = Instant::now();
        let mut cursors = CursorFile::open(&state, WriterId([1; 32]))?;
        let opened = opening.elapsed();
        let walking = Instant::now();
        let plan = discover(&Places::Roots(vec![root.clone()]));
        let walked = walking.elapsed();
        let mut sink = |batch: &Batch| {
            let outcomes = batch.events().zip(size..).map(|(_, index)| Outcome::New(index)).collect();
            size += batch.len() as u64;
            Ok(Acknowledged { outcomes, point: FeedPoint { size, root: Root([0; 32]) } })
        };
        let reading = Instant::now();
        let report = ingest(plan, &mut cursors, &options, &mut sink, &mut ())?;
        println!("open {opened:?}, walk {walked:?}, ingest {:?}", reading.elapsed());
        println!("{:?} failed {}", report.total(), report.failed.len());
    }
    std::fs::remove_file(&state).ok();
    Ok(())
}
