//! A value typed on a terminal, unseen. Keys are read one by one, so that an interrupt puts the terminal back as it was
//! before the process ends. It knows nothing of what is typed.

use std::io::{self, Read as _, Write as _};

use aral_contract::{Code, Failure};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// Longest value that is typed, in bytes. With this room from the start, no copy is left behind by growing.
const TYPED_BYTES_MAX: usize = 4096;

const END_OF_TEXT: u8 = 0x03;
const END_OF_TRANSMISSION: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const CLEAR_LINE: u8 = 0x15;
const DELETE: u8 = 0x7f;

/// Asks for a value on the terminal that is standard input.
pub(crate) fn hidden(what: &str, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: io::Error| Failure::new(Code::ConfigInvalid, format!("the terminal cannot be read: {error}"));
    let mut stderr = io::stderr().lock();
    let _nobody_to_ask = write!(stderr, "{what} (it is not shown): ").and_then(|()| stderr.flush());
    let mut line = Line::new(bytes_max.min(TYPED_BYTES_MAX));
    let unseen = Unseen::start().map_err(failed)?;
    let mut stdin = io::stdin().lock();
    let mut byte = Zeroizing::new([0]);
    let end = loop {
        match stdin.read(byte.as_mut_slice()).map_err(failed)? {
            0 => break End::Done,
            _ => {
                let [key] = *byte;
                if let Some(end) = line.take(key) {
                    break end;
                }
            }
        }
    };
    drop(unseen);
    let _nobody_to_tell = stderr.write_all(b"\n");
    match end {
        End::Done => Ok(line.typed),
        End::Interrupted => Err(Failure::new(Code::ConfigInvalid, "nothing was entered")),
        End::TooLong => Err(super::value::too_large("what was typed", line.bytes_max)),
    }
}

/// How typing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    Interrupted,
    TooLong,
}

struct Line {
    typed: Zeroizing<Vec<u8>>,
    bytes_max: usize,
}

impl Line {
    fn new(bytes_max: usize) -> Self {
        Self {
            typed: Zeroizing::new(Vec::with_capacity(bytes_max)),
            bytes_max,
        }
    }

    /// One key; says when it was the last.
    fn take(&mut self, byte: u8) -> Option<End> {
        match byte {
            b'\r' | b'\n' => return Some(End::Done),
            END_OF_TEXT => return Some(End::Interrupted),
            END_OF_TRANSMISSION if self.typed.is_empty() => return Some(End::Interrupted),
            END_OF_TRANSMISSION => return Some(End::Done),
            BACKSPACE | DELETE => {
                // A whole character, however many bytes it has.
                while self.typed.pop().is_some_and(|last| last & 0xc0 == 0x80) {}
            }
            CLEAR_LINE => self.typed.clear(),
            _ if self.typed.len() >= self.bytes_max => return Some(End::TooLong),
            _ => self.typed.push(byte),
        }
        None
    }
}

/// The terminal does not show what is typed until this is dropped.
struct Unseen(Termios);

impl Unseen {
    fn start() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut unseen = before.clone();
        unseen
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG);
        unseen.special_codes[SpecialCodeIndex::VMIN] = 1;
        unseen.special_codes[SpecialCodeIndex::VTIME] = 0;
        // What was typed before the question is no answer to it.
        tcsetattr(io::stdin(), OptionalActions::Flush, &unseen)?;
        Ok(Self(before))
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        let _stays = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_keys(keys: &[u8]) -> (Vec<u8>, Option<End>) {
        let mut line = Line::new(8);
        let end = keys.iter().find_map(|key| line.take(*key));
        (line.typed.to_vec(), end)
    }

    #[test]
    fn keys_edit_the_line_and_end_it() {
        for (keys, typed, end) in [
            (&b"abc\r"[..], &b"abc"[..], Some(End::Done)),
            (b"abc\n", b"abc", Some(End::Done)),
            (b"ab\x7fc\n", b"ac", Some(End::Done)),
            ("aé\x08b\n".as_bytes(), b"ab", Some(End::Done)),
            (b"\x7f\x7fa\n", b"a", Some(End::Done)),
            (b"wrong\x15right\n", b"right", Some(End::Done)),
            (b"ab\x03", b"ab", Some(End::Interrupted)),
            (b"\x04", b"", Some(End::Interrupted)),
            (b"ab\x04", b"ab", Some(End::Done)),
            (b"12345678", b"12345678", None),
            (b"123456789", b"12345678", Some(End::TooLong)),
        ] {
            assert_eq!(type_keys(keys), (typed.to_vec(), end), "{keys:?}");
        }
    }
}
