//! The name of a sink, by which the file is named that says where it stands.

use std::fmt;
use std::str::FromStr;

const NAME_BYTES_MAX: usize = 64;

/// Names a sink: 1 to 64 of `a-z 0-9 -`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkName(String);

/// A text that names no sink.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not the name of a sink: 1 to {NAME_BYTES_MAX} of a-z 0-9 -", .0.escape_debug())]
pub struct SinkNameError(String);

impl FromStr for SinkName {
    type Err = SinkNameError;
    fn from_str(text: &str) -> Result<Self, SinkNameError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(SinkNameError(text.chars().take(NAME_BYTES_MAX).collect()))
        }
    }
}

impl SinkName {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
