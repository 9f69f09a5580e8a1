//! The limits as steps of a connection and of a request: strangers before anybody looks at who they are, callers behind that.

use std::sync::Arc;

use aral_contract::{CapabilityId, Code, Failure, TraceId, rule};
use axum::RequestExt as _;
use axum::extract::{Query, RawPathParams, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use semver::VersionReq;

use super::charge::{Level, Refused};
use super::fields::{self, Told};
use super::{Asked, Call, Rate, Stopped};
use crate::authenticate::{Guessed, Shown};
use crate::body;
use crate::bounds;
use crate::caller::Caller;
use crate::door::{Door, Peer};
use crate::invoke::Versions;
use crate::mcp::Called;
use crate::meters;
use crate::problem::Problem;

/// Before a handshake: the limit of the address. Whether it may begin. What a trusted proxy hands on comes from many, whose addresses
/// nobody knows yet.
pub(crate) fn handshake(door: &Door, peer: Peer) -> bool {
    let (shared, address) = (&door.shared, peer.address());
    if shared.proxies.trusts(address) {
        return true;
    }
    let refused = shared.limits.shake(address).err();
    if let Some(refused) = &refused {
        meters::rate_limited(refused.level.limit.as_str());
    }
    refused.is_none()
}

/// A credential of an address was refused, which may have been a guess.
fn guessed(door: &Door, trace: TraceId, peer: Peer) {
    if door.shared.limits.failed(peer.address()) {
        let listener = door.listener.address.to_string();
        door.shared
            .record_security(Some(trace), peer, rule::RATES_FAILURES, listener);
    }
}

/// Before authentication: the limit of the address, and of credentials of it that were refused. `answering` is what is behind it.
pub(crate) async fn strangers(
    door: &Door,
    trace: TraceId,
    peer: Peer,
    answering: impl Future<Output = Response>,
) -> Response {
    let limits = &door.shared.limits;
    let mut response = match limits.enter(peer.address()) {
        Err(refused) => problem(&refused, &limits.line(refused.level.limit, None)),
        Ok(level) => {
            let mut response = answering.await;
            // Who showed none is not counted: a page could keep all others of this machine out, and guesses nothing.
            if response.extensions_mut().remove::<Guessed>().is_some() {
                guessed(door, trace, peer);
            }
            Told::passed(&[level]).with(&mut response);
            response
        }
    };
    fields::write(&mut response);
    response
}

/// Behind authentication: all limits of the caller and of the call, in one step. Who is within them is on record from here on, also if
/// their request is refused already: nobody learns unseen that what they have shown is good. What is put aside for the cost goes on with
/// the request.
pub(crate) async fn callers(
    door: &Door,
    peer: Peer,
    caller: Arc<Caller>,
    shown: Option<Shown>,
    mut request: Result<Request, Response>,
    next: Next,
) -> Response {
    let wanted = match &mut request {
        Ok(request) => wanted(request).await,
        Err(_refused) => None,
    };
    let persona = &caller.session.persona().body;
    let mut asked = Asked {
        address: peer.address(),
        caller: &caller.name,
        persona: &persona.id,
        tier: persona.tier.as_ref(),
        call: wanted
            .as_ref()
            .and_then(|(id, version)| call(door, &caller, id, version.as_ref())),
    };
    let limits = &door.shared.limits;
    // What is put aside is kept from others, so that it does not wait for a body. Of a message and of what is signed it is there already.
    let request = match request {
        Ok(request) if body::check_json(request.headers()).is_err() => {
            // It is refused before its body is read.
            asked.call = None;
            Ok(request)
        }
        Ok(request) if asked.call.is_some() => {
            // Nobody waits for the body of what is refused anyhow.
            if let Err(refused) = limits.look(&asked) {
                return problem(&refused, &limits.line(refused.level.limit, Some(&asked)));
            }
            let arrived = body::arrived(request, &door.shared.bounds).await;
            arrived.map_err(Problem::into_response)
        }
        request => request,
    };
    if request.is_err() {
        // No call comes of it.
        asked.call = None;
    }
    match limits.take(&asked).await {
        Ok(taken) => {
            if let Some(shown) = shown {
                shown.record(door, peer, &caller);
            }
            let mut response = match request {
                Ok(mut request) => {
                    request.extensions_mut().insert(taken.reservation);
                    next.run(request).await
                }
                Err(refused) => refused,
            };
            Told::passed(&taken.levels).with(&mut response);
            response
        }
        Err(Stopped::Refused(refused)) => problem(&refused, &limits.line(refused.level.limit, Some(&asked))),
        Err(Stopped::Down) => {
            meters::rate_limited("redis");
            let failure = Failure::new(Code::Unavailable, "the limits of this server cannot be asked");
            Problem::from(failure).into_response()
        }
    }
}

/// The capability and the versions that a request names, if it is that of a call that would be made.
async fn wanted(request: &mut Request) -> Option<(CapabilityId, Option<VersionReq>)> {
    let called = request.extensions().get::<Called>().cloned();
    match called {
        // A tool is called in its newest release, whatever the address says.
        Some(Called(id)) => Some((id, None)),
        None => named(request).await,
    }
}

/// The capability and the versions that the address names, if it is that of a call that would be made.
async fn named(request: &mut Request) -> Option<(CapabilityId, Option<VersionReq>)> {
    let path = request.extract_parts::<RawPathParams>().await.ok()?;
    let (_, text) = path.iter().find(|(name, _)| *name == "capability")?;
    let Query(versions) = Query::<Versions>::try_from_uri(request.uri()).ok()?;
    Some((text.parse().ok()?, versions.requirement().ok()?))
}

/// The call that a request is; none: it would not be made. What is denied uses up nothing of the capability: whoever may not
/// call it could otherwise keep it from those who may.
fn call<'a>(
    door: &Door,
    caller: &Caller,
    capability: &'a CapabilityId,
    version: Option<&VersionReq>,
) -> Option<Call<'a>> {
    let dispatcher = &door.shared.dispatcher;
    let cost_micro_max = dispatcher.quote(&caller.session, capability, version)?;
    Some(Call {
        capability,
        cost_micro_max,
        time_max: bounds::call_max(door.shared.bounds.handler_ms),
    })
}

fn problem(refused: &Refused, line: &str) -> Response {
    let Refused { level, wait, amount } = *refused;
    let name = level.limit.as_str();
    meters::rate_limited(name);
    let failure = match wait {
        Some(wait) => {
            let message = format!("the limit `{name}` is used up: {}", level.rate);
            let failure = Failure {
                hint: more(&level, line),
                ..Failure::new(Code::RateLimited, message)
            };
            failure.with_retry_after(wait)
        }
        None => {
            let enough = level.rate.with_burst(amount.get());
            let needs = match enough {
                Some(_) => amount.to_string(),
                None => "more than any burst may be".to_owned(),
            };
            let message = format!("the limit `{name}` gives {}, and this needs {needs}", level.rate);
            Failure {
                hint: enough.map(|enough| at_once(level.rate, enough, line)),
                ..Failure::new(Code::RateLimited, message)
            }
        }
    };
    let mut problem = Problem::from(failure).violating(name);
    if wait.is_none() {
        problem = problem.for_good();
    }
    let mut response = problem.into_response();
    Told::refused(level).with(&mut response);
    response
}

/// The line that gives enough at once.
fn at_once(rate: Rate, enough: Rate, line: &str) -> String {
    let (count, key) = enough.count();
    let first = if enough.count() == rate.count() {
        "…".to_owned()
    } else {
        format!("{key} = {count}")
    };
    format!("aral.toml, {line} = {{ {first}, burst = {} }}", enough.burst())
}

/// The line that gives more; none: no line does.
fn more(level: &Level, line: &str) -> Option<String> {
    let (count, key) = level.rate.gives_more_above(level.limit.count_max())?;
    Some(format!(
        "aral.toml, {line} = {{ {key} = N, burst = M }}, N above {count}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Limit, RateRequest, Rates};

    fn level(limit: Limit, rate: Rate) -> Level {
        Level { limit, rate, ns: 0 }
    }

    #[test]
    fn the_hint_of_a_limit_that_is_used_up_can_be_followed_or_is_not_there() {
        for limit in Limit::ALL {
            let rate = Rates::default().of(limit);
            let (count, key) = rate.count();
            let hint = more(&level(limit, rate), "[serve.rates]: it").unwrap();
            assert_eq!(
                hint,
                format!("aral.toml, [serve.rates]: it = {{ {key} = N, burst = M }}, N above {count}")
            );
            let raised = |count: u64| {
                let request = RateRequest {
                    per_second: Some(count),
                    burst: Some(1),
                    ..RateRequest::default()
                };
                Rate::resolve(&request, limit.count_max())
            };
            assert!(raised(u64::from(count) + 1).is_ok(), "{hint}");
            let most = raised(limit.count_max()).unwrap();
            assert_eq!(more(&level(limit, most), "[serve.rates]: it"), None, "{limit:?}");
            assert!(raised(limit.count_max() + 1).is_err(), "{limit:?}");
        }
    }

    #[test]
    fn the_hint_of_too_large_an_amount_is_a_line_that_can_be_configured() {
        let by_minute = RateRequest {
            per_minute: Some(1),
            burst: Some(10),
            ..RateRequest::default()
        };
        let rate = Rate::resolve(&by_minute, Limit::Cost.count_max()).unwrap();
        let hint = |amount| at_once(rate, rate.with_burst(amount).unwrap(), "it");
        assert_eq!(hint(1_440), "aral.toml, it = { …, burst = 1440 }");
        assert_eq!(hint(100_000), "aral.toml, it = { per_second = 2, burst = 100000 }");
    }

    #[test]
    fn the_hint_of_a_full_minute_is_a_line_with_seconds() {
        for limit in Limit::ALL {
            let by_minute = RateRequest {
                per_minute: Some(limit.count_max()),
                burst: Some(1),
                ..RateRequest::default()
            };
            let full = Rate::resolve(&by_minute, limit.count_max()).unwrap();
            let hint = more(&level(limit, full), "it").unwrap();
            let above = limit.count_max() / 60;
            assert_eq!(
                hint,
                format!("aral.toml, it = {{ per_second = N, burst = M }}, N above {above}")
            );
            let by_second = RateRequest {
                per_second: Some(above + 1),
                burst: Some(1),
                ..RateRequest::default()
            };
            let followed = Rate::resolve(&by_second, limit.count_max()).unwrap();
            assert!(followed.interval_ns() <= full.interval_ns(), "{limit:?}");
            assert!((above + 1) * 60 > limit.count_max(), "{limit:?}");
        }
    }
}
