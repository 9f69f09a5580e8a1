//! Documents say what the code does: links lead somewhere, the exit codes are those of the program, the tests that show a
//! promise are there, and no page and no crate is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Where the program's table of exit codes stands, and where its documentation.
pub(super) const EXIT_CODES_SOURCE: &str = "host/src/cli/exit.rs";
pub(super) const EXIT_CODES_DOCUMENT: &str = "docs/cli.md";
/// What leads to every page.
pub(super) const README: &str = "README.md";
/// What says where each crate is.
pub(super) const ARCHITECTURE: &str = "ARCHITECTURE.md";
/// What names the tests that show each promise.
pub(super) const SPECIFICATION: &str = "docs/specification.md";

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

/// One finding for each page of `docs` that the README has no link to.
pub(super) fn check_pages(readme: &str, files: &[String]) -> Vec<String> {
    let is_page = |path: &&String| {
        let name = path.strip_prefix("docs/").and_then(|name| name.strip_suffix(".md"));
        name.is_some_and(|name| !name.contains('/'))
    };
    let linked = |path: &String| readme.contains(&format!("]({path})"));
    let lost = files.iter().filter(is_page).filter(|path| !linked(path));
    lost.map(|path| format!("{README}: no link to {path}")).collect()
}

/// One finding for each folder of `host/crates` that the map does not name.
pub(super) fn check_crates(architecture: &str, files: &[String]) -> Vec<String> {
    let name = |path: &String| Some(path.strip_prefix("host/crates/")?.split_once('/')?.0.to_owned());
    let crates: BTreeSet<String> = files.iter().filter_map(name).collect();
    let named = |name: &String| architecture.contains(&format!("`host/crates/{name}`"));
    let lost = crates.iter().filter(|name| !named(name));
    lost.map(|name| format!("{ARCHITECTURE}: no paragraph of `host/crates/{name}`"))
        .collect()
}

/// What a test stands under that is compiled with `cargo xtask test --services` alone.
const SERVICES_GATE: &str = "#[cfg(feature = \"services\")]";
/// What begins an item, and so ends the attributes before it.
const ITEMS: [&str; 11] = [
    "async ", "const ", "enum ", "fn ", "impl ", "mod ", "static ", "struct ", "trait ", "type ", "use ",
];

/// A test or a module.
struct Item<'a> {
    name: &'a str,
    is_test: bool,
    /// Whether it, or the module around it in this file, is there with services alone.
    services: bool,
    /// Whether it is a module in a file of its own.
    has_file: bool,
}

/// The name that a text begins with.
fn identifier(text: &str) -> Option<&str> {
    text.split(|one: char| !one.is_alphanumeric() && one != '_').next()
}

/// The tests and modules in a Rust file.
fn items(text: &str) -> Vec<Item<'_>> {
    let mut items = Vec::new();
    let (mut is_test, mut gated) = (false, false);
    // The line that ends a module of which all is there with services alone.
    let mut end: Option<String> = None;
    for whole in text.lines() {
        if end.as_deref() == Some(whole) {
            end = None;
        }
        let line = whole.trim_start();
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        gated |= line == SERVICES_GATE;
        let item = match line.split_once(' ') {
            Some((first, rest)) if first.starts_with("pub") => rest,
            Some(_) | None => line,
        };
        if !ITEMS.iter().any(|word| item.starts_with(word)) {
            continue;
        }
        let services = gated || end.is_some();
        if let Some(name) = item.strip_prefix("mod ").and_then(identifier) {
            let has_file = item.ends_with(';');
            items.push(Item {
                name,
                is_test: false,
                services,
                has_file,
            });
            if gated && !has_file && end.is_none() {
                let indent = whole.strip_suffix(line).unwrap_or_default();
                end = Some(format!("{indent}}}"));
            }
        } else if let Some(rest) = item.strip_prefix("async ").unwrap_or(item).strip_prefix("fn ") {
            items.extend(identifier(rest).filter(|_| is_test).map(|name| Item {
                name,
                is_test: true,
                services,
                has_file: false,
            }));
            is_test = false;
        }
        gated = false;
    }
    items
}

/// The modules of a file that are there with services alone and have files of their own: their paths, without what comes behind.
fn paths_with_services(path: &str, items: &[Item<'_>]) -> Vec<String> {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = match file {
        "main.rs" | "lib.rs" | "mod.rs" => folder,
        _ => path.trim_end_matches(".rs"),
    };
    let items = items.iter().filter(|item| item.services && item.has_file);
    items.map(|item| format!("{parent}/{}", item.name)).collect()
}

/// What a name in the specification may lead to: tests and modules, and whether one of the name is there without services.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Declared {
    tests: BTreeMap<String, bool>,
    modules: BTreeMap<String, bool>,
}

impl Declared {
    /// The tests and modules of Rust files, each of which is a path and a text.
    pub(super) fn of(files: &[(&str, String)]) -> Self {
        let files: Vec<(&str, Vec<Item<'_>>)> = files.iter().map(|(path, text)| (*path, items(text))).collect();
        let gated: Vec<String> = files
            .iter()
            .flat_map(|(path, items)| paths_with_services(path, items))
            .collect();
        let is_below = |path: &str, module: &String| {
            let rest = path.strip_prefix(module.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        let mut declared = Self::default();
        for (path, items) in files {
            let whole = gated.iter().any(|module| is_below(path, module));
            for item in items {
                let names = if item.is_test {
                    &mut declared.tests
                } else {
                    &mut declared.modules
                };
                let plain = names.entry(item.name.to_owned()).or_default();
                *plain |= !(whole || item.services);
            }
        }
        declared
    }

    /// Whether something runs for this name without services; none: nothing does, nor with them. A name is modules, and behind them
    /// a part of a test's name, or nothing. That the test is in these modules is not looked at.
    fn runs_plainly(&self, name: &str) -> Option<bool> {
        let (modules, last) = name
            .rsplit_once("::")
            .map_or((None, name), |(modules, last)| (Some(modules), last));
        let mut plain = true;
        for module in modules.into_iter().flat_map(|modules| modules.split("::")) {
            plain &= *self.modules.get(module)?;
        }
        let tests = self.tests.iter().filter(|(test, _)| test.contains(last));
        let found = self.modules.get(last).into_iter().chain(tests.map(|(_, plain)| plain));
        Some(found.copied().reduce(|one, other| one || other)? && plain)
    }
}

/// One finding for each name in a cell of "shown by" that leads to no test: nothing would run for it. The same where something runs
/// with `--services` alone, and the cell does not say so.
pub(super) fn check_tests(document: &str, declared: &Declared) -> Vec<String> {
    let is_name = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b':'))
    };
    let mut findings = Vec::new();
    let mut shown = false;
    for (number, line) in document.lines().enumerate() {
        let Some((_, cell)) = line.strip_suffix(" |").and_then(|row| row.rsplit_once(" | ")) else {
            shown &= line.starts_with("|-");
            continue;
        };
        if line.starts_with("| id |") {
            shown = cell.starts_with("shown by");
            continue;
        }
        let quoted = cell.split('`').skip(1).step_by(2);
        let names = quoted
            .map(|name| name.trim_end_matches('*'))
            .filter(|name| is_name(name));
        for name in names.filter(|_| shown) {
            let what = match declared.runs_plainly(name) {
                None => format!("there is no test `{name}`"),
                Some(false) if !cell.contains("--services") => {
                    format!("`{name}` is there with `--services` alone, and the row does not say so")
                }
                Some(_) => continue,
            };
            findings.push(format!("{SPECIFICATION}:{}: {what}", number + 1));
        }
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

    fn paths(paths: &[&str]) -> Vec<String> {
        paths.iter().map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn the_readme_leads_to_every_page() {
        let files = paths(&[
            "docs/a.md",
            "docs/b.md",
            "docs/adr/0001-x.md",
            "docs/a.json",
            "tests/c.md",
        ]);
        assert_eq!(
            check_pages("| [docs/a.md](docs/a.md) | `docs/b.md` |\n", &files),
            ["README.md: no link to docs/b.md"]
        );
    }

    #[test]
    fn the_map_has_every_crate() {
        let files = paths(&[
            "host/crates/a/src/lib.rs",
            "host/crates/b/src/lib.rs",
            "host/crates/b/Cargo.toml",
        ]);
        assert_eq!(
            check_crates("- **`host/crates/a`** (0): see b\n", &files),
            ["ARCHITECTURE.md: no paragraph of `host/crates/b`"]
        );
    }

    fn declared(files: &[(&'static str, &str)]) -> Declared {
        let files: Vec<_> = files.iter().map(|(path, text)| (*path, (*text).to_owned())).collect();
        Declared::of(&files)
    }

    #[test]
    fn what_shows_a_promise_is_there() {
        let source = "mod tests;\npub(crate) mod serve {\n    #[tokio::test(start_paused = true)]\n    #[ignore]\n    \
                      async fn a_key_is_asked_for() {}\n    fn keys_of() {}\n}\n// fn gone()\n";
        let declared = declared(&[("tests/it/main.rs", source)]);
        assert_eq!(
            declared.tests,
            BTreeMap::from([("a_key_is_asked_for".to_owned(), true)])
        );
        assert_eq!(
            declared.modules,
            BTreeMap::from([("serve".to_owned(), true), ("tests".to_owned(), true)])
        );
        let document = "\
            | id | promise | shown by (`cargo xtask test NAME`) |\n|---|---|---|\n\
            | A-1 | `this` is no test | `serve::tests`, `a_key_*` (`--services`), `serve::` |\n\
            | A-2 | x | `serve::gone`, `keys_of`, `key::asked`, `serve::asked`, `wit/` |\n\n\
            | id | promise | measured |\n|---|---|---|\n| A-3 | x | `nothing` |\n";
        assert_eq!(
            check_tests(document, &declared),
            ["serve::gone", "keys_of", "key::asked"]
                .map(|name| format!("docs/specification.md:4: there is no test `{name}`"))
        );
    }

    #[test]
    fn what_is_there_with_services_alone_is_said_to_be() {
        let declared = declared(&[
            (
                "tests/it/environment.rs",
                "#[test]\nfn the_memory_of_a_server_shows_nothing() {}\n",
            ),
            ("tests/it/environment/more.rs", "#[test]\nfn below_it() {}\n"),
            ("tests/it/environments.rs", "#[test]\nfn beside_it() {}\n"),
            (
                "tests/it/main.rs",
                "#[cfg(feature = \"services\")]\nmod environment;\nmod environments;\nmod serve;\n",
            ),
            (
                "tests/it/serve.rs",
                "#[cfg(feature = \"services\")]\nuse x;\n#[test]\nfn is_plain() {}\n\
                 #[cfg(feature = \"services\")]\n#[test]\n#[expect(\n    x,\n    reason = \"y\"\n)]\nfn is_gated() {}\n\
                 #[cfg(feature = \"services\")]\nmod real {\n    #[test]\n    fn inside() {\n    }\n}\n\
                 #[test]\nfn behind() {}\n",
            ),
        ]);
        let names = [
            "the_memory_of_a_server",
            "below_it",
            "beside_it",
            "is_plain",
            "is_gated",
            "inside",
            "behind",
            "environment::",
            "real::inside",
            "serve::",
            // One of those that have it in their names.
            "is_",
        ];
        let document = |word: &str| {
            let rows = names.map(|name| format!("| M-5 | x | `{name}`{word} |\n"));
            format!("| id | promise | shown by |\n|---|---|---|\n{}", rows.concat())
        };
        let gated = [
            (3, "the_memory_of_a_server"),
            (4, "below_it"),
            (7, "is_gated"),
            (8, "inside"),
            (10, "environment::"),
            (11, "real::inside"),
        ];
        assert_eq!(
            check_tests(&document(""), &declared),
            gated.map(|(line, name)| format!(
                "docs/specification.md:{line}: `{name}` is there with `--services` alone, and the row does not say so"
            ))
        );
        assert_eq!(check_tests(&document(" (`--services`)"), &declared), [""; 0]);
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
