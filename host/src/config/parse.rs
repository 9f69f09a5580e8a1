//! The text of `aral.toml` as TOML: an error says the line, and the known key that is most like an unknown one or another
//! word that repairs it.

use std::path::Path;

use super::ConfigError;
use super::raw::RawConfig;
use super::storage::MASTER_KEY_LINE;

/// What comes after this in the words of a value's own check is the line that repairs it.
pub(super) const HINT: &str = "\nhint: ";
/// What the parser says of a key that is there already, without the key.
const DUPLICATE: &str = "duplicate key";

pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<RawConfig, ConfigError> {
    let error = |line: usize, detail: &str| {
        let (detail, hint) = match detail.split_once(HINT) {
            Some((detail, hint)) => (detail, Some(hint.to_owned())),
            None => (detail, known_hint(detail)),
        };
        ConfigError::Toml {
            path: path.to_owned(),
            line,
            detail: detail.replace('\n', " "),
            hint,
        }
    };
    let text = std::str::from_utf8(bytes).map_err(|wrong| {
        let before = bytes.get(..wrong.valid_up_to()).unwrap_or_default();
        error(line_at(before), "not UTF-8")
    })?;
    toml::from_str(text).map_err(|wrong| {
        let span = wrong.span();
        let before = span.as_ref().and_then(|span| bytes.get(..span.start));
        let line = before.map_or(1, line_at);
        match span.and_then(|span| text.get(span)) {
            Some(key) if wrong.message() == DUPLICATE => error(line, &format!("{DUPLICATE} `{key}`")),
            Some(_) | None => error(line, &without_names(wrong.message())),
        }
    })
}

/// What the parser says, without the name that a type has in this program.
fn without_names(detail: &str) -> String {
    let Some((before, behind)) = detail.split_once("expected struct ") else {
        return detail.to_owned();
    };
    let behind = behind.trim_start_matches(|one: char| one.is_ascii_alphanumeric() || one == '_');
    format!("{before}expected a table{behind}")
}

fn line_at(before: &[u8]) -> usize {
    before.iter().filter(|byte| **byte == b'\n').count().saturating_add(1)
}

/// For what the parser itself says.
fn known_hint(detail: &str) -> Option<String> {
    if detail.starts_with("missing field `master_key`") {
        return Some(MASTER_KEY_LINE.to_owned());
    }
    similar(detail).map(|similar| format!("did you mean `{similar}`?"))
}

/// The known name that is most like the unknown one, out of the parser's own words: unknown field `x`, expected one of
/// `a`, `b`.
fn similar(detail: &str) -> Option<String> {
    let (unknown, known) = detail.split_once("expected")?;
    let unknown = unknown.split('`').nth(1)?;
    nearest(unknown, known.split('`').skip(1).step_by(2)).map(str::to_owned)
}

/// The known name that is most like an unknown one; none: none is like it.
pub(super) fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|name| (strsim::jaro_winkler(unknown, name), name));
    let (score, name) = scored.max_by(|(one, _), (two, _)| one.total_cmp(two))?;
    (score > 0.8).then_some(name)
}
