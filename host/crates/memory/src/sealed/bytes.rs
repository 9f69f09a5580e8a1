//! Texts of a fixed length, put together from parts. It knows no format.

use std::io::Write as _;

/// The parts one after the other: zeros fill up what they leave, and what does not fit is cut off.
pub(super) fn joined<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut joined = [0; N];
    let mut rest = joined.as_mut_slice();
    for part in parts {
        // Writes as much as there is room for, and never fails.
        let _fitted = rest.write(part);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_filled_up_and_cut_off() {
        assert_eq!(joined(&[b"ab", b"", b"c"]), *b"abc");
        assert_eq!(joined(&[b"ab", b"c"]), *b"abc\0\0");
        assert_eq!(joined(&[b"ab", b"cd", b"e"]), *b"abc");
        assert_eq!(joined(&[]), [0; 2]);
    }
}
