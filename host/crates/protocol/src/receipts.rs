//! `GET /v1/receipts/{seq}`: what proves a call to somebody who was not there. Each caller gets the receipts of its own calls;
//! those of others are as absent as those of nobody.

use std::sync::Arc;

use aral_contract::id::CallerName;
use aral_contract::{Code, Failure};
use aral_orchestration::dispatch::ReceiptReference;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse as _, Response};
use http::header;

use crate::caller::Caller;
use crate::door::Door;
use crate::meters;
use crate::openapi::Fields;
use crate::problem::Problem;
use crate::tally::Beyond;

/// Finds receipts. It reads files: it is called where blocking is allowed.
pub trait Receipts: Send + Sync + std::fmt::Debug {
    /// The receipt of the record with this number, a JSON text, if that record is the end of a call of this user.
    ///
    /// # Errors
    /// `record.unknown` if it is not, whatever it is; `host.unavailable` if it is not signed yet.
    fn receipt(&self, user: &CallerName, seq: u64) -> Result<Vec<u8>, Failure>;
}

/// The receipt of a call.
///
/// The record of a call that this caller made, its place in the audit log, and the signed checkpoint over both:
/// `aral audit check` checks it without this server. The number is the one in `Aral-Receipt`. Within about a second of the call
/// the record may not be signed yet; then the answer is 503 with `Retry-After`.
#[utoipa::path(
    get,
    path = "/v1/receipts/{seq}",
    tag = "capabilities",
    params(("seq" = u64, Path, description = "Number of the record"), Fields),
    responses(
        (status = 200, description = "The receipt", body = serde_json::Value, headers(
            ("RateLimit" = String, description = "What is left of the limits of this caller"),
            ("RateLimit-Policy" = String, description = "What there is of them"),
        )),
        (status = "4XX", response = crate::problem::ProblemResponse),
        (status = "5XX", response = crate::problem::ProblemResponse),
    )
)]
pub(crate) async fn receipt(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Arc<Caller>>,
    seq: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let unknown = || Problem::from(unknown());
    let seq = seq.map_err(|_| unknown())?.0.parse::<u64>().map_err(|_| unknown())?;
    let max = door.shared.bounds.receipts_max;
    let taken = door.shared.proving.take_of(&caller.name, max, max);
    let place = taken.map_err(|beyond| {
        meters::rate_limited("receipts_max");
        let message = match beyond {
            Beyond::Own { .. } => format!("{max} receipts of this caller are being made"),
            Beyond::All => format!("{max} receipts of all callers together are being made, or more"),
        };
        Problem::from(Failure::new(Code::Unavailable, message))
    })?;
    let receipts = Arc::clone(&door.shared.receipts);
    let made = tokio::task::spawn_blocking(move || {
        let _place = place;
        receipts.receipt(&caller.name, seq)
    });
    let document = made.await.map_err(Failure::internal)??;
    Ok(([(header::CONTENT_TYPE, "application/json")], document).into_response())
}

/// What is said of every receipt that a caller does not get.
pub fn unknown() -> Failure {
    Failure::new(Code::RecordUnknown, "there is no such receipt of a call of this caller")
}

/// An item of RFC 9651: the number, with the log and the salts as parameters.
pub(crate) fn reference(reference: &ReceiptReference) -> String {
    let mut text = format!("{}; log=\"{}\"", reference.record.seq, reference.record.log);
    let salts = [
        ("input_salt", reference.input_salt),
        ("output_salt", reference.output_salt),
    ];
    for (name, salt) in salts {
        if let Some(salt) = salt {
            // To whoever made the call, who has what it opens.
            text.push_str(&format!("; {name}=\"{}\"", salt.expose()));
        }
    }
    text
}
