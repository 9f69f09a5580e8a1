//! Gauges: what a host holds at the moment at which somebody asks.

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
    set(AUDIT_QUEUE, progress.queued);
    set(AUDIT_UNSYNCED, progress.next.saturating_sub(progress.durable));
    set(AUDIT_UNSIGNED, progress.next.saturating_sub(progress.signed));
    for (name, status) in audit.sinks() {
        let sink = name.to_string();
        let lag = progress.durable.saturating_sub(status.position);
        gauge!(AUDIT_SINK_LAG.name, "sink" => sink.clone()).set(number(lag));
        gauge!(AUDIT_SINK_REFUSED.name, "sink" => sink.clone()).set(number(status.refused));
        gauge!(AUDIT_SINK_STOPPED.name, "sink" => sink).set(number(status.stopped.into()));
    }
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
