//! What the server counts, under the names of [`aral_contract::metric`]. Labels are words of this program: no text of a
//! caller becomes one.

use std::time::Duration;

use aral_contract::event::AuthenticationMethod;
use aral_contract::metric::{
    AUTHENTICATION_FAILURES, HTTP_CONNECTIONS, HTTP_REQUEST_SECONDS, HTTP_REQUESTS, HTTP_REQUESTS_RUNNING,
    RATE_LIMITED, RATES_REDIS_UP,
};
use axum::extract::MatchedPath;
use http::{Method, StatusCode};
use metrics::{SharedString, counter, gauge, histogram};

/// What stands for an address that nothing answers.
const NOWHERE: &str = "none";

/// The template of an address, for labels and spans.
pub(crate) fn route(matched: Option<&MatchedPath>) -> SharedString {
    matched.map_or(SharedString::const_str(NOWHERE), |path| path.as_str().to_owned().into())
}

/// A method that some address takes, or the word that stands for all others.
pub(crate) fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// A request was answered.
pub(crate) fn answered(method: &'static str, route: SharedString, status: StatusCode, took: Duration) {
    histogram!(HTTP_REQUEST_SECONDS.name, "route" => route.clone()).record(took);
    let status = status.as_str().to_owned();
    counter!(HTTP_REQUESTS.name, "method" => method, "route" => route, "status" => status).increment(1);
}

/// A limit of the server refused a request.
pub(crate) fn rate_limited(limit: &'static str) {
    counter!(RATE_LIMITED.name, "limit" => limit).increment(1);
}

/// Whether the limits that servers share can be asked.
pub(crate) fn redis_answers(it_does: bool) {
    gauge!(RATES_REDIS_UP.name).set(f64::from(u8::from(it_does)));
}

/// Somebody was not believed, whatever they showed.
pub(crate) fn not_believed(shown: AuthenticationMethod) {
    if let Ok(serde_json::Value::String(word)) = serde_json::to_value(shown) {
        counter!(AUTHENTICATION_FAILURES.name, "method" => word).increment(1);
    }
}

/// Something that is there as long as this is.
#[derive(Debug)]
pub(crate) struct Present(&'static str);

impl Present {
    /// An open connection.
    pub(crate) fn connection() -> Self {
        Self::begin(HTTP_CONNECTIONS.name)
    }

    /// A request that is being answered.
    pub(crate) fn request() -> Self {
        Self::begin(HTTP_REQUESTS_RUNNING.name)
    }

    fn begin(name: &'static str) -> Self {
        gauge!(name).increment(1.0);
        Self(name)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        gauge!(self.0).decrement(1.0);
    }
}
