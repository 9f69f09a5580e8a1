//! What one value costs under a schema, counted step by step without evaluating it.

use serde_json::Value;

use super::own::{Own, bytes_of_text, parts_of, parts_of_text};
use super::{Cost, NESTING_MAX, STEPS_MAX, Target, TooCostly};

/// Counts the steps that a validator takes at most, in which no step is saved by an earlier result.
pub(super) struct Walk<'a> {
    cost: &'a Cost,
    steps_left: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(cost: &'a Cost) -> Self {
        Self {
            cost,
            steps_left: STEPS_MAX,
        }
    }

    /// Counts what the whole schema takes for this value.
    pub(super) fn value(&mut self, value: &Value) -> Result<(), TooCostly> {
        let cost = self.cost;
        self.apply(&cost.root, value, &mut Vec::new(), NESTING_MAX)
    }

    /// Steps that were counted so far.
    pub(super) fn steps(&self) -> u64 {
        STEPS_MAX.saturating_sub(self.steps_left)
    }

    /// `here` are the schemas that are being applied to this very part: a validator does not apply one inside itself.
    fn apply(
        &mut self,
        schema: &'a Value,
        value: &Value,
        here: &mut Vec<*const Value>,
        nesting_left: usize,
    ) -> Result<(), TooCostly> {
        let own = Own::of(schema);
        let read = match value {
            Value::String(text) => {
                let searched = own.patterns.saturating_mul(self.search(bytes_of_text(text)));
                own.texts.saturating_mul(parts_of_text(text)).saturating_add(searched)
            }
            Value::Array(_) if own.lists > 0 => own.lists.saturating_mul(parts_of(value)),
            _ => self.names(&own, value),
        };
        self.step(own.listed.saturating_add(read).saturating_add(1))?;
        let nesting_left = nesting_left.checked_sub(1).ok_or(TooCostly::Nesting)?;
        let key = std::ptr::from_ref(schema);
        if here.contains(&key) {
            return Ok(());
        }
        here.push(key);
        for (target, part) in self.parts(schema)? {
            match (target, value) {
                (Target::Itself, _) => self.apply(part, value, here, nesting_left)?,
                (Target::Member(name), Value::Object(members)) => {
                    if let Some(member) = members.get(name) {
                        self.apply(part, member, &mut Vec::new(), nesting_left)?;
                    }
                }
                (Target::Element(at), Value::Array(elements)) => {
                    if let Some(element) = elements.get(at) {
                        self.apply(part, element, &mut Vec::new(), nesting_left)?;
                    }
                }
                (Target::Members, Value::Object(members)) => {
                    for member in members.values() {
                        self.apply(part, member, &mut Vec::new(), nesting_left)?;
                    }
                }
                (Target::Names, Value::Object(members)) => {
                    for name in members.keys() {
                        self.step(parts_of_text(name))?;
                        let name = Value::String(name.clone());
                        self.apply(part, &name, &mut Vec::new(), nesting_left)?;
                    }
                }
                (Target::Elements, Value::Array(elements)) => {
                    for element in elements {
                        self.apply(part, element, &mut Vec::new(), nesting_left)?;
                    }
                }
                (Target::Member(_) | Target::Members | Target::Names | Target::Element(_) | Target::Elements, _) => {}
            }
        }
        for _ in 0..own.unevaluated {
            self.ask(schema, value, here, nesting_left)?;
        }
        here.pop();
        Ok(())
    }

    /// What an `unevaluated…` keyword makes a validator do: evaluate all that is applied in place, and ask that in turn.
    fn ask(
        &mut self,
        schema: &'a Value,
        value: &Value,
        here: &mut Vec<*const Value>,
        nesting_left: usize,
    ) -> Result<(), TooCostly> {
        let names = self.names(&Own::of(schema), value);
        self.step(names.saturating_add(1))?;
        let nesting_left = nesting_left.checked_sub(1).ok_or(TooCostly::Nesting)?;
        for (target, part) in self.parts(schema)? {
            let key = std::ptr::from_ref(part);
            if matches!(target, Target::Itself) && !here.contains(&key) {
                self.apply(part, value, here, nesting_left)?;
                here.push(key);
                self.ask(part, value, here, nesting_left)?;
                here.pop();
            }
        }
        Ok(())
    }

    /// What the patterns of `patternProperties` take to search the names of all members.
    fn names(&self, own: &Own, value: &Value) -> u64 {
        match value {
            Value::Object(members) if own.name_patterns > 0 => {
                let bytes: u64 = members.keys().map(|name| bytes_of_text(name)).sum();
                own.name_patterns.saturating_mul(self.search(bytes))
            }
            _ => 0,
        }
    }

    /// What one pattern takes to search so many bytes.
    fn search(&self, bytes: u64) -> u64 {
        bytes.saturating_mul(self.cost.steps_per_byte)
    }

    /// Each takes a step also if the value has nothing for it: a validator looks.
    fn parts(&mut self, schema: &'a Value) -> Result<Vec<(Target<'a>, &'a Value)>, TooCostly> {
        let parts = self.cost.parts(schema)?;
        self.step(u64::try_from(parts.len()).unwrap_or(u64::MAX))?;
        Ok(parts)
    }

    fn step(&mut self, steps: u64) -> Result<(), TooCostly> {
        self.steps_left = self.steps_left.checked_sub(steps).ok_or(TooCostly::Steps)?;
        Ok(())
    }
}
