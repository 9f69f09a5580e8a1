//! What the server counts, under the names of [`aral_contract::metric`]. Labels are words of this program: no text of a
//! caller becomes one.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use aral_contract::event::AuthenticationMethod;
use aral_contract::metric::{
    AUTHENTICATION_FAILURES, HTTP_CONNECTIONS, HTTP_REQUEST_SECONDS, HTTP_REQUESTS, HTTP_REQUESTS_RUNNING,
    RATE_LIMITED, RATES_KEYS, RATES_KEYS_MAX, RATES_REDIS_UP, TRACES_REFUSED,
};
use axum::extract::MatchedPath;
use http::{Method, StatusCode};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// What stands for an address that nothing answers.
const NOWHERE: &str = "none";

/// The template of an address, for labels and spans.
pub(crate) fn route(matched: Option<&MatchedPath>) -> &str {
    matched.map_or(NOWHERE, MatchedPath::as_str)
}

/// A method that some address takes, or the word that stands for all others.
pub(crate) fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// What is counted of every request. Looking a series up by its labels takes longer than counting, and is done once for each.
pub(crate) struct Requests {
    running: Gauge,
    routes: RwLock<HashMap<String, OfRoute>>,
}

/// The series of one address.
struct OfRoute {
    seconds: Histogram,
    answers: HashMap<(&'static str, StatusCode), Counter>,
}

impl std::fmt::Debug for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Requests")
    }
}

impl Requests {
    /// With the recorder that is installed.
    pub(crate) fn new() -> Self {
        Self {
            running: gauge!(HTTP_REQUESTS_RUNNING.name),
            routes: RwLock::default(),
        }
    }

    /// A request that is being answered.
    pub(crate) fn begin(&self) -> Present {
        Present::begin(self.running.clone())
    }

    /// A request was answered.
    pub(crate) fn answered(&self, method: &'static str, route: &str, status: StatusCode, took: Duration) {
        let series = self.kept(method, route, status);
        let (seconds, answers) = series.unwrap_or_else(|| self.keep(method, route, status));
        seconds.record(took);
        answers.increment(1);
    }

    fn kept(&self, method: &'static str, route: &str, status: StatusCode) -> Option<(Histogram, Counter)> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let of_route = routes.get(route)?;
        let answers = of_route.answers.get(&(method, status))?;
        Some((of_route.seconds.clone(), answers.clone()))
    }

    fn keep(&self, method: &'static str, route: &str, status: StatusCode) -> (Histogram, Counter) {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let of_route = routes.entry(route.to_owned()).or_insert_with(|| OfRoute {
            seconds: histogram!(HTTP_REQUEST_SECONDS.name, "route" => route.to_owned()),
            answers: HashMap::new(),
        });
        let answers = of_route.answers.entry((method, status)).or_insert_with(|| {
            let status = status.as_str().to_owned();
            counter!(HTTP_REQUESTS.name, "method" => method, "route" => route.to_owned(), "status" => status)
        });
        (of_route.seconds.clone(), answers.clone())
    }
}

/// The trace of a request is not kept, since its address has no more of its share.
pub(crate) fn trace_refused() {
    counter!(TRACES_REFUSED.name).increment(1);
}

/// A limit of the server refused a request.
pub(crate) fn rate_limited(limit: &'static str) {
    counter!(RATE_LIMITED.name, "limit" => limit).increment(1);
}

/// How many keys a table of limits remembers. It says so itself, whenever that changes.
pub(crate) fn rates_keys(table: &'static str) -> Gauge {
    gauge!(RATES_KEYS.name, "table" => table)
}

/// How many keys each of these tables may remember.
pub(crate) fn rates_keys_max(keys_max: usize) {
    gauge!(RATES_KEYS_MAX.name).set(to_f64(keys_max));
}

/// Whether the limits that servers share can be asked.
pub(crate) fn redis_answers(it_does: bool) {
    gauge!(RATES_REDIS_UP.name).set(f64::from(u8::from(it_does)));
}

/// Somebody was not believed, whatever they showed.
pub(crate) fn not_believed(shown: AuthenticationMethod) {
    counter!(AUTHENTICATION_FAILURES.name, "method" => shown.as_str()).increment(1);
}

/// Something that is there as long as this is.
pub(crate) struct Present(Gauge);

impl Present {
    /// An open connection.
    pub(crate) fn connection() -> Self {
        Self::begin(gauge!(HTTP_CONNECTIONS.name))
    }

    fn begin(gauge: Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

#[expect(clippy::cast_precision_loss, reason = "there is no memory for so many")]
pub(crate) fn to_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_that_no_address_takes_are_one_word() {
        for one in [Method::PUT, Method::PATCH, Method::TRACE, Method::CONNECT] {
            assert_eq!(method(&one), "other", "{one}");
        }
        for one in [Method::GET, Method::HEAD, Method::POST, Method::DELETE, Method::OPTIONS] {
            assert_eq!(method(&one), one.as_str());
        }
    }
}
