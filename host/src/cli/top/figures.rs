//! What two moments say of the time between them: rates, quantiles, what is in use. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use aral_contract::metric::{
    AUDIT_QUEUE, AUDIT_SINK_LAG, AUDIT_UNSIGNED, AUDIT_UNSYNCED, AUDIT_WRITABLE, AUTHENTICATION_FAILURES, CALL_SECONDS,
    CALL_STAGE_SECONDS, CALLS, CALLS_RUNNING, CALLS_RUNNING_MAX, CALLS_WAITING, CALLS_WAITING_MAX, DENIALS,
    HTTP_CONNECTIONS, HTTP_REQUESTS, HTTP_REQUESTS_RUNNING, Metric, POOL_INSTANCES, POOL_INSTANCES_MAX, PROCESS_CPU,
    PROCESS_RESIDENT, PROCESS_START, RATE_LIMITED,
};
use serde::Serialize;

use super::samples::{Sample, Samples};

/// The stages of a call, in their order.
const STAGES: [&str; 5] = ["authorize", "wait", "instantiate", "run", "audit"];

/// How long things took, in milliseconds; none: nothing happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Quantiles {
    pub(super) p50_ms: Option<f64>,
    pub(super) p90_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
}

/// One capability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct OfCapability {
    pub(super) capability: String,
    pub(super) calls: u64,
    pub(super) failed: u64,
    pub(super) calls_per_second: f64,
    pub(super) seconds: Quantiles,
}

/// How often something was refused, since the server began.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Refused {
    pub(super) reason: String,
    pub(super) by: String,
    pub(super) count: u64,
    pub(super) per_second: f64,
}

/// Everything that is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) interval_ms: u64,
    pub(super) calls: u64,
    pub(super) failed: u64,
    pub(super) calls_per_second: f64,
    pub(super) requests_per_second: f64,
    pub(super) seconds: Quantiles,
    pub(super) stages: Vec<(&'static str, Quantiles)>,
    pub(super) capabilities: Vec<OfCapability>,
    pub(super) denials: Vec<Refused>,
    pub(super) limited: Vec<Refused>,
    /// What is in use, by the name of its metric.
    pub(super) gauges: BTreeMap<&'static str, u64>,
    /// Records that copies of the audit log do not have yet.
    pub(super) audit_sinks: BTreeMap<String, u64>,
}

impl Figures {
    /// Counts are since the server began; rates and quantiles are of the time between the two moments.
    pub(super) fn between(before: &Samples, now: &Samples, time: Duration) -> Self {
        let nothing = Samples::default();
        let before = if is_another(before, now) { &nothing } else { before };
        let span = Span { before, now, time };
        let failed = |sample: &Sample| sample.label("code") != "ok";
        let gauges = [
            CALLS_RUNNING,
            CALLS_RUNNING_MAX,
            CALLS_WAITING,
            CALLS_WAITING_MAX,
            POOL_INSTANCES,
            POOL_INSTANCES_MAX,
            HTTP_CONNECTIONS,
            HTTP_REQUESTS_RUNNING,
            AUDIT_WRITABLE,
            AUDIT_QUEUE,
            AUDIT_UNSYNCED,
            AUDIT_UNSIGNED,
            PROCESS_RESIDENT,
            AUTHENTICATION_FAILURES,
        ];
        let lag = now.of(AUDIT_SINK_LAG.name);
        Self {
            interval_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            calls: count(now.sum(CALLS.name)),
            failed: count(now.of(CALLS.name).filter(|one| failed(one)).map(|one| one.value).sum()),
            calls_per_second: span.rate(now.of(CALLS.name)),
            requests_per_second: span.rate(now.of(HTTP_REQUESTS.name)),
            seconds: span.quantiles(now.of(&buckets_of(CALL_SECONDS))),
            stages: STAGES.map(|stage| (stage, span.stage(stage))).to_vec(),
            capabilities: span.capabilities(failed),
            denials: span.refused(DENIALS, "code"),
            limited: span.refused(RATE_LIMITED, "limit"),
            gauges: gauges.map(|metric| (metric.name, count(now.sum(metric.name)))).into(),
            audit_sinks: lag
                .map(|one| (one.label("sink").to_owned(), count(one.value)))
                .collect(),
        }
    }

    pub(super) fn gauge(&self, metric: Metric) -> u64 {
        self.gauges.get(metric.name).copied().unwrap_or_default()
    }
}

/// Whether a server that was started anew counted `now`: it began later, in whole seconds, or what one counts got less, which it never
/// does. Series of one metric belong together, so that none of them may be compared with what the server before had counted.
fn is_another(before: &Samples, now: &Samples) -> bool {
    let [began, begins] = [before, now].map(|samples| samples.sum(PROCESS_START.name));
    if began > 0.0 && begins > began {
        return true;
    }
    let totals = [CALLS, HTTP_REQUESTS, DENIALS, RATE_LIMITED, PROCESS_CPU].map(|metric| metric.name.to_owned());
    let mut names = totals
        .into_iter()
        .chain([CALL_SECONDS, CALL_STAGE_SECONDS].map(buckets_of));
    let fell = |name: String| {
        let mut series = before.of(&name);
        series.any(|sample| now.value(&sample.name, &sample.labels) < sample.value)
    };
    names.any(fell)
}

/// The name under which a histogram is told.
fn buckets_of(histogram: Metric) -> String {
    format!("{}_bucket", histogram.name)
}

struct Span<'a> {
    before: &'a Samples,
    now: &'a Samples,
    time: Duration,
}

impl Span<'_> {
    /// How much a series grew.
    fn grown(&self, sample: &Sample) -> f64 {
        sample.value - self.before.value(&sample.name, &sample.labels)
    }

    fn rate<'s>(&self, series: impl Iterator<Item = &'s Sample>) -> f64 {
        // Not `sum`: of nothing that is -0.
        let grown = series.fold(0.0, |grown, one| grown + self.grown(one));
        grown / self.time.as_secs_f64().max(0.001)
    }

    fn stage(&self, stage: &str) -> Quantiles {
        let name = buckets_of(CALL_STAGE_SECONDS);
        self.quantiles(self.now.of(&name).filter(|one| one.label("stage") == stage))
    }

    fn capabilities(&self, failed: impl Fn(&Sample) -> bool) -> Vec<OfCapability> {
        let name = buckets_of(CALL_SECONDS);
        let buckets = by_capability(self.now.of(&name));
        let of = |(id, series): (&str, Vec<&Sample>)| {
            let (mut calls, mut broken) = (0.0, 0.0);
            for one in &series {
                calls += one.value;
                broken += if failed(one) { one.value } else { 0.0 };
            }
            OfCapability {
                capability: id.to_owned(),
                calls: count(calls),
                failed: count(broken),
                calls_per_second: self.rate(series.into_iter()),
                seconds: self.quantiles(buckets.get(id).into_iter().flatten().copied()),
            }
        };
        let calls = by_capability(self.now.of(CALLS.name));
        // A series for `ok` is there from the first call of a capability on, whatever became of that.
        let mut all: Vec<OfCapability> = calls.into_iter().map(of).filter(|one| one.calls > 0).collect();
        all.sort_by(|one, two| {
            let busier = two.calls_per_second.total_cmp(&one.calls_per_second);
            busier.then(two.calls.cmp(&one.calls))
        });
        all
    }

    fn refused(&self, metric: Metric, reason: &str) -> Vec<Refused> {
        let all = self.now.of(metric.name).map(|one| Refused {
            reason: one.label(reason).to_owned(),
            by: one.label("by").to_owned(),
            count: count(one.value),
            per_second: self.grown(one) / self.time.as_secs_f64().max(0.001),
        });
        let mut all: Vec<Refused> = all.collect();
        all.sort_by_key(|one| std::cmp::Reverse(one.count));
        all
    }

    /// From the buckets, between whose bounds values are taken to lie evenly.
    fn quantiles<'s>(&self, series: impl Iterator<Item = &'s Sample>) -> Quantiles {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for sample in series {
            let Ok(bound) = sample.label("le").replace("+Inf", "inf").parse::<f64>() else {
                continue;
            };
            let grown = self.grown(sample);
            match buckets.iter_mut().find(|(other, _)| *other == bound) {
                Some((_, count)) => *count += grown,
                None => buckets.push((bound, grown)),
            }
        }
        buckets.sort_by(|one, two| one.0.total_cmp(&two.0));
        let at = |part| quantile(&buckets, part).map(|seconds| seconds * 1000.0);
        Quantiles {
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
        }
    }
}

/// The series of each capability.
fn by_capability<'s>(series: impl Iterator<Item = &'s Sample>) -> BTreeMap<&'s str, Vec<&'s Sample>> {
    let mut all = BTreeMap::<&str, Vec<&Sample>>::new();
    for one in series {
        all.entry(one.label("capability")).or_default().push(one);
    }
    all
}

/// `buckets` are bounds, each with how many values are not above it.
fn quantile(buckets: &[(f64, f64)], part: f64) -> Option<f64> {
    let (_, all) = buckets.last().copied().filter(|(_, all)| *all > 0.0)?;
    let rank = part * all;
    let (mut below, mut before) = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= rank {
            // Beyond the last bound nobody knows how far.
            let is_open = bound.is_infinite();
            let share = if *count > before {
                (rank - before) / (count - before)
            } else {
                1.0
            };
            return Some(if is_open {
                below
            } else {
                below + (bound - below) * share
            });
        }
        (below, before) = (*bound, *count);
    }
    None
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts, which are whole and not negative"
)]
fn count(value: f64) -> u64 {
    value.max(0.0) as u64
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::top::samples::tests::looks;

    pub(in crate::cli::top) const BEFORE: &str = "aral_calls_total{capability=\"a\",code=\"ok\"} 10\naral_call_seconds_bucket{capability=\"a\",le=\"0.1\"} 10\naral_call_seconds_bucket{capability=\"a\",le=\"0.2\"} 10\naral_call_seconds_bucket{capability=\"a\",le=\"+Inf\"} 10\n";
    pub(in crate::cli::top) const NOW: &str = concat!(
        "aral_calls_total{capability=\"a\",code=\"ok\"} 18\naral_calls_total{capability=\"a\",code=\"guest.trap\"} 2\n",
        "aral_calls_total{capability=\"b\u{1b}\",code=\"ok\"} 1\naral_calls_total{capability=\"c\",code=\"ok\"} 0\n",
        "aral_call_seconds_bucket{capability=\"a\",le=\"0.1\"} 15\naral_call_seconds_bucket{capability=\"a\",le=\"0.2\"} 20\n",
        "aral_call_seconds_bucket{capability=\"a\",le=\"+Inf\"} 20\n",
        "aral_denials_total{code=\"permission.denied\",by=\"policy\"} 3\naral_rate_limited_total{limit=\"requests_max\"} 4\n",
        "aral_calls_running 2\naral_calls_running_max 8\nprocess_resident_memory_bytes 1048576\naral_audit_writable 1\n",
        "aral_audit_sink_lag_records{sink=\"otlp\"} 5\n",
    );

    #[test]
    fn rates_and_quantiles_are_of_the_time_between() {
        let figures = Figures::between(&Samples::parse(BEFORE), &Samples::parse(NOW), Duration::from_secs(2));
        assert_eq!((figures.calls, figures.failed, figures.calls_per_second), (21, 2, 5.5));
        let [a, b] = &figures.capabilities[..] else {
            panic!("{figures:?}")
        };
        assert_eq!(
            (a.capability.as_str(), a.calls, a.failed, a.calls_per_second),
            ("a", 20, 2, 5.0)
        );
        assert_eq!(b.capability, "b\u{1b}");
        // Of the ten new ones five took up to 100 ms, and five between 100 and 200 ms.
        let close = |value: Option<f64>, wanted: f64| (value.unwrap() - wanted).abs() < 0.001;
        assert!(close(a.seconds.p50_ms, 100.0) && close(a.seconds.p90_ms, 180.0) && close(a.seconds.p99_ms, 198.0));
        assert_eq!(b.seconds, Quantiles::default());
        assert_eq!(
            (figures.denials[0].by.as_str(), figures.denials[0].count),
            ("policy", 3)
        );
        assert_eq!(
            (figures.limited[0].reason.as_str(), figures.limited[0].count),
            ("requests_max", 4)
        );
        assert_eq!((figures.gauge(CALLS_RUNNING), figures.gauge(CALLS_RUNNING_MAX)), (2, 8));
        assert_eq!(figures.audit_sinks["otlp"], 5);
    }

    /// Each series is looked for, and not compared with all others: of those there are thousands.
    #[test]
    fn a_server_with_many_capabilities_takes_no_more_looks_than_its_series_need() {
        let (capabilities, bounds) = (256, 18);
        let text = |calls: u64| {
            let lines = (0..capabilities).map(|id| {
                let bucket =
                    |bound| format!("aral_call_seconds_bucket{{capability=\"c{id}\",le=\"{bound}\"}} {calls}\n");
                let buckets: String = (1..=bounds).map(bucket).collect();
                format!("aral_calls_total{{capability=\"c{id}\",code=\"ok\"}} {calls}\n{buckets}")
            });
            lines.collect::<String>()
        };
        let (before, now) = (Samples::parse(&text(1)), Samples::parse(&text(3)));
        let mut shown = 0;
        let looks = looks(|| {
            let figures = Figures::between(&before, &now, Duration::from_secs(2));
            assert!(figures.capabilities.iter().all(|one| one.calls_per_second == 1.0));
            shown = figures.capabilities.len();
        });
        assert_eq!(shown, capabilities);
        // A few times all of them, and some steps to find each.
        let series = capabilities * (bounds + 1);
        assert!(looks < 100 * series, "{looks} looks at {series} series");
    }

    #[test]
    fn a_server_that_began_anew_and_one_that_did_nothing() {
        let (before, now) = (Samples::parse(NOW), Samples::parse(BEFORE));
        let figures = Figures::between(&before, &now, Duration::from_secs(1));
        assert_eq!(figures.calls_per_second, 10.0);
        // Buckets of both servers, of which the one had some more and the other some less, would be a histogram of neither.
        let histogram = |fast: u64, all: u64| {
            let buckets = [("0.1", fast), ("0.2", all), ("+Inf", all)];
            let line = |(le, count): (&str, u64)| {
                format!("aral_call_seconds_bucket{{capability=\"a\",le=\"{le}\"}} {count}\n")
            };
            Samples::parse(&buckets.map(line).concat())
        };
        let figures = Figures::between(&histogram(100, 100), &histogram(90, 101), Duration::from_secs(1));
        let p99 = figures.seconds.p99_ms.unwrap();
        assert!(p99 > 100.0 && p99 < 200.0, "{p99}");
        // A server that is asked for the first time after it has counted more than the one before.
        let began = |at: u64, calls: u64| {
            let calls = format!("aral_calls_total{{capability=\"a\",code=\"ok\"}} {calls}\n");
            Samples::parse(&format!("process_start_time_seconds {at}\n{calls}"))
        };
        for (begins, rate) in [(1000, 2.0), (1001, 12.0)] {
            let figures = Figures::between(&began(1000, 10), &began(begins, 12), Duration::from_secs(1));
            assert_eq!(figures.calls_per_second, rate, "{begins}");
        }
        let idle = Figures::between(&now, &now, Duration::ZERO);
        assert_eq!((idle.calls_per_second, idle.seconds), (0.0, Quantiles::default()));
        let empty = Figures::between(&Samples::default(), &Samples::default(), Duration::from_secs(1));
        assert!(empty.capabilities.is_empty() && empty.calls == 0);
        assert_eq!(
            quantile(&[(1.0, 0.0), (f64::INFINITY, 4.0)], 0.5),
            Some(1.0),
            "beyond the last bound"
        );
    }
}
