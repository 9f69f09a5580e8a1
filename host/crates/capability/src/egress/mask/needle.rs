//! One spelling of a secret, and how much of it stands at the end of what was read: linear in what is read, whatever a
//! server sends (Knuth, Morris and Pratt).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

/// The byte that stands for all that are taken for the same: letters of either case, the digits in which the two alphabets
/// of base64 differ, and the `+` that is a space in forms.
pub(super) fn canonical(byte: u8) -> u8 {
    match byte {
        b'-' | b' ' => b'+',
        b'_' => b'/',
        other => other.to_ascii_lowercase(),
    }
}

/// Whether a canonical byte is a digit of base64.
pub(super) fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

/// One spelling. Erased when dropped.
pub(super) struct Needle {
    bytes: Zeroizing<Vec<u8>>,
    /// How much still stands when the byte after so many is another one.
    fallback: Zeroizing<Vec<usize>>,
    /// The base64 digit before holds some bits of the secret.
    pub(super) begins_within_digit: bool,
    /// The base64 digit behind does.
    pub(super) ends_within_digit: bool,
}

impl Needle {
    /// Every spelling of a secret.
    pub(super) fn all(secret: &[u8]) -> Vec<Self> {
        let mut hexadecimal = Zeroizing::new(Vec::with_capacity(secret.len().saturating_mul(2)));
        for byte in secret {
            hexadecimal.extend([byte >> 4, byte & 15].map(|digit| match digit {
                0..10 => digit.saturating_add(b'0'),
                _ => (digit - 10).saturating_add(b'a'),
            }));
        }
        let base64 = (0..3).map(|before| Self::base64(secret, before));
        [Self::new(secret, false, false), Self::new(&hexadecimal, false, false)]
            .into_iter()
            .chain(base64)
            .collect()
    }

    /// As base64 with so many bytes of something else before it: the digits that hold bits of the secret alone.
    fn base64(secret: &[u8], before: usize) -> Self {
        let mut padded = Zeroizing::new(vec![0; before]);
        padded.reserve_exact(secret.len());
        padded.extend_from_slice(secret);
        let digits = Zeroizing::new(STANDARD_NO_PAD.encode(&*padded));
        let bits_before = before.saturating_mul(8);
        let first = bits_before.div_ceil(6);
        let whole = padded.len().saturating_mul(8) / 6;
        let own = digits.as_bytes().get(first..whole).unwrap_or_default();
        let bits = padded.len().saturating_mul(8);
        Self::new(own, !bits_before.is_multiple_of(6), !bits.is_multiple_of(6))
    }

    fn new(text: &[u8], begins_within_digit: bool, ends_within_digit: bool) -> Self {
        let bytes: Zeroizing<Vec<u8>> = Zeroizing::new(text.iter().map(|byte| canonical(*byte)).collect());
        let mut needle = Self {
            fallback: Zeroizing::new(vec![0; bytes.len()]),
            bytes,
            begins_within_digit,
            ends_within_digit,
        };
        let mut standing = 0;
        for length in 1..needle.bytes.len() {
            let byte = needle.bytes.get(length).copied().unwrap_or_default();
            standing = needle.advance(standing, byte);
            if let Some(fallback) = needle.fallback.get_mut(length) {
                *fallback = standing;
            }
        }
        needle
    }

    /// What is left of it behind so many bytes.
    pub(super) fn rest(&self, stood: usize) -> Self {
        let bytes = self.bytes.get(stood..).unwrap_or_default();
        Self::new(bytes, self.begins_within_digit, self.ends_within_digit)
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// How much stands after one more byte, and whether that is all of it.
    pub(super) fn step(&self, standing: usize, byte: u8) -> (usize, bool) {
        let standing = self.advance(standing, byte);
        if standing == 0 || standing < self.bytes.len() {
            return (standing, false);
        }
        (self.fall(standing), true)
    }

    /// Whether this byte is the one after so many.
    pub(super) fn goes_on(&self, standing: usize, byte: u8) -> bool {
        self.bytes.get(standing) == Some(&byte)
    }

    /// How much less still stands where so much does, which is the most but for that itself.
    pub(super) fn fall(&self, standing: usize) -> usize {
        let before = standing.checked_sub(1);
        before
            .and_then(|last| self.fallback.get(last))
            .copied()
            .unwrap_or_default()
    }

    fn advance(&self, mut standing: usize, byte: u8) -> usize {
        loop {
            if self.bytes.get(standing) == Some(&byte) {
                return standing.saturating_add(1);
            }
            if standing == 0 {
                return 0;
            }
            standing = self.fall(standing);
        }
    }
}
