//! Texts from outside that are read as they come: strict JSON, the configuration, and what an author writes of a capability.

use aral_capability::manifest::build::{Part, body};
use aral_capability::manifest::source::Described;
use aral_capability::manifest::{CapabilityToml, ManifestBody};
use aral_capability::{Descriptor, inspect};
use aral_contract::document::json as strict;
use aral_contract::{Code, Failure};
use aral_host::Config;
use serde_json::json;

use crate::{documents, scratch};

/// Strict JSON: what is read has one canonical form, which is read as the same value.
pub fn json(text: &[u8]) {
    let Ok(value) = strict::parse(text) else { return };
    let usual: serde_json::Value = serde_json::from_slice(text).expect("what the strict reader takes is JSON");
    assert_eq!(value, usual, "both readers read the same");
    let Ok(form) = strict::canonical(&value) else { return };
    let again = strict::parse(&form).expect("a canonical form is read");
    assert_eq!(again, value, "the form is that of the value");
    let twice = strict::canonical(&again).expect("it has a form");
    assert_eq!(twice, form, "there is one form");
}

/// What an author writes of a capability is read, or refused with an error that says something. With a component that exports what
/// it says, it makes a manifest that holds when it is signed and read, or one that is refused.
pub fn capability_toml(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let source = match CapabilityToml::parse(text) {
        Ok(source) => source,
        Err(error) => {
            assert!(!error.to_string().is_empty(), "an error says what is wrong");
            return;
        }
    };
    match built(&source) {
        Ok(body) => documents::holds(&body),
        Err(failure) => {
            assert_ne!(failure.code, Code::Internal, "{failure}");
            assert!(!failure.message.is_empty(), "a failure says what is wrong");
        }
    }
}

/// The manifest, as `aral manifest build` makes it.
pub(crate) fn built(source: &CapabilityToml) -> Result<ManifestBody, Failure> {
    let component = exporting(source.shape().export());
    let (title, description) = match &source.described {
        Described::ByItself => ("A tool".to_owned(), "It says so itself.".to_owned()),
        Described::ByFile { title, description, .. } => (title.clone(), description.clone()),
    };
    let descriptor = Descriptor {
        title,
        description,
        input_schema: json!({ "type": "object" }),
        output_schema: json!({}),
    };
    let part = Part {
        source,
        inspection: &inspect(&component)?,
        descriptor,
    };
    body([part]).map(|(body, _warnings)| body)
}

/// A component that imports nothing and exports an instance of this name, in which there is nothing.
fn exporting(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("a short name");
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    // A section of one instance without exports, and one of one export: the instance of index 0.
    bytes.extend([5, 3, 1, 1, 0]);
    bytes.extend([11, length + 6, 1, 0, length]);
    bytes.extend(name.as_bytes());
    bytes.extend([5, 0, 0]);
    bytes
}

/// The configuration of a host. What is refused is called `config.invalid`, and what is taken can be read again.
pub fn configuration(text: &[u8]) {
    let folder = scratch::folder();
    scratch::put(folder.path(), [("aral.toml", text)]);
    let path = folder.path().join("aral.toml");
    match Config::load(&path) {
        Ok(config) => {
            let again = Config::load(&path).expect("nothing has changed");
            assert_eq!(again.digest, config.digest, "it is the same file");
            assert_eq!(again.policy.digest(), config.policy.digest(), "it says the same");
        }
        Err(failure) => {
            assert_eq!(failure.code.as_str(), "config.invalid", "{failure}");
            assert!(!failure.to_string().is_empty(), "a failure says what is wrong");
        }
    }
}
