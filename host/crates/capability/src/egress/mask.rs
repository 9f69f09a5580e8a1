//! Overwrites echoes of a secret in the answer to a request that carried it. An echo is found plain, in hexadecimal, in
//! base64 of either alphabet at any of its three alignments, and each of those also percent-encoded, escaped as in JSON or
//! C, or as HTML entities, in letters of any case, each of all these in UTF-16 and UTF-32, and across the frames of a body. The
//! other way round it is not looked for: UTF-16 or UTF-32 whose zeros were escaped takes more than is held back.
//!
//! The guest sees what comes out and may choose what a server sends, so that nothing here may depend on a *part* of the
//! secret: what is masked is a whole echo, and how much of a body is held back depends on the length of the secret alone, and
//! on whether there are zeros in what is held.
//! Anything else would tell a guest that has guessed the beginning that it guessed right.

mod body;
mod escape;
mod late;
mod marks;
mod needle;
mod silence;
mod view;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use aral_contract::SecretValue;
use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

pub(super) use body::masked;
use escape::Escape;
use marks::Marks;
use needle::Needle;
use view::View;

/// What an echo is overwritten with.
const MASK: u8 = b'*';
/// Bytes that one byte of a secret can take in an echo: two hexadecimal digits, each an escape of eight bytes, and a line end
/// now and then.
const EXPANSION: usize = 17;
/// Zeros in a row that a character may have beside its byte, in UTF-32.
const ZEROS_MAX: usize = 3;
/// What is held back is a multiple of this, so that it tells little of the length of a secret.
const HELD_BYTES_STEP: usize = 1024;

/// The secrets of one request, as they are looked for.
pub(super) struct Echoes {
    needles: Vec<Needle>,
    needle_bytes_max: usize,
    /// For each byte, whether a needle begins with it.
    begin: Zeroizing<Vec<bool>>,
    held_bytes: usize,
}

impl fmt::Debug for Echoes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Echoes")
    }
}

impl Echoes {
    pub(super) fn of<'a>(secrets: impl IntoIterator<Item = &'a SecretValue>) -> Arc<Self> {
        let (mut needles, mut secret_bytes_max) = (Vec::new(), 0_usize);
        for secret in secrets {
            secret_bytes_max = secret_bytes_max.max(secret.expose().len());
            needles.extend(Needle::all(secret.expose()));
        }
        let begin = (0..=u8::MAX).map(|byte| needles.iter().any(|needle: &Needle| needle.goes_on(0, byte)));
        Arc::new(Self {
            begin: Zeroizing::new(begin.collect()),
            needle_bytes_max: needles.iter().map(Needle::len).max().unwrap_or_default(),
            needles,
            held_bytes: secret_bytes_max
                .saturating_mul(EXPANSION)
                .next_multiple_of(HELD_BYTES_STEP),
        })
    }

    /// Whether an echo may begin with this byte.
    fn may_begin_with(&self, byte: u8) -> bool {
        self.begin.get(usize::from(byte)).copied().unwrap_or_default()
    }

    /// How much of the end of a body an echo may have begun in. One without zeros is not of wide characters, and most text has
    /// none: only what has some is held back for as long as those would take.
    fn held_back(&self, zeros: bool) -> usize {
        if zeros {
            return self.held_bytes.saturating_mul(ZEROS_MAX.saturating_add(1));
        }
        self.held_bytes
    }

    /// The same bytes, echoes overwritten.
    fn mask_whole(self: &Arc<Self>, bytes: &[u8]) -> Vec<u8> {
        let mut masked = bytes.to_vec();
        let mut masker = Masker::new(Arc::clone(self));
        masker.feed(bytes);
        masker.marks.overwrite(&mut masked, 0);
        masked
    }

    /// The same fields, echoes overwritten in names and values.
    pub(super) fn mask_fields(self: &Arc<Self>, fields: &HeaderMap) -> HeaderMap {
        let mut masked = HeaderMap::with_capacity(fields.len());
        for (name, value) in fields {
            // `*` may stand in a name and in a value. What could not be written nevertheless is left out.
            let name = HeaderName::from_bytes(&self.mask_whole(name.as_str().as_bytes()));
            let value = HeaderValue::from_bytes(&self.mask_whole(value.as_bytes()));
            if let (Ok(name), Ok(value)) = (name, value) {
                masked.append(name, value);
            }
        }
        masked
    }
}

/// Reads a stream in every way at once, and marks where echoes are.
struct Masker {
    views: Vec<View>,
    marks: Marks,
    position: u64,
    /// Zeros in a row so far.
    zeros: usize,
}

impl Masker {
    fn new(echoes: Arc<Echoes>) -> Self {
        Self {
            views: Escape::ALL
                .into_iter()
                .map(|escape| View::new(escape, &echoes))
                .collect(),
            marks: Marks::default(),
            position: 0,
            zeros: 0,
        }
    }

    /// Reads on, and marks the places of echoes that end here.
    fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.zeros = if *byte == 0 { self.zeros.saturating_add(1) } else { 0 };
            // Those of wide characters say nothing, and stand within escapes as well.
            if !(1..=ZEROS_MAX).contains(&self.zeros) {
                for view in &mut self.views {
                    view.feed(*byte, self.position, &mut self.marks);
                }
            }
            self.position = self.position.saturating_add(1);
        }
    }
}
