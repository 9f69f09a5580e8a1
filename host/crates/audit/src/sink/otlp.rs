//! OpenTelemetry logs over HTTP, in its JSON form. Each record is a log record whose body is the line of the log.

use aral_contract::LogId;
use aral_contract::event::Severity;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Delivery, DeliveryFuture, Exporter, Outgoing, Refused, Transport, failed, taken};

const PATH: &str = "/v1/logs";
const CONTENT_TYPE: &str = "application/json";
const REASON_CHARS_MAX: usize = 256;

/// A collector.
#[derive(Debug)]
pub struct Otlp {
    service: String,
    transport: Box<dyn Transport>,
}

impl Otlp {
    /// Records are those of the service of this name.
    pub fn new(service: String, transport: Box<dyn Transport>) -> Self {
        Self { service, transport }
    }

    fn body(&self, log: LogId, batch: &[Outgoing]) -> Vec<u8> {
        let records: Vec<Value> = batch.iter().map(|outgoing| log_record(log, outgoing)).collect();
        let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
        let body = json!({"resourceLogs": [{
            "resource": {"attributes": [text("service.name", &self.service)]},
            "scopeLogs": [{"scope": {"name": "aral.audit"}, "logRecords": records}],
        }]});
        body.to_string().into_bytes()
    }
}

fn log_record(log: LogId, outgoing: &Outgoing) -> Value {
    let record = &outgoing.record;
    let (number, word) = match record.event.severity() {
        None | Some(Severity::Info) => (9, "INFO"),
        Some(Severity::Low) => (10, "INFO2"),
        Some(Severity::Medium) => (13, "WARN"),
        Some(Severity::High) => (17, "ERROR"),
        Some(Severity::Critical) => (21, "FATAL"),
    };
    let text = |key: &str, value: String| json!({"key": key, "value": {"stringValue": value}});
    json!({
        "timeUnixNano": record.at.as_nanosecond().to_string(),
        "observedTimeUnixNano": record.at.as_nanosecond().to_string(),
        "severityNumber": number,
        "severityText": word,
        "body": {"stringValue": String::from_utf8_lossy(&outgoing.entry.line)},
        "attributes": [
            text("event.name", format!("aral.audit.{}", record.event.type_name())),
            text("aral.audit.log", log.to_string()),
            text("aral.audit.seq", record.seq.to_string()),
            text("aral.audit.leaf", outgoing.leaf().to_string()),
        ],
        "traceId": record.trace.map(|trace| trace.to_string()).unwrap_or_default(),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    partial_success: Option<Partial>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Partial {
    /// A 64-bit number, which the JSON form writes as a text.
    #[serde(default)]
    rejected_log_records: Value,
    error_message: Option<String>,
}

/// What a collector says of what it took: nothing at all, or an object.
fn response(body: &[u8]) -> Option<Response> {
    if body.is_empty() {
        return Some(Response { partial_success: None });
    }
    let value: Value = serde_json::from_slice(body).ok()?;
    value.is_object().then(|| serde_json::from_value(value).ok())?
}

/// None: it is no number.
fn rejected(count: &Value) -> Option<u64> {
    match count {
        Value::Null => Some(0),
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The protocol does not say which were rejected, and forbids to send them again. Sending them one by one would tell, and
/// deliver the others twice; so those at the end of the batch stand for them in the count. A batch that is rejected as a whole
/// is sent again all the same, which delivers nothing twice: that may say more about the collector than about the records.
fn partial(batch: &[Outgoing], answer: &Answer) -> Delivery {
    // A proxy or a page for people answers 200 as well, and took nothing.
    let strange = || Delivery::again(batch, "the server answered with something else than OTLP", None);
    let Some(response) = response(&answer.body) else {
        return strange();
    };
    let Some(partial) = response.partial_success else {
        return Delivery::Done { refused: Vec::new() };
    };
    let Some(rejected) = rejected(&partial.rejected_log_records) else {
        return strange();
    };
    let rejected = usize::try_from(rejected).unwrap_or(usize::MAX);
    let said = partial.error_message.unwrap_or_default();
    let said: String = said.chars().take(REASON_CHARS_MAX).collect();
    let (first, last) = (batch.first(), batch.last());
    let within = |at: Option<&Outgoing>| at.map_or(0, |outgoing| outgoing.entry.seq);
    let reason = format!(
        "{rejected} of records {} to {} were rejected: {}",
        within(first),
        within(last),
        said.escape_debug()
    );
    let refused = batch.iter().rev().take(rejected).map(|outgoing| Refused {
        seq: outgoing.entry.seq,
        reason: reason.clone(),
    });
    Delivery::Done {
        refused: refused.collect(),
    }
}

impl Exporter for Otlp {
    fn deliver<'a>(&'a self, log: LogId, batch: &'a [Outgoing]) -> DeliveryFuture<'a> {
        Box::pin(async move {
            match self.transport.post(PATH, CONTENT_TYPE, self.body(log, batch)).await {
                Ok(answer) if taken(&answer) => partial(batch, &answer),
                Ok(answer) => failed(batch, &answer),
                Err(error) => Delivery::again(batch, error, None),
            }
        })
    }
}
