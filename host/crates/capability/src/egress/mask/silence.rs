//! What may stand within an echo and says nothing.

/// Bytes in a row that may: line ends in base64, and zeros that were escaped.
const SILENT_BYTES_MAX: usize = 5;

/// Skips them.
#[derive(Default)]
pub(super) struct Silence(usize);

impl Silence {
    pub(super) fn covers(&mut self, byte: u8) -> bool {
        let silent = matches!(byte, b'\r' | b'\n' | 0) && self.0 < SILENT_BYTES_MAX;
        self.0 = if silent { self.0.saturating_add(1) } else { 0 };
        silent
    }
}
