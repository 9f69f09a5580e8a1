//! The data of one store: everything that one call can touch. It is made for the call and thrown away with it, so
//! nothing of one call is visible in the next.

use std::collections::BTreeSet;
use std::sync::Arc;

use aral_contract::id::SecretName;
use aral_contract::limits::{HTTP_FIELD_BYTES_MAX, RANDOM_BYTES_MAX, RESOURCE_TABLE_ENTRIES_MAX};
use aral_runtime::{Guard, Guarded};
use wasmtime::component::{HasData, ResourceTable};
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::bound::stdio::{CappedOutput, LogStream, StandardStreams};
use crate::call::CallRecord;
use crate::egress::hooks::Hooks;
use crate::egress::sending::Sending;
use crate::filesystem::{Files, FilesView};

/// The data of one store.
pub(crate) struct State {
    pub(crate) call: Arc<CallRecord>,
    /// Goes before `files`, which closes what nobody has any more.
    pub(crate) table: ResourceTable,
    guard: Guard,
    streams: Option<StandardStreams>,
    wasi: Option<Box<WasiCtx>>,
    folders: WasiFilesystemCtx,
    files: Option<Files>,
    http: WasiHttpCtx,
    pub(crate) hooks: Hooks,
    /// Secrets whose opening was recorded: once for each call.
    pub(crate) opened: BTreeSet<SecretName>,
}

impl State {
    pub(crate) fn new(call: Arc<CallRecord>, streams: StandardStreams) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCE_TABLE_ENTRIES_MAX);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(HTTP_FIELD_BYTES_MAX);
        Self {
            guard: Guard::new(&call.frame.grant.limits),
            table,
            streams: Some(streams),
            wasi: None,
            folders: WasiFilesystemCtx::default(),
            files: None,
            http,
            hooks: Hooks::new(Arc::clone(&call)),
            opened: BTreeSet::new(),
            call,
        }
    }

    /// The sending of requests, for `wasi:http/outgoing-handler`.
    pub(crate) fn sending(&mut self) -> Sending<'_> {
        Sending {
            hooks: &mut self.hooks,
            table: &mut self.table,
            http: &mut self.http,
        }
    }

    /// The files of the call, for `wasi:filesystem`.
    pub(crate) fn files(&mut self) -> FilesView<'_> {
        // Made when the guest first asks: most never do.
        let files = self.files.get_or_insert_with(|| Files::new(Arc::clone(&self.call)));
        FilesView::new(&mut self.folders, &mut self.table, files)
    }

    /// Closes the files of a guest that has ended, also those that it kept open, once all that its streams took is written: some file
    /// systems write only then what was written before, and show it to others.
    pub(crate) async fn close_files(&mut self) {
        self.call.end_guest();
        if let Some(files) = &self.files {
            self.table = ResourceTable::new();
            files.close().await;
        }
    }
}

impl Drop for State {
    /// Before the table lets go of the bodies of requests that the guest did not finish.
    fn drop(&mut self) {
        self.call.end_guest();
    }
}

/// The baseline that every program gets: no variable, no argument, no address, no preopen; clocks, randomness in small
/// requests, and standard streams that lead to the log or to the answer.
fn baseline(call: &Arc<CallRecord>, streams: StandardStreams) -> WasiCtx {
    let mut builder = WasiCtxBuilder::new();
    builder
        .max_random_size(RANDOM_BYTES_MAX)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .socket_addr_check(|_, _| Box::pin(async { false }));
    let log = |level| LogStream::new(Arc::clone(call), level);
    match streams {
        // A tool has the log interface; what it prints nevertheless is kept.
        StandardStreams::Log => builder.stdout(log("info")).stderr(log("warn")),
        // Standard error is all the log that a program has.
        StandardStreams::Answer { stdin, stdout } => builder
            .stdin(stdin)
            .stdout(CappedOutput::clone(&stdout))
            .stderr(log("info")),
    };
    builder.build()
}

impl Guarded for State {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }
    fn guard_ref(&self) -> &Guard {
        &self.guard
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        // Made when the guest first asks: most tools never do, and its random generators cost more than the call.
        let (call, streams) = (&self.call, &mut self.streams);
        let make = || Box::new(baseline(call, streams.take().unwrap_or(StandardStreams::Log)));
        WasiCtxView {
            ctx: self.wasi.get_or_insert_with(make),
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.hooks,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

/// Names [`FilesView`] to the linker.
pub(crate) struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = FilesView<'a>;
}
