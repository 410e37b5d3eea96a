//! Measurements of the running server, for Prometheus. Routes, statuses and sizes; never a value from data, never an id.

use std::time::Duration;

use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

/// What is measured.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    /// Jobs that wait or run.
    pub jobs_unfinished: IntGauge,
    /// Entries of the ledger.
    pub ledger_entries: IntGauge,
    /// People in the registry, each counted once however many hospitals have them.
    pub subjects: IntGauge,
    /// Bytes of uploads received.
    pub upload_bytes: IntCounter,
    /// Bytes of releases sent.
    pub download_bytes: IntCounter,
}

impl Metrics {
    /// All at zero.
    ///
    /// # Panics
    /// Never: the names are distinct and valid, as the test below shows.
    pub fn new() -> Self {
        let registry = Registry::new();
        let requests = IntCounterVec::new(
            Opts::new("almoner_http_requests_total", "Requests answered"),
            &["method", "route", "status"],
        )
        .expect("valid");
        let buckets = vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0];
        let durations = HistogramVec::new(
            HistogramOpts::new("almoner_http_request_duration_seconds", "Time to the head of the answer")
                .buckets(buckets),
            &["method", "route"],
        )
        .expect("valid");
        let gauge = |name: &str, help: &str| IntGauge::new(name, help).expect("valid");
        let counter = |name: &str, help: &str| IntCounter::new(name, help).expect("valid");
        let metrics = Self {
            requests,
            durations,
            jobs_unfinished: gauge("almoner_jobs_unfinished", "Jobs that wait or run"),
            ledger_entries: gauge("almoner_ledger_entries", "Entries of the ledger"),
            subjects: gauge("almoner_subjects", "People in the registry, each counted once"),
            upload_bytes: counter("almoner_upload_bytes_total", "Bytes of uploads received"),
            download_bytes: counter("almoner_download_bytes_total", "Bytes of releases sent"),
            registry,
        };
        let all: [Box<dyn prometheus::core::Collector>; 7] = [
            Box::new(metrics.requests.clone()),
            Box::new(metrics.durations.clone()),
            Box::new(metrics.jobs_unfinished.clone()),
            Box::new(metrics.ledger_entries.clone()),
            Box::new(metrics.subjects.clone()),
            Box::new(metrics.upload_bytes.clone()),
            Box::new(metrics.download_bytes.clone()),
        ];
        for collector in all {
            metrics.registry.register(collector).expect("distinct names");
        }
        metrics
    }

    /// Counts an answered request.
    pub fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        self.requests.with_label_values(&[method, route, &status.to_string()]).inc();
        self.durations.with_label_values(&[method, route]).observe(took.as_secs_f64());
    }

    /// The text exposition format.
    ///
    /// # Errors
    /// If a metric cannot be written, which would be a bug.
    pub fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(out)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route() {
        let metrics = Metrics::new();
        metrics.answered("GET", "/v1/jobs/{id}", 200, Duration::from_millis(3));
        let text = String::from_utf8(metrics.text().expect("text")).expect("UTF-8");
        assert!(
            text.contains(
                r#"almoner_http_requests_total{method="GET",route="/v1/jobs/{id}",status="200"} 1"#
            )
        );
    }
}
