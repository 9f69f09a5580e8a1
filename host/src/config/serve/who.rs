//! Who may call, as one digest each of callers and issuers. The keys of both may stand in files of their own, which can be others while
//! the configuration stays as it is.

use aral_contract::Digest;
use serde_json::{Value, json};

use super::{CallerConfig, IssuerConfig, JwksConfig, ServeConfig};

impl ServeConfig {
    /// SHA-256 over the callers, with all that shows who they are.
    pub(crate) fn callers_digest(&self) -> Digest {
        digest(self.callers.iter().map(|caller: &CallerConfig| {
            let signature = caller.signature.as_ref().map(|rule| {
                let keys: Vec<String> = rule.keys.iter().map(|key| key.id().to_string()).collect();
                json!([rule.required, keys])
            });
            let keys: Vec<String> = caller.keys.iter().map(Digest::to_string).collect();
            let certificates: Vec<String> = caller.certificates.iter().map(ToString::to_string).collect();
            json!([caller.name.to_string(), keys, certificates, signature])
        }))
    }

    /// SHA-256 over the issuers and the files with their keys. Keys at an address change by themselves, and the address is in it.
    pub(crate) fn issuers_digest(&self) -> Digest {
        digest(self.issuers.iter().map(|issuer: &IssuerConfig| {
            let keys = match &issuer.keys {
                JwksConfig::File(file) => file.digest.to_string(),
                JwksConfig::Url(remote) => remote.server.url().to_string(),
            };
            json!([issuer.issuer, keys])
        }))
    }
}

fn digest(all: impl Iterator<Item = Value>) -> Digest {
    Digest::of(Value::Array(all.collect()).to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::serve::tests::{CALLER, serve};

    #[test]
    fn each_way_to_show_who_calls_is_in_the_digest_of_callers() {
        let of = |lines: &str| serve(&format!("{CALLER}{lines}")).callers_digest();
        let keys = |names: &[&str]| {
            let digests: Vec<String> = names
                .iter()
                .map(|name| Digest::of(name.as_bytes()).to_string())
                .collect();
            format!("keys = {digests:?}\n")
        };
        let signs = |how: &str| format!("signature = \"{how}\"\nsignature_keys = [\"dev.pub.pem\"]\n");
        let all = [
            String::new(),
            keys(&["a"]),
            keys(&["b"]),
            keys(&["a", "b"]),
            "certificates = [\"dns:a\"]\n".to_owned(),
            "certificates = [\"dns:b\"]\n".to_owned(),
            signs("required"),
            signs("optional"),
        ];
        let digests: Vec<Digest> = all.iter().map(|lines| of(lines)).collect();
        for (index, digest) in digests.iter().enumerate() {
            assert_eq!(of(&all[index]), *digest);
            assert_eq!(digests.iter().filter(|other| *other == digest).count(), 1, "{index}");
        }
    }
}
