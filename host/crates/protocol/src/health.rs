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
    /// What: `audit`, `store`, `disk`, `memory`; for the operator also `limits`, where several servers share them.
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
pub(crate) struct HealthCache {
    health: Arc<dyn Health>,
    clock: Arc<dyn Clock>,
    last: Mutex<Option<(Duration, Arc<[Check]>)>>,
    /// Held while somebody looks, also when nobody waits for that any more: a disk that hangs is looked at once.
    looking: Arc<tokio::sync::Mutex<()>>,
}

impl HealthCache {
    pub(crate) fn new(health: Arc<dyn Health>, clock: Arc<dyn Clock>) -> Self {
        Self {
            health,
            clock,
            last: Mutex::new(None),
            looking: Arc::default(),
        }
    }

    /// What was found, now or a moment ago.
    pub(crate) async fn look(self: &Arc<Self>) -> Arc<[Check]> {
        if let Some(checks) = self.fresh() {
            return checks;
        }
        match tokio::time::timeout(PATIENCE, self.ask()).await {
            Ok(checks) => checks,
            Err(_elapsed) => self.keep([hung(format!("no answer within {} s", PATIENCE.as_secs()))].into()),
        }
    }

    /// Looks, or waits for whoever does.
    async fn ask(self: &Arc<Self>) -> Arc<[Check]> {
        let looking = Arc::clone(&self.looking).lock_owned().await;
        if let Some(checks) = self.fresh() {
            return checks;
        }
        let cache = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || {
            let _looking = looking;
            cache.keep(cache.health.checks().into())
        });
        match asked.await {
            Ok(checks) => checks,
            Err(error) => self.keep([hung(error.to_string())].into()),
        }
    }

    fn fresh(&self) -> Option<Arc<[Check]>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, checks) = last.as_ref()?;
        (self.clock.elapsed().saturating_sub(*at) < FRESH).then(|| Arc::clone(checks))
    }

    fn keep(&self, checks: Arc<[Check]>) -> Arc<[Check]> {
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
    let checks = door.shared.health.look().await;
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
        (status = 503, description = "It was told to end, and takes no new connections, or soon will not", body = Status),
    )
)]
pub(crate) async fn ready(State(door): State<Arc<Door>>) -> Response {
    if door.shared.draining() {
        answer(StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else {
        answer(StatusCode::OK, "ok")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;
    use crate::tests::Hand;

    /// A disk that hangs until the other end of the channel is gone.
    #[derive(Debug)]
    struct Disk {
        looked: AtomicUsize,
        hangs: Mutex<mpsc::Receiver<()>>,
    }

    impl Health for Disk {
        fn checks(&self) -> Vec<Check> {
            self.looked.fetch_add(1, Ordering::SeqCst);
            let _gone = self.hangs.lock().unwrap().recv();
            vec![Check {
                name: "disk",
                fault: None,
            }]
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_is_looked_at_once() {
        let (hanging, hangs) = mpsc::channel();
        let disk = Arc::new(Disk {
            looked: AtomicUsize::new(0),
            hangs: Mutex::new(hangs),
        });
        let clock = Arc::new(Hand::default());
        let cache = HealthCache::new(
            Arc::clone(&disk) as Arc<dyn Health>,
            Arc::clone(&clock) as Arc<dyn Clock>,
        );
        let cache = Arc::new(cache);
        let look = || {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move { cache.look().await })
        };
        for _ in 0..3 {
            let both = [look(), look()];
            // They ask, and wait.
            tokio::task::yield_now().await;
            tokio::time::advance(PATIENCE + FRESH).await;
            for one in both {
                assert_eq!(one.await.unwrap()[0].name, "health");
            }
            assert_eq!(cache.look().await[0].name, "health", "what was seen a moment ago");
            clock.pass(FRESH);
        }
        let waits = look();
        tokio::task::yield_now().await;
        drop(hanging);
        assert_eq!(waits.await.unwrap()[0].name, "disk", "it answers again");
        assert_eq!(disk.looked.load(Ordering::SeqCst), 1);
        clock.pass(FRESH);
        assert_eq!(look().await.unwrap()[0].name, "disk");
        assert_eq!(disk.looked.load(Ordering::SeqCst), 2);
    }
}
