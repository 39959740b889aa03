//! What was promised of a server, beside what was measured.

use std::collections::BTreeMap;

/// A figure, or one figure by another, and what it should be.
struct Promise {
    what: &'static str,
    of: &'static str,
    by: Option<&'static str>,
    should: &'static str,
}

const fn figure(what: &'static str, of: &'static str, should: &'static str) -> Promise {
    Promise { what, of, by: None, should }
}

const fn ratio(what: &'static str, of: &'static str, by: &'static str, should: &'static str) -> Promise {
    Promise { what, of, by: Some(by), should }
}

const PROMISES: [Promise; 12] = [
    ratio("replay into the inner backend / push", "replay s", "push s", ">= 0.5"),
    figure("push again, s", "push again s", "< 1"),
    figure("push again, bytes", "push again bytes", "< 65,536"),
    ratio("push of 1 %, bytes / zstd-3 of the lines", "push 1 % bytes", "1 % new, zstd-3 bytes", "<= 1.2"),
    ratio("the same / lines with skeletons", "push 1 % bytes", "1 % new with skeletons, zstd-3 bytes", ""),
    ratio("p99 of one append / bare", "one append p99 ms", "bare p99 ms", "<= 1.5"),
    ratio("p50 of one append / bare", "one append p50 ms", "bare p50 ms", ""),
    figure("50 clients, appends a sync", "50 clients a sync", ">= 20"),
    figure("the same, syncs 10 ms slower", "50 clients a sync, 10 ms", ">= 20"),
    ratio("50 clients / one", "50 clients/s", "1 client/s", ">= 3"),
    ratio("50 clients / one, syncs 10 ms slower", "50 clients/s, 10 ms", "1 client/s, 10 ms", ">= 20"),
    figure("1,000 idle, 100 busy, peak MB", "1,000 idle, 100 busy peak MB", "<= 256"),
];

/// All figures, then the promises. What was not measured says so.
pub(super) fn table(title: &str, medians: &BTreeMap<&str, f64>) -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut out = format!("{title}, {processors} processors\n\n");
    for (name, value) in medians {
        out.push_str(&format!("{name:<38} {value:>14.3}\n"));
    }
    out.push('\n');
    for Promise { what, of, by, should } in &PROMISES {
        let value = match by {
            None => medians.get(of).copied(),
            Some(by) => medians.get(of).zip(medians.get(by)).map(|(of, by)| of / by),
        };
        let value = value.map_or_else(|| "not measured".to_owned(), |value| format!("{value:.3}"));
        out.push_str(&format!("{what:<42} {value:>14}   {should}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_says_so() {
        let medians = BTreeMap::from([("replay s", 1.0), ("push s", 2.0)]);
        let text = table("title", &medians);
        let line = |what: &str| text.lines().find(|line| line.starts_with(what)).unwrap().to_owned();
        assert!(line("replay into").contains(" 0.500 "), "{text}");
        assert!(line("50 clients, appends a sync").contains("not measured"), "{text}");
    }
}
