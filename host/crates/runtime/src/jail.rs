//! The jail of a child process: no way to gain privileges, no open descriptor but its standard streams, an empty
//! environment, limits, a process group of its own that can be killed as one. Used for the compiler and for programs
//! that a guest may run. It decides nothing: which program with which arguments is settled by the caller.

use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

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
/// output and error, which are null unless set. The child is killed when its handle is dropped.
pub fn jailed_command(program: &Path, limits: JailLimits) -> Command {
    let mut command = Command::new(program);
    command.env_clear().current_dir("/").process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    danger::enter_jail_before_exec(&mut command, limits);
    command
}

/// Kills the process group of a jailed child when dropped: the child and whatever it started. Make it right after the
/// spawn and drop it before the child's end is waited for, as the number of a group is free once nobody is in it.
#[derive(Debug)]
pub struct GroupKiller(Option<Pid>);

impl GroupKiller {
    /// For a child made by [`jailed_command`].
    pub fn of(child: &Child) -> Self {
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
        assert!(
            text("while read line; do echo $line; done < /proc/self/status")
                .await
                .contains("NoNewPrivs: 1")
        );
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
        let mut child = command.spawn().unwrap();
        let killer = GroupKiller::of(&child);
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

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error() {
        let error = jailed_command(Path::new("/nonexistent/program"), LIMITS)
            .spawn()
            .unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }
}
