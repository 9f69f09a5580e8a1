//! The single checks. Each looks at one thing and says what would mend it.

use std::path::{Path, PathBuf};
use std::process::Command;

use aral_capability::manifest::{self, ManifestBody};
use aral_contract::document::Verified;
use aral_contract::{Clock as _, Failure, Metering};
use aral_host::{Earlier, Warning};
use aral_runtime::{Runtime, RuntimeError, RuntimeOptions, SystemClock, files};
use jiff::Timestamp;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::Check;
use crate::cli::build::TARGET;
use crate::cli::configured::{Configured, absent_manifest};
use crate::cli::manifest::verify::{COMPONENTS, component};
use crate::cli::session;

/// Linux that walks the dirty pages of a pool slot without faulting (`PAGEMAP_SCAN`), so that resetting one is cheap.
const PAGEMAP_SCAN_SINCE: (u32, u32) = (6, 7);
/// Days before a manifest, a persona or a key expires at which it is time to replace it.
pub(super) const EXPIRES_SOON_DAYS: i64 = 14;

/// The file was read, so that its owner and mode are right already.
pub(crate) fn configuration(configured: &Configured) -> Check {
    match configured.path() {
        Some(path) => Check::ok(
            "configuration",
            format!("`{}` is readable, and only its owner may write it", path.display()),
        ),
        None => Check::warn(
            "configuration",
            "there is none: the built-in defaults allow nothing",
            "write an aral.toml with [[trust]] and [policy], or give `--config FILE`",
        ),
    }
}

/// Each by itself, and then together.
pub(crate) fn manifests(configured: &Configured, earlier: Option<&Earlier>) -> Vec<Check> {
    let now = SystemClock::new().now();
    let (mut all, mut named) = (Vec::new(), Vec::new());
    for path in &configured.config.manifests {
        let read = read_manifest(configured, earlier, path, now);
        all.push(one_manifest(path, &read, now));
        named.extend(read.ok().map(|verified| (path.clone(), verified)));
    }
    let refused = aral_host::refuse_older_issues(&named).err();
    all.extend(refused.map(|failure| Check::failed("manifest", failure, "name one of them alone in [manifests]")));
    all
}

fn read_manifest(
    configured: &Configured,
    earlier: Option<&Earlier>,
    path: &Path,
    now: Timestamp,
) -> Result<Verified<ManifestBody>, Failure> {
    if crate::cli::files::is_absent(path) {
        return Err(absent_manifest());
    }
    let verified = manifest::verify(&crate::cli::files::document(path)?, configured.trust(), now)?;
    let components = path.with_file_name(COMPONENTS);
    session::registry().admit(&verified, &|entry| component(&components, entry))?;
    earlier.map_or(Ok(()), |earlier| earlier.check_manifest(&verified))?;
    Ok(verified)
}

fn one_manifest(path: &Path, read: &Result<Verified<ManifestBody>, Failure>, now: Timestamp) -> Check {
    let shown = path.display();
    match read {
        Ok(verified) => {
            let expires_at = verified.header.expires_at;
            let days = expires_at.duration_since(now).as_hours() / 24;
            let count = verified.body.capabilities().len();
            let detail = format!("`{shown}` is valid for {days} days; capabilities in it: {count}");
            if days < EXPIRES_SOON_DAYS {
                Check::warn(
                    "manifest",
                    detail,
                    format!("sign it again: `aral manifest sign {shown} --key KEY.pem`"),
                )
            } else {
                Check::ok("manifest", detail)
            }
        }
        Err(failure) => Check::failed(
            "manifest",
            failure.clone().in_file(path),
            // In the same folder, as the components come to lie beside it.
            format!(
                "build it again from all its folders, and sign it: `aral manifest build FOLDER… --out {new}`, \
                 `aral manifest sign {new} --key KEY.pem`, `mv {new} {shown}`",
                new = path.with_file_name("NEW.json").display()
            ),
        ),
    }
}

/// The folders below which capabilities may read and write, and the programs that they may run. One that is not there is no fault as long
/// as nobody needs it.
pub(crate) fn roots(configured: &Configured) -> Vec<Check> {
    let policy = &configured.config.policy;
    let mut all = Vec::new();
    for (key, roots) in [("read_roots", &policy.read_roots), ("write_roots", &policy.write_roots)] {
        for root in roots.iter().map(|root| root.as_str()) {
            if !crate::cli::files::is_folder(Path::new(root)).unwrap_or(false) {
                all.push(Check::warn(
                    "roots",
                    format!(
                        "[policy.file] {key}: `{root}` is no folder that can be opened: no capability gets a file of it"
                    ),
                    "make the folder, or take it out of aral.toml",
                ));
            }
        }
    }
    for program in &policy.programs {
        let path = program.path.as_str();
        if crate::cli::files::is_absent(Path::new(path)) {
            all.push(Check::warn(
                "exec",
                format!("[policy.exec] programs: `{path}` is not there: no capability runs it"),
                "install it, or correct its path in aral.toml",
            ));
        }
    }
    all
}

/// Lines that may hold for something else than was meant.
pub(crate) fn odd(configured: &Configured) -> Vec<Check> {
    let lines = configured.config.odd_lines().into_iter();
    lines
        .map(|Warning { message, hint }| Check::warn("lines", message, hint))
        .collect()
}

/// The folder of the serials, the cache's key and the cache. And what the first of them says of earlier runs, where it can be read.
pub(super) fn state(configured: &Configured) -> (Check, Option<Earlier>) {
    let config = &configured.config;
    let Some(directory) = &config.state_dir else {
        let nowhere = Check::warn(
            "state",
            "nothing is kept: every process compiles anew and forgets the serials of manifests",
            "set HOME, or in aral.toml: state_dir = \"/var/lib/aral\"",
        );
        return (nowhere, None);
    };
    let writable = |path: &Path, key: &str| {
        let made = files::create_private_dir(path);
        let tried = made.and_then(|dir| probe(&dir).map_err(|error| error.below(path)));
        tried.map_err(|error| unwritable(error, key))
    };
    let (cache, key) = match &config.cache_dir {
        Some(cache) => (cache.clone(), "[runtime]: cache_dir"),
        None => (directory.join("cache"), "state_dir"),
    };
    if let Err(check) = writable(directory, "state_dir").and_then(|()| writable(&cache, key)) {
        return (check, None);
    }
    let earlier = aral_host::check_cache(config).and_then(|()| Earlier::read(directory));
    match earlier {
        Ok(earlier) => {
            let detail = format!("`{}` and its cache are writable and private", directory.display());
            (Check::ok("state", detail), Some(earlier))
        }
        Err(failure) => {
            let otherwise = "make the folder yours alone, or name another: state_dir";
            (Check::failed("state", failure, otherwise), None)
        }
    }
}

/// What is wrong with the folder that this key names.
fn unwritable(error: files::FilesError, key: &str) -> Check {
    let fix = if error.is_of_disk() {
        format!("make room on its disk, or mount it for writing; or name a folder elsewhere: {key}")
    } else {
        format!("make the folder yours alone, or name another: {key}")
    };
    let fix = error.fix().unwrap_or(fix);
    Check::fail("state", crate::cli::files::failure(error).message, fix)
}

/// Whether instances can come from a pool of the configured size.
pub(super) fn pool(configured: &Configured) -> Check {
    let options = RuntimeOptions {
        allocation: configured.config.allocation,
        concurrent_calls_max: configured.config.gate.concurrent_max,
        ..RuntimeOptions::default()
    };
    let fail = |error: RuntimeError| {
        Check::fail(
            "pool",
            error.to_string(),
            "lower [runtime] concurrent_calls_max in aral.toml",
        )
    };
    let runtime = match Runtime::new(options) {
        Ok(runtime) => runtime,
        Err(error) => return fail(error),
    };
    match runtime.engine(Metering::Metered) {
        Ok(engine) if engine.is_pooled() => Check::ok("pool", "instances come from a pool"),
        Ok(_) => Check::warn(
            "pool",
            "instances are made on demand, which takes longer",
            "allow more address space (`ulimit -v unlimited`), and in aral.toml, [runtime]: allocation = \"auto\"",
        ),
        Err(error) => fail(error),
    }
}

fn probe(dir: &cap_std::fs::Dir) -> Result<(), files::FilesError> {
    // Another process may look at the same folder.
    let name = format!("doctor-probe-{}", std::process::id());
    files::write_atomic(dir, &name, b"", 0o600)?;
    dir.remove_file(&name).map_err(|source| files::FilesError::Io {
        action: "remove",
        path: PathBuf::from(&name),
        source,
    })
}

/// What the kernel can do, and lets this process do: a sandbox around the host may forbid what its release has.
pub(crate) fn machine() -> Vec<Check> {
    vec![paths(ask_openat2()), programs(ask_pidfd_open()), pagemap_scan()]
}

fn ask_openat2() -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(CWD, "/", flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS).map(drop)
}

fn ask_pidfd_open() -> rustix::io::Result<()> {
    pidfd_open(getpid(), PidfdFlags::NONBLOCK).map(drop)
}

/// Whether the kernel follows the paths of guests. Else the host does.
fn paths(asked: rustix::io::Result<()>) -> Check {
    match asked {
        Ok(()) => Check::ok("paths", "the kernel follows the paths of guests (openat2)"),
        Err(error) => Check::warn(
            "paths",
            format!(
                "the kernel does not follow the paths of guests (openat2: {error}): the host does, which takes longer and many \
                 descriptors"
            ),
            "use Linux 5.6 or later, and allow openat2 in the sandbox around the host; or raise `open_files_max` in [process] of \
             aral.toml by 8192",
        ),
    }
}

/// Whether programs can be watched. None is run otherwise.
fn programs(asked: rustix::io::Result<()>) -> Check {
    match asked {
        Ok(()) => Check::ok("programs", "the kernel says when a program ends (pidfd_open)"),
        Err(error) => Check::fail(
            "programs",
            format!("the kernel does not say when a program ends (pidfd_open: {error}): capabilities can run none"),
            "use Linux 5.10 or later, and allow pidfd_open in the sandbox around the host",
        ),
    }
}

fn pagemap_scan() -> Check {
    let text = crate::cli::files::text(Path::new("/proc/sys/kernel/osrelease")).unwrap_or_default();
    let shown = text.trim();
    match release(&text) {
        None => Check::warn("pagemap scan", "the kernel's release is not known", "mount /proc"),
        Some(release) if release >= PAGEMAP_SCAN_SINCE => Check::ok(
            "pagemap scan",
            format!("Linux {shown} resets pool slots by scanning their dirty pages"),
        ),
        Some(_) => Check::warn(
            "pagemap scan",
            format!("Linux {shown} lacks it: calls take longer"),
            "use Linux 6.7 or later",
        ),
    }
}

/// The first two numbers of a release such as `6.12.0-rc1`.
fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether capabilities can be built here. A host that only runs them does not need it.
pub(crate) fn target() -> Check {
    let fix =
        format!("to build capabilities: `rustup target add {TARGET}`, or `cargo xtask guests` in the Aral repository");
    let asked = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output();
    let folder = match asked {
        Ok(answer) if answer.status.success() => PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim()),
        Ok(_) | Err(_) => return Check::warn("target", "rustc is not there, or does not know wasm32-wasip2", fix),
    };
    let has_std = files::open_root(&folder)
        .and_then(|dir| files::list(&dir, 1000))
        .is_ok_and(|listing| listing.files.iter().any(|file| file.name.starts_with("libstd-")));
    if has_std {
        Check::ok("target", format!("{TARGET} is installed: capabilities can be built"))
    } else {
        Check::warn("target", format!("{TARGET} is not installed"), fix)
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::super::Status;
    use super::*;

    #[test]
    fn what_the_kernel_does_not_let_this_process_do_is_told_whatever_its_release_is() {
        // What they ask is well formed, wherever this runs.
        for asked in [ask_openat2(), ask_pidfd_open()] {
            assert!(matches!(asked, Ok(()) | Err(Errno::PERM | Errno::NOSYS)), "{asked:?}");
        }
        assert_eq!(paths(Ok(())).status, Status::Ok);
        assert_eq!(programs(Ok(())).status, Status::Ok);
        for error in [Errno::PERM, Errno::NOSYS] {
            let told = paths(Err(error));
            assert_eq!(told.status, Status::Warn, "it works, with more descriptors");
            assert!(told.detail.contains(&error.to_string()), "{}", told.detail);
            assert!(told.fix.unwrap().contains("open_files_max"));
            let told = programs(Err(error));
            assert_eq!(told.status, Status::Fail, "no program runs");
            assert!(told.detail.contains(&error.to_string()), "{}", told.detail);
        }
    }

    #[test]
    fn the_descriptors_to_add_are_those_of_the_document() {
        let document = include_str!("../../../../docs/defaults.md");
        let fix = paths(Err(Errno::PERM)).fix.unwrap();
        assert!(fix.contains("by 8192") && document.contains("raise `open_files_max` by 8192"));
    }

    #[test]
    fn releases() {
        for (text, expected) in [
            ("6.12.0-rc1\n", Some((6, 12))),
            ("5.10", Some((5, 10))),
            ("6.7-generic", Some((6, 7))),
            ("", None),
            ("linux", None),
        ] {
            assert_eq!(release(text), expected, "{text:?}");
        }
        assert!((6, 12) >= PAGEMAP_SCAN_SINCE && (5, 19) < PAGEMAP_SCAN_SINCE);
    }
}
