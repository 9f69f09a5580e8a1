//! `aral serve` as a process of its own, on a port that the system chose.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::desk::Desk;
use super::wire::{Reply, Wire};

/// Anything that a server does at once takes less than this, on a machine that is busy with other things.
const SOON: Duration = Duration::from_secs(30);

/// The running program. It ends with this.
pub(crate) struct Server {
    child: Child,
    /// Reads what it says on standard error: a program that logs much must not wait for the test.
    words: Option<JoinHandle<String>>,
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
}

/// A desk whose `aral.toml` has one open listener for the caller `tester`, changed as the test wants.
pub(crate) fn desk(change: impl FnOnce(&mut Value)) -> Desk {
    let desk = Desk::new();
    desk.configure(|config| {
        config["runtime"] = json!({ "concurrent_calls_max": 8 });
        config["serve"] = json!({
            "listener": [{ "address": "127.0.0.1:0", "anonymous": "tester" }],
            "caller": [{ "name": "tester", "persona": "persona.json" }],
            "limits": {},
        });
        change(config);
    });
    desk
}

impl Server {
    /// Waits until it listens.
    pub(crate) fn start(desk: &Desk) -> Self {
        Self::start_with(desk, &[])
    }

    /// The same with more arguments.
    pub(crate) fn start_with(desk: &Desk, arguments: &[&str]) -> Self {
        Self::start_in(desk, arguments, &[] as &[(&str, &str)])
    }

    /// The same in an environment that has these variables.
    pub(crate) fn start_in<V: AsRef<OsStr>>(desk: &Desk, arguments: &[&str], variables: &[(&str, V)]) -> Self {
        let mut all = vec!["serve", "--quiet", "--json"];
        all.extend_from_slice(arguments);
        let mut command = desk.command(&all);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        Self::from(command)
    }
}

impl From<Command> for Server {
    /// Waits until it listens.
    fn from(mut command: Command) -> Self {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::from(command.spawn().expect("the program starts"))
    }
}

impl From<Child> for Server {
    /// The same for one that has begun, with its standard output, and its standard error unless the test reads that.
    fn from(mut child: Child) -> Self {
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let told: Value = match serde_json::from_str(&line) {
            Ok(told) => told,
            Err(_) => panic!("the server did not start: {line}"),
        };
        let urls = told["listening"]
            .as_array()
            .unwrap_or_else(|| panic!("the server did not start: {told}"));
        let address = |url: &Value| {
            let url = url.as_str().expect("a text");
            let (_, address) = url.split_once("://").expect("a URL");
            address.parse().expect("an address")
        };
        let admin = &told["admin"]["url"];
        Self {
            addresses: urls.iter().map(address).collect(),
            admin: (!admin.is_null()).then(|| address(admin)),
            words: child.stderr.take().map(|mut stderr| {
                std::thread::spawn(move || {
                    let mut words = String::new();
                    stderr.read_to_string(&mut words).expect("text");
                    words
                })
            }),
            child,
        }
    }
}

impl Server {
    /// The address of the first listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.at(0)
    }

    /// The address of a listener.
    pub(crate) fn at(&self, index: usize) -> SocketAddr {
        self.addresses[index]
    }

    /// The port of the management.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin.expect("there is one")
    }

    /// A new connection to the first listener.
    pub(crate) fn wire(&self) -> Wire {
        Wire::open(self.address())
    }

    /// `GET` on a connection of its own.
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.wire().ask("GET", path, &[], "")
    }

    /// Calls a capability on a connection of its own.
    pub(crate) fn invoke(&self, id: &str, input: &str) -> Reply {
        self.wire().invoke(id, &[], input)
    }

    /// Of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        kill_process(Pid::from_raw(id).expect("a process"), signal).expect("it runs");
    }

    /// Exit code and standard error, once it has ended.
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        let status = loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => break status,
                None if start.elapsed() > SOON => panic!("the server did not end"),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let words = self.words.take().expect("it is read once");
        (status.code(), words.join().expect("it reads"))
    }

    /// Ends it, in order, and gives the lines of its log, which is JSON.
    pub(crate) fn end_and_read_log(self) -> Vec<Value> {
        self.signal(Signal::TERM);
        let (code, log) = self.wait();
        assert_eq!(code, Some(0), "{log}");
        log.lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _gone = self.child.wait();
    }
}
