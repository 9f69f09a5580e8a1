//! What may stand within an echo and says nothing.

/// Bytes in a row that may: two line ends, as in base64.
const SILENT_BYTES_MAX: usize = 4;

/// Skips them.
#[derive(Default)]
pub(super) struct Silence(usize);

impl Silence {
    pub(super) fn covers(&mut self, byte: u8) -> bool {
        let silent = matches!(byte, b'\r' | b'\n') && self.0 < SILENT_BYTES_MAX;
        self.0 = if silent { self.0.saturating_add(1) } else { 0 };
        silent
    }
}
