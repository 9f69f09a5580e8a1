//! The jail of a child process: no way to gain privileges, no open descriptor but its standard streams, an empty
//! environment, limits, a process group of its own that can be killed as one. Used for the compiler and for programs
//! that a guest may run. It decides nothing: which program with which arguments is settled by the caller.

use std::io;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError, mpsc};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use crate::danger;

/// What the system holds a child to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JailLimits {
    /// Address space, in bytes. Stops a memory bomb.
    pub memory_bytes: u64,
    /// Processor time, in seconds. Stops a child that outlives whoever should have killed it.
    pub cpu_seconds: u64,
    /// Descriptors.
    pub open_files: u64,
    /// Largest file it may write, in bytes. Stops a full disk.
    pub file_bytes: u64,
}

/// A command that runs `program`, an absolute path, in the jail. Arguments are the caller's to set, and standard input,
/// output and error, which are null unless set. Start it with [`Starter::spawn`]. The child is killed when its handle is dropped,
/// and when the host ends, however it ends.
pub fn jailed_command(program: &Path, limits: JailLimits) -> Command {
    let mut command = Command::new(program);
    command.env_clear().current_dir("/").process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    danger::enter_jail_before_exec(&mut command, limits);
    command
}

type Job = Box<dyn FnOnce() + Send>;

/// Children of one kind that may wait to be started. Stops callers that are gone from filling memory while a mount hangs, on which
/// lies what is to be started.
const WAITING_MAX: usize = 256;

/// What starts children: a thread, once the first is to be started. The system kills a child when the very thread ends that started
/// it, and the threads of an async runtime come and go; this one ends with the process.
#[derive(Debug)]
pub struct Starter {
    name: &'static str,
    jobs: Mutex<Option<mpsc::SyncSender<Job>>>,
}

/// Starts the compiler.
pub static COMPILERS: Starter = Starter::new("aral-compilers");
/// Starts the programs of guests. To start one takes as long as its mount does, for ever if that hangs: this holds up the programs
/// of others, and nothing else.
pub static PROGRAMS: Starter = Starter::new("aral-programs");

impl Starter {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            jobs: Mutex::new(None),
        }
    }

    /// Starts a command made by [`jailed_command`]. Whoever stops waiting for it has the child killed, or it is not started at all.
    ///
    /// Needs a tokio runtime with I/O.
    pub async fn spawn(&self, mut command: Command) -> io::Result<Child> {
        self.run(move || command.spawn()).await
    }

    /// The same for a child that may start others: whoever stops waiting has them killed too, even if they are there before the
    /// answer is. The group comes first, so that it goes first: see [`GroupKiller`].
    ///
    /// Needs a tokio runtime with I/O.
    pub async fn spawn_group(&self, mut command: Command) -> io::Result<(GroupKiller, Child)> {
        let start = move || {
            let child = command.spawn()?;
            Ok((GroupKiller::of(&child), child))
        };
        self.run(start).await
    }

    async fn run<T: Send + 'static>(&self, act: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
        let runtime = tokio::runtime::Handle::current();
        let (answer, answered) = oneshot::channel();
        let job = move || {
            if answer.is_closed() {
                return;
            }
            let _entered = runtime.enter();
            // Nobody may wait any more: then what was started is dropped here, which kills it.
            let _given_up = answer.send(act());
        };
        self.jobs()?.try_send(Box::new(job)).map_err(|refused| {
            io::Error::other(match refused {
                mpsc::TrySendError::Full(_) => "too many children wait to be started",
                mpsc::TrySendError::Disconnected(_) => "the thread that starts children is gone",
            })
        })?;
        let nobody = |_| io::Error::other("the thread that starts children could not start this one");
        answered.await.map_err(nobody)?
    }

    fn jobs(&self) -> io::Result<mpsc::SyncSender<Job>> {
        let mut started = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(jobs) = &*started {
            return Ok(jobs.clone());
        }
        let (jobs, inbox) = mpsc::sync_channel::<Job>(WAITING_MAX);
        std::thread::Builder::new().name(self.name.to_owned()).spawn(move || {
            for job in inbox {
                // A job that panics (its runtime is gone) drops its answer, and the next caller is served all the same.
                let _panicked = std::panic::catch_unwind(AssertUnwindSafe(job));
            }
        })?;
        *started = Some(jobs.clone());
        Ok(jobs)
    }
}

/// Kills the process group of a jailed child when dropped: the child and whatever it started. [`Starter::spawn_group`] makes it;
/// drop it before the child's end is waited for, as the number of a group is free once nobody is in it.
#[derive(Debug)]
pub struct GroupKiller(Option<Pid>);

impl GroupKiller {
    /// For a child made by [`jailed_command`].
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }
}

impl Drop for GroupKiller {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It fails only if the group is gone already, which is what is wanted.
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;
    use std::time::Duration;

    use super::*;

    const LIMITS: JailLimits = JailLimits {
        memory_bytes: 1 << 30,
        cpu_seconds: 7,
        open_files: 20,
        file_bytes: 1000,
    };

    async fn shell(script: &str) -> std::process::Output {
        let mut command = jailed_command(Path::new("/bin/sh"), LIMITS);
        command
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.output().await.unwrap()
    }

    async fn text(script: &str) -> String {
        String::from_utf8(shell(script).await.stdout).unwrap()
    }

    #[tokio::test]
    async fn the_child_has_its_limits_and_no_privileges_to_gain() {
        let limits = text("while read line; do echo \"$line\"; done < /proc/self/limits").await;
        let of = |name: &str| -> Vec<&str> {
            let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().take(2).collect()
        };
        assert_eq!(of("Max core file size"), ["0", "0"]);
        assert_eq!(of("Max address space"), ["1073741824", "1073741824"]);
        assert_eq!(of("Max cpu time"), ["7", "7"]);
        assert_eq!(of("Max open files"), ["20", "20"]);
        assert_eq!(of("Max file size"), ["1000", "1000"]);
        // What this process ignores, a child does not.
        crate::danger::outlive_large_files();
        let status = text("while read line; do echo $line; done < /proc/self/status").await;
        assert!(status.contains("NoNewPrivs: 1"), "{status}");
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn: ")).unwrap();
        let ignored = u64::from_str_radix(ignored, 16).unwrap();
        assert_eq!(ignored >> (libc::SIGXFSZ - 1) & 1, 0, "{status}");
    }

    #[tokio::test]
    async fn the_child_sees_no_environment_no_descriptor_and_its_own_group() {
        // Left open on purpose, and without the flag that closes it when a program starts.
        let leak = rustix::io::dup(std::io::stdin()).unwrap();
        assert!(
            !rustix::io::fcntl_getfd(&leak)
                .unwrap()
                .contains(rustix::io::FdFlags::CLOEXEC)
        );
        let seen = text("echo /proc/$$/fd/*; pwd; echo $$; read -r _ _ _ _ group _ < /proc/$$/stat; echo $group").await;
        let lines: Vec<&str> = seen.lines().collect();
        let descriptors: Vec<&str> = lines[0]
            .split_whitespace()
            .filter_map(|path| path.rsplit('/').next())
            .collect();
        // The shell opens one itself to list the folder.
        assert!(
            descriptors.starts_with(&["0", "1", "2"]) && descriptors.len() <= 4,
            "{seen}"
        );
        assert!(
            !descriptors.contains(&std::os::fd::AsRawFd::as_raw_fd(&leak).to_string().as_str()),
            "{seen}"
        );
        assert_eq!(lines[1], "/");
        assert_eq!(lines[2], lines[3]);
        // What a shell sets by itself is all there is.
        let variables = text("export -p").await;
        assert!(
            !variables.contains("PATH=") && !variables.contains("HOME="),
            "{variables}"
        );
    }

    #[tokio::test]
    async fn a_child_that_uses_up_its_processor_time_is_ended() {
        let limits = JailLimits {
            cpu_seconds: 1,
            ..LIMITS
        };
        let mut command = jailed_command(Path::new("/bin/sh"), limits);
        command
            .args(["-c", "while :; do :; done"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let status = tokio::time::timeout(Duration::from_secs(60), command.status())
            .await
            .unwrap()
            .unwrap();
        assert!(!status.success());
    }

    #[tokio::test]
    async fn the_whole_group_dies() {
        let mut command = jailed_command(Path::new("/bin/sh"), LIMITS);
        // The grandchild holds the pipe open for as long as it lives.
        command.args(["-c", "/bin/sleep 600 & echo started; wait"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let (killer, mut child) = COMPILERS.spawn_group(command).await.unwrap();
        let mut stdout = tokio::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        tokio::io::AsyncBufReadExt::read_line(&mut stdout, &mut line)
            .await
            .unwrap();
        assert_eq!(line, "started\n");
        drop(killer);
        let end = tokio::io::AsyncReadExt::read_to_string(&mut stdout, &mut line);
        tokio::time::timeout(Duration::from_secs(30), end)
            .await
            .unwrap()
            .unwrap();
        assert!(!child.wait().await.unwrap().success());
    }

    /// The state of a process as the system shows it; none: it is gone.
    #[expect(clippy::disallowed_methods, reason = "tests look at processes")]
    fn state(id: u32) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
    }

    fn is_alive(id: u32) -> bool {
        state(id).is_some_and(|state| state != 'Z' && state != 'X')
    }

    #[test]
    fn a_child_does_not_outlive_a_host_that_is_killed() {
        use std::io::BufRead as _;
        let mut host = std::process::Command::new(crate::testing::child_program())
            .arg("jailed")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(host.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let child: u32 = line.trim().parse().unwrap();
        assert!(is_alive(child), "the child did not run");
        // SIGKILL: nothing of the host's own cleaning up runs.
        host.kill().unwrap();
        host.wait().unwrap();
        for _ in 0..200 {
            if !is_alive(child) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let left = i32::try_from(child).ok().and_then(Pid::from_raw).unwrap();
        let _ended = rustix::process::kill_process(left, Signal::KILL);
        panic!("the child outlived the host");
    }

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let asked = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let mut command = jailed_command(Path::new("/bin/sleep"), LIMITS);
            command.arg("600");
            let child = runtime.block_on(COMPILERS.spawn(command)).unwrap();
            (runtime, child)
        });
        let (_runtime, child) = asked.join().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert!(
            is_alive(child.id().unwrap()),
            "the child died with a thread of the host"
        );
    }

    #[tokio::test]
    async fn a_child_that_nobody_waits_for_is_killed() {
        let mut command = jailed_command(Path::new("/bin/sleep"), LIMITS);
        command.arg("600");
        let child = COMPILERS.spawn(command).await.unwrap();
        let id = child.id().unwrap();
        drop(child);
        for _ in 0..100 {
            if !is_alive(id) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the child outlived its handle");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error() {
        let command = jailed_command(Path::new("/nonexistent/program"), LIMITS);
        let error = COMPILERS.spawn(command).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    /// Has what starts children wait until the sender is dropped: a mount hangs.
    async fn with_a_mount_that_hangs(starter: &'static Starter, act: impl AsyncFnOnce(mpsc::Sender<()>)) {
        let (mount, hangs) = mpsc::channel::<()>();
        let mut held = pin!(starter.run(move || Ok(hangs.recv().is_err())));
        assert!(is_waiting(held.as_mut()).await);
        act(mount).await;
        assert!(held.await.unwrap());
    }

    /// Asks once.
    async fn is_waiting<T>(mut asked: Pin<&mut impl Future<Output = T>>) -> bool {
        std::future::poll_fn(|context| Poll::Ready(asked.as_mut().poll(context).is_pending())).await
    }

    #[tokio::test]
    async fn a_program_that_hangs_before_it_starts_holds_up_no_compiler() {
        with_a_mount_that_hangs(&PROGRAMS, async |mount| {
            let program = || jailed_command(Path::new("/bin/true"), LIMITS);
            let mut waiting = pin!(PROGRAMS.spawn(program()));
            assert!(is_waiting(waiting.as_mut()).await);
            let mut compiler = COMPILERS.spawn(program()).await.unwrap();
            assert!(compiler.wait().await.unwrap().success());
            assert!(is_waiting(waiting.as_mut()).await);
            drop(mount);
            assert!(waiting.await.unwrap().wait().await.unwrap().success());
        })
        .await;
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_started() {
        static STARTER: Starter = Starter::new("aral-gone");
        let started = Arc::new(AtomicUsize::new(0));
        let start = || {
            let started = Arc::clone(&started);
            STARTER.run(move || Ok(started.fetch_add(1, Ordering::SeqCst)))
        };
        with_a_mount_that_hangs(&STARTER, async |mount| {
            let mut stays = pin!(start());
            assert!(is_waiting(stays.as_mut()).await);
            {
                let mut gone = pin!(start());
                assert!(is_waiting(gone.as_mut()).await);
            }
            drop(mount);
            assert_eq!(stays.await.unwrap(), 0);
        })
        .await;
        assert_eq!(start().await.unwrap(), 1, "one that nobody waited for was started");
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "tests look at processes")]
    async fn what_a_child_started_does_not_outlive_a_caller_that_goes_at_that_moment() {
        static STARTER: Starter = Starter::new("aral-left");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("id");
        let mut command = jailed_command(Path::new("/bin/sh"), LIMITS);
        command
            .args(["-c", "/bin/sleep 600 & echo $! > \"$0\"; wait"])
            .arg(&file);
        let mut left = None;
        with_a_mount_that_hangs(&STARTER, async |mount| {
            let mut asked = Box::pin(STARTER.spawn_group(command));
            assert!(is_waiting(asked.as_mut()).await);
            drop(mount);
            // It runs, and nobody has taken the answer that says so.
            while left.is_none() {
                let text = std::fs::read_to_string(&file).unwrap_or_default();
                left = text.strip_suffix('\n').and_then(|id| id.parse::<u32>().ok());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            drop(asked);
        })
        .await;
        let left = left.unwrap();
        for _ in 0..200 {
            if !is_alive(left) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let left = i32::try_from(left).ok().and_then(Pid::from_raw).unwrap();
        let _ended = rustix::process::kill_process(left, Signal::KILL);
        panic!("what the child started outlived its caller");
    }

    #[tokio::test]
    async fn only_so_many_children_wait_to_be_started() {
        static STARTER: Starter = Starter::new("aral-full");
        with_a_mount_that_hangs(&STARTER, async |mount| {
            let mut waiting = 0;
            // The thread may have taken the one that hangs, or not yet.
            for _ in 0..=WAITING_MAX {
                let mut asked = pin!(STARTER.run(|| Ok(())));
                waiting += usize::from(is_waiting(asked.as_mut()).await);
            }
            assert!(waiting <= WAITING_MAX, "{waiting}");
            drop(mount);
        })
        .await;
        // Once it has gone through those that nobody waits for.
        while STARTER.run(|| Ok(())).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}
