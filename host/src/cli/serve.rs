//! `aral serve`: the host behind HTTP until a signal ends it.

use std::sync::Arc;

use aral_contract::{AuditSink, Code, Event, EventKind, Failure};
use aral_host::config::serve::ServeConfig;
use aral_host::{Host, LogSink};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::arguments::Serve;
use super::configured::Configured;
use super::exit::Exit;
use super::output::{Done, Output};
use super::{session, text};

pub(crate) fn run(arguments: &Serve, configured: &Configured, output: &Output) -> Done {
    let config = configured.config.serve.as_ref().ok_or_else(|| {
        Failure::new(
            Code::ConfigInvalid,
            "there is nothing to serve: the configuration has no [serve]",
        )
        .with_hint("in aral.toml: [[serve.listener]] address = \"127.0.0.1:8080\"")
    })?;
    let host = Host::builder()
        .config(configured.config.clone())
        .sink(Arc::new(LogSink))
        .sink(Arc::new(Warner(*output)))
        .compiler(session::compiler()?)
        .build()?;
    // What is wrong with the store is better known now than at the first call that needs it.
    host.open_store()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::internal)?;
    runtime.block_on(serve(&host, config, arguments, output))
}

async fn serve(host: &Host, config: &ServeConfig, arguments: &Serve, output: &Output) -> Done {
    // Before anybody is told that there is a server: a signal that comes now is one for it.
    let (terminate, interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let open = |bytes: &[u8]| {
        session::or_unsigned(arguments.development, host.session(bytes), || {
            host.dangerous_development_session(bytes)
        })
    };
    let server = host.server(config, &open).await?;
    let addresses = server.addresses();
    let urls: Vec<String> = addresses.iter().map(|address| format!("http://{address}")).collect();
    output.answer(
        &format!("listening on {}", urls.join(", ")),
        &json!({"listening": urls}),
    )?;
    server.run(ended(terminate, interrupt)).await;
    output.note("ended");
    Ok(Exit::Success)
}

/// Warns of what only development allows, whatever is logged.
#[derive(Debug)]
struct Warner(Output);

impl AuditSink for Warner {
    fn record(&self, event: Event) {
        if let EventKind::DevelopmentOnly { subject } = &event.kind {
            self.0
                .warn(&format!("only development allows this: {}", text::line(subject)));
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(Failure::internal)
}

async fn ended(mut terminate: Signal, mut interrupt: Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
