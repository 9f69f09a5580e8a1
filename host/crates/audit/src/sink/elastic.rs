//! Elasticsearch and what speaks its `_bulk`. Each record is a document whose id is log, number and leaf, created and never
//! replaced: one that is sent twice is there once. The leaf makes the id that of one record: a log that was copied or cut back
//! goes on with other records under the same numbers, and none of them passes for one that is there.

use aral_contract::LogId;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Delivery, DeliveryFuture, Exporter, Outgoing, Refused, Transport, failed, taken};

const PATH: &str = "/_bulk";
const CONTENT_TYPE: &str = "application/x-ndjson";
const REASON_CHARS_MAX: usize = 256;

/// An index.
#[derive(Debug)]
pub struct Elastic {
    index: String,
    transport: Box<dyn Transport>,
}

impl Elastic {
    /// Documents go into `index`, which may be an alias or a data stream.
    pub fn new(index: String, transport: Box<dyn Transport>) -> Self {
        Self { index, transport }
    }

    fn body(&self, log: LogId, batch: &[Outgoing]) -> Vec<u8> {
        let mut body = Vec::new();
        for outgoing in batch {
            let (seq, leaf) = (outgoing.entry.seq, outgoing.leaf());
            let action = json!({"create": {"_index": self.index, "_id": format!("{log}-{seq}-{leaf}")}});
            // The record as it stands, with the time under the name that every tool looks for.
            let more = json!({"@timestamp": outgoing.record.at, "log": log, "leaf": leaf}).to_string();
            body.extend_from_slice(action.to_string().as_bytes());
            body.push(b'\n');
            body.extend_from_slice(more.trim_end_matches('}').as_bytes());
            body.push(b',');
            body.extend_from_slice(outgoing.entry.line.get(1..).unwrap_or_default());
            body.push(b'\n');
        }
        body
    }
}

#[derive(Deserialize)]
struct Items {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    create: Created,
}

#[derive(Deserialize)]
struct Created {
    status: u16,
    error: Option<serde_json::Value>,
}

fn items(batch: &[Outgoing], answer: &Answer) -> Delivery {
    let Ok(Items { items }) = serde_json::from_slice::<Items>(&answer.body) else {
        return Delivery::again(batch, "the server answered with something else than items", None);
    };
    if items.len() != batch.len() {
        return Delivery::again(batch, "the server answered for another number of records", None);
    }
    let (mut seqs, mut refused, mut reason) = (Vec::new(), Vec::new(), String::new());
    for (outgoing, item) in batch.iter().zip(items) {
        let seq = outgoing.entry.seq;
        match item.create.status {
            // 409: it was delivered before. The id is of this record alone: another one is there under it only if somebody who
            // may write the index put it there, and who may do that can change any copy.
            200..=299 | 409 => {}
            // A right or an index that is missing, or a full or closed one, is what somebody will correct; until then nothing
            // is lost.
            status @ (401 | 403 | 404 | 429 | 500..=599) => {
                seqs.push(seq);
                reason = format!("the server answered for record {seq} with status {status}");
            }
            status => {
                let error = item.create.error.map(|error| error.to_string()).unwrap_or_default();
                let error: String = error.chars().take(REASON_CHARS_MAX).collect();
                refused.push(Refused {
                    seq,
                    reason: format!("status {status}: {}", error.escape_debug()),
                });
            }
        }
    }
    if seqs.is_empty() {
        return Delivery::Done { refused };
    }
    Delivery::Again {
        seqs,
        refused,
        reason,
        after: answer.retry_after,
    }
}

impl Exporter for Elastic {
    fn deliver<'a>(&'a self, log: LogId, batch: &'a [Outgoing]) -> DeliveryFuture<'a> {
        Box::pin(async move {
            match self.transport.post(PATH, CONTENT_TYPE, self.body(log, batch)).await {
                Ok(answer) if taken(&answer) => items(batch, &answer),
                Ok(answer) => failed(batch, &answer),
                Err(error) => Delivery::again(batch, error, None),
            }
        })
    }
}
