//! `wasi:http/outgoing-handler`, and the end of a request that is never sent: the two ways in which a request leaves the
//! resource table. Its index is used again for something else, and the mark of a secret must be gone by then. Also what a
//! request may hold until it leaves: its texts, of which the library keeps any length, and how many there are.

use aral_contract::limits::{HOST_BYTES_MAX, HTTP_FIELD_BYTES_MAX, NAME_BYTES_MAX};
use wasmtime::component::{Resource, ResourceTable, ResourceTableError};
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Method, RequestOptions};
use wasmtime_wasi_http::p2::bindings::http::{outgoing_handler, types};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{FieldMap, WasiHttpCtx, WasiHttpCtxView};

use super::hooks::Hooks;

/// Longest method that has no name of its own in `wasi:http`, in bytes.
const METHOD_BYTES_MAX: usize = NAME_BYTES_MAX;
/// Longest authority, in bytes: no granted host with its port is longer.
const AUTHORITY_BYTES_MAX: usize = HOST_BYTES_MAX + 16;
/// Longest path with its query, in bytes.
const PATH_BYTES_MAX: usize = HTTP_FIELD_BYTES_MAX;

/// What a setter says: whether the text is one.
type Set = wasmtime::Result<Result<(), ()>>;

/// What sending a request needs of a store.
pub(crate) struct Sending<'a> {
    pub(crate) hooks: &'a mut Hooks,
    pub(crate) table: &'a mut ResourceTable,
    pub(crate) http: &'a mut WasiHttpCtx,
}

impl Sending<'_> {
    fn view(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut *self.hooks,
            table: &mut *self.table,
            ctx: &mut *self.http,
        }
    }

    /// The guest makes a request. Fails as the table does that has no room: that ends the call.
    pub(crate) fn new_request(
        &mut self,
        headers: Resource<FieldMap>,
    ) -> wasmtime::Result<Resource<HostOutgoingRequest>> {
        if !self.hooks.make_room() {
            return Err(ResourceTableError::Full.into());
        }
        types::HostOutgoingRequest::new(&mut self.view(), headers)
    }

    pub(crate) fn set_method(&mut self, request: Resource<HostOutgoingRequest>, method: Method) -> Set {
        match &method {
            Method::Other(text) if text.len() > METHOD_BYTES_MAX => Ok(Err(())),
            _ => types::HostOutgoingRequest::set_method(&mut self.view(), request, method),
        }
    }

    pub(crate) fn set_authority(&mut self, request: Resource<HostOutgoingRequest>, authority: Option<String>) -> Set {
        match &authority {
            Some(text) if text.len() > AUTHORITY_BYTES_MAX => Ok(Err(())),
            _ => types::HostOutgoingRequest::set_authority(&mut self.view(), request, authority),
        }
    }

    pub(crate) fn set_path(&mut self, request: Resource<HostOutgoingRequest>, path: Option<String>) -> Set {
        match &path {
            Some(text) if text.len() > PATH_BYTES_MAX => Ok(Err(())),
            _ => types::HostOutgoingRequest::set_path_with_query(&mut self.view(), request, path),
        }
    }

    /// The guest drops a request that it never sent.
    pub(crate) fn drop_request(&mut self, request: Resource<HostOutgoingRequest>) -> wasmtime::Result<()> {
        self.hooks.forget(request.rep());
        types::HostOutgoingRequest::drop(&mut self.view(), request)
    }

    /// The guest hands a request over. The error code is the guest's to see; any other error ends its call.
    ///
    /// Without a path it means the root. The library would refuse it with a warning in the log of the host, before the hooks count
    /// or record anything: as many of them as the guest likes.
    pub(crate) fn handle(
        &mut self,
        request: Resource<HostOutgoingRequest>,
        options: Option<Resource<RequestOptions>>,
    ) -> wasmtime::Result<Result<Resource<HostFutureIncomingResponse>, ErrorCode>> {
        let path = &mut self.table.get_mut(&request)?.path_with_query;
        *path = path.take().or_else(|| Some("/".to_owned()));
        let (table, http) = (&mut *self.table, &mut *self.http);
        let handled = self.hooks.sending(request.rep(), |hooks| {
            let mut view = WasiHttpCtxView {
                hooks,
                table,
                ctx: http,
            };
            outgoing_handler::Host::handle(&mut view, request, options)
        });
        match handled {
            Ok(response) => Ok(Ok(response)),
            Err(error) => Ok(Err(types::Host::convert_error_code(&mut self.view(), error)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use aral_contract::Limits;
    use serde_json::json;

    use super::*;
    use crate::testing::{self, Trial, Warnings};

    #[tokio::test]
    async fn a_request_without_a_path_is_for_the_root_and_writes_no_warning() {
        let trial = Trial::new(testing::grant(json!({}), Limits::default(), &[]));
        let mut hooks = Hooks::new(Arc::clone(&trial.call));
        let (mut table, mut http) = (ResourceTable::new(), WasiHttpCtx::new());
        let mut sending = Sending {
            hooks: &mut hooks,
            table: &mut table,
            http: &mut http,
        };
        let warnings = Warnings::default();
        let _listening = tracing::subscriber::set_default(warnings.clone());
        for _ in 0..100 {
            let headers = sending.table.push(FieldMap::new_mutable(1_000)).unwrap();
            let request = sending.new_request(headers).unwrap();
            let authority = Some("a.example".to_owned());
            let set = sending.set_authority(Resource::new_borrow(request.rep()), authority);
            assert_eq!(set.unwrap(), Ok(()));
            sending.handle(request, None).unwrap().unwrap();
        }
        assert_eq!(warnings.count(), 0);
        let denied = trial.kept.host_calls();
        assert_eq!(denied.len(), 100, "each was asked of the grant, and recorded");
        assert!(denied.iter().all(|(_, target, _)| target == "https://a.example"));
    }
}
