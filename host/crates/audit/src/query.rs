//! Finds records: by time, request, persona, capability, type and severity.

use std::collections::BTreeMap;
use std::path::Path;

use aral_contract::event::Severity;
use aral_contract::{CapabilityId, PersonaId, TraceId};
use jiff::Timestamp;

use crate::cursor::{Cursor, Entry, ReadError};
use crate::schema::{AuditEvent, Record};

/// Which records. What is absent does not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// Of this request.
    pub trace: Option<TraceId>,
    /// About this persona: of it, of what calls under it do, and security events that name it.
    pub persona: Option<PersonaId>,
    /// About this capability.
    pub capability: Option<CapabilityId>,
    /// Of this type, as in the member `type`.
    pub kind: Option<String>,
    /// At least so urgent.
    pub severity: Option<Severity>,
}

impl Filter {
    /// Whether a record is one of them, besides being about the persona.
    fn matches(&self, record: &Record) -> bool {
        let event = &record.event;
        self.since.is_none_or(|since| record.at >= since)
            && self.until.is_none_or(|until| record.at < until)
            && self.trace.is_none_or(|trace| record.trace == Some(trace))
            && self
                .capability
                .as_ref()
                .is_none_or(|capability| event.capability() == Some(capability))
            && self.kind.as_ref().is_none_or(|kind| event.type_name() == kind)
            && self
                .severity
                .is_none_or(|least| event.severity().is_some_and(|severity| severity >= least))
    }
}

/// Finds the records about a persona on the way through a log. What an older host recorded of what a call does says which capability
/// does it, in which request, and not for whom: that says the beginning of the call.
#[derive(Debug)]
struct About {
    persona: PersonaId,
    /// Calls under it that have begun and not ended.
    calls: BTreeMap<(Option<TraceId>, CapabilityId), u64>,
}

impl About {
    fn matches(&mut self, record: &Record) -> bool {
        let event = &record.event;
        if let Some(persona) = event.persona() {
            let is_theirs = *persona == self.persona;
            match event {
                AuditEvent::InvocationStarted(call) if is_theirs => {
                    let begun = self.calls.entry((record.trace, call.capability.clone())).or_default();
                    *begun = begun.saturating_add(1);
                }
                AuditEvent::Invocation(call) if is_theirs => {
                    let key = (record.trace, call.capability.clone());
                    if let Some(begun) = self.calls.get_mut(&key) {
                        *begun = begun.saturating_sub(1);
                        if *begun == 0 {
                            self.calls.remove(&key);
                        }
                    }
                }
                _ => {}
            }
            return is_theirs;
        }
        match event {
            AuditEvent::Security(event) => self.is_named(event.subject.as_str()),
            AuditEvent::Lifecycle(event) => self.is_named(event.subject.as_str()),
            AuditEvent::Repeated(event) => {
                let from = event.from.as_ref().map_or("", |from| from.as_str());
                // What others come from are capabilities, which may have the same name, with the persona before them.
                let of_personas = matches!(event.what.as_str(), "authentication" | "decision" | "invocation");
                self.is_named(from) || (of_personas && from == self.persona.as_str())
            }
            // A host that was killed left calls that never end, but nothing more of them.
            AuditEvent::LogOpened(_) => {
                self.calls.clear();
                false
            }
            event => event
                .capability()
                .is_some_and(|capability| self.calls.contains_key(&(record.trace, capability.clone()))),
        }
    }

    /// Whether a text begins with the id after the word `persona`.
    fn is_named(&self, subject: &str) -> bool {
        let named = subject
            .strip_prefix("persona ")
            .map(|rest| rest.trim_start_matches('`'));
        let id = named.and_then(|rest| rest.split([' ', ':', '`']).next());
        id == Some(self.persona.as_str())
    }
}

/// The records of a log that a filter lets through, oldest first, each with its line.
///
/// # Errors
/// The folder cannot be opened; each item may say that the log cannot be read on.
pub fn query(
    directory: &Path,
    filter: Filter,
) -> Result<impl Iterator<Item = Result<(Entry, Record), ReadError>> + use<>, ReadError> {
    let cursor = Cursor::oldest(directory)?;
    let mut about = filter.persona.clone().map(|persona| About {
        persona,
        calls: BTreeMap::new(),
    });
    Ok(cursor.filter_map(move |entry| {
        let found = entry.and_then(|entry| entry.record().map(|record| (entry, record)));
        match found {
            Ok((_, record)) if !about.as_mut().is_none_or(|about| about.matches(&record)) => None,
            Ok((_, record)) if !filter.matches(&record) => None,
            other => Some(other),
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;
    use std::time::Duration;

    use aral_contract::event::{MemoryOperation, SecretOperation};
    use aral_contract::{AuditSink as _, Code, Digest, Event, EventKind, Permission, Usage};
    use cap_std::fs::OpenOptions;

    use super::*;
    use crate::LogOptions;
    use crate::convert::convert;
    use crate::testing::{Damage, blinder, event, firsts, options, session, start, try_open};

    fn ended(capability: &str, trace: u8, second: u64) -> Event {
        Event {
            at: start() + Duration::from_secs(second),
            trace: Some(TraceId::from_bytes([trace; 16])),
            kind: EventKind::InvocationEnded {
                capability: capability.parse().unwrap(),
                persona: "analyst".parse().unwrap(),
                code: Some(Code::GuestTrap),
                usage: Usage::default(),
                user: None,
                callers: Vec::new(),
                evidence: None,
            },
        }
    }

    #[test]
    fn each_member_of_a_filter_restricts() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        let log = session(&options, 1);
        log.record(ended("one", 1, 10));
        log.record(ended("two", 2, 20));
        log.record(Event {
            at: start() + Duration::from_secs(30),
            trace: None,
            kind: EventKind::Security {
                severity: Severity::High,
                rule: "override",
                subject: "persona".to_owned(),
                reason: None,
                source: None,
            },
        });
        log.record(Event {
            at: start() + Duration::from_secs(40),
            trace: None,
            kind: EventKind::Decision {
                capability: "one".parse().unwrap(),
                version: "1.0.0".parse().unwrap(),
                manifest: Digest::of(b"manifest"),
                persona: "agent".parse().unwrap(),
                persona_digest: Digest::of(b"persona"),
                policy: Digest::of(b"policy"),
                grant: None,
                missing: Vec::new(),
            },
        });
        log.close().unwrap();
        let found = |filter: Filter| -> Vec<u64> {
            let found = query(&options.directory, filter).unwrap();
            found.map(|found| found.unwrap().1.seq).collect()
        };
        let all = Filter::default;
        let at = |second| Some(start() + Duration::from_secs(second));
        assert_eq!(found(all()), [0, 1, 2, 3, 4, 5]);
        assert_eq!(found(Filter { since: at(20), ..all() }), [3, 4, 5]);
        assert_eq!(found(Filter { until: at(20), ..all() }), [0, 1, 2]);
        assert_eq!(
            found(Filter {
                trace: Some(TraceId::from_bytes([2; 16])),
                ..all()
            }),
            [3]
        );
        assert_eq!(
            found(Filter {
                capability: Some("one".parse().unwrap()),
                ..all()
            }),
            [2, 5]
        );
        assert_eq!(
            found(Filter {
                persona: Some("agent".parse().unwrap()),
                ..all()
            }),
            [5]
        );
        assert_eq!(
            found(Filter {
                kind: Some("lifecycle".to_owned()),
                ..all()
            }),
            [1]
        );
        assert_eq!(
            found(Filter {
                severity: Some(Severity::Medium),
                ..all()
            }),
            [4]
        );
        assert_eq!(
            found(Filter {
                severity: Some(Severity::Critical),
                ..all()
            }),
            [0u64; 0]
        );
    }

    fn begun(persona: &str, capability: &str) -> EventKind {
        EventKind::InvocationStarted {
            capability: capability.parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            persona: persona.parse().unwrap(),
            grant: Digest::of(b"grant"),
        }
    }

    fn used(persona: &str) -> EventKind {
        EventKind::HostCall {
            capability: "tool".parse().unwrap(),
            persona: persona.parse().unwrap(),
            permission: Permission::Exec,
            target: "head".to_owned(),
            allowed: true,
            reason: None,
        }
    }

    #[test]
    fn about_a_persona_is_what_its_calls_do_in_the_trace_of_another_one_too_and_what_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        let log = session(&options, 0);
        let wrote = |persona: Option<&str>| EventKind::MemoryAccess {
            capability: persona.map(|_| "tool".parse().unwrap()),
            persona: persona.map(|persona| persona.parse().unwrap()),
            operation: MemoryOperation::Write,
            namespace: "notes".parse().unwrap(),
            record: None,
            classification: None,
            amount: 1,
            refused: None,
        };
        let revealed = |persona: &str| EventKind::SecretAccess {
            capability: Some("tool".parse().unwrap()),
            persona: Some(persona.parse().unwrap()),
            secret: "token".parse().unwrap(),
            operation: SecretOperation::Reveal,
            target: None,
            refused: None,
        };
        let security = |subject: &str| EventKind::Security {
            severity: Severity::High,
            rule: "rule",
            subject: subject.to_owned(),
            reason: None,
            source: None,
        };
        let (analyst, other) = (Some("analyst"), Some("other"));
        let of = [
            (analyst, begun("analyst", "tool")),
            (other, begun("other", "tool")),
            (analyst, used("analyst")),
            (other, used("other")),
            (analyst, wrote(analyst)),
            (other, wrote(other)),
            (analyst, revealed("analyst")),
            (other, revealed("other")),
            (analyst, ended("tool", 1, 0).kind),
            // Was under way when the call was given up.
            (analyst, wrote(analyst)),
            (None, wrote(None)),
            (analyst, security("persona analyst: too often")),
            (analyst, security("persona `analyst` without a signature")),
            (analyst, security("persona analyst")),
            (None, security("persona analysts: too often")),
            (None, security("analyst")),
        ];
        for (_, kind) in of.clone() {
            log.record(Event {
                at: start(),
                trace: Some(TraceId::from_bytes([1; 16])),
                kind,
            });
        }
        log.close().unwrap();
        for persona in [analyst, other] {
            let filter = Filter {
                persona: persona.map(|persona| persona.parse().unwrap()),
                ..Filter::default()
            };
            let found = query(&options.directory, filter).unwrap();
            let found: Vec<u64> = found.map(|found| found.unwrap().1.seq).collect();
            let theirs = (1u64..).zip(&of).filter(|(_, (whose, _))| *whose == persona);
            assert_eq!(found, theirs.map(|(seq, _)| seq).collect::<Vec<u64>>(), "{persona:?}");
        }
    }

    #[test]
    fn what_an_older_host_recorded_without_a_persona_is_found_by_the_call_that_did_it() {
        let read = |json: &str| serde_json::from_str::<AuditEvent>(json).unwrap();
        let converted = |kind| {
            let event = Event {
                at: start(),
                trace: None,
                kind,
            };
            convert(event, &blinder()).unwrap()
        };
        let call = |capability: &str| {
            read(&format!(
                r#"{{"type":"host_call","capability":"{capability}","permission":"exec","target":{{"clear":"head"}},"allowed":true}}"#
            ))
        };
        let secret = r#"{"type":"data_access","capability":"tool","secret":"token","classification":"secret","operation":"inject","success":true}"#;
        let memory = r#"{"type":"memory_access","capability":"tool","operation":"list","namespace":"notes","amount":0,"success":true}"#;
        let opened = r#"{"type":"log_opened","log":"01010101010101010101010101010101","clean":false,"cut_bytes":0}"#;
        let mut about = About {
            persona: "analyst".parse().unwrap(),
            calls: BTreeMap::new(),
        };
        for (step, (trace, event, is_theirs)) in [
            (1, converted(begun("analyst", "tool")), true),
            (1, converted(begun("analyst", "tool")), true),
            (1, converted(ended("tool", 1, 0).kind), true),
            (1, call("tool"), true),
            (1, read(secret), true),
            (1, read(memory), true),
            (1, call("another"), false),
            (2, converted(begun("other", "tool")), false),
            (2, call("tool"), false),
            (1, converted(ended("tool", 1, 0).kind), true),
            (1, call("tool"), false),
            // A call that a kill ended: nothing of the next host is of it.
            (3, converted(begun("analyst", "tool")), true),
            (3, read(opened), false),
            (3, call("tool"), false),
        ]
        .into_iter()
        .enumerate()
        {
            let record = Record {
                seq: 0,
                prev: Digest::of(b"the line before"),
                at: start(),
                trace: Some(TraceId::from_bytes([trace; 16])),
                event,
            };
            assert_eq!(about.matches(&record), is_theirs, "{step}: {record:?}");
        }
    }

    #[test]
    fn a_cursor_follows_a_log_across_segments_and_records_that_are_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let options = LogOptions {
            segment_bytes_max: 2000,
            ..options(folder.path())
        };
        let log = try_open(&options, Arc::new(crate::testing::TestClock::default())).unwrap();
        let mut cursor = Cursor::oldest(&options.directory).unwrap();
        let mut seen = Vec::new();
        for number in 0..40 {
            log.record(event(&number.to_string()));
            log.flush().unwrap();
            seen.extend(cursor.by_ref().map(|entry| entry.unwrap().seq));
            assert_eq!(seen.len(), number + 2);
        }
        assert!(seen.into_iter().eq(0..41));
        log.close().unwrap();
        // The end of the last segment, written in two parts.
        let (last, whole) = {
            let dir = files_dir(&options);
            let last = crate::segment::list(&dir).unwrap().last().unwrap().first;
            let whole = crate::testing::records(&options).last().unwrap().clone();
            (last, whole)
        };
        let line = serde_json::to_string(&Record { seq: 41, ..whole }).unwrap();
        let (front, back) = line.split_at(30);
        let mut file = files_dir(&options)
            .open_with(crate::segment::file_name(last), OpenOptions::new().append(true))
            .unwrap();
        file.write_all(front.as_bytes()).unwrap();
        assert!(cursor.next().is_none());
        file.write_all(format!("{back}\n").as_bytes()).unwrap();
        assert_eq!(cursor.next().unwrap().unwrap().seq, 41);
        assert!(cursor.next().is_none());
        file.write_all(b"{}\n").unwrap();
        assert!(matches!(cursor.next().unwrap(), Err(ReadError::Damaged { seq: 42 })));
    }

    /// A log of which a few records make a segment.
    fn small_segments(folder: &Path) -> LogOptions {
        LogOptions {
            segment_bytes_max: 1200,
            ..options(folder)
        }
    }

    /// Writes so many records, one by one.
    fn write(log: &crate::AuditLog, count: u64) {
        for number in 0..count {
            log.record(event(&number.to_string()));
            log.flush().unwrap();
        }
    }

    #[test]
    fn what_is_gone_or_cut_off_before_later_segments_is_damage_and_not_the_end() {
        for damage in Damage::ALL {
            let folder = tempfile::tempdir().unwrap();
            let options = small_segments(folder.path());
            let log = session(&options, 0);
            write(&log, 60);
            log.close().unwrap();
            let all: Result<Vec<_>, _> = query(&options.directory, Filter::default()).unwrap().collect();
            assert_eq!(all.unwrap().len(), 61, "the control");
            let seq = damage.happens(&options);
            let is_told = |error: &ReadError| matches!(error, ReadError::Damaged { seq: told } if *told == seq);
            let found: Result<Vec<_>, _> = query(&options.directory, Filter::default()).unwrap().collect();
            assert!(found.as_ref().is_err_and(is_told), "{damage:?}: {found:?}");
            // However often it is asked.
            let mut oldest = Cursor::oldest(&options.directory).unwrap();
            let read = oldest.by_ref().take_while(Result::is_ok).count();
            assert_eq!(read as u64, seq, "{damage:?}");
            let again = oldest.advance();
            assert!(again.as_ref().is_err_and(is_told), "{damage:?}: {again:?}");
            // Also by whoever wants that record first, as a copy that goes on there. Behind a line that does not end it is there.
            let there = Cursor::open(&options.directory, seq).unwrap().advance();
            let is_right = match damage {
                Damage::Gone | Damage::Cut | Damage::Torn => there.as_ref().is_err_and(is_told),
                Damage::Endless => there.is_ok(),
            };
            assert!(is_right, "{damage:?}: {there:?}");
        }
    }

    #[test]
    fn a_cursor_that_stood_at_the_end_reads_what_came_behind_it_there_and_in_later_segments() {
        let folder = tempfile::tempdir().unwrap();
        let options = small_segments(folder.path());
        let log = session(&options, 0);
        let mut cursor = Cursor::oldest(&options.directory).unwrap();
        assert_eq!(cursor.by_ref().count(), 1);
        write(&log, 60);
        log.close().unwrap();
        assert!(firsts(&options).len() > 6);
        assert!(cursor.map(|entry| entry.unwrap().seq).eq(1..61));
    }

    #[test]
    fn a_cursor_that_stood_at_a_torn_end_reads_what_the_next_host_wrote_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let options = small_segments(folder.path());
        session(&options, 2).close().unwrap();
        let newest = crate::segment::file_name(*firsts(&options).last().unwrap());
        let mut file = files_dir(&options)
            .open_with(newest, OpenOptions::new().append(true))
            .unwrap();
        file.write_all(b"{\"seq\":3,\"prev\":\"00").unwrap();
        let mut cursor = Cursor::oldest(&options.directory).unwrap();
        assert!(cursor.by_ref().map(|entry| entry.unwrap().seq).eq(0..3));
        let log = session(&options, 0);
        write(&log, 60);
        log.close().unwrap();
        assert!(firsts(&options).len() > 6);
        assert!(cursor.map(|entry| entry.unwrap().seq).eq(3..64));
    }

    fn files_dir(options: &LogOptions) -> cap_std::fs::Dir {
        aral_runtime::files::open_root(&options.directory).unwrap()
    }

    #[test]
    fn what_is_gone_is_said_to_be_gone() {
        let folder = tempfile::tempdir().unwrap();
        let options = LogOptions {
            segment_bytes_max: 2000,
            retain_bytes_max: 10_000,
            ..options(folder.path())
        };
        let log = session(&options, 0);
        for number in 0..60 {
            log.record(event(&number.to_string()));
            log.flush().unwrap();
        }
        log.close().unwrap();
        let first = Cursor::oldest(&options.directory).unwrap().position();
        let mut cursor = Cursor::open(&options.directory, 0).unwrap();
        assert!(first > 0);
        assert!(matches!(cursor.advance(), Err(ReadError::Gone { wanted: 0, first: there }) if there == first));
        // Who reads from the oldest on goes on with what is left.
        let mut oldest = Cursor::oldest(&options.directory).unwrap();
        let firsts = firsts(&options);
        let dir = aral_runtime::files::open_root(&options.directory).unwrap();
        dir.remove_file(crate::segment::file_name(first)).unwrap();
        assert_eq!(oldest.advance().unwrap().unwrap().seq, firsts[1]);
        let mut named = Cursor::open(&options.directory, first).unwrap();
        assert!(matches!(named.advance(), Err(ReadError::Gone { .. })));
        // Also where it had read the one before to its end.
        let mut named = Cursor::open(&options.directory, firsts[1]).unwrap();
        while named.position() + 1 < firsts[2] {
            named.advance().unwrap().unwrap();
            oldest.advance().unwrap().unwrap();
        }
        named.advance().unwrap().unwrap();
        for gone in &firsts[1..3] {
            dir.remove_file(crate::segment::file_name(*gone)).unwrap();
        }
        // The newest one may have no record yet.
        let _one_or_none = oldest.advance().unwrap();
        assert!(oldest.position() >= firsts[3], "{firsts:?}");
        assert!(matches!(named.advance(), Err(ReadError::Gone { .. })));
    }
}
