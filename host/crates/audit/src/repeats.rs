//! Counts failures of one kind from one source, so that nobody fills the log by failing: the first few of each window are
//! recorded, the rest become one record that says how many there were. The kind is as narrow as the words of the host and of
//! signed documents make it: else a flood of what is harmless would hide the one that is not.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use crate::schema::{AuditEvent, Authentication, Repeated};
use crate::text::Text;

use aral_contract::event::{AuthenticationMethod, Severity};
use aral_contract::{CapabilityId, network, rule};

/// Sources of one type of event that are told apart at once. Stops an attacker with many addresses from filling memory and the log:
/// those beyond are counted together.
const SOURCES_MAX: usize = 1024;
/// Sources of one kind that are told apart also beyond that: else strangers who fail in many ways would hide where keys are guessed.
const SOURCES_OF_KIND_MIN: usize = 64;

/// A kind of failure and where it comes from; none: from all sources that are not told apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    what: &'static str,
    /// Of what kind: a word of the host or a name in a signed document, and so not one of many that somebody makes up.
    which: Option<String>,
    from: Option<String>,
}

impl Source {
    /// Of what an event is a repeatable failure; none: it is recorded however often it happens. What a call does comes from its
    /// capability and from the persona that it is for together: else one agent would hide what is done for another.
    pub(crate) fn of(event: &AuditEvent) -> Option<Self> {
        let by_capability = |capability: Option<&CapabilityId>| match (capability, event.persona()) {
            (Some(capability), Some(persona)) => format!("persona {persona}: {capability}"),
            (Some(capability), None) => capability.to_string(),
            (None, _) => "operator".to_owned(),
        };
        let (which, from) = match event {
            AuditEvent::Authentication(event) if !event.success => {
                let source = event.source.map(place);
                (Some(way(event)), source.unwrap_or_else(|| "local".to_owned()))
            }
            AuditEvent::Decision(event) if event.grant.is_none() => {
                (Some(event.capability.to_string()), event.persona.to_string())
            }
            AuditEvent::Invocation(event) if !event.success && event.evidence.is_none() => {
                let code = event.code.as_ref().map(|code| code.as_str().to_owned());
                let persona = event.persona.as_ref().map(ToString::to_string);
                (code, persona.unwrap_or_else(|| event.capability.to_string()))
            }
            AuditEvent::HostCall(event) if !event.allowed => (
                Some(event.permission.to_string()),
                by_capability(Some(&event.capability)),
            ),
            AuditEvent::MemoryAccess(event) if !event.success => (
                Some(event.operation.as_str().to_owned()),
                by_capability(event.capability.as_ref()),
            ),
            AuditEvent::DataAccess(event) if !event.success => (
                Some(event.operation.as_str().to_owned()),
                by_capability(event.capability.as_ref()),
            ),
            AuditEvent::Security(event)
                if event.severity < Severity::Critical && !rule::is_act(event.rule.as_str()) =>
            {
                let source = event.source.map(place);
                let from = source.unwrap_or_else(|| event.subject.as_str().to_owned());
                (Some(event.rule.as_str().to_owned()), from)
            }
            AuditEvent::Authentication(_)
            | AuditEvent::Decision(_)
            | AuditEvent::InvocationStarted(_)
            | AuditEvent::Invocation(_)
            | AuditEvent::HostCall(_)
            | AuditEvent::MemoryAccess(_)
            | AuditEvent::DataAccess(_)
            | AuditEvent::Security(_)
            | AuditEvent::Lifecycle(_)
            | AuditEvent::ConfigurationChanged(_)
            | AuditEvent::Repeated(_)
            | AuditEvent::LogOpened(_)
            | AuditEvent::LogRetired(_)
            | AuditEvent::LogGap(_) => return None,
        };
        Some(Self {
            what: event.type_name(),
            which,
            from: Some(from),
        })
    }
}

/// How somebody failed to show who they are: a wrong key is another thing than none. The reasons of some methods are words of the host;
/// those of the others say what stands in a certificate or a document, of which there is any number.
fn way(event: &Authentication) -> String {
    let method = event.method.as_str();
    match (event.method, &event.reason) {
        (
            AuthenticationMethod::None
            | AuthenticationMethod::ApiKey
            | AuthenticationMethod::Token
            | AuthenticationMethod::Signature,
            Some(reason),
        ) => format!("{method}: {}", reason.as_str()),
        _ => method.to_owned(),
    }
}

/// An address, or the network that counts as one.
fn place(address: IpAddr) -> String {
    match network(address) {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(prefix) => format!("{prefix}/64"),
    }
}

/// Whether a failure is recorded by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Record,
    Count,
}

#[derive(Debug)]
struct Window {
    begun: Duration,
    recorded: u32,
    counted: u64,
    first: Timestamp,
    last: Timestamp,
}

/// The type of event, and of what kind it is: see [`Source`].
type Kind = (&'static str, Option<String>);

/// The counts.
#[derive(Debug)]
pub(crate) struct Repeats {
    max: u32,
    length: Duration,
    windows: HashMap<Kind, HashMap<Source, Window>>,
}

impl Repeats {
    pub(crate) fn new(max: u32, length: Duration) -> Self {
        Self {
            max,
            length,
            windows: HashMap::new(),
        }
    }

    /// One more failure, at `at` by the day and `elapsed` by the clock that never goes back.
    pub(crate) fn take(&mut self, source: Source, at: Timestamp, elapsed: Duration) -> Verdict {
        let of_type = self.windows.iter().filter(|((what, _), _)| *what == source.what);
        let has_room = of_type.map(|(_, windows)| windows.len()).sum::<usize>() < SOURCES_MAX;
        let windows = self.windows.entry((source.what, source.which.clone())).or_default();
        let is_told_apart = has_room || windows.len() < SOURCES_OF_KIND_MIN || windows.contains_key(&source);
        let source = if is_told_apart {
            source
        } else {
            Source { from: None, ..source }
        };
        let window = windows.entry(source).or_insert(Window {
            begun: elapsed,
            recorded: 0,
            counted: 0,
            first: at,
            last: at,
        });
        if window.recorded < self.max {
            window.recorded = window.recorded.saturating_add(1);
            return Verdict::Record;
        }
        if window.counted == 0 {
            window.first = at;
        }
        window.counted = window.counted.saturating_add(1);
        window.last = at;
        Verdict::Count
    }

    /// What was counted in the windows that are over by now.
    pub(crate) fn over(&mut self, elapsed: Duration) -> Vec<Repeated> {
        let length = self.length;
        self.remove(|window| elapsed.saturating_sub(window.begun) >= length)
    }

    /// What was counted in all windows, over or not.
    pub(crate) fn all(&mut self) -> Vec<Repeated> {
        self.remove(|_| true)
    }

    /// How long until the next window is over; none: there is none.
    pub(crate) fn wait(&self, elapsed: Duration) -> Option<Duration> {
        let end = self
            .windows
            .values()
            .flat_map(HashMap::values)
            .map(|window| window.begun.saturating_add(self.length))
            .min()?;
        Some(end.saturating_sub(elapsed))
    }

    fn remove(&mut self, over: impl Fn(&Window) -> bool) -> Vec<Repeated> {
        let over = &over;
        let mut repeated: Vec<Repeated> = self
            .windows
            .values_mut()
            .flat_map(|windows| windows.extract_if(move |_, window| over(window)))
            .filter(|(_, window)| window.counted > 0)
            .map(|(source, window)| Repeated {
                what: Text::new(source.what),
                which: source.which.as_deref().map(Text::new),
                from: source.from.as_deref().map(Text::new),
                count: window.counted,
                first: window.first,
                last: window.last,
            })
            .collect();
        self.windows.retain(|_, windows| !windows.is_empty());
        repeated
            .sort_by(|one, other| (&one.what, &one.which, &one.from).cmp(&(&other.what, &other.which, &other.from)));
        repeated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(from: &str) -> Source {
        Source {
            what: "authentication",
            which: None,
            from: Some(from.to_owned()),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_first_few_are_recorded_and_the_rest_counted_until_the_window_is_over() {
        let second = Duration::from_secs;
        let mut repeats = Repeats::new(2, second(60));
        let verdicts: Vec<Verdict> = (0..5)
            .map(|n| repeats.take(source("::1"), at(n), second(n.unsigned_abs())))
            .collect();
        assert_eq!(
            verdicts,
            [
                Verdict::Record,
                Verdict::Record,
                Verdict::Count,
                Verdict::Count,
                Verdict::Count
            ]
        );
        assert_eq!(repeats.take(source("::2"), at(3), second(3)), Verdict::Record);
        assert_eq!(repeats.wait(second(20)), Some(second(40)));
        assert!(repeats.over(second(59)).is_empty());
        let over = repeats.over(second(60));
        assert_eq!(over.len(), 1, "the other source's window is not over");
        assert_eq!((over[0].count, over[0].first, over[0].last), (3, at(2), at(4)));
        assert_eq!(repeats.take(source("::1"), at(61), second(61)), Verdict::Record);
    }

    #[test]
    fn with_too_many_sources_the_rest_are_counted_together() {
        let mut repeats = Repeats::new(1, Duration::from_secs(60));
        for number in 0..SOURCES_MAX {
            assert_eq!(
                repeats.take(source(&number.to_string()), at(0), Duration::ZERO),
                Verdict::Record
            );
        }
        assert_eq!(repeats.take(source("one more"), at(0), Duration::ZERO), Verdict::Record);
        for number in 0..1000 {
            let verdict = repeats.take(source(&format!("more {number}")), at(1), Duration::ZERO);
            assert_eq!(verdict, Verdict::Count);
        }
        let kind: Kind = ("authentication", None);
        assert!(repeats.windows[&kind].len() <= SOURCES_MAX + 1);
        let all = repeats.all();
        assert_eq!((all.len(), all[0].count, &all[0].from), (1, 1000, &None));
        assert_eq!(repeats.wait(Duration::ZERO), None);
        assert!(repeats.windows.is_empty(), "a kind without windows takes no memory");
    }

    #[test]
    fn sources_that_fail_in_one_way_do_not_hide_where_keys_are_guessed() {
        let mut repeats = Repeats::new(1, Duration::from_secs(60));
        let mut take = |which: &str, from: &str| {
            let source = Source {
                which: Some(which.to_owned()),
                ..source(from)
            };
            repeats.take(source, at(0), Duration::ZERO)
        };
        let ways = [
            "none: no credential",
            "none: two credentials",
            "api_key: an unknown key",
        ];
        for number in 0..SOURCES_MAX / ways.len() {
            for way in ways {
                assert_eq!(take(way, &number.to_string()), Verdict::Record, "{way}");
            }
        }
        assert_eq!(take("token: an unknown key", "one more"), Verdict::Record);
        assert_eq!(take("token: an unknown key", "one more"), Verdict::Count);
        let all = repeats.all();
        let from: Vec<_> = all.iter().map(|one| one.from.as_ref().map(Text::as_str)).collect();
        assert_eq!(from, [Some("one more")]);
    }

    #[test]
    fn many_kinds_of_one_type_do_not_multiply_what_many_sources_may_record() {
        const KINDS: usize = 24;
        let mut repeats = Repeats::new(1, Duration::from_secs(60));
        let mut recorded = 0;
        for kind in 0..KINDS {
            for number in 0..2 * SOURCES_MAX {
                let source = Source {
                    which: Some(kind.to_string()),
                    ..source(&number.to_string())
                };
                recorded += usize::from(repeats.take(source, at(0), Duration::ZERO) == Verdict::Record);
            }
        }
        let windows = repeats.windows.values().map(HashMap::len).sum::<usize>();
        assert_eq!(recorded, windows);
        assert!(windows <= SOURCES_MAX + KINDS * (SOURCES_OF_KIND_MIN + 1), "{windows}");
    }

    #[test]
    fn sources_of_one_type_of_event_do_not_keep_those_of_another_from_being_told_apart() {
        let mut repeats = Repeats::new(1, Duration::from_secs(60));
        for number in 0..=SOURCES_MAX {
            let _recorded = repeats.take(source(&number.to_string()), at(0), Duration::ZERO);
        }
        for persona in ["one", "other"] {
            let refused = Source {
                what: "host_call",
                which: Some("network:read".to_owned()),
                from: Some(format!("persona {persona}: web-fetch")),
            };
            let mut take = || repeats.take(refused.clone(), at(0), Duration::ZERO);
            assert_eq!((take(), take()), (Verdict::Record, Verdict::Count), "{persona}");
        }
        assert_eq!(repeats.over(Duration::from_secs(60)).len(), 2);
        assert_eq!(repeats.wait(Duration::ZERO), None);
    }

    #[test]
    fn whoever_has_a_network_is_one_source() {
        for (one, other, expected) in [
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"),
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            let [one, other] = [one, other].map(|text| place(text.parse().unwrap()));
            assert_eq!((one.as_str(), other.as_str()), (expected, expected));
        }
        let other = place("2001:db8:1:3::1".parse().unwrap());
        assert_eq!(other, "2001:db8:1:3::/64");
    }

    #[test]
    fn a_flood_of_one_kind_does_not_hide_another_one() {
        use crate::schema::Security;
        let security = |rule: &str, subject: &str| {
            let source = Some(std::net::IpAddr::from([192, 0, 2, 1]));
            AuditEvent::Security(Security {
                severity: Severity::High,
                rule: Text::new(rule),
                subject: Text::new(subject),
                reason: None,
                source,
            })
        };
        let mut repeats = Repeats::new(1, Duration::from_secs(60));
        let mut take = |event: AuditEvent| repeats.take(Source::of(&event).unwrap(), at(0), Duration::ZERO);
        assert_eq!(take(security("http.host", "a")), Verdict::Record);
        assert_eq!(take(security("http.host", "b")), Verdict::Count);
        assert_eq!(take(security("persona.override", "a")), Verdict::Record);
        let all = repeats.all();
        let which: Vec<_> = all.iter().map(|one| one.which.as_ref().unwrap().as_str()).collect();
        assert_eq!(which, ["http.host"]);
    }

    #[test]
    fn what_was_done_is_no_failure_however_often_it_is() {
        use crate::schema::Security;
        let source = |rule: &str, severity| {
            Source::of(&AuditEvent::Security(Security {
                severity,
                rule: Text::new(rule),
                subject: Text::new("subject"),
                reason: None,
                source: None,
            }))
        };
        assert!(source(rule::HTTP_HOST, Severity::High).is_some(), "the control");
        assert_eq!(source(rule::HTTP_HOST, Severity::Critical), None);
        for act in [
            rule::MEMORY_DAMAGED_DELETED,
            rule::MEMORY_EXPORT_BEGUN,
            rule::BREAKER_OPENED,
            rule::EGRESS_CA_FILE,
            rule::DEVELOPMENT_ONLY,
        ] {
            assert_eq!(source(act, Severity::Medium), None, "{act}");
        }
    }

    #[test]
    fn a_flood_of_requests_without_a_credential_does_not_hide_a_guessed_one() {
        let failed = |method, reason: &str| {
            AuditEvent::Authentication(Authentication {
                user: None,
                agent: None,
                method,
                source: Some(IpAddr::from([192, 0, 2, 1])),
                success: false,
                reason: Some(Text::new(reason)),
            })
        };
        let mut repeats = Repeats::new(1, Duration::from_secs(60));
        let mut take = |method, reason: &str| {
            let source = Source::of(&failed(method, reason)).unwrap();
            repeats.take(source, at(0), Duration::ZERO)
        };
        let way = AuthenticationMethod::None;
        assert_eq!(take(way, "no credential"), Verdict::Record);
        assert_eq!(take(way, "no credential"), Verdict::Count);
        for (method, reason) in [
            (AuthenticationMethod::None, "two credentials"),
            (AuthenticationMethod::ApiKey, "an unknown key"),
            (AuthenticationMethod::Token, "an unknown key"),
            (AuthenticationMethod::Token, "a token of a wrong algorithm"),
        ] {
            assert_eq!(take(method, reason), Verdict::Record, "{method:?}: {reason}");
        }
        let all = repeats.all();
        assert_eq!(all[0].which.as_ref().unwrap().as_str(), "none: no credential");
    }

    #[test]
    fn what_stands_in_certificates_makes_no_kind_of_its_own() {
        for method in [
            AuthenticationMethod::Certificate,
            AuthenticationMethod::Persona,
            AuthenticationMethod::Local,
        ] {
            let kind = |reason: &str| {
                Source::of(&AuditEvent::Authentication(Authentication {
                    user: None,
                    agent: None,
                    method,
                    source: None,
                    success: false,
                    reason: Some(Text::new(reason)),
                }))
            };
            assert_eq!(kind("made up 1"), kind("made up 2"), "{method:?}");
        }
    }

    #[test]
    fn a_flood_of_one_persona_does_not_hide_what_is_refused_to_another_one() {
        use crate::schema::{DataAccess, HostCall, MemoryAccess, Name};
        use aral_contract::event::{MemoryOperation, SecretOperation};
        use aral_contract::{Classification, Permission, PersonaId};
        let host_call = |persona| {
            AuditEvent::HostCall(HostCall {
                capability: "web-fetch".parse().unwrap(),
                persona,
                permission: Permission::NetworkRead,
                target: Name::Clear(Text::new("http://169.254.169.254")),
                allowed: false,
                reason: None,
            })
        };
        let memory = |persona| {
            AuditEvent::MemoryAccess(MemoryAccess {
                capability: Some("web-fetch".parse().unwrap()),
                persona,
                operation: MemoryOperation::Read,
                namespace: "notes".parse().unwrap(),
                record: None,
                classification: None,
                amount: 0,
                success: false,
                reason: None,
            })
        };
        let secret = |persona| {
            AuditEvent::DataAccess(DataAccess {
                capability: Some("web-fetch".parse().unwrap()),
                persona,
                secret: "token".parse().unwrap(),
                classification: Classification::Secret,
                operation: SecretOperation::Inject,
                target: None,
                success: false,
                reason: None,
            })
        };
        let events: [fn(Option<PersonaId>) -> AuditEvent; 3] = [host_call, memory, secret];
        for event in events {
            let mut repeats = Repeats::new(1, Duration::from_secs(60));
            let mut take = |persona: &str| {
                let event = event(Some(persona.parse().unwrap()));
                repeats.take(Source::of(&event).unwrap(), at(0), Duration::ZERO)
            };
            assert_eq!(take("one"), Verdict::Record);
            assert_eq!(take("one"), Verdict::Count);
            assert_eq!(take("other"), Verdict::Record, "{:?}", event(None));
            let all = repeats.all();
            let from: Vec<_> = all.iter().map(|one| one.from.as_ref().unwrap().as_str()).collect();
            assert_eq!(from, ["persona one: web-fetch"]);
        }
    }
}
