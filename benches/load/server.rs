//! The servers that are measured, each a process of its own on a port of the loopback, and what the system says of it.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use aral_benches::governed::{CAPABILITY, Documents};
use aral_benches::{INPUT, echo_http_component, resident};
use aral_contract::Digest;
use rustls::ClientConfig;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{Client, Target};
use crate::secure;

/// What the caller shows. It opens nothing but the server of this run.
const KEY: &str = "aral_the-key-of-a-server-that-ends-with-its-measurement";
/// How long a server may take until it answers. One of them compiles first.
const START: Duration = Duration::from_secs(60);
const LOG: &str = "log";
/// In what `/proc` counts the time of processors, on every Linux.
const TICK: Duration = Duration::from_millis(10);
/// The fields of `/proc/PID/stat` behind the name in which user and system time stand.
const TIMES: [usize; 2] = [11, 12];

/// A server that answers. It ends with this.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) target: Target,
    child: Child,
    _folder: TempDir,
}

/// `aral serve` as an operator would run it: signed manifest and persona, schemas, a caller with a key, an audit log that is
/// kept in some size and does not wait for the disk, every limit on, and those of rates, of one address and of one caller beyond
/// what this machine does.
pub(crate) fn aral(connections_max: u32) -> Result<Server> {
    start(connections_max, false)
}

/// The same over TLS.
pub(crate) fn aral_secured(connections_max: u32) -> Result<Server> {
    start(connections_max, true)
}

fn start(connections_max: u32, is_secured: bool) -> Result<Server> {
    let folder = tempfile::tempdir()?;
    let tls = is_secured.then(|| secure::write(folder.path())).transpose()?;
    let setting = tls.as_ref().map_or("", |_| secure::SETTING);
    Documents::echo()?.write(folder.path())?;
    let file = folder.path().join("aral.toml");
    let rates = ["global", "address", "persona", "capability", "caller"]
        .map(|name| format!("{name} = {{ per_second = 1000000, burst = 1000000 }}\n"))
        .concat();
    let config = std::fs::read_to_string(&file)?
        + &format!(
            "[audit]\ndurability = \"async\"\nretain_bytes_max = 1073741824\n\
             [[serve.listener]]\naddress = \"127.0.0.1:0\"\n{setting}\
             [[serve.caller]]\nname = \"load\"\npersona = \"persona.json\"\nkeys = [\"{}\"]\n\
             [serve.limits]\nconnections_max = {connections_max}\nconnections_per_address_max = {connections_max}\n\
             requests_per_caller_max = 2000\n[serve.rates]\n{rates}",
            Digest::of(KEY.as_bytes())
        );
    std::fs::write(&file, config)?;
    let mut command = Command::new(std::env::current_exe()?.with_file_name("aral"));
    command.args(["serve", "--quiet", "--json"]).current_dir(folder.path());
    start_that_tells("aral serve", command, folder, tls)
}

/// The floor, out of this program.
pub(crate) fn floor() -> Result<Server> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("floor");
    start_that_tells("floor-axum", command, tempfile::tempdir()?, None)
}

/// `wasmtime serve` with what it does by default, on a component that answers the same.
pub(crate) fn wasmtime(program: &Path) -> Result<Server> {
    let folder = tempfile::tempdir()?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new(program);
    command.args(["serve", "-Scli", "--addr", &address.to_string()]);
    command.arg(echo_http_component()?);
    let child = spawn(&mut command, folder.path(), Stdio::null())?;
    Server::that_answers("wasmtime serve", child, address, folder, None)
}

fn spawn(command: &mut Command, folder: &Path, stdout: Stdio) -> Result<Child> {
    let log = File::create(folder.join(LOG))?;
    let started = command.stdin(Stdio::null()).stdout(stdout).stderr(log).spawn();
    started.with_context(|| format!("could not start {}", command.get_program().to_string_lossy()))
}

/// For a server that says where it listens, in its first line.
fn start_that_tells(
    name: &'static str,
    mut command: Command,
    folder: TempDir,
    tls: Option<Arc<ClientConfig>>,
) -> Result<Server> {
    let mut child = spawn(&mut command, folder.path(), Stdio::piped())?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.as_mut() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    let address = address(&line).with_context(|| format!("{name} did not start: {line}{}", said(&folder)))?;
    Server::that_answers(name, child, address, folder, tls)
}

fn address(line: &str) -> Result<SocketAddr> {
    let told: Value = serde_json::from_str(line)?;
    let url = told.pointer("/listening/0").and_then(Value::as_str);
    let (_, address) = url.and_then(|url| url.split_once("://")).context("no address")?;
    Ok(address.parse()?)
}

fn said(folder: &TempDir) -> String {
    std::fs::read_to_string(folder.path().join(LOG)).unwrap_or_default()
}

impl Server {
    /// Waits for the first answer, which must be the input.
    fn that_answers(
        name: &'static str,
        child: Child,
        address: SocketAddr,
        folder: TempDir,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Self> {
        let request = format!(
            "POST /v1/invoke/{CAPABILITY} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {KEY}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{INPUT}",
            INPUT.len()
        );
        let mut server = Self {
            name,
            target: Target {
                address,
                tls,
                request: request.into_bytes(),
                answer: Vec::new(),
            },
            child,
            _folder: folder,
        };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            let late = begun.elapsed() > START || server.child.try_wait()?.is_some();
            ensure!(!late, "{name} did not start: {}", said(&server._folder));
            std::thread::sleep(Duration::from_millis(50));
        }
        server.target.answer = Client::first(&server.target).with_context(|| format!("{name} does not answer"))?;
        let same = serde_json::from_slice::<Value>(&server.target.answer)? == serde_json::from_str::<Value>(INPUT)?;
        ensure!(same, "{name} is no echo");
        Ok(server)
    }

    /// Memory that is resident now.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        resident::of(self.child.id())
    }

    /// Time of processors that it has used so far.
    pub(crate) fn computed(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let Some((_, fields)) = stat.rsplit_once(") ") else {
            bail!("`/proc/PID/stat` is not what it was")
        };
        let fields: Vec<&str> = fields.split(' ').collect();
        let mut ticks = 0;
        for at in TIMES {
            ticks += fields.get(at).context("no times in `/proc/PID/stat`")?.parse::<u32>()?;
        }
        Ok(TICK * ticks)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _gone = self.child.wait();
    }
}
