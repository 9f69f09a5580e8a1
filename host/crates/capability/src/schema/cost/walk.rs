//! What one value costs under a schema, counted step by step without evaluating it.

use serde_json::{Map, Value};

use super::own::{Own, TEXT_BYTES_PER_PART, bytes_of_text, parts_of, parts_of_text};
use super::{Cost, INDEX_BYTES, KEYWORD_BYTES, NESTING_MAX, Part, Target, TooCostly};
use crate::schema::unique::is_unique;

/// Keywords of a subschema that are looked at in the step of its application; each of the others takes a step, also if it
/// means nothing.
const KEYWORDS_PER_APPLICATION: usize = 8;
/// Members of an object, or elements of a list, that one step passes over, whether or not anything is wanted of them.
const PASSED_PER_STEP: usize = 8;

/// Counts the steps that a validator takes at most, in which no step is saved by an earlier result.
pub(super) struct Walk<'a> {
    cost: &'a Cost,
    steps_left: u64,
    /// Parts that may still be copied; none: nobody counts them.
    copies_left: Option<u64>,
}

/// Where a subschema is applied.
#[derive(Clone, Copy)]
struct Place {
    nesting_left: usize,
    /// How many `anyOf` and `oneOf` it is within. Within any, an error is kept for each demand that fails.
    branches: u64,
    /// Bytes of the path to the value, which each error keeps.
    path_bytes: u64,
    /// Bytes of the way to the schema in the document.
    way_bytes: u64,
    /// Bytes of the ways to all references that were followed to get here. Below any, each error keeps them all, and the way to
    /// what fails.
    followed_bytes: u64,
    /// Parts of the object whose name the value is. An error about a name keeps the object.
    named_parts: u64,
}

impl Place {
    /// Of the schemas within the one that is applied here.
    fn inside(self) -> Result<Self, TooCostly> {
        Ok(Self {
            nesting_left: self.nesting_left.checked_sub(1).ok_or(TooCostly::Nesting)?,
            ..self
        })
    }

    /// Of one of those schemas, for the same value.
    fn of(self, part: Part<'_>) -> Self {
        let is_branch = matches!(part.target, Target::Branch);
        let followed_bytes = if matches!(part.target, Target::Referred) {
            let to_here = self.way_bytes.saturating_add(KEYWORD_BYTES);
            self.followed_bytes.saturating_add(to_here)
        } else {
            self.followed_bytes
        };
        Self {
            branches: self.branches.saturating_add(u64::from(is_branch)),
            way_bytes: part.way_after(self.way_bytes),
            followed_bytes,
            ..self
        }
    }

    /// Of what is in the value, this far below it.
    fn below(self, bytes: u64) -> Self {
        Self {
            path_bytes: self.path_bytes.saturating_add(bytes).saturating_add(1),
            ..self
        }
    }
}

impl<'a> Walk<'a> {
    /// Ends after so many steps.
    pub(super) fn of_steps(cost: &'a Cost, steps_max: u64) -> Self {
        Self {
            cost,
            steps_left: steps_max,
            copies_left: None,
        }
    }

    /// The same, which ends where more than so many parts of values would be copied into errors.
    pub(super) fn of_copies(cost: &'a Cost, steps_max: u64, parts_max: u64) -> Self {
        Self {
            copies_left: Some(parts_max),
            ..Self::of_steps(cost, steps_max)
        }
    }

    /// Counts what the whole schema takes for this value.
    pub(super) fn value(&mut self, value: &Value) -> Result<(), TooCostly> {
        let cost = self.cost;
        let place = Place {
            nesting_left: NESTING_MAX,
            branches: 0,
            path_bytes: 0,
            way_bytes: 0,
            followed_bytes: 0,
            named_parts: 0,
        };
        self.apply(&cost.root, value, place)
    }

    /// What applying a schema to a part takes, with all that it applies in turn.
    fn apply(&mut self, schema: &'a Value, value: &Value, place: Place) -> Result<(), TooCostly> {
        self.look(schema, place)?;
        let own = Own::of(schema);
        let read = match value {
            Value::String(text) => {
                let patterns = &self.cost.patterns;
                let searched = own
                    .pattern
                    .map_or(0, |pattern| patterns.search_text(pattern, bytes_of_text(text)));
                own.texts.saturating_mul(parts_of_text(text)).saturating_add(searched)
            }
            Value::Array(_) if own.lists > 0 => own.lists.saturating_mul(parts_of(value)),
            _ => self.pass(&own, value),
        };
        self.step(own.listed.saturating_add(read).saturating_add(1), place)?;
        self.copy(&own, value, place)?;
        let place = place.inside()?;
        for part in self.parts(schema, place)? {
            let (place, schema) = (place.of(part), part.schema);
            match (part.target, value) {
                (Target::Itself | Target::Referred | Target::Branch, _) => self.apply(schema, value, place)?,
                (Target::Member(name), Value::Object(members)) => {
                    if let Some(member) = members.get(name) {
                        self.apply(schema, member, place.below(bytes_of_text(name)))?;
                    }
                }
                (Target::Element(at), Value::Array(elements)) => {
                    if let Some(element) = elements.get(at) {
                        self.apply(schema, element, place.below(INDEX_BYTES))?;
                    }
                }
                (Target::Members | Target::Matching, Value::Object(members)) => {
                    for (name, member) in members {
                        self.apply(schema, member, place.below(bytes_of_text(name)))?;
                    }
                }
                (Target::Names, Value::Object(members)) => {
                    let copied = place.branches > 0 && self.copies_left.is_some();
                    let named_parts = if copied { parts_of(value) } else { 0 };
                    let place = Place { named_parts, ..place };
                    for name in members.keys() {
                        self.step(parts_of_text(name), place)?;
                        let name = Value::String(name.clone());
                        self.apply(schema, &name, place)?;
                    }
                }
                (Target::Elements | Target::Items, Value::Array(elements)) => {
                    for element in elements {
                        self.apply(schema, element, place.below(INDEX_BYTES))?;
                    }
                }
                (
                    Target::Member(_)
                    | Target::Members
                    | Target::Matching
                    | Target::Names
                    | Target::Element(_)
                    | Target::Items
                    | Target::Elements,
                    _,
                ) => {}
            }
        }
        for _ in 0..own.unevaluated {
            self.ask(schema, value, place)?;
        }
        Ok(())
    }

    /// What an `unevaluated…` keyword makes a validator do: evaluate all that is applied in place, and ask that in turn.
    fn ask(&mut self, schema: &'a Value, value: &Value, place: Place) -> Result<(), TooCostly> {
        self.look(schema, place)?;
        let passed = self.pass(&Own::of(schema), value);
        self.step(passed.saturating_add(1), place)?;
        let place = place.inside()?;
        for part in self.parts(schema, place)? {
            if part.target.is_in_place() {
                self.apply(part.schema, value, place)?;
                self.ask(part.schema, value, place)?;
            }
        }
        Ok(())
    }

    /// What the errors of a branch keep if all fails that this schema demands of the value. Outside of any, the first error ends
    /// it, and of those only that of `uniqueItems` is a copy.
    fn copy(&mut self, own: &Own<'_>, value: &Value, place: Place) -> Result<(), TooCostly> {
        let Some(left) = self.copies_left else {
            return Ok(());
        };
        if place.branches == 0 {
            return match value {
                Value::Array(list) if own.lists > 0 && parts_of(value) > left && !is_unique(list) => {
                    Err(TooCostly::Copies)
                }
                _ => Ok(()),
            };
        }
        let way_bytes = if place.followed_bytes > 0 {
            let to_here = place.way_bytes.saturating_add(KEYWORD_BYTES);
            place.followed_bytes.saturating_add(to_here)
        } else {
            0
        };
        let each = parts_of(value)
            .saturating_add(place.named_parts)
            .saturating_add(place.path_bytes.saturating_add(way_bytes) / TEXT_BYTES_PER_PART);
        let copied = own.demands.saturating_mul(each).saturating_add(own.listed);
        self.copies_left = Some(left.checked_sub(copied).ok_or(TooCostly::Copies)?);
        Ok(())
    }

    /// What it takes to pass over all members or elements, and to search the names of members for the patterns of
    /// `patternProperties`.
    fn pass(&self, own: &Own<'_>, value: &Value) -> u64 {
        let passed = |count: usize| u64::try_from(count / PASSED_PER_STEP).unwrap_or(u64::MAX);
        match value {
            Value::Object(members) => {
                // A branch may be found by the text of one member.
                let texts = members.values().filter(|_| own.branches).filter_map(Value::as_str);
                let steps = texts.map(parts_of_text).max().unwrap_or(0);
                let steps = steps.saturating_add(passed(members.len()));
                let Some(named) = own.name_patterns else { return steps };
                let bytes: u64 = members.keys().map(|name| bytes_of_text(name)).sum();
                named.keys().fold(steps, |steps, pattern| {
                    steps.saturating_add(self.cost.patterns.search_name(pattern, bytes))
                })
            }
            Value::Array(elements) => passed(elements.len()),
            _ => 0,
        }
    }

    /// Taken before the keywords are looked at: counting must not cost what nobody counts.
    fn look(&mut self, schema: &Value, place: Place) -> Result<(), TooCostly> {
        let keywords = schema.as_object().map_or(0, Map::len);
        let beyond = keywords.saturating_sub(KEYWORDS_PER_APPLICATION);
        self.step(u64::try_from(beyond).unwrap_or(u64::MAX), place)
    }

    /// Each takes a step also if the value has nothing for it: a validator looks.
    fn parts(&mut self, schema: &'a Value, place: Place) -> Result<Vec<Part<'a>>, TooCostly> {
        let parts = self.cost.parts(schema)?;
        let looked_at = u64::try_from(parts.list.len()).unwrap_or(u64::MAX);
        self.step(looked_at.saturating_add(parts.read), place)?;
        Ok(parts.list)
    }

    /// Who explains asks each `anyOf` and `oneOf` on the way whether any branch holds, before it looks for what is wrong in
    /// them: what is inside is evaluated once for each, and once more.
    fn step(&mut self, steps: u64, place: Place) -> Result<(), TooCostly> {
        let times = self.copies_left.map_or(1, |_| place.branches.saturating_add(1));
        let steps = steps.saturating_mul(times);
        self.steps_left = self.steps_left.checked_sub(steps).ok_or(TooCostly::Steps)?;
        Ok(())
    }
}
