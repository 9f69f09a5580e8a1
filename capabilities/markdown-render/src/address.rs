//! Which addresses a link may have. Browsers forgive much in an address, so this reads it as forgivingly as they do.

/// Schemes that lead a reader somewhere and run nothing.
const SCHEMES: [&str; 3] = ["http", "https", "mailto"];

/// Whether a link may lead there: an allowed scheme, or no scheme at all.
pub(crate) fn is_safe(address: &str) -> bool {
    match scheme_of(address) {
        None => true,
        Some(scheme) => SCHEMES.contains(&scheme.as_str()),
    }
}

/// Whether an image may come from there: an allowed scheme, or a path.
pub(crate) fn is_safe_for_image(address: &str) -> bool {
    match scheme_of(address) {
        None => true,
        Some(scheme) => scheme == "http" || scheme == "https",
    }
}

/// What stands before the first colon, unless that comes after the path, the query or the fragment has begun. Browsers
/// drop tabs and line breaks anywhere and blanks in front, so `java\nscript:` is a scheme to them.
fn scheme_of(address: &str) -> Option<String> {
    let seen: String = address
        .chars()
        .filter(|character| *character > ' ' && !character.is_control())
        .collect();
    let (scheme, _) = seen.split_once(':')?;
    if scheme.contains(['/', '?', '#', '\\']) {
        return None;
    }
    Some(scheme.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_lead_somewhere() {
        for good in [
            "",
            "#top",
            "page",
            "page.html?x=a:b",
            "/a:b",
            "./a:b",
            "../x",
            "https://example.com",
            "HTTP://example.com",
            "mailto:someone@example.com",
            "//example.com/x",
        ] {
            assert!(is_safe(good), "{good:?} was refused");
        }
    }

    #[test]
    fn addresses_that_run_something() {
        for bad in [
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            " javascript:alert(1)",
            "java\nscript:alert(1)",
            "java\tscript:alert(1)",
            "\u{1}javascript:alert(1)",
            "javascript\n:alert(1)",
            "data:text/html,x",
            "vbscript:x",
            "file:///etc/passwd",
            "blob:x",
            "unknown:x",
            "javascript\u{0}:x",
            ":x",
        ] {
            assert!(!is_safe(bad), "{bad:?} was taken");
            assert!(!is_safe_for_image(bad), "{bad:?} was taken for an image");
        }
        assert!(!is_safe_for_image("mailto:a@example.com"));
    }
}
