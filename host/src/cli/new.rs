//! `aral new`: the skeleton of a capability, ready to build. It writes only into a folder that it creates.

use std::path::{Component, Path, PathBuf};

use aral_contract::{CapabilityId, Code, Failure};
use serde_json::json;

use super::arguments::{New, NewShape};
use super::exit::Exit;
use super::files;
use super::output::{Done, Output};

/// File name and template, for each shape.
const TOOL: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("new/tool/Cargo.toml.txt")),
    ("src/lib.rs", include_str!("new/tool/lib.rs.txt")),
    ("capability.toml", include_str!("new/tool/capability.toml.txt")),
    ("README.md", include_str!("new/README.md.txt")),
    (".gitignore", include_str!("new/gitignore.txt")),
];
const COMMAND: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("new/command/Cargo.toml.txt")),
    ("src/main.rs", include_str!("new/command/main.rs.txt")),
    ("capability.toml", include_str!("new/command/capability.toml.txt")),
    ("input.json", include_str!("new/command/input.json.txt")),
    ("output.json", include_str!("new/command/output.json.txt")),
    ("README.md", include_str!("new/README.md.txt")),
    (".gitignore", include_str!("new/gitignore.txt")),
];

/// The package of the guest SDK.
const SDK: &str = "aral-guest";

pub(crate) fn run(arguments: &New, output: &Output) -> Done {
    let id = id_of(&arguments.name)?;
    let folder = files::absolute(&arguments.name)?;
    let (templates, sdk) = match arguments.shape {
        NewShape::Tool => (TOOL, find_sdk(arguments.sdk.as_deref(), &folder)?),
        NewShape::Command => (COMMAND, PathBuf::new()),
    };
    let texts: Vec<_> = templates
        .iter()
        .map(|(name, template)| (*name, fill(template, &id, &sdk)))
        .collect();
    files::create_tree(&folder, &texts)?;
    let names: Vec<_> = texts.iter().map(|(name, _)| *name).collect();
    let shown = arguments.name.display();
    output.answer(
        &format!("created {shown}\n  {}", names.join("\n  ")),
        &json!({"folder": folder, "id": id, "files": names}),
    )?;
    output.note(&format!(
        "hint: `cargo test --manifest-path {shown}/Cargo.toml`, then `aral build {shown}`"
    ));
    Ok(Exit::Success)
}

/// The last part of the path. It becomes the name of a Rust package too, which may hold less than an id.
fn id_of(name: &Path) -> Result<CapabilityId, Failure> {
    let text = match name.components().next_back() {
        Some(Component::Normal(part)) => part.to_str().unwrap_or_default(),
        _ => "",
    };
    // The skeleton depends on it, and no package depends on one of its own name.
    if text.replace('_', "-") == SDK {
        return Err(
            Failure::new(Code::ConfigInvalid, format!("`{text}` is the name of the guest SDK"))
                .with_hint("choose another name, such as `aral new word-count`"),
        );
    }
    let fits_package = text.starts_with(|first: char| first.is_ascii_lowercase()) && !text.contains('.');
    match text.parse::<CapabilityId>() {
        Ok(id) if fits_package => Ok(id),
        Ok(_) | Err(_) => Err(Failure::new(
            Code::ConfigInvalid,
            format!("`{}` cannot name a new capability", name.display()),
        )
        .with_hint("begin with a letter, then a-z 0-9 _ and - , at most 128 in all, such as `aral new word-count`")),
    }
}

/// Where the guest SDK is, as it is to stand in `Cargo.toml`: as the user gave it, made absolute, or relative within the
/// repository that holds both.
fn find_sdk(given: Option<&Path>, folder: &Path) -> Result<PathBuf, Failure> {
    if let Some(given) = given {
        let absolute = files::absolute(given)?;
        return if is_sdk(&absolute) {
            Ok(absolute)
        } else {
            Err(Failure::new(
                Code::ConfigInvalid,
                format!("`{}` is not the guest SDK", given.display()),
            )
            .with_hint("give the folder `guest-sdk` of a clone of the Aral repository"))
        };
    }
    let mut up = PathBuf::new();
    for ancestor in folder.ancestors().skip(1) {
        up.push("..");
        if is_sdk(&ancestor.join("guest-sdk")) {
            return Ok(up.join("guest-sdk"));
        }
    }
    Err(
        Failure::new(Code::ConfigInvalid, "the guest SDK was not found around the new folder")
            .with_hint("add `--sdk PATH/TO/aral/guest-sdk`, or `--shape command` for a program that needs no SDK"),
    )
}

fn is_sdk(folder: &Path) -> bool {
    files::text(&folder.join("Cargo.toml"))
        .ok()
        .and_then(|text| text.parse::<toml::Table>().ok())
        .and_then(|table| Some(table.get("package")?.get("name")?.as_str()? == SDK))
        .unwrap_or(false)
}

/// The title is the id in words: `word-count` becomes `Word count`.
fn title_of(id: &CapabilityId) -> String {
    let words = id.as_str().replace(['-', '_'], " ");
    let mut characters = words.chars();
    characters
        .next()
        .map(|first| first.to_ascii_uppercase().to_string() + characters.as_str())
        .unwrap_or_default()
}

fn fill(template: &str, id: &CapabilityId, sdk: &Path) -> String {
    let sdk = toml::Value::String(sdk.display().to_string()).to_string();
    template
        .replace("{{id}}", id.as_str())
        .replace("{{crate}}", &id.as_str().replace('-', "_"))
        .replace("{{title}}", &title_of(id))
        .replace("{{sdk}}", &sdk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fit_and_names_that_do_not() {
        for (name, id) in [("word-count", "word-count"), ("some/where/a1", "a1"), ("x/", "x")] {
            assert_eq!(id_of(Path::new(name)).unwrap().as_str(), id);
        }
        for bad in ["", "/", "..", "Word", "1st", "a.b", "ä"] {
            assert!(id_of(Path::new(bad)).is_err(), "{bad:?} was taken");
        }
        for sdk in ["aral-guest", "some/where/aral_guest"] {
            let refused = id_of(Path::new(sdk)).unwrap_err();
            assert!(refused.message.ends_with("is the name of the guest SDK"), "{refused}");
        }
        let longest = "a".repeat(128);
        assert!(id_of(Path::new(&longest)).is_ok() && id_of(Path::new(&format!("{longest}a"))).is_err());
    }

    #[test]
    fn templates_are_filled_and_what_they_make_is_read_by_the_host() {
        let id: CapabilityId = "word-count".parse().unwrap();
        for templates in [TOOL, COMMAND] {
            for (name, template) in templates {
                let text = fill(template, &id, Path::new("../a \"b\"/guest-sdk"));
                assert!(!text.contains("{{"), "{name} keeps a placeholder");
                if name.ends_with(".toml") {
                    text.parse::<toml::Table>().unwrap();
                }
                if *name == "capability.toml" {
                    let source = aral_capability::manifest::CapabilityToml::parse(&text).unwrap();
                    assert_eq!(source.id, id);
                }
            }
        }
        assert_eq!(title_of(&id), "Word count");
    }
}
