//! Signs requests as RFC 9421 says, written anew: it shares nothing with what verifies them but the key.

use aral_contract::document::PrivateKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::issuer::now;

/// A request with the fields that are signed.
#[derive(Clone)]
pub(crate) struct Signed {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) query: Option<&'static str>,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) created: i64,
    pub(crate) nonce: String,
}

/// The key of these signatures.
pub(crate) fn key() -> PrivateKey {
    PrivateKey::from_seed(&Zeroizing::new([77; 32]))
}

impl Signed {
    /// A call, signed now.
    pub(crate) fn call(id: &str, body: &str, nonce: &str) -> Self {
        let digest = aral_contract::Digest::of(body.as_bytes());
        Self {
            method: "POST",
            path: format!("/v1/invoke/{id}"),
            query: None,
            fields: vec![
                ("Host".to_owned(), "localhost".to_owned()),
                ("Content-Type".to_owned(), "application/json".to_owned()),
                (
                    "Content-Digest".to_owned(),
                    format!("sha-256=:{}:", STANDARD.encode(digest.as_bytes())),
                ),
            ],
            body: body.to_owned(),
            created: now(),
            nonce: nonce.to_owned(),
        }
    }

    /// With a field that is signed too.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    fn field(&self, name: &str) -> &str {
        let mut found = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str()).expect("a field")
    }

    /// The fields of the request, with the two of the signature.
    pub(crate) fn sign(&self, key: &PrivateKey) -> Vec<(String, String)> {
        let mut lines = vec![
            ("@method", self.method.to_owned()),
            ("@authority", self.field("host").to_ascii_lowercase()),
            ("@path", self.path.clone()),
            ("@query", format!("?{}", self.query.unwrap_or_default())),
        ];
        for name in [
            "content-digest",
            "authorization",
            "idempotency-key",
            "mcp-session-id",
            "last-event-id",
        ] {
            if self.fields.iter().any(|(field, _)| field.eq_ignore_ascii_case(name)) {
                lines.push((name, self.field(name).to_owned()));
            }
        }
        let names: Vec<String> = lines.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let parameters = format!(
            "({});created={};nonce=\"{}\";keyid=\"{}\";alg=\"ed25519\"",
            names.join(" "),
            self.created,
            self.nonce,
            key.public().id()
        );
        let mut base: Vec<String> = lines
            .iter()
            .map(|(name, value)| format!("\"{name}\": {value}"))
            .collect();
        base.push(format!("\"@signature-params\": {parameters}"));
        let signature = STANDARD.encode(key.sign(base.join("\n").as_bytes()));
        let mut fields = self.fields.clone();
        fields.push(("Signature-Input".to_owned(), format!("s={parameters}")));
        fields.push(("Signature".to_owned(), format!("s=:{signature}:")));
        fields
    }

    /// Where it goes.
    pub(crate) fn target(&self) -> String {
        let query = self.query.map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}{query}", self.path)
    }
}
