//! Tells the manager of services that started this process how a server stands, as sd_notify(3) says: a datagram to the socket that
//! `NOTIFY_SOCKET` names. Without that variable nobody is told. No child has the variable, since children have no environment.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aral_host::environment;
use aral_runtime::clock;

/// How long a manager may take to take a word. Stops one that reads nothing from holding the server.
const TAKES_MAX: Duration = Duration::from_secs(1);

/// Who is told.
#[derive(Debug)]
pub(crate) struct Manager {
    /// None: nobody.
    socket: Option<SocketAddr>,
    /// It was told that the server ends. What still reads the configuration then does not make it ready again.
    ends: AtomicBool,
}

impl Manager {
    /// The one that the environment names.
    pub(crate) fn of_environment() -> Self {
        Self::named(environment::notify_socket().as_deref())
    }

    fn named(socket: Option<&OsStr>) -> Self {
        let found = socket.map(address).transpose();
        let socket = found.unwrap_or_else(|error| {
            tracing::warn!(%error, "no manager of services is told how the server stands: {}", environment::NOTIFY_SOCKET);
            None
        });
        Self {
            socket,
            ends: AtomicBool::new(false),
        }
    }

    /// The server answers, under what it has read last.
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// It reads its configuration again, until it is ready. A manager that sent the signal knows by the time which one this is for.
    pub(crate) fn reloading(&self) {
        self.tell(&format!(
            "RELOADING=1\nMONOTONIC_USEC={}",
            clock::monotonic().as_micros()
        ));
    }

    /// It was told to end. This is the last word.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
        self.ends.store(true, Ordering::Release);
    }

    /// What cannot be told is logged, and keeps nobody from serving.
    fn tell(&self, words: &str) {
        let Some(manager) = self.socket.as_ref().filter(|_| !self.ends.load(Ordering::Acquire)) else {
            return;
        };
        if let Err(error) = send(manager, words) {
            tracing::warn!(%error, words, "the manager of services was not told how the server stands");
        }
    }
}

/// `@` stands for the zero with which a name begins that is no path.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(socket),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("`{}` is no absolute path, and no name after `@`", socket.display()),
        )),
    }
}

fn send(manager: &SocketAddr, words: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(TAKES_MAX))?;
    socket.send_to_addr(words.as_bytes(), manager).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a manager is told of a server that begins, reads its file again, and ends before that is over.
    fn told(manager: &Manager, listener: &UnixDatagram) -> Vec<String> {
        manager.ready();
        manager.reloading();
        manager.stopping();
        manager.ready();
        manager.reloading();
        listener.set_nonblocking(true).unwrap();
        let mut words = [0; 256];
        std::iter::from_fn(|| listener.recv(&mut words).ok().map(|length| words[..length].to_vec()))
            .map(|words| String::from_utf8(words).unwrap())
            .collect()
    }

    #[test]
    fn a_manager_is_told_at_a_path_and_under_a_name_that_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        // It is nobody else's while this folder is there.
        let name = folder.path().as_os_str();
        let at_path = UnixDatagram::bind(&path).unwrap();
        let at_name = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let at_name = UnixDatagram::bind_addr(&at_name).unwrap();
        let mut named = OsStr::new("@").to_owned();
        named.push(name);
        for (socket, listener) in [(path.as_os_str(), at_path), (named.as_os_str(), at_name)] {
            let told = told(&Manager::named(Some(socket)), &listener);
            let [ready, reloading, stopping] = told.as_slice() else {
                panic!("{socket:?}: {told:?}")
            };
            assert_eq!((ready.as_str(), stopping.as_str()), ("READY=1", "STOPPING=1"));
            let when = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            let when = Duration::from_micros(when.parse().unwrap());
            assert!(when > Duration::ZERO && when <= clock::monotonic(), "{reloading}");
        }
    }

    #[test]
    fn a_manager_that_cannot_be_told_ends_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let nobody = folder.path().join("nobody");
        for socket in [Some(nobody.as_os_str()), Some(OsStr::new("vsock:2:1234")), None] {
            let manager = Manager::named(socket);
            assert_eq!(manager.socket.is_some(), socket == Some(nobody.as_os_str()));
            manager.ready();
        }
        let too_long = format!("/{}", "a".repeat(200));
        assert!(Manager::named(Some(too_long.as_ref())).socket.is_none());
    }

    #[test]
    fn a_manager_that_reads_nothing_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        // A socket for each word: what one may send at once ends before the queue of the one who listens is full.
        let is_taken = || {
            let filler = UnixDatagram::unbound().unwrap();
            filler.set_nonblocking(true).unwrap();
            filler.send_to(b"x", &path).is_ok()
        };
        while is_taken() {}
        let manager = address(path.as_os_str()).unwrap();
        let kind = send(&manager, "READY=1").unwrap_err().kind();
        assert!(
            matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
            "{kind}"
        );
        drop(listener);
    }
}
