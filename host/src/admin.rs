//! What can be managed while a server runs: looking at it, reading its configuration again, capabilities, records and
//! secrets. Who may is for the listener, what an act comes to for the host and its operator; here they meet.

mod acts;
pub mod answers;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aral_contract::document::json;
use aral_contract::{Code, Failure, SecretBuffer};
use aral_protocol::admin::BODY_BYTES_MAX;
use aral_protocol::{AdminOptions, AdminParts, AdminServer, Problem};
use aral_runtime::files;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::host::Host;
use crate::operator::Operator;
use crate::serve::Reloader;
use crate::telemetry::MetricsText;
use acts::{import, long, short, whole};
use answers::{
    CapabilityList, ListedCapability, ManifestRegistered, PolicyInForce, Register, RegisteredVersion, Reload, Reloaded,
    ServerStatus, StatusCheck, Withdraw, Withdrawn,
};

/// What the management of one server reaches.
#[derive(Debug, Clone)]
pub struct Management {
    /// The host.
    pub host: Host,
    /// Reads its configuration again.
    pub reloader: Reloader,
    /// The file of the configuration, from the root; none: there is none.
    pub file: Option<PathBuf>,
    /// Where the server listens.
    pub listening: Vec<SocketAddr>,
    /// What it tells those who watch it.
    pub metrics: MetricsText,
    /// Says `true` once acts that are under way are to end where they can. Each of them has a clone until it has ended, whoever waits for
    /// its answer.
    pub ending: watch::Receiver<bool>,
}

/// What every handler has.
type Managed = State<Arc<Management>>;

impl Host {
    /// A management listener that does not answer yet. [`Management::router`] is what it answers with.
    ///
    /// # Errors
    /// `config.invalid` for a socket or an address that cannot be.
    pub async fn admin(&self, options: AdminOptions) -> Result<AdminServer, Failure> {
        let parts = AdminParts {
            clock: self.clock(),
            sink: self.sink(),
        };
        Ok(AdminServer::bind(options, parts).await?)
    }
}

impl Management {
    /// Everything that can be asked.
    pub fn router(self) -> Router {
        use crate::operator as verb;
        let routes = Router::new()
            .route("/metrics", get(metrics))
            .route(ServerStatus::PATH, get(status))
            .route(PolicyInForce::<()>::PATH, get(policy))
            .route(CapabilityList::PATH, get(capabilities))
            .route(Withdraw::PATH, post(withdraw))
            .route(Register::PATH, post(register))
            .route(Reload::PATH, post(reload));
        let routes = short::<verb::MemoryGet>(routes);
        let routes = short::<verb::MemoryPut>(routes);
        let routes = short::<verb::MemoryDelete>(routes);
        let routes = short::<verb::MemoryList>(routes);
        let routes = short::<verb::MemoryStats>(routes);
        let routes = long::<verb::MemoryCheck>(routes);
        let routes = long::<verb::MemoryRotateKey>(routes);
        let routes = long::<verb::MemoryRotateEpoch>(routes);
        let routes = long::<verb::MemoryExport>(routes);
        let routes = short::<verb::SecretGet>(routes);
        let routes = short::<verb::SecretPut>(routes);
        let routes = short::<verb::SecretDelete>(routes);
        let routes = short::<verb::SecretList>(routes);
        // A backup may be as long as it likes: it is not held in memory.
        let routes = routes.route_layer(middleware::from_fn(bounded));
        let routes = routes.route(verb::MemoryImport::PATH, post(import));
        routes.with_state(Arc::new(self))
    }

    fn operator(&self) -> Operator {
        Operator::of(&self.host, self.ending.clone())
    }
}

/// Who says beforehand that it is too much need not send it.
async fn bounded(request: Request, next: Next) -> Result<Response, Problem> {
    if announced(&request).is_some_and(|bytes| bytes > BODY_BYTES_MAX) {
        return Err(Problem::body_too_large(BODY_BYTES_MAX));
    }
    Ok(next.run(request).await)
}

/// How long a body is, if that was said beforehand.
fn announced(request: &Request) -> Option<usize> {
    let announced = request.headers().get(header::CONTENT_LENGTH)?;
    announced.to_str().ok()?.parse().ok()
}

/// How the server is, in detail.
async fn status(State(managed): Managed) -> Result<Response, Problem> {
    // As strangers ask for it: a disk that hangs takes one thread, and not one more with each question. Nothing below waits for a
    // configuration that is being read.
    let checks = managed.reloader.checks().await;
    let is_draining = managed.reloader.is_draining();
    let (host, listening) = (managed.host.clone(), managed.listening.clone());
    let file = managed.file.as_deref().map(|file| file.display().to_string());
    blocking(&managed, move || {
        let well = checks.iter().all(|check| check.fault.is_none());
        let word = match (is_draining, well) {
            (true, _) => "draining",
            (false, true) => "ok",
            (false, false) => "failing",
        };
        Ok(answer(&ServerStatus {
            status: word.to_owned(),
            checks: checks.iter().map(StatusCheck::from).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            file,
            configuration: host.configuration(),
            policy: host.policy().digest(),
            listening,
            store: host.0.storage.memory().ok().map(|memory| memory.dir.clone()),
        }))
    })
    .await
}

/// All metrics, in the text format of Prometheus.
async fn metrics(State(managed): Managed) -> Result<Response, Problem> {
    let metrics = managed.metrics.clone();
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    blocking(&managed, move || Ok((kind, metrics.render()).into_response())).await
}

/// The policy in force.
async fn policy(State(managed): Managed) -> Response {
    let policy = managed.host.policy();
    answer(&PolicyInForce {
        digest: policy.digest(),
        policy: &*policy,
    })
}

/// What is registered.
async fn capabilities(State(managed): Managed) -> Response {
    let all = managed.host.capabilities();
    let one = |capability: &Arc<aral_capability::Capability>| {
        let entry = &capability.entry;
        ListedCapability {
            id: entry.id.clone(),
            version: entry.version.clone(),
            component: entry.component,
            manifest: capability.manifest_digest(),
            signer: capability.signer(),
        }
    };
    let capabilities = all.iter().map(one).collect();
    answer(&CapabilityList { capabilities })
}

/// Withdraws a capability until the configuration is read again.
async fn withdraw(State(managed): Managed, request: Request) -> Result<Response, Problem> {
    let Withdraw { id, version } = parse(&whole(request).await?)?;
    let host = managed.host.clone();
    blocking(&managed, move || {
        let named = host.named_manifests()?;
        let withdrawn = host.remove_soon(&id, &version)?;
        let warnings = if withdrawn {
            host.outdated(named, &[id])
        } else {
            Vec::new()
        };
        Ok(answer(&Withdrawn { withdrawn, warnings }))
    })
    .await
}

/// Registers a signed manifest until the server ends.
async fn register(State(managed): Managed, request: Request) -> Result<Response, Problem> {
    let Register { path } = parse(&whole(request).await?)?;
    let host = managed.host.clone();
    blocking(&managed, move || {
        if !path.is_absolute() {
            let words = format!("`{}` is not an absolute path", path.display());
            return Err(Failure::new(Code::ConfigInvalid, words));
        }
        let named = host.named_manifests()?;
        let registered = host.register_manifest_file(&path)?;
        let ids: Vec<_> = registered.iter().map(|one| one.capability.entry.id.clone()).collect();
        let warnings = host.outdated(named, &ids);
        let one = |one: &crate::host::Registered| {
            let entry = &one.capability.entry;
            RegisteredVersion {
                id: entry.id.clone(),
                version: entry.version.clone(),
                warnings: one.warnings.iter().map(|warning| warning.message.clone()).collect(),
            }
        };
        let registered = registered.iter().map(one).collect();
        Ok(answer(&ManifestRegistered { registered, warnings }))
    })
    .await
}

/// Reads the configuration again.
async fn reload(State(managed): Managed, request: Request) -> Result<Response, Problem> {
    let body = whole(request).await?;
    let Reload { file: meant } = if body.is_empty() {
        Reload::default()
    } else {
        parse(&body)?
    };
    let asked = Arc::clone(&managed);
    blocking(&asked, move || {
        let file = managed
            .file
            .as_deref()
            .ok_or_else(|| Failure::new(Code::ConfigInvalid, "there is no configuration file to read again"))?;
        if let Some(meant) = meant {
            check_file(file, &meant)?;
        }
        let warnings = managed.reloader.reload_file(file)?;
        Ok(answer(&Reloaded {
            configuration: managed.host.configuration(),
            policy: Some(managed.host.policy().digest()),
            warnings,
        }))
    })
    .await
}

/// Two files may name one socket. Who changed the other one would take what this one says for what it says.
fn check_file(own: &Path, meant: &Path) -> Result<(), Failure> {
    if files::is_same(own, meant) {
        return Ok(());
    }
    let (own, meant) = (own.display(), meant.display());
    let message = format!("the server that runs was started with `{own}`, and not with `{meant}`");
    Err(Failure::new(Code::ConfigInvalid, message).with_hint(format!(
        "`aral --config {own} reload`, or restart the server with the other file"
    )))
}

/// What waits for disks and servers, away from the threads that answer. It is under way until it has ended.
async fn blocking(
    managed: &Management,
    act: impl FnOnce() -> Result<Response, Failure> + Send + 'static,
) -> Result<Response, Problem> {
    let under_way = managed.ending.clone();
    let done = tokio::task::spawn_blocking(move || {
        let done = act();
        drop(under_way);
        done
    });
    Ok(done.await.map_err(Failure::internal)??)
}

/// It may hold a secret: there is no way to read one that is not erased.
fn parse<T: DeserializeOwned>(body: &SecretBuffer) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::malformed_body(format!("the body is not understood: {}", json::unquoted(&error))))
}

/// It may hold a secret, and is erased when it was sent.
fn answer(value: &impl Serialize) -> Response {
    match SecretBuffer::json(value) {
        Ok(body) => {
            let kind = [(header::CONTENT_TYPE, "application/json")];
            (kind, Bytes::from_owner(body)).into_response()
        }
        Err(error) => Problem::from(Failure::internal(error)).into_response(),
    }
}
