//! The tour of README.md, typed as it stands there: every command of it, in one shell, in a folder and an environment of its own.
//! What is shown of its output must be what the commands print.

use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::support::desk::program;
use crate::support::port::free_port;

/// What is shown between two fences.
struct Block {
    /// `console` or `toml`.
    language: String,
    lines: Vec<String>,
}

/// The fenced blocks of a section.
fn blocks(text: &str, heading: &str) -> Vec<Block> {
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut blocks = Vec::new();
    let mut lines = section.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            continue;
        };
        let inside = lines.by_ref().take_while(|line| *line != "```").map(str::to_owned);
        blocks.push(Block {
            language: language.to_owned(),
            lines: inside.collect(),
        });
    }
    blocks
}

const MARK: &str = "=== block";

/// The shell script that does what the blocks say.
fn script(blocks: &[Block]) -> String {
    let mut script = String::from("set -m\nexec 2>&1\n");
    for (number, block) in blocks.iter().enumerate() {
        let _infallible = writeln!(script, "echo '{MARK} {number}'");
        match block.language.as_str() {
            "toml" => {
                let name = block.lines.first().and_then(|line| line.strip_prefix("# "));
                let name = name.expect("the first line of a file is its name");
                let _infallible = writeln!(script, "cat > {name} <<'END'\n{}\nEND", block.lines.join("\n"));
            }
            "console" => {
                let typed = block
                    .lines
                    .iter()
                    .filter_map(|line| line.strip_prefix("$ ").or_else(|| line.strip_prefix("> ")));
                typed.for_each(|line| script.extend([line, "\n"]));
            }
            other => panic!("a block of {other}"),
        }
    }
    script
}

/// The shortest number that may differ from run to run, in digits. Times, sizes and fuel that are shown are longer; exit codes,
/// states and what was found are not, and are promised.
const NUMBER_MIN: usize = 4;

/// A line without what differs from run to run: long numbers and those with a point, digests, widths of tables.
fn alike(line: &str) -> String {
    let mut text = String::new();
    let mut word = String::new();
    for character in line.chars().chain(['\n']) {
        if character.is_alphanumeric() {
            word.push(character);
            continue;
        }
        let is_long = word.len() >= NUMBER_MIN || character == '.' || text.ends_with('.');
        let is_number = is_long && word.starts_with(|one: char| one.is_ascii_digit());
        let is_drawn = word.len() >= 7 && word.chars().all(|one| one.is_ascii_hexdigit());
        if is_drawn || is_number {
            text.push('#');
        } else {
            text.push_str(&word);
        }
        word.clear();
        let repeats = text.ends_with(character) && matches!(character, ' ' | '─' | '═');
        if !repeats && character != '\n' {
            text.push(character);
        }
    }
    text.trim_end().to_owned()
}

/// Whether a line is one that is shown: `…` stands for anything.
fn shows(shown: &str, line: &str) -> bool {
    let mut parts = shown.split('…').map(alike);
    let line = alike(line);
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first.trim_end())) else {
        return false;
    };
    for part in parts {
        let Some((_, behind)) = rest.split_once(part.trim()) else {
            return false;
        };
        rest = behind;
    }
    shown.contains('…') || rest.is_empty()
}

#[test]
fn what_is_promised_is_not_taken_for_what_differs() {
    assert!(!shows("exit code 3", "exit code 10"));
    assert!(!shows(r#""matches":1,"passages":[…]"#, r#""matches":0,"passages":[]"#));
    assert!(!shows(r#"{"status":401,…}"#, r#"{"status":429,"title":"x"}"#));
    assert!(shows(
        "fuel 195743, in all 7.915 ms, …",
        "fuel 1957, in all 12.003 ms, input 5 bytes"
    ));
    assert!(shows(
        "key 7fa9677bae628cb4 until …",
        "key 0123456789abcdef until tomorrow"
    ));
}

#[test]
fn the_tour_is_what_the_commands_print() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().canonicalize().expect("the folder is there");
    let (repository, tour) = (folder.join("repository"), folder.join("tour"));
    let components = repository.join("capabilities/target/wasm32-wasip2");
    std::fs::create_dir_all(&components).expect("a folder");
    std::fs::create_dir_all(repository.join("target/debug")).expect("a folder");
    symlink(program(), repository.join("target/debug/aral")).expect("a link");
    symlink(env!("ARAL_CAPABILITIES"), components.join("release")).expect("a link");
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).expect("README.md");
    let here = readme
        .replace("/tmp/aral-tour", tour.to_str().expect("UTF-8"))
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{}", free_port()));
    let blocks = blocks(&here, "A short tour");
    assert!(blocks.len() > 10, "only {} blocks", blocks.len());
    let output = typed(&script(&blocks), &repository, &folder);
    let mut parts = output.split(MARK).skip(1);
    for (number, block) in blocks.iter().enumerate() {
        let printed = parts.next().unwrap_or_default();
        let is_shown = |line: &&String| !line.starts_with("$ ") && !line.starts_with("> ") && *line != "…";
        for shown in block
            .lines
            .iter()
            .filter(is_shown)
            .filter(|_| block.language == "console")
        {
            let found = printed.lines().any(|line| shows(shown, line));
            assert!(
                found,
                "block {number} does not print `{shown}`:\n{printed}\nof all:\n{output}"
            );
        }
    }
}

/// What a shell prints that is typed this into, in the end.
fn typed(script: &str, folder: &Path, home: &Path) -> String {
    let shell = Command::new("bash")
        .args(["-c", script])
        .current_dir(folder)
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .expect("bash is there; the tour needs curl and openssl, too: `apt install bash curl openssl`");
    assert!(shell.status.success(), "{shell:?}");
    String::from_utf8(shell.stdout).expect("UTF-8")
}

#[test]
fn the_first_capability_makes_its_key_where_git_ignores_it() {
    let page = include_str!("../../docs/capabilities.md");
    let blocks = blocks(page, "From nothing to a call");
    let typed: Vec<&String> = blocks.iter().flat_map(|block| &block.lines).collect();
    let first = |what: &str| typed.iter().position(|line| line.starts_with(what));
    let (folder, key) = (first("$ cd hello "), first("$ aral keygen "));
    assert!(folder.is_some() && folder < key, "{typed:?}");
}
