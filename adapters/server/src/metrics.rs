//! Counters in the text form of Prometheus. Numbers and names of operations only: nothing of what is stored.

use burnlog_http::{Operation, ROUTES};
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the histogram of durations, in seconds.
const BOUNDS: [f64; 8] = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, f64::INFINITY];
/// Classes of statuses: 2xx, 4xx, 5xx.
const CLASSES: [&str; 3] = ["2xx", "4xx", "5xx"];

/// What is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    operations: Vec<PerOperation>,
    /// Connections that are open.
    pub(crate) connections: AtomicU64,
    /// Connections accepted since the start.
    pub(crate) accepted: AtomicU64,
    /// Requests without a token that is known.
    pub(crate) unknown_tokens: AtomicU64,
    /// Requests that were told to come again.
    pub(crate) turned_away: AtomicU64,
}

#[derive(Debug)]
struct PerOperation {
    operation: Operation,
    answers: [AtomicU64; 3],
    durations: [AtomicU64; 8],
    micros: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let operations = ROUTES.iter().map(|route| PerOperation {
            operation: route.operation,
            answers: Default::default(),
            durations: Default::default(),
            micros: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        });
        Self {
            operations: operations.collect(),
            connections: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            unknown_tokens: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
        }
    }

    /// Counts one request that was answered.
    pub(crate) fn answered(&self, operation: Operation, status: u16, took: Duration, sizes: (u64, u64)) {
        let Some(kept) = self.operations.iter().find(|kept| kept.operation == operation) else { return };
        let class = match status {
            ..400 => 0,
            400..500 => 1,
            _ => 2,
        };
        let add = |counter: &AtomicU64, more: u64| {
            counter.fetch_add(more, Ordering::Relaxed);
        };
        add(&kept.answers[class], 1);
        let within = BOUNDS.iter().position(|bound| took.as_secs_f64() <= *bound);
        add(&kept.durations[within.unwrap_or(BOUNDS.len() - 1)], 1);
        add(&kept.micros, took.as_micros() as u64);
        add(&kept.bytes_in, sizes.0);
        add(&kept.bytes_out, sizes.1);
    }

    /// Writes all counters; `gauges` are name, help and value of what is asked for elsewhere.
    pub(crate) fn text(&self, gauges: &[(&str, &str, u64)]) -> String {
        let mut out = String::new();
        let head = |out: &mut String, name: &str, kind: &str, help: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        head(&mut out, "burnlog_requests_total", "counter", "Requests answered.");
        for kept in &self.operations {
            for (class, counter) in CLASSES.iter().zip(&kept.answers) {
                let name = kept.operation.name();
                let _ = writeln!(
                    out,
                    "burnlog_requests_total{{operation=\"{name}\",status=\"{class}\"}} {}",
                    value(counter)
                );
            }
        }
        head(&mut out, "burnlog_request_seconds", "histogram", "Time from header to answer.");
        for kept in &self.operations {
            let name = kept.operation.name();
            let mut sum = 0;
            for (bound, counter) in BOUNDS.iter().zip(&kept.durations) {
                sum += value(counter);
                let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
                let _ = writeln!(
                    out,
                    "burnlog_request_seconds_bucket{{operation=\"{name}\",le=\"{bound}\"}} {sum}"
                );
            }
            let seconds = value(&kept.micros) as f64 / 1e6;
            let _ = writeln!(out, "burnlog_request_seconds_sum{{operation=\"{name}\"}} {seconds}");
            let _ = writeln!(out, "burnlog_request_seconds_count{{operation=\"{name}\"}} {sum}");
        }
        for (name, help, of) in [
            ("burnlog_message_bytes_in_total", "Bytes of messages taken, unpacked.", 0),
            ("burnlog_message_bytes_out_total", "Bytes of bodies sent.", 1),
        ] {
            head(&mut out, name, "counter", help);
            for kept in &self.operations {
                let bytes = if of == 0 { &kept.bytes_in } else { &kept.bytes_out };
                let _ = writeln!(out, "{name}{{operation=\"{}\"}} {}", kept.operation.name(), value(bytes));
            }
        }
        for (name, kind, help, counter) in [
            ("burnlog_connections", "gauge", "Open connections.", &self.connections),
            ("burnlog_connections_total", "counter", "Connections accepted.", &self.accepted),
            (
                "burnlog_unknown_tokens_total",
                "counter",
                "Requests without a known token.",
                &self.unknown_tokens,
            ),
            ("burnlog_turned_away_total", "counter", "Requests told to come again.", &self.turned_away),
        ] {
            head(&mut out, name, kind, help);
            let _ = writeln!(out, "{name} {}", value(counter));
        }
        for (name, help, value) in gauges {
            head(&mut out, name, "gauge", help);
            let _ = writeln!(out, "{name} {value}");
        }
        out
    }
}
