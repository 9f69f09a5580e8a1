//! All unsafe code of the host: few blocks, each with why it is needed and why it is sound. It decides nothing; what
//! goes in here has been checked by a type that only the checker can make.
#![expect(unsafe_code, reason = "the one module of the host that may")]

use std::io;
use std::ops::Range;
use std::ptr::{self, NonNull};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use rustix::process::{Pid, Resource, Rlimit, Signal, setrlimit};
use wasmtime::component::Component;
use zeroize::Zeroize as _;

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
    // What this process ignores is not for its children to ignore.
    signal(libc::SIGXFSZ, libc::SIG_DFL);
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

/// A write beyond the largest size of a file is an error of this process from now on, and not its end.
pub(crate) fn outlive_large_files() {
    signal(libc::SIGXFSZ, libc::SIG_IGN);
}

/// Does with a signal what the system does by itself, or nothing.
fn signal(signal: libc::c_int, disposition: libc::sighandler_t) {
    // SAFETY: needed because there is no safe wrapper for this system call. Sound because it installs no handler, so that no code of ours
    // ever runs in one, and touches no memory; it may be called between fork and exec.
    unsafe {
        libc::signal(signal, disposition);
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

/// Where the system has put the strings of this process's environment, while no other thread can look at them.
pub(crate) struct InitialEnvironment(Range<usize>);

impl InitialEnvironment {
    /// The range that `/proc/self/stat` names, asked for by the only thread of this process.
    pub(crate) fn of_single_thread(range: Range<usize>) -> Self {
        Self(range)
    }
}

/// Overwrites the value of a variable wherever it stands in the initial environment, and removes the variable.
#[expect(
    clippy::disallowed_methods,
    reason = "taking a secret out of the environment changes it"
)]
pub(crate) fn erase_variable(environment: &InitialEnvironment, name: &str) {
    let start = std::ptr::with_exposed_provenance_mut::<u8>(environment.0.start);
    // SAFETY: needed because the system shows this memory to others, in `/proc/PID/environ`, for as long as the process
    // lives, and no safe code can reach it. Sound because the range is the one in which the system itself has put the
    // strings at the start: initialised, on the first thread's stack, which can be written and is never given back.
    // The caller is the only thread, so that nobody reads it meanwhile; the standard library keeps no reference into it
    // from one call to the next; and a string only gets zeros, so that it ends where it ended or earlier.
    let block = unsafe { std::slice::from_raw_parts_mut(start, environment.0.len()) };
    for entry in block.split_mut(|byte| *byte == 0) {
        if entry.starts_with(name.as_bytes()) && entry.get(name.len()) == Some(&b'=') {
            entry
                .iter_mut()
                .skip(name.len())
                .skip(1)
                .for_each(|byte| byte.zeroize());
        }
    }
    // SAFETY: needed because another thread could be reading the environment while it changes. Sound because an
    // `InitialEnvironment` is made by the only thread of the process, which is here.
    unsafe { std::env::remove_var(name) };
}
/// Bytes of one [`LockedPage`]: the smallest page of every system that the host runs on.
pub(crate) const LOCKED_PAGE_BYTES: usize = 4096;

/// One page of its own that is kept out of swap (where the system allows it) and out of core dumps, and erased when dropped.
pub(crate) struct LockedPage {
    page: NonNull<[u8; LOCKED_PAGE_BYTES]>,
    locked: bool,
}

impl LockedPage {
    /// A page of zeros.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: needed because nothing safe gives memory whose pages belong to it alone. Sound because the system
        // chooses the address of a new mapping, so that it overlaps nothing that anybody else uses.
        let start = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                LOCKED_PAGE_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        let page = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: needed because both calls take a plain address. Sound because the range is the mapping that was just
        // made and that only this value knows; neither call changes its content.
        let (locked, hidden) = unsafe {
            (
                mlock(start, LOCKED_PAGE_BYTES).is_ok(),
                madvise(start, LOCKED_PAGE_BYTES, Advice::LinuxDontDump),
            )
        };
        let page = Self { page, locked };
        hidden?;
        Ok(page)
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.locked
    }

    pub(crate) fn bytes(&self) -> &[u8; LOCKED_PAGE_BYTES] {
        // SAFETY: needed to read a mapping. Sound because it is mapped, initialised (the system fills it with zeros) and
        // aligned for as long as this value lives, and writing it takes `&mut self`.
        unsafe { self.page.as_ref() }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; LOCKED_PAGE_BYTES] {
        // SAFETY: as for `bytes`; `&mut self` makes this the only reference.
        unsafe { self.page.as_mut() }
    }
}

impl Drop for LockedPage {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        // SAFETY: needed because unmapping is what ends a mapping. Sound because no reference outlives `self`, which is
        // going, and the length is that of the mapping. Locks end with it.
        let _the_page_is_empty_either_way = unsafe { munmap(self.page.as_ptr().cast(), LOCKED_PAGE_BYTES) };
    }
}

// SAFETY: needed because a pointer is neither by default. Sound because the value owns its mapping alone, like a `Box`,
// reads take `&self` and writes `&mut self`.
unsafe impl Send for LockedPage {}
// SAFETY: as above.
unsafe impl Sync for LockedPage {}
