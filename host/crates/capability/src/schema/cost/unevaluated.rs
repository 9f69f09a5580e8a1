//! What a validator keeps for `unevaluatedProperties` and `unevaluatedItems`. For each such keyword it compiles once more all that
//! is applied in place, references followed, and gives each subschema and keyword there a way of its own: that grows with each
//! reference on it, and shares nothing with the way in the document.

use serde_json::Value;

use super::own::{Own, TEXT_BYTES_PER_PART, parts_of_text};
use super::{Cost, DEPTH_MAX, KEYWORD_BYTES, Part, Target, TooCostly, UNEVALUATED_BYTES_MAX};

/// What a subschema or a keyword takes beside its way, in bytes.
const PIECE_BYTES: u64 = 128;
/// What an object that holds anything takes beside its members, in bytes: room for eleven of them, however few it has.
const OBJECT_BYTES: u64 = 640;

/// Counts what is kept.
pub(super) struct Kept<'a> {
    cost: &'a Cost,
    bytes_left: u64,
}

impl<'a> Kept<'a> {
    pub(super) fn of(cost: &'a Cost) -> Self {
        Self {
            cost,
            bytes_left: UNEVALUATED_BYTES_MAX,
        }
    }

    /// Bytes that were counted.
    pub(super) fn bytes(&self) -> u64 {
        UNEVALUATED_BYTES_MAX.saturating_sub(self.bytes_left)
    }

    /// Counts what the keywords of one subschema keep, to which so many bytes of the document lead.
    pub(super) fn add(&mut self, schema: &'a Value, way_bytes: u64) -> Result<(), TooCostly> {
        self.ask_for_each(schema, Way { way_bytes, level: 0 })
    }

    fn ask_for_each(&mut self, schema: &'a Value, way: Way) -> Result<(), TooCostly> {
        (0..Own::of(schema).unevaluated).try_for_each(|_| self.ask(schema, way))
    }

    /// A subschema that is compiled. References lead from it to what is compiled for all.
    fn compile(&mut self, schema: &'a Value, way: Way) -> Result<(), TooCostly> {
        self.take(schema, way, copied)?;
        for part in self.parts(schema)? {
            if !matches!(part.target, Target::Referred) {
                self.compile(part.schema, way.to(part))?;
            }
        }
        self.ask_for_each(schema, way)
    }

    /// A subschema of which is asked what it evaluates.
    fn ask(&mut self, schema: &'a Value, way: Way) -> Result<(), TooCostly> {
        self.take(schema, way, copied_names)?;
        for part in self.parts(schema)? {
            let (inner, below) = (part.schema, way.to(part));
            match part.target {
                Target::Referred => self.ask(inner, below)?,
                Target::Itself | Target::Branch => {
                    self.compile(inner, below)?;
                    self.ask(inner, below)?;
                }
                // What is compiled for a pattern is not kept, but there while the others are compiled.
                Target::Members | Target::Matching | Target::Elements => self.compile(inner, below)?,
                // Names and places say enough.
                Target::Member(_) | Target::Names | Target::Element(_) | Target::Items => {}
            }
        }
        Ok(())
    }

    /// What a schema applies. Counts also what is read for that: any number of schemas may bear the name that a reference leads to.
    fn parts(&mut self, schema: &'a Value) -> Result<Vec<Part<'a>>, TooCostly> {
        let parts = self.cost.parts(schema)?;
        let followed = u64::try_from(parts.list.len()).unwrap_or(u64::MAX);
        let read = followed.saturating_add(parts.read);
        self.spend(read.saturating_mul(TEXT_BYTES_PER_PART))?;
        Ok(parts.list)
    }

    fn spend(&mut self, bytes: u64) -> Result<(), TooCostly> {
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.ok_or(TooCostly::Unevaluated)?;
        Ok(())
    }

    /// `copied` says how many bytes of the value of a keyword are copied.
    fn take(&mut self, schema: &Value, way: Way, copied: fn(&str, &Value) -> u64) -> Result<(), TooCostly> {
        if way.level >= DEPTH_MAX {
            return Err(TooCostly::Depth);
        }
        let keywords = schema.as_object().into_iter().flatten();
        let (mut pieces, mut copied_bytes) = (1_u64, 0_u64);
        for (keyword, value) in keywords {
            pieces = pieces.saturating_add(1);
            copied_bytes = copied_bytes.saturating_add(copied(keyword, value));
        }
        let piece_bytes = way.way_bytes.saturating_add(KEYWORD_BYTES).saturating_add(PIECE_BYTES);
        self.spend(piece_bytes.saturating_mul(pieces).saturating_add(copied_bytes))
    }
}

/// What is copied of a keyword in a schema that is compiled: all but subschemas, which count by themselves.
fn copied(keyword: &str, value: &Value) -> u64 {
    match keyword {
        "allOf"
        | "anyOf"
        | "oneOf"
        | "if"
        | "then"
        | "else"
        | "additionalProperties"
        | "unevaluatedProperties"
        | "propertyNames"
        | "prefixItems"
        | "items"
        | "contains"
        | "unevaluatedItems" => 0,
        "properties" | "patternProperties" | "dependentSchemas" => copied_names(keyword, value),
        // Once to compare with, and once for errors.
        "enum" => bytes_of(value).saturating_mul(2),
        _ => bytes_of(value),
    }
}

/// What is copied where it is asked what a schema evaluated: names of members and patterns for them.
fn copied_names(keyword: &str, value: &Value) -> u64 {
    match (keyword, value) {
        ("properties" | "patternProperties" | "dependentSchemas", Value::Object(map)) => {
            map.keys().map(|name| bytes_of_part(name)).fold(0, u64::saturating_add)
        }
        _ => 0,
    }
}

/// Bytes of a copy of a value.
fn bytes_of(value: &Value) -> u64 {
    match value {
        Value::Array(list) => list.iter().map(bytes_of).fold(bytes_of_part(""), u64::saturating_add),
        Value::Object(map) if !map.is_empty() => {
            let member = |(name, value): (&String, &Value)| bytes_of_part(name).saturating_add(bytes_of(value));
            let members = map.iter().map(member);
            members.fold(bytes_of_part("").saturating_add(OBJECT_BYTES), u64::saturating_add)
        }
        Value::String(text) => bytes_of_part(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => bytes_of_part(""),
    }
}

/// Bytes of one part with a text.
fn bytes_of_part(text: &str) -> u64 {
    parts_of_text(text)
        .saturating_add(1)
        .saturating_mul(TEXT_BYTES_PER_PART)
}

/// The way to a subschema from the top.
#[derive(Clone, Copy)]
struct Way {
    /// Its bytes.
    way_bytes: u64,
    /// How many subschemas there are on it from the keyword on.
    level: usize,
}

impl Way {
    /// Of a subschema that this one applies. What a reference adds is not what stands in the document.
    fn to(self, part: Part<'_>) -> Self {
        let added = match part.target {
            Target::Referred => KEYWORD_BYTES,
            _ => part.way_bytes,
        };
        Self {
            way_bytes: self.way_bytes.saturating_add(added),
            level: self.level.saturating_add(1),
        }
    }
}
