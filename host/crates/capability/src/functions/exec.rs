//! `aral:capability/exec`: runs a granted program to its end. Exactly the granted path and argument shapes, no shell, and
//! the jail of `aral-runtime` around it. The process group dies at the deadline and when the call is dropped, as
//! soon as the executor runs: a task of its own attends the program.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aral_contract::scope::{ArgumentPattern, ExecScope};
use aral_contract::{Limits, Permission, Permissions, PersonaId};
use aral_runtime::jail::{GroupKiller, PROGRAMS};
use aral_runtime::{JailLimits, jailed_command};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest};
use tokio::process::Child;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;
use wasmtime_wasi::runtime::spawn;

use super::{beyond, denied, held_back};
use crate::bindings::aral::capability::exec::{Host, Output, Status};
use crate::bindings::aral::capability::types::Error;
use crate::call::{PROGRAMS_MAX, sanitised};
use crate::places::Places;
use crate::state::State;

/// Largest standard input, in bytes. Stops a guest from parking data in pipes.
const STDIN_BYTES_MAX: usize = 1 << 20;
/// Address space of a program, in bytes.
const MEMORY_BYTES_MAX: u64 = 1 << 30;
/// Descriptors of a program.
const OPEN_FILES_MAX: u64 = 64;
/// Largest file that a program may write, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Longest part of a command line that is shown, in bytes.
const SHOWN_BYTES_MAX: usize = 512;
/// How long pipes may stay open behind a program that has ended, until those of its group that die with it have closed theirs. One with
/// a large memory takes a while for it.
const REST: Duration = Duration::from_secs(1);
/// Programs that all guests together run at once. Stops many calls from taking the memory and the processors of the machine
/// outside of what bounds each of them.
const PROGRAMS_AT_ONCE_MAX: usize = 64;
/// The guests of one persona may run one in so many of them. Stops those of one from keeping all others from programs.
const PROGRAMS_SHARE: usize = 4;

/// The programs that guests of a host run at once. One for each host; cheap to clone, and all clones are the same.
#[derive(Debug, Clone)]
pub struct Programs(Arc<Places>);

impl Default for Programs {
    fn default() -> Self {
        Self(Arc::new(Places::new(
            PROGRAMS_AT_ONCE_MAX,
            PROGRAMS_AT_ONCE_MAX / PROGRAMS_SHARE,
        )))
    }
}

fn covers(patterns: &[ArgumentPattern], arguments: &[String]) -> bool {
    patterns.len() == arguments.len()
        && patterns
            .iter()
            .zip(arguments)
            .all(|(pattern, argument)| pattern.covers(argument))
}

/// Whether the scope has this command.
fn is_granted(scope: Option<&ExecScope>, program: &str, arguments: &[String]) -> bool {
    scope.is_some_and(|scope| {
        let mut shapes = scope.programs.iter().filter(|one| one.path.as_str() == program);
        shapes.any(|one| covers(&one.args, arguments))
    })
}

/// As much of a text as is left to be shown.
fn short<'a>(text: &'a str, left: &mut usize) -> &'a str {
    let shown = text.get(..text.floor_char_boundary(*left)).unwrap_or_default();
    *left = left.saturating_sub(text.len());
    shown
}

/// The line that would allow this very command, as far as it is shown.
fn line(program: &str, arguments: &[String]) -> String {
    sanitised(&written(program, arguments), SHOWN_BYTES_MAX)
}

/// That line, of no more of the command than is shown: a guest chooses how long the texts are, and a refusal counts as next to no
/// computing.
fn written(program: &str, arguments: &[String]) -> String {
    let mut left = SHOWN_BYTES_MAX;
    let program = short(program, &mut left);
    let mut quoted = Vec::new();
    for argument in arguments {
        if left == 0 {
            break;
        }
        quoted.push(format!("{:?}", short(argument, &mut left)));
        // The quotes and what is between two of them.
        left = left.saturating_sub(4);
    }
    format!(
        "[permissions.exec]: programs = [{{ path = {program:?}, args = [{}] }}]",
        quoted.join(", ")
    )
}

impl Host for State {
    async fn run(
        &mut self,
        program: String,
        arguments: Vec<String>,
        stdin: Vec<u8>,
    ) -> wasmtime::Result<Result<Output, Error>> {
        let grant = &self.call.frame.grant;
        if !is_granted(grant.permissions.exec.as_ref(), &program, &arguments) {
            let what = "this program with these arguments";
            let is_cut = |cut: &Permissions| is_granted(cut.exec.as_ref(), &program, &arguments);
            let reason = held_back(grant, what, is_cut).unwrap_or_else(|| {
                let line = line(&program, &arguments);
                format!("{what} is not granted: add to capability.toml, {line}, and to the policy")
            });
            return Ok(Err(denied(&self.call, Permission::Exec, &program, &reason)));
        }
        if stdin.len() > STDIN_BYTES_MAX {
            let reason = format!("standard input has at most {STDIN_BYTES_MAX} bytes");
            return Ok(Err(beyond(&self.call, Permission::Exec, &program, reason)));
        }
        if !self.call.take_program() {
            let reason = format!("a call runs at most {PROGRAMS_MAX} programs");
            return Ok(Err(beyond(&self.call, Permission::Exec, &program, reason)));
        }
        self.call.allowed(Permission::Exec, &program);
        let span = self.call.span(Permission::Exec);
        let frame = Arc::clone(&self.call.frame);
        let running = async move {
            let (programs, grant) = (&frame.services.programs, &frame.grant);
            run(programs, &grant.persona, &program, &arguments, &stdin, &grant.limits).await
        };
        // A task of its own, which ends with this future: a guest that stands for the log is asked for nothing, and its program goes on
        // all the same, has a deadline, and needs somebody who reads what it writes.
        let mut running = spawn(running.instrument(span));
        Ok((&mut *running).await?)
    }
}

async fn run(
    programs: &Programs,
    persona: &PersonaId,
    program: &str,
    arguments: &[String],
    stdin: &[u8],
    limits: &Limits,
) -> Result<Output, Error> {
    let now = Instant::now();
    // A limit too far away to be a moment is cut to a year.
    let until = now
        .checked_add(Duration::from_millis(limits.exec_ms))
        .unwrap_or_else(|| now + Duration::from_secs(31_536_000));
    let Ok(place) = timeout_at(until, programs.0.take(persona)).await else {
        return Err(Error::Limit(format!(
            "other programs run, and none of them ended within `exec_ms`, {} ms",
            limits.exec_ms
        )));
    };
    // Until this program has ended, or nobody waits for it.
    let _place = place.ok_or_else(|| Error::Unavailable("no program is started any more".to_owned()))?;
    let limits_of_jail = JailLimits {
        memory_bytes: MEMORY_BYTES_MAX,
        cpu_seconds: limits.exec_ms.div_ceil(1000).saturating_add(1),
        open_files: OPEN_FILES_MAX,
        file_bytes: FILE_BYTES_MAX,
    };
    let mut command = jailed_command(Path::new(program), limits_of_jail);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let Ok(started) = timeout_at(until, PROGRAMS.spawn_group(command)).await else {
        tracing::warn!(program, "a granted program did not start in time");
        return Err(Error::Limit(format!(
            "the program did not start within `exec_ms`, {} ms",
            limits.exec_ms
        )));
    };
    let (group, mut child) = started.map_err(|error| {
        tracing::warn!(program, %error, "a granted program did not start");
        Error::Unavailable("the program did not start".to_owned())
    })?;
    let ended = timeout_at(until, attend(&mut child, group, stdin, limits.exec_output_bytes, until)).await;
    match ended {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) => {
            tracing::warn!(program, %error, "a granted program could not be attended");
            Err(Error::Internal("the program could not be attended".to_owned()))
        }
        Err(_) => Err(Error::Limit(format!(
            "the program ran for longer than `exec_ms`, {} ms, and was killed",
            limits.exec_ms
        ))),
    }
}

/// Feeds, reads and waits. Dropped at any point, it kills the group.
async fn attend(
    child: &mut Child,
    group: GroupKiller,
    stdin: &[u8],
    output_bytes: u64,
    until: Instant,
) -> std::io::Result<Output> {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| std::io::Error::other("the child has no number"))?;
    let exited = watch(pidfd_open(pid, PidfdFlags::NONBLOCK)?)?;
    let (input, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut stdout, mut stderr) = (Kept::default(), Kept::default());
    let budget = AtomicU64::new(output_bytes);
    {
        let feed = async {
            if let Some(mut input) = input {
                // A program that does not read its input is no failure; the pipe closes here either way.
                let _broken_pipe = input.write_all(stdin).await;
            }
        };
        let mut pipes = pin!(async {
            let ((), out, err) = tokio::join!(
                feed,
                collect(out, &budget, &mut stdout),
                collect(err, &budget, &mut stderr)
            );
            out.and(err)
        });
        let mut end = pin!(async {
            let ready = exited.readable().await.map(drop);
            // The child is a zombie now and still owns its group's number: what it left running goes with it.
            drop(group);
            ready
        });
        tokio::select! {
            biased;
            closed = &mut pipes => {
                closed?;
                end.await?;
            }
            ended = &mut end => {
                ended?;
                // All that the program wrote is in the pipes. Whoever left its group may hold them open for as long as it likes.
                let rest = timeout_at(until.min(Instant::now() + REST), pipes).await;
                rest.unwrap_or(Ok(()))?;
            }
        }
    }
    Ok(Output {
        status: status(child.wait().await?),
        truncated: !stdout.is_whole() || !stderr.is_whole(),
        stdout: stdout.bytes,
        stderr: stderr.bytes,
    })
}

/// Readable once the child has exited, and before anybody has waited for it.
#[expect(
    deprecated,
    reason = "unsound only for types that close or change their descriptor: an `OwnedFd` does neither"
)]
fn watch(process: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(process, Interest::READABLE)
}

/// What is kept of a stream.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    /// Some was thrown away.
    cut: bool,
    /// There is no more to come.
    ended: bool,
}

impl Kept {
    fn is_whole(&self) -> bool {
        self.ended && !self.cut
    }
}

/// Reads to the end, keeps what the budget of both streams still covers and throws the rest away. Dropped at any point, it has kept
/// what there was.
async fn collect(stream: Option<impl AsyncRead + Unpin>, budget: &AtomicU64, kept: &mut Kept) -> std::io::Result<()> {
    let Some(mut stream) = stream else {
        kept.ended = true;
        return Ok(());
    };
    let mut chunk = vec![0; 16 << 10];
    loop {
        let length = stream.read(&mut chunk).await?;
        let read = chunk.get(..length).unwrap_or_default();
        if read.is_empty() {
            kept.ended = true;
            return Ok(());
        }
        let left = budget.load(Ordering::Relaxed);
        let taken = read.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        kept.bytes.extend(read.iter().take(taken));
        kept.cut |= taken < read.len();
        // Both streams are read by one task: nothing happens between the load and the store.
        budget.store(
            left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX)),
            Ordering::Relaxed,
        );
    }
}

fn status(status: ExitStatus) -> Status {
    use std::os::unix::process::ExitStatusExt;
    let byte = |code: i32| u8::try_from(code).unwrap_or(u8::MAX);
    match (status.code(), status.signal()) {
        (Some(code), _) => Status::Exited(byte(code)),
        (None, Some(signal)) => Status::Signalled(byte(signal)),
        (None, None) => Status::Exited(u8::MAX),
    }
}

#[cfg(test)]
mod tests;
