//! The linker of one grant. An interface that needs a permission is linked only if the grant has that permission, so a
//! component that imports more cannot even be prepared. The baseline that every wasip2 program imports is always linked,
//! and is always empty or denying.

use aral_contract::{Permission, Permissions};
use wasmtime::component::{HasData, HasSelf, Linker, Resource, ResourceTable, ResourceType};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView};
use wasmtime_wasi::p2::bindings::io::error::Error as StreamFailure;
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random, sockets};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};
use wasmtime_wasi_http::p2::bindings::http;
use wasmtime_wasi_http::p2::body::HostOutgoingBody;
use wasmtime_wasi_http::p2::types::{HostOutgoingRequest, HostOutgoingResponse};
use wasmtime_wasi_http::{FieldMap, WasiHttp, WasiHttpView};

use crate::bindings::aral::capability;
use crate::bound::Ungranted;
use crate::call::sanitised;
use crate::fault::GUEST_MESSAGE_BYTES_MAX;
use crate::state::{HasFiles, State};

/// Where the library defines what a request is. A test shows that what is defined here again is what guests get.
const HTTP_TYPES: &str = "wasi:http/types@0.2.12";
const HTTP_OUTGOING_HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// What guests may read of an error of a stream. wasmtime's own answer is the debug form, with a backtrace through the
/// host's source folders where the process was started with `RUST_BACKTRACE`.
pub(crate) struct ErrorTexts<'a>(&'a mut ResourceTable);

struct HasErrors;

impl HasData for HasErrors {
    type Data<'a> = ErrorTexts<'a>;
}

impl io::error::Host for ErrorTexts<'_> {}

impl io::error::HostError for ErrorTexts<'_> {
    fn to_debug_string(&mut self, error: Resource<StreamFailure>) -> wasmtime::Result<String> {
        Ok(sanitised(&self.0.get(&error)?.to_string(), GUEST_MESSAGE_BYTES_MAX))
    }

    fn drop(&mut self, error: Resource<StreamFailure>) -> wasmtime::Result<()> {
        self.0.delete(error)?;
        Ok(())
    }
}

/// A linker with what `permissions` open. With [`Ungranted::Observe`] the governed interfaces are all there, and their
/// functions deny and record.
pub(crate) fn build(
    engine: &wasmtime::Engine,
    permissions: &Permissions,
    ungranted: Ungranted,
) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    baseline(&mut linker)?;
    files_and_sockets(&mut linker)?;
    open_to_all(&mut linker)?;
    let open = |permission: Permission| match ungranted {
        Ungranted::Refuse => permissions.has(permission),
        Ungranted::Observe => true,
    };
    // Both network permissions open one import.
    if open(Permission::NetworkRead) || open(Permission::NetworkWrite) {
        outgoing_handler(&mut linker)?;
    }
    for permission in Permission::ALL {
        if open(permission) {
            host_functions(&mut linker, permission)?;
        }
    }
    Ok(linker)
}

fn baseline(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    type S = State;
    io::error::add_to_linker::<S, HasErrors>(linker, |state| ErrorTexts(&mut state.table))?;
    io::poll::add_to_linker::<S, HasTable>(linker, |state| &mut state.table)?;
    io::streams::add_to_linker::<S, HasTable>(linker, |state| &mut state.table)?;
    clocks::wall_clock::add_to_linker::<S, WasiClocks>(linker, S::clocks)?;
    clocks::monotonic_clock::add_to_linker::<S, WasiClocks>(linker, S::clocks)?;
    random::random::add_to_linker::<S, WasiRandom>(linker, |state| state.ctx().ctx.random())?;
    random::insecure::add_to_linker::<S, WasiRandom>(linker, |state| state.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<S, WasiRandom>(linker, |state| state.ctx().ctx.random())?;
    cli::exit::add_to_linker::<S, WasiCli>(linker, S::cli)?;
    cli::environment::add_to_linker::<S, WasiCli>(linker, S::cli)?;
    cli::stdin::add_to_linker::<S, WasiCli>(linker, S::cli)?;
    cli::stdout::add_to_linker::<S, WasiCli>(linker, S::cli)?;
    cli::stderr::add_to_linker::<S, WasiCli>(linker, S::cli)?;
    cli::terminal_input::add_to_linker::<S, WasiCli>(linker, S::cli)?;
    cli::terminal_output::add_to_linker::<S, WasiCli>(linker, S::cli)?;
    cli::terminal_stdin::add_to_linker::<S, WasiCli>(linker, S::cli)?;
    cli::terminal_stdout::add_to_linker::<S, WasiCli>(linker, S::cli)?;
    cli::terminal_stderr::add_to_linker::<S, WasiCli>(linker, S::cli)
}

/// Programs import these without using them. Files are what the grant mounts; sockets are refused one and all.
fn files_and_sockets(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    type S = State;
    filesystem::preopens::add_to_linker::<S, HasFiles>(linker, S::files)?;
    filesystem::types::add_to_linker::<S, HasFiles>(linker, S::files)?;
    sockets::network::add_to_linker::<S, WasiSockets>(linker, &sockets::network::LinkOptions::default(), S::sockets)?;
    sockets::instance_network::add_to_linker::<S, WasiSockets>(linker, S::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<S, WasiSockets>(linker, S::sockets)?;
    sockets::tcp::add_to_linker::<S, WasiSockets>(linker, S::sockets)?;
    sockets::udp_create_socket::add_to_linker::<S, WasiSockets>(linker, S::sockets)?;
    sockets::udp::add_to_linker::<S, WasiSockets>(linker, S::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<S, WasiSockets>(linker, S::sockets)
}

/// `wasi:http/types` builds requests and sends none: the sending is in the outgoing handler. A request that is dropped
/// takes the marks of its secrets with it.
fn open_to_all(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    type S = State;
    http::types::add_to_linker::<S, WasiHttp>(linker, &http::types::LinkOptions::default(), S::http)?;
    linker.allow_shadowing(true);
    requests(linker)?;
    linker.allow_shadowing(false);
    capability::types::add_to_linker::<S, HasSelf<S>>(linker, |state| state)?;
    capability::log::add_to_linker::<S, HasSelf<S>>(linker, |state| state)?;
    capability::context::add_to_linker::<S, HasSelf<S>>(linker, |state| state)
}

/// The library's own, but for what it does not know: how much a call may hold, and which request carries a secret.
fn requests(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    type Request = Resource<HostOutgoingRequest>;
    let mut types = linker.instance(HTTP_TYPES)?;
    let request = ResourceType::host::<HostOutgoingRequest>();
    types.resource("outgoing-request", request, |mut store, index| {
        store.data_mut().sending().drop_request(Resource::new_own(index))
    })?;
    types.func_wrap(
        "[constructor]outgoing-request",
        |mut store, (headers,): (Resource<FieldMap>,)| Ok((store.data_mut().sending().new_request(headers)?,)),
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store, (request, method): (Request, http::types::Method)| {
            Ok((store.data_mut().sending().set_method(request, method)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store, (request, authority): (Request, Option<String>)| {
            Ok((store.data_mut().sending().set_authority(request, authority)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-path-with-query",
        |mut store, (request, path): (Request, Option<String>)| {
            Ok((store.data_mut().sending().set_path(request, path)?,))
        },
    )?;
    // Nobody asks a guest here, so that it answers nobody: its responses are no place for what it writes.
    types.func_wrap(
        "[method]outgoing-response.body",
        |_store, (_response,): (Resource<HostOutgoingResponse>,)| {
            let none: Result<Resource<HostOutgoingBody>, ()> = Err(());
            Ok((none,))
        },
    )
}

/// The library's own, but for what it does not know: which request carries a secret.
fn outgoing_handler(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    type Handed = (
        Resource<HostOutgoingRequest>,
        Option<Resource<http::types::RequestOptions>>,
    );
    let mut instance = linker.instance(HTTP_OUTGOING_HANDLER)?;
    instance.func_wrap("handle", |mut store, (request, options): Handed| {
        Ok((store.data_mut().sending().handle(request, options)?,))
    })
}

fn host_functions(linker: &mut Linker<State>, permission: Permission) -> wasmtime::Result<()> {
    type S = State;
    match permission {
        // Linked above, and in the baseline: the grant decides what may be sent and what is mounted.
        Permission::NetworkRead | Permission::NetworkWrite | Permission::FileRead | Permission::FileWrite => Ok(()),
        Permission::SecretRead => capability::secret_read::add_to_linker::<S, HasSelf<S>>(linker, |state| state),
        Permission::SecretWrite => capability::secret_write::add_to_linker::<S, HasSelf<S>>(linker, |state| state),
        Permission::MemoryRead => capability::memory_read::add_to_linker::<S, HasSelf<S>>(linker, |state| state),
        Permission::MemoryWrite => capability::memory_write::add_to_linker::<S, HasSelf<S>>(linker, |state| state),
        Permission::Exec => capability::exec::add_to_linker::<S, HasSelf<S>>(linker, |state| state),
    }
}
