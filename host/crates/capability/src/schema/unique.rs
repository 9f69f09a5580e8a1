//! `uniqueItems` in the time that sorting takes. The library's own compares each element with all others of one hash, and of
//! those anybody finds as many as they like: large integers, and lists that differ in nesting alone.

use std::cmp::Ordering;

use jsonschema::paths::Location;
use jsonschema::{Keyword, ValidationError};
use serde_json::{Map, Number, Value};

/// Whether elements have to differ.
struct UniqueItems(bool);

impl<'i> Keyword<'i> for UniqueItems {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) {
            Ok(())
        } else {
            Err(ValidationError::custom("value has non-unique elements"))
        }
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        let elements = instance.as_array().filter(|_| self.0);
        elements.is_none_or(|elements| is_unique(elements))
    }
}

/// Makes the keyword. That its value is a boolean is known by then.
pub(super) fn unique_items<'a>(
    _parent: &'a Map<String, Value>,
    wanted: &'a Value,
    _path: Location,
) -> Result<Box<dyn for<'i> Keyword<'i>>, ValidationError<'a>> {
    Ok(Box::new(UniqueItems(wanted.as_bool().unwrap_or(false))))
}

/// Whether all elements of a list differ.
pub(super) fn is_unique(elements: &[Value]) -> bool {
    are_unique(elements, compare)
}

/// A comparison reads no more than the shorter of two elements has in common with the longer one, and each element takes part in
/// one for each level of the sort: all of it takes as long as reading the list some twenty times.
fn are_unique(elements: &[Value], mut compare: impl FnMut(&Value, &Value) -> Ordering) -> bool {
    let mut sorted: Vec<&Value> = elements.iter().collect();
    sorted.sort_by(|one, other| compare(one, other));
    sorted.is_sorted_by(|one, other| compare(one, other).is_lt())
}

/// An order in which those are equal that are so by JSON Schema: numbers by what they are and not by how they are written, objects
/// whatever the order of their members. What comes first means nothing.
fn compare(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
        (Value::Number(one), Value::Number(other)) => compare_numbers(one, other),
        (Value::String(one), Value::String(other)) => one.len().cmp(&other.len()).then_with(|| one.cmp(other)),
        (Value::Array(one), Value::Array(other)) => {
            let elements = one.iter().zip(other).map(|(one, other)| compare(one, other));
            one.len().cmp(&other.len()).then_with(|| first_difference(elements))
        }
        // Both are in the order of their names.
        (Value::Object(one), Value::Object(other)) => {
            let members = one
                .iter()
                .zip(other)
                .map(|(one, other)| one.0.cmp(other.0).then_with(|| compare(one.1, other.1)));
            one.len().cmp(&other.len()).then_with(|| first_difference(members))
        }
        _ => kind(one).cmp(&kind(other)),
    }
}

fn first_difference(mut parts: impl Iterator<Item = Ordering>) -> Ordering {
    parts.find(|part| part.is_ne()).unwrap_or(Ordering::Equal)
}

/// Rounding keeps the order; of numbers that it makes one, all are whole where any two differ.
fn compare_numbers(one: &Number, other: &Number) -> Ordering {
    let ((about, whole), (other_about, other_whole)) = (rounded_and_whole(one), rounded_and_whole(other));
    about.total_cmp(&other_about).then(whole.cmp(&other_whole))
}

fn rounded_and_whole(number: &Number) -> (f64, i128) {
    // Makes `0.0` of `-0.0`.
    let about = number.as_f64().unwrap_or(f64::NAN) + 0.0;
    (about, number.as_i128().unwrap_or(about as i128))
}

fn kind(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

#[cfg(test)]
mod tests {
    use jsonschema::Draft;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// By the words of the specification.
    fn are_equal(one: &Value, other: &Value) -> bool {
        match (one, other) {
            (Value::Number(one), Value::Number(other)) => {
                let whole = |number: &Number| {
                    let float = number
                        .as_f64()
                        .filter(|float| float.fract() == 0.0 && float.abs() < 1e30);
                    number.as_i128().or(float.map(|float| float as i128))
                };
                match (whole(one), whole(other)) {
                    (None, None) => one.as_f64() == other.as_f64(),
                    (one, other) => one == other,
                }
            }
            (Value::Array(one), Value::Array(other)) => {
                one.len() == other.len() && one.iter().zip(other).all(|(one, other)| are_equal(one, other))
            }
            (Value::Object(one), Value::Object(other)) => {
                let is_there =
                    |(name, value): (&String, &Value)| other.get(name).is_some_and(|it| are_equal(value, it));
                one.len() == other.len() && one.iter().all(is_there)
            }
            _ => one == other,
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let numbers = vec![
            json!(0),
            json!(0.0),
            json!(-0.0),
            json!(1),
            json!(1.0),
            json!(-1),
            json!(-1.0),
            json!(0.5),
            json!(1e300),
            json!(-1e300),
            json!(9_007_199_254_740_992_u64),
            json!(9_007_199_254_740_993_u64),
            json!(9_007_199_254_740_992.0),
            json!(-9_007_199_254_740_993_i64),
            json!(-9_007_199_254_740_992.0),
            json!(i64::MIN),
            json!(i64::MIN + 1),
            json!(-9_223_372_036_854_775_808.0),
            json!(i64::MAX),
            json!(9_223_372_036_854_775_808_u64),
            json!(9_223_372_036_854_775_808.0),
            json!(u64::MAX),
            json!(u64::MAX - 1),
            json!(18_446_744_073_709_551_616.0),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            proptest::sample::select(numbers),
            "[ab]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            let names = proptest::sample::select(vec!["a", "b", "c"]);
            let members = proptest::collection::vec((names, inner.clone()), 0..3);
            prop_oneof![
                proptest::collection::vec(inner, 0..3).prop_map(Value::from),
                members.prop_map(|members| members.into_iter().collect::<Value>()),
            ]
        })
    }

    proptest! {
        #[test]
        fn elements_are_unique_where_comparing_each_with_all_others_says_so(
            elements in proptest::collection::vec(values(), 0..25),
        ) {
            let is_new = |at: usize| !(0..at).any(|before| are_equal(&elements[before], &elements[at]));
            let expected = (0..elements.len()).all(is_new);
            prop_assert_eq!(are_unique(&elements, compare), expected);
            let schema = json!({ "uniqueItems": true });
            let library = jsonschema::options().with_draft(Draft::Draft202012).build(&schema).unwrap();
            prop_assert_eq!(library.is_valid(&Value::Array(elements)), expected);
        }

        #[test]
        fn the_order_is_one(one in values(), two in values(), three in values()) {
            prop_assert_eq!(compare(&one, &two).is_eq(), are_equal(&one, &two));
            prop_assert_eq!(compare(&one, &two), compare(&two, &one).reverse());
            if compare(&one, &two).is_le() && compare(&two, &three).is_le() {
                prop_assert!(compare(&one, &three).is_le());
            }
        }
    }

    #[test]
    fn the_order_of_members_is_that_of_their_names() {
        let (one, other) = (r#"{"a": 1, "b": [2]}"#, r#"{"b": [2.0], "a": 1.0}"#);
        let list: Vec<Value> = [one, other].map(|text| serde_json::from_str(text).unwrap()).into();
        assert!(!are_unique(&list, compare));
    }

    #[test]
    fn elements_that_one_hash_fits_are_compared_no_more_often_than_others() {
        let count = 20_000_u64;
        let pair = |n: u64| json!([u64::MAX - n % 200, u64::MAX - n / 200]);
        let elements: Vec<Value> = (0..count).map(pair).collect();
        let mut compared = 0;
        assert!(are_unique(&elements, |one, other| {
            compared += 1;
            compare(one, other)
        }));
        assert!(compared < 40 * count, "{compared}");
    }

    #[test]
    fn the_keyword_is_the_one_that_schemas_get() {
        let check = |wanted: bool, value: Value| {
            let schema =
                json!({ "properties": { "a": { "$ref": "#/$defs/a" } }, "$defs": { "a": { "uniqueItems": wanted } } });
            let schema = crate::schema::Schema::compile("input_schema", &schema).unwrap();
            schema.check(&json!({ "a": value })).map_err(|error| error.to_string())
        };
        for value in [json!([1, 2]), json!([]), json!("aa"), json!([[], [[]]])] {
            assert_eq!(check(true, value), Ok(()));
        }
        let twice = json!([1, "a", 1.0]);
        assert_eq!(check(false, twice.clone()), Ok(()));
        let said = "at `/a`: value has non-unique elements".to_owned();
        assert_eq!(check(true, twice), Err(said));
        // Each of these would be compared with each other.
        let nested = (0..50_000).map(|n| json!([u64::MAX - n % 500, u64::MAX - n / 500]));
        assert_eq!(check(true, nested.collect()), Ok(()));
    }
}
