//! Assembles the audit log of a host: its place, its keys, the log itself and its copies. It records nothing by itself
//! and decides nothing.

mod keys;
mod sinks;
pub(crate) mod transport;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aral_audit::sink::{SinkName, SinkStatus};
use aral_audit::{AuditLog, Blinder, LogOptions, OpenError};
use aral_contract::document::Kind;
use aral_contract::event::{RecordFuture, RoomFuture};
use aral_contract::failure::chain;
use aral_contract::{AuditSink, Clock, Code, Event, Failure, event::SinkUnavailable};
use aral_runtime::{files, process};

use crate::config::Config;
use crate::config::audit::{AuditConfig, AuditPlaces};
use crate::disk;
use sinks::Sinks;

/// How long another process may have the log open: as long as a call runs by default. Calls of the command line follow one
/// another.
const HELD_WAIT: Duration = Duration::from_secs(30);
const HELD_RETRY: Duration = Duration::from_millis(20);
/// After how long the person who waits is told for what.
const HELD_TOLD: Duration = Duration::from_secs(1);

/// The log of a host, or of a verb of the command line. Dropping it writes what is queued and a last checkpoint.
#[derive(Debug)]
pub struct Audit {
    // Before the log: nobody else opens it while deliveries are under way.
    sinks: Option<Sinks>,
    log: Arc<AuditLog>,
    blinder: Arc<Blinder>,
    dir: PathBuf,
}

impl Audit {
    /// Opens the log that the configuration says; none: it says none, or there is no folder that it could lie in. It waits
    /// for another process that has it open, up to 30 s.
    ///
    /// # Errors
    /// `config.invalid` for a key or a server that cannot be used; `audit.unavailable` if another process keeps it open, if
    /// it is damaged, or if a disk does not take it, its reserve and its keys.
    pub fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Option<Self>, Failure> {
        let Some(audit) = &config.audit else { return Ok(None) };
        let places = audit
            .places(config.state_dir.as_deref())
            .map_err(|error| Failure::from(crate::config::ConfigError::from(error)))?;
        places
            .map(|places| Self::open_at(audit, &places, config, clock))
            .transpose()
    }

    /// Whether there is a log at `places`, the places of this configuration. What [`Audit::open`] would refuse is refused, as far as reading
    /// shows it. It makes the folder, as a host does, and neither a key nor a log; it asks no server, and works beside a host.
    ///
    /// # Errors
    /// As [`Audit::open`], and `config.invalid` for a file that a copy needs and that cannot be read.
    pub fn check(config: &Config, places: &AuditPlaces) -> Result<bool, Failure> {
        let key = keys::check(places)?;
        files::create_private_dir(&places.dir).map_err(|error| keys::unusable(&error))?;
        let mut trust = config.trust.clone();
        if let Some(key) = key {
            trust.add(key, &[Kind::Checkpoint]);
        }
        let log = AuditLog::check(&places.dir, places.head.as_deref(), &trust);
        let log = log.map_err(|error| unopened(&error, places))?;
        if let Some(audit) = &config.audit {
            sinks::check(audit, &config.outbound, &places.dir, log)?;
        }
        Ok(log.is_some())
    }

    fn open_at(
        audit: &AuditConfig,
        places: &AuditPlaces,
        config: &Config,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let blinder = Arc::new(keys::blinding(places)?);
        let options = LogOptions {
            directory: places.dir.clone(),
            head_file: places.head.clone(),
            trust: config.trust.clone(),
            ..audit.log.clone()
        };
        let begin = clock.elapsed();
        let mut told = false;
        let log = loop {
            let key = keys::signing(places)?;
            let error = match AuditLog::open_for_sinks(&options, key, Arc::clone(&blinder), Arc::clone(clock)) {
                Ok(log) => break Arc::new(log),
                Err(error) => error,
            };
            let waited = clock.elapsed().saturating_sub(begin);
            if !matches!(error, OpenError::Held { .. }) || waited >= HELD_WAIT {
                return Err(unopened(&error, places));
            }
            if waited >= HELD_TOLD && !told {
                told = true;
                let seconds = HELD_WAIT.as_secs();
                tracing::warn!("{error}: waiting for the end of that process, {seconds} s at most");
            }
            std::thread::sleep(HELD_RETRY);
        };
        let sinks = Sinks::start(audit, &config.outbound, &log)?;
        log.sinks_started();
        Ok(Self {
            log,
            blinder,
            sinks,
            dir: places.dir.clone(),
        })
    }

    /// The log: its id, its newest checkpoint, whether it can be written now.
    pub fn log(&self) -> &Arc<AuditLog> {
        &self.log
    }

    /// The folder of the log.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// How each copy is doing.
    pub fn sinks(&self) -> Vec<(SinkName, SinkStatus)> {
        self.sinks.as_ref().map(Sinks::status).unwrap_or_default()
    }

    /// Writes what is queued and a last checkpoint, and has the copies delivered, for a while. What comes later is not recorded.
    pub(crate) fn end(&self) {
        if let Err(unavailable) = self.log.end() {
            tracing::error!(%unavailable, "the audit log did not end as it should");
        }
        if let Some(sinks) = &self.sinks {
            sinks.end();
        }
    }

    pub(crate) fn blinder(&self) -> Arc<Blinder> {
        Arc::clone(&self.blinder)
    }
}

impl AuditSink for Audit {
    fn record(&self, event: Event) {
        self.log.record(event);
    }

    fn append(&self, event: Event) -> RecordFuture {
        self.log.append(event)
    }

    fn available(&self) -> Result<(), SinkUnavailable> {
        self.log.available()
    }

    fn room(&self) -> Option<RoomFuture> {
        self.log.room()
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.end();
    }
}

fn failure(message: String) -> Failure {
    Failure::new(
        Code::AuditUnavailable,
        format!("{message}, and nothing runs unrecorded"),
    )
}

fn unopened(error: &OpenError, places: &AuditPlaces) -> Failure {
    match error {
        OpenError::Held { .. } => failure(chain(error)).with_hint(
            "see whether it is a server: `aral status`; wait for the end of that process, or give this host a log of its own in aral.toml, [audit]: dir = \"…\"",
        ),
        OpenError::NotGoneOn { .. } => {
            let kept = places.head.as_deref().unwrap_or(&places.dir).display();
            failure(chain(error)).with_hint(format!(
                "see what became of it: `aral audit verify --anchor {kept}`\nto begin a new one, move its folder and that file away"
            ))
        }
        OpenError::Segment(_) if disk::is_full(error) => failure(format!(
            "the disk of `{}` has no room for the audit log and its reserve",
            places.dir.display()
        ))
        .with_hint("make room on its disk, or ask for less in aral.toml, [audit]: reserve_bytes = N"),
        OpenError::Segment(_) if disk::takes_no_writes(error) => failure(chain(error)).with_hint(disk::MAKE_ROOM),
        OpenError::Segment(_) => failure(chain(error)).with_hint("see what is wrong with it: `aral audit verify`"),
        OpenError::Files(error) => keys::unusable(error),
        OpenError::Thread(_) => failure(chain(error)).with_hint(process::HAVE_MORE),
        OpenError::Entropy(_) => Failure::internal(chain(error)),
    }
}
