//! Which address is answered by what, and what stands before it. Behind `closed` nothing is reached without a caller; what
//! is `open` asks nobody who they are, and is limited by address alone.

use std::sync::Arc;
use std::time::Duration;

use aral_contract::{Code, Failure, TraceId};
use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing;
use http::{HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::authenticate::{Authenticated, authenticate};
use crate::bounds;
use crate::door::{Door, Peer, Trace};
use crate::enter::{TRACE_ID, TRACEPARENT, TRACESTATE, enter};
use crate::guard::guard;
use crate::limit;
use crate::meters;
use crate::openapi::Description;
use crate::problem::Problem;
use crate::request_place::RequestPlace;
use crate::signature::{CONTENT_DIGEST, SIGNATURE, SIGNATURE_INPUT};
use crate::unsent::Weight;
use crate::{capabilities, health, invoke, mcp, openapi, protected, receipts};

/// How long a browser may remember what a page may do.
const PREFLIGHT_AGE: Duration = Duration::from_secs(600);

/// The key of the limit of what asks nobody who they are, as callers, metrics and the configuration name it.
const PUBLIC_PER_SECOND: &str = "public_per_second";

/// What a caller speaks.
#[derive(Debug, Clone, Copy)]
enum Protocol {
    Rest,
    /// The message is read before the limits, which count by what it calls.
    Mcp,
}

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
        .routes(routes!(protected::root))
        .routes(routes!(protected::mcp))
}

/// Everything that a request of this listener passes. The last layer is the first that it meets.
///
/// Each layer is cloned for each request, with all that it leads to, so that there are few, of many steps each.
pub(crate) fn router(door: &Arc<Door>) -> Router {
    let (closed, _) = closed().split_for_parts();
    let (open, _) = open().split_for_parts();
    let callers = |protocol| middleware::from_fn_with_state((Arc::clone(door), protocol), as_caller);
    let closed = closed.route_layer(callers(Protocol::Rest));
    let open = open.route_layer(middleware::from_fn_with_state(Arc::clone(door), seldom));
    let mut router = closed.merge(open);
    if door.listener.mcp {
        let clients = Router::new().route(mcp::PATH, routing::post(mcp::serve).get(mcp::serve).delete(mcp::serve));
        router = router.merge(clients.route_layer(callers(Protocol::Mcp)));
    }
    if !door.listener.origins.is_empty() {
        router = router.layer(cors(door));
    }
    let mut router = router.layer(middleware::from_fn_with_state(Arc::clone(door), outside));
    if door.tls.is_some() {
        router = router.layer(middleware::map_response(always_tls));
    }
    router.with_state(Arc::clone(door))
}

/// What every request meets.
async fn outside(
    State(door): State<Arc<Door>>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let door = &door;
    let peer = limit::forwarded(door, peer, &mut request);
    let inside = |trace, request| async move {
        match guard(door, trace, peer, &request) {
            None => next.run(request).await,
            Some(refused) => refused,
        }
    };
    enter(&door.shared.entrance, Some(peer.address()), request, inside).await
}

/// What only callers reach, in the protocol that they speak.
///
/// There is a place among the requests under way, or a refusal at once: nobody waits here, since waiting is what fills memory.
/// The request has it too: what goes on after its answer keeps it, and what has a place of its own gives it back.
async fn as_caller(
    State((door, protocol)): State<(Arc<Door>, Protocol)>,
    Extension(Trace(trace)): Extension<Trace>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let door = &door;
    let answering = async {
        let Some(permit) = door.shared.requests.try_take() else {
            return too_many(door);
        };
        let place = RequestPlace::new(permit, Weight::new(&door.shared.unsent, &door.shared.bounds));
        request.extensions_mut().insert(place.clone());
        match known(door, protocol, trace, peer, request, next).await {
            Ok(response) => {
                let mut response = place.bear(response);
                response.extensions_mut().get_or_insert(place);
                response
            }
            // It is small, and a stranger has no share: with answers that it does not read it would have the places of all.
            Err(refused) => refused,
        }
    };
    limit::strangers(door, trace, peer, answering).await
}

/// A caller who is known, within the limits of callers; the error is a refusal of somebody who is not, or has no share of the
/// places.
async fn known(
    door: &Door,
    protocol: Protocol,
    trace: TraceId,
    peer: Peer,
    request: Request,
    next: Next,
) -> Result<Response, Response> {
    let Authenticated { caller, shown, request } = authenticate(door, trace, peer, request).await?;
    // Only who has a share waits here: strangers who waited would have the places of all.
    if let Err(full) = door.shared.room().await {
        return Ok(full.into_response());
    }
    let request = match (protocol, request) {
        (Protocol::Mcp, Ok(request)) => mcp::read(door, trace, request).await,
        (Protocol::Rest | Protocol::Mcp, request) => request,
    };
    Ok(limit::callers(door, peer, caller, shown, request, next).await)
}

fn too_many(door: &Door) -> Response {
    meters::rate_limited("requests_max");
    let requests_max = door.shared.bounds.requests_max;
    let failure = Failure::new(Code::Unavailable, format!("{requests_max} requests are under way"));
    Problem::from(failure).closing().into_response()
}

/// From now on a browser comes over TLS alone, also where somebody wrote `http:` (RFC 6797). Other hosts of the domain are
/// not this server's to speak for.
async fn always_tls(mut response: Response) -> Response {
    let age = HeaderValue::from_static("max-age=31536000");
    response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, age);
    response
}

/// What asks nobody who they are, so often for each address.
async fn seldom(
    State(door): State<Arc<Door>>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let per_second = door.shared.bounds.public_per_second;
    if door.shared.limits.public(peer.address(), per_second) {
        return next.run(request).await;
    }
    meters::rate_limited(PUBLIC_PER_SECOND);
    let failure = Failure::new(
        Code::RateLimited,
        format!("the limit `{PUBLIC_PER_SECOND}` is used up: {per_second} requests a second that need no caller"),
    );
    let hint = bounds::raise(PUBLIC_PER_SECOND, per_second);
    Problem::from(failure.with_hint(hint))
        .violating(PUBLIC_PER_SECOND)
        .into_response()
}

/// Pages of the list may call and read the answers. No page ever calls with what a browser adds by itself.
fn cors(door: &Door) -> CorsLayer {
    let origins = door.listener.origins.iter();
    let origins: Vec<HeaderValue> = origins
        .filter_map(|origin| HeaderValue::from_str(origin.as_str()).ok())
        .collect();
    let mut methods = vec![Method::GET, Method::POST];
    let mut asked = vec![
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        invoke::IDEMPOTENCY_KEY,
        CONTENT_DIGEST,
        SIGNATURE,
        SIGNATURE_INPUT,
        TRACEPARENT,
        TRACESTATE,
    ];
    let mut told = vec![
        TRACE_ID,
        invoke::VERSION,
        invoke::USAGE,
        invoke::RECEIPT,
        invoke::REPLAYED,
        header::RETRY_AFTER,
        header::WWW_AUTHENTICATE,
        limit::RATE_LIMIT,
        limit::RATE_LIMIT_POLICY,
    ];
    if door.listener.mcp {
        methods.push(Method::DELETE);
        asked.extend(mcp::ASKED);
        told.push(mcp::SESSION);
    }
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods(methods)
        .allow_headers(asked)
        .expose_headers(told)
        .max_age(PREFLIGHT_AGE)
}
