//! Who calls. Nothing behind this is reached without a caller, and whoever is not one learns only that.

use std::sync::Arc;

use aral_contract::event::AuthenticationMethod;
use aral_contract::{Code, Failure};
use axum::extract::{Extension, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, header};

use crate::caller::{Caller, KEY_PREFIX};
use crate::door::{Door, Peer, Said, Shared, Trace};
use crate::problem::Problem;

/// Longest credential, in bytes.
const CREDENTIAL_BYTES_MAX: usize = 8 << 10;

/// Lets a caller through.
pub(crate) async fn authenticate(
    State(door): State<Arc<Door>>,
    Extension(Trace(trace)): Extension<Trace>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let shared = &door.shared;
    let find = || match credential(request.headers()) {
        Ok(Some(key)) => with_key(shared, key).map(|caller| (caller, true)),
        Ok(None) => anonymous(&door).map(|caller| (caller, false)),
        Err(reason) => Err(reason),
    };
    let found = tracing::info_span!(target: "aral::call", "authenticate").in_scope(find);
    match found {
        Ok((caller, said_who)) => {
            if said_who {
                shared.record_authentication(trace, peer, said(Some(&caller)), None);
            }
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(reason) => {
            shared.record_authentication(trace, peer, said(None), Some(reason.to_owned()));
            refused()
        }
    }
}

fn said(caller: Option<&Caller>) -> Said<'_> {
    Said {
        method: AuthenticationMethod::ApiKey,
        user: caller.map(|caller| &caller.name),
        agent: caller.map(|caller| &caller.session.persona().body.id),
    }
}

/// The same for every reason.
pub(crate) fn refused() -> Response {
    let failure = Failure::new(Code::AuthenticationFailed, "it is not known who calls");
    let mut response = Problem::from(failure).into_response();
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// What the request shows; none: nothing. The reason is for the record.
pub(crate) fn credential(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err("two credentials");
    }
    let text = value.to_str().map_err(|_| "a credential that is no text")?;
    match text.split_once(' ') {
        _ if text.len() > CREDENTIAL_BYTES_MAX => Err("a credential that is too long"),
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(key.trim_start_matches(' '))),
        Some(_) | None => Err("a scheme other than Bearer"),
    }
}

fn with_key(shared: &Shared, key: &str) -> Result<Arc<Caller>, &'static str> {
    if !key.starts_with(KEY_PREFIX) {
        return Err("a credential of no known form");
    }
    shared.callers.with_key(key).cloned().ok_or("an unknown key")
}

fn anonymous(door: &Door) -> Result<Arc<Caller>, &'static str> {
    let name = door.listener.anonymous.as_ref().ok_or("no credential")?;
    door.shared.callers.named(name).cloned().ok_or("no credential")
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
