//! The bytes that are signed (RFC 9421 section 2.5): a line for each component of a request, and one for the parameters.

use std::fmt::Write as _;

use http::{HeaderName, Uri, header};
use sfv::{FieldType as _, InnerList, List, ListEntry};

use super::Message;
use super::fields::{names, value};

/// The signature base.
pub(super) fn base(message: Message<'_>, covered: &InnerList) -> Result<String, &'static str> {
    let mut base = String::new();
    for name in names(covered) {
        let value = component(message, name)?;
        // A text has no other characters that would have to be escaped than these, and no name of a component has them.
        if name.contains(['"', '\\']) {
            return Err("a signature over something without a name");
        }
        let _never_fails = writeln!(base, "\"{name}\": {value}");
    }
    let list: List = vec![ListEntry::InnerList(covered.clone())];
    let parameters = list.serialize().ok_or("a signature without parameters")?;
    let _never_fails = write!(base, "\"@signature-params\": {parameters}");
    Ok(base)
}

fn component(message: Message<'_>, name: &str) -> Result<String, &'static str> {
    match name.strip_prefix('@') {
        Some("method") => Ok(message.method.as_str().to_owned()),
        Some("authority") => authority(message),
        Some("path") => Ok(path(message.uri).to_owned()),
        Some("query") => Ok(format!("?{}", message.uri.query().unwrap_or_default())),
        Some("request-target") => Ok(message
            .uri
            .path_and_query()
            .map_or("/", |rest| rest.as_str())
            .to_owned()),
        Some(_) => Err("a signature over a component that is not taken"),
        None => {
            let lower = name.bytes().all(|byte| !byte.is_ascii_uppercase());
            let field = HeaderName::from_bytes(name.as_bytes()).ok().filter(|_| lower);
            let field = field.ok_or("a signature over something without a name")?;
            value(message.headers, &field)?.ok_or("a signature over a field that is not there")
        }
    }
}

fn path(uri: &Uri) -> &str {
    match uri.path() {
        "" => "/",
        path => path,
    }
}

/// Host and port as the caller wrote them, in lower case, and without the port that the scheme implies (RFC 9421 section
/// 2.2.3). Behind a proxy that speaks TLS the scheme of the caller is another one than here, so that neither counts.
fn authority(message: Message<'_>) -> Result<String, &'static str> {
    let text = match message.uri.authority() {
        Some(authority) => authority.as_str().to_owned(),
        None => value(message.headers, &header::HOST)?.ok_or("a signature over a host that is not there")?,
    };
    let text = text.to_ascii_lowercase();
    let plain = text.strip_suffix(":443").or_else(|| text.strip_suffix(":80"));
    Ok(plain.map_or_else(|| text.clone(), str::to_owned))
}
