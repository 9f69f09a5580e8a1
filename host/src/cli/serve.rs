//! `aral serve`: the host behind HTTP until a signal ends it. Another signal has it read its configuration again.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aral_contract::{AuditSink, Code, Event, EventKind, Failure};
use aral_host::config::Named;
use aral_host::config::serve::ServeConfig;
use aral_host::operator::HEAR;
use aral_host::protocol::ServerHandle;
use aral_host::telemetry::{Spans, Telemetry};
use aral_host::{Config, Host, Management, Personas, RELOAD_TARGET, Reloader, ServerLogSink, Warning};
use aral_runtime::process;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::arguments::Serve;
use super::configured::Configured;
use super::exit::Exit;
use super::notify::Manager;
use super::output::{Done, Output, Stop};
use super::{files, runtime, session, stderr, text};

/// How long the end of this process waits for threads that wait for a disk. Stops a mount whose server is gone from keeping it.
const LEAVE: Duration = Duration::from_secs(2);
const _: () = assert!(
    HEAR.as_millis() * 2 <= LEAVE.as_millis(),
    "what an act came to would be on no record"
);

/// From now on SIGHUP does not end the process, and is kept until there is a server. Starts no thread.
pub(crate) fn hangups() -> Result<Signal, Failure> {
    session::block_on(async { listen(SignalKind::hangup()) })?
}

pub(crate) fn run(arguments: &Serve, configured: &Configured, output: &Output, spans: &Spans, hangup: Signal) -> Done {
    let config = configured.config.serve.as_ref().ok_or_else(|| {
        Failure::new(
            Code::ConfigInvalid,
            "there is nothing to serve: the configuration has no [serve]",
        )
        .with_hint("aral.toml, [[serve.listener]]: address = \"127.0.0.1:8080\"")
    })?;
    stderr::hand_over()?;
    configured.check_manifests()?;
    let telemetry = Telemetry::start(&configured.config.telemetry, &configured.config.outbound, spans)?;
    let host = Host::builder()
        .config(configured.config.clone())
        .sink(Arc::new(ServerLogSink::default()))
        .sink(Arc::new(Warner(*output)))
        .compiler(session::compiler())
        .sampling(telemetry.sampling())
        .build()?;
    telemetry.observe(&host);
    // What is wrong with the store is better known now than at the first call that needs it.
    host.open_store()?;
    let runtime = runtime::on_all_processors()?;
    let personas = session::personas(arguments.development);
    let (acts, ending) = watch::channel(false);
    let readings = Readings { hangup, acts: ending };
    let served = serve(&host, config, personas, configured, &telemetry, output, readings);
    let served = runtime.block_on(served);
    end(runtime, &host, &acts, *served.as_ref().unwrap_or(&Duration::ZERO));
    served?;
    output.note("ended");
    Ok(Exit::Success)
}

/// What operators have asked for has `drain` to end: it may be between two keys of the store. What goes on after that hears of it.
fn end(runtime: Runtime, host: &Host, acts: &watch::Sender<bool>, drain: Duration) {
    let ended = runtime.block_on(async { tokio::time::timeout(drain, acts.closed()).await });
    if ended.is_err() {
        tracing::warn!("acts of operators were cut off: [serve.limits] drain_ms");
        acts.send_replace(true);
    }
    leave_behind(runtime, host, LEAVE);
}

/// Ends the host though threads of the runtime are left behind that did not end within `patience`. Such a one may hold a clone of the
/// host, with which neither its log nor its store would end, and dropping the runtime would wait for it for ever.
pub(crate) fn leave_behind(runtime: Runtime, host: &Host, patience: Duration) {
    runtime.shutdown_timeout(patience);
    host.end();
}

/// What the limits of a configuration can be for, in the host that has its manifests and personas. Where it names no manifest,
/// operators register them later.
fn named(host: &Host, config: &Config) -> Named {
    let capabilities = || host.capabilities().iter().map(|one| one.entry.id.clone()).collect();
    let sessions = host.sessions();
    let tiers = sessions
        .iter()
        .filter_map(|session| session.persona().body.tier.clone());
    Named {
        capabilities: (!config.manifests.is_empty()).then(capabilities),
        tiers: Some(tiers.collect()),
    }
}

/// What has the configuration read again, and what a reading is under way with.
struct Readings {
    hangup: Signal,
    acts: watch::Receiver<bool>,
}

/// Says at its end how long acts of operators that still go on may.
async fn serve(
    host: &Host,
    config: &ServeConfig,
    personas: Personas,
    configured: &Configured,
    telemetry: &Telemetry,
    output: &Output,
    Readings { hangup, acts }: Readings,
) -> Result<Duration, Stop> {
    let file = configured.path().map(files::absolute).transpose()?;
    // Before anybody is told that there is a server: a signal that comes now is one for it.
    let ending = Ending::new()?;
    let server = host
        .server(config, personas)
        .await
        .map_err(|failure| match failure.code {
            Code::SignatureInvalid => session::with_development_hint(failure),
            _ => failure,
        })?;
    let limits = configured.config.limits_for_nothing(&named(host, &configured.config));
    let descriptors = configured.config.descriptors_lacking(process::open_files_max());
    for Warning { message, hint } in config.lines_for_nothing().into_iter().chain(limits).chain(descriptors) {
        output.warn(&format!("{message}\nhint: {hint}"));
    }
    let handle = server.handle();
    let reloader = Reloader::new(host.clone(), handle.clone(), personas);
    let admin = host.admin(config.admin.clone()).await?;
    let addresses = server.addresses();
    let urls = server.urls();
    output.answer(
        &places(&urls, admin.socket(), admin.address()),
        &json!({
            "listening": urls,
            "admin": {
                "socket": admin.socket(),
                "url": admin.address().map(|address| format!("http://{address}")),
            },
        }),
    )?;
    let management = Management {
        host: host.clone(),
        reloader: reloader.clone(),
        file: file.clone(),
        listening: addresses,
        metrics: telemetry.text(),
        ending: acts.clone(),
    };
    // It can be managed until the last call has ended.
    let (over, is_over) = tokio::sync::oneshot::channel::<()>();
    let managed = tokio::spawn(admin.run(management.router(), async {
        let _dropped_or_told = is_over.await;
    }));
    let manager = Manager::of_environment();
    manager.ready();
    let told = tell_end(ending, &handle, output, &manager);
    tokio::select! {
        () = server.run(told) => {}
        () = reload_at(hangup, &reloader, file.as_deref(), &acts, &manager) => {}
    }
    drop((over, acts));
    managed.await.map_err(Failure::internal)?;
    Ok(handle.drain())
}

/// Ends when the server is told to, and says what it waits for then. A server's standard error waits for nobody.
async fn tell_end(ending: Ending, handle: &ServerHandle, output: &Output, manager: &Manager) {
    ending.ended().await;
    manager.stopping();
    output.note(&waits_for(handle.requests(), handle.drain_delay(), handle.drain()));
}

/// Why a server that was told to end has not ended yet, and how long that may last.
fn waits_for(requests: usize, delay: Duration, drain: Duration) -> String {
    let drain = format!("{} ms ([serve.limits] drain_ms)", drain.as_millis());
    let waits = match requests {
        0 => format!("no request is under way, connections have {drain}"),
        1 => format!("1 request is under way and has {drain}"),
        _ => format!("{requests} requests are under way and have {drain}"),
    };
    let delay = match delay.as_millis() {
        0 => String::new(),
        delay => format!("the listeners close in {delay} ms ([serve.limits] drain_delay_ms), "),
    };
    format!("ending: {delay}{waits}; another signal changes nothing")
}

/// Where it listens, and where it is managed.
fn places(urls: &[String], socket: Option<&Path>, address: Option<SocketAddr>) -> String {
    let socket = socket.map(|path| text::line(&path.display().to_string()).into_owned());
    let managed: Vec<String> = socket
        .into_iter()
        .chain(address.map(|address| format!("http://{address}")))
        .collect();
    let mut shown = format!("listening on {}", urls.join(", "));
    if !managed.is_empty() {
        shown.push_str(&format!("\nmanaged at {}", managed.join(", ")));
    }
    shown
}

/// Reads the configuration again at each signal. What is wrong with it is logged and on record, and changes nothing. A reading is an act
/// of an operator, which the end waits for, also when this is dropped.
async fn reload_at(
    mut hangup: Signal,
    reloader: &Reloader,
    file: Option<&Path>,
    acts: &watch::Receiver<bool>,
    manager: &Manager,
) {
    loop {
        // There are always more signals.
        let _another = hangup.recv().await;
        manager.reloading();
        reload(reloader, file, acts).await;
        manager.ready();
    }
}

async fn reload(reloader: &Reloader, file: Option<&Path>, acts: &watch::Receiver<bool>) {
    let Some(file) = file.map(Path::to_owned) else {
        tracing::warn!(target: RELOAD_TARGET, "there is no configuration file to read again");
        return;
    };
    let reloader = reloader.clone();
    // How it ended is logged where it is read.
    let done = under_way(acts, move || drop(reloader.reload_file_at_last(&file))).await;
    if let Err(error) = done {
        tracing::error!(target: RELOAD_TARGET, %error, "the configuration was not read again");
    }
}

/// An act of an operator that has begun: it has a clone until it has ended, whoever waits for it.
fn under_way<T: Send + 'static>(
    acts: &watch::Receiver<bool>,
    act: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let acts = acts.clone();
    tokio::task::spawn_blocking(move || {
        let done = act();
        drop(acts);
        done
    })
}

/// Warns of what only development allows, whatever is logged.
#[derive(Debug)]
pub(crate) struct Warner(pub(crate) Output);

impl AuditSink for Warner {
    fn record(&self, event: Event) {
        if let EventKind::DevelopmentOnly { subject } = &event.kind {
            self.0
                .warn(&format!("only development allows this: {}", text::line(subject)));
        }
    }
}

/// From now on this signal does nothing by itself.
pub(crate) fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(Failure::internal)
}

/// The signals that end a process: SIGTERM and ctrl-c.
pub(crate) struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    /// From now on they do not end it by themselves.
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Ends when one comes.
    pub(crate) async fn ended(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc;

    use aral_contract::event::LifecycleChange;

    use super::*;

    /// How often it heard that a host is gone.
    #[derive(Debug, Default)]
    struct Heard(Mutex<usize>);

    impl AuditSink for Heard {
        fn record(&self, event: Event) {
            if let EventKind::Lifecycle {
                change: LifecycleChange::Stopped,
                ..
            } = event.kind
            {
                *self.0.lock().unwrap() += 1;
            }
        }
    }

    fn host() -> (Arc<Heard>, Host) {
        let heard = Arc::new(Heard::default());
        let host = Host::builder().sink(Arc::clone(&heard) as _).build().unwrap();
        (heard, host)
    }

    #[test]
    fn a_thread_that_hangs_and_holds_the_host_keeps_nobody_from_the_end() {
        let (heard, host) = host();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (begun, has_begun) = mpsc::channel();
        let (over, is_over) = mpsc::channel::<()>();
        let held = host.clone();
        drop(runtime.spawn_blocking(move || {
            begun.send(()).unwrap();
            let _at_the_latest = is_over.recv_timeout(Duration::from_secs(60));
            drop(held);
        }));
        has_begun.recv().unwrap();
        let (acts, _) = watch::channel(false);
        end(runtime, &host, &acts, Duration::ZERO);
        assert_eq!(*heard.0.lock().unwrap(), 1);
        assert!(over.send(()).is_ok(), "the thread was waited for");
        drop(host);
        assert_eq!(*heard.0.lock().unwrap(), 1, "it is said once");
    }

    #[test]
    fn what_operators_have_asked_for_ends_before_the_host_does() {
        let (heard, host) = host();
        // On this runtime nothing goes on unless somebody waits.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (acts, ending) = watch::channel(false);
        let (said, is_said) = mpsc::channel();
        let before = Arc::clone(&heard);
        drop(runtime.spawn(async move {
            tokio::task::yield_now().await;
            said.send(*before.0.lock().unwrap()).unwrap();
            drop(ending);
        }));
        end(runtime, &host, &acts, Duration::from_secs(60));
        assert_eq!(is_said.try_recv(), Ok(0), "it was not waited for");
        assert_eq!(*heard.0.lock().unwrap(), 1);
    }

    #[test]
    fn what_operators_have_asked_for_is_told_to_end_after_a_while() {
        let (heard, host) = host();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (acts, mut ending) = watch::channel(false);
        let (begun, has_begun) = mpsc::channel();
        let (said, is_said) = mpsc::channel();
        let (before, handle) = (Arc::clone(&heard), runtime.handle().clone());
        drop(runtime.spawn_blocking(move || {
            begun.send(()).unwrap();
            drop(handle.block_on(ending.wait_for(|ends| *ends)).unwrap());
            said.send(*before.0.lock().unwrap()).unwrap();
        }));
        has_begun.recv().unwrap();
        end(runtime, &host, &acts, Duration::ZERO);
        assert_eq!(is_said.try_recv(), Ok(0), "nobody told it");
        assert_eq!(*heard.0.lock().unwrap(), 1);
    }

    #[test]
    fn a_configuration_that_is_read_at_a_signal_ends_before_the_host_does() {
        let (heard, host) = host();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (acts, ending) = watch::channel(false);
        let (begun, has_begun) = mpsc::channel();
        let (said, is_said) = mpsc::channel();
        let before = Arc::clone(&heard);
        {
            let _entered = runtime.enter();
            drop(under_way(&ending, move || {
                begun.send(()).unwrap();
                // Longer than what hangs is waited for.
                std::thread::sleep(LEAVE + Duration::from_millis(500));
                said.send(*before.0.lock().unwrap()).unwrap();
            }));
        }
        has_begun.recv().unwrap();
        drop(ending);
        end(runtime, &host, &acts, Duration::from_secs(60));
        assert_eq!(is_said.try_recv(), Ok(0), "it was not waited for");
        assert_eq!(*heard.0.lock().unwrap(), 1);
    }

    #[test]
    fn who_ends_a_server_reads_what_it_waits_for() {
        let waits = |requests, delay| waits_for(requests, Duration::from_millis(delay), Duration::from_secs(30));
        let has = "30000 ms ([serve.limits] drain_ms); another signal changes nothing";
        assert_eq!(waits(1, 0), format!("ending: 1 request is under way and has {has}"));
        assert_eq!(waits(2, 0), format!("ending: 2 requests are under way and have {has}"));
        let closes = "the listeners close in 500 ms ([serve.limits] drain_delay_ms)";
        assert_eq!(
            waits(0, 500),
            format!("ending: {closes}, no request is under way, connections have {has}")
        );
    }

    #[test]
    fn people_read_where_it_listens_and_where_it_is_managed() {
        let urls = ["http://127.0.0.1:1".to_owned(), "https://[::1]:2".to_owned()];
        let listening = "listening on http://127.0.0.1:1, https://[::1]:2";
        assert_eq!(places(&urls, None, None), listening);
        let address = "127.0.0.1:3".parse().ok();
        assert_eq!(
            places(&urls, Some(Path::new("/s/admin.sock")), address),
            format!("{listening}\nmanaged at /s/admin.sock, http://127.0.0.1:3")
        );
    }
}
