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
use crate::tls::ClientCertificate;

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
    let certificate = request.extensions().get::<Arc<ClientCertificate>>();
    let mut method = AuthenticationMethod::ApiKey;
    let found = match (credential(request.headers()), certificate) {
        (Ok(Some(key)), None) => with_key(shared, key).map(|caller| (caller, true)),
        (Ok(Some(key)), Some(certificate)) => with_both(&door, key, certificate).map(|caller| (caller, true)),
        (Ok(None), Some(certificate)) => {
            method = AuthenticationMethod::Certificate;
            with_certificate(&door, certificate)
                .and_then(|found| found.ok_or("a certificate of no caller"))
                .map(|caller| (caller, true))
        }
        (Ok(None), None) => anonymous(&door).map(|caller| (caller, false)),
        (Err(reason), _) => Err(reason),
    };
    match found {
        Ok((caller, said_who)) => {
            if said_who {
                shared.record_authentication(trace, peer, said(method, Some(&caller)), None);
            }
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(reason) => {
            shared.record_authentication(trace, peer, said(method, None), Some(reason.to_owned()));
            refused()
        }
    }
}

fn said(method: AuthenticationMethod, caller: Option<&Caller>) -> Said<'_> {
    Said {
        method,
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

/// Whom the certificate of the connection shows; none: nobody. It is looked at again, since it may have been revoked after
/// the connection began.
fn with_certificate(door: &Door, certificate: &ClientCertificate) -> Result<Option<Arc<Caller>>, &'static str> {
    let names = door.tls.as_ref().and_then(|tls| certificate.names(tls));
    let names = names.ok_or("a certificate that is not valid any more")?;
    match door.shared.callers.with_certificate(names).as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(Arc::clone(one))),
        [_, _, ..] => Err("a certificate of two callers"),
    }
}

/// A certificate that is nobody's is the way in, and the key says who comes. One that is somebody's says it too.
fn with_both(door: &Door, key: &str, certificate: &ClientCertificate) -> Result<Arc<Caller>, &'static str> {
    let caller = with_key(&door.shared, key)?;
    match with_certificate(door, certificate)? {
        Some(other) if other.name != caller.name => Err("a key and a certificate of two callers"),
        Some(_) | None => Ok(caller),
    }
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
