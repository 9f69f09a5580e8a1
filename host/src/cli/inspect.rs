//! `aral inspect`: what a component is, without running it. Also the text that `aral build` prints of its result.

use std::fmt::Write as _;

use aral_capability::Inspection;
use serde_json::{Value, json};

use super::arguments::Inspect;
use super::exit::Exit;
use super::output::{Done, Output};
use super::{files, session, text};

pub(crate) fn run(arguments: &Inspect, output: &Output) -> Done {
    let bytes = files::component(&arguments.file)?;
    let inspection = session::inspect(&bytes).map_err(|failure| failure.in_file(&arguments.file))?;
    output.answer(&human(&inspection), &object(&inspection))?;
    Ok(Exit::Success)
}

/// The inspection as one JSON object.
pub(crate) fn object(inspection: &Inspection) -> Value {
    json!({ "inspection": inspection })
}

/// The inspection for a person.
pub(crate) fn human(inspection: &Inspection) -> String {
    let mut shown = String::new();
    let shape = match inspection.shape {
        Some(shape) => format!("{shape} (exports {})", shape.export()),
        None => "neither tool nor command: it cannot be called here".to_owned(),
    };
    let permissions = match inspection.permissions.as_slice() {
        [] => "none".to_owned(),
        some => some.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", "),
    };
    // Writing to a string cannot fail.
    let _infallible = writeln!(
        shown,
        "digest       {}\nsize         {}\nshape        {shape}\ncan use      {permissions}",
        inspection.digest,
        bytes(inspection.size_bytes),
    );
    let names: Vec<_> = inspection
        .imports
        .iter()
        .map(|import| text::line(&import.name))
        .collect();
    let column = text::column(names.iter().map(|name| &**name));
    let _infallible = writeln!(shown, "imports      {}", inspection.imports.len());
    for (import, name) in inspection.imports.iter().zip(&names) {
        let _infallible = writeln!(shown, "  {name:column$}  {}", text::line(&import.describe()));
    }
    let _infallible = writeln!(shown, "exports      {}", inspection.exports.len());
    for export in &inspection.exports {
        let _infallible = writeln!(shown, "  {}", text::line(&export.name));
    }
    if !inspection.producers.is_empty() {
        shown.push_str("made by (as it says itself)\n");
    }
    for producer in &inspection.producers {
        let (field, name) = (text::line(&producer.field), text::line(&producer.name));
        let _infallible = writeln!(shown, "  {field}: {name} {}", text::line(&producer.version));
    }
    shown
}

/// A size for a person, and exactly.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} bytes"),
        1024..1_048_576 => format!("{} KiB ({count} bytes)", count / 1024),
        _ => format!(
            "{}.{} MiB ({count} bytes)",
            count / 1_048_576,
            count % 1_048_576 * 10 / 1_048_576
        ),
    }
}

#[cfg(test)]
mod tests {
    use aral_capability::inspect::{Export, Import, Producer};
    use aral_capability::{Shape, imports};
    use aral_contract::{Code, Digest, Permission};

    use super::*;

    /// The program of this test, asked to compile, does not: what it says instead shows who was asked.
    #[test]
    fn the_compiler_is_asked_what_a_component_is_and_this_process_does_not_look() {
        let bytes = wat::parse_str("(component)").unwrap();
        let failure = session::inspect(&bytes).unwrap_err();
        assert_eq!(failure.code, Code::Internal, "{failure}");
        let registry = session::registry();
        assert!(format!("{registry:?}").contains("__compile"), "{registry:?}");
    }

    /// What is said of a component with these imports.
    fn importing(names: &[&str]) -> Inspection {
        let import = |name: &&str| Import {
            name: (*name).to_owned(),
            kind: "instance",
            role: imports::role_of(name),
            reveals: false,
        };
        Inspection {
            digest: Digest::of(b""),
            size_bytes: 2048,
            shape: Some(Shape::Tool),
            imports: names.iter().map(import).collect(),
            exports: vec![Export {
                name: "aral:capability/tool@1.0.0".to_owned(),
                kind: "instance",
            }],
            permissions: vec![Permission::FileRead, Permission::Exec],
            producers: vec![Producer {
                field: "language".to_owned(),
                name: "Rust\n".to_owned(),
                version: String::new(),
            }],
        }
    }

    #[test]
    fn a_long_name_is_shown_and_pads_no_other_line() {
        let long = "a".repeat(70_000);
        let shown = human(&importing(&[&long, "wasi:io/poll@0.2.0"]));
        let lines: Vec<&str> = shown.lines().collect();
        let line_of = |name: &str| lines.iter().find(|line| line.trim_start().starts_with(name)).unwrap();
        assert!(line_of(&long).len() > long.len());
        assert!(line_of("wasi:io/poll").len() < 200);
    }

    #[test]
    fn columns_are_as_wide_as_what_is_shown() {
        let shown = human(&importing(&["x\x1b", "longer-than-the-other"]));
        let at = |name: &str| {
            let line = shown.lines().find(|line| line.contains(name)).unwrap();
            let end = line.find(name).unwrap() + name.len();
            end + line[end..].find(|character: char| character != ' ').unwrap()
        };
        assert_eq!(at("x\\u{1b}"), at("longer-than-the-other"), "{shown}");
    }

    #[test]
    fn names_of_a_hostile_component_stay_on_their_line() {
        let shown = human(&importing(&["evil\x1b[2J\nexports      0"]));
        assert!(shown.contains("evil\\u{1b}[2J\\u{a}exports"), "{shown}");
        assert_eq!(shown.matches("\nexports ").count(), 1, "{shown}");
        assert!(
            shown.contains("file:read, exec") && shown.contains("2 KiB (2048 bytes)"),
            "{shown}"
        );
    }
}
