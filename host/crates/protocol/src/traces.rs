//! Which traces are kept. By its name, so that all systems that keep the same part keep the same traces; but whoever names a
//! trace can choose a name that every system keeps. So an address has no more kept of what it names than the part that the
//! operator wants, and some at once. Callers whose names are random hardly ever notice.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aral_contract::{Sampling, TraceContext, site};

use crate::meters;

/// Shares count more coarsely than [`Sampling::WHOLE`] by so many bits, so that there is room above one.
const COARSER_BITS: u32 = 31;
/// One request whose spans are kept, in the unit of a share.
const ONE: u64 = Sampling::WHOLE >> COARSER_BITS;
/// Most requests of an address that are kept at once: a trace may have many, and should be kept whole. Their spans fit in
/// the queue to the collector.
const SAVED_MAX: u64 = 1024;
/// Shares, of eight bytes each. Addresses are more: which of them have one together nobody can tell from outside.
const SHARES: usize = 4096;

/// Decides for the requests of a server.
#[derive(Debug, Clone)]
pub(crate) struct Traces {
    sampling: Sampling,
    shares: Arc<Shares>,
}

#[derive(Debug)]
struct Shares {
    /// Says whose share is which.
    keys: RandomState,
    left: Box<[AtomicU64]>,
}

impl Traces {
    pub(crate) fn new(sampling: Sampling) -> Self {
        let full = |_| AtomicU64::new(SAVED_MAX * ONE);
        Self {
            sampling,
            shares: Arc::new(Shares {
                keys: RandomState::new(),
                left: (0..SHARES).map(full).collect(),
            }),
        }
    }

    /// The same shares, for another part.
    pub(crate) fn renewed(&self, sampling: Sampling) -> Self {
        Self {
            sampling,
            shares: Arc::clone(&self.shares),
        }
    }

    /// The context with the decision whether its spans are kept. Without an address (`from`) it comes from this machine, and
    /// nobody counts.
    pub(crate) fn decide(&self, context: TraceContext, from: Option<IpAddr>) -> TraceContext {
        let context = self.sampling.decide(context);
        let (Some(from), Some(_named), Some(part)) = (from, context.parent, self.sampling.part()) else {
            return context;
        };
        let sampled = self.shares.admit(from, part >> COARSER_BITS, context.sampled);
        TraceContext { sampled, ..context }
    }
}

impl Shares {
    /// Whether a further request of this address is kept, which is `wanted`. Each request adds its part, also one that is not
    /// wanted: whoever asks for as many as the part always gets them.
    fn admit(&self, from: IpAddr, part: u64, wanted: bool) -> bool {
        let Some(left) = self.of(from) else { return false };
        let mut is_kept = false;
        left.update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            let left = left.saturating_add(part).min(SAVED_MAX * ONE);
            let taken = if wanted { left.checked_sub(ONE) } else { None };
            is_kept = taken.is_some();
            taken.unwrap_or(left)
        });
        if wanted && !is_kept {
            meters::trace_refused();
        }
        is_kept
    }

    /// A site has one share: whoever has all networks of 64 bits of one would have all shares otherwise.
    fn of(&self, from: IpAddr) -> Option<&AtomicU64> {
        let shares = u64::try_from(self.left.len()).ok()?;
        let hash = self.keys.hash_one(site(from)).checked_rem(shares)?;
        self.left.get(usize::try_from(hash).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use aral_contract::{SpanId, TraceId};
    use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

    use super::*;

    const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    /// Its caller keeps it.
    fn named(low: u64) -> TraceContext {
        let mut bytes = [1; 16];
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        TraceContext {
            parent: Some(SpanId::from_bytes([1; 8])),
            sampled: true,
            ..TraceContext::begin(TraceId::from_bytes(bytes))
        }
    }

    fn kept(traces: &Traces, from: IpAddr, contexts: impl Iterator<Item = TraceContext>) -> u64 {
        let kept = contexts.map(|context| u64::from(traces.decide(context, Some(from)).sampled));
        kept.sum()
    }

    /// Names of which each part of all is as many as it should be.
    fn random(count: u64) -> impl Iterator<Item = TraceContext> {
        (0..count).map(|number| named(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    #[test]
    fn names_that_are_always_kept_get_no_more_than_the_part_and_some_at_once() {
        let traces = Traces::new(Sampling::ratio(0.01).unwrap());
        let chosen = || std::iter::repeat_n(named(0), 10_000);
        let first = kept(&traces, STRANGER, chosen());
        assert!((SAVED_MAX + 98..=SAVED_MAX + 100).contains(&first), "{first}");
        let then = kept(&traces, STRANGER, chosen());
        assert!((99..=101).contains(&then), "{then}");
    }

    #[test]
    fn a_stranger_takes_nothing_from_a_caller_at_another_address() {
        let traces = Traces::new(Sampling::ratio(0.01).unwrap());
        kept(&traces, STRANGER, std::iter::repeat_n(named(0), 2000));
        let share = |from| std::ptr::from_ref(traces.shares.of(from).unwrap());
        let mut others = (0..=u8::MAX).map(|last| IpAddr::from([198, 51, 100, last]));
        let other = others.find(|other| share(*other) != share(STRANGER)).unwrap();
        assert_eq!(kept(&traces, other, std::iter::repeat_n(named(0), 50)), 50);
        // Whoever has one address of IPv6 has all of its network, and most likely more.
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(share(address("2001:db8::1")), share(address("2001:db8::ffff:2")));
    }

    #[test]
    fn whoever_has_many_networks_of_one_site_gets_no_more() {
        let traces = Traces::new(Sampling::ratio(0.01).unwrap());
        let from = |number: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 1, number % 4096, 0, 0, 0, 1));
        let first: u64 = (0..50_000)
            .map(|number| kept(&traces, from(number), std::iter::repeat_n(named(0), 2)))
            .sum();
        assert!(first <= SAVED_MAX + 1000, "{first}");
    }

    /// Adds up everything that is counted.
    struct Sum(Arc<AtomicU64>);

    impl Recorder for Sum {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(Arc::clone(&self.0))
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn what_a_share_does_not_give_is_counted() {
        let refused = Arc::new(AtomicU64::new(0));
        metrics::with_local_recorder(&Sum(Arc::clone(&refused)), || {
            let traces = Traces::new(Sampling::ratio(0.01).unwrap());
            let most = kept(&traces, STRANGER, std::iter::repeat_n(named(0), 2000));
            assert!(most < 2000, "{most}");
            assert_eq!(most + refused.load(Ordering::Relaxed), 2000);
            let unwanted = kept(&traces, STRANGER, std::iter::repeat_n(named(u64::MAX), 100));
            assert_eq!(unwanted, 0);
            assert_eq!(most + refused.load(Ordering::Relaxed), 2000, "nobody wants these");
        });
    }

    #[test]
    fn random_names_are_kept_as_every_system_of_the_same_part_keeps_them() {
        for ratio in [0.0, 0.001, 0.1, 0.5, 1.0] {
            let sampling = Sampling::ratio(ratio).unwrap();
            let traces = Traces::new(sampling);
            let wanted = random(100_000)
                .filter(|one| sampling.decide(one.clone()).sampled)
                .count();
            let wanted = u64::try_from(wanted).unwrap();
            assert_eq!(kept(&traces, STRANGER, random(100_000)), wanted, "{ratio}");
        }
        // So are those of a caller who keeps that part already, and says so of all others.
        let sampling = Sampling::ratio(0.1).unwrap();
        let traces = Traces::new(sampling);
        for one in random(100_000).map(|one| sampling.decide(one)) {
            assert_eq!(traces.decide(one.clone(), Some(STRANGER)).sampled, one.sampled);
        }
    }

    #[test]
    fn what_begins_here_and_what_is_passed_on_is_not_counted() {
        let traces = Traces::new(Sampling::ratio(0.01).unwrap());
        let begun = TraceContext::begin(named(0).trace);
        assert_eq!(kept(&traces, STRANGER, std::iter::repeat_n(begun, 5000)), 5000);
        let passed = Traces::new(Sampling::PASS);
        assert_eq!(kept(&passed, STRANGER, random(5000)), 5000);
    }
}
