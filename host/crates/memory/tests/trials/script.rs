//! What a writer is to do, as text that the writing program reads, and as the state that must come of it. Shared by the
//! program `examples/writer.rs` and by the tests. It knows no store.

use std::collections::BTreeMap;
use std::fmt;

/// One change of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Writes it.
    Put {
        name: String,
        value: Value,
        ttl_seconds: Option<u64>,
        /// Which of the four classifications.
        class: usize,
    },
    /// Deletes it.
    Delete { name: String },
}

/// A value that is told by its text: the text again and again, up to a length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) text: String,
    pub(crate) bytes: usize,
}

impl Value {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.text.bytes().cycle().take(self.bytes).collect()
    }
}

/// What a writer does before it says that it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// A batch in one namespace.
    Apply { namespace: String, changes: Vec<Change> },
    /// Lets time go by.
    Wait { seconds: u64 },
    /// Lists a namespace and reads each record of it.
    Read { namespace: String },
    /// Sweeps until nothing is left.
    Sweep,
    /// Rotates to the master key with this text.
    Rotate { key: String },
}

/// One act of one thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) thread: usize,
    pub(crate) act: Act,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put {
                name,
                value: Value { text, bytes },
                ttl_seconds,
                class,
            } => {
                let ttl = ttl_seconds.unwrap_or(0);
                write!(f, "put {name} {text} {bytes} {ttl} {class}")
            }
            Self::Delete { name } => write!(f, "delete {name}"),
        }
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.thread)?;
        match &self.act {
            Act::Apply { namespace, changes } => {
                write!(f, "apply {namespace}")?;
                changes.iter().try_for_each(|change| write!(f, ", {change}"))
            }
            Act::Wait { seconds } => write!(f, "wait {seconds}"),
            Act::Read { namespace } => write!(f, "read {namespace}"),
            Act::Sweep => f.write_str("sweep"),
            Act::Rotate { key } => write!(f, "rotate {key}"),
        }
    }
}

fn parse_change(text: &str) -> Option<Change> {
    let words: Vec<&str> = text.split(' ').collect();
    match words.as_slice() {
        ["put", name, text, bytes, ttl, class] => Some(Change::Put {
            name: (*name).to_owned(),
            value: Value {
                text: (*text).to_owned(),
                bytes: bytes.parse().ok()?,
            },
            ttl_seconds: ttl.parse().ok().filter(|ttl| *ttl > 0),
            class: class.parse().ok()?,
        }),
        ["delete", name] => Some(Change::Delete {
            name: (*name).to_owned(),
        }),
        _ => None,
    }
}

/// The turns of a script, one on each line; none if a line is none.
pub(crate) fn parse(script: &str) -> Option<Vec<Turn>> {
    let turn = |line: &str| {
        let (thread, act) = line.split_once(' ')?;
        let mut parts = act.split(", ");
        let words: Vec<&str> = parts.next()?.split(' ').collect();
        let act = match words.as_slice() {
            ["apply", namespace] => Act::Apply {
                namespace: (*namespace).to_owned(),
                changes: parts.map(parse_change).collect::<Option<_>>()?,
            },
            ["wait", seconds] => Act::Wait {
                seconds: seconds.parse().ok()?,
            },
            ["read", namespace] => Act::Read {
                namespace: (*namespace).to_owned(),
            },
            ["sweep"] => Act::Sweep,
            ["rotate", key] => Act::Rotate { key: (*key).to_owned() },
            _ => return None,
        };
        let thread = thread.parse().ok()?;
        Some(Turn { thread, act })
    };
    script.lines().map(turn).collect()
}

/// A record as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) value: Value,
    pub(crate) version: u64,
    /// In seconds since 1970.
    pub(crate) expires: Option<i64>,
    pub(crate) class: usize,
}

/// Records by namespace and name.
pub(crate) type State = BTreeMap<(String, String), Expected>;

/// What comes of an act at the moment `now`, in seconds since 1970.
pub(crate) fn perform(state: &mut State, act: &Act, now: i64) {
    match act {
        Act::Apply { namespace, changes } => {
            for change in changes {
                perform_change(state, namespace, change, now);
            }
        }
        Act::Wait { .. } | Act::Sweep => forget_expired(state, now),
        Act::Read { .. } | Act::Rotate { .. } => {}
    }
}

/// Takes out what has expired.
pub(crate) fn forget_expired(state: &mut State, now: i64) {
    state.retain(|_, record| record.expires.is_none_or(|expires| expires > now));
}

fn perform_change(state: &mut State, namespace: &str, change: &Change, now: i64) {
    let place = |name: &String| (namespace.to_owned(), name.clone());
    match change {
        Change::Put {
            name,
            value,
            ttl_seconds,
            class,
        } => {
            let live = state
                .get(&place(name))
                .filter(|record| record.expires.is_none_or(|expires| expires > now));
            let record = Expected {
                value: value.clone(),
                version: live.map_or(0, |record| record.version) + 1,
                expires: ttl_seconds.map(|ttl| now + i64::try_from(ttl).unwrap_or(i64::MAX)),
                class: *class,
            };
            state.insert(place(name), record);
        }
        Change::Delete { name } => drop(state.remove(&place(name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_script_says_is_what_was_meant() {
        let put = Change::Put {
            name: "a-name".to_owned(),
            value: Value {
                text: "text.".to_owned(),
                bytes: 7,
            },
            ttl_seconds: Some(9),
            class: 3,
        };
        let delete = Change::Delete {
            name: "another".to_owned(),
        };
        let apply = Act::Apply {
            namespace: "space".to_owned(),
            changes: vec![put, delete],
        };
        let key = "00".to_owned();
        let acts = [apply, Act::Wait { seconds: 5 }, Act::Sweep, Act::Rotate { key }];
        let turns: Vec<Turn> = acts
            .into_iter()
            .enumerate()
            .map(|(thread, act)| Turn { thread, act })
            .collect();
        let text: String = turns.iter().map(|turn| format!("{turn}\n")).collect();
        assert_eq!(parse(&text), Some(turns));
        assert_eq!(parse("0 applies space\n"), None);
    }
}
