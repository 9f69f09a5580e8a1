//! Real servers for tests and for hand work: installs what is missing, starts each on loopback with its data in a
//! temporary folder, waits until it answers, and ends all of them together with this process, however it ends.
//!
//! A server is one line in [`SERVICES`] and one file below `services/`; what it is installed from is a line in
//! `services.txt`, or one in `services/npm/package.json`.

mod guard;
mod install;
mod npm;
mod oidc;
mod openbao;
mod osmem;
mod redis;
mod rotel;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{process, repository};
use guard::Guard;
use install::Programs;
pub(crate) use install::wasmtime;

/// How long a server may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a connection to this machine may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Starts one server: with what is installed, in a folder of its own.
type Start = fn(&Programs, &Path) -> Result<Started>;

/// Every server that the tests can need.
const SERVICES: &[(&str, Start)] = &[
    ("oidc", oidc::start),
    ("openbao", openbao::start),
    ("osmem", osmem::start),
    ("redis", redis::start),
    ("rotel", rotel::start),
];

/// A server that was started; it answers or not yet.
struct Started {
    guard: Guard,
    /// What the tests are told.
    variables: Vec<(&'static str, String)>,
    /// Whether it answers.
    answers: Box<dyn Fn() -> bool>,
}

/// Servers that answer. They end when this is dropped.
pub(crate) struct Services {
    guards: Vec<Guard>,
    variables: Vec<(&'static str, String)>,
    folder: tempfile::TempDir,
}

/// The verb: starts them, says where they are, and waits to be interrupted.
pub(crate) fn run() -> Result<()> {
    let services = Services::start(&repository::root()?)?;
    for (name, value) in &services.variables {
        println!("export {name}={value}");
    }
    println!("# ready; end with ctrl-c");
    loop {
        thread::sleep(Duration::from_secs(1));
        services.check()?;
    }
}

impl Services {
    /// Installs what is missing and starts all.
    pub(crate) fn start(root: &Path) -> Result<Self> {
        let (programs, packages) = install::all(root, &repository::target_directory(root)?)?;
        let mut services = Self::start_these(SERVICES, &programs)?;
        // No servers, but tests need them with what was installed for them.
        let python = programs.wheel("python")?.display().to_string();
        services.variables.push(("ARAL_SERVICE_PYTHON", python));
        services.variables.extend(packages.variables());
        Ok(services)
    }

    fn start_these(which: &[(&str, Start)], programs: &Programs) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("aral-services-").tempdir()?;
        let mut services = Self {
            guards: Vec::new(),
            variables: Vec::new(),
            folder,
        };
        for (name, start) in which {
            let own = services.folder.path().join(name);
            std::fs::create_dir(&own).with_context(|| format!("could not make {}", own.display()))?;
            let started = start(programs, &own).with_context(|| format!("`{name}` did not start"))?;
            let begun = Instant::now();
            while !(started.answers)() {
                started.guard.check().with_context(|| said(&own))?;
                if begun.elapsed() > START_TIMEOUT {
                    bail!(
                        "`{name}` does not answer after {} s; {}",
                        START_TIMEOUT.as_secs(),
                        said(&own)
                    );
                }
                thread::sleep(Duration::from_millis(100));
            }
            services.guards.push(started.guard);
            services.variables.extend(started.variables);
        }
        Ok(services)
    }

    /// What the tests are told, as environment variables.
    pub(crate) fn variables(&self) -> &[(&'static str, String)] {
        &self.variables
    }

    /// An error when one has ended.
    fn check(&self) -> Result<()> {
        self.guards.iter().try_for_each(Guard::check)
    }
}

/// What a server wrote before it failed.
fn said(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join(guard::LOG)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!(
        "it said:\n{}",
        lines
            .get(lines.len().saturating_sub(20)..)
            .unwrap_or_default()
            .join("\n")
    )
}

/// A port that was free a moment ago. Nothing better can be had of a server that is told its port.
fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("no port of this machine is free")?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn programs() -> Programs {
        Programs::below(PathBuf::from("/usr/bin"))
    }

    fn sleeper(folder: &Path, script: &str, answers: fn() -> bool) -> Result<Started> {
        let mut command = std::process::Command::new("/bin/sh");
        command.args(["-c", script]);
        Ok(Started {
            guard: Guard::start(&command, folder)?,
            variables: vec![("ARAL_PROBE", folder.display().to_string())],
            answers: Box::new(answers),
        })
    }

    fn good(_: &Programs, folder: &Path) -> Result<Started> {
        sleeper(folder, "echo $$ >pid; exec sleep 600", || true)
    }

    fn dead(_: &Programs, folder: &Path) -> Result<Started> {
        sleeper(folder, "echo the port is taken >&2; exit 3", || false)
    }

    fn is_running(pid: &str) -> bool {
        Path::new("/proc").join(pid.trim()).join("exe").exists()
    }

    fn pid(services: &Services) -> String {
        let (_, folder) = &services.variables()[0];
        let file = Path::new(folder).join("pid");
        loop {
            match std::fs::read_to_string(&file) {
                Ok(text) if text.ends_with('\n') => return text,
                _ => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    #[test]
    fn servers_end_with_their_handle_and_leave_no_file() {
        let services = Services::start_these(&[("good", good)], &programs()).unwrap();
        services.check().unwrap();
        let (pid, folder) = (pid(&services), services.folder.path().to_owned());
        assert!(is_running(&pid));
        drop(services);
        assert!(!is_running(&pid), "{pid} is still there");
        assert!(!folder.exists());
    }

    #[test]
    fn a_server_that_ends_early_is_an_error_with_its_own_words() {
        let error = Services::start_these(&[("dead", dead)], &programs()).err().unwrap();
        let text = format!("{error:#}");
        assert!(text.contains("the port is taken"), "{text}");
    }
}
