//! `burnlog compact`: gives back space.

use super::Context;
use crate::open::{self, Access, StoreUrl};
use crate::output::{bytes, print_one};
use crate::progress::Waiting;
use std::process::ExitCode;

#[derive(serde::Serialize)]
struct Compacted {
    bytes_before: u64,
    bytes_after: u64,
}

pub(super) fn run(context: &Context) -> anyhow::Result<ExitCode> {
    let url = StoreUrl::choose(&context.global, &context.environment)?;
    let ledger = open::ledger(&url, Access::Write, &context.global)?;
    let waiting = Waiting::start("compacting", context.global.quiet);
    let done = ledger.compact()?;
    drop(waiting);
    let compacted = Compacted { bytes_before: done.bytes_before, bytes_after: done.bytes_after };
    print_one(&context.global, &compacted, || {
        format!(
            "{}: {} before, {} after\n",
            ledger.location().url,
            bytes(done.bytes_before),
            bytes(done.bytes_after)
        )
    })?;
    Ok(ExitCode::SUCCESS)
}
