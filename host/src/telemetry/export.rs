//! Brings spans and metrics to the collector. Spans wait in a bounded queue, and what has no room there is lost and counted:
//! no call ever waits for a collector.

use std::sync::mpsc;
use std::time::Duration;

use aral_contract::Failure;
use aral_contract::metric::{SPANS_DROPPED, SPANS_EXPORTED};
use metrics::counter;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry_otlp::{
    MetricExporter, Protocol, RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
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
        let reader = PeriodicReader::builder(metric_exporter(&client)?)
            .with_interval(INTERVAL)
            .build();
        Ok(Self {
            meters: SdkMeterProvider::builder()
                .with_reader(reader)
                .with_resource(resource)
                .build(),
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
    use std::time::SystemTime;

    use metrics::with_local_recorder;
    use opentelemetry::InstrumentationScope;
    use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status};
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
}
