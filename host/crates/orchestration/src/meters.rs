//! What the path counts and times, under the names of [`aral_contract::metric`]. It counts with the recorder that was
//! installed when the dispatcher was made; without one it costs next to nothing.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aral_contract::metric::{
    BREAKER_OPENED, CALL_SECONDS, CALL_STAGE_SECONDS, CALLS, CAPABILITY_SERIES_MAX, DENIALS, FUEL, MEMORY_PEAK,
};
use aral_contract::{CapabilityId, Clock, Code, Usage};
use metrics::{Counter, Histogram, SharedString, counter, histogram};

/// What stands for capabilities that are not registered.
const NONE: &str = "none";
/// What stands for those beyond [`CAPABILITY_SERIES_MAX`].
const OTHER: &str = "other";
/// What stands for no error.
const OK: &str = "ok";

/// A part of a call that is timed here. What happens inside of the sandbox is timed there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Timed {
    /// Find, check the documents, the three yeses, what the agent has left.
    Authorize,
    /// For a place among the calls in flight.
    Wait,
    /// For the record of the end.
    Audit,
}

/// The counters of the path.
pub(crate) struct Meters {
    authorize: Histogram,
    wait: Histogram,
    audit: Histogram,
    memory_peak: Histogram,
    breaker_opened: Counter,
    capabilities: RwLock<HashMap<CapabilityId, Arc<OfCapability>>>,
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meters")
    }
}

/// The counters of one capability.
struct OfCapability {
    label: SharedString,
    answered: Counter,
    seconds: Histogram,
    fuel: Counter,
}

impl OfCapability {
    fn new(label: impl Into<SharedString>) -> Self {
        let label = label.into();
        Self {
            answered: counter!(CALLS.name, "capability" => label.clone(), "code" => OK),
            seconds: histogram!(CALL_SECONDS.name, "capability" => label.clone()),
            fuel: counter!(FUEL.name, "capability" => label.clone()),
            label,
        }
    }
}

impl Meters {
    pub(crate) fn new() -> Self {
        let stage = |name: &'static str| histogram!(CALL_STAGE_SECONDS.name, "stage" => name);
        Self {
            authorize: stage("authorize"),
            wait: stage("wait"),
            audit: stage("audit"),
            memory_peak: histogram!(MEMORY_PEAK.name),
            breaker_opened: counter!(BREAKER_OPENED.name),
            capabilities: RwLock::default(),
        }
    }

    /// One stage of one call took so long.
    pub(crate) fn stage(&self, stage: Timed, took: Duration) {
        let histogram = match stage {
            Timed::Authorize => &self.authorize,
            Timed::Wait => &self.wait,
            Timed::Audit => &self.audit,
        };
        histogram.record(took);
    }

    /// A call was denied; `by` says who lacked the yes.
    pub(crate) fn denied(&self, code: Code, by: &[&'static str]) {
        for one in by {
            counter!(DENIALS.name, "code" => code.as_str(), "by" => *one).increment(1);
        }
    }

    /// A breaker opened.
    pub(crate) fn breaker_opened(&self) {
        self.breaker_opened.increment(1);
    }

    fn of(&self, capability: Option<&CapabilityId>) -> Arc<OfCapability> {
        let Some(id) = capability else {
            return Arc::new(OfCapability::new(NONE));
        };
        if let Some(known) = self.capabilities.read().unwrap_or_else(PoisonError::into_inner).get(id) {
            return Arc::clone(known);
        }
        let mut capabilities = self.capabilities.write().unwrap_or_else(PoisonError::into_inner);
        if capabilities.len() >= CAPABILITY_SERIES_MAX && !capabilities.contains_key(id) {
            return Arc::new(OfCapability::new(OTHER));
        }
        let new = || Arc::new(OfCapability::new(id.to_string()));
        Arc::clone(capabilities.entry(id.clone()).or_insert_with(new))
    }
}

/// One call, counted once however it ends: when this is dropped. Until told otherwise, its caller gave it up.
pub(crate) struct Counted<'a> {
    meters: &'a Meters,
    clock: &'a dyn Clock,
    begun: Duration,
    capability: Option<CapabilityId>,
    ended: Option<(Option<Code>, Usage)>,
}

impl<'a> Counted<'a> {
    pub(crate) fn begin(meters: &'a Meters, clock: &'a dyn Clock) -> Self {
        Self {
            meters,
            clock,
            begun: clock.elapsed(),
            capability: None,
            ended: None,
        }
    }

    /// When it began, by the clock.
    pub(crate) fn begun(&self) -> Duration {
        self.begun
    }

    /// The call is one of this capability, which is registered.
    pub(crate) fn is_of(&mut self, capability: &CapabilityId) {
        self.capability = Some(capability.clone());
    }

    /// The call has ended.
    pub(crate) fn end(mut self, code: Option<Code>, usage: &Usage) {
        self.ended = Some((code, usage.clone()));
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let of = self.meters.of(self.capability.as_ref());
        let (code, usage) = self.ended.take().unwrap_or((Some(Code::Cancelled), Usage::default()));
        of.seconds.record(self.clock.elapsed().saturating_sub(self.begun));
        match code {
            None => of.answered.increment(1),
            Some(code) => {
                counter!(CALLS.name, "capability" => of.label.clone(), "code" => code.as_str()).increment(1);
            }
        }
        of.fuel.increment(usage.fuel.unwrap_or_default());
        if usage.memory_bytes_peak > 0 {
            self.meters.memory_peak.record(to_f64(usage.memory_bytes_peak));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "what is lost is smaller than any bucket")]
fn to_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use metrics::{Gauge, Key, KeyName, Metadata, Recorder, Unit};

    use super::*;

    /// Keeps the names of all series.
    #[derive(Default)]
    struct Names(Mutex<Vec<String>>);

    impl Names {
        fn take(&self, key: &Key) {
            let labels: Vec<String> = key
                .labels()
                .map(|one| format!("{}={}", one.key(), one.value()))
                .collect();
            self.0
                .lock()
                .unwrap()
                .push(format!("{} {}", key.name(), labels.join(" ")));
        }
    }

    impl Recorder for Names {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            self.take(key);
            Counter::noop()
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            self.take(key);
            Gauge::noop()
        }
        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            self.take(key);
            Histogram::noop()
        }
    }

    #[test]
    fn labels_of_capabilities_are_bounded() {
        let names = Names::default();
        metrics::with_local_recorder(&names, || {
            let meters = Meters::new();
            let label = |id: &str| meters.of(Some(&id.parse().unwrap())).label.to_string();
            for number in 0..CAPABILITY_SERIES_MAX {
                let id = format!("c{number}");
                assert_eq!(label(&id), id);
            }
            assert_eq!(label("one-more"), OTHER);
            assert_eq!(label("c0"), "c0");
            assert_eq!(meters.of(None).label.to_string(), NONE);
            meters.denied(Code::PermissionDenied, &["persona", "policy"]);
        });
        let names = names.0.lock().unwrap();
        let denials = names
            .iter()
            .filter(|name| name.starts_with("aral_denials_total code=permission.denied by="));
        assert_eq!(denials.count(), 2);
        assert!(
            names
                .iter()
                .any(|name| name == "aral_calls_total capability=other code=ok")
        );
    }
}
