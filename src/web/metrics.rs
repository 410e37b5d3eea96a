//! Measurements of the running server, for Prometheus. Routes, statuses and sizes; never a value from data, never an id.

use std::time::Duration;

use almoner_model::Timestamp;
use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::flows::cosign::Status;

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
    /// The witnesses of the ledger; nothing where none is asked.
    pub witnesses: WitnessMetrics,
}

/// What is measured of the witnesses of the ledger. Their names are those of the policy.
pub struct WitnessMetrics {
    cosigned: IntGaugeVec,
    age: IntGaugeVec,
    cosigning: IntGaugeVec,
    answers: IntGaugeVec,
    quorum_entries: IntGauge,
    alarms: IntGauge,
}

impl WitnessMetrics {
    fn new(registry: &Registry) -> Self {
        let of_witness = |name: &str, help: &str, labels: &[&str]| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels).expect("valid");
            registry.register(Box::new(gauge.clone())).expect("distinct names");
            gauge
        };
        let gauge = |name: &str, help: &str| IntGauge::new(name, help).expect("valid");
        Self {
            cosigned: of_witness("almoner_witness_entries", "Entries that it cosigned last", &["witness"]),
            age: of_witness("almoner_witness_age_seconds", "Since it cosigned last", &["witness"]),
            cosigning: of_witness("almoner_witness_cosigning", "1 if it did when asked last", &["witness"]),
            answers: of_witness("almoner_witness_answers", "Since the start", &["witness", "answer"]),
            quorum_entries: gauge("almoner_ledger_quorum_entries", "Entries under a quorum of witnesses"),
            alarms: gauge("almoner_ledger_alarms", "Witnesses that refuse or are silent, a missing quorum"),
        }
    }

    /// As it stands.
    pub fn set(&self, status: &Status, now: Timestamp) {
        for witness in &status.witnesses {
            let name = [witness.name.as_str()];
            self.cosigned.with_label_values(&name).set(witness.size.unwrap_or(0) as i64);
            self.cosigning.with_label_values(&name).set((witness.state == "cosigning").into());
            if let Some(time) = witness.cosigned {
                self.age.with_label_values(&name).set((now.millis() - time.millis()) / 1000);
            }
            for (answer, count) in ["cosigned", "refused", "none"].into_iter().zip(witness.counts) {
                self.answers.with_label_values(&[witness.name.as_str(), answer]).set(count as i64);
            }
        }
        self.quorum_entries.set(status.quorum.map_or(0, |(size, _)| size) as i64);
        self.alarms.set(status.alarms.len() as i64);
    }
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
            witnesses: WitnessMetrics::new(&registry),
            registry,
        };
        let all: [Box<dyn prometheus::core::Collector>; 9] = [
            Box::new(metrics.requests.clone()),
            Box::new(metrics.durations.clone()),
            Box::new(metrics.jobs_unfinished.clone()),
            Box::new(metrics.ledger_entries.clone()),
            Box::new(metrics.subjects.clone()),
            Box::new(metrics.upload_bytes.clone()),
            Box::new(metrics.download_bytes.clone()),
            Box::new(metrics.witnesses.quorum_entries.clone()),
            Box::new(metrics.witnesses.alarms.clone()),
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
