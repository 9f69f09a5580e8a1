//! What a validator keeps for `unevaluatedProperties` and `unevaluatedItems`. For each such keyword it compiles once more all that
//! is applied in place, references followed, and gives each subschema and keyword there a way of its own: that grows with each
//! reference on it, and shares nothing with the way in the document. Neither the length of the document nor what it expands to
//! bounds that, where references lead back.

use serde_json::{Map, Value};

use super::own::{Own, TEXT_BYTES_PER_PART, parts_of};
use super::{Cost, DEPTH_MAX, Target, TooCostly, UNEVALUATED_BYTES_MAX};

/// What a subschema or a keyword takes beside its way, in bytes.
const PIECE_BYTES: u64 = 128;
/// What an index in a list adds to a way, in bytes.
const INDEX_BYTES: u64 = 8;

/// Counts what is kept.
pub(super) struct Kept<'a> {
    cost: &'a Cost,
    bytes_left: u64,
    /// What a subschema adds to the way at most: a keyword, and a name or an index.
    level_bytes: u64,
    /// Subschemas that are being asked. A reference to one of them is not followed again.
    open: Vec<*const Value>,
}

impl<'a> Kept<'a> {
    pub(super) fn of(cost: &'a Cost) -> Self {
        Self {
            cost,
            bytes_left: UNEVALUATED_BYTES_MAX,
            level_bytes: cost.longest_name.saturating_mul(2).saturating_add(INDEX_BYTES),
            open: Vec::new(),
        }
    }

    /// Counts what the keywords of one subschema keep, where it stands in the document.
    pub(super) fn add(&mut self, schema: &'a Value) -> Result<(), TooCostly> {
        for _ in 0..Own::of(schema).unevaluated {
            self.ask(schema, 0)?;
        }
        Ok(())
    }

    /// A subschema that is compiled, so many levels below the keyword. References lead from it to what is compiled for all.
    fn compile(&mut self, schema: &'a Value, level: usize) -> Result<(), TooCostly> {
        self.take(schema, level)?;
        for (target, part) in self.cost.parts(schema)?.list {
            if !matches!(target, Target::Referred) {
                self.compile(part, level.saturating_add(1))?;
            }
        }
        for _ in 0..Own::of(schema).unevaluated {
            self.ask(schema, level)?;
        }
        Ok(())
    }

    /// A subschema of which is asked what it evaluates.
    fn ask(&mut self, schema: &'a Value, level: usize) -> Result<(), TooCostly> {
        self.take(schema, level)?;
        self.open.push(std::ptr::from_ref(schema));
        let below = level.saturating_add(1);
        for (target, part) in self.cost.parts(schema)?.list {
            match target {
                Target::Referred if self.open.contains(&std::ptr::from_ref(part)) => {}
                Target::Referred => self.ask(part, below)?,
                Target::Itself | Target::Branch => {
                    self.compile(part, below)?;
                    self.ask(part, below)?;
                }
                Target::Members | Target::Elements => self.compile(part, below)?,
                // Names and places say enough.
                Target::Member(_) | Target::Names | Target::Element(_) => {}
            }
        }
        self.open.pop();
        Ok(())
    }

    fn take(&mut self, schema: &Value, level: usize) -> Result<(), TooCostly> {
        if level >= DEPTH_MAX {
            return Err(TooCostly::Depth);
        }
        let level = u64::try_from(level).unwrap_or(u64::MAX);
        let way_bytes = self
            .level_bytes
            .saturating_mul(level)
            .saturating_add(self.cost.longest_path);
        let keywords = schema.as_object().map_or(0, Map::len);
        let pieces = u64::try_from(keywords).unwrap_or(u64::MAX).saturating_add(1);
        // Listed values and annotations are copied.
        let copied = parts_of(schema).saturating_mul(TEXT_BYTES_PER_PART);
        let bytes = way_bytes
            .saturating_add(PIECE_BYTES)
            .saturating_mul(pieces)
            .saturating_add(copied);
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.ok_or(TooCostly::Unevaluated)?;
        Ok(())
    }
}
