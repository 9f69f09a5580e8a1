//! Bytes that may hold a secret while they are put together. It knows nothing of what they say.

use std::fmt;
use std::io;
use std::ops::Deref;

use serde::Serialize;
use zeroize::Zeroizing;

/// Bytes that are erased when dropped. Where they have to move to grow, their old place is erased as well. Prints nothing.
#[derive(Default)]
pub struct SecretBuffer(Zeroizing<Vec<u8>>);

impl SecretBuffer {
    /// With room for so many bytes: they stay where they are until there are more.
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(bytes)))
    }

    /// A value as JSON.
    ///
    /// # Errors
    /// The value has no form in JSON.
    pub fn json(value: &impl Serialize) -> serde_json::Result<Self> {
        let mut text = Self::default();
        serde_json::to_writer(&mut text, value)?;
        Ok(text)
    }

    /// Puts these at the end.
    pub fn extend(&mut self, more: &[u8]) {
        let wanted = self.0.len().saturating_add(more.len());
        if wanted > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(wanted.saturating_mul(2)));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(more);
    }

    /// The bytes themselves.
    pub fn into_inner(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

impl Deref for SecretBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for SecretBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl io::Write for SecretBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for SecretBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBuffer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_where_they_are_while_there_is_room_and_are_whole_when_they_moved() {
        let mut buffer = SecretBuffer::with_capacity(1000);
        let place = buffer.as_ptr();
        for _ in 0..10 {
            buffer.extend(&[7; 100]);
        }
        assert_eq!(buffer.as_ptr(), place);
        buffer.extend(b"more");
        assert_eq!(buffer.len(), 1004);
        assert!(buffer.starts_with(&[7; 1000]) && buffer.ends_with(b"more"));
        assert_eq!(format!("{buffer:?}"), "SecretBuffer");
    }

    #[test]
    fn a_value_is_the_same_json_as_elsewhere() {
        let value = serde_json::json!({ "key": "k".repeat(1000), "list": [1, null, "ü\n"] });
        let text = SecretBuffer::json(&value).unwrap();
        assert_eq!(*text, *value.to_string().as_bytes());
        assert_eq!(*text.into_inner(), value.to_string().into_bytes());
    }
}
