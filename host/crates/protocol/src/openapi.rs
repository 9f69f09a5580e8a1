//! The description of the interface, made from the handlers themselves, so that it cannot say anything else than they do.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoParams, OpenApi};

use crate::door::Door;
use crate::router;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Aral",
        description = "Calls capabilities, each with exactly the rights that its manifest, the caller's persona and the operator's policy all allow. Every answer has `Aral-Trace-Id`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(responses(crate::problem::ProblemResponse), schemas(crate::problem::Document)),
    modifiers(&Credentials),
    security((), ("bearer" = []), ("certificate" = []), ("bearer" = [], "certificate" = [])),
    tags(
        (name = "capabilities", description = "What can be called"),
        (name = "operation", description = "How the server is; open to all who reach it, so many times a second"),
    ),
)]
pub(crate) struct Description;

/// What callers show of who they are.
struct Credentials;

impl utoipa::Modify for Credentials {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_with(Default::default);
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
            "A key of `[[serve.caller]]`, or a token (JWT) of a `[[serve.issuer]]`",
        ));
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
        let certificate = SecurityScheme::MutualTls {
            description: Some(
                "A certificate with a name of a `[[serve.caller]]`, or one that lets in who shows a key".to_owned(),
            ),
            deprecated: None,
            extensions: None,
        };
        components.add_security_scheme("certificate", certificate);
    }
}

/// What may stand in each request of a caller, beside what shows who it is.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "names parameters")]
pub(crate) struct Fields {
    /// What is signed and how (RFC 9421), of a caller with `signature`.
    #[param(rename = "Signature-Input", required = false)]
    signature_input: String,
    /// The signature (RFC 9421).
    #[param(rename = "Signature", required = false)]
    signature: String,
    /// Digest of the body (RFC 9530), where that is signed.
    #[param(rename = "Content-Digest", required = false)]
    content_digest: String,
    /// To which trace the request belongs (W3C Trace Context); without a good one a new trace begins.
    #[param(required = false)]
    traceparent: String,
    /// What systems before this one said for themselves (W3C Trace Context).
    #[param(required = false)]
    tracestate: String,
}

/// The document as JSON, laid out for people.
pub fn openapi() -> String {
    let (_routes, document) = router::routes().split_for_parts();
    document.to_pretty_json().unwrap_or_default()
}

/// This description.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "operation",
    responses(
        (status = 200, description = "This document", body = serde_json::Value),
        (status = 429, response = crate::problem::ProblemResponse),
    )
)]
pub(crate) async fn document(State(door): State<Arc<Door>>) -> Response {
    answer(&door.shared.openapi)
}

/// No copy: whoever does not read it has none.
fn answer(document: &Bytes) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (kind, document.clone()).into_response()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn all_answers_are_one_document() {
        let document = Bytes::from(openapi());
        for _ in 0..2 {
            let frame = answer(&document).into_body().frame().await.unwrap().unwrap();
            let told = frame.into_data().unwrap();
            assert_eq!((told.as_ptr(), told.len()), (document.as_ptr(), document.len()));
        }
    }
}
