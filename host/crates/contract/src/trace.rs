//! W3C Trace Context (Recommendation of level 1, candidate of level 2): how a request says to which trace it belongs. Read
//! strictly, written whole: what is malformed is no context, and a new trace begins.

mod state;

use std::fmt;

use crate::id::{SpanId, TraceId};

pub use state::TraceState;

/// Length of `traceparent` in the version that is written here.
const TRACEPARENT_BYTES: usize = 55;
/// The bits of the flags.
const SAMPLED: u8 = 0x01;
const RANDOM: u8 = 0x02;

/// Where a request stands in its trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// Names the trace. Everything that is recorded of the request has this name.
    pub trace: TraceId,
    /// The span of whoever asks; none: the trace begins here.
    pub parent: Option<SpanId>,
    /// Whether the spans of the trace are kept.
    pub sampled: bool,
    /// Whether whoever began the trace drew its name at random (level 2).
    pub random: bool,
    /// What systems on the way said for themselves.
    pub state: Option<TraceState>,
}

impl TraceContext {
    /// A trace that begins here.
    pub fn begin(trace: TraceId) -> Self {
        Self {
            trace,
            parent: None,
            sampled: false,
            random: true,
            state: None,
        }
    }

    /// What the fields of a request say; none: they say nothing, or not in the form of the standard. A malformed
    /// `tracestate` alone is left out (section 3.3.1).
    pub fn parse(traceparent: &str, tracestate: &[&str]) -> Option<Self> {
        let (trace, parent, flags) = parse_traceparent(traceparent)?;
        Some(Self {
            trace,
            parent: Some(parent),
            sampled: flags & SAMPLED != 0,
            random: flags & RANDOM != 0,
            state: TraceState::parse(tracestate),
        })
    }

    /// The field of a request that the span `span` sends.
    pub fn traceparent(&self, span: SpanId) -> Traceparent {
        let sampled = if self.sampled { SAMPLED } else { 0 };
        let random = if self.random { RANDOM } else { 0 };
        Traceparent {
            trace: self.trace,
            span,
            flags: sampled | random,
        }
    }
}

/// The value of a `traceparent` field, as its `Display`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent {
    trace: TraceId,
    span: SpanId,
    flags: u8,
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// Section 3.2: version, trace-id, parent-id and flags, all in lower-case hex. A later version may say more after these.
fn parse_traceparent(text: &str) -> Option<(TraceId, SpanId, u8)> {
    let (known, rest) = text.split_at_checked(TRACEPARENT_BYTES)?;
    let mut fields = known.split('-');
    let (version, trace, parent, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    if fields.next().is_some() {
        return None;
    }
    let (version, flags) = (hex_byte(version)?, hex_byte(flags)?);
    let ends = if version == 0 {
        rest.is_empty()
    } else {
        rest.is_empty() || rest.starts_with('-')
    };
    if version == 0xff || !ends {
        return None;
    }
    let (trace, parent): (TraceId, SpanId) = (trace.parse().ok()?, parent.parse().ok()?);
    let is_named = *trace.as_bytes() != [0; 16] && *parent.as_bytes() != [0; 8];
    // Of a later version, only the meaning of the first bit is promised.
    let flags = if version == 0 { flags } else { flags & SAMPLED };
    is_named.then_some((trace, parent, flags))
}

fn hex_byte(text: &str) -> Option<u8> {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != 2 || !text.bytes().all(is_hex) {
        return None;
    }
    u8::from_str_radix(text, 16).ok()
}

/// Which traces are kept. The answer for a trace is the same in every process that keeps the same part, because it comes from
/// the name of the trace alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sampling(Option<u64>);

impl Sampling {
    /// Nothing is kept here; who kept the trace so far is believed.
    pub const PASS: Self = Self(None);
    /// Every trace is kept.
    pub const ALL: Self = Self(Some(Self::WHOLE));
    /// All traces, as a number.
    pub const WHOLE: u64 = 1 << 63;

    /// The part of all traces that is kept, from 0 to 1; none: not such a number.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a part of 2^63, between 0 and 2^63"
    )]
    pub fn ratio(ratio: f64) -> Option<Self> {
        (0.0..=1.0)
            .contains(&ratio)
            .then_some(Self(Some((ratio * Self::WHOLE as f64) as u64)))
    }

    /// The part that is kept, as so many of [`Sampling::WHOLE`]; none: whoever asks decides.
    pub fn part(self) -> Option<u64> {
        self.0
    }

    /// The context with the decision whether its spans are kept.
    pub fn decide(self, context: TraceContext) -> TraceContext {
        let asked = context.parent.map(|_| context.sampled);
        TraceContext {
            sampled: self.keeps(context.trace, asked),
            ..context
        }
    }

    /// Whether a trace is kept. Whoever asks can say that it is not (`asked`), not that it is. But whoever chooses the name
    /// chooses one that is kept if they want to: where strangers name traces, somebody has to count them.
    fn keeps(self, trace: TraceId, asked: Option<bool>) -> bool {
        let Some(below) = self.0 else {
            return asked == Some(true);
        };
        let [_, _, _, _, _, _, _, _, low @ ..] = *trace.as_bytes();
        asked != Some(false) && u64::from_be_bytes(low) >> 1 < below
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_example_of_the_standard_is_read_and_written() {
        let context = TraceContext::parse(GOOD, &["congo=t61rcWkgMzE", " rojo=00f067aa0ba902b7 "]).unwrap();
        assert_eq!(context.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.parent.unwrap().to_string(), "b7ad6b7169203331");
        assert!(context.sampled && !context.random);
        assert_eq!(
            context.state.as_ref().unwrap().as_str(),
            "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
        );
        let span = "00f067aa0ba902b7".parse().unwrap();
        assert_eq!(
            context.traceparent(span).to_string(),
            "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"
        );
        // Level 2: whoever began the trace says how its name was made, and everybody passes that on.
        let level2 = TraceContext::parse(&GOOD.replace("-01", "-03"), &[]).unwrap();
        assert!(level2.traceparent(span).to_string().ends_with("-03"));
        let begun = TraceContext::begin(context.trace);
        assert!(begun.traceparent(span).to_string().ends_with("-02"));
    }

    #[test]
    fn what_is_malformed_is_no_context() {
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-"),
            &format!("{GOOD}-00"),
            &format!("{GOOD} "),
            &format!(" {GOOD}"),
            &GOOD.to_uppercase(),
            &GOOD.replace("0af7", "0AF7"),
            &GOOD.replace("0af7", "0xf7"),
            &GOOD.replace("-01", "-1"),
            &GOOD.replace("-01", "-+1"),
            &GOOD.replace("-01", "-0g"),
            &GOOD.replace('-', "_"),
            &format!("ff{}", &GOOD[2..]),
            &format!("0{}", &GOOD[1..].replacen("0-", "--", 1)),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            &"é".repeat(40),
        ] {
            assert_eq!(TraceContext::parse(bad, &[]), None, "{bad}");
        }
    }

    #[test]
    fn a_later_version_may_say_more() {
        let later = |rest: &str| TraceContext::parse(&format!("cc{}{rest}", &GOOD[2..]), &[]);
        assert!(later("").unwrap().sampled);
        assert!(later("-what-the-future-will-be-like").is_some());
        assert!(!later("").unwrap().random);
        assert_eq!(later("."), None);
    }

    #[test]
    fn a_part_is_kept_and_callers_can_only_lower_it() {
        let trace = |low: u64| {
            let mut bytes = [1; 16];
            bytes[8..].copy_from_slice(&low.to_be_bytes());
            TraceId::from_bytes(bytes)
        };
        let (first, last) = (trace(0), trace(u64::MAX));
        for asked in [None, Some(true)] {
            assert!(Sampling::ALL.keeps(last, asked));
            let half = Sampling::ratio(0.5).unwrap();
            assert!(half.keeps(first, asked) && !half.keeps(last, asked));
            assert!(!Sampling::ratio(0.0).unwrap().keeps(first, asked));
        }
        assert!(!Sampling::ALL.keeps(first, Some(false)));
        assert!(Sampling::PASS.keeps(last, Some(true)) && !Sampling::PASS.keeps(first, None));
        assert_eq!(Sampling::ratio(1.0), Some(Sampling::ALL));
        assert!(Sampling::ALL.decide(TraceContext::begin(last)).sampled);
        let unwanted = TraceContext::parse(&GOOD.replace("-01", "-00"), &[]).unwrap();
        assert!(!Sampling::ALL.decide(unwanted.clone()).sampled && !Sampling::PASS.decide(unwanted).sampled);
        let wanted = TraceContext::parse(GOOD, &[]).unwrap();
        assert!(Sampling::PASS.decide(wanted).sampled);
        for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Sampling::ratio(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_without_a_panic(parent in "\\PC{0,70}", state in "\\PC{0,600}") {
            if let Some(context) = TraceContext::parse(&parent, &[&state]) {
                let written = context.traceparent(context.parent.unwrap()).to_string();
                let again = TraceContext::parse(&written, &[]).unwrap();
                prop_assert_eq!(again.trace, context.trace);
            }
        }

        #[test]
        fn what_is_written_is_read_back(trace in any::<[u8; 16]>(), span in any::<[u8; 8]>(), sampled: bool, random: bool) {
            prop_assume!(trace != [0; 16] && span != [0; 8]);
            let context = TraceContext { sampled, random, parent: None, state: None, trace: TraceId::from_bytes(trace) };
            let span = SpanId::from_bytes(span);
            let read = TraceContext::parse(&context.traceparent(span).to_string(), &[]).unwrap();
            prop_assert_eq!(read, TraceContext { parent: Some(span), ..context });
        }
    }
}
