//! Why a call failed, in the five kinds of the ABI, and how the errors of other libraries become one of them. The text is
//! for the caller: what belongs to the operator only goes to [`log`](crate::log).

use std::fmt;
use std::io::ErrorKind;

use crate::bindings::aral::capability::types;

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed. The text never holds a secret or a stack trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The caller sent something that cannot be served. Sending the same again fails again.
    InvalidInput(String),
    /// A permission is missing, or its scope does not reach this far.
    Denied(String),
    /// The service behind the call does not answer now. The same call may succeed later.
    Unavailable(String),
    /// A named limit is used up: a size, a count, a quota or a deadline.
    Limit(String),
    /// The capability is at fault.
    Internal(String),
}

impl Error {
    /// The caller sent something that cannot be served.
    pub fn invalid_input(text: impl Into<String>) -> Self {
        Self::InvalidInput(text.into())
    }

    /// A permission is missing.
    pub fn denied(text: impl Into<String>) -> Self {
        Self::Denied(text.into())
    }

    /// The service behind the call does not answer now.
    pub fn unavailable(text: impl Into<String>) -> Self {
        Self::Unavailable(text.into())
    }

    /// A limit is used up.
    pub fn limit(text: impl Into<String>) -> Self {
        Self::Limit(text.into())
    }

    /// The capability is at fault.
    pub fn internal(text: impl Into<String>) -> Self {
        Self::Internal(text.into())
    }

    /// The text, without the kind.
    pub fn text(&self) -> &str {
        match self {
            Self::InvalidInput(text)
            | Self::Denied(text)
            | Self::Unavailable(text)
            | Self::Limit(text)
            | Self::Internal(text) => text,
        }
    }

    fn with_text(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::InvalidInput(text) => Self::InvalidInput(change(text)),
            Self::Denied(text) => Self::Denied(change(text)),
            Self::Unavailable(text) => Self::Unavailable(change(text)),
            Self::Limit(text) => Self::Limit(change(text)),
            Self::Internal(text) => Self::Internal(change(text)),
        }
    }

    /// What a call to the host answers on the build machine, where there is no host.
    pub(crate) fn outside_host() -> Self {
        Self::unavailable("there is no host to ask: this is not running inside the sandbox")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::InvalidInput(_) => "invalid input",
            Self::Denied(_) => "denied",
            Self::Unavailable(_) => "unavailable",
            Self::Limit(_) => "limit",
            Self::Internal(_) => "internal error",
        };
        write!(f, "{kind}: {}", self.text())
    }
}

impl std::error::Error for Error {}

/// Puts what was being done in front of an error's text; the kind stays.
///
/// ```
/// use aral_guest::{Context, Error};
/// let error = "x".parse::<u16>().context(|| "reading `port`").unwrap_err();
/// assert_eq!(error, Error::invalid_input("reading `port`: invalid digit found in string"));
/// ```
pub trait Context<T> {
    /// Puts `doing()` and a colon in front of the text.
    ///
    /// # Errors
    /// The error that was there, with the longer text.
    fn context<C: fmt::Display>(self, doing: impl FnOnce() -> C) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn context<C: fmt::Display>(self, doing: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|error| error.into().with_text(|text| format!("{}: {text}", doing())))
    }
}

impl From<types::Error> for Error {
    fn from(error: types::Error) -> Self {
        match error {
            types::Error::InvalidInput(text) => Self::InvalidInput(text),
            types::Error::Denied(text) => Self::Denied(text),
            types::Error::Unavailable(text) => Self::Unavailable(text),
            types::Error::Limit(text) => Self::Limit(text),
            types::Error::Internal(text) => Self::Internal(text),
        }
    }
}

impl From<Error> for types::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidInput(text) => Self::InvalidInput(text),
            Error::Denied(text) => Self::Denied(text),
            Error::Unavailable(text) => Self::Unavailable(text),
            Error::Limit(text) => Self::Limit(text),
            Error::Internal(text) => Self::Internal(text),
        }
    }
}

/// By what the caller can do about it: name another file, ask for a permission, come again, ask for less.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let text = error.to_string();
        match error.kind() {
            ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidData
            | ErrorKind::InvalidFilename
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
            | ErrorKind::DirectoryNotEmpty
            | ErrorKind::UnexpectedEof => Self::InvalidInput(text),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::Denied(text),
            ErrorKind::TimedOut
            | ErrorKind::Interrupted
            | ErrorKind::WouldBlock
            | ErrorKind::ResourceBusy
            | ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::BrokenPipe => Self::Unavailable(text),
            ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::FileTooLarge
            | ErrorKind::OutOfMemory
            | ErrorKind::ArgumentListTooLong => Self::Limit(text),
            _ => Self::Internal(text),
        }
    }
}

/// JSON that does not parse came from outside; JSON that cannot be read at all is a fault of the reader.
impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        match error.classify() {
            serde_json::error::Category::Io => Self::Internal(error.to_string()),
            serde_json::error::Category::Syntax
            | serde_json::error::Category::Data
            | serde_json::error::Category::Eof => Self::InvalidInput(error.to_string()),
        }
    }
}

macro_rules! from_display {
    ($($source:ty => $kind:ident),* $(,)?) => {$(
        impl From<$source> for Error {
            fn from(error: $source) -> Self {
                Self::$kind(error.to_string())
            }
        }
    )*};
}

from_display! {
    std::num::ParseIntError => InvalidInput,
    std::num::ParseFloatError => InvalidInput,
    std::num::TryFromIntError => InvalidInput,
    std::str::Utf8Error => InvalidInput,
    std::string::FromUtf8Error => InvalidInput,
    std::fmt::Error => Internal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_errors_by_what_the_caller_can_do() {
        fn check(kind: ErrorKind, expected: fn(String) -> Error) {
            let error = Error::from(std::io::Error::new(kind, "text"));
            assert_eq!(error, expected("text".to_owned()), "{kind:?}");
        }
        check(ErrorKind::NotFound, Error::InvalidInput);
        check(ErrorKind::PermissionDenied, Error::Denied);
        check(ErrorKind::ReadOnlyFilesystem, Error::Denied);
        check(ErrorKind::TimedOut, Error::Unavailable);
        check(ErrorKind::QuotaExceeded, Error::Limit);
        check(ErrorKind::Other, Error::Internal);
    }

    #[test]
    fn json_errors_by_where_they_come_from() {
        struct Broken;
        impl std::io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                Err(std::io::Error::other("broken"))
            }
        }
        let parse = |text: &str| Error::from(serde_json::from_str::<u8>(text).unwrap_err());
        for text in ["", "{", "-1", "\"x\""] {
            assert!(matches!(parse(text), Error::InvalidInput(_)), "{text:?}");
        }
        let unreadable = serde_json::from_reader::<_, u8>(Broken).unwrap_err();
        assert!(matches!(Error::from(unreadable), Error::Internal(_)));
    }

    #[test]
    fn the_abi_carries_every_kind_unchanged() {
        for kind in [
            Error::InvalidInput,
            Error::Denied,
            Error::Unavailable,
            Error::Limit,
            Error::Internal,
        ] {
            let error = kind("text".to_owned());
            assert_eq!(Error::from(types::Error::from(error.clone())), error);
            let longer = Err::<(), _>(error).context(|| "doing");
            assert_eq!(longer, Err(kind("doing: text".to_owned())));
        }
        assert_eq!(Error::limit("too much").to_string(), "limit: too much");
    }
}
