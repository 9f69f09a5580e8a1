//! The rules of an entry that its types alone do not express. Pure. Used when a manifest is built and again, on what came
//! out of the signature check, when it is admitted: a signature says who wrote an entry, not that it makes sense.

mod error;
mod scopes;

use std::collections::BTreeSet;

use aral_contract::document::JsonError;
use aral_contract::document::json::canonical;

use super::{Entry, schema_rules};
pub use error::ManifestError;
pub use scopes::check as check_scopes;
pub(crate) use scopes::injected;

/// Capabilities in one manifest. Stops a manifest from filling the registry.
pub const CAPABILITIES_MAX: usize = 256;
/// Hosts, folders, names or programs in one scope. Stops a scope that takes long to check at every call.
pub const SCOPE_ITEMS_MAX: usize = 256;
/// Secrets in `secret:read`. Each gets whatever persona and policy allow of its hosts, which may be many more than it names: stops a
/// grant that is made of all pairs of them.
pub const SECRETS_MAX: usize = 32;
/// Longest title, in bytes.
pub const TITLE_BYTES_MAX: usize = 256;
/// Longest description, in bytes. Stops a tool from crowding out all others in a model's context.
pub const DESCRIPTION_BYTES_MAX: usize = 16 << 10;
/// Longest version, in bytes.
pub const VERSION_BYTES_MAX: usize = 128;

/// Every rule on a list of entries.
pub(super) fn check_entries(entries: &[Entry]) -> Result<(), ManifestError> {
    if entries.len() > CAPABILITIES_MAX {
        return Err(ManifestError::Capabilities { count: entries.len() });
    }
    let mut seen = BTreeSet::new();
    for entry in entries {
        check_entry(entry).map_err(|error| ManifestError::Entry {
            id: entry.id.clone(),
            error: Box::new(error),
        })?;
        if !seen.insert((&entry.id, &entry.version)) {
            return Err(ManifestError::EntryTwice {
                id: entry.id.clone(),
                version: entry.version.clone(),
            });
        }
    }
    Ok(())
}

/// Every rule on one entry.
pub(super) fn check_entry(entry: &Entry) -> Result<(), ManifestError> {
    check_text("version", &entry.version.to_string(), VERSION_BYTES_MAX, Controls::None)?;
    // Who pins a version would get whatever somebody else adds to it.
    if !entry.version.build.is_empty() {
        return Err(ManifestError::VersionBuild {
            version: entry.version.clone(),
        });
    }
    check_text("title", &entry.title, TITLE_BYTES_MAX, Controls::None)?;
    check_text(
        "description",
        &entry.description,
        DESCRIPTION_BYTES_MAX,
        Controls::OfLines,
    )?;
    schema_rules::check("input_schema", &entry.input_schema)?;
    schema_rules::check("output_schema", &entry.output_schema)?;
    scopes::check(&entry.permissions)?;
    let value =
        serde_json::to_value(entry).map_err(|error| ManifestError::Number(JsonError::Canonical(error.to_string())))?;
    canonical(&value).map_err(ManifestError::Number)?;
    Ok(())
}

/// Which control characters a text may have.
#[derive(Clone, Copy)]
enum Controls {
    None,
    /// Line feeds and tabs.
    OfLines,
}

impl Controls {
    fn allow(self, one: char) -> bool {
        match self {
            Self::None => false,
            Self::OfLines => matches!(one, '\n' | '\t'),
        }
    }

    fn but(self) -> &'static str {
        match self {
            Self::None => "",
            Self::OfLines => " other than line feeds and tabs",
        }
    }
}

/// Titles and descriptions end up in terminals and in prompts: control characters would draw over what stands there.
fn check_text(member: &'static str, text: &str, bytes_max: usize, controls: Controls) -> Result<(), ManifestError> {
    let bytes = text.len();
    let control = text.chars().find(|one| one.is_control() && !controls.allow(*one));
    let found = match control {
        _ if text.trim().is_empty() => "it is empty".to_owned(),
        _ if bytes > bytes_max => format!("it has {bytes} bytes"),
        Some(control) => format!("it has `{}`", control.escape_debug()),
        None => return Ok(()),
    };
    Err(ManifestError::Text {
        member,
        bytes_max,
        but: controls.but(),
        found,
    })
}
