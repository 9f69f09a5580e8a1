//! Who calls. There are several ways to be known; nothing behind this is reached without one of them, and whoever is not known
//! learns only that. Why is in the record.

use std::sync::Arc;

use aral_contract::event::AuthenticationMethod;
use aral_contract::id::CallerName;
use aral_contract::{Code, Failure, TraceId};
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, Uri, header};
use tracing::Instrument as _;

use crate::body;
use crate::bounds;
use crate::caller::{Caller, KEY_PREFIX};
use crate::connection::Last;
use crate::door::{Door, Peer, Said};
use crate::mcp;
use crate::meters;
use crate::problem::Problem;
use crate::request_place::RequestPlace;
use crate::signature::{self, Doubt, Message, Signed, Times};
use crate::tls::{ClientCertificate, Tls};
use crate::token::{self, Presented};

/// Longest credential, in bytes. Stops one that takes long to look at.
const CREDENTIAL_BYTES_MAX: usize = 8 << 10;

/// Somebody, and how they showed who they are.
struct Known {
    caller: Arc<Caller>,
    method: AuthenticationMethod,
}

/// Nobody that is known.
struct Stranger {
    method: AuthenticationMethod,
    /// Who it would have been.
    user: Option<CallerName>,
    /// For the record alone.
    reason: &'static str,
    /// What was shown may be good, and nobody can tell now.
    undecided: bool,
    /// Something was shown that may have been a guess: whoever shows nothing guesses nothing.
    guessed: bool,
    /// Whoever comes on a connection of their own may be known: on this one nobody is any more.
    last: bool,
}

/// Says of an answer that it refuses a credential, and not that there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guessed;

/// A request of somebody who is known.
pub(crate) struct Authenticated {
    pub(crate) caller: Arc<Caller>,
    /// None: by nothing. The listener says who whoever shows nothing is.
    pub(crate) shown: Option<Shown>,
    /// Or what is answered to it, where its body is refused that had to be there for the signature. Its caller is known all the same.
    pub(crate) request: Result<Request, Response>,
}

/// How the caller of a request showed who they are. It is recorded once their limits let it in: what they refuse costs nothing, and
/// a record for each would push out what the log keeps of before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    trace: TraceId,
    method: AuthenticationMethod,
}

impl Shown {
    pub(crate) fn record(self, door: &Door, peer: Peer, caller: &Caller) {
        let said = Said {
            method: self.method,
            user: Some(&caller.name),
            agent: Some(&caller.session.persona().body.id),
        };
        door.shared.record_authentication(self.trace, peer, said, None);
    }
}

impl Stranger {
    fn new(method: AuthenticationMethod, reason: &'static str) -> Self {
        Self {
            method,
            user: None,
            reason,
            undecided: false,
            guessed: true,
            last: false,
        }
    }

    /// Somebody who may be this caller, and whose signature is not taken.
    fn of_signature(known: &Known, doubt: Doubt) -> Self {
        Self {
            user: Some(known.caller.name.clone()),
            undecided: doubt == Doubt::NoRoom,
            // Every other one is good, or nobody can say that it is not.
            guessed: matches!(doubt, Doubt::Bad(_)),
            ..Self::new(AuthenticationMethod::Signature, doubt.reason())
        }
    }
}

/// Why it is not found out who makes a request.
enum Refused {
    Stranger(Stranger),
    /// Its caller has no place for it.
    Full(Problem),
}

/// Who makes a request, or what is answered to somebody who is not known. The request knows its caller from then on.
pub(crate) async fn authenticate(
    door: &Door,
    trace: TraceId,
    peer: Peer,
    request: Request,
) -> Result<Authenticated, Response> {
    let uri = request.uri().clone();
    let certificate = request.extensions().get::<Arc<ClientCertificate>>().cloned();
    let known = async {
        match identify(door, &uri, request.headers(), certificate).await {
            Ok(known) => check_signature(door, known, request).await,
            Err(stranger) => Err(Refused::Stranger(stranger)),
        }
    };
    let span = tracing::info_span!(target: "aral::call", "authenticate");
    match known.instrument(span).await {
        Ok((Known { caller, method }, mut request)) => {
            if let Ok(request) = &mut request {
                request.extensions_mut().insert(Arc::clone(&caller));
            }
            Ok(Authenticated {
                caller,
                // Who shows nothing is taken for whom the listener says, and there is nothing to record.
                shown: (method != AuthenticationMethod::None).then_some(Shown { trace, method }),
                request: request.map_err(Problem::into_response),
            })
        }
        Err(Refused::Stranger(stranger)) => {
            let said = Said {
                method: stranger.method,
                user: stranger.user.as_ref(),
                agent: None,
            };
            let reason = Some(stranger.reason.to_owned());
            door.shared.record_authentication(trace, peer, said, reason);
            if stranger.undecided {
                return Err(undecided());
            }
            let mut response = refused(door.shared.protected.challenge(&uri));
            if stranger.guessed {
                response.extensions_mut().insert(Guessed);
            }
            if stranger.last {
                response.extensions_mut().insert(Last);
            }
            Err(response)
        }
        Err(Refused::Full(problem)) => Err(problem.into_response()),
    }
}

/// The same for every reason. `challenge` says how to be let in.
pub(crate) fn refused(challenge: HeaderValue) -> Response {
    let failure = Failure::new(Code::AuthenticationFailed, "it is not known who calls");
    let mut response = Problem::from(failure).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}

/// Nobody is refused for what cannot be checked now, and it does not count as a wrong credential.
fn undecided() -> Response {
    let failure = Failure::new(Code::Unavailable, "it cannot be found out at the moment who calls");
    Problem::from(failure).into_response()
}

/// What a request shows of its caller. Whoever shows something wrong is not taken for somebody who shows nothing.
async fn identify(
    door: &Door,
    uri: &Uri,
    headers: &HeaderMap,
    certificate: Option<Arc<ClientCertificate>>,
) -> Result<Known, Stranger> {
    // Where nobody is asked for one any more, one that was shown before says nothing.
    let asking = door.tls.as_deref().filter(|tls| tls.asks_for_certificates());
    let certificate = certificate.zip(asking);
    let presented = Presented {
        mcp: door.shared.protected.mcp(),
        at_mcp: uri.path() == mcp::PATH,
        certificate: certificate.as_ref().and_then(|(certificate, _)| certificate.digest()),
    };
    let certificate = certificate.map(|(certificate, tls)| with_certificate(door, tls, &certificate));
    let known = match credential(headers) {
        Ok(Some(text)) if text.starts_with(KEY_PREFIX) => with_key(door, text)?,
        Ok(Some(text)) => with_token(door, text, presented).await?,
        Ok(None) => {
            return match certificate {
                None => anonymous(door, headers),
                // It led to a root of the listener, and is the way in for whoever shows a credential: nothing was guessed.
                Some(shown) => shown?.ok_or_else(|| Stranger {
                    guessed: false,
                    ..Stranger::new(AuthenticationMethod::Certificate, "a certificate of no caller")
                }),
            };
        }
        Err(reason) => return Err(Stranger::new(AuthenticationMethod::None, reason)),
    };
    // A certificate that is nobody's is the way in, and the credential says who comes. One that is somebody's says it too.
    match certificate.transpose()?.flatten() {
        Some(other) if other.caller.name != known.caller.name => Err(Stranger::new(
            known.method,
            "a credential and a certificate of two callers",
        )),
        Some(_) | None => Ok(known),
    }
}

/// What stands in `Authorization`; none: there is none.
pub(crate) fn credential(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err("two credentials");
    }
    let text = value.to_str().map_err(|_| "a credential that is no text")?;
    match text.split_once(' ') {
        _ if text.len() > CREDENTIAL_BYTES_MAX => Err("a credential that is too long"),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(rest.trim_start_matches(' '))),
        Some(_) | None => Err("a scheme other than Bearer"),
    }
}

/// By a key that the operator gave out.
fn with_key(door: &Door, key: &str) -> Result<Known, Stranger> {
    let method = AuthenticationMethod::ApiKey;
    let caller = door.shared.callers.with_key(key).cloned();
    let caller = caller.ok_or_else(|| Stranger::new(method, "an unknown key"))?;
    Ok(Known { caller, method })
}

/// By a token of an issuer.
async fn with_token(door: &Door, token: &str, presented: Presented<'_>) -> Result<Known, Stranger> {
    let method = AuthenticationMethod::Token;
    let caller = door.shared.issuers.caller(token, presented).await;
    let caller = caller.map_err(|doubt| Stranger {
        undecided: doubt == token::Doubt::NoKeys,
        // That one is over is what clients find out by showing it, and so is that its issuer has a new key.
        guessed: !matches!(doubt, token::Doubt::Genuine(_) | token::Doubt::UnknownKey),
        ..Stranger::new(method, doubt.reason())
    })?;
    Ok(Known { caller, method })
}

/// By nothing, where the listener says who that is.
fn anonymous(door: &Door, headers: &HeaderMap) -> Result<Known, Stranger> {
    let method = AuthenticationMethod::None;
    let name = door.listener.anonymous.as_ref();
    let caller = name.and_then(|name| door.shared.callers.named(name)).cloned();
    // The operator would look for the mistake in what signs.
    let reason = match signature::is_there(headers) {
        true => "a signature, and no credential beside it",
        false => "no credential",
    };
    let caller = caller.ok_or_else(|| Stranger {
        guessed: false,
        ..Stranger::new(method, reason)
    })?;
    Ok(Known { caller, method })
}

/// Checks the signature over the request, where its caller signs. Of one that is signed the body is there from then on, or why it is
/// refused: whoever signed is known by then, and a refusal must not tell unseen that what they have shown is good.
async fn check_signature(
    door: &Door,
    known: Known,
    request: Request,
) -> Result<(Known, Result<Request, Problem>), Refused> {
    // Before the body is read: what becomes of that would tell whoever has the key alone that it is a good one.
    let signed = signature_of(door, &known, &request).map_err(Refused::Stranger)?;
    take_share(door, &known.caller.name, &request).map_err(Refused::Full)?;
    let Some(signed) = signed else {
        return Ok((known, Ok(request)));
    };
    // Whoever has no place is told to come again, and may do so with the same signature. One that was used gives its place back at once.
    let used_up = signed.use_up(&known.caller.name, &door.shared.nonces);
    used_up.map_err(|doubt| Refused::Stranger(Stranger::of_signature(&known, doubt)))?;
    let method = match known.method {
        AuthenticationMethod::None => AuthenticationMethod::Signature,
        shown => shown,
    };
    let known = Known { method, ..known };
    let (parts, body) = request.into_parts();
    let body = match body::read(&parts.headers, body, &door.shared.bounds).await {
        Ok(body) => body,
        Err(problem) => return Ok((known, Err(problem))),
    };
    match signed.check_body(&parts.headers, &body) {
        Ok(()) => Ok((known, Ok(Request::from_parts(parts, Body::from(body))))),
        Err(doubt) => Err(Refused::Stranger(Stranger::of_signature(&known, doubt))),
    }
}

/// The signature of a request, which is a good one and may have been used; none: its caller need not sign.
fn signature_of(door: &Door, known: &Known, request: &Request) -> Result<Option<Signed>, Stranger> {
    let rule = match (&known.caller.signature, signature::is_there(request.headers())) {
        (Some(rule), true) => rule,
        // Whoever signs relies on it that nobody changed the request or sends it again.
        (None, true) => return Err(Stranger::of_signature(known, Doubt::NoRule)),
        (Some(rule), false) if rule.required => {
            return Err(Stranger {
                guessed: known.method != AuthenticationMethod::None,
                ..Stranger::of_signature(known, Doubt::Bad("no signature"))
            });
        }
        (Some(_) | None, false) => return Ok(None),
    };
    let shared = &door.shared;
    let message = Message {
        method: request.method(),
        uri: request.uri(),
        headers: request.headers(),
    };
    let times = Times {
        now: shared.clock.now(),
        age_max: bounds::ms(shared.bounds.signature_age_ms),
        skew: bounds::ms(shared.bounds.signature_skew_ms),
    };
    let signed = signature::check(message, rule, times);
    signed.map(Some).map_err(|doubt| Stranger::of_signature(known, doubt))
}

/// Counts a request as one of its caller's, before anybody waits for its body: one caller whose bodies do not come cannot take
/// the places of all others.
fn take_share(door: &Door, caller: &CallerName, request: &Request) -> Result<(), Problem> {
    let max = door.shared.bounds.requests_per_caller_max;
    match door.shared.requests_of.take(caller, max) {
        Ok(share) => {
            let place = request.extensions().get::<RequestPlace>();
            let shared = place.map_or(Ok(()), |place| place.share(share));
            shared.map_err(|failure| Problem::from(failure).closing())
        }
        Err(_beyond) => {
            meters::rate_limited("requests_per_caller_max");
            let failure = Failure::new(
                Code::Unavailable,
                format!("{max} requests of this caller are under way"),
            );
            Err(Problem::from(failure).closing())
        }
    }
}

/// Whom the certificate of the connection shows; none: nobody. It is looked at again, since it may have been revoked after
/// the connection began.
fn with_certificate(door: &Door, tls: &Tls, certificate: &ClientCertificate) -> Result<Option<Known>, Stranger> {
    let method = AuthenticationMethod::Certificate;
    // The handshake found it valid, so that it is no guess; and no request on this connection shows a newer one.
    let names = certificate.names(tls).ok_or_else(|| Stranger {
        guessed: false,
        last: true,
        ..Stranger::new(method, "a certificate that is not valid any more")
    })?;
    let authorities = door.listener.client_ca_file();
    let callers = authorities.map(|file| door.shared.callers.with_certificate(names, file));
    match callers.unwrap_or_default().as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(Known {
            caller: Arc::clone(one),
            method,
        })),
        [_, _, ..] => Err(Stranger::new(method, "a certificate of two callers")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bearer_credential_is_taken_and_nothing_else() {
        let of = |fields: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in fields {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            credential(&headers).map(|key| key.map(str::to_owned))
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["Bearer aral_1"]), Ok(Some("aral_1".to_owned())));
        assert_eq!(of(&["bearer  aral_1"]), Ok(Some("aral_1".to_owned())));
        for bad in [&["Basic aral_1"][..], &["aral_1"], &[""], &["Bearer a", "Bearer a"]] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
        assert!(of(&[&format!("Bearer {}", "a".repeat(CREDENTIAL_BYTES_MAX))]).is_err());
    }
}
