//! Every metric of the host by name, kind, unit and labels. Each layer counts with these names through the facade `metrics`,
//! and whoever installs a recorder learns from here what there is. Nothing here counts.

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It counts values by size.
    Histogram,
}

impl MetricKind {
    /// The word of the Prometheus text format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricUnit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name, with unit and kind as Prometheus wants them.
    pub name: &'static str,
    /// How it behaves.
    pub kind: MetricKind,
    /// What one is.
    pub unit: MetricUnit,
    /// Its labels. Each has a bounded number of values.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// Bounds of what is counted in seconds: from what a call costs at least to what a call may take.
pub const SECONDS_BUCKETS: [f64; 17] = [
    0.000_01, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
    30.0,
];
/// Bounds of what is counted in bytes: from one page of linear memory to the largest of all.
pub const BYTES_BUCKETS: [f64; 9] = [
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];

/// Most values of the label `capability`. What is registered beyond that is counted together as `other`.
pub const CAPABILITY_SERIES_MAX: usize = 256;
/// Most series of one metric, whatever its labels. Stops a label that nobody bounded from filling memory.
pub const SERIES_MAX: usize = 8_192;

macro_rules! metrics {
    ($($variant:ident = $name:literal, $kind:ident, $unit:ident, [$($label:literal),*], $help:literal;)*) => {
        $(#[doc = $help] pub const $variant: Metric = Metric {
            name: $name,
            kind: MetricKind::$kind,
            unit: MetricUnit::$unit,
            labels: &[$($label),*],
            help: $help,
        };)*

        /// All of them, in the order of the documentation.
        pub const ALL: &[Metric] = &[$($variant),*];
    };
}

metrics! {
    CALLS = "aral_calls_total", Counter, Count, ["capability", "code"], "Calls that ended, by capability and error code (`ok` if there is none).";
    CALL_SECONDS = "aral_call_seconds", Histogram, Seconds, ["capability"], "From the request for a call to its kept end.";
    CALL_STAGE_SECONDS = "aral_call_stage_seconds", Histogram, Seconds, ["stage"], "Time in one stage of a call: authorize, wait, instantiate, run, audit.";
    DENIALS = "aral_denials_total", Counter, Count, ["code", "by"], "Calls that were denied, by error code and by who lacked the yes: persona, policy, or trust in a document.";
    BREAKERS_OPEN = "aral_breakers_open", Gauge, Count, [], "Breakers that let no call through: a capability that kept failing for a persona.";
    BREAKER_OPENED = "aral_breaker_opened_total", Counter, Count, [], "Times that a breaker opened, also once more after a call that was tried.";
    HOST_CALLS = "aral_host_calls_total", Counter, Count, ["permission", "outcome"], "Host functions that guests called, by permission; allowed or denied.";
    FUEL = "aral_fuel_total", Counter, Count, ["capability"], "Fuel that calls used.";
    MEMORY_PEAK = "aral_memory_peak_bytes", Histogram, Bytes, [], "Most linear memory that a call had at once.";
    CALLS_RUNNING = "aral_calls_running", Gauge, Count, [], "Calls that have a place.";
    CALLS_RUNNING_MAX = "aral_calls_running_max", Gauge, Count, [], "Places: `concurrent_calls_max` of the section runtime.";
    CALLS_WAITING = "aral_calls_waiting", Gauge, Count, [], "Calls that wait for a place.";
    CALLS_WAITING_MAX = "aral_calls_waiting_max", Gauge, Count, [], "Calls that may wait: `waiting_calls_max` of the section runtime.";
    POOL_INSTANCES = "aral_pool_instances", Gauge, Count, [], "Instances that are taken from the pools of the engines.";
    POOL_INSTANCES_MAX = "aral_pool_instances_max", Gauge, Count, [], "Instances that the pools of the engines hold; 0 without a pool.";
    AUDIT_WRITABLE = "aral_audit_writable", Gauge, Count, [], "1: the audit log takes records; 0: nothing new begins.";
    AUDIT_QUEUE = "aral_audit_queue_records", Gauge, Count, [], "Records that wait for the writer of the audit log.";
    AUDIT_UNSYNCED = "aral_audit_unsynced_records", Gauge, Count, [], "Records that are not on stable storage yet.";
    AUDIT_UNSIGNED = "aral_audit_unsigned_records", Gauge, Count, [], "Records that no checkpoint signs yet.";
    AUDIT_SINK_LAG = "aral_audit_sink_lag_records", Gauge, Count, ["sink"], "Records on stable storage that a copy of the log does not have yet.";
    AUDIT_SINK_REFUSED = "aral_audit_sink_refused_records", Gauge, Count, ["sink"], "Records that a copy of the log refused for good.";
    AUDIT_SINK_STOPPED = "aral_audit_sink_stopped", Gauge, Count, ["sink"], "1: a copy of the log does not go on any more, because what comes next in the log is damaged or gone.";
    AUTHENTICATION_FAILURES = "aral_authentication_failures_total", Counter, Count, ["method"], "Requests whose sender was not believed, and handshakes in which a certificate was refused.";
    RATE_LIMITED = "aral_rate_limited_total", Counter, Count, ["limit"], "Requests that a limit of the server refused.";
    RATES_KEYS = "aral_rates_keys", Gauge, Count, ["table"], "Keys whose use the limits of the server remember: of strangers, of handshakes, of what asks nobody who they are, and of callers.";
    RATES_KEYS_MAX = "aral_rates_keys_max", Gauge, Count, [], "Keys that each of these tables may remember: `keys_max` of the section serve.rates.";
    RATES_REDIS_UP = "aral_rates_redis_up", Gauge, Count, [], "1: the Redis that keeps the limits of several servers answers; 0: it does not, and nobody waits for it.";
    HTTP_REQUESTS = "aral_http_requests_total", Counter, Count, ["method", "route", "status"], "Requests that were answered, by the template of their address.";
    HTTP_REQUEST_SECONDS = "aral_http_request_seconds", Histogram, Seconds, ["route"], "From the last header field of a request to the head of its answer.";
    HTTP_REQUESTS_RUNNING = "aral_http_requests_running", Gauge, Count, [], "Requests that are being answered.";
    HTTP_CONNECTIONS = "aral_http_connections", Gauge, Count, [], "Open connections.";
    SPANS_EXPORTED = "aral_telemetry_spans_exported_total", Counter, Count, [], "Spans that the collector took.";
    SPANS_DROPPED = "aral_telemetry_spans_dropped_total", Counter, Count, ["reason"], "Spans that were lost: queue_full, export_failed or refused.";
    METRIC_EXPORTS_FAILED = "aral_telemetry_metric_exports_failed_total", Counter, Count, [], "Times that the collector did not take the metrics, or not all of them.";
    TRACES_REFUSED = "aral_telemetry_traces_refused_total", Counter, Count, [], "Requests whose caller names a trace that would be exported, and whose address has no more of its share.";
    SERIES_REFUSED = "aral_telemetry_series_refused_total", Counter, Count, [], "Values that were not counted because their metric has too many series.";
    LOG_LINES_DROPPED = "aral_log_lines_dropped_total", Counter, Count, [], "Lines of the log that were lost because whoever reads standard error is too slow, or because it refuses what is written.";
    BUILD_INFO = "aral_build_info", Gauge, Count, ["version"], "1, with the version of the program.";
    PROCESS_CPU = "process_cpu_seconds_total", Counter, Seconds, [], "Processor time of the process, in whole seconds.";
    PROCESS_RESIDENT = "process_resident_memory_bytes", Gauge, Bytes, [], "Memory of the process that is in use.";
    PROCESS_VIRTUAL = "process_virtual_memory_bytes", Gauge, Bytes, [], "Address space of the process; most of it is reserved for guests and not in use.";
    PROCESS_FDS = "process_open_fds", Gauge, Count, [], "Descriptors that the process has open.";
    PROCESS_FDS_MAX = "process_max_fds", Gauge, Count, [], "Descriptors that the process may have open.";
    PROCESS_THREADS = "process_threads", Gauge, Count, [], "Threads of the process.";
    PROCESS_START = "process_start_time_seconds", Gauge, Seconds, [], "When the process began, in seconds since 1970.";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_say_unit_and_kind() {
        let names: HashSet<&str> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(
                is_word(metric.name) && metric.labels.iter().all(|label| is_word(label)),
                "{metric:?}"
            );
            if metric.kind == MetricKind::Counter {
                assert!(metric.name.ends_with("_total"), "{metric:?}");
            }
            let unit = match metric.unit {
                MetricUnit::Count => continue,
                MetricUnit::Bytes => "_bytes",
                MetricUnit::Seconds => "_seconds",
            };
            assert!(metric.name.trim_end_matches("_total").ends_with(unit), "{metric:?}");
        }
    }

    #[test]
    fn every_metric_is_documented() {
        let document = include_str!("../../../../docs/metrics.md");
        for metric in ALL {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let labels = if labels.is_empty() {
                "–".to_owned()
            } else {
                labels.join(", ")
            };
            let line = format!(
                "\n| `{}` | {} | {labels} | {} |",
                metric.name,
                metric.kind.as_str(),
                metric.help
            );
            assert!(document.contains(&line), "docs/metrics.md has no line{line}");
        }
        let is_metric = |line: &&str| line.starts_with("| `aral_") || line.starts_with("| `process_");
        let lines = document.lines().filter(is_metric).count();
        assert_eq!(
            lines,
            ALL.len(),
            "docs/metrics.md documents a metric that does not exist"
        );
    }
}
