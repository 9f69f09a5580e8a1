//! Brings spans and metrics to the collector. Spans wait in a bounded queue, and what has no room there is lost and counted:
//! no call ever waits for a collector.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use aral_contract::Failure;
use aral_contract::metric::{METRIC_EXPORTS_FAILED, SERIES_MAX, SPANS_DROPPED, SPANS_EXPORTED};
use aral_runtime::entropy;
use metrics::counter;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_otlp::{
    MetricExporter, Protocol, RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{Instrument, PeriodicReader, SdkMeterProvider, Stream, Temporality};
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc as queue, oneshot};

use super::collector::{Client, Collector};
use super::spans::{Outlet, Spans};
use super::unusable;

/// Spans that wait to be sent. Beyond that they are lost.
const QUEUE_MAX: usize = 8_192;
/// Spans that are sent at once.
const BATCH_MAX: usize = 512;
/// How long spans gather before they are sent.
const GATHER: Duration = Duration::from_millis(200);
/// How often metrics are sent.
const INTERVAL: Duration = Duration::from_secs(15);
/// How long the end of the process waits for what is left.
const FAREWELL: Duration = Duration::from_secs(2);

/// Everything that goes to the collector.
#[derive(Debug)]
pub(super) struct Exporters {
    meters: SdkMeterProvider,
    /// Dropped: what is left is sent, and then this ends.
    last: oneshot::Sender<()>,
    /// Ends when the last spans are sent.
    done: mpsc::Receiver<()>,
    leave: oneshot::Sender<()>,
}

impl Exporters {
    pub(super) fn start(collector: Collector, service: &str, spans: &Spans) -> Result<Self, Failure> {
        // Counters of several servers with one configuration would else be one that jumps up and down.
        let instance = entropy::trace_id().to_string();
        let resource = Resource::builder_empty()
            .with_service_name(service.to_owned())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", instance))
            .build();
        let taking = Taking::new("spans", collector.client());
        let mut exporter = span_exporter(&taking.client)?;
        exporter.set_resource(&resource);
        let (sender, receiver) = queue::channel(QUEUE_MAX);
        let (last, ending) = oneshot::channel();
        let (finished, done) = mpsc::channel();
        collector.runtime.spawn(async move {
            deliver(exporter, taking, receiver, ending).await;
            drop(finished);
        });
        if !spans.connect(Box::new(Queue(sender))) {
            return Err(Failure::internal("these spans go elsewhere already"));
        }
        Ok(Self {
            meters: meters(Metrics::to(&collector)?, resource),
            last,
            done,
            leave: collector.leave,
        })
    }

    pub(super) fn meter(&self) -> Meter {
        self.meters.meter("aral")
    }

    /// Sends what is left, for a while.
    pub(super) fn end(self) {
        drop(self.last);
        let meters = self.meters;
        let (finished, done) = mpsc::channel::<()>();
        let work = move || {
            if let Err(error) = meters.shutdown_with_timeout(FAREWELL) {
                tracing::warn!(%error, "the last metrics were not exported");
            }
            drop(finished);
        };
        let spawned = std::thread::Builder::new().name("aral-farewell".to_owned()).spawn(work);
        // Both ends are told by the channel that closes.
        let _spans = self.done.recv_timeout(FAREWELL);
        if spawned.is_ok() {
            let _metrics = done.recv_timeout(FAREWELL);
        }
        drop(self.leave);
    }
}

/// Takes as many series of each metric as the recorder lets through. By itself it would sum up those beyond 2,000 as one, and
/// others each time that it looks.
fn meters(exporter: impl PushMetricExporter, resource: Resource) -> SdkMeterProvider {
    let every_series = |_: &Instrument| Stream::builder().with_cardinality_limit(SERIES_MAX).build().ok();
    let reader = PeriodicReader::builder(exporter).with_interval(INTERVAL).build();
    SdkMeterProvider::builder()
        .with_reader(reader)
        .with_resource(resource)
        .with_view(every_series)
        .build()
}

fn span_exporter(client: &Client) -> Result<SpanExporter, Failure> {
    SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint("http://collector/v1/traces")
        .with_retry_policy(RetryPolicy::disabled())
        .with_http_client(client.clone())
        .build()
        .map_err(unusable)
}

fn metric_exporter(client: &Client) -> Result<MetricExporter, Failure> {
    MetricExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint("http://collector/v1/metrics")
        .with_retry_policy(RetryPolicy::disabled())
        .with_http_client(client.clone())
        .build()
        .map_err(unusable)
}

/// Whether the collector takes what is of one kind. Says so once where it begins not to; the SDK would tell nobody.
struct Taking {
    what: &'static str,
    client: Client,
    is_failing: AtomicBool,
}

impl Taking {
    fn new(what: &'static str, client: Client) -> Self {
        Self {
            what,
            client,
            is_failing: AtomicBool::new(false),
        }
    }

    /// How many of what was just exported were refused; none: nothing was taken.
    fn refused(&self, exported: &OTelSdkResult) -> Option<u64> {
        let verdict = self.client.verdict().unwrap_or_default();
        let reason = match exported {
            Ok(()) => verdict.reason,
            Err(error) => Some(verdict.reason.unwrap_or_else(|| error.to_string())),
        };
        let was_failing = self.is_failing.swap(reason.is_some(), Ordering::Relaxed);
        if let Some(reason) = reason
            && !was_failing
        {
            let what = self.what;
            tracing::warn!(%reason, "the collector of [telemetry.otlp] does not take all {what}; what it does not take is lost");
        }
        exported.is_ok().then_some(verdict.refused)
    }
}

/// Exports metrics.
struct Metrics {
    exporter: MetricExporter,
    taking: Taking,
}

impl Metrics {
    fn to(collector: &Collector) -> Result<Self, Failure> {
        let taking = Taking::new("metrics", collector.client());
        Ok(Self {
            exporter: metric_exporter(&taking.client)?,
            taking,
        })
    }
}

impl PushMetricExporter for Metrics {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let exported = self.exporter.export(metrics).await;
        if self.taking.refused(&exported) != Some(0) {
            counter!(METRIC_EXPORTS_FAILED.name).increment(1);
        }
        exported
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

struct Queue(queue::Sender<SpanData>);

impl Outlet for Queue {
    fn take(&self, span: SpanData) {
        match self.0.try_send(span) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => dropped("queue_full", 1),
        }
    }
}

fn dropped(reason: &'static str, count: u64) {
    if count > 0 {
        counter!(SPANS_DROPPED.name, "reason" => reason).increment(count);
    }
}

/// Sends batches until it is told to end and the queue is empty. A batch that was not taken is lost: the next spans say more
/// than old ones.
async fn deliver(
    exporter: SpanExporter,
    taking: Taking,
    mut queue: queue::Receiver<SpanData>,
    mut ending: oneshot::Receiver<()>,
) {
    let mut is_ending = false;
    loop {
        if !is_ending {
            is_ending = tokio::time::timeout(GATHER, &mut ending).await.is_ok();
        }
        if is_ending {
            queue.close();
        }
        while let Some(batch) = next(&mut queue) {
            let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
            match taking.refused(&exporter.export(batch).await) {
                Some(refused) => {
                    let refused = refused.min(count);
                    dropped("refused", refused);
                    counter!(SPANS_EXPORTED.name).increment(count.saturating_sub(refused));
                }
                None => dropped("export_failed", count),
            }
        }
        if is_ending {
            return;
        }
    }
}

/// What waits; none: nothing.
fn next(queue: &mut queue::Receiver<SpanData>) -> Option<Vec<SpanData>> {
    let mut batch = Vec::new();
    while batch.len() < BATCH_MAX
        && let Ok(span) = queue.try_recv()
    {
        batch.push(span);
    }
    (!batch.is_empty()).then_some(batch)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};
    use std::time::SystemTime;

    use aral_contract::metric::{CALL_SECONDS, CALLS};
    use aral_runtime::outbound::Outbound;
    use metrics::{histogram, with_local_recorder};
    use opentelemetry::InstrumentationScope;
    use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status};
    use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
    use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};

    use super::*;
    use crate::config::audit::{OtlpConfig, ServerConfig};
    use crate::telemetry::prometheus;
    use crate::telemetry::recorder::Recorder;

    fn span() -> SpanData {
        SpanData {
            span_context: SpanContext::NONE,
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "call".into(),
            start_time: SystemTime::UNIX_EPOCH,
            end_time: SystemTime::UNIX_EPOCH,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::default(),
        }
    }

    #[test]
    fn a_span_for_which_there_is_no_room_is_lost_and_counted_and_nobody_waits() {
        let prometheus = prometheus().unwrap();
        let handle = prometheus.handle();
        let recorder = Recorder::new(prometheus, None);
        let (sender, mut waiting) = queue::channel(1);
        let queue = Queue(sender);
        with_local_recorder(&recorder, || {
            // Nobody takes anything out meanwhile: whoever waited would wait for ever.
            (0..3).for_each(|_| queue.take(span()));
        });
        assert_eq!(next(&mut waiting).map(|batch| batch.len()), Some(1));
        let lost = format!("{}{{reason=\"queue_full\"}} 2\n", SPANS_DROPPED.name);
        assert!(handle.render().contains(&lost), "{}", handle.render());
    }

    /// A collector that answers every request like this.
    fn collector(answer: &'static str) -> Collector {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        // It ends with the tests.
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for mut stream in listener.incoming().flatten() {
                let _begun = stream.read(&mut [0; 4096]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                open.push(stream);
            }
        });
        let config = OtlpConfig {
            server: ServerConfig {
                address,
                ca_pem: None,
                authorization_file: None,
                timeout_ms: 60_000,
            },
            service: "of-the-tests".to_owned(),
        };
        Collector::start(&config, &Outbound::default()).unwrap()
    }

    #[test]
    fn metrics_and_spans_that_a_collector_does_not_take_are_counted() {
        const TOOK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        // `partial_success` with one that was refused.
        const REFUSED: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\n\x0a\x02\x08\x01";
        const WRONG_KEY: &str = "HTTP/1.1 401 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let exported = |count: u64| format!("{} {count}\n", SPANS_EXPORTED.name);
        let lost = |reason: &str, count: u64| format!("{}{{reason=\"{reason}\"}} {count}\n", SPANS_DROPPED.name);
        for (answer, metrics_fail, told) in [
            (TOOK, false, vec![exported(2)]),
            (REFUSED, true, vec![exported(1), lost("refused", 1)]),
            (WRONG_KEY, true, vec![lost("export_failed", 2)]),
        ] {
            let prometheus = prometheus().unwrap();
            let handle = prometheus.handle();
            let recorder = Recorder::new(prometheus, None);
            let collector = collector(answer);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            with_local_recorder(&recorder, || {
                let exporter = Metrics::to(&collector).unwrap();
                let taking = Taking::new("spans", collector.client());
                let spans = span_exporter(&taking.client).unwrap();
                let (sender, receiver) = queue::channel(2);
                (0..2).for_each(|_| sender.try_send(span()).unwrap());
                let (last, ending) = oneshot::channel();
                drop((sender, last));
                runtime.unwrap().block_on(async {
                    let exported = exporter.export(&ResourceMetrics::default()).await;
                    assert_eq!(exported.is_err(), answer == WRONG_KEY, "{exported:?}");
                    deliver(spans, taking, receiver, ending).await;
                });
            });
            let text = handle.render();
            let failed = format!("{} 1\n", METRIC_EXPORTS_FAILED.name);
            assert_eq!(text.contains(&failed), metrics_fail, "{answer}: {text}");
            for line in told {
                assert!(text.contains(&line), "{answer}: {line} is not in {text}");
            }
        }
    }

    /// The points that it gets: the name of the metric, and whether the point is the sum of those for which there is no room.
    #[derive(Clone, Default)]
    struct Points(Arc<Mutex<Vec<(String, bool)>>>);

    impl Points {
        fn take<'a>(&self, name: &str, mut labels: impl Iterator<Item = &'a KeyValue>) {
            let is_sum = labels.any(|label| label.key.as_str() == "otel.metric.overflow");
            self.0.lock().unwrap().push((name.to_owned(), is_sum));
        }
    }

    impl PushMetricExporter for Points {
        async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
            for metric in metrics.scope_metrics().flat_map(|scope| scope.metrics()) {
                match metric.data() {
                    AggregatedMetrics::U64(MetricData::Sum(sum)) => {
                        (sum.data_points()).for_each(|point| self.take(metric.name(), point.attributes()));
                    }
                    AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
                        (histogram.data_points()).for_each(|point| self.take(metric.name(), point.attributes()));
                    }
                    _ => {}
                }
            }
            Ok(())
        }

        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }

        fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
            Ok(())
        }

        fn temporality(&self) -> Temporality {
            Temporality::Cumulative
        }
    }

    #[test]
    fn a_collector_gets_every_series_that_is_counted() {
        let points = Points::default();
        let meters = meters(points.clone(), Resource::builder_empty().build());
        let recorder = Recorder::new(prometheus().unwrap(), Some(meters.meter("aral")));
        with_local_recorder(&recorder, || {
            for number in 0..SERIES_MAX + 5 {
                counter!(CALLS.name, "capability" => number.to_string()).increment(1);
                histogram!(CALL_SECONDS.name, "capability" => number.to_string()).record(0.1);
            }
        });
        meters.force_flush().unwrap();
        let points = points.0.lock().unwrap();
        for metric in [CALLS, CALL_SECONDS] {
            let of_metric = points.iter().filter(|(name, _)| name == metric.name);
            assert_eq!(of_metric.count(), SERIES_MAX, "{}", metric.name);
        }
        assert!(points.iter().all(|(_, is_sum)| !is_sum));
    }
}
