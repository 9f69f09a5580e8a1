//! Whether the host is well. What is looked at is for whoever assembles it; here it is asked, not too often, and told: to
//! everybody in one word, to the operator in detail.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aral_contract::Clock;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::door::Door;

/// How long an answer is as good as a new one. Stops a flood of questions from keeping a disk busy.
const FRESH: Duration = Duration::from_secs(1);
/// How long a question may take. A disk that hangs is not well.
const PATIENCE: Duration = Duration::from_secs(5);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What: `audit`, `store`, `disk`, `memory`.
    pub name: &'static str,
    /// None: it is well. Else what is wrong, for the operator.
    pub fault: Option<String>,
}

/// Looks. It may wait for a disk: it is called where blocking is allowed.
pub trait Health: Send + Sync + std::fmt::Debug {
    /// Looks at everything.
    fn checks(&self) -> Vec<Check>;
}

/// Asks, and remembers the answer for a moment.
#[derive(Debug)]
pub(crate) struct Doctor {
    health: Arc<dyn Health>,
    clock: Arc<dyn Clock>,
    last: Mutex<Option<(Duration, Arc<[Check]>)>>,
}

impl Doctor {
    pub(crate) fn new(health: Arc<dyn Health>, clock: Arc<dyn Clock>) -> Self {
        Self {
            health,
            clock,
            last: Mutex::new(None),
        }
    }

    /// What was found, now or a moment ago.
    pub(crate) async fn look(&self) -> Arc<[Check]> {
        let now = self.clock.elapsed();
        let kept = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, checks)) = kept
            && now.saturating_sub(at) < FRESH
        {
            return checks;
        }
        let health = Arc::clone(&self.health);
        let asked = tokio::task::spawn_blocking(move || health.checks());
        let checks: Arc<[Check]> = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(checks)) => checks.into(),
            Ok(Err(error)) => [hung(error.to_string())].into(),
            Err(_elapsed) => [hung(format!("no answer within {} s", PATIENCE.as_secs()))].into(),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some((self.clock.elapsed(), Arc::clone(&checks)));
        checks
    }
}

fn hung(fault: String) -> Check {
    Check {
        name: "health",
        fault: Some(fault),
    }
}

/// How the host is, in one word.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Status {
    /// `ok`, `failing` or `draining`.
    status: &'static str,
}

fn answer(code: StatusCode, status: &'static str) -> Response {
    let body = serde_json::to_vec(&Status { status }).unwrap_or_default();
    (code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Whether the host is well: what it keeps, writes and needs.
#[utoipa::path(
    get,
    path = "/health",
    tag = "operation",
    responses(
        (status = 200, description = "Everything is well", body = Status),
        (status = 429, response = crate::problem::ProblemResponse),
        (status = 503, description = "Something is not; the operator sees what", body = Status),
    )
)]
pub(crate) async fn health(State(door): State<Arc<Door>>) -> Response {
    let checks = door.shared.doctor.look().await;
    if checks.iter().all(|check| check.fault.is_none()) {
        answer(StatusCode::OK, "ok")
    } else {
        answer(StatusCode::SERVICE_UNAVAILABLE, "failing")
    }
}

/// Whether the server takes requests: not before it is ready, and not once it was told to end.
#[utoipa::path(
    get,
    path = "/ready",
    tag = "operation",
    responses(
        (status = 200, description = "It does", body = Status),
        (status = 429, response = crate::problem::ProblemResponse),
        (status = 503, description = "It ends, and takes no new connections", body = Status),
    )
)]
pub(crate) async fn ready(State(door): State<Arc<Door>>) -> Response {
    if door.shared.draining() {
        answer(StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else {
        answer(StatusCode::OK, "ok")
    }
}
