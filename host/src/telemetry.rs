//! What the host tells those who watch it: metrics as text for Prometheus, traces and metrics for an OpenTelemetry collector.
//! OpenTelemetry gets metrics and traces from here alone; the logs that it gets are a copy of the audit log, made in `aral_audit`.
//! Nothing here holds up a call: what cannot be told is dropped and counted.

mod collector;
mod export;
mod observe;
mod process;
mod recorder;
mod spans;
mod verdict;

use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use aral_contract::metric::{self, MetricUnit};
use aral_contract::{Code, Failure, Sampling};
use aral_runtime::outbound::Outbound;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::audit::transport::Https;
use crate::config::telemetry::TelemetryConfig;
use crate::host::{Host, Parts};
use collector::Collector;
use export::Exporters;
use recorder::Recorder;

pub use spans::{SPAN_TARGET, Spans};

/// How often gauges are read anew and histograms are summed up, where nobody asks for them.
const UPKEEP: Duration = Duration::from_secs(5);

/// Everything that is told. One for each process: it takes what every host of the process counts.
#[derive(Debug)]
pub struct Telemetry {
    shared: Arc<Shared>,
    sampling: Sampling,
    exporters: Option<Exporters>,
    upkeep: Option<Upkeep>,
}

#[derive(Debug)]
struct Shared {
    prometheus: PrometheusHandle,
    hosts: Mutex<Vec<Weak<Parts>>>,
}

/// The thread that keeps house.
#[derive(Debug)]
struct Upkeep {
    thread: JoinHandle<()>,
    /// Dropped: the thread ends.
    stop: mpsc::Sender<()>,
}

impl Telemetry {
    /// Begins to count, and to export if the configuration says where to. `spans` is the layer of the subscriber that
    /// `tracing` has; from now on it hands out what it sees. Comes before a host is made: what was counted before is lost.
    ///
    /// # Errors
    /// `config.invalid` for a collector that cannot be (`outbound` leads to it); `host.internal` if this process counts already, with another
    /// recorder.
    pub fn start(config: &TelemetryConfig, outbound: &Outbound, spans: &Spans) -> Result<Self, Failure> {
        let collector = match &config.otlp {
            Some(otlp) => Some((Collector::start(&otlp.collector, outbound)?, otlp)),
            None => None,
        };
        let exporters = collector.map(|(collector, otlp)| Exporters::start(collector, &otlp.collector.service, spans));
        let exporters = exporters.transpose()?;
        let prometheus = prometheus()?;
        let handle = prometheus.handle();
        let recorder = Recorder::new(prometheus, exporters.as_ref().map(Exporters::meter));
        metrics::set_global_recorder(recorder).map_err(|_taken| Failure::internal("this process counts already"))?;
        recorder::describe();
        let shared = Arc::new(Shared {
            prometheus: handle,
            hosts: Mutex::default(),
        });
        let upkeep = Upkeep::start(Arc::downgrade(&shared))?;
        Ok(Self {
            shared,
            sampling: config.otlp.as_ref().map_or(Sampling::PASS, |otlp| otlp.sampling),
            exporters,
            upkeep: Some(upkeep),
        })
    }

    /// Whether what is exported can be, as far as nobody is asked: the collector, the certificates, and what is shown to it.
    ///
    /// # Errors
    /// `config.invalid` for a collector that cannot be, and for a file that is shown to it and cannot be read.
    pub fn check(config: &TelemetryConfig, outbound: &Outbound) -> Result<(), Failure> {
        let collector = config.otlp.as_ref().map(|otlp| &otlp.collector.server);
        collector.map_or(Ok(()), |server| Https::check(server, collector::TABLE, outbound))
    }

    /// Which traces are kept: for [`crate::HostBuilder::sampling`].
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// From now on, what this host holds is told too, as long as it is there.
    pub fn observe(&self, host: &Host) {
        let mut hosts = self.shared.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.push(Arc::downgrade(&host.0));
        drop(hosts);
        self.shared.refresh();
    }

    /// The answer to `GET /metrics`.
    pub fn text(&self) -> MetricsText {
        MetricsText(Arc::clone(&self.shared))
    }
}

/// All metrics as text. Clones tell the same.
#[derive(Debug, Clone)]
pub struct MetricsText(Arc<Shared>);

impl MetricsText {
    /// As they are now, in the text format of Prometheus.
    pub fn render(&self) -> String {
        self.0.refresh();
        self.0.prometheus.render()
    }
}

#[cfg(test)]
impl MetricsText {
    /// Of no host. The process counts nothing with it.
    pub(crate) fn of_nobody() -> Self {
        Self(Arc::new(Shared {
            prometheus: prometheus().unwrap().handle(),
            hosts: Mutex::default(),
        }))
    }
}

impl Shared {
    fn refresh(&self) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.retain(|host| host.strong_count() > 0);
        let there: Vec<Host> = hosts.iter().filter_map(Weak::upgrade).map(Host).collect();
        drop(hosts);
        there.iter().for_each(observe::host);
        process::observe();
    }
}

impl Upkeep {
    fn start(shared: Weak<Shared>) -> Result<Self, Failure> {
        let (stop, stopped) = mpsc::channel::<()>();
        let work = move || {
            while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(UPKEEP) {
                let Some(shared) = shared.upgrade() else { return };
                shared.refresh();
                shared.prometheus.run_upkeep();
            }
        };
        let thread = std::thread::Builder::new().name("aral-metrics".to_owned()).spawn(work);
        Ok(Self {
            thread: thread.map_err(Failure::internal)?,
            stop,
        })
    }
}

impl Drop for Telemetry {
    /// Exports what is left, for a while.
    fn drop(&mut self) {
        self.shared.refresh();
        if let Some(Upkeep { thread, stop }) = self.upkeep.take() {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("the thread that keeps the metrics panicked");
            }
        }
        if let Some(exporters) = self.exporters.take() {
            exporters.end();
        }
    }
}

fn prometheus() -> Result<metrics_exporter_prometheus::PrometheusRecorder, Failure> {
    let mut builder = PrometheusBuilder::new();
    for one in metric::ALL {
        if let Some(buckets) = buckets(one) {
            let matcher = Matcher::Full(one.name.to_owned());
            builder = builder
                .set_buckets_for_metric(matcher, buckets)
                .map_err(Failure::internal)?;
        }
    }
    Ok(builder.build_recorder())
}

/// The bounds of a histogram; none: it is no histogram.
fn buckets(metric: &metric::Metric) -> Option<&'static [f64]> {
    match (metric.kind, metric.unit) {
        (metric::MetricKind::Counter | metric::MetricKind::Gauge, _) => None,
        (metric::MetricKind::Histogram, MetricUnit::Bytes) => Some(&metric::BYTES_BUCKETS),
        (metric::MetricKind::Histogram, MetricUnit::Seconds | MetricUnit::Count) => Some(&metric::SECONDS_BUCKETS),
    }
}

fn unusable(error: impl std::fmt::Display) -> Failure {
    Failure::new(Code::ConfigInvalid, format!("[telemetry.otlp] is of no use: {error}"))
        .with_hint("aral.toml, [telemetry.otlp]: address = \"https://HOST:4318\"")
}
