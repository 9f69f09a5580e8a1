//! From what an author has (`capability.toml`, component, descriptor) to an entry of a manifest. Pure: the caller reads
//! files, inspects the component and runs `describe`.

use aral_contract::{Code, Failure, LimitsRequest};

use super::check::{ManifestError, check_entry};
use super::source::CapabilityToml;
use super::{Descriptor, Entry, ManifestBody};
use crate::functions::log::LOG_LINE_COST_MIN;
use crate::imports::check::{Warning, check_imports};
use crate::inspect::Inspection;
use crate::registry::check_shape;
use crate::schema::Schemas;

/// What the schemas of a manifest keep for `unevaluated…` keywords, in bytes. A small text may keep as much as a schema is allowed:
/// stops a manifest of many such ones from taking gibibytes.
const UNEVALUATED_BYTES_MAX: u64 = 64 << 20;

/// What goes into one entry.
#[derive(Debug)]
pub struct Part<'a> {
    /// The author's file.
    pub source: &'a CapabilityToml,
    /// What the component is.
    pub inspection: &'a Inspection,
    /// What the component, or for a command the file, says of itself.
    pub descriptor: Descriptor,
}

/// Makes one entry: shape and imports of the component are compared with what the author declares, and
/// every rule of [`super::check`] is applied.
fn entry(part: Part<'_>, compiler: &mut Compiler) -> Result<(Entry, Vec<Warning>), Failure> {
    let Part {
        source,
        inspection,
        descriptor,
    } = part;
    check_shape(&source.id, source.shape(), inspection)?;
    let mut warnings = check_imports(inspection, &source.permissions)?;
    warnings.extend(no_line(&source.limits));
    let entry = Entry {
        id: source.id.clone(),
        version: source.version.clone(),
        shape: source.shape(),
        component: inspection.digest,
        title: descriptor.title,
        description: descriptor.description,
        input_schema: descriptor.input_schema,
        output_schema: descriptor.output_schema,
        permissions: source.permissions.clone(),
        limits: source.limits.clone(),
    };
    check_entry(&entry).map_err(|error| ManifestError::Entry {
        id: entry.id.clone(),
        error: Box::new(error),
    })?;
    compiler.compile(&entry)?;
    Ok((entry, warnings))
}

/// Warns of a limit with which no line of the log is ever kept. One of 0 says so itself.
pub(crate) fn no_line(limits: &LimitsRequest) -> Option<Warning> {
    let log_bytes = limits
        .log_bytes
        .filter(|bytes| (1..LOG_LINE_COST_MIN).contains(bytes))?;
    Some(Warning {
        message: format!(
            "the entry asks for {log_bytes} bytes of log, and no line is kept: each counts as {LOG_LINE_COST_MIN} bytes at least"
        ),
        hint: "write in capability.toml, [limits]: log_bytes = 65536, or 0 to keep none".to_owned(),
    })
}

/// Compiles the schemas of one manifest, so that a wrong one is found when the capability is built or admitted and not at its
/// first call.
pub(crate) struct Compiler {
    /// Bytes that may still be kept for `unevaluated…` keywords.
    unevaluated_left: u64,
}

impl Default for Compiler {
    fn default() -> Self {
        Self {
            unevaluated_left: UNEVALUATED_BYTES_MAX,
        }
    }
}

impl Compiler {
    /// Compiles both schemas of one capability.
    pub(crate) fn compile(&mut self, entry: &Entry) -> Result<Schemas, Failure> {
        let schemas = Schemas::compile(&entry.input_schema, &entry.output_schema).map_err(|failure| Failure {
            message: format!("capability `{}`: {}", entry.id, failure.message),
            ..failure
        })?;
        let left = self.unevaluated_left.checked_sub(schemas.unevaluated_bytes());
        self.unevaluated_left = left.ok_or_else(|| {
            let (id, mib) = (&entry.id, UNEVALUATED_BYTES_MAX >> 20);
            let message = format!(
                "capability `{id}`: with those before it, what `unevaluatedProperties` and `unevaluatedItems` in the schemas of this manifest ask takes more than {mib} MiB"
            );
            Failure::new(Code::DocumentInvalid, message)
                .with_hint("write `additionalProperties` or `items` in their place")
        })?;
        Ok(schemas)
    }
}

/// Makes the body of a manifest, in the order of the parts.
pub fn body<'a>(parts: impl IntoIterator<Item = Part<'a>>) -> Result<(ManifestBody, Vec<Warning>), Failure> {
    let (mut entries, mut all_warnings) = (Vec::new(), Vec::new());
    let mut compiler = Compiler::default();
    for part in parts {
        let (entry, warnings) = entry(part, &mut compiler)?;
        entries.push(entry);
        all_warnings.extend(warnings);
    }
    Ok((ManifestBody::new(entries)?, all_warnings))
}
