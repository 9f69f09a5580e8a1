//! Walks the sections of a component. Everything it meets was written by somebody who may want it to fail.

use std::collections::BTreeSet;

use aral_contract::limits::COMPONENT_BYTES_MAX;
use aral_contract::{Digest, Permission};
use aral_runtime::weight::{TooHeavy, Weight};
use serde::{Deserialize, Serialize};
use wasmparser::component_types::ComponentEntityType;
use wasmparser::{
    BinaryReaderError, ComponentExternalKind, CustomSectionReader, Encoding, KnownCustom, Parser, Payload, Validator,
    WasmFeatures,
};

use super::{EXTERNS_MAX, Export, Import, InspectError, Inspection, NESTING_MAX, PRODUCERS_MAX, Producer, Shape};
use crate::imports::{self, Role, role_of};

/// Longest name or version of a producer, in characters.
const PRODUCER_CHARS_MAX: usize = 128;
/// Longest text of what is wrong with a component, in characters.
pub(super) const DETAIL_CHARS_MAX: usize = 256;

/// What the walk gathers: names and kinds, and not what they mean. A child that walks says no more than this.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Found {
    imports: Vec<FoundImport>,
    exports: Vec<FoundExport>,
    producers: BTreeSet<Producer>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FoundImport {
    name: String,
    #[serde(with = "Kind")]
    kind: ComponentExternalKind,
    /// Whether it has the function that hands out a secret's value.
    has_reveal: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FoundExport {
    name: String,
    #[serde(with = "Kind")]
    kind: ComponentExternalKind,
}

/// How a kind is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "ComponentExternalKind", rename_all = "snake_case")]
enum Kind {
    Module,
    Func,
    Value,
    Type,
    Instance,
    Component,
}

impl Found {
    /// Whether a walk over so many bytes can end with this.
    pub(super) fn is_possible(&self, size: usize) -> bool {
        let names = self.imports.iter().map(|import| &import.name);
        let mut names = names.chain(self.exports.iter().map(|export| &export.name));
        let parts = |one: &Producer| {
            [&one.field, &one.name, &one.version]
                .into_iter()
                .all(|part| is_plain(part, PRODUCER_CHARS_MAX))
        };
        self.imports.len() <= EXTERNS_MAX
            && self.exports.len() <= EXTERNS_MAX
            && names.all(|name| name.len() <= size)
            && self.producers.len() <= PRODUCERS_MAX
            && self.producers.iter().all(parts)
    }

    /// What it means for a component with this digest and size.
    pub(super) fn meaning(self, digest: Digest, size: usize) -> Inspection {
        let import = |found: FoundImport| import_of(found.name, found.kind, found.has_reveal);
        let imports: Vec<Import> = self.imports.into_iter().map(import).collect();
        let export = |found: FoundExport| Export {
            name: found.name,
            kind: found.kind.desc(),
        };
        let exports: Vec<Export> = self.exports.into_iter().map(export).collect();
        let opened = imports.iter().flat_map(|import| import.role.permissions());
        let opened: BTreeSet<Permission> = opened.copied().collect();
        Inspection {
            digest,
            size_bytes: u64::try_from(size).unwrap_or(u64::MAX),
            shape: shape_of(&exports),
            imports,
            exports,
            permissions: opened.into_iter().collect(),
            producers: self.producers.into_iter().collect(),
        }
    }
}

/// What is told of a component.
pub(super) fn find(bytes: &[u8]) -> Result<Found, InspectError> {
    check_front(bytes)?;
    // The validator asserts what does not hold of every component.
    std::panic::catch_unwind(|| walk(bytes)).unwrap_or(Err(InspectError::Unfollowed))
}

/// Says what a wrong file is, by its first bytes, before a parser sees it.
pub(super) fn check_front(bytes: &[u8]) -> Result<(), InspectError> {
    const ELF: &[u8] = b"\x7fELF";
    const MACH_O: &[u8] = b"\xcf\xfa\xed\xfe";
    const WASM: &[u8] = b"\0asm";
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(InspectError::TooLarge { size: bytes.len() });
    }
    if bytes.is_empty() {
        return Err(InspectError::Empty);
    }
    if bytes.starts_with(ELF) || bytes.starts_with(MACH_O) {
        return Err(InspectError::Precompiled);
    }
    if bytes.starts_with(WASM) {
        return Ok(());
    }
    if WASM.starts_with(bytes) {
        return Err(InspectError::Truncated { offset: bytes.len() });
    }
    let text = bytes.trim_ascii_start();
    if text.starts_with(b"(component") || text.starts_with(b"(module") || text.starts_with(b";;") {
        return Err(InspectError::Text);
    }
    Err(InspectError::NotWasm)
}

fn walk(bytes: &[u8]) -> Result<Found, InspectError> {
    let error = |error: BinaryReaderError| parse_error(bytes, &error);
    let mut found = Found::default();
    // To be looked at, a component may use more than the host runs: that is narrower, and the compiler's business.
    let features = WasmFeatures::default();
    let mut validator = Validator::new_with_features(features);
    // Of itself a parser reads all features, and some are nobody else's to refuse.
    let mut parser = Parser::new(0);
    parser.set_features(features);
    let mut weight = Weight::new(bytes);
    let mut depth = 0usize;
    for payload in parser.parse_all(bytes) {
        let payload = payload.map_err(error)?;
        if let Payload::Version {
            encoding: Encoding::Module,
            ..
        } = payload
            && depth == 0
        {
            return Err(InspectError::CoreModule);
        }
        weight.see(&payload).map_err(|heavy| match heavy {
            TooHeavy::Invalid(invalid) => error(invalid),
            TooHeavy::Sum => InspectError::Heavy,
            TooHeavy::Depth => InspectError::Depth,
        })?;
        // The validator hands out function bodies to be validated one by one; they are dropped here.
        validator.payload(&payload).map_err(error)?;
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } if depth >= NESTING_MAX => {
                return Err(InspectError::Nesting);
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth = depth.saturating_add(1),
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let import = import.map_err(error)?;
                    let (name, kind) = (import.name.name.to_owned(), import.ty.kind());
                    let has_reveal = reveals(&validator, &name);
                    push(&mut found.imports, FoundImport { name, kind, has_reveal })?;
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export = export.map_err(error)?;
                    let (name, kind) = (export.name.name.to_owned(), export.kind);
                    push(&mut found.exports, FoundExport { name, kind })?;
                }
            }
            Payload::CustomSection(section) => add_producers(&mut found.producers, &section),
            _ => {}
        }
    }
    Ok(found)
}

fn push<T>(list: &mut Vec<T>, item: T) -> Result<(), InspectError> {
    if list.len() >= EXTERNS_MAX {
        return Err(InspectError::Externs);
    }
    list.push(item);
    Ok(())
}

/// Whether an import of the outermost component is an interface with the function that hands out a secret's value.
fn reveals(validator: &Validator, name: &str) -> bool {
    let types = validator.types(0);
    let item = types.and_then(|types| Some((types, types.component_item_for_import(name)?)));
    item.is_some_and(|(types, item)| match item.ty {
        ComponentEntityType::Instance(id) => types
            .get(id)
            .is_some_and(|instance| instance.exports.contains_key(imports::REVEAL)),
        _ => false,
    })
}

fn import_of(name: String, kind: ComponentExternalKind, has_reveal: bool) -> Import {
    let role = match kind {
        ComponentExternalKind::Instance => role_of(&name),
        ComponentExternalKind::Type => Role::Types,
        ComponentExternalKind::Func
        | ComponentExternalKind::Module
        | ComponentExternalKind::Value
        | ComponentExternalKind::Component => Role::Unknown {
            reason: format!(
                "it is a {} at the top level: the host links interfaces alone",
                kind.desc()
            ),
        },
    };
    Import {
        name,
        kind: kind.desc(),
        reveals: has_reveal && role.permissions() == [Permission::SecretRead],
        role,
    }
}

fn shape_of(exports: &[Export]) -> Option<Shape> {
    let exports_interface = |front: &str, ours: &semver::Version| {
        exports.iter().any(|export| {
            let (name, version) = imports::split_version(&export.name);
            export.kind == "instance"
                && name == front
                && version.is_some_and(|version| imports::is_compatible(&version, ours))
        })
    };
    if exports_interface("aral:capability/tool", &imports::ABI_VERSION) {
        Some(Shape::Tool)
    } else if exports_interface("wasi:cli/run", &imports::WASI_VERSION) {
        Some(Shape::Command)
    } else {
        None
    }
}

/// Keeps what the producers sections say, of nested modules too: that is where compilers sign. A section that cannot be
/// read says nothing.
fn add_producers(producers: &mut BTreeSet<Producer>, section: &CustomSectionReader<'_>) {
    let KnownCustom::Producers(_) = section.as_known() else {
        return;
    };
    let Ok(fields) = wasm_metadata::Producers::from_bytes(section.data(), section.data_offset()) else {
        return;
    };
    let plain = |text: &str| plain(text, PRODUCER_CHARS_MAX);
    for (field, values) in fields.iter() {
        for (name, version) in values.iter() {
            if producers.len() >= PRODUCERS_MAX {
                return;
            }
            producers.insert(Producer {
                field: plain(field),
                name: plain(name),
                version: plain(version),
            });
        }
    }
}

/// The beginning of a text that somebody else chose, on one line.
fn plain(text: &str, chars_max: usize) -> String {
    text.chars().filter(|one| !one.is_control()).take(chars_max).collect()
}

/// Whether [`plain`] leaves a text as it is.
pub(super) fn is_plain(text: &str, chars_max: usize) -> bool {
    plain(text, chars_max) == text
}

fn parse_error(bytes: &[u8], error: &BinaryReaderError) -> InspectError {
    let message = error.message();
    // A reader that ran out of bytes says so in one of these ways; every other error is about bytes that are there.
    let cut = message.contains("unexpected end") || message.contains("unexpected EOF");
    if cut {
        InspectError::Truncated { offset: bytes.len() }
    } else {
        InspectError::Invalid {
            offset: error.offset(),
            detail: plain(message, DETAIL_CHARS_MAX),
        }
    }
}
