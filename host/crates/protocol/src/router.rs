//! Which address is answered by what, and what stands before it. Behind `closed` nothing is reached without a caller; what
//! is `open` asks nobody who they are, and is limited as a whole.

use std::sync::Arc;
use std::time::Duration;

use aral_contract::{Code, Failure};
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::authenticate::authenticate;
use crate::connection::Place;
use crate::door::Door;
use crate::enter::{TRACE_ID, TRACEPARENT, TRACESTATE, enter};
use crate::guard::guard;
use crate::meters;
use crate::openapi::Description;
use crate::problem::Problem;
use crate::{capabilities, health, invoke, openapi, receipts};

/// How long a browser may remember what a page may do.
const PREFLIGHT_AGE: Duration = Duration::from_secs(600);

/// All addresses without what stands before them, for the description.
pub(crate) fn routes() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .merge(closed())
        .merge(open())
}

fn closed() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new()
        .routes(routes!(invoke::invoke))
        .routes(routes!(capabilities::list))
        .routes(routes!(capabilities::show))
        .routes(routes!(receipts::receipt))
}

fn open() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new()
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
        .routes(routes!(openapi::document))
}

/// Everything that a request of this listener passes. The last layer is the first that it meets.
pub(crate) fn router(door: &Arc<Door>) -> Router {
    let (closed, _) = closed().split_for_parts();
    let (open, _) = open().split_for_parts();
    let closed = closed
        .route_layer(middleware::from_fn_with_state(Arc::clone(door), authenticate))
        .route_layer(middleware::from_fn_with_state(Arc::clone(door), admit));
    let open = open.route_layer(middleware::from_fn_with_state(Arc::clone(door), seldom));
    let mut router = closed.merge(open);
    if !door.listener.origins.is_empty() {
        router = router.layer(cors(door));
    }
    router
        .layer(middleware::from_fn_with_state(Arc::clone(door), guard))
        .layer(middleware::from_fn_with_state(door.shared.entrance(), enter))
        .with_state(Arc::clone(door))
}

/// A place among the requests under way, or a refusal at once: nobody waits here, since waiting is what fills memory.
async fn admit(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    match door.shared.requests.try_take() {
        Some(place) => {
            let mut response = next.run(request).await;
            response.extensions_mut().insert(Place::new(place));
            response
        }
        None => {
            meters::rate_limited("requests_max");
            let requests_max = door.shared.bounds.requests_max;
            let failure = Failure::new(Code::Unavailable, format!("{requests_max} requests are under way"));
            Problem::from(failure).closing().into_response()
        }
    }
}

async fn seldom(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    if door.shared.public.check().is_ok() {
        return next.run(request).await;
    }
    meters::rate_limited("public_per_second");
    let per_second = door.shared.bounds.public_per_second;
    let failure = Failure::new(
        Code::RateLimited,
        format!("more than {per_second} requests a second that need no caller"),
    );
    Problem::from(failure).into_response()
}

/// Pages of the list may call and read the answers. No page ever calls with what a browser adds by itself.
fn cors(door: &Door) -> CorsLayer {
    let origins = door.listener.origins.iter();
    let origins: Vec<HeaderValue> = origins
        .filter_map(|origin| HeaderValue::from_str(origin.as_str()).ok())
        .collect();
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            invoke::IDEMPOTENCY_KEY,
            TRACEPARENT,
            TRACESTATE,
        ])
        .expose_headers([
            TRACE_ID,
            invoke::VERSION,
            invoke::USAGE,
            invoke::RECEIPT,
            invoke::REPLAYED,
            header::RETRY_AFTER,
        ])
        .max_age(PREFLIGHT_AGE)
}
