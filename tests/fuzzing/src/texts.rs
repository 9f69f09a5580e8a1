//! Texts from outside that are read as they come: strict JSON, the configuration, and what an author writes of a capability.

use aral_capability::manifest::CapabilityToml;
use aral_contract::document::json as strict;
use aral_host::Config;

use crate::scratch;

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

/// What an author writes of a capability is read, or refused with an error that says something.
pub fn capability_toml(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    if let Err(error) = CapabilityToml::parse(text) {
        assert!(!error.to_string().is_empty(), "an error says what is wrong");
    }
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
