//! `aral.toml` as text: where it is wrong, and which known key an unknown one is most like.

use std::path::Path;

use super::ConfigError;
use super::raw::RawConfig;

pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<RawConfig, ConfigError> {
    let error = |line: usize, detail: String| ConfigError::Toml {
        path: path.to_owned(),
        line,
        similar: similar(&detail),
        detail,
    };
    let text = std::str::from_utf8(bytes).map_err(|wrong| {
        let before = bytes.get(..wrong.valid_up_to()).unwrap_or_default();
        error(line_at(before), "not UTF-8".to_owned())
    })?;
    toml::from_str(text).map_err(|wrong| {
        let before = wrong.span().and_then(|span| bytes.get(..span.start));
        error(before.map_or(1, line_at), wrong.message().replace('\n', " "))
    })
}

fn line_at(before: &[u8]) -> usize {
    before.iter().filter(|byte| **byte == b'\n').count().saturating_add(1)
}

/// The known name that is most like the unknown one, out of the parser's own words: unknown field `x`, expected one of
/// `a`, `b`.
fn similar(detail: &str) -> Option<String> {
    let (unknown, known) = detail.split_once("expected")?;
    let unknown = unknown.split('`').nth(1)?;
    let known = known.split('`').skip(1).step_by(2);
    let scored = known.map(|name| (strsim::jaro_winkler(unknown, name), name));
    let best = scored.max_by(|(one, _), (two, _)| one.total_cmp(two))?;
    (best.0 > 0.8).then(|| best.1.to_owned())
}
