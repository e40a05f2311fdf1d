//! Counts of what a server did, as Prometheus reads them.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;

/// The ends of requests, by the labels that they are counted under.
const OUTCOMES: [&str; 6] = ["answered", "refused", "timed_out", "rejected", "failed", "disconnected"];

/// The upper ends of the buckets of batch sizes, and of seconds until an answer.
const SIZES: [f64; 6] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0];
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Counts since the server began.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    outcomes: [AtomicU64; OUTCOMES.len()],
    sizes: Histogram<{ SIZES.len() }>,
    micros: Histogram<{ SECONDS.len() }>,
    connections: AtomicU64,
}

/// Counts of values in buckets, and their sum in whole numbers of a unit.
#[derive(Debug)]
struct Histogram<const BUCKETS: usize> {
    counts: [AtomicU64; BUCKETS],
    all: AtomicU64,
    sum: AtomicU64,
}

impl<const BUCKETS: usize> Default for Histogram<BUCKETS> {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; BUCKETS],
            all: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }
}

impl<const BUCKETS: usize> Histogram<BUCKETS> {
    fn add(&self, ends: &[f64; BUCKETS], value: f64, units: u64) {
        if let Some(bucket) = ends.iter().position(|&end| value <= end) {
            self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.all.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(units, Ordering::Relaxed);
    }

    /// Its lines: Prometheus has each bucket count those below it, too.
    fn write(&self, text: &mut String, name: &str, ends: &[f64; BUCKETS], units: f64) {
        let mut below = 0;
        for (end, count) in ends.iter().zip(&self.counts) {
            below += count.load(Ordering::Relaxed);
            line(text, format_args!("{name}_bucket{{le=\"{end}\"}} {below}"));
        }
        let all = self.all.load(Ordering::Relaxed);
        line(text, format_args!("{name}_bucket{{le=\"+Inf\"}} {all}"));
        line(text, format_args!("{name}_sum {}", self.sum.load(Ordering::Relaxed) as f64 / units));
        line(text, format_args!("{name}_count {all}"));
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes any text");
}

impl Metrics {
    /// Counts a request that was answered with this status, or, without one, whose client left before.
    pub(crate) fn request(&self, status: Option<StatusCode>) {
        let outcome = match status {
            None => "disconnected",
            Some(StatusCode::REQUEST_TIMEOUT) => "timed_out",
            Some(StatusCode::SERVICE_UNAVAILABLE) => "rejected",
            Some(status) if status.is_server_error() => "failed",
            Some(status) if status.is_client_error() => "refused",
            Some(_) => "answered",
        };
        let index = OUTCOMES.iter().position(|&name| name == outcome).expect("each is in the list");
        self.outcomes[index].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a batch of so many images.
    pub(crate) fn batch(&self, size: usize) {
        self.sizes.add(&SIZES, size as f64, size as u64);
    }

    /// Counts an image that was answered after this time.
    pub(crate) fn classified(&self, time: Duration) {
        self.micros.add(&SECONDS, time.as_secs_f64(), u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Counts a connection for as long as what this returns lives.
    pub(crate) fn connection(&self) -> Connected<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(self)
    }

    /// All counts as text, with the number of requests that wait.
    pub(crate) fn text(&self, waiting: usize) -> String {
        let mut text = String::new();
        let about = |text: &mut String, name: &str, kind: &str, help: &str| {
            line(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
        };
        about(&mut text, "nin_requests_total", "counter", "Requests by how they ended.");
        for (name, count) in OUTCOMES.iter().zip(&self.outcomes) {
            let count = count.load(Ordering::Relaxed);
            line(&mut text, format_args!("nin_requests_total{{outcome=\"{name}\"}} {count}"));
        }
        about(&mut text, "nin_batch_size", "histogram", "Images that the network answered together.");
        self.sizes.write(&mut text, "nin_batch_size", &SIZES, 1.0);
        about(&mut text, "nin_classify_seconds", "histogram", "Time from an image's request to its answer.");
        self.micros.write(&mut text, "nin_classify_seconds", &SECONDS, 1e6);
        about(&mut text, "nin_queue_length", "gauge", "Requests that wait for the network.");
        line(&mut text, format_args!("nin_queue_length {waiting}"));
        about(&mut text, "nin_connections", "gauge", "Open connections.");
        line(&mut text, format_args!("nin_connections {}", self.connections.load(Ordering::Relaxed)));
        text
    }
}

/// An open connection.
pub(crate) struct Connected<'a>(&'a Metrics);

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_count_what_is_below_them() {
        let metrics = Metrics::default();
        [1, 3, 32].into_iter().for_each(|size| metrics.batch(size));
        metrics.classified(Duration::from_millis(20));
        metrics.classified(Duration::from_secs(60));
        metrics.request(None);
        metrics.request(Some(StatusCode::SERVICE_UNAVAILABLE));
        let text = metrics.text(5);
        for line in [
            "nin_batch_size_bucket{le=\"1\"} 1",
            "nin_batch_size_bucket{le=\"2\"} 1",
            "nin_batch_size_bucket{le=\"4\"} 2",
            "nin_batch_size_bucket{le=\"32\"} 3",
            "nin_batch_size_bucket{le=\"+Inf\"} 3",
            "nin_batch_size_sum 36",
            "nin_classify_seconds_bucket{le=\"0.01\"} 0",
            "nin_classify_seconds_bucket{le=\"0.025\"} 1",
            "nin_classify_seconds_bucket{le=\"10\"} 1",
            "nin_classify_seconds_bucket{le=\"+Inf\"} 2",
            "nin_classify_seconds_sum 60.02",
            "nin_requests_total{outcome=\"disconnected\"} 1",
            "nin_requests_total{outcome=\"rejected\"} 1",
            "nin_queue_length 5",
        ] {
            assert!(text.lines().any(|own| own == line), "no {line} in\n{text}");
        }
    }
}
