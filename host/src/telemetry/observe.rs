//! Gauges: what a host holds at the moment at which somebody asks.

use aral_audit::Progress;
use aral_audit::sink::{SinkName, SinkStatus};
use aral_contract::metric::{
    AUDIT_QUEUE, AUDIT_SINK_LAG, AUDIT_SINK_REFUSED, AUDIT_SINK_STOPPED, AUDIT_UNSIGNED, AUDIT_UNSYNCED,
    AUDIT_WRITABLE, BREAKERS_OPEN, BUILD_INFO, CALLS_RUNNING, CALLS_RUNNING_MAX, CALLS_WAITING, CALLS_WAITING_MAX,
    Metric, POOL_INSTANCES, POOL_INSTANCES_MAX,
};
use metrics::gauge;

use crate::audit::Audit;
use crate::host::Host;

/// Reads everything that this host holds.
pub(super) fn host(host: &Host) {
    gauge!(BUILD_INFO.name, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let dispatcher = host.dispatcher();
    let load = dispatcher.load();
    set(CALLS_RUNNING, load.running.into());
    set(CALLS_RUNNING_MAX, load.running_max.into());
    set(CALLS_WAITING, load.waiting.into());
    set(CALLS_WAITING_MAX, load.waiting_max.into());
    set(BREAKERS_OPEN, dispatcher.breakers_open());
    let (taken, max) = dispatcher.runtime().pool_use();
    set(POOL_INSTANCES, taken);
    set(POOL_INSTANCES_MAX, max);
    let is_writable = host.sink().available().is_ok();
    set(AUDIT_WRITABLE, is_writable.into());
    if let Some(log) = host.audit() {
        audit(log);
    }
}

fn audit(audit: &Audit) {
    let progress = audit.log().progress();
    written(progress);
    for (name, status) in audit.sinks() {
        copied(&name, &status, progress);
    }
}

/// How far the writer of the log is.
fn written(progress: Progress) {
    set(AUDIT_QUEUE, progress.queued);
    set(AUDIT_UNSYNCED, progress.next.saturating_sub(progress.durable));
    set(AUDIT_UNSIGNED, progress.next.saturating_sub(progress.signed));
}

/// How far a copy of it is.
fn copied(name: &SinkName, status: &SinkStatus, progress: Progress) {
    let sink = name.to_string();
    let lag = progress.durable.saturating_sub(status.position);
    gauge!(AUDIT_SINK_LAG.name, "sink" => sink.clone()).set(number(lag));
    gauge!(AUDIT_SINK_REFUSED.name, "sink" => sink.clone()).set(number(status.refused));
    gauge!(AUDIT_SINK_STOPPED.name, "sink" => sink).set(number(status.stopped.into()));
}

pub(super) fn set(metric: Metric, value: u64) {
    gauge!(metric.name).set(number(value));
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact below 2^53, and what is lost above is not seen"
)]
pub(super) fn number(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aral_orchestration::dispatch::GateOptions;

    use super::*;
    use crate::Config;
    use crate::telemetry::prometheus;
    use crate::testing::Full;

    /// Each of these lines is in what is told of what is observed.
    fn assert_told(observe: impl FnOnce(), lines: &[&str]) {
        let prometheus = prometheus().unwrap();
        let handle = prometheus.handle();
        metrics::with_local_recorder(&prometheus, observe);
        let text = handle.render();
        for line in lines {
            assert!(text.lines().any(|told| told == *line), "`{line}` is not in {text}");
        }
    }

    #[test]
    fn how_far_the_log_and_its_copies_are_is_told() {
        let progress = Progress {
            next: 100,
            queued: 7,
            durable: 60,
            signed: 30,
        };
        let stopped = SinkStatus {
            position: 10,
            refused: 3,
            stopped: true,
            ..SinkStatus::default()
        };
        let good = SinkStatus {
            position: 60,
            ..SinkStatus::default()
        };
        let observe = || {
            written(progress);
            copied(&"otlp".parse().unwrap(), &stopped, progress);
            copied(&"stdout".parse().unwrap(), &good, progress);
        };
        assert_told(
            observe,
            &[
                "aral_audit_queue_records 7",
                "aral_audit_unsynced_records 40",
                "aral_audit_unsigned_records 70",
                "aral_audit_sink_lag_records{sink=\"otlp\"} 50",
                "aral_audit_sink_refused_records{sink=\"otlp\"} 3",
                "aral_audit_sink_stopped{sink=\"otlp\"} 1",
                "aral_audit_sink_lag_records{sink=\"stdout\"} 0",
                "aral_audit_sink_refused_records{sink=\"stdout\"} 0",
                "aral_audit_sink_stopped{sink=\"stdout\"} 0",
            ],
        );
    }

    #[test]
    fn what_a_host_bears_and_a_log_that_takes_nothing_are_told() {
        let config = Config {
            gate: GateOptions {
                concurrent_max: 3,
                waiting_max: 5,
                ..GateOptions::default()
            },
            ..Config::closed().unwrap()
        };
        let builder = || Host::builder().config(config.clone());
        let bears = ["aral_calls_running_max 3", "aral_calls_waiting_max 5"];
        let well = builder().build().unwrap();
        assert_told(
            || super::host(&well),
            &[&bears[..], &["aral_audit_writable 1"]].concat(),
        );
        let full = builder().sink(Arc::new(Full)).build().unwrap();
        assert_told(
            || super::host(&full),
            &[&bears[..], &["aral_audit_writable 0"]].concat(),
        );
    }
}
