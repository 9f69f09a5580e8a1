//! What is checked before any store is asked.

use aral_contract::Limits;
use serde_json::json;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types as http_types;

use super::*;
use crate::bound::stdio::StandardStreams;
use crate::trial::{self, Kept, Trial};

fn state() -> (State, std::sync::Arc<Kept>) {
    let permissions = json!({
        "secret:read": { "secrets": [
            { "name": "token", "hosts": ["https://a.example"], "header": "authorization", "prefix": "Bearer " },
            { "name": "bare" },
            { "name": "open", "use": "reveal" },
        ]},
        "secret:write": { "names": ["mine"] },
    });
    let Trial { call, kept } = Trial::new(trial::grant(permissions, Limits::default(), &[]));
    (State::new(call, StandardStreams::Log), kept)
}

async fn open(state: &mut State, name: &str) -> Result<Resource<Secret>, Error> {
    ReadHost::open(state, name.to_owned()).await.unwrap()
}

#[tokio::test]
async fn only_granted_names_open() {
    let (mut state, kept) = state();
    for name in ["other", "TOKEN", "token\0", ""] {
        assert!(
            matches!(open(&mut state, name).await, Err(Error::Denied(_))),
            "{name:?}"
        );
    }
    assert!(kept.denial().1.contains("[permissions.\"secret:read\"] secrets"));
    assert!(open(&mut state, "token").await.is_ok());
}

#[tokio::test]
async fn a_secret_is_used_as_its_scope_says() {
    let (mut state, _) = state();
    for (name, attach_denied, reveal_denied) in [("token", false, true), ("bare", true, true), ("open", true, false)] {
        let handle = open(&mut state, name).await.unwrap();
        let request = {
            let mut http = state.http();
            let fields = http_types::HostFields::new(&mut http).unwrap();
            http_types::HostOutgoingRequest::new(&mut http, fields).unwrap()
        };
        let borrowed = Resource::new_borrow(handle.rep());
        let attached = HostSecret::attach(&mut state, borrowed, request)
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(
            matches!(attached, Error::Denied(_)),
            attach_denied,
            "attach {name}: {attached:?}"
        );
        assert_eq!(matches!(attached, Error::Unavailable(_)), !attach_denied);
        let borrowed = Resource::new_borrow(handle.rep());
        let revealed = HostSecret::reveal(&mut state, borrowed).await.unwrap().unwrap_err();
        assert_eq!(
            matches!(revealed, Error::Denied(_)),
            reveal_denied,
            "reveal {name}: {revealed:?}"
        );
        assert_eq!(matches!(revealed, Error::Unavailable(_)), !reveal_denied);
        HostSecret::drop(&mut state, handle).await.unwrap();
    }
}

#[tokio::test]
async fn storing_needs_the_name_and_a_size() {
    let (mut state, _) = state();
    let mut put = async |name: &str, length: usize| {
        WriteHost::put(&mut state, name.to_owned(), vec![0; length])
            .await
            .unwrap()
            .unwrap_err()
    };
    assert!(matches!(put("mine", SECRET_BYTES_MAX).await, Error::Unavailable(_)));
    assert!(matches!(put("mine", SECRET_BYTES_MAX + 1).await, Error::Limit(_)));
    assert!(matches!(put("token", 1).await, Error::Denied(_)));
}
