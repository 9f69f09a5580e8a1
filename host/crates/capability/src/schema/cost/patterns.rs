//! The patterns of a schema, and what they take to search a text. How large their automatons are is for others to find out.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::own::Own;

/// Bytes of an automaton for which a pattern takes one step at each byte that it reads. A state has 32 bytes at least, and is
/// visited at most once for a byte: where most of them are alive at once, a step stands for some hundred such visits. Small
/// automatons, and whatever has few states alive, cost far less.
const BYTES_PER_STEP: u64 = 4096;

/// The patterns, with the automaton of each.
#[derive(Default)]
pub(super) struct Patterns {
    texts: BTreeMap<String, Automaton>,
    /// Of those for names: what a pattern becomes depends on what it searches.
    names: BTreeMap<String, Automaton>,
}

/// How large it is at most, in bytes, and how often there is one.
struct Automaton {
    bytes: u64,
    count: u64,
}

fn add(to: &mut BTreeMap<String, Automaton>, pattern: &str) {
    let unknown = Automaton {
        bytes: u64::MAX,
        count: 0,
    };
    let one = to.entry(pattern.to_owned()).or_insert(unknown);
    one.count = one.count.saturating_add(1);
}

impl Patterns {
    /// Takes the patterns of one schema, whatever their size. Says how many there are.
    pub(super) fn add(&mut self, own: &Own<'_>) -> u64 {
        if let Some(pattern) = own.pattern {
            add(&mut self.texts, pattern);
        }
        for pattern in own.name_patterns.into_iter().flat_map(Map::keys) {
            add(&mut self.names, pattern);
        }
        let count = own.name_patterns.map_or(0, Map::len);
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        count.saturating_add(u64::from(own.pattern.is_some()))
    }

    /// Finds out how large each is.
    pub(super) fn measure<E>(&mut self, mut bytes_of: impl FnMut(&str, &Value) -> Result<usize, E>) -> Result<(), E> {
        let mut measured = |pattern: &str, alone: (&str, Value)| -> Result<u64, E> {
            let alone = Value::Object(Map::from_iter([(alone.0.to_owned(), alone.1)]));
            Ok(u64::try_from(bytes_of(pattern, &alone)?).unwrap_or(u64::MAX))
        };
        for (pattern, one) in &mut self.texts {
            one.bytes = measured(pattern, ("pattern", Value::String(pattern.clone())))?;
        }
        for (pattern, one) in &mut self.names {
            let named = Map::from_iter([(pattern.clone(), Value::Bool(false))]);
            one.bytes = measured(pattern, ("patternProperties", Value::Object(named)))?;
        }
        Ok(())
    }

    /// Steps that any of them takes at most for so many bytes.
    pub(super) fn most(&self, bytes: u64) -> u64 {
        let sizes = self.all().map(|one| one.bytes);
        sizes.max().map_or(0, |size| steps(size, bytes))
    }

    /// Bytes that all of them have together.
    pub(super) fn bytes(&self) -> u64 {
        let sizes = self.all().map(|one| one.bytes.saturating_mul(one.count));
        sizes.fold(0, u64::saturating_add)
    }

    fn all(&self) -> impl Iterator<Item = &Automaton> {
        self.texts.values().chain(self.names.values())
    }

    /// Steps that a pattern takes for a text of so many bytes.
    pub(super) fn search_text(&self, pattern: &str, bytes: u64) -> u64 {
        steps(self.texts.get(pattern).map_or(u64::MAX, |one| one.bytes), bytes)
    }

    /// The same for names of members.
    pub(super) fn search_name(&self, pattern: &str, bytes: u64) -> u64 {
        steps(self.names.get(pattern).map_or(u64::MAX, |one| one.bytes), bytes)
    }
}

/// One at least.
fn steps(automaton_bytes: u64, bytes: u64) -> u64 {
    automaton_bytes.saturating_mul(bytes).div_ceil(BYTES_PER_STEP).max(1)
}
