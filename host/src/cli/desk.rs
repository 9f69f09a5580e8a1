//! Where an operator's verb is done: in the server that has the store, over its management socket, or here if none runs. The
//! verb does not see which.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aral_contract::{AuditSink, Clock, Code, Failure, SecretBuffer};
use aral_host::admin::answers::ServerStatus;
use aral_host::config::serve::admin_socket;
use aral_host::operator::{Act, ActProgress, Changed, Hidden, Imported, MemoryImport, Operator, Tell};
use aral_host::protocol::admin::client::{self, AdminBody, AdminClient, Method};
use aral_host::{Config, Storage};
use aral_memory::sealed::Salvage;
use aral_runtime::{SystemClock, files as machine_files};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::configured::Configured;
use super::output::Output;
use super::trail::Trail;
use super::{files, runtime};

/// A piece of a backup on its way.
const PIECE_BYTES: usize = 64 << 10;

/// A server that runs.
pub(crate) struct Remote {
    client: AdminClient,
    runtime: tokio::runtime::Runtime,
}

/// Where it is done.
pub(crate) enum Desk {
    Here(Operator),
    There(Remote),
}

/// What a verb opens the store for, if no server has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opens {
    Nothing,
    ToRead,
    /// What has expired is removed as well.
    ToWrite,
}

/// A line of a long answer.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<A> {
    Progress { done: u64, total: Option<u64> },
    Data(Hidden),
    Answer(A),
    Error(client::Told),
}

impl Desk {
    /// Where the verbs of this configuration are done.
    pub(crate) fn open(configured: &Configured, opens: Opens) -> Result<Self, Failure> {
        let config = &configured.config;
        if let Some(remote) = Remote::find(config)? {
            return Ok(Self::There(remote));
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let storage = Storage::new(config, Arc::clone(&clock))?;
        // Before the log: who has the store is told at once, while the log is waited for.
        let store = match opens {
            Opens::Nothing => None,
            Opens::ToRead | Opens::ToWrite => Some(storage.open()?),
        };
        let trail: Arc<dyn AuditSink> = Arc::new(Trail::open(config, &clock)?);
        // After it: where the log refuses the verb nothing is changed.
        if let (Opens::ToWrite, Some(store)) = (opens, &store) {
            Storage::sweep_once(store);
        }
        Ok(Self::Here(Operator::new(&storage, store, trail, clock)?))
    }

    /// What is left of a store that does not open: always here, since no server has such a one.
    pub(crate) fn salvage(configured: &Configured, copy: &Path) -> Result<(Operator, Salvage), Failure> {
        let config = &configured.config;
        if Remote::find_any(config)?.is_some() {
            return Err(Failure::new(
                Code::Unavailable,
                "a server of this configuration runs: what it has open is not salvaged, and what it cannot open it tries again",
            )
            .with_hint("end the server; what it has open is written with `aral memory export` without --salvage"));
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let storage = Storage::new(config, Arc::clone(&clock))?;
        let salvage = storage.salvage(copy)?;
        let trail: Arc<dyn AuditSink> = Arc::new(Trail::open(config, &clock)?);
        Ok((Operator::new(&storage, None, trail, clock)?, salvage))
    }

    pub(crate) fn act<A: Act>(&mut self, act: A) -> Result<A::Answer, Failure> {
        self.act_long(act, &mut |_| Ok(()))
    }

    /// `tell` hears how far it is.
    pub(crate) fn act_long<A: Act>(&mut self, act: A, tell: Tell<'_>) -> Result<A::Answer, Failure> {
        let remote = match self {
            Self::Here(operator) => return act.act(operator, tell),
            Self::There(remote) => remote,
        };
        let body = SecretBuffer::json(&act).map_err(Failure::internal)?;
        let body = client::whole(Bytes::from_owner(body));
        if A::LONG {
            return remote.ask_long(A::PATH, body, A::GOES_ON, tell);
        }
        let answer = remote.client.ask(Method::POST, A::PATH, body);
        // The same words as without a server: the request is no more than the way here.
        remote
            .runtime
            .block_on(answer)
            .map_err(|failure| Failure { trace: None, ..failure })
    }

    pub(crate) fn import(
        &mut self,
        act: &MemoryImport,
        backup: &Path,
        tell: Tell<'_>,
    ) -> Result<Changed<Imported>, Failure> {
        let file = machine_files::open_path(backup).map_err(files::failure)?;
        match self {
            Self::Here(operator) => act.act(operator, &mut std::io::BufReader::new(file), tell),
            Self::There(remote) => {
                let mut line = SecretBuffer::json(act).map_err(Failure::internal)?;
                line.extend(b"\n");
                let pieces = std::iter::once(Ok(Bytes::from_owner(line))).chain(pieces(file));
                remote.ask_long(MemoryImport::PATH, client::pieces(pieces), None, tell)
            }
        }
    }
}

fn pieces(mut file: std::fs::File) -> impl Iterator<Item = std::io::Result<Bytes>> + Send + Sync {
    std::iter::from_fn(move || {
        let mut piece = vec![0; PIECE_BYTES];
        match file.read(&mut piece) {
            Ok(0) => None,
            Ok(count) => {
                piece.truncate(count);
                Some(Ok(piece.into()))
            }
            Err(error) => Some(Err(error)),
        }
    })
}

/// Where a server of this configuration is managed; none: nowhere.
pub(crate) fn socket(config: &Config) -> Option<PathBuf> {
    let named = config.serve.as_ref().and_then(|serve| serve.admin.socket.clone());
    named.or_else(|| config.state_dir.as_deref().map(admin_socket))
}

impl Remote {
    /// The server of this configuration, if it has the same store; none: it does not run.
    fn find(config: &Config) -> Result<Option<Self>, Failure> {
        let Some(mut remote) = Self::find_any(config)? else {
            return Ok(None);
        };
        remote.check_store(config)?;
        Ok(Some(remote))
    }

    /// The server of this configuration, for what nobody else can do.
    pub(crate) fn running(config: &Config) -> Result<Self, Failure> {
        Self::find_any(config)?.ok_or_else(|| {
            Failure::new(Code::Unavailable, "no server of this configuration runs").with_hint("`aral serve`")
        })
    }

    /// The same, and says so where it was started with another file: two may name one socket, and what the verb does there does not go
    /// by this one.
    pub(crate) fn running_told(configured: &Configured, output: &Output) -> Result<Self, Failure> {
        let mut remote = Self::running(&configured.config)?;
        let status: ServerStatus = remote.get(ServerStatus::PATH)?;
        if let (Some(own), Some(meant)) = (status.file, configured.path())
            && !machine_files::is_same(Path::new(&own), meant)
        {
            output.warn(&format!(
                "the server that runs was started with `{own}`, and not with `{}`",
                meant.display()
            ));
        }
        Ok(remote)
    }

    /// The server of this configuration; none: it does not run.
    fn find_any(config: &Config) -> Result<Option<Self>, Failure> {
        let Some(socket) = socket(config) else {
            return Ok(None);
        };
        let runtime = runtime::on_this_thread()?;
        let Some(client) = runtime.block_on(AdminClient::connect(&socket))? else {
            return Ok(None);
        };
        Ok(Some(Self { client, runtime }))
    }

    /// A file that was changed since the server read it may speak of another store.
    fn check_store(&mut self, config: &Config) -> Result<(), Failure> {
        let status: ServerStatus = self.get(ServerStatus::PATH)?;
        let wanted = config.memory.as_ref().map(|memory| memory.dir.clone());
        if status.store == wanted {
            return Ok(());
        }
        let shown = |dir: Option<PathBuf>| dir.map_or_else(|| "none".to_owned(), |dir| format!("`{}`", dir.display()));
        Err(Failure::new(
            Code::ConfigInvalid,
            format!(
                "the server that runs has another store than the configuration says: {}, not {}",
                shown(status.store),
                shown(wanted)
            ),
        )
        .with_hint("restart the server, or write [memory] in aral.toml as it was"))
    }

    /// What the server says of itself.
    pub(crate) fn get<A: DeserializeOwned>(&mut self, path: &str) -> Result<A, Failure> {
        let answer = self.client.ask(Method::GET, path, client::whole(""));
        self.runtime.block_on(answer)
    }

    /// Has the server do what takes as long as it takes.
    pub(crate) fn post(&mut self, path: &str, asked: &impl Serialize) -> Result<Value, Failure> {
        let body = client::whole(serde_json::to_vec(asked).map_err(Failure::internal)?);
        self.runtime
            .block_on(self.client.ask_patiently(Method::POST, path, body))
    }

    /// `goes_on`: the server does with it, and whoever interrupts the wait is told so, and what to do.
    fn ask_long<A: DeserializeOwned>(
        &mut self,
        path: &str,
        body: AdminBody,
        goes_on: Option<&'static str>,
        tell: Tell<'_>,
    ) -> Result<A, Failure> {
        let mut last = None;
        let mut take = |line: Value| {
            match understood::<Line<A>>(line)? {
                Line::Progress { done, total } => tell(ActProgress::Progress { done, total })?,
                Line::Data(piece) => tell(ActProgress::Data(piece.into_inner().to_vec()))?,
                Line::Answer(answer) => last = Some(Ok(answer)),
                Line::Error(told) => last = Some(Err(Failure::from(told))),
            }
            Ok(())
        };
        let asked = self.client.ask_long(path, body, &mut take);
        self.runtime.block_on(async {
            match goes_on {
                Some(hint) => unless_left(asked, tokio::signal::ctrl_c(), hint).await,
                None => asked.await,
            }
        })?;
        let cut_off = || Failure::new(Code::Unavailable, "the server ended before it had answered");
        last.ok_or_else(cut_off)?
    }
}

/// Waits for the end of what the server goes on with, or for whoever waits to leave.
async fn unless_left(
    asked: impl Future<Output = Result<(), Failure>>,
    left: impl Future<Output = std::io::Result<()>>,
    hint: &'static str,
) -> Result<(), Failure> {
    tokio::select! {
        biased;
        ended = asked => ended,
        Ok(()) = left => Err(Failure::new(
            Code::Unavailable,
            "interrupted: the server goes on with it if it has begun, and how that ends was not waited for",
        )
        .with_hint(hint)),
    }
}

/// An answer as this version knows it.
pub(crate) fn understood<T: DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|_| client::other_version())
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use aral_host::operator::{MemoryRotateEpoch, MemoryRotateKey};

    use super::*;

    #[tokio::test]
    async fn who_leaves_a_rotation_is_told_that_the_server_goes_on() {
        let (key, epoch) = (MemoryRotateKey::GOES_ON.unwrap(), MemoryRotateEpoch::GOES_ON.unwrap());
        let left = unless_left(pending(), ready(Ok(())), key).await.unwrap_err();
        assert_eq!(left.code, Code::Unavailable);
        // It may have been left before the server had all of the request.
        assert!(left.message.contains("goes on with it if it has begun"), "{left}");
        assert_eq!(left.hint.as_deref(), Some(key));
        assert!(key.contains("`aral memory stats`") && epoch.contains("`aral memory stats`"));
        assert!(key.contains("the next start needs") && !epoch.contains("the next start"));
        unless_left(ready(Ok(())), ready(Ok(())), key).await.unwrap();
        let deaf = || ready(Err(std::io::Error::other("no signals")));
        unless_left(ready(Ok(())), deaf(), key).await.unwrap();
        let failed = unless_left(ready(Err(Failure::internal("it broke"))), pending(), key).await;
        assert_eq!(failed.unwrap_err().code, Code::Internal);
    }
}
