//! `wasi:http/outgoing-handler`, and the end of a request that is never sent: the two ways in which a request leaves the
//! resource table. Its index is used again for something else, and the mark of a secret must be gone by then.

use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, RequestOptions};
use wasmtime_wasi_http::p2::bindings::http::{outgoing_handler, types};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView};

use super::hooks::Hooks;

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

    /// The guest drops a request that it never sent.
    pub(crate) fn drop_request(&mut self, request: Resource<HostOutgoingRequest>) -> wasmtime::Result<()> {
        self.hooks.forget(request.rep());
        types::HostOutgoingRequest::drop(&mut self.view(), request)
    }

    /// The guest hands a request over. The error code is the guest's to see; any other error ends its call.
    pub(crate) fn handle(
        &mut self,
        request: Resource<HostOutgoingRequest>,
        options: Option<Resource<RequestOptions>>,
    ) -> wasmtime::Result<Result<Resource<HostFutureIncomingResponse>, ErrorCode>> {
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
