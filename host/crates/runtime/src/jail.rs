//! The jail of a child process: no way to gain privileges, no open descriptor but its standard streams, an empty
//! environment, limits, a process group of its own that can be killed as one. Used for the compiler and for programs
//! that a guest may run. It decides nothing: which program with which arguments is settled by the caller.

use std::path::Path;

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

/// A command that runs `program` in the jail: arguments and standard streams are the caller's to set. Standard input,
/// output and error are inherited unless set, so set all three. The child is killed when its handle is dropped.
pub fn jailed_command(program: &Path, limits: JailLimits) -> Command {
    let mut command = Command::new(program);
    command.env_clear().current_dir("/").process_group(0).kill_on_drop(true);
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
