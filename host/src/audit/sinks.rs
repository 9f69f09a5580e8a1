//! The copies of the log that the operator wants: one thread that reads the log on and delivers. What it could not deliver
//! when the host ends, the next host delivers.

use std::path::Path;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use aral_audit::AuditLog;
use aral_audit::sink::elastic::Elastic;
use aral_audit::sink::otlp::Otlp;
use aral_audit::sink::stream::Stream;
use aral_audit::sink::{Exporter, PositionError, Shipper, SinkName, SinkStatus, check_position};
use aral_contract::failure::chain;
use aral_contract::{Code, Failure, LogId};
use aral_runtime::outbound::Outbound;
use aral_runtime::threads;
use tokio::sync::{oneshot, watch};

use super::transport::Https;
use crate::config::audit::AuditConfig;

/// What the sinks are called.
const STDOUT: &str = "stdout";
const ELASTIC_SINK: &str = "elasticsearch";
const OTLP_SINK: &str = "otlp";
/// The tables of the copies.
const ELASTICSEARCH: &str = "[audit.elasticsearch]";
const OTLP: &str = "[audit.otlp]";
/// How long the end of the host waits for deliveries. Stops a server that does not answer from holding the end up.
const FAREWELL: Duration = Duration::from_secs(2);
const FAREWELL_STEP: Duration = Duration::from_millis(5);

/// The thread and what is known of it.
#[derive(Debug)]
pub(super) struct Sinks {
    /// None: they have ended.
    delivering: Mutex<Option<Delivering>>,
    status: Vec<(SinkName, watch::Receiver<SinkStatus>)>,
}

#[derive(Debug)]
struct Delivering {
    thread: JoinHandle<()>,
    /// Dropped: the thread gives up.
    leave: oneshot::Sender<()>,
}

impl Sinks {
    /// Starts them; none: nobody wants a copy.
    pub(super) fn start(config: &AuditConfig, outbound: &Outbound, log: &AuditLog) -> Result<Option<Self>, Failure> {
        let mut shippers = Vec::new();
        let mut status = Vec::new();
        if config.stdout_elsewhere {
            let name: SinkName = STDOUT.parse().map_err(Failure::internal)?;
            Shipper::elsewhere(log, &name);
        }
        for (name, exporter) in exporters(config, outbound)? {
            let name: SinkName = name.parse().map_err(Failure::internal)?;
            let shipper = Shipper::new(log, name.clone(), exporter).map_err(|error| position(&error))?;
            status.push((name.clone(), shipper.status()));
            shippers.push((name, shipper));
        }
        if shippers.is_empty() {
            return Ok(None);
        }
        let (leave, left) = oneshot::channel::<()>();
        let deliver = async move {
            let all = futures::future::join_all(shippers.into_iter().map(|(name, shipper)| async move {
                if let Err(error) = shipper.run().await {
                    tracing::error!(sink = %name, error = %chain(&error), "a sink of the audit log stopped, and retention waits for it; to have it go on, repair what it says, or stop the host and set `next` in sink-{name}.json to the record to go on with");
                }
            }));
            tokio::select! {
                _ends = all => {}
                _gone = left => {}
            }
        };
        // Made in its thread: dropping a runtime in a task of another one, if the thread does not start, would panic.
        let (ready, made) = mpsc::sync_channel(1);
        let work = move || {
            match threads::runtime(None) {
                Ok(runtime) => {
                    let _waits_for_it = ready.send(Ok(()));
                    runtime.block_on(deliver);
                    // What still writes to a stream that nobody reads is left behind.
                    runtime.shutdown_background();
                }
                Err(error) => {
                    let _waits_for_it = ready.send(Err(error));
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("aral-audit-sinks".to_owned())
            .spawn(work)
            .map_err(threads::refused)?;
        made.recv().map_err(Failure::internal)?.map_err(threads::refused)?;
        Ok(Some(Self {
            delivering: Mutex::new(Some(Delivering { thread, leave })),
            status,
        }))
    }

    /// How each is doing.
    pub(super) fn status(&self) -> Vec<(SinkName, SinkStatus)> {
        let now = |(name, status): &(SinkName, watch::Receiver<SinkStatus>)| (name.clone(), status.borrow().clone());
        self.status.iter().map(now).collect()
    }

    /// The log has ended: what is in it is delivered, for a while.
    pub(super) fn end(&self) {
        let delivering = self.delivering.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Delivering { thread, leave }) = delivering else {
            return;
        };
        wait(&thread);
        drop(leave);
        wait(&thread);
        if !thread.is_finished() {
            tracing::error!("the thread that copies the audit log hangs, and is left behind");
        } else if thread.join().is_err() {
            tracing::error!("the thread that copies the audit log panicked");
        }
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits for the end of the thread, for a while.
fn wait(thread: &JoinHandle<()>) {
    let mut waited = Duration::ZERO;
    while !thread.is_finished() && waited < FAREWELL {
        std::thread::sleep(FAREWELL_STEP);
        waited = waited.saturating_add(FAREWELL_STEP);
    }
}

/// Whether each copy can be made, as far as nobody is asked: its server, the certificates, what is shown to it, and where it stands in the
/// log of this folder.
pub(super) fn check(
    config: &AuditConfig,
    outbound: &Outbound,
    directory: &Path,
    log: Option<LogId>,
) -> Result<(), Failure> {
    let elastic = config.elasticsearch.iter();
    let elastic = elastic.map(|copy| (ELASTIC_SINK, ELASTICSEARCH, &copy.server));
    let otlp = config.otlp.iter().map(|copy| (OTLP_SINK, OTLP, &copy.server));
    let servers: Vec<_> = elastic.chain(otlp).collect();
    for (_, table, server) in &servers {
        Https::check(server, table, outbound)?;
    }
    let stdout = (config.stdout || config.stdout_elsewhere).then_some(STDOUT);
    for name in stdout.into_iter().chain(servers.iter().map(|(name, ..)| *name)) {
        let name: SinkName = name.parse().map_err(Failure::internal)?;
        check_position(directory, &name, log).map_err(|error| position(&error))?;
    }
    Ok(())
}

/// What a sink is called, and what delivers for it.
type Named = (&'static str, Box<dyn Exporter>);

fn exporters(config: &AuditConfig, outbound: &Outbound) -> Result<Vec<Named>, Failure> {
    let mut exporters: Vec<Named> = Vec::new();
    if config.stdout {
        exporters.push((STDOUT, Box::new(Stream::new(Box::new(std::io::stdout())))));
    }
    if let Some(elastic) = &config.elasticsearch {
        let transport = Box::new(Https::new(&elastic.server, ELASTICSEARCH, outbound)?);
        exporters.push((ELASTIC_SINK, Box::new(Elastic::new(elastic.index.clone(), transport))));
    }
    if let Some(otlp) = &config.otlp {
        let transport = Box::new(Https::new(&otlp.server, OTLP, outbound)?);
        exporters.push((OTLP_SINK, Box::new(Otlp::new(otlp.service.clone(), transport))));
    }
    Ok(exporters)
}

fn position(error: &PositionError) -> Failure {
    let failure = Failure::new(
        Code::ConfigInvalid,
        format!("a sink of the audit log cannot go on: {}", chain(error)),
    );
    match error {
        PositionError::Damaged { file } => failure.with_hint(format!(
            "remove `{file}` from the folder of the log: the copy begins anew with the oldest record that is there"
        )),
        PositionError::Files(_) | PositionError::Segment(_) => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::audit::{ElasticsearchConfig, OtlpConfig, ServerConfig};

    #[test]
    fn the_end_does_not_wait_for_a_thread_that_hangs() {
        let (end, ended) = mpsc::channel::<()>();
        let hangs = move || {
            let _told = ended.recv_timeout(Duration::from_secs(60));
        };
        let (leave, _left) = oneshot::channel();
        let thread = std::thread::spawn(hangs);
        drop(Sinks {
            delivering: Mutex::new(Some(Delivering { thread, leave })),
            status: Vec::new(),
        });
        assert!(end.send(()).is_ok(), "the thread was waited for");
    }

    #[test]
    fn each_table_is_a_copy_with_what_it_says() {
        let server = |address: &str| ServerConfig {
            address: address.to_owned(),
            ca_pem: None,
            authorization_file: None,
            timeout_ms: 1000,
        };
        let config = AuditConfig {
            stdout: true,
            elasticsearch: Some(ElasticsearchConfig {
                server: server("https://search.example"),
                index: "my-index".to_owned(),
            }),
            otlp: Some(OtlpConfig {
                server: server("https://otel.example"),
                service: "my-service".to_owned(),
            }),
            ..AuditConfig::default()
        };
        let shown = |config: &AuditConfig| -> Vec<(&str, String)> {
            let exporters = exporters(config, &Outbound::default()).unwrap().into_iter();
            exporters
                .map(|(name, exporter)| (name, format!("{exporter:?}")))
                .collect()
        };
        let [(one, _), (two, elastic), (three, otlp)] = &shown(&config)[..] else {
            panic!()
        };
        assert_eq!([*one, *two, *three], ["stdout", "elasticsearch", "otlp"]);
        assert!(
            elastic.contains("my-index") && elastic.contains("search.example"),
            "{elastic}"
        );
        assert!(otlp.contains("my-service") && otlp.contains("otel.example"), "{otlp}");
        assert!(shown(&AuditConfig::default()).is_empty());
    }
}
