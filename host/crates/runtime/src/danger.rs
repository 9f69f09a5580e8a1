//! All unsafe code of the host: three blocks, each with why it is needed and why it is sound. It decides nothing; what
//! goes in here has been checked by a type that only the checker can make.
#![expect(unsafe_code, reason = "the one module of the host that may")]

use std::io;

use rustix::process::{Pid, Resource, Rlimit, Signal, setrlimit};
use wasmtime::component::Component;

use crate::engine::Engine;
use crate::jail::JailLimits;

/// Machine code that this host's own compiler made: either just now, or earlier with a MAC to prove it.
pub(crate) struct TrustedCode<'a>(&'a [u8]);

impl<'a> TrustedCode<'a> {
    /// Straight from the compiler that this process ran or started.
    pub(crate) fn from_own_compiler(code: &'a [u8]) -> Self {
        Self(code)
    }

    /// Read from the cache and held in this very buffer when its MAC was verified.
    pub(crate) fn from_verified_entry(code: &'a [u8]) -> Self {
        Self(code)
    }
}

/// Makes a component of compiled code.
pub(crate) fn load(engine: &Engine, code: &TrustedCode<'_>) -> wasmtime::Result<Component> {
    // SAFETY: needed because loading compiled code means executing it later, and wasmtime cannot tell good code from
    // bad. Sound because a `TrustedCode` is the output of wasmtime's own compiler under the settings of this engine
    // (which wasmtime compares once more), in memory that nobody else can write: never a file that could change
    // between the check and the use.
    unsafe { Component::deserialize(engine.wasmtime(), code.0) }
}

/// Makes the child of `command` enter the jail between fork and exec.
pub(crate) fn enter_jail_before_exec(command: &mut tokio::process::Command, limits: JailLimits) {
    let parent = rustix::process::getpid();
    // SAFETY: needed because what runs between fork and exec shares memory with a process whose other threads are
    // gone, possibly while they held a lock. Sound because `enter_jail` only makes direct system calls on copies it
    // owns: it takes no lock, allocates nothing and cannot panic.
    unsafe {
        command.pre_exec(move || enter_jail(limits, parent));
    }
}

/// Runs in the child between fork and exec. A step that fails makes the spawn fail.
fn enter_jail(limits: JailLimits, parent: Pid) -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    die_with(parent)?;
    for (resource, limit) in [
        (Resource::Core, 0),
        (Resource::As, limits.memory_bytes),
        (Resource::Cpu, limits.cpu_seconds),
        (Resource::Nofile, limits.open_files),
        (Resource::Fsize, limits.file_bytes),
    ] {
        lower(resource, limit)?;
    }
    close_descriptors_at_exec()
}

/// Has the system kill this process when the thread that started it ends, which is when the host does: a host that is
/// killed has no time to kill its children. Asked for first and then looked at: a host that ended in between sends nothing.
fn die_with(parent: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid() == Some(parent) {
        Ok(())
    } else {
        Err(rustix::io::Errno::SRCH.into())
    }
}

/// Sets both limits; never above what is inherited, as that needs privileges.
fn lower(resource: Resource, limit: u64) -> io::Result<()> {
    let inherited = rustix::process::getrlimit(resource).maximum;
    let limit = Some(inherited.map_or(limit, |inherited| inherited.min(limit)));
    setrlimit(
        resource,
        Rlimit {
            current: limit,
            maximum: limit,
        },
    )?;
    Ok(())
}

/// Every descriptor above standard error closes when the program starts; until then the standard library needs one to
/// report a failed start. Fails on Linux before 5.11, and then nothing is started.
fn close_descriptors_at_exec() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: needed because there is no safe wrapper for this system call. Sound because it takes three integers and
    // touches no memory, and because the flag only marks descriptors: none is closed while this process owns it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
