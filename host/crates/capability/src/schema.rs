//! JSON Schemas of input and output, compiled once for each admitted capability. No reference leaves the document, and
//! patterns match in linear time: a schema cannot make the host fetch or hang.

mod cost;
mod unique;

use aral_contract::{Code, Failure};
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use serde_json::Value;

use crate::call::sanitised;
use cost::{Cost, STEPS_MAX};

/// Longest text of one pattern, in bytes. What a pattern is read into has no bound of its own, and may be a thousand times as
/// large as its text, before it is an automaton of which the size is known.
const PATTERN_TEXT_BYTES_MAX: usize = 4 << 10;
/// Size of the automaton of one pattern, in bytes. Stops a pattern that is small as text and huge as an automaton.
const PATTERN_BYTES_MAX: usize = 256 << 10;
/// Size of the automatons of all patterns of a schema, in bytes. Each capability keeps its schemas as long as it is admitted:
/// stops a manifest of many from taking all memory before any is called.
const PATTERNS_BYTES_MAX: u64 = 4 << 20;
/// The size that is tried first. Each byte that a pattern reads counts by the first of these sizes, each twice the one before,
/// that its automaton fits in.
const PATTERN_BYTES_MIN: usize = 1 << 10;
/// What one pattern keeps of what it has matched, in bytes.
const PATTERN_CACHE_BYTES_MAX: usize = 1 << 20;
/// Parts of values that may be copied to say why a value fails. An error within `anyOf` or `oneOf` keeps a copy of what it is
/// about, and there is one for each keyword that fails in each branch: without a bound, one answer fills all memory. So does that
/// of `uniqueItems` anywhere.
const COPIED_PARTS_MAX: u64 = 200_000;
/// Steps of a check, and parts that are copied to say why a value fails, that are quick: some milliseconds at most. Stops a value
/// that takes more from holding up a thread that others need.
const QUICK_STEPS_MAX: u64 = 20_000;
/// Longest part of a violation that is shown, in bytes.
const SHOWN_BYTES_MAX: usize = 300;

/// A compiled schema.
pub(crate) struct Schema {
    member: &'static str,
    validator: Validator,
    cost: Cost,
}

/// The two schemas of a capability, compiled once for all who call it: each pattern keeps its automaton, and what finds out how
/// large that is builds it several times.
pub(crate) struct Schemas {
    pub(crate) input: Schema,
    pub(crate) output: Schema,
}

impl Schemas {
    pub(crate) fn compile(input: &Value, output: &Value) -> Result<Self, Failure> {
        Ok(Self {
            input: Schema::compile("input_schema", input)?,
            output: Schema::compile("output_schema", output)?,
        })
    }

    /// Bytes that both keep for `unevaluated…` keywords.
    pub(crate) fn unevaluated_bytes(&self) -> u64 {
        let (input, output) = (&self.input.cost, &self.output.cost);
        input.unevaluated_bytes().saturating_add(output.unevaluated_bytes())
    }
}

/// Where and why a value breaks a schema. Says nothing of the value itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at `{path}`: {reason}")]
pub(crate) struct Violation {
    /// JSON Pointer into the value; `/` for the whole.
    pub(crate) path: String,
    /// What the schema wants there.
    pub(crate) reason: String,
}

impl Schema {
    /// Compiles one. `member` says which of the two schemas of an entry it is.
    pub(crate) fn compile(member: &'static str, schema: &Value) -> Result<Self, Failure> {
        let refused = |what: &str, reason: &dyn std::fmt::Display| {
            let reason = sanitised(&reason.to_string(), SHOWN_BYTES_MAX);
            Failure::new(Code::DocumentInvalid, format!("`{member}` is {what}: {reason}"))
        };
        let mut cost =
            Cost::of(schema).map_err(|error| refused("a JSON Schema that this host does not evaluate", &error))?;
        cost.measure_patterns(|pattern, alone| {
            if pattern.len() > PATTERN_TEXT_BYTES_MAX {
                let what = format!("a pattern is longer than {PATTERN_TEXT_BYTES_MAX} bytes: `{pattern}`");
                return Err(refused("a JSON Schema that this host does not evaluate", &what));
            }
            pattern_bytes(alone).ok_or_else(|| {
                let kib = PATTERN_BYTES_MAX / 1024;
                let what = if build(alone, None).is_ok() {
                    format!("the automaton of a pattern has more than {kib} KiB: shorten the repetitions of `{pattern}`")
                } else {
                    format!("a pattern is none that this host reads, or has an automaton of far more than {kib} KiB: `{pattern}`")
                };
                refused("a JSON Schema that this host does not evaluate", &what)
            })
        })?;
        let bytes = cost.pattern_bytes();
        if bytes > PATTERNS_BYTES_MAX {
            let (has, most) = (bytes >> 10, PATTERNS_BYTES_MAX >> 10);
            let what = format!("the automatons of its patterns have {has} KiB together, more than {most} KiB");
            return Err(refused("a JSON Schema that this host does not evaluate", &what));
        }
        let validator = build(schema, Some(PATTERN_BYTES_MAX));
        let validator = validator.map_err(|error| refused("not a JSON Schema", &error))?;
        Ok(Self {
            member,
            validator,
            cost,
        })
    }

    /// Whether the value satisfies it; if not, the first violation, or that there is one. May take seconds.
    pub(crate) fn check(&self, value: &Value) -> Result<(), Violation> {
        let of_all = |reason: String| Violation {
            path: "/".to_owned(),
            reason,
        };
        self.cost
            .check(STEPS_MAX, value)
            .map_err(|error| of_all(error.to_string()))?;
        // Makes no errors, and so copies nothing.
        if self.validator.is_valid(value) {
            return Ok(());
        }
        let is_explained = self.cost.is_explained_within(STEPS_MAX, COPIED_PARTS_MAX, value);
        let explained = is_explained.then(|| self.violation(value)).flatten();
        Err(explained.unwrap_or_else(|| {
            let member = self.member;
            of_all(format!(
                "it does not satisfy `{member}`, and is too large to say where; try a smaller value"
            ))
        }))
    }

    /// The same, if that is quick.
    pub(crate) fn check_quickly(&self, value: &Value) -> Option<Result<(), Violation>> {
        self.cost.check(QUICK_STEPS_MAX, value).ok()?;
        if self.validator.is_valid(value) {
            return Some(Ok(()));
        }
        let is_explained = self.cost.is_explained_within(QUICK_STEPS_MAX, QUICK_STEPS_MAX, value);
        is_explained.then(|| self.violation(value)).flatten().map(Err)
    }

    /// Where and why a value fails.
    fn violation(&self, value: &Value) -> Option<Violation> {
        let error = self.validator.validate(value).err()?;
        let path = error.instance_path().as_str();
        Some(Violation {
            path: sanitised(if path.is_empty() { "/" } else { path }, SHOWN_BYTES_MAX),
            reason: sanitised(&error.masked().to_string(), SHOWN_BYTES_MAX),
        })
    }
}

/// Builds a validator in which each pattern has an automaton of at most so many bytes; none: as many as the library takes.
fn build(schema: &Value, pattern_bytes: Option<usize>) -> Result<Validator, ValidationError<'static>> {
    let mut patterns = PatternOptions::regex().dfa_size_limit(PATTERN_CACHE_BYTES_MAX);
    if let Some(bytes) = pattern_bytes {
        patterns = patterns.size_limit(bytes);
    }
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .offline()
        .with_pattern_options(patterns)
        .with_keyword("uniqueItems", unique::unique_items)
        .build(schema)
}

/// The first size in which the patterns of a schema fit; none: there is none.
fn pattern_bytes(schema: &Value) -> Option<usize> {
    let sizes = std::iter::successors(Some(PATTERN_BYTES_MIN), |bytes| bytes.checked_mul(2));
    let mut sizes = sizes.take_while(|bytes| *bytes <= PATTERN_BYTES_MAX);
    sizes.find(|bytes| build(schema, Some(*bytes)).is_ok())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    #[test]
    fn violations_name_the_place_and_not_the_value() {
        let schema = Schema::compile(
            "input_schema",
            &json!({
                "type": "object", "additionalProperties": false, "required": ["pattern"],
                "properties": { "pattern": { "type": "string" }, "limit": { "type": "integer", "maximum": 10 } }
            }),
        )
        .unwrap();
        assert_eq!(schema.check(&json!({ "pattern": "x", "limit": 10 })), Ok(()));
        let error = schema.check(&json!({ "pattern": "x", "limit": 98765 })).unwrap_err();
        assert_eq!(error.path, "/limit");
        assert!(
            error.reason.contains("10") && !error.reason.contains("98765"),
            "{error}"
        );
        assert_eq!(schema.check(&json!({})).unwrap_err().path, "/");
        let error = schema.check(&json!({ "pattern": "x", "\u{1b}[2J": 1 })).unwrap_err();
        assert!(!error.to_string().contains('\u{1b}'));
    }

    #[test]
    fn what_is_quick_to_check_is_told_from_what_is_not() {
        let nested = |depth: usize| (0..depth).fold(json!(1), |value, _| json!({ "a": value }));
        // Each level is looked at twice.
        let doubles = json!({ "properties": { "a": { "$ref": "#" } }, "additionalProperties": { "$ref": "#" } });
        let branches = json!({ "anyOf": vec![json!({ "items": { "type": "string" } }); 100] });
        for (schema, value, quick, valid) in [
            (json!({ "type": "integer" }), json!(1), true, true),
            (json!({ "type": "integer" }), json!("a"), true, false),
            (
                json!({ "items": { "type": "integer" } }),
                json!(vec![1; 100]),
                true,
                true,
            ),
            (
                json!({ "items": { "type": "integer" } }),
                json!(vec![1; 100_000]),
                false,
                true,
            ),
            (doubles.clone(), nested(5), true, true),
            // A hundred bytes.
            (doubles, nested(18), false, true),
            // To say why it fails takes longer than to see that it does.
            (branches.clone(), json!(["a"]), true, true),
            (branches, json!(vec![0; 150]), false, false),
        ] {
            let schema = Schema::compile("input_schema", &schema).unwrap();
            let checked = schema.check(&value);
            assert_eq!(checked.is_ok(), valid, "{value}");
            assert_eq!(schema.check_quickly(&value), quick.then_some(checked), "{value}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "measures that a check ends")]
    fn why_a_large_value_fails_every_branch_is_not_said() {
        let started = Instant::now();
        let unexplained = "it does not satisfy `output_schema`, and is too large to say where; try a smaller value";
        let branches = |one: Value| json!({ "anyOf": vec![one; 100] });
        for (schema, value) in [
            // An error for each branch, which keeps the list.
            (branches(json!({ "type": "string" })), json!(vec![0; 10_000])),
            // An error for each element and branch, which keeps its place.
            (
                branches(json!({ "items": { "type": "string" } })),
                json!(vec![0; 10_000]),
            ),
            // The place is long, and so are what `not` refuses and the pattern that is not met.
            (
                json!({ "anyOf": [{ "additionalProperties": { "items": { "type": "string" } } }] }),
                json!({ "n".repeat(100_000): vec![0; 1_000] }),
            ),
            (
                json!({ "oneOf": [{ "items": { "not": { "description": "d".repeat(100_000) } } }] }),
                json!(vec![0; 1_000]),
            ),
            (
                json!({ "oneOf": [{ "items": { "pattern": format!("^{}$", "p".repeat(4_000)) } }] }),
                json!(vec![""; 10_000]),
            ),
            // An error about a name keeps the object.
            (
                json!({ "anyOf": [{ "propertyNames": { "maxLength": 0 } }] }),
                (0..1_000).map(|n| (format!("n{n}"), json!(0))).collect(),
            ),
        ] {
            let schema = Schema::compile("output_schema", &schema).unwrap();
            let violation = schema.check(&value).unwrap_err();
            assert_eq!((violation.path.as_str(), violation.reason.as_str()), ("/", unexplained));
        }
        assert!(started.elapsed() < Duration::from_secs(15));
        // What is small is explained, and so is what is large without branches.
        let schema = json!({ "properties": { "a": { "anyOf": [{ "type": "string" }, { "type": "null" }] } } });
        let schema = Schema::compile("input_schema", &schema).unwrap();
        let violation = schema.check(&json!({ "a": [1, 2, 3] })).unwrap_err();
        assert!(
            violation.path == "/a" && violation.reason.contains("anyOf"),
            "{violation}"
        );
        let schema = json!({ "properties": { "text": { "type": "string" }, "most": { "type": "integer" } } });
        let schema = Schema::compile("input_schema", &schema).unwrap();
        let violation = schema
            .check(&json!({ "text": "t".repeat(1_000_000), "most": "1" }))
            .unwrap_err();
        assert_eq!(violation.path, "/most");
    }

    #[test]
    fn a_large_list_with_something_twice_is_not_copied_to_say_so() {
        let list = json!({ "type": "array", "uniqueItems": true });
        let schema =
            json!({ "properties": { "list": list, "lists": { "items": list }, "most": { "type": "integer" } } });
        let schema = Schema::compile("output_schema", &schema).unwrap();
        let violation = |value: Value| schema.check(&value).unwrap_err();
        let numbers = |count: i32| (0..count).collect::<Vec<i32>>();
        let twice = |count: i32| [numbers(count), vec![0]].concat();
        let found = violation(json!({ "list": twice(300_000) }));
        assert!(found.reason.contains("too large to say where"), "{found}");
        assert_eq!(violation(json!({ "list": twice(100_000) })).path, "/list");
        // Only what is copied counts: not what is large and right, nor many that are small.
        assert_eq!(
            violation(json!({ "list": numbers(300_000), "most": "1" })).path,
            "/most"
        );
        let mut lists = vec![numbers(1_000); 300];
        lists.push(twice(5));
        assert_eq!(violation(json!({ "lists": lists })).path, "/lists/300");
    }

    #[test]
    fn errors_below_references_count_by_the_way_to_them() {
        for (length, is_explained) in [(3, true), (8_000, false)] {
            let name = "n".repeat(length);
            let link = |n: usize| {
                let next = json!({ "$ref": format!("#/$defs/d{}", n + 1) });
                (format!("d{n}"), json!({ "dependentSchemas": { name.clone(): next } }))
            };
            let mut defs: serde_json::Map<String, Value> = (0..10).map(link).collect();
            let elements = json!({ "items": { "$ref": "#/$defs/none" } });
            defs.insert(
                "d10".to_owned(),
                json!({ "properties": { "v": { "anyOf": [elements] } } }),
            );
            defs.insert("none".to_owned(), json!(false));
            let schema = Schema::compile("output_schema", &json!({ "$defs": defs, "$ref": "#/$defs/d0" })).unwrap();
            for (count, quick) in [(2_000, false), (50, true)] {
                let value = json!({ name.clone(): 0, "v": vec![0; count] });
                let violation = schema.check(&value).unwrap_err();
                let path = if is_explained || quick { "/v" } else { "/" };
                assert_eq!(violation.path, path, "{length} {count} {violation}");
                let quickly = schema.check_quickly(&value);
                assert_eq!(quickly.is_some(), is_explained && quick, "{length} {count}");
            }
        }
    }

    #[test]
    fn what_is_deep_elsewhere_in_a_schema_makes_no_error_dearer() {
        let one = |n: usize| {
            let kind = json!({ "properties": { "kind": { "const": format!("k{n}") }, "of": { "$ref": "#/$defs/Any" } },
                "required": ["kind"], "additionalProperties": false, "type": "object" });
            (format!("Kind{n}"), kind)
        };
        let mut defs: serde_json::Map<String, Value> = (0..30).map(one).collect();
        let branches = defs.keys().map(|name| json!({ "$ref": format!("#/$defs/{name}") }));
        let any = json!({ "oneOf": branches.collect::<Vec<_>>() });
        defs.insert("Any".to_owned(), any);
        let name = "a-name-of-thirty-characters---";
        let deep = (0..20).fold(json!(true), |inner, _| json!({ "properties": { name: inner } }));
        let example = (0..20).fold(json!(1), |inner, _| json!({ name: inner }));
        defs.insert("Deep".to_owned(), deep);
        let schema = json!({
            "$defs": defs, "examples": [example], "type": "object",
            "properties": { "deep": { "$ref": "#/$defs/Deep" },
                "list": { "type": "array", "items": { "$ref": "#/$defs/Any" } } }
        });
        let schema = Schema::compile("input_schema", &schema).unwrap();
        for (count, quick) in [(6, true), (100, false)] {
            let mut list = vec![json!({ "kind": "k7" }); count];
            assert_eq!(schema.check(&json!({ "list": list })), Ok(()));
            list[count - 1] = json!({ "kind": 7 });
            let value = json!({ "list": list });
            let violation = schema.check(&value).unwrap_err();
            assert_eq!(violation.path, format!("/list/{}", count - 1), "{violation}");
            assert_eq!(schema.check_quickly(&value).is_some(), quick, "{count}");
        }
    }

    #[test]
    fn what_is_wrong_beside_branches_and_long_texts_is_said() {
        let nullable = |one: Value| json!({ "anyOf": [one, { "type": "null" }], "default": null, "title": "T" });
        let text = json!({ "type": "string", "minLength": 1, "maxLength": 1_000_000 });
        let mut properties: serde_json::Map<String, Value> = (0..30)
            .map(|n| (format!("p{n}"), json!({ "type": "integer", "title": "P" })))
            .collect();
        for n in 0..3 {
            let pattern = format!("^[a-z]+{n}$");
            properties.insert(format!("key{n}"), json!({ "type": "string", "pattern": pattern }));
        }
        properties.insert("text".to_owned(), text.clone());
        properties.insert("note".to_owned(), nullable(text));
        let row = json!({
            "type": "object", "additionalProperties": false, "required": ["a", "b"],
            "properties": { "a": { "type": "integer" }, "b": { "type": "string" } }
        });
        properties.insert("rows".to_owned(), nullable(json!({ "type": "array", "items": row })));
        let schema = json!({ "type": "object", "required": ["wanted"], "properties": properties });
        let schema = Schema::compile("input_schema", &schema).unwrap();
        let long = "t".repeat(8 << 10);
        let violation = schema.check(&json!({ "text": long })).unwrap_err();
        assert!(violation.reason.contains("wanted"), "{violation}");
        let longer = "t".repeat(500_000);
        let violation = schema
            .check(&json!({ "text": longer, "note": longer, "key0": "a0" }))
            .unwrap_err();
        assert!(violation.reason.contains("wanted"), "{violation}");
        // Also where it is the branch that fails.
        let rows = vec![json!({ "a": 1, "b": "2" }); 1_000];
        let violation = schema
            .check(&json!({ "wanted": 1, "rows": rows, "note": 7 }))
            .unwrap_err();
        assert_eq!(violation.path, "/note", "{violation}");
        let mut rows = rows;
        rows.push(json!({ "a": 1 }));
        let violation = schema.check(&json!({ "wanted": 1, "rows": rows })).unwrap_err();
        assert!(violation.path.starts_with("/rows"), "{violation}");
    }

    #[test]
    fn references_outside_the_document_are_refused() {
        for reference in ["https://example.com/schema.json", "file:///etc/passwd", "other.json"] {
            assert!(
                Schema::compile("input_schema", &json!({ "$ref": reference })).is_err(),
                "{reference} was taken"
            );
        }
        assert!(Schema::compile("input_schema", &json!({ "type": "nonsense" })).is_err());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "measures that a match ends")]
    fn patterns_match_in_linear_time_and_have_a_size() {
        let schema = Schema::compile("input_schema", &json!({ "type": "string", "pattern": "^(a+)+$" })).unwrap();
        let long = "a".repeat(50_000);
        let started = Instant::now();
        assert_eq!(schema.check(&json!(long)), Ok(()));
        assert!(schema.check(&json!(format!("{long}!"))).is_err());
        // Whoever tries each way to divide the text does not end.
        assert!(started.elapsed() < Duration::from_secs(15));
        let huge = json!({ "type": "string", "pattern": "^((((ab){1,100}){1,100}){1,100})c$" });
        assert!(Schema::compile("input_schema", &huge).is_err());
        let backtracking = json!({ "type": "string", "pattern": "(a+)\\1" });
        assert!(Schema::compile("input_schema", &backtracking).is_err());
    }

    #[test]
    fn a_pattern_is_not_read_if_its_text_is_too_long() {
        for (times, taken) in [(100, true), (10_000, false)] {
            // Each class has hundreds of ranges, though no state of the automaton comes of it.
            let pattern = format!("(?:{}){{0}}", "\\p{L}".repeat(times));
            for schema in [
                json!({ "pattern": pattern }),
                json!({ "patternProperties": { pattern.clone(): true } }),
            ] {
                match Schema::compile("input_schema", &schema) {
                    Ok(_) => assert!(taken, "{times}"),
                    Err(failure) => assert!(
                        !taken && failure.message.contains("longer than 4096 bytes"),
                        "{failure}"
                    ),
                }
            }
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "measures that a check ends")]
    fn each_byte_that_a_pattern_reads_counts_by_the_size_of_the_pattern() {
        let started = Instant::now();
        // An automaton of which half the states live at each byte of a text of random bits.
        let window = |width: usize| json!({ "type": "string", "pattern": format!("^(?:[01]*1[01]{{{width}}}2|x)$") });
        let failure = Schema::compile("output_schema", &window(12_000)).err().unwrap();
        assert!(
            failure.message.contains("more than 256 KiB: shorten"),
            "{}",
            failure.message
        );
        let schema = Schema::compile("output_schema", &window(400)).unwrap();
        assert_eq!(schema.check(&json!("x")), Ok(()));
        let mut state: u32 = 1;
        let bits: String = (0..4 << 20)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if state >> 31 == 0 { '0' } else { '1' }
            })
            .collect();
        assert!(schema.check(&json!(bits)).unwrap_err().reason.contains("steps"));
        // So do the names of members.
        let name = json!({ "n".repeat(4 << 20): 1 });
        let patterns: serde_json::Map<String, Value> = (0..100).map(|n| (format!("x*{n}y*$"), json!(true))).collect();
        let pattern = json!({ "pattern": "^x{0,400}7y*$" });
        for schema in [
            json!({ "patternProperties": patterns }),
            json!({ "propertyNames": pattern }),
            json!({ "propertyNames": { "anyOf": [pattern, true] } }),
        ] {
            let schema = Schema::compile("output_schema", &schema).unwrap();
            assert_eq!(schema.check(&json!({ "xx7yy": 1 })), Ok(()));
            assert!(schema.check(&name).unwrap_err().reason.contains("steps"));
        }
        // A simple pattern for many short texts is no burden.
        let schema = json!({ "items": { "type": "string", "pattern": "^[a-z0-9-]+$" } });
        let schema = Schema::compile("output_schema", &schema).unwrap();
        let names = json!(vec!["a-name-of-a-thing-with-forty-characters-"; 10_000]);
        assert_eq!(schema.check(&names), Ok(()));
        assert!(started.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn patterns_of_ordinary_schemas_are_taken_and_make_no_other_one_dearer() {
        for pattern in [r"^[^/]{1,255}$", r"^[A-Za-z0-9_-]{1,256}$", r"^[A-Za-z0-9+/]*={0,2}$"] {
            let texts = json!({ "type": "string", "pattern": pattern });
            assert!(Schema::compile("input_schema", &texts).is_ok(), "{pattern}");
            let names = json!({ "patternProperties": { pattern: true } });
            assert!(Schema::compile("input_schema", &names).is_ok(), "{pattern}");
        }
        let schema = json!({ "properties": {
            "id": { "type": "string", "pattern": "^[A-Za-z0-9_-]{1,256}$" },
            "key": { "type": "string", "pattern": "^key-[A-Za-z0-9_-]{1,256}$" },
            "content": { "type": "string", "minLength": 1, "pattern": r"\S" },
            "data": { "type": "string", "pattern": "^[A-Za-z0-9+/]*={0,2}$" },
            "files": { "type": "array", "items": { "type": "string", "pattern": r"^[^/]{1,255}$" } }
        } });
        let schema = Schema::compile("input_schema", &schema).unwrap();
        let content = format!("{}.", " ".repeat(200_000));
        let files = vec!["a-file-whose-name-has-forty-characters.rs"; 300];
        assert_eq!(
            schema.check(&json!({ "id": "x", "content": content, "data": "a".repeat(5 << 19), "files": files })),
            Ok(())
        );
        let long = "n".repeat(3 << 20);
        let violation = schema.check(&json!({ "key": long })).unwrap_err();
        assert!(violation.reason.contains("steps"), "{violation}");
        // The characters of one class are counted without an automaton.
        let violation = schema.check(&json!({ "id": long })).unwrap_err();
        assert_eq!(violation.path, "/id", "{violation}");
        let failure = Schema::compile("input_schema", &json!({ "pattern": "(" }))
            .err()
            .unwrap();
        assert!(failure.message.contains("a pattern is none"), "{}", failure.message);
    }

    #[test]
    fn the_patterns_of_a_schema_are_bounded_together() {
        let schema = |patterns: Vec<String>| {
            let texts = patterns.into_iter().map(|pattern| json!({ "pattern": pattern }));
            json!({ "anyOf": texts.collect::<Vec<_>>() })
        };
        let small = schema((0..100).map(|number| format!("^[a-z]+{number}$")).collect());
        assert!(Schema::compile("input_schema", &small).is_ok());
        for large in [
            (0..100)
                .map(|number| format!("^{number}-[A-Za-z0-9_-]{{1,512}}$"))
                .collect(),
            vec!["^x-[A-Za-z0-9_-]{1,512}$".to_owned(); 100],
        ] {
            let failure = Schema::compile("input_schema", &schema(large)).err().unwrap();
            assert!(failure.message.contains("KiB together"), "{}", failure.message);
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "measures that a check ends")]
    fn a_schema_that_costs_too_much_is_refused_before_it_runs() {
        // Thirty references that double each time: small as text, a billion steps to evaluate.
        let double = |n: usize| {
            let next = format!("#/$defs/d{}", n + 1);
            (
                format!("d{n}"),
                json!({ "anyOf": [{ "allOf": [{ "$ref": next }, false] }, { "$ref": next }] }),
            )
        };
        let mut defs: serde_json::Map<String, Value> = (0..30).map(double).collect();
        defs.insert("d30".to_owned(), json!({ "type": "string" }));
        let started = Instant::now();
        let bomb = json!({ "$defs": defs, "$ref": "#/$defs/d0" });
        assert_eq!(
            Schema::compile("input_schema", &bomb).err().unwrap().code,
            Code::DocumentInvalid
        );
        // A schema that doubles with each level of the value.
        let recursive = json!({ "anyOf": [{ "items": { "$ref": "#" }, "minItems": 1 }, { "items": { "$ref": "#" } }] });
        let schema = Schema::compile("input_schema", &recursive).unwrap();
        let nested = |depth: usize| (0..depth).fold(json!([]), |inner, _| json!([inner]));
        assert_eq!(schema.check(&nested(10)), Ok(()));
        assert!(schema.check(&nested(60)).unwrap_err().reason.contains("steps"));
        assert!(started.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn keywords_that_mean_nothing_count_where_they_are_looked_at() {
        let mut element: serde_json::Map<String, Value> = (0..20_000).map(|n| (format!("a{n}"), json!(0))).collect();
        // What refers to itself is counted however small the value is.
        element.insert("items".to_owned(), json!({ "$ref": "#" }));
        let schema = Schema::compile("output_schema", &json!({ "items": element })).unwrap();
        let elements = |count: usize| Value::Array((0..count).map(|_| json!(0)).collect());
        assert_eq!(schema.check(&elements(100)), Ok(()));
        assert!(schema.check(&elements(1_000)).unwrap_err().reason.contains("steps"));
    }

    #[test]
    fn references_count_by_what_is_read_to_follow_them() {
        let elements = json!(vec![0; 2_000]);
        for (length, taken) in [(10, true), (100_000, false)] {
            let name = "n".repeat(length);
            let pointer = json!({ "$ref": format!("#/$defs/{name}") });
            for (leads, to) in [
                (pointer, json!(true)),
                (json!({ "$ref": "#x" }), json!({ "$anchor": "x" })),
            ] {
                let often = |count: usize| {
                    let schema = json!({
                        "$defs": { "a": leads, name.clone(): to },
                        "items": { "allOf": vec![json!({ "$ref": "#/$defs/a" }); count] }
                    });
                    Schema::compile("output_schema", &schema)
                };
                assert_eq!(often(10).unwrap().check(&elements).is_ok(), taken, "{length}");
                assert_eq!(often(1_000).is_ok(), taken, "{length}");
            }
        }
    }

    #[test]
    fn names_of_properties_count_by_what_is_read_to_find_them() {
        let elements = json!(vec![json!({}); 2_000]);
        for (length, taken) in [(10, true), (100_000, false)] {
            let often = |count: usize| {
                let schema = json!({
                    "$defs": { "a": { "properties": { "n".repeat(length): true } } },
                    "items": { "allOf": vec![json!({ "$ref": "#/$defs/a" }); count] }
                });
                Schema::compile("output_schema", &schema)
            };
            assert_eq!(often(10).unwrap().check(&elements).is_ok(), taken, "{length}");
            assert_eq!(often(1_000).is_ok(), taken, "{length}");
        }
    }

    #[test]
    fn members_and_elements_count_where_they_are_passed_over() {
        let members = |count: usize| (0..count).map(|n| (format!("n{n}"), json!(0))).collect::<Value>();
        let elements = |count: usize| Value::Array((0..count).map(|n| json!(n)).collect());
        let often = |one: Value| json!({ "$defs": { "a": one }, "allOf": vec![json!({ "$ref": "#/$defs/a" }); 5_000] });
        let many: serde_json::Map<String, Value> = (0..20).map(|n| (format!("p{n}"), json!(true))).collect();
        let asked = |keyword: &str, one: Value, branch: Value| json!({ keyword: { "type": "integer" }, "anyOf": [branch], "allOf": vec![one; 1_000] });
        let properties = |name: &str| json!({ "properties": { name: true } });
        for (schema, few, too_many) in [
            (
                often(json!({ "patternProperties": {} })),
                members(1_000),
                members(100_000),
            ),
            // What is found by its name up to a number of names is so by going through all members beyond it.
            (
                json!({ "allOf": vec![json!({ "properties": many }); 800] }),
                members(1_000),
                members(100_000),
            ),
            (
                asked("unevaluatedProperties", properties("x"), properties("y")),
                members(1_000),
                members(100_000),
            ),
            (
                asked(
                    "unevaluatedItems",
                    json!({ "prefixItems": [true] }),
                    json!({ "prefixItems": [true] }),
                ),
                elements(1_000),
                elements(100_000),
            ),
        ] {
            let schema = Schema::compile("output_schema", &schema).unwrap();
            assert_eq!(schema.check(&few), Ok(()));
            assert!(schema.check(&too_many).unwrap_err().reason.contains("steps"));
        }
    }

    #[test]
    fn what_explaining_evaluates_once_for_each_branch_around_it_counts_as_often() {
        let pattern = "^(?:[01]*1[01]{1000}2|x)$";
        let within = |levels: usize| {
            let leaf = json!({ "type": "string", "pattern": pattern });
            let schema = (0..levels).fold(leaf, |inner, _| json!({ "anyOf": [inner, false] }));
            Schema::compile("output_schema", &schema).unwrap()
        };
        let bits = json!("01101".repeat(4_000));
        let violation = within(1).check(&bits).unwrap_err();
        assert!(violation.reason.contains("anyOf"), "{violation}");
        let violation = within(100).check(&bits).unwrap_err();
        assert!(violation.reason.contains("too large to say where"), "{violation}");
    }

    #[test]
    fn a_long_chain_of_references_cannot_exhaust_the_stack() {
        let link = |n: usize| (format!("d{n}"), json!({ "$ref": format!("#/$defs/d{}", n + 1) }));
        let mut defs: serde_json::Map<String, Value> = (0..5000).map(link).collect();
        defs.insert("d5000".to_owned(), json!(true));
        assert!(Schema::compile("input_schema", &json!({ "$defs": defs, "$ref": "#/$defs/d0" })).is_err());
    }

    #[test]
    fn recursion_that_descends_is_fine_and_recursion_in_place_is_refused() {
        let tree = json!({
            "$defs": { "node": { "type": "object", "required": ["v"], "properties": {
                "v": { "type": "integer" }, "left": { "$ref": "#/$defs/node" }, "right": { "$ref": "#/$defs/node" } } } },
            "$ref": "#/$defs/node"
        });
        let schema = Schema::compile("input_schema", &tree).unwrap();
        assert_eq!(
            schema.check(&json!({ "v": 1, "left": { "v": 2, "right": { "v": 3 } } })),
            Ok(())
        );
        assert_eq!(
            schema.check(&json!({ "v": 1, "left": { "v": "2" } })).unwrap_err().path,
            "/left/v"
        );
        // The innermost refers to all that are around it: a validator takes more than a day for so many.
        let nested = |levels: usize| {
            let references = (1..=levels).map(|n| json!({ "$ref": format!("#{}", "/allOf/0".repeat(n)) }));
            let innermost = json!({ "allOf": references.collect::<Vec<_>>() });
            (0..levels).fold(innermost, |inner, _| json!({ "allOf": [inner] }))
        };
        let mut asked = nested(15);
        asked["unevaluatedProperties"] = json!(false);
        for in_place in [
            json!({ "$ref": "#" }),
            json!({ "allOf": [{ "$ref": "#" }] }),
            json!({ "not": { "not": { "$ref": "#" } } }),
            json!({ "dependentSchemas": { "a": { "if": { "$dynamicRef": "#x" } } }, "$dynamicAnchor": "x" }),
            // What leads back is met below an element first.
            json!({
                "$defs": { "a": { "items": { "$ref": "#/$defs/b" }, "oneOf": [{ "$ref": "#/$defs/b" }] },
                    "b": { "oneOf": [{ "$ref": "#/$defs/a" }] } },
                "$ref": "#/$defs/a"
            }),
            nested(3),
            nested(15),
            asked,
        ] {
            let failure = Schema::compile("input_schema", &in_place).err().unwrap();
            assert!(failure.message.contains("leads back to what applies it"), "{failure}");
        }
    }

    #[test]
    fn references_that_this_host_reads_otherwise_are_refused() {
        for bad in [
            json!({ "$ref": "#/$defs/missing" }),
            json!({ "$defs": { "a": { "$id": "https://x.example/a", "$ref": "#/b" } }, "$ref": "#/$defs/a" }),
        ] {
            assert!(Schema::compile("input_schema", &bad).is_err(), "{bad}");
        }
        let anchored = json!({ "$defs": { "a": { "$anchor": "x", "type": "integer" } }, "$ref": "#x" });
        assert!(Schema::compile("input_schema", &anchored).is_ok_and(|schema| schema.check(&json!("1")).is_err()));
    }

    #[test]
    fn keywords_of_an_older_dialect_that_a_validator_follows_are_refused() {
        let asked = |keyword: &str, value: Value| {
            let branch = json!({ keyword: value, "unevaluatedProperties": false });
            Schema::compile("input_schema", &json!({ "$defs": { "t": true }, "allOf": [branch] }))
        };
        for (keyword, value) in [
            ("$recursiveRef", json!("#/$defs/t")),
            ("$recursiveRef", json!("#")),
            ("$recursiveRef", json!(1)),
            ("$recursiveAnchor", json!(true)),
        ] {
            let failure = asked(keyword, value).err().unwrap();
            assert!(failure.message.contains("mean nothing in this dialect"), "{failure}");
        }
        assert!(asked("$ref", json!("#/$defs/t")).is_ok());
        // A member may have such a name.
        assert!(asked("properties", json!({ "$recursiveRef": { "type": "string" } })).is_ok());
    }

    #[test]
    fn a_reference_that_is_no_pointer_cannot_hide_what_it_leads_to() {
        // What begins at the second name is small if `~~1` leads to the first, as we might read it.
        let doubles = |n: usize| {
            let next = json!({ "$ref": format!("#/$defs/~~1/d{}", n + 1) });
            (format!("d{n}"), json!({ "allOf": [next, next] }))
        };
        let mut hidden: serde_json::Map<String, Value> = (0..40).map(doubles).collect();
        hidden.insert("d40".to_owned(), json!({ "type": "object" }));
        let shown: serde_json::Map<String, Value> = (0..=40).map(|n| (format!("d{n}"), json!(true))).collect();
        let of = |hidden: Value| json!({ "$defs": { "~/": shown, "~~1": hidden }, "$ref": "#/$defs/~0~01/d0" });
        let failure = Schema::compile("input_schema", &of(hidden.into())).err().unwrap();
        assert!(failure.message.contains("leads to nothing"), "{failure}");
        let escaped = Schema::compile("input_schema", &of(json!({ "d0": { "type": "object" } }))).unwrap();
        assert!(escaped.check(&json!({})).is_ok() && escaped.check(&json!(1)).is_err());
    }

    #[test]
    fn what_unevaluated_keywords_ask_is_bounded_by_what_is_kept_for_it() {
        let failure = |schema: Value| {
            Schema::compile("input_schema", &schema)
                .err()
                .map(|failure| failure.message)
        };
        // Each reference makes the way to all that is beyond it longer.
        let chain = |length: usize| {
            let link = |n: usize| {
                let next = json!({ "$ref": format!("#/$defs/d{}", n + 1) });
                (
                    format!("d{n}"),
                    json!({ "dependentSchemas": { "n".repeat(length): next } }),
                )
            };
            let mut defs: serde_json::Map<String, Value> = (0..10).map(link).collect();
            let many = json!({
                "type": "object", "minimum": 0, "maximum": 1, "exclusiveMinimum": 0, "exclusiveMaximum": 1, "multipleOf": 1,
                "minLength": 0, "maxLength": 1, "minItems": 0, "maxItems": 1, "minProperties": 0, "maxProperties": 9,
                "uniqueItems": true
            });
            defs.insert("d10".to_owned(), json!({ "allOf": vec![many; 250] }));
            json!({ "$defs": defs, "$ref": "#/$defs/d0", "unevaluatedProperties": false })
        };
        assert_eq!(failure(chain(10)), None);
        let found = failure(chain(250)).unwrap();
        assert!(
            found.contains("`unevaluatedItems` ask takes more than 16 MiB"),
            "{found}"
        );
        // Two ways from each level to the next, and a name that many bear at the end of all. The last is met first, from where each
        // leads to the one before.
        let level = |n: usize| {
            let next = n + 1;
            let mut level = json!({ "$dynamicAnchor": format!("n{n}") });
            if n > 0 {
                level["properties"] = json!({ "p": { "$ref": format!("#/$defs/n{}", n - 1) } });
            }
            if next <= 10 {
                level["$ref"] = json!(format!("#/$defs/n{next}"));
                level["$dynamicRef"] = json!(format!("#n{next}"));
            } else {
                level["additionalProperties"] = json!({ "$dynamicRef": "#x" });
            }
            (format!("n{n}"), level)
        };
        let mut defs: serde_json::Map<String, Value> = (0..=10).map(level).collect();
        defs.insert("x".to_owned(), json!(vec![json!({ "$dynamicAnchor": "x" }); 2_000]));
        let last = json!({ "properties": { "q": { "$ref": "#/$defs/n10" } } });
        let all = json!([last, { "$ref": "#/$defs/n0" }]);
        let found = failure(json!({ "$defs": defs, "allOf": all, "unevaluatedProperties": false })).unwrap();
        assert!(found.contains("takes more than 16 MiB"), "{found}");
        // An object has room for eleven members also where it has one: each of these is some 700 bytes, and there are 64 000.
        let deep = (0..100).fold(json!(1), |inner, _| json!({ "a": inner }));
        let copies = json!({ "allOf": vec![json!({ "default": deep }); 640], "unevaluatedProperties": false });
        let found = failure(copies).unwrap();
        assert!(found.contains("takes more than 16 MiB"), "{found}");
        // What tools describe is far from it.
        let base =
            json!({ "properties": { "kind": { "type": "string" }, "name": { "type": "string", "maxLength": 99 } } });
        let variant = |n: usize| {
            json!({
                "allOf": [{ "$ref": "#/$defs/base" }, { "properties": { format!("of{n}"): { "type": "integer" } } }],
                "unevaluatedProperties": false
            })
        };
        let variants: Vec<Value> = (0..50).map(variant).collect();
        assert_eq!(failure(json!({ "$defs": { "base": base }, "oneOf": variants })), None);
        // Neither a long name in an example nor what describes members counts at each level above.
        let described = |level: usize| {
            let description = "d".repeat(500);
            let one = |n: usize| {
                (
                    format!("l{level}_field_name_{n:02}"),
                    json!({ "type": ["string", "null"], "description": description }),
                )
            };
            json!({ "type": "object", "properties": (0..20).map(one).collect::<serde_json::Map<String, Value>>() })
        };
        let mut intersections = (1..=5).fold(
            described(0),
            |inner, level| json!({ "allOf": [inner, described(level)], "unevaluatedProperties": false }),
        );
        intersections["examples"] = json!([{ "n".repeat(250): 1 }]);
        assert_eq!(failure(intersections), None);
    }

    #[test]
    fn what_unevaluated_keywords_keep_never_leads_back_to_itself() {
        let sealed = |parts: Value| json!({ "allOf": parts, "unevaluatedProperties": false });
        let child = |of: Value| json!({ "properties": { "child": of } });
        let node = || json!({ "$ref": "#/$defs/Node" });
        let sealed_node = || json!({ "$ref": "#/$defs/Node", "unevaluatedProperties": false });
        let base = json!({ "properties": { "name": { "type": "string" } } });
        let of =
            |node: Value, other: Value| json!({ "$defs": { "Node": node, "Other": other }, "$ref": "#/$defs/Node" });
        for refused in [
            of(sealed(json!([child(sealed_node())])), json!(true)),
            of(json!({ "additionalProperties": sealed_node() }), json!(true)),
            of(
                json!({ "contains": { "$ref": "#/$defs/Node", "unevaluatedItems": false } }),
                json!(true),
            ),
            // By a definition of its own.
            of(
                json!({ "allOf": [child(json!({ "$ref": "#/$defs/Other" }))] }),
                sealed_node(),
            ),
        ] {
            let failure = Schema::compile("input_schema", &refused).err().unwrap();
            assert!(failure.message.contains("write `additionalProperties`"), "{failure}");
        }
        let other = json!({ "$ref": "#/$defs/Other" });
        for taken in [
            // Much the same as above: with no `allOf` between, and with what the message says.
            of(child(sealed_node()), json!(true)),
            of(
                json!({ "allOf": [child(json!({ "$ref": "#/$defs/Node", "additionalProperties": false }))] }),
                json!(true),
            ),
            // A tree whose nodes extend others, as a whole and as one of several kinds.
            of(sealed(json!([other, child(node())])), base.clone()),
            of(
                json!({ "$ref": "#/$defs/Other", "properties": { "child": node() }, "unevaluatedProperties": false }),
                base.clone(),
            ),
            of(
                json!({ "properties": { "id": true }, "anyOf": [other, base], "unevaluatedProperties": false }),
                child(json!({ "type": "array", "items": node() })),
            ),
            // A list of itself is one of the kinds, and members by a pattern come with the base: nothing is kept of those.
            of(
                json!({ "oneOf": [other, base], "unevaluatedProperties": false }),
                json!({ "type": "array", "items": node() }),
            ),
            of(
                json!({ "$ref": "#/$defs/Other", "unevaluatedProperties": false }),
                json!({ "patternProperties": { "^child$": node() } }),
            ),
        ] {
            let schema = Schema::compile("input_schema", &taken).unwrap();
            assert_eq!(schema.check(&json!({})), Ok(()), "{taken}");
            assert!(schema.check(&json!({ "child": { "x": 1 } })).is_err(), "{taken}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "measures that a check ends")]
    fn unevaluated_keywords_inside_each_other_cannot_double_the_work_each_time() {
        let started = Instant::now();
        for keyword in ["anyOf", "allOf", "oneOf"] {
            let inner = json!({ "properties": { "a": true } });
            let wrap = |inner: Value, _| json!({ keyword: [inner], "unevaluatedProperties": false });
            let few = Schema::compile("input_schema", &(0..4).fold(inner.clone(), wrap)).unwrap();
            assert_eq!(few.check(&json!({ "a": 1 })), Ok(()));
            assert!(few.check(&json!({ "b": 1 })).is_err());
            // Twenty of them took a minute for a value of one member.
            assert!(
                Schema::compile("input_schema", &(0..20).fold(inner, wrap)).is_err(),
                "{keyword}"
            );
        }
        // The same by a schema that refers to itself: what it costs depends on the value.
        let recursive = json!({
            "properties": { "a": { "allOf": [{ "allOf": [{ "$ref": "#" }], "unevaluatedProperties": false }],
                "unevaluatedProperties": false } }
        });
        let schema = Schema::compile("input_schema", &recursive).unwrap();
        let nested = |depth: usize| (0..depth).fold(json!({}), |inner, _| json!({ "a": inner }));
        assert_eq!(schema.check(&nested(2)), Ok(()));
        assert!(schema.check(&nested(40)).unwrap_err().reason.contains("steps"));
        assert!(started.elapsed() < Duration::from_secs(15));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "measures that a check ends")]
    fn long_lists_and_long_texts_count_too() {
        let started = Instant::now();
        // Thousands of values to compare with, for each of thousands of elements.
        let listed: Vec<Value> = (0..5_000).map(|n| json!({ "a": [n] })).collect();
        let schema = Schema::compile("input_schema", &json!({ "items": { "enum": listed } })).unwrap();
        let elements = |count: usize| Value::Array((0..count).map(|_| json!({ "a": [4_999] })).collect());
        assert_eq!(schema.check(&elements(10)), Ok(()));
        assert!(schema.check(&elements(10_000)).unwrap_err().reason.contains("steps"));
        // Each pattern keeps an automaton, and reads the whole text.
        let patterns = |count: usize| {
            let one = |n: usize| json!({ "pattern": format!("x*{n}y*$") });
            json!({ "anyOf": (0..count).map(one).collect::<Vec<_>>() })
        };
        assert!(Schema::compile("input_schema", &patterns(200)).is_err());
        let schema = Schema::compile("input_schema", &patterns(100)).unwrap();
        assert_eq!(schema.check(&json!("xx7yy")), Ok(()));
        let long = json!("x".repeat(4 << 20));
        assert!(schema.check(&long).unwrap_err().reason.contains("steps"));
        // So does each length, and each demand for different elements reads the whole list.
        let all = |one: Value| json!({ "allOf": vec![one; 200] });
        let lengths = Schema::compile("input_schema", &all(json!({ "minLength": 1 }))).unwrap();
        assert_eq!(lengths.check(&json!("short")), Ok(()));
        assert!(lengths.check(&long).unwrap_err().reason.contains("steps"));
        // So does finding a text among others, also where it says which branch it is.
        let mut listed: Vec<String> = (0..10).map(|n| format!("text {n}")).collect();
        listed.push("short".to_owned());
        let among = Schema::compile("input_schema", &all(json!({ "enum": listed }))).unwrap();
        assert_eq!(among.check(&json!("short")), Ok(()));
        assert!(among.check(&long).unwrap_err().reason.contains("steps"));
        let kind = |kind: &str| json!({ "properties": { "kind": { "const": kind } }, "required": ["kind"] });
        let kinds = Schema::compile("input_schema", &all(json!({ "oneOf": [kind("short"), kind("other")] }))).unwrap();
        assert_eq!(kinds.check(&json!({ "kind": "short" })), Ok(()));
        let violation = kinds.check(&json!({ "kind": long })).unwrap_err();
        assert!(violation.reason.contains("steps"), "{violation}");
        let different = Schema::compile("input_schema", &all(json!({ "uniqueItems": true }))).unwrap();
        let numbers = |count: usize| Value::Array((0..count).map(|n| json!(n)).collect());
        assert_eq!(different.check(&numbers(10)), Ok(()));
        assert!(different.check(&numbers(50_000)).unwrap_err().reason.contains("steps"));
        // Names are looked up in each object that has none of them.
        let names: serde_json::Map<String, Value> = (0..5_000).map(|n| (format!("n{n}"), json!(true))).collect();
        let schema = Schema::compile("input_schema", &json!({ "items": { "properties": names } })).unwrap();
        let empty = |count: usize| Value::Array((0..count).map(|_| json!({})).collect());
        assert_eq!(schema.check(&empty(100)), Ok(()));
        assert!(schema.check(&empty(100_000)).unwrap_err().reason.contains("steps"));
        assert!(started.elapsed() < Duration::from_secs(15));
    }
}
