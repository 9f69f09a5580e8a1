//! `Signature-Input` and `Signature` (RFC 9421 section 4) as one signature with its parameters. They must be in their one
//! canonical form (RFC 9651 section 4.1): a member that is there twice, or an encoding that others read otherwise, is refused.

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, FieldType as _, InnerList, Key, ListEntry, Parser};

use super::{SIGNATURE, SIGNATURE_INPUT};

/// Most that one signature covers.
const COMPONENTS_MAX: usize = 32;
/// Longest nonce, in bytes.
const NONCE_BYTES_MAX: usize = 128;

/// One signature as it was sent.
#[derive(Debug)]
pub(super) struct Input {
    /// What it covers, with all parameters: `@signature-params`.
    pub(super) covered: InnerList,
    pub(super) created: i64,
    pub(super) expires: Option<i64>,
    pub(super) nonce: String,
    pub(super) key_id: String,
    pub(super) signature: [u8; 64],
}

impl Input {
    /// The only signature of a request.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, &'static str> {
        let (label, entry) = only(dictionary(headers, &SIGNATURE_INPUT)?)?;
        let (other, signature) = only(dictionary(headers, &SIGNATURE)?)?;
        if label != other {
            return Err("a signature without its input");
        }
        let ListEntry::InnerList(covered) = entry else {
            return Err("a signature whose input is no list");
        };
        let ListEntry::Item(signature) = signature else {
            return Err("a signature that is a list");
        };
        let BareItem::ByteSequence(signature) = signature.bare_item else {
            return Err("a signature that is no byte sequence");
        };
        let signature = signature.try_into().map_err(|_| "a signature of another length")?;
        check_components(&covered)?;
        Self::with_parameters(covered, signature)
    }

    fn with_parameters(covered: InnerList, signature: [u8; 64]) -> Result<Self, &'static str> {
        let (mut created, mut expires, mut nonce, mut key_id) = (None, None, None, None);
        for (name, value) in &covered.params {
            match (name.as_str(), value) {
                ("created", BareItem::Integer(moment)) => created = Some(i64::from(*moment)),
                ("expires", BareItem::Integer(moment)) => expires = Some(i64::from(*moment)),
                ("nonce", BareItem::String(text)) => nonce = Some(text.as_str().to_owned()),
                ("keyid", BareItem::String(text)) => key_id = Some(text.as_str().to_owned()),
                ("alg", BareItem::String(text)) if text.as_str() == "ed25519" => {}
                ("alg", _) => return Err("a signature with another algorithm"),
                // What it was made for is for its maker to know.
                ("tag", BareItem::String(_)) => {}
                (_, _) => return Err("a signature with a parameter that is not taken"),
            }
        }
        let nonce = nonce.ok_or("a signature without `nonce`")?;
        if nonce.is_empty() || nonce.len() > NONCE_BYTES_MAX {
            return Err("a signature with a `nonce` that is too long or empty");
        }
        Ok(Self {
            created: created.ok_or("a signature without `created`")?,
            expires,
            nonce,
            key_id: key_id.ok_or("a signature without `keyid`")?,
            covered,
            signature,
        })
    }

    pub(super) fn covers(&self, name: &str) -> bool {
        names(&self.covered).any(|one| one == name)
    }
}

/// The names of what is covered; [`check_components`] has seen that all are texts.
pub(super) fn names(covered: &InnerList) -> impl Iterator<Item = &str> {
    covered.items.iter().filter_map(|item| match &item.bare_item {
        BareItem::String(name) => Some(name.as_str()),
        _ => None,
    })
}

/// Each is a name without parameters (`;sf`, `;bs`, `;key`, `;req` and `;tr` of RFC 9421 are not taken), and there once.
fn check_components(covered: &InnerList) -> Result<(), &'static str> {
    if covered.items.len() > COMPONENTS_MAX {
        return Err("a signature that covers too much");
    }
    for (index, item) in covered.items.iter().enumerate() {
        let BareItem::String(name) = &item.bare_item else {
            return Err("a signature over something without a name");
        };
        if !item.params.is_empty() {
            return Err("a signature over a component with parameters");
        }
        if names(covered).take(index).any(|one| one == name.as_str()) {
            return Err("a signature over one component twice");
        }
    }
    Ok(())
}

/// A field that is a dictionary.
pub(super) fn dictionary(headers: &HeaderMap, name: &HeaderName) -> Result<Dictionary, &'static str> {
    let text = value(headers, name)?.ok_or("a signature with a field missing")?;
    let parsed: Dictionary = Parser::new(&text)
        .parse()
        .map_err(|_| "a signature with a field that is no dictionary")?;
    if parsed.serialize().as_deref() == Some(text.as_str()) {
        Ok(parsed)
    } else {
        Err("a signature with a field that is not in canonical form")
    }
}

/// The value of a field, all its lines together (RFC 9421 section 2.1).
pub(super) fn value(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, &'static str> {
    let mut lines = Vec::new();
    for line in headers.get_all(name) {
        let text = line
            .to_str()
            .map_err(|_| "a signature over a field that is not ASCII")?;
        lines.push(text.trim_matches([' ', '\t']));
    }
    Ok((!lines.is_empty()).then(|| lines.join(", ")))
}

fn only(dictionary: Dictionary) -> Result<(Key, ListEntry), &'static str> {
    let mut members = dictionary.into_iter();
    match (members.next(), members.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err("two signatures"),
        (None, _) => Err("a signature with an empty field"),
    }
}
