//! Running programs of the host. Permission `exec`; its scope lists each program with patterns for its arguments.

use crate::bindings::aral::capability::exec as host;
use crate::{Error, Result};

/// A program to run. No shell is involved, the environment is empty and the working directory is `/`.
///
/// ```no_run
/// # fn main() -> aral_guest::Result<()> {
/// let output = aral_guest::exec::Command::new("/usr/bin/sort").argument("-n").stdin("3\n1\n2\n").run()?;
/// assert_eq!(output.stdout, b"1\n2\n3\n");
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    program: String,
    arguments: Vec<String>,
    stdin: Vec<u8>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// By itself, with this code.
    Exited(u8),
    /// By this signal.
    Signalled(u8),
}

/// What a program left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: Status,
    /// Standard output, cut at the host's limit.
    pub stdout: Vec<u8>,
    /// Standard error, cut likewise.
    pub stderr: Vec<u8>,
    /// Whether either was cut: at that limit, or because somebody whom the program left behind still had it open.
    pub truncated: bool,
}

impl Command {
    /// A program by its absolute path.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            stdin: Vec::new(),
        }
    }

    /// Adds one argument, passed as it stands.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn arguments<T: Into<String>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// What the program reads from standard input; nothing unless set.
    #[must_use]
    pub fn stdin(mut self, stdin: impl Into<Vec<u8>>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Runs the program to its end. A program that fails is an [`Output`] with its status, not an error.
    ///
    /// # Errors
    /// [`Error::Denied`] if the manifest entry does not list the program with these arguments; [`Error::Limit`] if it
    /// was ended at its deadline.
    pub fn run(&self) -> Result<Output> {
        if cfg!(not(target_family = "wasm")) {
            return Err(Error::outside_host());
        }
        let output = host::run(&self.program, &self.arguments, &self.stdin)?;
        Ok(Output {
            status: match output.status {
                host::Status::Exited(code) => Status::Exited(code),
                host::Status::Signalled(signal) => Status::Signalled(signal),
            },
            stdout: output.stdout,
            stderr: output.stderr,
            truncated: output.truncated,
        })
    }
}
