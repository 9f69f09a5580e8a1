//! The whole capability on a tree made from `tests/data`. Names that git would not keep (`.git`, ignored files) are made
//! here.

use std::fs;
use std::path::PathBuf;

use aral_guest::prelude::*;
use serde_json::{Value, json};

struct Tree(PathBuf);

impl Tree {
    /// `files` are paths with contents; folders are made on the way.
    fn new(test: &str, files: &[(&str, &[u8])]) -> Self {
        let root = std::env::temp_dir().join(format!("text-grep-{}-{test}", std::process::id()));
        for (path, bytes) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        Self(root)
    }

    fn call(&self, mut input: Value) -> Result<Value> {
        input["folder"] = self.0.display().to_string().into();
        aral_guest::serve(crate::grep, &input.to_string()).map(|output| serde_json::from_str(&output).unwrap())
    }

    /// `path:line` of each match.
    fn matches(&self, input: Value) -> Vec<String> {
        let output = self.call(input).unwrap();
        let mut found = Vec::new();
        for passage in output["passages"].as_array().unwrap() {
            for line in passage["lines"].as_array().unwrap() {
                if line["matches"] == true {
                    found.push(format!("{}:{}", passage["path"].as_str().unwrap(), line["number"]));
                }
            }
        }
        assert_eq!(output["matches"], found.len());
        found
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn project(test: &str) -> Tree {
    Tree::new(
        test,
        &[
            ("server.log", include_bytes!("../tests/data/server.log")),
            ("src/main.c", include_bytes!("../tests/data/main.c")),
            ("src/.secret", b"timeout\n"),
            ("src/generated/parser.c", b"timeout\n"),
            ("src/generated/keep.c", b"timeout\n"),
            ("src/.gitignore", b"generated/*\n!generated/keep.c\n"),
            (".gitignore", b"*.tmp\n/build/\n"),
            ("a.tmp", b"timeout\n"),
            ("build/out.c", b"timeout\n"),
            ("src/build/in.c", b"timeout\n"),
            ("image.bin", b"timeout\n\0\x01\x02"),
        ],
    )
}

#[test]
fn a_real_log() {
    let tree = project("log");
    let output = tree
        .call(json!({"pattern": r"\b5\d\d\b", "include": ["*.log"], "context_lines": 1}))
        .unwrap();
    assert_eq!(output["matches"], 2);
    let lines = &output["passages"][0]["lines"];
    assert_eq!(lines[0]["number"], 3);
    assert_eq!(lines[1]["matches"], true);
    assert!(lines[1]["text"].as_str().unwrap().contains("POST /orders 502"));
    assert_eq!(output["files_searched"], 1);
    assert_eq!(output["truncated"], false);
}

#[test]
fn ignore_files_hidden_files_and_binary_files() {
    let tree = project("ignore");
    let expected = [
        "server.log:5",
        "src/build/in.c:1",
        "src/generated/keep.c:1",
        "src/main.c:4",
        "src/main.c:9",
    ];
    assert_eq!(tree.matches(json!({"pattern": "timeout"})), expected);
    assert_eq!(tree.call(json!({"pattern": "timeout"})).unwrap()["files_binary"], 1);

    let all = tree.matches(json!({"pattern": "timeout", "ignored": true, "hidden": true}));
    assert_eq!(all.len(), expected.len() + 4, "{all:?}");
    assert!(all.contains(&"src/.secret:1".to_owned()) && all.contains(&"build/out.c:1".to_owned()));
    assert!(!all.iter().any(|path| path.starts_with("image.bin")));
}

#[test]
fn globs() {
    let tree = project("globs");
    let check = |include: Value, exclude: Value, expected: &[&str]| {
        assert_eq!(
            tree.matches(json!({"pattern": "timeout", "include": include, "exclude": exclude})),
            expected
        );
    };
    check(json!(["*.log"]), json!([]), &["server.log:5"]);
    check(json!(["src/*.c"]), json!([]), &["src/main.c:4", "src/main.c:9"]);
    check(json!(["/*.c"]), json!([]), &[]);
    check(json!(["*.c"]), json!(["build/", "main.c"]), &["src/generated/keep.c:1"]);
    let error = tree.call(json!({"pattern": "x", "include": ["a{b"]})).unwrap_err();
    assert!(matches!(error, Error::InvalidInput(text) if text.contains("a{b")));
}

#[test]
fn kinds_of_patterns() {
    let tree = Tree::new("patterns", &[("a.txt", b"a.b\naxb\nFoo food\nfoo\n")]);
    let check = |input: Value, expected: &[&str]| assert_eq!(tree.matches(input), expected);
    check(json!({"pattern": "a.b"}), &["a.txt:1", "a.txt:2"]);
    check(json!({"pattern": "a.b", "literal": true}), &["a.txt:1"]);
    check(json!({"pattern": "foo", "word": true}), &["a.txt:4"]);
    check(
        json!({"pattern": "foo", "word": true, "case_insensitive": true}),
        &["a.txt:3", "a.txt:4"],
    );
    check(json!({"pattern": "^fo+$"}), &["a.txt:4"]);
}

#[test]
fn patterns_that_cannot_be_used() {
    let tree = Tree::new("bad", &[("a.txt", b"a")]);
    for pattern in ["", "(", "a\nb", r"(?=a)", r"(a)\1", "((a{100}){100}){100}"] {
        let answer = tree.call(json!({"pattern": pattern}));
        assert!(matches!(answer, Err(Error::InvalidInput(_))), "{pattern:?}: {answer:?}");
    }
    assert!(matches!(
        tree.call(json!({"pattern": "a", "matches_max": 0})),
        Err(Error::InvalidInput(_))
    ));
    assert!(matches!(
        tree.call(json!({"pattern": "a", "depth": 1})),
        Err(Error::InvalidInput(_))
    ));
    let missing = aral_guest::serve(crate::grep, r#"{"pattern":"a","folder":"/no/such/folder"}"#);
    assert!(matches!(missing, Err(Error::InvalidInput(text)) if text.contains("/no/such/folder")));
}

#[test]
fn time_is_linear_in_the_text() {
    let line = "a".repeat(200_000);
    let tree = Tree::new("linear", &[("a.txt", line.as_bytes())]);
    let start = std::time::Instant::now();
    assert_eq!(tree.matches(json!({"pattern": "(a+)+b"})), [""; 0]);
    assert!(start.elapsed().as_secs() < 20);
}

#[test]
fn passages_join_and_part() {
    let text = (1..=20).map(|number| format!("line {number}\n")).collect::<String>();
    let tree = Tree::new("passages", &[("a.txt", text.as_bytes())]);
    let passages = |context_lines: u32| -> Vec<Vec<u64>> {
        let output = tree
            .call(json!({"pattern": "line (3|5|6|15)$", "context_lines": context_lines}))
            .unwrap();
        let lines = |passage: &Value| {
            passage["lines"]
                .as_array()
                .unwrap()
                .iter()
                .map(|line| line["number"].as_u64().unwrap())
                .collect()
        };
        output["passages"].as_array().unwrap().iter().map(lines).collect()
    };
    assert_eq!(passages(0), [vec![3], vec![5, 6], vec![15]]);
    assert_eq!(passages(1), [vec![2, 3, 4, 5, 6, 7], vec![14, 15, 16]]);
}

#[test]
fn limits_cut_the_answer_and_say_so() {
    let text = format!("{}\n", "needle ".repeat(1_000)).repeat(2_000);
    let tree = Tree::new("limits", &[("a.txt", text.as_bytes()), ("b.txt", b"needle\nneedle\n")]);
    let some = tree.call(json!({"pattern": "needle", "matches_max": 5})).unwrap();
    assert_eq!((&some["matches"], &some["truncated"]), (&json!(5), &json!(true)));
    assert_eq!(some["passages"][0]["lines"][0]["text"].as_str().unwrap().len(), 1_000);

    let exact = tree
        .call(json!({"pattern": "needle", "matches_max": 2, "include": ["b.txt"]}))
        .unwrap();
    assert_eq!((&exact["matches"], &exact["truncated"]), (&json!(2), &json!(false)));

    let many = tree
        .call(json!({"pattern": "needle", "matches_max": 1000, "context_lines": 20}))
        .unwrap();
    assert_eq!(many["truncated"], true);
    assert!(many.to_string().len() < 4 * 1024 * 1024);
}

#[cfg(unix)]
#[test]
fn links_are_not_followed() {
    let tree = Tree::new("links", &[("in/a.txt", b"needle\n")]);
    std::os::unix::fs::symlink("/etc", tree.0.join("in/etc")).unwrap();
    std::os::unix::fs::symlink("a.txt", tree.0.join("in/b.txt")).unwrap();
    std::os::unix::fs::symlink(".", tree.0.join("in/loop")).unwrap();
    assert_eq!(tree.matches(json!({"pattern": "needle|root"})), ["in/a.txt:1"]);
}
