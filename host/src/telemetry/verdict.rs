//! What an OpenTelemetry collector made of a request: whether it took all of it, and else why not. An answer is a message of Protocol
//! Buffers whose first field, `partial_success`, says how many of what was sent it refused. Whatever else an answer holds is passed over.

use aral_audit::sink::Answer;

/// Longest text of a collector, in bytes.
const TEXT_BYTES_MAX: usize = 256;

/// What became of what was sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// So many were refused, though the others were taken.
    pub(super) refused: u64,
    /// Why not all were taken; none: all were.
    pub(super) reason: Option<String>,
}

impl Verdict {
    pub(super) fn of(answer: &Answer) -> Self {
        if !(200..=299).contains(&answer.status) {
            return Self::failed(format!("it answered with status {}", answer.status));
        }
        let (refused, text) = partial_success(&answer.body);
        let text = text.as_deref().unwrap_or("it does not say why");
        let words = || format!("it refused {refused} of them: {text}");
        Self {
            refused,
            reason: (refused > 0).then(words),
        }
    }

    /// Nothing was taken.
    pub(super) fn failed(reason: String) -> Self {
        Self {
            refused: 0,
            reason: Some(reason),
        }
    }
}

/// How many were refused, and why in the words of the collector.
fn partial_success(body: &[u8]) -> (u64, Option<String>) {
    let (mut refused, mut text) = (0, None);
    let parts = Fields(body).filter_map(|field| match field {
        (1, Value::Bytes(part)) => Some(part),
        _ => None,
    });
    for field in parts.flat_map(Fields) {
        match field {
            // It has a sign, which makes no sense here.
            (1, Value::Number(count)) => refused = u64::try_from(count.cast_signed()).unwrap_or_default(),
            (2, Value::Bytes(bytes)) if !bytes.is_empty() => {
                let bytes = bytes.get(..TEXT_BYTES_MAX).unwrap_or(bytes);
                text = Some(String::from_utf8_lossy(bytes).into_owned());
            }
            _ => {}
        }
    }
    (refused, text)
}

/// The fields of a message, up to the first thing that is none.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Iterator for Fields<'a> {
    /// With its number.
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.number()?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            1 => Value::Bytes(self.bytes(8)?),
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Value::Bytes(self.bytes(length)?)
            }
            5 => Value::Bytes(self.bytes(4)?),
            _ => return None,
        };
        Some((tag >> 3, value))
    }
}

impl<'a> Fields<'a> {
    /// Seven bits a byte, the lowest first.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64_u32).step_by(7) {
            let byte = u64::from(*self.bytes(1)?.first()?);
            number |= (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, body: &[u8]) -> Verdict {
        Verdict::of(&Answer {
            status,
            retry_after: None,
            body: body.to_vec(),
        })
    }

    /// As a collector sends it: what it refused, and why.
    fn partial(refused: &[u8], text: &str) -> Vec<u8> {
        let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
        let inner = [
            &[0x08_u8][..],
            refused,
            &[0x12, length(text.as_bytes())],
            text.as_bytes(),
        ]
        .concat();
        [&[0x0a_u8, length(&inner)][..], &inner].concat()
    }

    #[test]
    fn a_collector_that_takes_all_refuses_some_or_takes_nothing() {
        assert_eq!(verdict(200, b""), Verdict::default());
        let some = verdict(202, &partial(&[0xac, 0x02], "quota"));
        assert_eq!(some.refused, 300);
        assert_eq!(some.reason.unwrap(), "it refused 300 of them: quota");
        let silent = verdict(200, &partial(&[1], "")).reason.unwrap();
        assert!(silent.contains("does not say why"), "{silent}");
        // A text without a number is advice.
        assert_eq!(
            verdict(200, &partial(&[0], "a newer version is there")),
            Verdict::default()
        );
        for status in [199, 302, 401, 503] {
            let none = verdict(status, &partial(&[1], "x"));
            assert_eq!(none, Verdict::failed(format!("it answered with status {status}")));
        }
    }

    #[test]
    fn an_answer_that_is_no_message_refuses_nothing() {
        let good = partial(&[5], "quota");
        for length in 0..good.len() {
            assert_eq!(verdict(200, &good[..length]), Verdict::default(), "{length}");
        }
        let minus_one = [&[0xff_u8; 9][..], &[1]].concat();
        for odd in [
            &b"<html>no"[..],
            &[0xff; 40],
            &[0x0a],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &partial(&minus_one, "x"),
            &partial(&[0xff; 20], "x"),
        ] {
            assert_eq!(verdict(200, odd), Verdict::default(), "{odd:?}");
        }
        // What stands beside it is passed over.
        let beside = [&[0x11_u8, 1, 2, 3, 4, 5, 6, 7, 8, 0x1d, 1, 2, 3, 4, 0x20, 7][..], &good].concat();
        assert_eq!(verdict(200, &beside).refused, 5);
        let long = verdict(
            200,
            &[&[0x0a_u8, 0xe7, 0x02, 0x08, 1, 0x12, 0xe2, 0x02][..], &[b'a'; 354]].concat(),
        );
        assert_eq!(
            long.reason.map(|reason| reason.matches('a').count()),
            Some(TEXT_BYTES_MAX)
        );
    }
}
