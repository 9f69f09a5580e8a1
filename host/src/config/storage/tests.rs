//! Every key of `[memory]` and `[secrets]`, changed alone; and every way in which the tables are not taken.

use aral_contract::{Code, Failure};

use super::*;
use crate::config::Config;
use crate::config::tests::{Folder, load};

const KEY: &str = "[memory.master_key]\nfile = \"master.key\"\n";
const VAULT: &str = "[secrets.vault]\naddress = \"https://vault.example\"\ntoken_file = \"token\"\n";

fn memory(text: &str) -> MemoryConfig {
    load(&format!("state_dir = \"/s\"\n{text}")).memory.unwrap()
}

fn secrets(text: &str) -> SecretsConfig {
    load(text).secrets.unwrap()
}

fn refused(text: &str) -> Failure {
    let failure = Folder::with(text).load().unwrap_err();
    assert_eq!(failure.code, Code::ConfigInvalid);
    failure
}

#[test]
fn without_the_tables_there_is_neither_store_nor_secret() {
    let config = load("");
    assert_eq!((config.memory, config.secrets), (None, None));
    let closed = Config::closed().unwrap();
    assert!(closed.memory.is_none() && closed.secrets.is_none() && closed.taken.is_none());
}

#[test]
fn each_key_of_memory_is_read() {
    let absent = memory(KEY);
    let expected = MemoryConfig {
        dir: "/s/memory".into(),
        cache_bytes_max: STORE_CACHE_BYTES_MAX_DEFAULT,
        free_bytes_min: FREE_BYTES_MIN_DEFAULT,
        sweep_ms: SWEEP_MS_DEFAULT,
        master_key: absent.master_key.clone(),
        epoch: None,
    };
    assert_eq!(absent, expected);
    assert!(matches!(&absent.master_key, MasterKeyPlace::File(path) if path.ends_with("master.key")));
    let with = |line: &str| memory(&format!("[memory]\n{line}\n{KEY}"));
    assert_eq!(with("dir = \"/store\"").dir, PathBuf::from("/store"));
    assert!(with("dir = \"store\"").dir.is_absolute(), "it lies beside the file");
    assert_eq!(with("cache_bytes_max = 1048576").cache_bytes_max, 1 << 20);
    assert_eq!(with("free_bytes_min = 0").free_bytes_min, 0);
    assert_eq!(with("sweep_ms = 7").sweep_ms, 7);
    let environment = memory("[memory.master_key]\nenvironment = \"KEY_1\"");
    assert_eq!(environment.master_key, MasterKeyPlace::Environment("KEY_1".to_owned()));
    let transit = memory(&format!(
        "[memory.master_key]\ntransit = {{ mount = \"t\", key = \"k\" }}\n{VAULT}"
    ));
    let (mount, key) = ("t".to_owned(), "k".to_owned());
    assert_eq!(transit.master_key, MasterKeyPlace::Transit { mount, key });
    let epoch = |more: &str| {
        let text = format!("{KEY}[memory.epoch]\ntransit = {{ mount = \"t\", prefix = \"p\" }}\n{more}\n{VAULT}");
        memory(&text).epoch.unwrap()
    };
    let (mount, prefix) = ("t".to_owned(), "p".to_owned());
    let hours = EPOCH_HOURS_DEFAULT;
    assert_eq!(epoch(""), EpochConfig { mount, prefix, hours });
    assert_eq!(epoch("hours = 3").hours, 3);
}

#[test]
fn each_key_of_secrets_is_read() {
    assert_eq!(secrets("[secrets]"), SecretsConfig::default());
    assert_eq!(secrets("[secrets]\ncache_ttl_ms = 0").cache_ttl_ms, 0);
    assert_eq!(secrets("[secrets]\ncache_entries_max = 5").cache_entries_max, 5);
    let names = secrets("[secrets.names]\napi-key = \"env://API_KEY\"").names;
    let (name, reference) = names.iter().next().unwrap();
    assert_eq!(
        (name.as_str(), reference.to_string().as_str()),
        ("api-key", "env://API_KEY")
    );
    let vault = |text: &str| {
        secrets(&format!("[secrets.vault]\naddress = \"https://a\"\n{text}"))
            .vault
            .unwrap()
    };
    let token = vault("token_environment = \"TOKEN\"");
    assert_eq!(
        token.login,
        VaultLogin::Token(Credential::Environment("TOKEN".to_owned()))
    );
    assert_eq!(
        (token.address.as_str(), token.namespace, token.ca_pem, token.timeout_ms),
        ("https://a", None, None, VAULT_TIMEOUT_MS_DEFAULT)
    );
    let full = vault("namespace = \"n\"\nca_file = \"ca.pem\"\ntimeout_ms = 9\ntoken_file = \"token\"");
    assert_eq!((full.namespace.as_deref(), full.timeout_ms), (Some("n"), 9));
    assert!(full.ca_pem.unwrap().starts_with(b"-----BEGIN"));
    assert!(matches!(full.login, VaultLogin::Token(Credential::File(path)) if path.is_absolute()));
    let role = |more: &str| match vault(&format!("[secrets.vault.approle]\nrole_id = \"r\"\n{more}")).login {
        VaultLogin::AppRole {
            mount,
            role_id,
            secret_id,
        } => (mount, role_id, secret_id),
        VaultLogin::Token(_) => panic!("a token"),
    };
    let (mount, role_id, secret_id) = role("secret_id_environment = \"ID\"");
    assert_eq!((mount.as_str(), role_id.as_str()), (APPROLE_MOUNT_DEFAULT, "r"));
    assert_eq!(secret_id, Credential::Environment("ID".to_owned()));
    let (mount, _, secret_id) = role("mount = \"m\"\nsecret_id_file = \"id\"");
    assert_eq!(mount, "m");
    assert!(matches!(secret_id, Credential::File(path) if path.is_absolute()));
}

#[test]
fn a_server_of_secrets_is_given_up_before_the_guests_that_wait_for_it_are_by_default() {
    let secret_ms = aral_contract::Limits::default().secret_ms;
    // A second is left to wait for a turn in, and to pass the answer on.
    assert!(VAULT_TIMEOUT_MS_DEFAULT + 1000 <= secret_ms, "{secret_ms}");
    let line = format!("\n| [secrets.vault] `timeout_ms` | {VAULT_TIMEOUT_MS_DEFAULT} | ");
    assert!(include_str!("../../../../docs/defaults.md").contains(&line), "{line}");
    let shown = format!("\ntimeout_ms = {VAULT_TIMEOUT_MS_DEFAULT} ");
    let document = include_str!("../../../../docs/configuration.md");
    assert!(document.contains(&shown), "{shown}");
}

#[test]
fn what_cannot_be_is_refused_with_the_key() {
    for (text, message) in [
        ("[memory]", "missing field `master_key`"),
        (
            "[memory.master_key]",
            "[memory.master_key] has 0 of `file`, `environment` and `transit`",
        ),
        (
            "[memory.master_key]\nfile = \"a\"\nenvironment = \"B\"",
            "[memory.master_key] has 2 of",
        ),
        ("[memory.master_key]\nkey = \"00\"", "unknown field `key`"),
        (
            "[memory.master_key]\nenvironment = \"A-B\"",
            "environment is not the name of a variable",
        ),
        (
            "[memory.master_key]\nenvironment = \"\"",
            "is not the name of a variable",
        ),
        (
            "[memory.master_key]\ntransit = { mount = \"t/../sys\", key = \"k\" }",
            "is not one part of a path",
        ),
        (
            "[memory.master_key]\ntransit = { mount = \"t\", key = \"\" }",
            "is not one part of a path",
        ),
        (
            "[memory.master_key]\ntransit = { mount = \"t\" }",
            "missing field `key`",
        ),
        (
            "[memory.master_key]\ntransit = { mount = \"t\", key = \"k\" }",
            "[memory.master_key] transit needs a server, and there is no [secrets.vault]",
        ),
        (
            "[memory.master_key]\nfile = \"k\"\n[memory.epoch]\ntransit = { mount = \"t\", prefix = \"p\" }",
            "[memory.epoch] needs a server",
        ),
        (
            "[memory]\nsweep_ms = 0\n[memory.master_key]\nfile = \"k\"",
            "[memory] sweep_ms = 0 is not between 1 and",
        ),
        (
            "[memory]\ncache_bytes_max = 1\n[memory.master_key]\nfile = \"k\"",
            "cache_bytes_max = 1 is not between 1048576",
        ),
        (
            "[memory]\npath = \"a\"\n[memory.master_key]\nfile = \"k\"",
            "unknown field `path`",
        ),
        (
            "[secrets]\ncache_entries_max = 0",
            "[secrets] cache_entries_max = 0 is not between 1 and 100000",
        ),
        (
            "[secrets]\ncache_ttl_ms = 86400001",
            "[secrets] cache_ttl_ms = 86400001 is not between 0 and",
        ),
        ("[secrets]\nvalue = \"x\"", "unknown field `value`"),
        (
            "[secrets.names]\na = \"plain\"",
            "as it may be the secret itself, is not a secret reference: there is no scheme",
        ),
        ("[secrets.names]\nUPPER = \"env://A\"", "`UPPER` is not an identifier"),
        (
            "[secrets.names]\na = \"vault://secret/a#b\"",
            "[secrets.names] a needs a server",
        ),
        (
            "[secrets.names]\na = \"local://b\"",
            "[secrets.names] a lies in the local store, and there is no [memory]",
        ),
        (
            "[secrets.vault]\naddress = \"https://a\"",
            "[secrets.vault] has 0 of `token_file`, `token_environment` and `approle`",
        ),
        ("[secrets.vault]\ntoken_file = \"t\"", "missing field `address`"),
        (
            "[secrets.vault]\naddress = \"https://a\"\ntoken = \"x\"",
            "unknown field `token`",
        ),
        (
            "[secrets.vault]\naddress = \"https://a\"\ntoken_file = \"t\"\n[secrets.vault.approle]\nrole_id = \"r\"\nsecret_id_file = \"s\"",
            "[secrets.vault] has 2 of",
        ),
        (
            "[secrets.vault]\naddress = \"https://a\"\n[secrets.vault.approle]\nrole_id = \"r\"",
            "[secrets.vault.approle] has 0 of `secret_id_file` and `secret_id_environment`",
        ),
        (
            "[secrets.vault]\naddress = \"https://a\"\ntoken_file = \"t\"\ntimeout_ms = 0",
            "[secrets.vault] timeout_ms = 0 is not between 1 and",
        ),
        (
            "[secrets.vault]\naddress = \"https://a\"\ntoken_file = \"t\"\nca_file = \"none.pem\"",
            "[secrets.vault] ca_file: cannot open `",
        ),
    ] {
        let failure = refused(&format!("state_dir = \"/s\"\n{text}"));
        assert!(failure.message.contains(message), "{text} gave {failure}");
    }
    let hint = |text: &str| refused(&format!("state_dir = \"/s\"\n{text}")).hint.unwrap();
    let none = hint("[memory.master_key]");
    assert!(none.contains("aral memory keygen"), "{none}");
    let two = hint("[memory.master_key]\nfile = \"a\"\nenvironment = \"B\"");
    assert!(
        two.contains("leave one of `file`, `environment` and `transit`") && !two.contains("keygen"),
        "{two}"
    );
    // The secret itself, where the name of its variable belongs.
    let pasted = refused(&VAULT.replace("token_file = \"token\"", "token_environment = \"hvs.hunter2\""));
    assert!(
        pasted.message.contains("token_environment") && !pasted.message.contains("hunter2"),
        "{pasted}"
    );
    let line = pasted.hint.unwrap();
    assert!(line.contains("[secrets.vault]: token_environment = \"NAME\""), "{line}");
    let two = hint(&format!("{VAULT}token_environment = \"TOKEN\"\n"));
    assert!(two.contains("[secrets.vault], and take the others out"), "{two}");
}

#[test]
fn the_variables_that_are_taken_are_those_that_are_named() {
    assert!(load("").variables().is_empty());
    let text = "state_dir = \"/s\"\n[memory.master_key]\nenvironment = \"MASTER\"\n\
        [secrets.names]\na = \"env://A\"\nb = \"env://B\"\nc = \"local://c\"\n\
        [secrets.vault]\naddress = \"https://a\"\n";
    let names = |more: &str| {
        load(&format!("{text}{more}"))
            .variables()
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(names("token_environment = \"TOKEN\""), ["A", "B", "MASTER", "TOKEN"]);
    assert_eq!(names("token_file = \"TOKEN\""), ["A", "B", "MASTER"]);
    let role = "[secrets.vault.approle]\nrole_id = \"r\"\nsecret_id_environment = \"ID\"";
    assert_eq!(names(role), ["A", "B", "ID", "MASTER"]);
}
