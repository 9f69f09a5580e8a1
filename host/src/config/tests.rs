//! Every key of the file, changed alone; and every way in which a file is not taken.

mod ranges;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use aral_contract::Code;
use aral_contract::document::signed::{self, Kind};
use aral_contract::document::{Header, PrivateKey};
use zeroize::Zeroizing;

use super::*;

/// A file of authorities, as far as the configuration looks at it.
pub(super) const AUTHORITY: &[u8] = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

/// A folder with a configuration, a public key and authorities.
pub(super) struct Folder(tempfile::TempDir);

#[expect(clippy::disallowed_methods, reason = "the tests lay out files")]
impl Folder {
    pub(super) fn with(text: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("aral.toml", text.as_bytes(), 0o600);
        folder.write("dev.pub.pem", key().public().to_pem().unwrap().as_bytes(), 0o644);
        folder.write("ca.pem", AUTHORITY, 0o644);
        folder
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8], mode: u32) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(super) fn load(&self) -> Result<Config, Failure> {
        Config::load(&self.path("aral.toml"))
    }
}

fn key() -> PrivateKey {
    PrivateKey::from_seed(&Zeroizing::new([3; 32]))
}

pub(super) fn load(text: &str) -> Config {
    Folder::with(text).load().unwrap()
}

fn trusts(config: &Config, kind: Kind) -> bool {
    let header = Header {
        schema: kind.schema().to_owned(),
        serial: 1,
        issued_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        expires_at: "2027-01-01T00:00:00Z".parse().unwrap(),
    };
    let document = signed::sign(kind, &header, &serde_json::json!({}), &key())
        .unwrap()
        .to_string();
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    signed::verify::<serde_json::Value>(kind, document.as_bytes(), &config.trust, now).is_ok()
}

#[test]
fn an_empty_file_is_closed() {
    let config = load("");
    assert!(config.trust.is_empty() && config.manifests.is_empty());
    assert_eq!(config.policy, Config::closed().unwrap().policy);
    assert_eq!(config.gate, GateOptions::default());
    assert_eq!(config.process, ProcessLimits::default());
    assert!(config.digest.is_some());
}

#[test]
fn every_key_is_read() {
    let text = r#"
        state_dir = "state"
        [manifests]
        files = ["m/manifest.json", "/abs.json"]
        [policy]
        capabilities = ["echo"]
        [policy.file]
        read_roots = ["data"]
        [egress]
        nameservers = ["127.0.0.1:5353"]
        ca_file = "ca.pem"
        connections_max = 7
        [runtime]
        allocation = "on-demand"
        concurrent_calls_max = 3
        waiting_calls_max = 4
        wait_ms = 5
        cache_dir = "cc"
        cache_bytes_max = 6
        [process]
        open_files_max = 64
        address_space_bytes_max = 2147483648
    "#;
    let folder = Folder::with(text);
    let config = folder.load().unwrap();
    let base = files::canonical(folder.0.path()).unwrap();
    assert_eq!(config.state_dir, Some(base.join("state")));
    assert_eq!(
        config.manifests,
        [base.join("m/manifest.json"), PathBuf::from("/abs.json")]
    );
    assert_ne!(config.policy, Config::closed().unwrap().policy);
    let roots: Vec<&str> = config.policy.read_roots.iter().map(AbsolutePath::as_str).collect();
    assert_eq!(roots, [base.join("data").to_str().unwrap()]);
    assert_eq!(config.egress.nameservers, ["127.0.0.1:5353".parse().unwrap()]);
    assert_eq!(config.egress.extra_roots_pem.unwrap(), AUTHORITY);
    assert_eq!(config.egress.connections_max, 7);
    assert_eq!(
        (config.gate.concurrent_max, config.gate.waiting_max, config.gate.wait_ms),
        (3, 4, 5)
    );
    assert_eq!(
        (config.process.open_files_max, config.process.address_space_bytes_max),
        (64, Some(2 << 30))
    );
}

#[test]
fn the_runtime_is_made_as_the_keys_say() {
    let runtime = |text: &str| load(text).runtime(aral_runtime::CompilerKind::InProcess);
    let closed = Config::closed().unwrap().runtime(aral_runtime::CompilerKind::InProcess);
    assert!(closed.cache.is_none(), "no state, no cache");
    assert_eq!(closed.allocation, Allocation::Auto);
    let changed = runtime(
        "state_dir = \"/s\"\n[runtime]\nallocation = \"on-demand\"\nconcurrent_calls_max = 3\ncache_bytes_max = 6",
    );
    assert_eq!(
        (changed.allocation, changed.concurrent_calls_max),
        (Allocation::OnDemand, 3)
    );
    let cache = changed.cache.unwrap();
    assert_eq!(
        (cache.directory, cache.key_file, cache.bytes_max),
        ("/s/cache".into(), "/s/cache.key".into(), 6)
    );
    let cache = runtime("state_dir = \"/s\"\n[runtime]\ncache_dir = \"/c\"")
        .cache
        .unwrap();
    assert_eq!(cache.directory, PathBuf::from("/c"));
}

#[test]
fn a_key_is_trusted_for_the_kinds_it_is_listed_with() {
    let trust = |kinds: &str| load(&format!("[[trust]]\npublic_key = \"dev.pub.pem\"\nkinds = {kinds}"));
    assert!(!trusts(&load(""), Kind::Manifest));
    let manifest = trust("[\"manifest\"]");
    assert!(trusts(&manifest, Kind::Manifest) && !trusts(&manifest, Kind::Persona));
    assert!(trusts(&trust("[\"manifest\", \"persona\"]"), Kind::Persona));
}

#[test]
fn a_key_is_trusted_when_its_entry_says_and_not_once_it_is_revoked() {
    let trust = |more: &str| {
        let entry = "public_key = \"dev.pub.pem\"\nkinds = [\"persona\"]";
        load(&format!("[[trust]]\n{entry}\n{more}"))
    };
    for (more, expected) in [
        ("", true),
        ("not_before = \"2026-06-01T00:00:00Z\"", true),
        ("not_before = \"2026-06-01T00:00:01Z\"", false),
        ("not_after = \"2026-06-01T00:00:01Z\"", true),
        ("not_after = \"2026-06-01T00:00:00Z\"", false),
        ("[revoked]\nkeys = [\"0000000000000000\"]", true),
        (&format!("[revoked]\nkeys = [\"{}\"]", key().public().id()), false),
    ] {
        assert_eq!(trusts(&trust(more), Kind::Persona), expected, "{more}");
    }
    let config = load("[personas]\nfiles = [\"/p.json\"]");
    assert_eq!(config.personas, [PathBuf::from("/p.json")]);
}

#[test]
fn what_cannot_be_taken_is_refused_with_line_and_hint() {
    for (text, message, hint) in [
        ("[policy", "line 1", None),
        (
            "\n\ntrusts = []",
            "line 3: unknown field `trusts`",
            Some("did you mean `trust`?"),
        ),
        (
            "[policy]\npermisions = []",
            "line 2: unknown field `permisions`",
            Some("did you mean `permissions`?"),
        ),
        (
            "[polices]\na = 1",
            "unknown field `polices`",
            Some("did you mean `policy`?"),
        ),
        (
            "zzz = 1",
            "unknown field `zzz`, expected one of `state_dir`, `trust`",
            None,
        ),
        (
            "[manifests]\nfile = []",
            "unknown field `file`",
            Some("did you mean `files`?"),
        ),
        ("[egress]\nproxy = \"x\"", "unknown field `proxy`", None),
        (
            "[outbound]\nproxy = \"proxy:3128\"",
            "[outbound]: `proxy:3128` is no proxy",
            Some("aral.toml, [outbound]: proxy = \"http://HOST:PORT\""),
        ),
        (
            "[outbound]\nno_proxy = [\"*\"]",
            "[outbound]: `*` is no name, address or network",
            Some("aral.toml, [outbound]: no_proxy = [\"example.org\", \"10.0.0.0/8\"]"),
        ),
        (
            "[egress]\nnameservers = [\"127.0.0.1\"]",
            "line 2: nameservers: `127.0.0.1` is not an IP address with a port",
            Some("aral.toml, [egress]: nameservers = [\"127.0.0.1:53\"]"),
        ),
        (
            "[[serve.listener]]\naddress = \"localhost:8080\"",
            "line 2: address: `localhost:8080` is not an IP address with a port",
            Some("aral.toml, [[serve.listener]]: address = \"127.0.0.1:8080\""),
        ),
        (
            "[serve.admin]\naddress = \"127.0.0.1:80800\"",
            "line 2: address: `127.0.0.1:80800` is not an IP address with a port",
            Some("aral.toml, [serve.admin]: address = \"127.0.0.1:9000\""),
        ),
        (
            "[policy.network]\nnetworks = [\n\"127.0.0.0/8\",\n\"127.0.0.1\"]",
            "line 4: `127.0.0.1` is an address and no network: write `127.0.0.1/32` for this address alone",
            None,
        ),
        (
            "[serve]\ntrusted_proxies = [\"300.0.0.0/8\"]",
            "line 2: `300.0.0.0/8` is no network: write an address and how many of its bits count, as `10.0.0.0/8`",
            None,
        ),
        (
            "[serve.rates]\nglobal = 5",
            "line 2: invalid type: integer `5`, expected a rate, such as { per_second = 10, burst = 20 }",
            None,
        ),
        (
            "[policy]\nagent = 5",
            "line 2: invalid type: integer `5`, expected a table",
            None,
        ),
        ("[[serve.listener]]\nmcp = true", "missing field `address`", None),
        ("[policy.file]\n[policy.file]", "line 2: duplicate key `file`", None),
        (
            "state_dir = \"s\"\n[memory]",
            "missing field `master_key`",
            Some(storage::MASTER_KEY_LINE),
        ),
        (
            "[process]\nopen_files_max = 63",
            "[process] open_files_max = 63 is less than 64",
            Some("aral.toml, [process]: open_files_max = 64"),
        ),
        (
            "[process]\naddress_space_bytes_max = 2147483647",
            "[process] address_space_bytes_max = 2147483647 is less than 2147483648",
            Some("aral.toml, [process]: address_space_bytes_max = 2147483648"),
        ),
        (
            "[runtime]\nconcurrent_calls_max = 0",
            "[runtime] concurrent_calls_max = 0 is not between 1 and 2000",
            None,
        ),
        (
            "[egress]\nconnections_max = 0",
            "[egress] connections_max = 0 is not between 1 and 1000000",
            None,
        ),
        (
            "[egress]\nconnections_max = 9223372036854775807",
            "is not between 1 and 1000000",
            None,
        ),
        ("[runtime]\nallocation = \"pool\"", "unknown variant `pool`", None),
        ("[runtime]\nwait_ms = -1", "line 2", None),
        (
            "[process]\nopen_files = 1",
            "unknown field `open_files`",
            Some("did you mean `open_files_max`?"),
        ),
        ("[[trust]]\npublic_key = \"dev.pub.pem\"", "missing field `kinds`", None),
        (
            "[[trust]]\npublic_key = \"dev.pub.pem\"\nkinds = [\"all\"]",
            "unknown variant `all`",
            None,
        ),
        (
            "[[trust]]\npublic_key = \"dev.pub.pem\"\nkinds = []\nnot_before = \"2026-06-01T00:00:00Z\"\nnot_after = \"2026-06-01T00:00:00Z\"",
            "not_after 2026-06-01T00:00:00Z is not later than not_before 2026-06-01T00:00:00Z",
            Some("write a not_after later than 2026-06-01T00:00:00Z"),
        ),
        (
            "[[trust]]\npublic_key = \"dev.pub.pem\"\nkinds = []\nnot_after = \"2020-01-01\"",
            "`2020-01-01` is no moment",
            Some("write it with its time and zone: \"2026-06-01T00:00:00Z\""),
        ),
        ("[revoked]\nkeys = [\"12\"]", "is not 16 lower-case hex digits", None),
        (
            "[personas]\nfile = []",
            "unknown field `file`",
            Some("did you mean `files`?"),
        ),
        (
            "[policy.agent]\nrequests_a_minute = 1",
            "unknown field `requests_a_minute`",
            Some("did you mean `requests_per_minute`?"),
        ),
        (
            "[policy.tier.gold]\nreasoning_depth = 65",
            "[policy.tier.gold] reasoning_depth = 65 is more than 64",
            Some("aral.toml, [policy.tier.gold]: reasoning_depth = 64"),
        ),
        (
            "[[trust]]\npublic_key = \"none.pem\"\nkinds = []",
            "[[trust]] public_key: cannot open `",
            Some("make a pair of keys: `aral keygen`"),
        ),
        (
            "[[trust]]\npublic_key = \"aral.toml\"\nkinds = []",
            "not an Ed25519 public key",
            Some("make a pair of keys: `aral keygen`"),
        ),
        (
            "state_dir = \"a\"\nstate_dir = \"b\"",
            "duplicate key `state_dir`",
            None,
        ),
        (
            "[policy.defaults]\nfuel = 9000000000",
            "above the ceiling",
            Some("raise the ceiling in aral.toml, [policy.limits]: fuel = 9000000000"),
        ),
    ] {
        let failure = Folder::with(text).load().unwrap_err();
        assert_eq!(failure.code, Code::ConfigInvalid);
        assert!(failure.message.contains(message), "{text} gave {failure}");
        assert_eq!(failure.hint.as_deref(), hint, "{text} gave {failure}");
    }
}

#[test]
fn a_private_key_where_a_public_one_belongs_is_told_as_that() {
    for text in [
        "[[trust]]\npublic_key = \"dev.pem\"\nkinds = []",
        "[[serve.caller]]\nname = \"a\"\npersona = \"p.json\"\nsignature = \"required\"\nsignature_keys = [\"dev.pem\"]",
    ] {
        let folder = Folder::with(text);
        folder.write("dev.pem", key().to_pem().unwrap().as_bytes(), 0o600);
        let failure = folder.load().unwrap_err();
        assert!(
            failure
                .message
                .contains("dev.pem`: a private key, where the public one"),
            "{failure}"
        );
        assert!(
            failure
                .hint
                .unwrap()
                .starts_with("keep the private key where its owner alone")
        );
    }
}

#[test]
fn files_that_others_could_write_are_refused() {
    for (name, mode) in [("aral.toml", 0o620), ("aral.toml", 0o602), ("dev.pub.pem", 0o666)] {
        let text = "[[trust]]\npublic_key = \"dev.pub.pem\"\nkinds = [\"manifest\"]";
        let folder = Folder::with(text);
        assert!(folder.load().is_ok());
        let bytes = if name == "aral.toml" {
            text.as_bytes().to_vec()
        } else {
            key().public().to_pem().unwrap().into_bytes()
        };
        folder.write(name, &bytes, mode);
        let failure = folder.load().unwrap_err();
        assert!(failure.message.contains(&format!("has mode {mode:04o}")), "{failure}");
        assert!(failure.hint.unwrap().starts_with("chmod go-w "));
    }
    let folder = Folder::with("# é");
    folder.write("aral.toml", b"a = 1\n\xff", 0o600);
    assert!(folder.load().unwrap_err().message.contains("line 2: not UTF-8"));
    folder.write("aral.toml", &vec![b'#'; (1 << 20) + 1], 0o600);
    assert!(folder.load().unwrap_err().message.contains("more than 1048576 bytes"));
}

#[test]
fn a_file_that_is_not_there_is_not_one_that_cannot_be_trusted() {
    let folder = Folder::with("");
    for name in ["none.toml", "none/aral.toml"] {
        let failure = Config::load(&folder.path(name)).unwrap_err();
        assert!(
            failure.message.starts_with("there is no configuration at `"),
            "{failure}"
        );
        assert!(failure.hint.unwrap().contains("--config FILE"));
    }
    folder.write("aral.toml", b"[[trust]]\npublic_key = \"none.pem\"\nkinds = []", 0o600);
    let failure = folder.load().unwrap_err();
    assert!(failure.message.contains("none.pem"), "{failure}");
    assert!(!failure.message.contains("there is no configuration"), "{failure}");
}

#[test]
fn a_file_of_authorities_is_told_of_with_the_key_that_names_it() {
    let address = "address = \"https://a.example\"";
    for (table, lines) in [
        ("[egress]", ""),
        ("[outbound]", ""),
        ("[audit.elasticsearch]", address),
        ("[audit.otlp]", address),
        ("[telemetry.otlp]", address),
        ("[serve.rates.redis]", "url = \"rediss://a.example\""),
        ("[secrets.vault]", &format!("{address}\ntoken_file = \"t\"")),
    ] {
        let with = |name: &str| {
            let text = format!("state_dir = \"s\"\n{table}\n{lines}\nca_file = \"{name}\"");
            Folder::with(&text).load()
        };
        with("ca.pem").unwrap();
        let failure = with("dev.pub.pem").unwrap_err();
        let beginning = format!("{table} ca_file `");
        let end = "dev.pub.pem`: there is no certificate in PEM form";
        assert!(
            failure.message.starts_with(&beginning) && failure.message.contains(end),
            "{failure}"
        );
        let hint = failure.hint.unwrap();
        assert!(
            hint.starts_with(&format!("aral.toml, {table}: ca_file = \"ca.pem\"")),
            "{hint}"
        );
        let failure = with("none.pem").unwrap_err();
        let beginning = format!("{table} ca_file: cannot open `");
        assert!(
            failure.message.starts_with(&beginning) && failure.message.contains("none.pem"),
            "{failure}"
        );
        assert!(failure.hint.unwrap().starts_with("name a file that is there"));
    }
}

/// Every `aral.toml`, or part of one, that a document shows, as it would be written: a digest that is left out is some digest.
fn shown(document: &str) -> impl Iterator<Item = String> {
    let blocks = document.split("```toml\n").skip(1);
    let blocks = blocks.map(|rest| rest.split_once("\n```").unwrap().0);
    // Files of something else: `capability.toml`, and that of a client.
    let others = ["id = ", "# capability.toml", "[mcp_servers."];
    blocks
        .filter(move |block| !others.iter().any(|other| block.starts_with(other)))
        .map(|block| block.replace("[\"…\"]", &format!("[\"{}\"]", Digest::of(b"aral_key"))))
}

/// The folder of such a file, with what it names.
fn documented(text: &str) -> Folder {
    let folder = Folder::with(text);
    folder.write("otel-ca.pem", AUTHORITY, 0o644);
    let public = key().public().to_pem().unwrap();
    for name in ["keys", "me", "keys/release", "keys/people-2026", "keys/people-2027"] {
        folder.write(&format!("{name}.pub.pem"), public.as_bytes(), 0o644);
    }
    folder
}

#[test]
fn the_documented_file_is_taken() {
    let example = shown(include_str!("../../../docs/configuration.md")).next().unwrap();
    let config = documented(&example).load().unwrap();
    assert_ne!(config.policy, Config::closed().unwrap().policy);
    assert!(config.memory.is_some() && config.egress.extra_roots_pem.is_some());
    assert!(config.secrets.unwrap().vault.unwrap().ca_pem.is_some());
    let audit = config.audit.unwrap();
    assert!(audit.elasticsearch.is_some() && audit.otlp.is_some() && config.telemetry.otlp.is_some());
    assert!(config.outbound.options().proxy.is_some());
    let serve = config.serve.unwrap();
    assert!(serve.listeners[0].tls.is_some() && serve.callers[0].signature.is_some());
    assert!(!serve.issuers.is_empty() && serve.redis.is_some() && serve.admin.address.is_some());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test looks for documents")]
fn what_documents_show_of_the_file_is_taken() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let entries = std::fs::read_dir(root.join("docs")).unwrap();
    let documents = entries
        .map(|entry| entry.unwrap().path())
        .chain([root.join("README.md")]);
    let mut found = 0;
    for path in documents.filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        for text in shown(&std::fs::read_to_string(&path).unwrap()) {
            let place = if text.contains("state_dir = ") {
                ""
            } else {
                "state_dir = \"state\"\n"
            };
            if let Err(failure) = documented(&format!("{place}{text}")).load() {
                panic!("{}: {failure}\n{text}", path.display());
            }
            found += 1;
        }
    }
    assert!(found > 5, "the documents show {found} of them");
}
