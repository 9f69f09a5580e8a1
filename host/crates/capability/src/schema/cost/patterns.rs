//! The patterns of a schema, and what they take to search a text. How large their automatons are is for others to find out.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::own::Own;

/// Bytes of an automaton for which a pattern takes one step at each byte that it reads. A state has 32 bytes at least, and is
/// visited at most once for a byte: where most of them are alive at once, a step stands for some hundred such visits. Small
/// automatons, and whatever has few states alive, cost far less.
const BYTES_PER_STEP: u64 = 4096;

/// How large the automaton of each pattern is at most, in bytes.
#[derive(Default)]
pub(super) struct Patterns {
    texts: BTreeMap<String, u64>,
    /// Of those for names: what a pattern becomes depends on what it searches.
    names: BTreeMap<String, u64>,
}

impl Patterns {
    /// Takes the patterns of one schema, whatever their size. Says how many there are.
    pub(super) fn add(&mut self, own: &Own<'_>) -> u64 {
        self.texts
            .extend(own.pattern.map(|pattern| (pattern.to_owned(), u64::MAX)));
        let named = own.name_patterns.into_iter().flat_map(Map::keys);
        self.names.extend(named.map(|pattern| (pattern.clone(), u64::MAX)));
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
        for (pattern, bytes) in &mut self.texts {
            *bytes = measured(pattern, ("pattern", Value::String(pattern.clone())))?;
        }
        for (pattern, bytes) in &mut self.names {
            let named = Map::from_iter([(pattern.clone(), Value::Bool(false))]);
            *bytes = measured(pattern, ("patternProperties", Value::Object(named)))?;
        }
        Ok(())
    }

    /// Steps that any of them takes at most for so many bytes.
    pub(super) fn most(&self, bytes: u64) -> u64 {
        let sizes = self.texts.values().chain(self.names.values());
        sizes.max().map_or(0, |size| steps(*size, bytes))
    }

    /// Steps that a pattern takes for a text of so many bytes.
    pub(super) fn search_text(&self, pattern: &str, bytes: u64) -> u64 {
        steps(self.texts.get(pattern).copied().unwrap_or(u64::MAX), bytes)
    }

    /// The same for names of members.
    pub(super) fn search_name(&self, pattern: &str, bytes: u64) -> u64 {
        steps(self.names.get(pattern).copied().unwrap_or(u64::MAX), bytes)
    }
}

/// One at least.
fn steps(automaton_bytes: u64, bytes: u64) -> u64 {
    automaton_bytes.saturating_mul(bytes).div_ceil(BYTES_PER_STEP).max(1)
}
