//! Every form in which some bytes make a validator copy or walk through much.

use wasmparser::Parser;

use super::*;

/// What a component begins with.
const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";

fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value % 0x80) as u8 | 0x80);
        value /= 0x80;
    }
    bytes.push(value as u8);
    bytes
}

fn section(id: u8, bytes: &[u8]) -> Vec<u8> {
    [&[id], leb(bytes.len()).as_slice(), bytes].concat()
}

fn see(bytes: &[u8]) -> Result<(), TooHeavy> {
    let mut weight = Weight::new(bytes);
    for payload in Parser::new(0).parse_all(bytes) {
        weight.see(&payload?)?;
    }
    Ok(())
}

fn seen(text: &str) -> Result<(), TooHeavy> {
    see(&wat::parse_str(text).unwrap())
}

/// An instance type with a resource and many functions that name it, and something else.
fn with_big(rest: &str) -> String {
    let functions: String = (0..2000)
        .map(|n| format!(r#"(export "f{n}" (func (param "a" (own $r))))"#))
        .collect();
    format!(r#"(component $C (type $big (instance (export "r" (type $r (sub resource))) {functions})) {rest})"#)
}

#[test]
fn what_is_cheap_once_is_refused_many_times_over() {
    let import = |n: usize| format!(r#"(import "a{n}" (instance (type $big)))"#);
    let bag = |_| r#"(instance (export "x" (instance $a)))"#.to_owned();
    let forms: [(&str, &dyn Fn(usize) -> String); 8] = [
        ("", &|_| {
            r#"(type (component (import "a" (instance (type $big)))))"#.to_owned()
        }),
        ("", &|_| {
            r#"(type (component (export "a" (instance (type $big)))))"#.to_owned()
        }),
        ("", &|_| {
            r#"(type (instance (export "a" (instance (type $big)))))"#.to_owned()
        }),
        ("", &import),
        (
            r#"(import "c" (component $c (export "a" (instance (type $big)))))"#,
            &|_| "(instance (instantiate $c))".to_owned(),
        ),
        (r#"(import "a" (instance $a (type $big)))"#, &bag),
        ("", &|_| "(component (alias outer $C $big (type)))".to_owned()),
        (
            r#"(import "a" (instance $a (type $big))) (alias export $a "f1" (func $f))
            (type $wide (tuple u8 u8 u8 u8 u8 u8 u8 u8 u8 u8 u8 u8 u8 u8 u8 u8))
            (import "b" (func $g (param "a" $wide) (param "b" $wide)))"#,
            &|n| "(core func (canon lower (func $g)))".repeat(if n == 0 { 1 } else { 200 }),
        ),
    ];
    for (before, form) in forms {
        let with = |count: usize| with_big(&format!("{before}{}", (0..count).map(form).collect::<String>()));
        assert!(seen(&with(1)).is_ok(), "{}", form(0));
        let refused = seen(&with(400)).unwrap_err();
        assert!(matches!(refused, TooHeavy::Sum), "{} {refused}", form(0));
    }
}

#[test]
fn a_type_that_takes_the_place_of_a_smaller_one_is_counted_as_what_it_is() {
    let with = |given: &str| {
        let uses = r#"(type (component (import "a" (instance (type $x)))))"#.repeat(400);
        with_big(&format!(
            r#"(type $small (instance))
            (component $c
                (type $small (instance))
                (import "t" (type $t (eq $small)))
                (export "x" (type $t)))
            (instance $i (instantiate $c (with "t" (type {given}))))
            (alias export $i "x" (type $x))
            {uses}"#
        ))
    };
    assert!(seen(&with("$small")).is_ok());
    assert!(matches!(seen(&with("$big")), Err(TooHeavy::Sum)));
}

#[test]
fn many_modules_are_refused() {
    let with = |count: usize| format!("(component {})", "(core module)".repeat(count));
    assert!(seen(&with(500)).is_ok());
    assert!(matches!(seen(&with(3000)), Err(TooHeavy::Sum)));
}

/// An instance with so many resources inside so many others, imported so many times.
fn nest(resources: usize, levels: usize, imports: usize) -> Vec<u8> {
    let named = |name: &str| [&[0, name.len() as u8][..], name.as_bytes()].concat();
    let declared = (0..resources).flat_map(|n| [vec![4], named(&format!("r{n}")), vec![3, 1]].concat());
    let innermost: Vec<u8> = [vec![0x42], leb(resources)]
        .concat()
        .into_iter()
        .chain(declared)
        .collect();
    let outermost = (0..levels).fold(innermost, |inner, _| {
        [vec![0x42, 2, 1], inner, vec![4], named("a"), vec![5, 0]].concat()
    });
    let imported = (0..imports).flat_map(|n| [named(&format!("i{n}")), vec![5, 0]].concat());
    let imported: Vec<u8> = leb(imports).into_iter().chain(imported).collect();
    let types = [vec![1], outermost].concat();
    [HEADER, &section(7, &types), &section(10, &imported)].concat()
}

/// Each instance has a list of all resources in it, with the way to them: 12 KiB took more than 6 GiB.
#[test]
fn a_resource_counts_in_each_instance_around_it() {
    assert!(see(&nest(1000, 2, 10)).is_ok());
    for (resources, levels, imports) in [(1000, 97, 0), (100, 97, 280), (1000, 10, 100)] {
        let refused = see(&nest(resources, levels, imports)).unwrap_err();
        assert!(
            matches!(refused, TooHeavy::Sum),
            "{resources} {levels} {imports} {refused}"
        );
    }
}

/// As it is in types, so it is in instances that are made.
#[test]
fn a_resource_counts_in_each_bag_around_it() {
    let with = |levels: usize| {
        let resources: String = (0..400)
            .map(|n| format!(r#"(export "r{n}" (type (sub resource)))"#))
            .collect();
        let bags: String = (1..levels)
            .map(|n| format!(r#"(instance $b{n} (export "a" (instance $b{})))"#, n - 1))
            .collect();
        seen(&format!(
            r#"(component (import "a" (instance $b0 {resources})) {bags})"#
        ))
    };
    assert!(with(20).is_ok());
    assert!(matches!(with(60), Err(TooHeavy::Sum)));
}

/// A group of imports says once from which module they are, in a section that is read where that feature is on.
#[test]
fn the_name_that_imports_have_together_counts_for_each() {
    let with = |name: usize, imports: usize| {
        let first = [vec![1], leb(name), vec![b'm'; name], vec![0, 0x7f], leb(imports)].concat();
        // A global without a name, which is allowed.
        let group = [first, [0, 3, 0x7f, 0].repeat(imports)].concat();
        let module = [b"\0asm\x01\0\0\0".to_vec(), section(2, &group)].concat();
        [HEADER, &section(1, &module)].concat()
    };
    assert!(see(&with(10, 2000)).is_ok());
    assert!(matches!(see(&with(100_000, 2000)), Err(TooHeavy::Sum)));
}

#[test]
fn types_inside_each_other_are_refused_before_anything_calls_itself_for_each() {
    // A component type with one declaration, which is a type, …
    let nested = |levels: usize| {
        let types = [vec![1], [0x41u8, 1, 1].repeat(levels), vec![0x41, 0]].concat();
        [HEADER, &section(7, &types)].concat()
    };
    assert!(see(&nested(50)).is_ok());
    for levels in [200, 1_000_000] {
        assert!(matches!(see(&nested(levels)), Err(TooHeavy::Depth)), "{levels}");
    }
}

#[test]
fn types_that_name_each_other_are_refused_before_the_validator_runs_out_of_levels() {
    let chain = |levels: usize| {
        let types: String = (1..levels)
            .map(|n| format!(r#"(type $t{n} (instance (export "a" (instance (type $t{})))))"#, n - 1))
            .collect();
        wat::parse_str(format!("(component (type $t0 (instance)) {types})")).unwrap()
    };
    assert!(see(&chain(90)).is_ok());
    assert!(matches!(see(&chain(130)), Err(TooHeavy::Depth)));
}

#[test]
fn what_is_malformed_is_told_from_what_is_heavy() {
    let section = |types: &[u8]| {
        let length = u8::try_from(types.len()).unwrap();
        [b"\0asm\x0d\0\x01\0\x07", [length].as_slice(), types].concat()
    };
    // An unknown declaration, and a type that ends in the middle.
    for types in [[1, 0x42, 1, 9].as_slice(), &[1, 0x42, 1]] {
        assert!(matches!(see(&section(types)), Err(TooHeavy::Invalid(_))), "{types:?}");
    }
}
