//! Taking variables out of the environment: their values are copied out, and overwritten where the system keeps them, so
//! that neither `/proc/PID/environ`, nor a child process, nor a library can read them later. It knows no names: who starts
//! the process says which variables hold secrets.

#[cfg(test)]
mod tests;

use std::path::Path;

use aral_contract::SecretValue;

use crate::danger::{self, InitialEnvironment};
use crate::files::{self, FilesError};

/// More than `/proc/self/stat` and `/proc/self/status` ever have.
const STATUS_BYTES_MAX: u64 = 64 << 10;
/// More than a process can be started with: the system gives arguments and environment 6 MiB at most.
const ENVIRONMENT_BYTES_MAX: usize = 6 << 20;
/// Where `env_start` stands in `/proc/PID/stat`, counted after the name of the program: it is field 50 there.
const ENV_START: usize = 47;

/// Variables cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// Another thread could read the environment while it is overwritten, or have a copy of it already.
    #[error("secrets can be taken from the environment while there is one thread, and there are {threads}")]
    Threads {
        /// How many there are.
        threads: u64,
    },
    /// No variable can have this name.
    #[error("`{}` is no name of a variable: 1 to 128 of A-Z a-z 0-9 _ and no digit first", .0.escape_debug())]
    Name(String),
    /// The system does not say how many threads there are.
    #[error("the system does not say how many threads there are, or where it keeps the environment")]
    Unknown(#[source] Option<FilesError>),
}

/// Copies the values of these variables out, overwrites them in place and removes them. What is not set, or is empty, is
/// left out of the answer. Nobody but the caller has the values afterwards.
///
/// # Errors
/// [`EnvironmentError`]; nothing has been taken then. Call it first in `main`: once there is a second thread, it refuses.
#[expect(
    clippy::disallowed_methods,
    reason = "this module takes secrets out of the environment"
)]
pub fn take_variables<'a>(
    names: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<(String, SecretValue)>, EnvironmentError> {
    let names: Vec<&str> = names.into_iter().collect();
    if let Some(bad) = names.iter().find(|name| !is_name(name)) {
        return Err(EnvironmentError::Name(bad.chars().take(128).collect()));
    }
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let threads = threads()?;
    if threads != 1 {
        return Err(EnvironmentError::Threads { threads });
    }
    let environment = initial_environment()?;
    let mut taken = Vec::with_capacity(names.len());
    for name in names {
        let value = std::env::var_os(name).filter(|value| !value.is_empty());
        danger::erase_variable(&environment, name);
        taken.extend(value.map(|value| (name.to_owned(), SecretValue::new(value.into_encoded_bytes()))));
    }
    Ok(taken)
}

fn is_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit())
}

/// How many threads this process has.
fn threads() -> Result<u64, EnvironmentError> {
    let status = read("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    line.and_then(|count| count.trim().parse().ok())
        .ok_or(EnvironmentError::Unknown(None))
}

/// Where the system has put the environment. Asked for when there is one thread alone.
fn initial_environment() -> Result<InitialEnvironment, EnvironmentError> {
    let stat = read("/proc/self/stat")?;
    let range = parse_range(&stat).ok_or(EnvironmentError::Unknown(None))?;
    Ok(InitialEnvironment::of_single_thread(range))
}

/// The name of the program stands in brackets and may hold anything, brackets and blanks too.
fn parse_range(stat: &str) -> Option<std::ops::Range<usize>> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(ENV_START);
    let start: usize = fields.next()?.parse().ok()?;
    let end: usize = fields.next()?.parse().ok()?;
    let bytes = end.checked_sub(start)?;
    (start != 0 && (1..=ENVIRONMENT_BYTES_MAX).contains(&bytes)).then_some(start..end)
}

fn read(path: &str) -> Result<String, EnvironmentError> {
    let bytes =
        files::read_path(Path::new(path), STATUS_BYTES_MAX).map_err(|error| EnvironmentError::Unknown(Some(error)))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
