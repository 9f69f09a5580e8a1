//! Turns the spans of calls into spans of OpenTelemetry. Trace and span ids come with the spans, because the audit log, the
//! answers and other systems name them too. Only fields that are listed here are told: no input, output, secret or text of
//! a guest can become an attribute.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use aral_contract::Clock as _;
use aral_runtime::{SystemClock, entropy};
use jiff::Timestamp;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The target of all spans of a call.
pub const SPAN_TARGET: &str = "aral::call";
/// Longest attribute, in bytes.
const ATTRIBUTE_BYTES_MAX: usize = 256;

/// The fields that are told, each with the name that OpenTelemetry has for it.
const ATTRIBUTES: [(&str, &str); 8] = [
    ("method", "http.request.method"),
    ("route", "http.route"),
    ("status", "http.response.status_code"),
    ("server", "server.address"),
    ("code", "error.type"),
    ("capability", "aral.capability"),
    ("version", "aral.capability.version"),
    ("permission", "aral.permission"),
];

/// Takes a span that has ended. It must not wait.
pub(super) trait Outlet: Send + Sync {
    fn take(&self, span: SpanData);
}

/// The layer of a subscriber that sees the spans of calls. It does nothing until [`super::Telemetry`] is started with it.
/// Clones are the same layer.
#[derive(Clone, Default)]
pub struct Spans(Arc<OnceLock<Box<dyn Outlet>>>);

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spans(connected: {})", self.0.get().is_some())
    }
}

impl Spans {
    /// For `tracing_subscriber::registry().with(…)`.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let outlet = Arc::clone(&self.0);
        let wanted = move |metadata: &Metadata<'_>| {
            metadata.is_span() && metadata.target() == SPAN_TARGET && outlet.get().is_some()
        };
        let filter = filter_fn(wanted).with_max_level_hint(LevelFilter::INFO);
        let layer = SpanLayer {
            outlet: Arc::clone(&self.0),
            clock: SystemClock::new(),
        };
        layer.with_filter(filter)
    }

    /// From now on spans go there; false: they go elsewhere already.
    pub(super) fn connect(&self, outlet: Box<dyn Outlet>) -> bool {
        let is_first = self.0.set(outlet).is_ok();
        // What was disabled as long as nobody wanted it is asked for again.
        tracing::callsite::rebuild_interest_cache();
        is_first
    }
}

struct SpanLayer {
    outlet: Arc<OnceLock<Box<dyn Outlet>>>,
    clock: SystemClock,
}

/// A span that has not ended.
struct Open {
    trace: TraceId,
    id: SpanId,
    parent: SpanId,
    is_root: bool,
    started: Timestamp,
    fields: Fields,
}

impl<S> Layer<S> for SpanLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let above = span.parent().and_then(|parent| {
            let extensions = parent.extensions();
            extensions.get::<Open>().map(|open| (open.trace, open.id))
        });
        let (trace, parent) = match (above, fields.trace) {
            (Some(above), _) => above,
            (None, Some(trace)) if fields.sampled => (trace, fields.parent.unwrap_or(SpanId::INVALID)),
            // A trace that is not kept.
            (None, _) => return,
        };
        span.extensions_mut().insert(Open {
            trace,
            id: fields
                .id
                .unwrap_or_else(|| SpanId::from_bytes(*entropy::span_id().as_bytes())),
            parent,
            is_root: above.is_none(),
            started: self.clock.now(),
            fields,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            values.record(&mut open.fields);
            if let Some(id) = open.fields.id {
                open.id = id;
            }
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let open = span.extensions_mut().remove::<Open>();
        if let (Some(open), Some(outlet)) = (open, self.outlet.get()) {
            outlet.take(open.end(span.name(), self.clock.now()));
        }
    }
}

impl Open {
    fn end(self, name: &'static str, ended: Timestamp) -> SpanData {
        let fields = self.fields;
        let is_remote = self.is_root && self.parent != SpanId::INVALID;
        SpanData {
            span_context: SpanContext::new(self.trace, self.id, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: self.parent,
            parent_span_is_remote: is_remote,
            span_kind: fields.kind(name),
            name: fields.name(name),
            start_time: self.started.into(),
            end_time: ended.max(self.started).into(),
            status: fields.end_status(),
            attributes: fields.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            instrumentation_scope: InstrumentationScope::builder("aral")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        }
    }
}

/// What a span says.
#[derive(Default)]
struct Fields {
    trace: Option<TraceId>,
    parent: Option<SpanId>,
    id: Option<SpanId>,
    sampled: bool,
    attributes: Vec<KeyValue>,
}

impl Fields {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let found = self.attributes.iter().find(|one| one.key.as_str() == name);
        found.map(|one| one.value.as_str())
    }

    fn kind(&self, name: &str) -> SpanKind {
        match name {
            "request" => SpanKind::Server,
            _ if self.get("server.address").is_some() => SpanKind::Client,
            _ => SpanKind::Internal,
        }
    }

    fn name(&self, name: &'static str) -> Cow<'static, str> {
        match (self.get("http.request.method"), self.get("http.route")) {
            (Some(method), Some(route)) => format!("{method} {route}").into(),
            _ => name.into(),
        }
    }

    /// A request that the caller made wrongly is no error of the server.
    fn end_status(&self) -> Status {
        let failed = |status: Cow<'_, str>| status.starts_with('5');
        match self.get("error.type") {
            Some(code) => Status::error(code.into_owned()),
            None if self.get("http.response.status_code").is_some_and(failed) => Status::error("failed"),
            None => Status::Unset,
        }
    }

    fn put(&mut self, field: &Field, value: opentelemetry::Value) {
        let known = ATTRIBUTES.iter().find(|(name, _)| *name == field.name());
        if let Some((_, name)) = known
            && self.get(name).is_none()
        {
            self.attributes.push(KeyValue::new(*name, value));
        }
    }

    fn text(&mut self, field: &Field, text: &str) {
        match field.name() {
            "trace_id" => self.trace = TraceId::from_hex(text).ok(),
            "parent_span_id" => self.parent = SpanId::from_hex(text).ok(),
            "span_id" => self.id = SpanId::from_hex(text).ok(),
            _ => {
                let end = text.floor_char_boundary(ATTRIBUTE_BYTES_MAX);
                let text = text.get(..end).unwrap_or_default();
                self.put(field, text.to_owned().into());
            }
        }
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "sampled" {
            self.sampled = value;
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, i64::try_from(value).unwrap_or(i64::MAX).into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing::info_span;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl Outlet for Kept {
        fn take(&self, span: SpanData) {
            self.0.lock().unwrap().push(span);
        }
    }

    fn seen(connected: bool, act: impl FnOnce()) -> Vec<SpanData> {
        let (spans, kept) = (Spans::default(), Kept::default());
        if connected {
            assert!(spans.connect(Box::new(kept.clone())));
            assert!(!spans.connect(Box::new(kept.clone())));
        }
        let subscriber = tracing_subscriber::registry().with(spans.layer());
        tracing::subscriber::with_default(subscriber, act);
        std::mem::take(&mut *kept.0.lock().unwrap())
    }

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "b7ad6b7169203331";

    fn call(sampled: bool) {
        let request = info_span!(
            target: "aral::call", "request", trace_id = TRACE, parent_span_id = Some(PARENT), sampled,
            method = "POST", route = "/v1/invoke/{capability}", status = tracing::field::Empty, secret = "marker",
        );
        request.in_scope(|| {
            let elsewhere = info_span!(target: "hyper", "elsewhere", trace_id = TRACE);
            elsewhere.in_scope(|| {
                let call = info_span!(target: "aral::call", "call", trace_id = TRACE, sampled, code = tracing::field::Empty);
                let exchange = call.in_scope(|| {
                    info_span!(target: "aral::call", "host_call", permission = "network:read", span_id = tracing::field::Empty, server = tracing::field::Empty)
                });
                exchange.record("span_id", "00f067aa0ba902b7");
                exchange.record("server", "x".repeat(1000));
                call.record("code", "limit.fuel");
            });
        });
        request.record("status", 502_u16);
    }

    #[test]
    fn spans_have_the_names_that_everybody_uses() {
        let spans = seen(true, || call(true));
        let [exchange, call, request] = &spans[..] else {
            panic!("{spans:?}")
        };
        for span in &spans {
            assert_eq!(span.span_context.trace_id().to_string(), TRACE);
            assert!(span.end_time >= span.start_time);
        }
        assert_eq!(request.name, "POST /v1/invoke/{capability}");
        assert_eq!(request.parent_span_id.to_string(), PARENT);
        assert!(request.parent_span_is_remote && !call.parent_span_is_remote);
        assert_eq!(call.parent_span_id, request.span_context.span_id());
        assert_eq!(exchange.parent_span_id, call.span_context.span_id());
        assert_eq!(exchange.span_context.span_id().to_string(), "00f067aa0ba902b7");
        assert_eq!(
            (&request.span_kind, &exchange.span_kind),
            (&SpanKind::Server, &SpanKind::Client)
        );
        assert_eq!(call.status, Status::error("limit.fuel"));
        assert_eq!(request.status, Status::error("failed"));
        let attributes = format!("{:?} {:?}", request.attributes, exchange.attributes);
        assert!(
            !attributes.contains("marker") && attributes.len() < 2000,
            "{attributes}"
        );
        assert!(attributes.contains("http.response.status_code"), "{attributes}");
    }

    #[test]
    fn what_is_not_kept_and_what_nobody_wants_is_no_span() {
        assert!(seen(true, || call(false)).is_empty());
        assert!(seen(false, || call(true)).is_empty());
    }
}
