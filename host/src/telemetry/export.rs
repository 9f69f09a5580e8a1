//! Brings spans and metrics to the collector. Spans wait in a bounded queue, and what has no room there is lost and counted:
//! no call ever waits for a collector.

use std::sync::mpsc;
use std::time::Duration;

use aral_contract::Failure;
use aral_contract::metric::{SERIES_MAX, SPANS_DROPPED, SPANS_EXPORTED};
use metrics::counter;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_otlp::{
    MetricExporter, Protocol, RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{Instrument, PeriodicReader, SdkMeterProvider, Stream};
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
        let Collector { client, leave } = collector;
        let resource = Resource::builder_empty()
            .with_service_name(service.to_owned())
            .with_attribute(opentelemetry::KeyValue::new(
                "service.version",
                env!("CARGO_PKG_VERSION"),
            ))
            .build();
        let mut exporter = span_exporter(&client)?;
        exporter.set_resource(&resource);
        let (sender, receiver) = queue::channel(QUEUE_MAX);
        let (last, ending) = oneshot::channel();
        let (finished, done) = mpsc::channel();
        client.runtime().spawn(async move {
            deliver(exporter, receiver, ending).await;
            drop(finished);
        });
        if !spans.connect(Box::new(Queue(sender))) {
            return Err(Failure::internal("these spans go elsewhere already"));
        }
        Ok(Self {
            meters: meters(metric_exporter(&client)?, resource),
            last,
            done,
            leave,
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

struct Queue(queue::Sender<SpanData>);

impl Outlet for Queue {
    fn take(&self, span: SpanData) {
        match self.0.try_send(span) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => dropped("queue_full", 1),
        }
    }
}

fn dropped(reason: &'static str, count: usize) {
    counter!(SPANS_DROPPED.name, "reason" => reason).increment(u64::try_from(count).unwrap_or(u64::MAX));
}

/// Sends batches until it is told to end and the queue is empty. A batch that was not taken is lost: the next spans say more
/// than old ones.
async fn deliver(exporter: SpanExporter, mut queue: queue::Receiver<SpanData>, mut ending: oneshot::Receiver<()>) {
    let mut is_ending = false;
    let mut was_failing = false;
    loop {
        if !is_ending {
            is_ending = tokio::time::timeout(GATHER, &mut ending).await.is_ok();
        }
        if is_ending {
            queue.close();
        }
        while let Some(batch) = next(&mut queue) {
            let count = batch.len();
            match exporter.export(batch).await {
                Ok(()) => {
                    was_failing = false;
                    counter!(SPANS_EXPORTED.name).increment(u64::try_from(count).unwrap_or(u64::MAX));
                }
                Err(error) => {
                    dropped("export_failed", count);
                    if !std::mem::replace(&mut was_failing, true) {
                        tracing::warn!(%error, "the collector of [telemetry.otlp] does not take spans; they are lost");
                    }
                }
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
    use std::sync::{Arc, Mutex};
    use std::time::SystemTime;

    use aral_contract::metric::{CALL_SECONDS, CALLS};
    use metrics::{histogram, with_local_recorder};
    use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status};
    use opentelemetry::{InstrumentationScope, KeyValue};
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::metrics::Temporality;
    use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
    use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};

    use super::*;
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
