//! What `invoke`, `explain` and `run` share: a host from the configuration, documents that nobody signed if the user
//! says so, and the thread that calls run on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aral_capability::{Inspection, Registry, inspect_by};
use aral_contract::{CapabilityId, Code, Failure, version};
use aral_host::{Config, Host, LogSink, Personas, Registered};
use aral_runtime::{Allocation, CompilerKind, Runtime, RuntimeOptions};
use semver::VersionReq;

use super::arguments;
use super::configured::Configured;
use super::output::Output;
use super::progress::Progress;
use super::watch::Watch;
use super::{files, runtime, trail};

/// The host, with the manifests of the configuration and of the command line.
pub(crate) fn host(
    configured: &Configured,
    arguments: &arguments::Session,
    watch: &Arc<Watch>,
    output: &Output,
) -> Result<Host, Failure> {
    configured.check_manifests()?;
    let mut config = configured.config.clone();
    one_call(&mut config);
    let host = Host::builder()
        .config(config)
        .sink(Arc::clone(watch) as _)
        .sink(Arc::new(LogSink))
        .compiler(compiler())
        .build()?;
    register_all(&host, arguments, output)?;
    Ok(host)
}

/// Registers the manifests of the command line.
pub(crate) fn register_all(host: &Host, arguments: &arguments::Session, output: &Output) -> Result<(), Failure> {
    for path in &arguments.manifest {
        for registered in register(host, path, arguments.development)? {
            let id = &registered.capability.entry.id;
            for warning in &registered.warnings {
                output.warn(&format!("{id}: {}\nhint: {}", warning.message, warning.hint));
            }
        }
    }
    Ok(())
}

/// A host for a component without a manifest: the manifests of the configuration have nothing to do with it.
pub(crate) fn development_host(configured: &Configured, watch: &Arc<Watch>) -> Result<Host, Failure> {
    let mut config = configured.config.clone();
    config.manifests.clear();
    one_call(&mut config);
    Host::builder()
        .config(config)
        .sink(Arc::clone(watch) as _)
        .sink(Arc::new(LogSink))
        .compiler(compiler())
        .build()
}

/// This process makes one call: a pool with more places would only take longer to make.
fn one_call(config: &mut Config) {
    trail::for_a_verb(config);
    config.gate.concurrent_max = config.gate.concurrent_max.min(1);
}

/// The session for the persona of the command line.
pub(crate) fn open(host: &Host, arguments: &arguments::Session) -> Result<aral_host::Session, Failure> {
    let path = &arguments.persona;
    let opened = host.session_of_file(path, personas(arguments.development));
    opened.map_err(|failure| match failure.code {
        _ if !files::is_there(path) => absent(path),
        Code::SignatureInvalid if !arguments.development => with_development_hint(failure),
        _ => failure,
    })
}

/// Which personas are taken.
pub(crate) fn personas(development: bool) -> Personas {
    if development {
        Personas::Development
    } else {
        Personas::Signed
    }
}

fn absent(path: &Path) -> Failure {
    let message = format!("there is no persona at `{}`", path.display());
    Failure::new(Code::ConfigInvalid, message).with_hint("name one with `--persona FILE`, or write one: `aral persona new --id me --allow-capability ID`, then `aral persona sign`")
}

fn register(host: &Host, path: &Path, development: bool) -> Result<Vec<Registered>, Failure> {
    or_unsigned(development, host.register_manifest_file(path), || {
        host.dangerous_register_unsigned_manifest_file(path)
    })
}

/// A document that is signed by a trusted key is taken as such, also during development. One that is not goes through
/// the other door only if the user says so, and that door warns.
pub(crate) fn or_unsigned<T>(
    development: bool,
    signed: Result<T, Failure>,
    unsigned: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    match signed {
        Err(failure) if failure.code == Code::SignatureInvalid && development => unsigned(),
        Err(failure) if failure.code == Code::SignatureInvalid => Err(with_development_hint(failure)),
        other => other,
    }
}

/// With the option that would take the document.
pub(crate) fn with_development_hint(failure: Failure) -> Failure {
    let hint = failure.hint.clone().map(|hint| format!("{hint}\n")).unwrap_or_default();
    failure.with_hint(format!(
        "{hint}or accept it as it is, during development: `--development`"
    ))
}

/// `ID` or `ID@VERSION`.
pub(crate) fn capability(text: &str) -> Result<(CapabilityId, Option<VersionReq>), Failure> {
    let wrong = |reason: String| {
        Failure::new(Code::ConfigInvalid, reason)
            .with_hint("write it like `text-grep`, `text-grep@1.2.0` or `text-grep@^1.2`")
    };
    let (id, version) = match text.split_once('@') {
        Some((id, version)) => (id, Some(version)),
        None => (text, None),
    };
    let id = id
        .parse()
        .map_err(|error: aral_contract::id::IdError| wrong(error.to_string()))?;
    let parse = |version: &str| {
        version::asked(version)
            .map_err(|error| wrong(format!("`{}` names no versions: {error}", version.escape_debug())))
    };
    Ok((id, version.map(parse).transpose()?))
}

/// What a component is, as the same child finds out that compiles.
pub(crate) fn inspect(bytes: &[u8]) -> Result<Inspection, Failure> {
    inspect_by(&compiler().into(), bytes)
}

/// A registry to see what a host would say of a manifest.
pub(crate) fn registry() -> Registry {
    Registry::inspecting_by(compiler())
}

/// This very program compiles, in a child process that can be killed.
pub(crate) fn compiler() -> CompilerKind {
    CompilerKind::this_program(vec!["__compile".to_owned()])
}

/// A runtime to look at one component with: no pool, no cache.
pub(crate) fn plain_runtime() -> Result<Runtime, Failure> {
    let options = RuntimeOptions {
        allocation: Allocation::OnDemand,
        compiler: compiler(),
        ..RuntimeOptions::default()
    };
    Runtime::new(options).map_err(Failure::internal)
}

/// How long something may take before the person is shown that it goes on.
const SOON: Duration = Duration::from_millis(300);

/// Waits for a call, with a spinner if it takes longer than a moment: compiling a component for the first time does.
pub(crate) async fn patiently<T>(output: &Output, call: impl Future<Output = T>) -> T {
    let mut call = std::pin::pin!(call);
    match tokio::time::timeout(SOON, &mut call).await {
        Ok(done) => done,
        Err(_still_running) => {
            let _spinning = Progress::start(output, "running");
            call.await
        }
    }
}

/// Runs a future to its end on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    Ok(runtime::on_this_thread()?.block_on(future))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_with_and_without_versions() {
        let (id, version) = capability("text-grep@^1.2").unwrap();
        assert_eq!(
            (id.as_str(), version.unwrap().to_string().as_str()),
            ("text-grep", "^1.2")
        );
        let (_, alone) = capability("text-grep@1.2.0").unwrap();
        assert_eq!(alone.unwrap().to_string(), "=1.2.0");
        assert_eq!(capability("a").unwrap().1, None);
        for bad in ["", "A", "a@", "a@x.y.z.w", "a b"] {
            assert_eq!(capability(bad).unwrap_err().code, Code::ConfigInvalid, "{bad:?}");
        }
    }

    #[test]
    fn only_a_missing_signature_opens_the_other_door_and_only_when_asked() {
        let failed = |code| Err::<u8, _>(Failure::new(code, "no"));
        assert_eq!(or_unsigned(true, failed(Code::SignatureInvalid), || Ok(1)), Ok(1));
        assert_eq!(or_unsigned(true, Ok(2), || Ok(1)), Ok(2));
        assert_eq!(
            or_unsigned(true, failed(Code::DocumentStale), || Ok(1))
                .unwrap_err()
                .code,
            Code::DocumentStale
        );
        let refused = or_unsigned(false, failed(Code::SignatureInvalid), || Ok(1)).unwrap_err();
        assert!(refused.hint.unwrap().contains("--development"));
    }
}
