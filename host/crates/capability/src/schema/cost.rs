//! What a schema costs to evaluate, known before it is evaluated. A validator runs on the host, where no fuel bounds it,
//! and references let a schema of one page ask for more steps than there is time: those that expand too far are refused
//! when they are compiled, and those that recurse are counted against each value first.

mod circles;
mod own;
mod patterns;
mod pointer;
mod unevaluated;
mod walk;

use std::collections::HashMap;

use serde_json::{Map, Value};

use own::{Own, TEXT_BYTES_PER_PART, parts_of, parts_of_text};
use patterns::Patterns;
use pointer::{bytes_in_pointer, find_anchors};
use unevaluated::Kept;
use walk::Walk;

/// Subschemas and listed values that a schema may expand to, references followed.
const WEIGHT_MAX: u64 = 20_000;
/// What a pattern weighs: each is compiled to an automaton, and keeps a cache of it.
const PATTERN_WEIGHT: u64 = 150;
/// Subschemas inside each other, references followed. Stops a chain that exhausts the stack of validator and compiler.
const DEPTH_MAX: usize = 128;
/// What a validator keeps for all `unevaluated…` keywords of a schema, in bytes. Each capability keeps its schemas as long as it is
/// admitted; those of a manifest have a bound together.
const UNEVALUATED_BYTES_MAX: u64 = 16 << 20;
/// Applications of a subschema to a part of one value.
pub(super) const STEPS_MAX: u64 = 5_000_000;
/// Bytes that an index in a list adds to a way, with the `/` before it.
const INDEX_BYTES: u64 = 8;
/// What the keyword of a reference, or any that fails, adds to a way in bytes.
const KEYWORD_BYTES: u64 = 24;
/// Applications inside each other.
const NESTING_MAX: usize = 512;

/// Why a schema, or a value under it, is not evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooCostly {
    /// Too many subschemas.
    #[error(
        "it expands to more than {WEIGHT_MAX} subschemas and listed values; a pattern counts as {PATTERN_WEIGHT}, and a long name or reference by its length"
    )]
    Weight,
    /// Subschemas too deep.
    #[error("its references and subschemas are nested deeper than {DEPTH_MAX}")]
    Depth,
    /// Subschemas that lead back to themselves.
    #[error(
        "a reference leads back to what applies it to the same value: let it stand below `properties`, `additionalProperties` or `items`"
    )]
    Circle,
    /// Too much kept for what `unevaluated…` keywords ask.
    #[error(
        "what its `unevaluatedProperties` and `unevaluatedItems` ask takes more than {} MiB: use fewer of them, with fewer subschemas, references and long names around", UNEVALUATED_BYTES_MAX >> 20
    )]
    Unevaluated,
    /// What `unevaluated…` keywords keep leads back to itself.
    #[error(
        "a reference leads from what an `unevaluatedProperties` or `unevaluatedItems` asks back to it: write `additionalProperties` or `items` in its place"
    )]
    Asked,
    /// A reference to nothing.
    #[error("a reference leads to nothing in the document")]
    Reference,
    /// Keywords of an older dialect.
    #[error(
        "`$recursiveRef` and `$recursiveAnchor` mean nothing in this dialect: write `$ref`, or `$dynamicRef` and `$dynamicAnchor`"
    )]
    Recursive,
    /// Schemas with names of their own: a reference inside would be read relative to them.
    #[error("`$id` may stand at its top alone")]
    Identifier,
    /// Too many steps for this value.
    #[error("checking it takes more than {STEPS_MAX} steps")]
    Steps,
    /// Too much to copy for this value.
    #[error("saying why it fails copies too many parts of it")]
    Copies,
    /// Too deep for this value.
    #[error("checking it nests deeper than {NESTING_MAX} steps")]
    Nesting,
}

/// To which parts of a value a subschema is applied.
#[derive(Clone, Copy)]
enum Target<'a> {
    Itself,
    /// The value itself, by a reference.
    Referred,
    /// The value itself, by `anyOf` or `oneOf`.
    Branch,
    Member(&'a str),
    Members,
    /// Members by patterns for their names.
    Matching,
    Names,
    Element(usize),
    /// Elements by `items`.
    Items,
    Elements,
}

impl Target<'_> {
    /// Whether it is the very value.
    fn is_in_place(self) -> bool {
        matches!(self, Self::Itself | Self::Referred | Self::Branch)
    }
}

/// A subschema that another one applies.
#[derive(Clone, Copy)]
struct Part<'a> {
    target: Target<'a>,
    schema: &'a Value,
    /// What it adds to the way through the document, as a JSON Pointer in bytes; for what a reference leads to, the whole way.
    way_bytes: u64,
}

/// The subschemas that a schema applies.
#[derive(Default)]
struct Parts<'a> {
    list: Vec<Part<'a>>,
    /// Parts of the texts that are read to find members by their names, and where its references lead. Stops a few long ones, each
    /// read anew wherever it is met, from taking longer than all that is counted. Each weighs as much, so that one reading is
    /// short.
    read: u64,
}

impl Part<'_> {
    /// The way to it from a place to which so many lead.
    fn way_after(self, bytes: u64) -> u64 {
        if matches!(self.target, Target::Referred) {
            self.way_bytes
        } else {
            bytes.saturating_add(self.way_bytes)
        }
    }
}

impl<'a> Parts<'a> {
    fn add(&mut self, target: Target<'a>, schema: &'a Value, way_bytes: u64) {
        self.list.push(Part {
            target,
            schema,
            way_bytes,
        });
    }

    fn add_list(&mut self, target: impl Fn(usize) -> Target<'a>, list: &'a [Value], way_bytes: u64) {
        for (at, schema) in list.iter().enumerate() {
            self.add(target(at), schema, way_bytes.saturating_add(INDEX_BYTES));
        }
    }

    fn add_map(&mut self, target: impl Fn(&'a str) -> Target<'a>, map: &'a Map<String, Value>, way_bytes: u64) {
        for (name, schema) in map {
            self.add(
                target(name.as_str()),
                schema,
                way_bytes.saturating_add(bytes_in_pointer(name)),
            );
        }
    }
}

/// What is known of a subschema: how far it expands, and how deep.
#[derive(Clone, Copy)]
struct Size {
    weight: u64,
    /// How far it expands once more when an `unevaluated…` keyword around it asks what it evaluated.
    asked: u64,
    depth: usize,
}

/// The cost of one schema.
pub(super) struct Cost {
    root: Value,
    /// JSON Pointers by `$anchor` and `$dynamicAnchor`.
    anchors: HashMap<String, Vec<String>>,
    weight: u64,
    /// What is kept for `unevaluated…` keywords.
    unevaluated_bytes: u64,
    recursive: bool,
    /// Whether an error may keep a copy of what it is about.
    copies: bool,
    patterns: Patterns,
}

impl Cost {
    /// Measures a schema; fails if it is not worth its cost for any value.
    pub(super) fn of(schema: &Value) -> Result<Self, TooCostly> {
        let mut cost = Self {
            root: schema.clone(),
            anchors: HashMap::new(),
            weight: 0,
            unevaluated_bytes: 0,
            recursive: false,
            copies: false,
            patterns: Patterns::default(),
        };
        find_anchors(schema, &mut String::new(), &mut cost.anchors)?;
        let mut measure = Measure {
            cost: &cost,
            known: HashMap::new(),
            open: Vec::new(),
            recursive: false,
            copies: false,
            schemas: Vec::new(),
            patterns: Patterns::default(),
        };
        let size = measure.size(&cost.root, 0)?;
        circles::refuse_in_place(&cost, &measure.schemas)?;
        circles::refuse_asked(&cost, &measure.schemas)?;
        let mut kept = Kept::of(&cost);
        let mut schemas = measure.schemas.iter().copied();
        schemas.try_for_each(|(schema, way_bytes)| kept.add(schema, way_bytes))?;
        let unevaluated_bytes = kept.bytes();
        let (recursive, copies, patterns) = (measure.recursive, measure.copies, measure.patterns);
        (cost.weight, cost.recursive, cost.copies) = (size.weight, recursive, copies);
        (cost.unevaluated_bytes, cost.patterns) = (unevaluated_bytes, patterns);
        Ok(cost)
    }

    /// Asks how large the automaton of each of its patterns is at most, in bytes. `bytes_of` gets each pattern once, with a
    /// schema that holds nothing else.
    ///
    /// # Errors
    /// That of `bytes_of`.
    pub(super) fn measure_patterns<E>(
        &mut self,
        bytes_of: impl FnMut(&str, &Value) -> Result<usize, E>,
    ) -> Result<(), E> {
        self.patterns.measure(bytes_of)
    }

    /// Bytes that the automatons of all patterns have together, once they are measured.
    pub(super) fn pattern_bytes(&self) -> u64 {
        self.patterns.bytes()
    }

    /// Bytes that are kept for its `unevaluated…` keywords.
    pub(super) fn unevaluated_bytes(&self) -> u64 {
        self.unevaluated_bytes
    }

    /// Whether checking this value takes no more than so many steps; `STEPS_MAX` of them are worth it.
    pub(super) fn check(&self, steps_max: u64, value: &Value) -> Result<(), TooCostly> {
        let most = self.weight.saturating_mul(parts_of(value));
        // A pattern may take more for a part of a text than it weighs.
        let dearer = self.patterns.most(TEXT_BYTES_PER_PART).div_ceil(PATTERN_WEIGHT).max(1);
        if !self.recursive && most.saturating_mul(dearer) <= steps_max {
            return Ok(());
        }
        Walk::of_steps(self, steps_max).value(value)
    }

    /// Whether a validator takes no more than so many steps, and copies no more than so many parts of values, when it explains why
    /// this value fails: where each of several branches fails, each error keeps what it is about, and that of `uniqueItems` does
    /// so anywhere.
    pub(super) fn is_explained_within(&self, steps_max: u64, parts_max: u64, value: &Value) -> bool {
        !self.copies || Walk::of_copies(self, steps_max, parts_max).value(value).is_ok()
    }

    /// The subschemas that a schema applies, and to what.
    fn parts<'a>(&'a self, schema: &'a Value) -> Result<Parts<'a>, TooCostly> {
        let mut found = Parts::default();
        let Value::Object(keywords) = schema else {
            return Ok(found);
        };
        for (keyword, value) in keywords {
            let way = bytes_in_pointer(keyword);
            match (keyword.as_str(), value) {
                ("$ref" | "$dynamicRef", Value::String(reference)) => self.resolve(reference, &mut found)?,
                // What an `unevaluated…` keyword asks follows them nevertheless, and to the root whatever they say.
                ("$recursiveRef" | "$recursiveAnchor", _) => return Err(TooCostly::Recursive),
                ("allOf", Value::Array(list)) => found.add_list(|_| Target::Itself, list, way),
                ("anyOf" | "oneOf", Value::Array(list)) => found.add_list(|_| Target::Branch, list, way),
                ("not" | "if" | "then" | "else", one) => found.add(Target::Itself, one, way),
                ("dependentSchemas" | "dependencies", Value::Object(map)) => {
                    found.add_map(|_| Target::Itself, map, way)
                }
                ("properties", Value::Object(map)) => {
                    found.add_map(Target::Member, map, way);
                    let read = map.keys().map(|name| parts_of_text(name)).fold(0, u64::saturating_add);
                    found.read = found.read.saturating_add(read);
                }
                ("patternProperties", Value::Object(map)) => found.add_map(|_| Target::Matching, map, way),
                ("additionalProperties" | "unevaluatedProperties", one) => found.add(Target::Members, one, way),
                ("propertyNames", one) => found.add(Target::Names, one, way),
                ("prefixItems" | "items", Value::Array(list)) => found.add_list(Target::Element, list, way),
                ("items", one) => found.add(Target::Items, one, way),
                ("contains" | "unevaluatedItems" | "additionalItems", one) => {
                    found.add(Target::Elements, one, way);
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

/// Measures each subschema once.
struct Measure<'a> {
    cost: &'a Cost,
    known: HashMap<*const Value, Size>,
    open: Vec<*const Value>,
    recursive: bool,
    /// Whether an error may keep a copy of what it is about.
    copies: bool,
    /// All that are applied to anything, with the ways to them in bytes.
    schemas: Vec<(&'a Value, u64)>,
    patterns: Patterns,
}

impl<'a> Measure<'a> {
    /// `way_bytes` are those of the way to it.
    fn size(&mut self, schema: &'a Value, way_bytes: u64) -> Result<Size, TooCostly> {
        let key = std::ptr::from_ref(schema);
        if let Some(size) = self.known.get(&key) {
            return Ok(*size);
        }
        if self.open.contains(&key) {
            self.recursive = true;
            return Ok(Size {
                weight: 1,
                asked: 1,
                depth: 1,
            });
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(TooCostly::Depth);
        }
        self.open.push(key);
        self.schemas.push((schema, way_bytes));
        let own = Own::of(schema);
        self.copies |= own.branches || own.lists > 0;
        let patterns = self.patterns.add(&own);
        let parts = self.cost.parts(schema)?;
        let mut size = Size {
            weight: own
                .listed
                .saturating_add(patterns.saturating_mul(PATTERN_WEIGHT))
                .saturating_add(parts.read)
                .saturating_add(1),
            asked: parts.read.saturating_add(1),
            depth: 0,
        };
        for part in parts.list {
            let inner = self.size(part.schema, part.way_after(way_bytes))?;
            size.weight = size.weight.saturating_add(inner.weight);
            size.depth = size.depth.max(inner.depth);
            if part.target.is_in_place() {
                size.asked = size.asked.saturating_add(inner.weight).saturating_add(inner.asked);
            }
            if size.weight > WEIGHT_MAX {
                return Err(TooCostly::Weight);
            }
        }
        size.weight = size.weight.saturating_add(own.unevaluated.saturating_mul(size.asked));
        self.open.pop();
        size.depth = size.depth.saturating_add(1);
        if size.weight > WEIGHT_MAX {
            return Err(TooCostly::Weight);
        }
        if size.depth > DEPTH_MAX {
            return Err(TooCostly::Depth);
        }
        self.known.insert(key, size);
        Ok(size)
    }
}
