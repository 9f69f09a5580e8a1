//! Takes what is counted, for Prometheus and, if there is a collector, for OpenTelemetry. It bounds the number of series of
//! each metric, whatever labels somebody makes up.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aral_contract::metric::{self, Metric, MetricKind, MetricUnit, SERIES_MAX, SERIES_REFUSED};
use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit};
use metrics_exporter_prometheus::PrometheusRecorder;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::buckets;

/// The recorder of the process.
pub(super) struct Recorder {
    prometheus: PrometheusRecorder,
    otlp: Option<Instruments>,
    series: RwLock<HashMap<String, HashSet<Key>>>,
}

/// Tells the recorder in place what there is.
pub(super) fn describe() {
    for one in metric::ALL {
        let unit = match one.unit {
            MetricUnit::Count => Unit::Count,
            MetricUnit::Bytes => Unit::Bytes,
            MetricUnit::Seconds => Unit::Seconds,
        };
        match one.kind {
            MetricKind::Counter => metrics::describe_counter!(one.name, unit, one.help),
            MetricKind::Gauge => metrics::describe_gauge!(one.name, unit, one.help),
            MetricKind::Histogram => metrics::describe_histogram!(one.name, unit, one.help),
        }
    }
}

impl Recorder {
    pub(super) fn new(prometheus: PrometheusRecorder, meter: Option<Meter>) -> Self {
        Self {
            prometheus,
            otlp: meter.map(Instruments::new),
            series: RwLock::default(),
        }
    }

    /// Whether there is room for this series, or it is there already.
    fn has_room(&self, key: &Key, metadata: &Metadata<'_>) -> bool {
        let known = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if known.get(key.name()).is_some_and(|series| series.contains(key)) {
            return true;
        }
        drop(known);
        let mut known = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let series = known.entry(key.name().to_owned()).or_default();
        if series.contains(key) || series.len() < SERIES_MAX {
            series.insert(key.clone());
            return true;
        }
        drop(known);
        if key.name() != SERIES_REFUSED.name {
            let key = Key::from_static_name(SERIES_REFUSED.name);
            metrics::Recorder::register_counter(self, &key, metadata).increment(1);
        }
        false
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.prometheus.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.prometheus.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.prometheus.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        if !self.has_room(key, metadata) {
            return Counter::noop();
        }
        let one = self.prometheus.register_counter(key, metadata);
        match &self.otlp {
            Some(otlp) => Counter::from_arc(Arc::new(Both(one, otlp.counter(key)))),
            None => one,
        }
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        if !self.has_room(key, metadata) {
            return Gauge::noop();
        }
        let one = self.prometheus.register_gauge(key, metadata);
        match &self.otlp {
            Some(otlp) => Gauge::from_arc(Arc::new(Both(one, otlp.gauge(key)))),
            None => one,
        }
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        if !self.has_room(key, metadata) {
            return Histogram::noop();
        }
        let one = self.prometheus.register_histogram(key, metadata);
        match &self.otlp {
            Some(otlp) => Histogram::from_arc(Arc::new(Both(one, otlp.histogram(key)))),
            None => one,
        }
    }
}

/// Tells two.
struct Both<A, B>(A, B);

impl<B: CounterFn> CounterFn for Both<Counter, B> {
    fn increment(&self, value: u64) {
        self.0.increment(value);
        self.1.increment(value);
    }

    fn absolute(&self, value: u64) {
        self.0.absolute(value);
        self.1.absolute(value);
    }
}

impl<B: GaugeFn> GaugeFn for Both<Gauge, B> {
    fn increment(&self, value: f64) {
        self.0.increment(value);
        self.1.increment(value);
    }

    fn decrement(&self, value: f64) {
        self.0.decrement(value);
        self.1.decrement(value);
    }

    fn set(&self, value: f64) {
        self.0.set(value);
        self.1.set(value);
    }
}

impl<B: HistogramFn> HistogramFn for Both<Histogram, B> {
    fn record(&self, value: f64) {
        self.0.record(value);
        self.1.record(value);
    }
}

type Values = Arc<Mutex<HashMap<Key, Arc<AtomicU64>>>>;

/// The instruments of OpenTelemetry, each made when it is first used. Counters and gauges are numbers here that the SDK reads
/// when it exports: counting costs the same with and without a collector.
struct Instruments {
    meter: Meter,
    numbers: Mutex<HashMap<&'static str, Values>>,
    histograms: Mutex<HashMap<&'static str, opentelemetry::metrics::Histogram<f64>>>,
}

impl Instruments {
    fn new(meter: Meter) -> Self {
        Self {
            meter,
            numbers: Mutex::default(),
            histograms: Mutex::default(),
        }
    }

    fn counter(&self, key: &Key) -> Arc<AtomicU64> {
        let instrument = |metric: &Metric, values: Values| {
            let _registered = (self.meter.u64_observable_counter(metric.name))
                .with_description(metric.help)
                .with_unit(unit(metric))
                .with_callback(move |observer| {
                    each(&values, |value, attributes| observer.observe(value, attributes));
                })
                .build();
        };
        self.number(key, instrument)
    }

    fn gauge(&self, key: &Key) -> Arc<AtomicU64> {
        let instrument = |metric: &Metric, values: Values| {
            let _registered = (self.meter.f64_observable_gauge(metric.name))
                .with_description(metric.help)
                .with_unit(unit(metric))
                .with_callback(move |observer| {
                    each(&values, |value, attributes| {
                        observer.observe(f64::from_bits(value), attributes)
                    });
                })
                .build();
        };
        self.number(key, instrument)
    }

    /// The number of a series. What the catalogue does not have is not exported.
    fn number(&self, key: &Key, instrument: impl FnOnce(&Metric, Values)) -> Arc<AtomicU64> {
        let Some(metric) = of(key) else { return Arc::default() };
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let values = numbers.entry(metric.name).or_insert_with(|| {
            let values = Values::default();
            instrument(metric, Arc::clone(&values));
            values
        });
        let mut values = values.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(values.entry(key.clone()).or_default())
    }

    fn histogram(&self, key: &Key) -> Series {
        let histogram = of(key).map(|metric| {
            let mut histograms = self.histograms.lock().unwrap_or_else(PoisonError::into_inner);
            let make = || {
                self.meter
                    .f64_histogram(metric.name)
                    .with_description(metric.help)
                    .with_unit(unit(metric))
                    .with_boundaries(buckets(metric).unwrap_or_default().to_vec())
                    .build()
            };
            histograms.entry(metric.name).or_insert_with(make).clone()
        });
        Series {
            histogram,
            attributes: attributes(key),
        }
    }
}

/// One series of a histogram.
struct Series {
    histogram: Option<opentelemetry::metrics::Histogram<f64>>,
    attributes: Vec<KeyValue>,
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        if let Some(histogram) = &self.histogram {
            histogram.record(value, &self.attributes);
        }
    }
}

fn of(key: &Key) -> Option<&'static Metric> {
    metric::ALL.iter().find(|one| one.name == key.name())
}

fn unit(metric: &Metric) -> &'static str {
    match metric.unit {
        MetricUnit::Count => "1",
        MetricUnit::Bytes => "By",
        MetricUnit::Seconds => "s",
    }
}

fn attributes(key: &Key) -> Vec<KeyValue> {
    let label = |label: &metrics::Label| KeyValue::new(label.key().to_owned(), label.value().to_owned());
    key.labels().map(label).collect()
}

fn each(values: &Values, observe: impl Fn(u64, &[KeyValue])) {
    let values = values.lock().unwrap_or_else(PoisonError::into_inner);
    for (key, value) in &*values {
        observe(value.load(Ordering::Acquire), &attributes(key));
    }
}

#[cfg(test)]
mod tests {
    use metrics::{counter, gauge, histogram, with_local_recorder};

    use super::*;
    use crate::telemetry::prometheus;

    #[test]
    fn a_label_that_nobody_bounded_is_bounded_here() {
        let prometheus = prometheus().unwrap();
        let handle = prometheus.handle();
        let recorder = Recorder::new(prometheus, None);
        with_local_recorder(&recorder, || {
            for number in 0..SERIES_MAX + 5 {
                counter!("aral_calls_total", "capability" => number.to_string()).increment(1);
            }
            counter!("aral_calls_total", "capability" => "0").increment(1);
            gauge!("aral_calls_running").set(3.0);
            histogram!("aral_memory_peak_bytes").record(70_000.0);
        });
        let text = handle.render();
        let series = text.lines().filter(|line| line.starts_with("aral_calls_total{"));
        assert_eq!(series.count(), SERIES_MAX);
        assert!(
            text.contains("\naral_telemetry_series_refused_total 5\n"),
            "{text:.2000}"
        );
        assert!(text.contains("aral_calls_total{capability=\"0\"} 2\n"));
        assert!(text.contains("\naral_calls_running 3\n"));
        assert!(
            text.contains("aral_memory_peak_bytes_bucket{le=\"262144\"} 1\n"),
            "{text:.2000}"
        );
    }
}
