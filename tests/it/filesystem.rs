//! Guests that try to reach files that they were not granted, or to change what they may only read.

use std::path::Path;

use aral_contract::Permission;
use serde_json::{Value, json};

use crate::support::guests::*;
use crate::support::lab::Lab;
use crate::support::setup::Setup;

foreach_filesystem!(assert_test_exists);

/// A folder with a secret beside the folder that is granted.
struct Tree {
    folder: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let tree = Self { folder };
        for name in ["granted/inner", "writable", "other"] {
            std::fs::create_dir_all(tree.path(name)).expect("a folder");
        }
        tree.write("secret.txt", "the secret");
        tree.write("granted/inner/allowed.txt", "allowed");
        tree.write("granted/data.txt", "data");
        tree.write("other/neighbour.txt", "the neighbour's");
        tree
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("a file")
    }

    fn exists(&self, name: &str) -> bool {
        Path::new(&self.path(name)).symlink_metadata().is_ok()
    }

    fn readable(&self) -> Value {
        json!({ "file:read": { "paths": [{ "guest": "/data", "host": self.path("granted") }] } })
    }

    fn writable(&self, bytes_max: u64, files_max: u64) -> Value {
        json!({ "file:write": { "paths": [
            { "guest": "/data", "host": self.path("granted"), "bytes_max": bytes_max, "files_max": files_max },
        ] } })
    }

    async fn lab(&self, guest: Guest, permissions: Value) -> Lab {
        Lab::start(Setup::of(guest).permissions(permissions).files(self.folder.path())).await
    }
}

/// Each attempt was denied, but for these, which fail in another way: what was tried, and how it ends.
fn all_denied_but(attempts: &Value, others: &[(&str, &str)]) {
    let attempts = attempts.as_array().expect("attempts");
    assert!(attempts.len() > others.len());
    for attempt in attempts {
        let other = others.iter().find(|(what, _)| attempt["what"] == *what);
        let expected = other.map_or("kind: PermissionDenied", |(_, expected)| expected);
        let found = attempt["result"].as_str().expect("a result");
        assert!(found.contains(expected), "`{expected}` expected: {attempt}");
    }
}

fn all_denied(attempts: &Value) {
    all_denied_but(attempts, &[]);
}

fn all_succeeded(attempts: &Value) {
    for attempt in attempts.as_array().expect("attempts") {
        assert_eq!(attempt["result"], "ok", "{attempt}");
    }
}

fn result<'a>(attempts: &'a Value, what: &str) -> &'a str {
    let attempts = attempts.as_array().expect("attempts");
    let found = attempts.iter().find(|attempt| attempt["what"] == what);
    found
        .and_then(|attempt| attempt["result"].as_str())
        .unwrap_or_else(|| panic!("no attempt `{what}`"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filesystem_read() {
    let tree = Tree::new();
    let input = json!({ "paths": ["/data/data.txt"] });
    let lab = tree.lab(FILESYSTEM_READ, tree.readable()).await;
    let outcome = lab.call(FILESYSTEM_READ, input.clone()).await;
    assert_eq!(outcome.answer()[0]["text"], "data");
    // Without the permission there is no folder at all.
    let lab = Lab::start(Setup::of(FILESYSTEM_READ)).await;
    let outcome = lab.call(FILESYSTEM_READ, input).await;
    outcome.assert_marker("/data/data.txt");
    let found = outcome.answer()[0]["result"].as_str().expect("a result");
    assert!(found.starts_with("NotFound"), "{found}");
    lab.neighbour_works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_below_no_granted_folder_is_not_found_in_the_guest_and_one_that_leads_out_of_one_is_on_record() {
    let tree = Tree::new();
    let lab = tree.lab(FILESYSTEM_READ, tree.readable()).await;
    let outcome = lab.call(FILESYSTEM_READ, json!({ "paths": ["/etc/passwd"] })).await;
    let found = outcome.answer()[0]["result"].as_str().expect("a result");
    assert!(found.starts_with("NotFound"), "{found}");
    assert_eq!(outcome.denials(Permission::FileRead), <[&str; 0]>::default());
    let outcome = lab
        .call(FILESYSTEM_READ, json!({ "paths": ["/data/../secret.txt"] }))
        .await;
    let found = outcome.answer()[0]["result"].as_str().expect("a result");
    assert!(found.starts_with("PermissionDenied"), "{found}");
    outcome.assert_denied(Permission::FileRead);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filesystem_path_traversal() {
    let tree = Tree::new();
    for permissions in [tree.readable(), tree.writable(1 << 20, 10)] {
        let lab = tree.lab(FILESYSTEM_PATH_TRAVERSAL, permissions).await;
        let input = json!({ "base": "/data", "secret": tree.path("secret.txt") });
        let outcome = lab.call(FILESYSTEM_PATH_TRAVERSAL, input).await;
        let answer = outcome.answer();
        // Names that begin at no granted folder, and one that is a plain name here.
        let absent = "kind: NotFound";
        let others = [
            (&*tree.path("secret.txt"), absent),
            ("/proc/self/cwd/secret.txt", absent),
            ("/etc/passwd", absent),
            ("/data/..\\secret.txt", absent),
            ("/data/\0/../../secret.txt", "kind: InvalidInput"),
        ];
        all_denied_but(&answer["attempts"], &others);
        assert_eq!(answer["control"], "allowed");
        outcome.assert_marker("/data/../secret.txt");
        assert!(!answer.to_string().contains("the secret"), "{answer}");
        assert!(!tree.exists("made") && !tree.exists("written"));
        lab.neighbour_works().await;
    }
    // The same guest reaches the file when its folder is granted.
    let permissions =
        json!({ "file:read": { "paths": [{ "guest": "/data", "host": tree.path("") .trim_end_matches('/') }] } });
    let lab = tree.lab(FILESYSTEM_READ, permissions).await;
    let outcome = lab
        .call(FILESYSTEM_READ, json!({ "paths": ["/data/granted/../secret.txt"] }))
        .await;
    assert_eq!(outcome.answer()[0]["text"], "the secret");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filesystem_symlink_escape() {
    let tree = Tree::new();
    let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, tree.path(name)).expect("a link");
    link("../secret.txt", "granted/link-relative");
    link(&tree.path("secret.txt"), "granted/link-absolute");
    link("..", "granted/link-folder");
    link("inner/../../secret.txt", "granted/link-winding");
    link("link-relative", "granted/link-chain");
    link("/", "granted/link-root");
    link("/proc/self/root", "granted/link-proc");
    link("inner/allowed.txt", "granted/link-inside");
    let secret = tree.path("secret.txt");
    let links = json!([
        "link-relative",
        "link-absolute",
        "link-folder/secret.txt",
        "link-winding",
        "link-chain",
        "link-relative/",
        format!("link-root{secret}"),
        format!("link-proc{secret}"),
        "inner/../link-folder/secret.txt",
    ]);
    let input = json!({ "base": "/data", "secret": secret, "links": links });
    // A link that leads out is not made, so that nothing is there to be read.
    let absent = [
        ("read the absolute link", "kind: NotFound"),
        ("read the link with a slash", "kind: NotFound"),
    ];
    for permissions in [tree.readable(), tree.writable(1 << 20, 10)] {
        let lab = tree.lab(FILESYSTEM_SYMLINK_ESCAPE, permissions).await;
        let outcome = lab.call(FILESYSTEM_SYMLINK_ESCAPE, input.clone()).await;
        let answer = outcome.answer();
        all_denied_but(&answer["attempts"], &absent);
        // A link that stays inside is followed.
        assert_eq!(answer["control"], "allowed");
        outcome.assert_marker("link-relative");
        assert!(!answer.to_string().contains("the secret"), "{answer}");
        assert_eq!(tree.read("secret.txt"), "the secret");
        assert!(!tree.exists("granted/made-absolute") && !tree.exists("granted/made-relative"));
        lab.neighbour_works().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filesystem_cross_permissions() {
    let tree = Tree::new();
    let granted = json!({ "guest": "/read", "host": tree.path("granted") });
    let writable = json!({ "guest": "/write", "host": tree.path("writable"), "bytes_max": 1000, "files_max": 10 });
    let permissions = json!({ "file:read": { "paths": [granted] }, "file:write": { "paths": [writable] } });
    let lab = tree.lab(FILESYSTEM_CROSS_PERMISSIONS, permissions).await;
    let input = json!({ "read": "/read", "write": "/write" });
    let outcome = lab.call(FILESYSTEM_CROSS_PERMISSIONS, input.clone()).await;
    let answer = outcome.answer();
    // Writing a file of one's own, under whatever name, is allowed.
    let (own, attacks) = answer["attempts"]
        .as_array()
        .expect("attempts")
        .split_last()
        .expect("attempts");
    all_denied(&json!(attacks));
    assert_eq!(
        (&own["what"], &own["result"]),
        (&json!("write through the link"), &json!("ok"))
    );
    assert_eq!(answer["control"], "own");
    outcome.assert_marker("link out of the read-only folder");
    assert_eq!(tree.read("granted/data.txt"), "data");
    for name in [
        "granted/linked.txt",
        "granted/again.txt",
        "granted/moved.txt",
        "granted/made",
        "writable/moved.txt",
    ] {
        assert!(!tree.exists(name), "{name} came to be");
    }
    lab.neighbour_works().await;
    // Where the folder is granted for writing, a rename inside it works.
    let both = json!({ "file:write": { "paths": [
        { "guest": "/read", "host": tree.path("granted"), "bytes_max": 1000, "files_max": 10 },
        { "guest": "/write", "host": tree.path("writable"), "bytes_max": 1000, "files_max": 10 },
    ] } });
    let lab = tree.lab(FILESYSTEM_CROSS_PERMISSIONS, both).await;
    let outcome = lab.call(FILESYSTEM_CROSS_PERMISSIONS, input).await;
    assert_eq!(
        result(&outcome.answer()["attempts"], "make a folder in the read-only folder"),
        "ok"
    );
    assert!(tree.exists("granted/made"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filesystem_truncate_read_only() {
    let tree = Tree::new();
    let input = json!({ "path": "/data/data.txt" });
    let lab = tree.lab(FILESYSTEM_TRUNCATE_READ_ONLY, tree.readable()).await;
    let outcome = lab.call(FILESYSTEM_TRUNCATE_READ_ONLY, input.clone()).await;
    all_denied(&outcome.answer()["attempts"]);
    outcome.assert_marker("truncate");
    assert_eq!(outcome.answer()["text"], "data");
    assert_eq!(tree.read("granted/data.txt"), "data");
    assert!(!tree.exists("granted/data.txt.new"));
    lab.neighbour_works().await;
    let lab = tree
        .lab(FILESYSTEM_TRUNCATE_READ_ONLY, tree.writable(1 << 20, 10))
        .await;
    let outcome = lab.call(FILESYSTEM_TRUNCATE_READ_ONLY, input).await;
    for what in ["truncate", "append", "write", "create"] {
        assert_eq!(result(&outcome.answer()["attempts"], what), "ok", "{what}");
    }
    assert_eq!(tree.read("granted/data.txt"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filesystem_special_file() {
    let tree = Tree::new();
    let fifo = tree.path("granted/fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
    let _socket = std::os::unix::net::UnixListener::bind(tree.path("granted/socket")).expect("a socket");
    let mut paths = vec!["/data/fifo".to_owned(), "/data/socket".to_owned()];
    // Making a device needs rights that not every machine gives; there a link to one stands in, which may not be followed either.
    let null = rustix::fs::makedev(1, 3);
    let made = rustix::fs::mknodat(
        rustix::fs::CWD,
        tree.path("granted/null"),
        rustix::fs::FileType::CharacterDevice,
        mode,
        null,
    );
    if made.is_err() {
        std::os::unix::fs::symlink("/dev/null", tree.path("granted/null")).expect("a link");
    }
    paths.push("/data/null".to_owned());
    let input = json!({ "paths": paths, "file": "/data/data.txt" });
    for permissions in [tree.readable(), tree.writable(1 << 20, 10)] {
        let lab = tree.lab(FILESYSTEM_SPECIAL_FILE, permissions).await;
        let outcome = lab.call(FILESYSTEM_SPECIAL_FILE, input.clone()).await;
        all_denied(&outcome.answer()["attempts"]);
        assert_eq!(outcome.answer()["control"], "data");
        outcome.assert_marker("read /data/fifo");
        assert!(
            outcome.elapsed < std::time::Duration::from_secs(20),
            "{:?}",
            outcome.elapsed
        );
        lab.neighbour_works().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filesystem_write_quota() {
    let tree = Tree::new();
    for (bytes_max, files_max, files, bytes, expected) in [
        (1_000, 10, 5, 100, 5),
        // Files: one call may create three.
        (1_000, 3, 5, 100, 3),
        // Bytes: the third file does not fit.
        (250, 10, 5, 100, 2),
        (0, 10, 1, 1, 0),
        (1_000, 0, 1, 1, 0),
    ] {
        let inner = tempfile::tempdir_in(tree.path("granted")).expect("a folder");
        let host = inner.path().to_str().expect("UTF-8");
        let permissions = json!({ "file:write": { "paths": [
            { "guest": "/data", "host": host, "bytes_max": bytes_max, "files_max": files_max },
        ] } });
        let lab = tree.lab(FILESYSTEM_WRITE_QUOTA, permissions).await;
        let outcome = lab
            .call(
                FILESYSTEM_WRITE_QUOTA,
                json!({ "base": "/data", "files": files, "bytes": bytes }),
            )
            .await;
        outcome.assert_marker("writing");
        let case = format!("bytes_max {bytes_max}, files_max {files_max}: {}", outcome.answer());
        assert_eq!(outcome.answer()["written"], expected, "{case}");
        assert_eq!(outcome.answer()["error"].is_string(), expected < files, "{case}");
        let written: u64 = std::fs::read_dir(inner.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(written <= bytes_max, "{case}: {written} bytes are on disk");
        if expected < files {
            outcome.assert_denied(Permission::FileWrite);
        }
        lab.neighbour_works().await;
    }
    // Reading needs no permission to write.
    all_succeeded(
        &tree
            .lab(FILESYSTEM_READ, tree.readable())
            .await
            .call(FILESYSTEM_READ, json!({ "paths": ["/data/data.txt"] }))
            .await
            .answer()
            .clone(),
    );
}

/// Bytes that the files below a folder take, holes included, and how many entries there are.
fn held(folder: &Path) -> (u64, u64) {
    let entries = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").metadata().expect("metadata"));
    entries.fold((0, 0), |(bytes, count), metadata| {
        (bytes + if metadata.is_file() { metadata.len() } else { 0 }, count + 1)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filesystem_quota_dodge() {
    let tree = Tree::new();
    for dodge in 0.. {
        // Closed: a thousand bytes and ten files. Open: enough for what the guest tries.
        let mut results = Vec::new();
        for (bytes_max, files_max) in [(1_000, 10), (4_u64 << 30, 1_000)] {
            let inner = tempfile::tempdir_in(tree.path("granted")).expect("a folder");
            std::fs::write(inner.path().join("there"), "x").expect("a file");
            let host = inner.path().to_str().expect("UTF-8");
            let permissions = json!({ "file:write": { "paths": [
                { "guest": "/data", "host": host, "bytes_max": bytes_max, "files_max": files_max },
            ] } });
            let lab = tree.lab(FILESYSTEM_QUOTA_DODGE, permissions).await;
            let outcome = lab
                .call(FILESYSTEM_QUOTA_DODGE, json!({ "base": "/data", "dodge": dodge }))
                .await;
            if outcome.answer().is_null() {
                assert_eq!(dodge, 8, "the guest knows eight ways");
                return;
            }
            outcome.assert_marker(outcome.answer()["dodge"].as_str().expect("a name"));
            let (bytes, entries) = held(inner.path());
            assert!(
                bytes <= bytes_max + 1 && entries <= files_max + 1,
                "{}: {bytes} bytes, {entries} entries",
                outcome.answer()
            );
            results.push(outcome.answer()["result"].as_str().expect("a result").to_owned());
            lab.neighbour_works().await;
        }
        assert_ne!(results[0], "ok", "way {dodge}");
        // A second name for a file is never given, with whatever quota.
        let expected = if dodge == 7 { "PermissionDenied" } else { "ok" };
        assert_eq!(results[1], expected, "way {dodge}");
    }
}
