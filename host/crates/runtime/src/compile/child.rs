//! The compiler's child process, both ends. The parent writes one line with what is to be done and then the component to the
//! child's standard input, and reads one byte that tells success from refusal and then code or text from its standard
//! output. The child has no environment, no descriptor but these, and limits that it inherits.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use aral_contract::Metering;
use aral_contract::limits::{COMPILE_MEMORY_BYTES_MAX, COMPONENT_BYTES_MAX};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Child;

use super::{CompileError, precompile};
use crate::admit;
use crate::engine::{CodeSettings, MemoryLayout};
use crate::jail::{COMPILERS, JailLimits, jailed_command};

/// Largest code of one component, in bytes. Stops a component whose code is many times its own size.
pub(crate) const CODE_BYTES_MAX: u64 = 256 << 20;
/// Processor time of one compilation, in seconds, all threads together.
const COMPILE_CPU_SECONDS_MAX: u64 = 60;
/// Threads of one compilation: each takes address space, of which there is [`COMPILE_MEMORY_BYTES_MAX`].
const COMPILE_THREADS_MAX: usize = 4;
/// Text that the parent takes from a child that refused, in bytes.
const MESSAGE_BYTES_MAX: u64 = 4096;
/// First byte of an answer with code, or with what was found.
const CODE: u8 = b'+';
/// First byte of an answer with text: the component is not valid.
const INVALID: u8 = b'!';
/// First byte of an answer with text: the compiler refused it.
const REFUSED: u8 = b'-';

/// What a child is to do, and what it may take for that.
pub(super) struct Order<'a> {
    pub(super) program: &'a Path,
    pub(super) args: &'a [String],
    pub(super) memory_bytes: u64,
    pub(super) cpu_seconds: u64,
    pub(super) timeout_ms: u64,
    /// Largest answer that is taken, in bytes.
    pub(super) answer_bytes: u64,
    /// The line before the component.
    pub(super) header: &'a str,
    pub(super) component: &'a [u8],
}

/// Has the child compile.
pub(super) async fn compile(
    program: &Path,
    args: &[String],
    timeout_ms: u64,
    settings: CodeSettings,
    component: &[u8],
) -> Result<Vec<u8>, CompileError> {
    let order = Order {
        program,
        args,
        memory_bytes: COMPILE_MEMORY_BYTES_MAX,
        cpu_seconds: COMPILE_CPU_SECONDS_MAX,
        timeout_ms,
        answer_bytes: CODE_BYTES_MAX,
        header: &header(settings),
        component,
    };
    ask(&order).await
}

/// Starts a child and has it do what is to be done.
pub(super) async fn ask(order: &Order<'_>) -> Result<Vec<u8>, CompileError> {
    let limits = JailLimits {
        memory_bytes: order.memory_bytes,
        cpu_seconds: order.cpu_seconds,
        open_files: 16,
        file_bytes: 0,
    };
    let mut command = jailed_command(order.program, limits);
    command.args(order.args).stdin(Stdio::piped()).stdout(Stdio::piped());
    let answered = async {
        let mut child = COMPILERS.spawn(command).await.map_err(CompileError::Child)?;
        converse(&mut child, order).await
    };
    let timeout_ms = order.timeout_ms;
    // Dropping the child, here or because the caller gave up, kills it.
    tokio::time::timeout(Duration::from_millis(timeout_ms), answered)
        .await
        .map_err(|_| CompileError::Timeout { timeout_ms })?
}

async fn converse(child: &mut Child, order: &Order<'_>) -> Result<Vec<u8>, CompileError> {
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(CompileError::Protocol {
            message: "it has no pipes".to_owned(),
        });
    };
    let send = async move {
        // A child that dies early breaks the pipe; how it died says more than that.
        if stdin.write_all(order.header.as_bytes()).await.is_ok() && stdin.write_all(order.component).await.is_ok() {
            let _broken = stdin.shutdown().await;
        }
    };
    let receive = async move {
        let mut answer = Vec::new();
        stdout
            .take(order.answer_bytes.saturating_add(2))
            .read_to_end(&mut answer)
            .await
            .map(|_| answer)
    };
    let ((), answer) = tokio::join!(send, receive);
    let answer = answer.map_err(CompileError::Child)?;
    if answer.len() as u64 > order.answer_bytes.saturating_add(1) {
        return Err(CompileError::CodeTooLarge {
            bytes_max: order.answer_bytes,
        });
    }
    let status = child.wait().await.map_err(CompileError::Child)?;
    match std::os::unix::process::ExitStatusExt::signal(&status) {
        Some(signal) if is_from_outside(signal) => Err(CompileError::Ended { signal }),
        Some(signal) => Err(CompileError::Killed { signal }),
        None => understand(answer, status.success()),
    }
}

/// Whether no limit and no crash ends a process with this signal. Whoever ends the host, or has it read its configuration again, may send
/// it to its children, too.
fn is_from_outside(signal: i32) -> bool {
    let sent = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];
    sent.iter().any(|one| one.as_raw() == signal)
}

fn understand(mut answer: Vec<u8>, ended_well: bool) -> Result<Vec<u8>, CompileError> {
    let kind = if ended_well && !answer.is_empty() {
        answer.remove(0)
    } else {
        0
    };
    if kind == CODE {
        return Ok(answer);
    }
    answer.truncate(usize::try_from(MESSAGE_BYTES_MAX).unwrap_or(usize::MAX));
    let message = String::from_utf8_lossy(&answer).into_owned();
    match kind {
        INVALID => Err(CompileError::Invalid { message }),
        REFUSED => Err(CompileError::Refused { message }),
        _ => Err(CompileError::Protocol { message }),
    }
}

/// What looks at a component in the child, for [`super::look()`]. It is handed in, as this layer knows neither imports nor exports: its
/// answer is whatever the two who ask and answer agree on.
pub type Inspector = fn(&[u8]) -> Vec<u8>;

/// The child: reads what is to be done and a component from standard input, writes code, what was found, or a refusal to standard
/// output. For the program that [`super::CompilerKind::Child`] names to call, with nothing done before and nothing after.
pub fn child_main(inspector: Inspector) -> ExitCode {
    let mut input = Vec::new();
    let input_bytes_max = (COMPONENT_BYTES_MAX + HEADER_BYTES_MAX) as u64;
    if std::io::stdin()
        .lock()
        .take(input_bytes_max)
        .read_to_end(&mut input)
        .is_err()
    {
        return ExitCode::FAILURE;
    }
    if let Some(component) = input.strip_prefix(LOOK_HEADER.as_bytes()) {
        return say(CODE, &inspector(component));
    }
    let Some((settings, component)) = parse_header(&input) else {
        return ExitCode::FAILURE;
    };
    // A pool that exists already is a smaller one: then this fails, and nothing is lost.
    let _exists = rayon::ThreadPoolBuilder::new()
        .num_threads(COMPILE_THREADS_MAX.min(threads()))
        .build_global();
    let (kind, answer) = match admit::glance(component)
        .and_then(|()| admit::validate(component, settings.memory))
        .and_then(|()| precompile(settings, component))
    {
        Ok(code) => (CODE, code),
        Err(CompileError::Invalid { message }) => (INVALID, message.into_bytes()),
        Err(CompileError::Refused { message }) => (REFUSED, message.into_bytes()),
        Err(other) => (REFUSED, other.to_string().into_bytes()),
    };
    say(kind, &answer)
}

fn say(kind: u8, answer: &[u8]) -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(&[kind])
        .and_then(|()| stdout.write_all(answer))
        .and_then(|()| stdout.flush())
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

const HEADER_BYTES_MAX: usize = 64;

/// The line of who wants a component looked at and not compiled.
pub(super) const LOOK_HEADER: &str = "aral-inspect/1\n";

fn header(settings: CodeSettings) -> String {
    let metering = match settings.metering {
        Metering::Metered => "metered",
        Metering::EpochOnly => "epoch-only",
    };
    let memory = match settings.memory {
        MemoryLayout::Reserved => "reserved",
        MemoryLayout::Checked => "checked",
    };
    format!("aral-compile/1 {metering} {memory}\n")
}

fn parse_header(input: &[u8]) -> Option<(CodeSettings, &[u8])> {
    for metering in [Metering::Metered, Metering::EpochOnly] {
        for memory in [MemoryLayout::Reserved, MemoryLayout::Checked] {
            let settings = CodeSettings { metering, memory };
            if let Some(component) = input.strip_prefix(header(settings).as_bytes()) {
                return Some((settings, component));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_to_a_whole_group_of_processes_is_told_from_what_a_limit_or_a_crash_ends() {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
            assert!(is_from_outside(signal.as_raw()), "{signal:?}");
        }
        for signal in [
            Signal::KILL,
            Signal::ABORT,
            Signal::SEGV,
            Signal::BUS,
            Signal::ILL,
            Signal::XCPU,
            Signal::XFSZ,
        ] {
            assert!(!is_from_outside(signal.as_raw()), "{signal:?}");
        }
    }
}
