//! Rules over the text of one Rust file. Works line by line and knows just enough of the language to pass over comments.

/// Longest file, in lines before its tests.
const LINES_MAX: usize = 400;

/// The one file of the host that may hold `unsafe`.
const UNSAFE_FILE: &str = "host/crates/runtime/src/danger.rs";

/// The one library that cannot forbid `unsafe`, because it holds that file.
const UNSAFE_LIBRARY: &str = "host/crates/runtime/src/lib.rs";

/// Guests run inside the sandbox: a hostile one may do what it likes there.
const GUESTS: [&str; 3] = ["capabilities/", "guest-sdk/", "tests/guests/"];

/// Every broken rule, each as `path:line: what`.
pub(super) fn check(path: &str, text: &str) -> Vec<String> {
    let guest = GUESTS.iter().any(|folder| path.starts_with(folder));
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push(format!("{path}:1: the first line is not a `//!` header"));
    }
    let lines = lines_before_tests(text);
    if !is_test(path) && lines > LINES_MAX {
        findings.push(format!("{path}: {lines} lines before its tests, more than {LINES_MAX}"));
    }
    if !guest && path.ends_with("src/lib.rs") && path != UNSAFE_LIBRARY && !text.contains("#![forbid(unsafe_code)]") {
        findings.push(format!("{path}: a library without `#![forbid(unsafe_code)]`"));
    }
    for (number, line) in text.lines().enumerate() {
        let code = code_of(line);
        let mut find = |what: &str| findings.push(format!("{path}:{}: {what}", number + 1));
        if has_attribute(&code, "ignore") {
            find("an ignored test: a test runs or does not exist");
        }
        if has_attribute(&code, "should_panic") {
            find("`should_panic` hides which line panicked: assert the error");
        }
        if has_attribute(&code, "allow") {
            find("use `#[expect(lint, reason = \"...\")]`, which ends when its cause does");
        }
        if !guest && path != UNSAFE_FILE && has_unsafe(&code) {
            find("`unsafe` lives in the runtime's danger.rs alone");
        }
    }
    findings
}

/// Tests that are in a file of their own end nothing here.
fn lines_before_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let begins = |pair: &[&str]| {
        matches!(pair, [attribute, module]
            if attribute.starts_with("#[cfg(test)]") && module.starts_with("mod ") && module.ends_with('{'))
    };
    lines.windows(2).position(begins).unwrap_or(lines.len())
}

fn is_test(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs")
}

/// The line without comment and without the contents of its string literals.
fn code_of(line: &str) -> String {
    let mut code = String::with_capacity(line.len());
    let mut in_string = false;
    let mut rest = line;
    while let Some(character) = rest.chars().next() {
        let skipped = if in_string && character == '\\' {
            rest.chars().take(2).map(char::len_utf8).sum()
        } else if !in_string && rest.starts_with("'\"'") {
            3
        } else if !in_string && rest.starts_with("//") {
            break;
        } else {
            if character == '"' {
                in_string = !in_string;
            } else if !in_string {
                code.push(character);
            }
            character.len_utf8()
        };
        rest = rest.get(skipped..).unwrap_or_default();
    }
    code
}

/// Whether an attribute of this name opens in the line, bare or inside `cfg_attr`.
fn has_attribute(code: &str, name: &str) -> bool {
    let inner = ["#[", "#!["].iter().any(|open| {
        code.split(open).skip(1).any(|rest| {
            rest.strip_prefix(name)
                .is_some_and(|after| after.starts_with([']', '(', ' ', '=']))
        })
    });
    inner || (code.contains("cfg_attr(") && code.contains(&format!(", {name}")))
}

/// Whether the keyword stands there, whatever it opens.
fn has_unsafe(code: &str) -> bool {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .any(|word| word == "unsafe")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(path, text)
    }

    fn one(path: &str, text: &str) -> String {
        let mut found = findings(path, text);
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    #[test]
    fn a_good_file_has_no_finding() {
        let text = "//! Says why.\n#![forbid(unsafe_code)]\n// unsafe { } and #[ignore] in a comment\nlet x = (\"a // b\", '\"', \"unsafe { \\\" #[ignore]\");\n";
        assert_eq!(findings("host/src/lib.rs", text), [""; 0]);
    }

    #[test]
    fn a_file_opens_with_a_header() {
        assert_eq!(
            one("host/src/a.rs", "use std::fs;\n"),
            "host/src/a.rs:1: the first line is not a `//!` header"
        );
    }

    #[test]
    fn length_counts_up_to_the_tests() {
        let long = format!("//! Long.\n{}", "let x = 1;\n".repeat(400));
        assert_eq!(
            one("host/src/a.rs", &long),
            "host/src/a.rs: 401 lines before its tests, more than 400"
        );
        assert_eq!(findings("tests/it/a.rs", &long), [""; 0]);
        assert_eq!(findings("host/src/a/tests.rs", &long), [""; 0]);
        let tests = format!(
            "//! Short.\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            "let x = 1;\n".repeat(400)
        );
        assert_eq!(findings("host/src/a.rs", &tests), [""; 0]);
        let elsewhere = format!("//! Long.\n#[cfg(test)]\nmod tests;\n{}", "let x = 1;\n".repeat(400));
        assert_eq!(
            one("host/src/a.rs", &elsewhere),
            "host/src/a.rs: 403 lines before its tests, more than 400"
        );
    }

    #[test]
    fn a_library_forbids_unsafe() {
        assert!(one("xtask/src/lib.rs", "//! X.\n").contains("forbid(unsafe_code)"));
        assert_eq!(findings("host/crates/runtime/src/lib.rs", "//! X.\n"), [""; 0]);
        assert_eq!(findings("guest-sdk/src/lib.rs", "//! X.\n"), [""; 0]);
    }

    #[test]
    fn unsafe_lives_in_one_file() {
        for line in [
            "unsafe { f() }",
            "unsafe{f()}",
            "pub unsafe fn f() {}",
            "unsafe impl Send for X {}",
            "#[unsafe(no_mangle)]",
        ] {
            let text = format!("//! X.\n{line}\n");
            assert!(
                one("host/crates/contract/src/a.rs", &text).contains(":2: `unsafe` lives"),
                "{line}"
            );
            assert_eq!(findings("host/crates/runtime/src/danger.rs", &text), [""; 0]);
            assert_eq!(findings("tests/guests/a/src/main.rs", &text), [""; 0]);
        }
        assert_eq!(
            findings(
                "host/src/a.rs",
                "//! X.\n#![forbid(unsafe_code)] let unsafe_count = 1;\n"
            ),
            [""; 0]
        );
    }

    #[test]
    fn tests_run_and_lints_are_expected() {
        for (attribute, word) in [
            ("#[ignore]", "ignored test"),
            ("#[ignore = \"slow\"]", "ignored test"),
            ("#[cfg_attr(x, ignore)]", "ignored test"),
            ("#[should_panic]", "which line panicked"),
            ("#[should_panic(expected = \"x\")]", "which line panicked"),
            ("#[allow(dead_code)]", "expect(lint"),
            ("#![allow(dead_code)]", "expect(lint"),
        ] {
            let found = one("tests/it/a.rs", &format!("//! X.\n{attribute}\nfn f() {{}}\n"));
            assert!(found.contains(word), "{found}");
        }
        assert_eq!(
            findings(
                "tests/it/a.rs",
                "//! X.\n#[allowed]\n#[expect(dead_code, reason = \"x\")]\n"
            ),
            [""; 0]
        );
    }
}
