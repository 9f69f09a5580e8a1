//! Documents say what the code does: links lead somewhere, and the exit codes are those of the program.

use std::path::Path;

/// Where the program's table of exit codes stands, and where its documentation.
pub(super) const EXIT_CODES_SOURCE: &str = "host/src/cli/exit.rs";
pub(super) const EXIT_CODES_DOCUMENT: &str = "docs/cli.md";

/// One finding for each link of a Markdown file to a file or folder that is not there.
pub(super) fn check_links(path: &str, text: &str, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let elsewhere = file.is_empty() || file.contains([':', ' ']);
            if !elsewhere && !exists(&folder.join(file)) {
                findings.push(format!("{path}:{}: the link `{target}` leads nowhere", number + 1));
            }
        }
    }
    findings
}

/// One finding for each exit code that one of the two tables has and the other has not, or has with another meaning.
pub(super) fn check_exit_codes(source: &str, document: &str) -> Vec<String> {
    let program: Vec<(u8, &str)> = source.lines().filter_map(line_of_program).collect();
    let documented: Vec<(u8, &str)> = document.lines().filter_map(line_of_document).collect();
    let mut findings: Vec<String> = Vec::new();
    if program.is_empty() {
        findings.push(format!("{EXIT_CODES_SOURCE}: no table of exit codes"));
    }
    for (code, meaning) in program.iter().filter(|line| !documented.contains(line)) {
        findings.push(format!("{EXIT_CODES_DOCUMENT}: no line `| {code} | {meaning} |`"));
    }
    for (code, meaning) in documented.iter().filter(|line| !program.contains(line)) {
        findings.push(format!(
            "{EXIT_CODES_DOCUMENT}: `| {code} | {meaning} |` is not what the program does"
        ));
    }
    findings
}

/// `   3  denied: ...`, as the help prints it; the last line of the text ends the literal.
fn line_of_program(line: &str) -> Option<(u8, &str)> {
    let (code, meaning) = line.strip_prefix("  ")?.trim_start().split_once("  ")?;
    Some((code.parse().ok()?, meaning.trim_end_matches("\";")))
}

/// `| 3 | denied: ... |`
fn line_of_document(line: &str) -> Option<(u8, &str)> {
    let (code, meaning) = line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ")?;
    Some((code.parse().ok()?, meaning))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_somewhere() {
        let exists = |path: &Path| path == Path::new("docs/a.md");
        let text = "[a](a.md#x) [b](b.md) [c](https://example.com/c) [d](#d)\n`f](x y)`\n";
        assert_eq!(
            check_links("docs/index.md", text, exists),
            ["docs/index.md:1: the link `b.md` leads nowhere"]
        );
    }

    #[test]
    fn exit_codes_are_documented_as_they_are() {
        let source = "pub(crate) const TABLE: &str = \"\\\nExit codes:\n   0  success\n  10  diff: more\";\n";
        assert_eq!(
            check_exit_codes(source, "| 0 | success |\n| 10 | diff: more |\n"),
            [""; 0]
        );
        assert_eq!(
            check_exit_codes(source, "| code | meaning |\n| 0 | success |\n| 9 | diff: more |\n"),
            [
                "docs/cli.md: no line `| 10 | diff: more |`",
                "docs/cli.md: `| 9 | diff: more |` is not what the program does",
            ]
        );
        assert_eq!(
            check_exit_codes("", ""),
            ["host/src/cli/exit.rs: no table of exit codes"]
        );
    }
}
