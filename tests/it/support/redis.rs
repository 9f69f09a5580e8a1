//! A `redis-server` of one test alone, which the test may stop, kill and start again.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::port::free_port;

/// How long it may take until it answers.
const SOON: Duration = Duration::from_secs(30);

/// The program at work. It ends with this.
pub(crate) struct Redis {
    child: Option<Child>,
    port: u16,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
}

impl Redis {
    /// Waits until it answers.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more arguments. With a port of its own for TLS it takes nothing else.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        let mut redis = Self {
            child: None,
            port: free_port(),
            arguments: arguments.iter().map(|text| (*text).to_owned()).collect(),
            folder: tempfile::tempdir().expect("a folder"),
        };
        redis.restart();
        redis
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it again, with nothing in it.
    pub(crate) fn restart(&mut self) {
        let program = std::env::var("ARAL_SERVICE_REDIS");
        let program = program.expect("ARAL_SERVICE_REDIS is not set: run `cargo xtask test --services`");
        let is_tls = self.arguments.iter().any(|text| text.starts_with("--tls-"));
        let port = self.port.to_string();
        let (plain, tls) = if is_tls {
            ("0", port.as_str())
        } else {
            (port.as_str(), "0")
        };
        let child = Command::new(program)
            .args(["--bind", "127.0.0.1", "--port", plain, "--tls-port", tls])
            .args(["--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.arguments)
            .stdout(Stdio::null())
            .spawn();
        let child = self.child.insert(child.expect("the program starts"));
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(child.try_wait().expect("a child").is_none(), "it has ended");
            assert!(start.elapsed() < SOON, "it does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("a child");
        }
    }

    /// Sends it a signal, such as that to stop where it is.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().expect("it runs").id();
        let id = i32::try_from(id).expect("a process id");
        kill_process(Pid::from_raw(id).expect("a process"), signal).expect("it runs");
    }

    /// What it answers to a command, as it comes.
    pub(crate) fn ask(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it answers");
        stream
            .write_all(format!("{command}\r\nQUIT\r\n").as_bytes())
            .expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("text");
        text
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ended_already = child.kill();
            let _gone = child.wait();
        }
    }
}
