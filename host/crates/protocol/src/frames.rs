//! How far an HTTP/2 connection has come in what it is sending (RFC 9113, section 4.1): whether something has begun that
//! holds up everything behind it. It knows lengths and two types of frames, and looks into none.

/// What a client sends first.
const PREFACE_BYTES: usize = 24;
/// Length, type, flags and stream.
const HEADER_BYTES: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// Where the connection stands.
#[derive(Debug)]
pub(crate) struct Frames {
    preface_left: usize,
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    payload_left: usize,
    /// Header fields have begun and go on in the next frame.
    block_open: bool,
}

/// What came to an end, and what did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Something that had begun has ended.
    pub(crate) ended: bool,
    /// Something has begun, and has to end before anything else can come. Not a body: that has a bound of its own.
    pub(crate) begun: bool,
}

impl Frames {
    pub(crate) fn new() -> Self {
        Self {
            preface_left: PREFACE_BYTES,
            header: [0; HEADER_BYTES],
            header_bytes: 0,
            payload_left: 0,
            block_open: false,
        }
    }

    /// Takes what came.
    pub(crate) fn advance(&mut self, mut bytes: &[u8]) -> Progress {
        let mut ended = false;
        while !bytes.is_empty() {
            let taken = if self.preface_left > 0 {
                let taken = self.preface_left.min(bytes.len());
                self.preface_left = self.preface_left.saturating_sub(taken);
                ended |= self.preface_left == 0;
                taken
            } else if self.header_bytes < HEADER_BYTES {
                let free = self.header.get_mut(self.header_bytes..).unwrap_or_default();
                let taken = free.len().min(bytes.len());
                for (slot, byte) in free.iter_mut().zip(bytes) {
                    *slot = *byte;
                }
                self.header_bytes = self.header_bytes.saturating_add(taken);
                if self.header_bytes == HEADER_BYTES {
                    let [a, b, c, ..] = self.header;
                    let length = u32::from_be_bytes([0, a, b, c]);
                    self.payload_left = usize::try_from(length).unwrap_or(usize::MAX);
                }
                taken
            } else {
                let taken = self.payload_left.min(bytes.len());
                self.payload_left = self.payload_left.saturating_sub(taken);
                taken
            };
            if self.header_bytes == HEADER_BYTES && self.payload_left == 0 {
                ended |= self.end_frame();
            }
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        Progress {
            ended,
            begun: self.begun(),
        }
    }

    /// Whether more than a part of something has ended with the frame.
    fn end_frame(&mut self) -> bool {
        let [_, _, _, kind, flags, ..] = self.header;
        self.header_bytes = 0;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.block_open = flags & END_HEADERS == 0;
        }
        !self.block_open
    }

    fn begun(&self) -> bool {
        let [_, _, _, kind, ..] = self.header;
        let in_frame = match self.header_bytes {
            0 => false,
            HEADER_BYTES => kind != DATA,
            _ => true,
        };
        self.block_open || in_frame || (1..PREFACE_BYTES).contains(&self.preface_left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.resize(HEADER_BYTES + payload, 0);
        frame
    }

    fn opened() -> Frames {
        let mut frames = Frames::new();
        let (first, rest) = (&[0; 10], &[0; PREFACE_BYTES - 10]);
        assert_eq!(
            frames.advance(first),
            Progress {
                ended: false,
                begun: true
            }
        );
        assert_eq!(
            frames.advance(rest),
            Progress {
                ended: true,
                begun: false
            }
        );
        frames
    }

    #[test]
    fn header_fields_are_one_thing_over_all_their_frames() {
        let mut frames = opened();
        let step = |frames: &mut Frames, bytes: &[u8]| {
            let progress = frames.advance(bytes);
            (progress.ended, progress.begun)
        };
        assert_eq!(step(&mut frames, &frame(HEADERS, END_HEADERS, 50)), (true, false));
        assert_eq!(step(&mut frames, &frame(HEADERS, 0, 50)), (false, true));
        assert_eq!(step(&mut frames, &frame(CONTINUATION, 0, 0)), (false, true));
        assert_eq!(step(&mut frames, &frame(CONTINUATION, 0, 70_000)), (false, true));
        assert_eq!(step(&mut frames, &frame(CONTINUATION, END_HEADERS, 1)), (true, false));
    }

    #[test]
    fn a_body_may_stop_in_the_middle_and_nothing_else_may() {
        for (kind, begun) in [(DATA, false), (HEADERS, true), (0x4, true), (0x6, true)] {
            let mut frames = opened();
            let whole = frame(kind, END_HEADERS, 20);
            assert!(frames.advance(&whole[..4]).begun, "the header of the frame");
            assert_eq!(frames.advance(&whole[4..15]).begun, begun, "{kind}");
            let end = frames.advance(&whole[15..]);
            assert_eq!((end.ended, end.begun), (true, false), "{kind}");
        }
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_come() {
        let mut all = vec![0; PREFACE_BYTES];
        for (kind, flags, payload) in [
            (0x4, 0, 18),
            (HEADERS, 0, 30),
            (CONTINUATION, END_HEADERS, 0),
            (DATA, 1, 300),
        ] {
            all.extend(frame(kind, flags, payload));
        }
        for size in 1..all.len() {
            let mut frames = Frames::new();
            let last = all.chunks(size).map(|part| frames.advance(part)).last().unwrap();
            assert_eq!(
                last,
                Progress {
                    ended: true,
                    begun: false
                },
                "in parts of {size}"
            );
        }
    }
}
