//! Secrets and keys at a real server. `cargo xtask test --services` starts one and says where; without it these fail.
#![expect(
    clippy::disallowed_methods,
    reason = "the server is another program, and the environment says where it is"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aral_contract::secret::SecretError;
use aral_contract::{Clock as _, SecretReference, SecretSource as _};
use aral_runtime::SystemClock;

use crate::key_service::{KeyService as _, KeyServiceError};
use crate::secret::tests::{TestClock, name, value};
use crate::secret::{Secrets, SecretsParts, VaultSecrets};
use crate::vault::testing::{taken, token};
use crate::vault::*;
use crate::{MasterKey, SealedStore, StoreOptions};

/// What `cargo xtask test --services` says; the tests do not pass without it.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("`{name}` is not set: run `cargo xtask test --services`, or take the lines that `cargo xtask services` prints")
    })
}

/// A server, and its own client with the right to everything.
#[derive(Clone)]
struct Bao {
    address: String,
    token: String,
    authority: Option<PathBuf>,
}

impl Bao {
    /// The one that all tests share.
    fn shared() -> Self {
        Self {
            address: variable("ARAL_SERVICE_VAULT_ADDRESS"),
            token: variable("ARAL_SERVICE_VAULT_TOKEN"),
            authority: None,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(variable("ARAL_SERVICE_BAO"));
        command
            .args(arguments)
            .env("BAO_ADDR", &self.address)
            .env("BAO_TOKEN", &self.token)
            .env_remove("BAO_NAMESPACE");
        if let Some(authority) = &self.authority {
            command.env("BAO_CACERT", authority);
        }
        command
    }

    /// Does something as the operator, and returns what is said.
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).stdin(Stdio::null()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "bao {arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A name that no other test uses.
    fn unique(&self, what: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        format!("{what}-{}-{count}", std::process::id())
    }

    /// A KV engine of its own.
    fn engine(&self) -> String {
        let mount = self.unique("kv");
        self.run(&["secrets", "enable", &format!("-path={mount}"), "kv-v2"]);
        mount
    }

    /// A policy with these rules, such as `path "kv/data/*" { capabilities = ["read"] }`.
    fn policy(&self, rules: &str) -> String {
        use std::io::Write as _;

        let name = self.unique("policy");
        let mut writer = self
            .command(&["policy", "write", &name, "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        writer.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(writer.wait().unwrap().success());
        name
    }

    /// A token with this policy.
    fn token(&self, policy: &str, more: &[&str]) -> String {
        let policy = format!("-policy={policy}");
        self.run(&[&["token", "create", "-field=token", &policy], more].concat())
    }

    /// A login for machines with this policy, and the words of it.
    fn role(&self, policy: &str, more: &[&str]) -> VaultLogin {
        let mount = self.unique("approle");
        self.run(&["auth", "enable", &format!("-path={mount}"), "approle"]);
        let path = format!("auth/{mount}/role/app");
        let policies = format!("token_policies={policy}");
        self.run(&[&["write", &path, &policies], more].concat());
        let secret = self.run(&["write", "-f", "-field=secret_id", &format!("{path}/secret-id")]);
        VaultLogin::AppRole {
            role_id: self.run(&["read", "-field=role_id", &format!("{path}/role-id")]),
            mount,
            secret_id: taken(&secret),
        }
    }

    fn options(&self, login: VaultLogin) -> VaultOptions {
        let authorities = self.authority.as_ref();
        VaultOptions {
            address: self.address.clone(),
            outbound: aral_runtime::outbound::Outbound::default(),
            authorities_pem: authorities.map(|path| std::fs::read(path).unwrap()),
            namespace: None,
            login,
            timeout_ms: 10_000,
        }
    }

    fn vault(&self, login: VaultLogin) -> Vault {
        Vault::new(self.options(login), Arc::new(SystemClock::new())).unwrap()
    }

    fn root(&self) -> Vault {
        self.vault(token(&self.token))
    }
}

/// A server of the test's own, with a certificate of its own authority. It is ended by its number.
struct Own {
    bao: Bao,
    process: Child,
    _folder: tempfile::TempDir,
}

impl Own {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Below the ports that the system gives to whoever takes any. Whoever answers there has to have the authority of this one.
        let ports = (0..20_000u32).map(|more| std::process::id().wrapping_mul(8).wrapping_add(more) % 20_000);
        let mut addresses = ports.map(|port| std::net::SocketAddr::from(([127, 0, 0, 1], 10_000 + port as u16)));
        let address = addresses
            .find(|address| std::net::TcpListener::bind(address).is_ok())
            .unwrap();
        let process = Command::new(variable("ARAL_SERVICE_BAO"))
            .args([
                "server",
                "-dev",
                "-dev-no-store-token",
                "-dev-tls",
                "-dev-root-token-id=own",
            ])
            .arg(format!("-dev-listen-address={address}"))
            .arg(format!("-dev-tls-cert-dir={}", folder.path().display()))
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let bao = Bao {
            address: format!("https://{address}"),
            token: "own".to_owned(),
            authority: Some(folder.path().join("vault-ca.pem")),
        };
        let mut own = Self {
            bao,
            process,
            _folder: folder,
        };
        let begun = SystemClock::new();
        let quiet = |command: &mut Command| {
            let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        while !quiet(&mut own.bao.command(&["status"])) {
            assert!(own.process.try_wait().unwrap().is_none(), "the server has ended");
            assert!(begun.elapsed() < Duration::from_secs(60), "the server does not answer");
            std::thread::sleep(Duration::from_millis(100));
        }
        own
    }

    fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn authority(&self) -> &Path {
        self.bao.authority.as_deref().unwrap()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // A test may have ended it.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn reference(mount: &str, path: &str, field: &str) -> SecretReference {
    format!("vault://{mount}/{path}#{field}").parse().unwrap()
}

async fn read(vault: &Vault, place: &SecretReference) -> Result<String, SecretError> {
    let value = VaultSecrets::new(vault.clone()).read(place).await?;
    Ok(String::from_utf8(value.expose().to_vec()).unwrap())
}

async fn write(vault: &Vault, place: &SecretReference, text: &str) -> Result<SecretReference, SecretError> {
    VaultSecrets::new(vault.clone()).write(place, &value(text)).await
}

#[tokio::test]
async fn a_field_is_written_read_and_replaced_and_the_others_stay() {
    let bao = Bao::shared();
    let (vault, mount) = (bao.root(), bao.engine());
    let place = reference(&mount, "app/db", "password");
    let missing = read(&vault, &place).await.unwrap_err();
    assert!(matches!(missing, SecretError::NotFound { .. }), "{missing:?}");
    assert_eq!(write(&vault, &place, "one").await.unwrap(), place);
    assert_eq!(read(&vault, &place).await.unwrap(), "one");
    bao.run(&[
        "kv",
        "patch",
        &format!("-mount={mount}"),
        "app/db",
        "user=app",
        "port=5432",
    ]);
    write(&vault, &place, "two \"quoted\" ä\n").await.unwrap();
    assert_eq!(read(&vault, &place).await.unwrap(), "two \"quoted\" ä\n");
    assert_eq!(read(&vault, &reference(&mount, "app/db", "user")).await.unwrap(), "app");
    let other = read(&vault, &reference(&mount, "app/db", "none")).await.unwrap_err();
    assert!(matches!(other, SecretError::NotFound { .. }), "{other:?}");
    // A version that was deleted is no secret, and the next write comes after it.
    bao.run(&["kv", "delete", &format!("-mount={mount}"), "app/db"]);
    assert!(matches!(read(&vault, &place).await, Err(SecretError::NotFound { .. })));
    write(&vault, &place, "three").await.unwrap();
    assert_eq!(read(&vault, &place).await.unwrap(), "three");
}

#[tokio::test]
async fn a_number_stays_as_it_was_written() {
    let bao = Bao::shared();
    let (vault, mount) = (bao.root(), bao.engine());
    let place = reference(&mount, "app/db", "password");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fields.json");
    std::fs::write(&file, r#"{"serial":12345678901234567890123,"password":"old"}"#).unwrap();
    let (mount, fields) = (format!("-mount={mount}"), format!("@{}", file.display()));
    bao.run(&["kv", "put", &mount, "app/db", &fields]);
    // The program makes a float of it, in a form that serde_json would not write.
    let serial = || bao.run(&["kv", "get", &mount, "-field=serial", "app/db"]);
    let before = serial();
    assert!(before.contains("e+"), "{before}");
    write(&vault, &place, "new").await.unwrap();
    assert_eq!(read(&vault, &place).await.unwrap(), "new");
    assert_eq!(serial(), before);
}

#[tokio::test]
async fn writers_of_one_secret_lose_nothing_of_each_other() {
    let bao = Bao::shared();
    let (vault, mount) = (bao.root(), bao.engine());
    let places: Vec<_> = (0..4)
        .map(|index| reference(&mount, "app", &format!("field-{index}")))
        .collect();
    let writes = places.iter().map(|place| {
        let (vault, place) = (vault.clone(), place.clone());
        tokio::spawn(async move { write(&vault, &place, place.to_string().as_str()).await })
    });
    for write in writes.collect::<Vec<_>>() {
        write.await.unwrap().unwrap();
    }
    for place in &places {
        assert_eq!(read(&vault, place).await.unwrap(), place.to_string());
    }
}

#[tokio::test]
async fn a_policy_denies_what_it_does_not_name() {
    let bao = Bao::shared();
    let mount = bao.engine();
    let place = reference(&mount, "app", "token");
    write(&bao.root(), &place, "one").await.unwrap();
    let policy = bao.policy(&format!(r#"path "{mount}/data/app" {{ capabilities = ["read"] }}"#));
    let vault = bao.vault(token(&bao.token(&policy, &[])));
    assert_eq!(read(&vault, &place).await.unwrap(), "one");
    let denied = [
        write(&vault, &place, "two").await.map(drop),
        read(&vault, &reference(&mount, "other", "token")).await.map(drop),
    ];
    for outcome in denied {
        assert!(matches!(outcome, Err(SecretError::Refused { .. })), "{outcome:?}");
    }
    assert_eq!(read(&vault, &place).await.unwrap(), "one");
    let stranger = bao.vault(token("s.nobody"));
    assert!(matches!(
        read(&stranger, &place).await,
        Err(SecretError::Refused { .. })
    ));
    assert!(stranger.check().await.is_err());
}

#[tokio::test]
async fn a_role_logs_in_and_logs_in_again_when_its_token_is_revoked() {
    let bao = Bao::shared();
    let mount = bao.engine();
    let place = reference(&mount, "app", "token");
    write(&bao.root(), &place, "one").await.unwrap();
    let policy = bao.policy(&format!(r#"path "{mount}/data/*" {{ capabilities = ["read"] }}"#));
    let login = bao.role(&policy, &[]);
    let VaultLogin::AppRole { mount: approle, .. } = &login else {
        unreachable!("it is a role");
    };
    let approle = approle.clone();
    let vault = bao.vault(login);
    vault.check().await.unwrap();
    assert_eq!(read(&vault, &place).await.unwrap(), "one");
    bao.run(&["lease", "revoke", "-prefix", &format!("auth/{approle}/")]);
    assert_eq!(read(&vault, &place).await.unwrap(), "one");
    let wrong = VaultLogin::AppRole {
        mount: approle,
        role_id: "no-such-role".to_owned(),
        secret_id: taken("no-such-secret"),
    };
    let error = read(&bao.vault(wrong), &place).await.unwrap_err();
    assert!(
        matches!(&error, SecretError::Refused { reason, .. } if reason.contains("role_id")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_short_lived_token_is_renewed_while_it_is_used_and_while_it_is_not() {
    let bao = Bao::shared();
    let mount = bao.engine();
    let place = reference(&mount, "app", "token");
    write(&bao.root(), &place, "one").await.unwrap();
    let policy = bao.policy(&format!(r#"path "{mount}/data/*" {{ capabilities = ["read"] }}"#));
    let short = bao.token(&policy, &["-ttl=4s", "-explicit-max-ttl=1h"]);
    let unused = bao.token(&policy, &["-ttl=4s", "-explicit-max-ttl=1h"]);
    let (busy, idle) = (bao.vault(token(&short)), bao.vault(token(&unused)));
    assert_eq!(read(&idle, &place).await.unwrap(), "one");
    for _ in 0..10 {
        assert_eq!(read(&busy, &place).await.unwrap(), "one");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(read(&idle, &place).await.unwrap(), "one");
    // Nobody renews this one: that is what the others would have come to.
    let left = bao.token(&policy, &["-ttl=2s"]);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(matches!(
        read(&bao.vault(token(&left)), &place).await,
        Err(SecretError::Refused { .. })
    ));
}

#[tokio::test]
async fn a_namespace_is_another_place() {
    let bao = Bao::shared();
    let namespace = bao.unique("team");
    bao.run(&["namespace", "create", &namespace]);
    bao.run(&[
        "secrets",
        "enable",
        &format!("-namespace={namespace}"),
        "-path=kv",
        "kv-v2",
    ]);
    let vault = |namespace: Option<String>| {
        let options = VaultOptions {
            namespace,
            ..bao.options(token(&bao.token))
        };
        Vault::new(options, Arc::new(SystemClock::new())).unwrap()
    };
    let place = reference("kv", "app", "token");
    let inside = vault(Some(namespace));
    write(&inside, &place, "inside").await.unwrap();
    assert_eq!(read(&inside, &place).await.unwrap(), "inside");
    for outside in [vault(None), vault(Some("nobody".to_owned()))] {
        assert!(read(&outside, &place).await.is_err());
    }
}

#[tokio::test]
async fn a_certificate_counts_when_its_own_authority_is_named() {
    let (own, other) = (Own::start(), Own::start());
    let place = reference("secret", "app", "token");
    write(&own.bao.root(), &place, "one").await.unwrap();
    assert_eq!(read(&own.bao.root(), &place).await.unwrap(), "one");
    let login = own.bao.role("default", &[]);
    own.bao.vault(login).check().await.unwrap();
    for authority in [Some(other.authority().to_owned()), None] {
        let stranger = Bao {
            authority,
            ..own.bao.clone()
        };
        let error = read(&stranger.root(), &place).await.unwrap_err();
        assert!(
            matches!(&error, SecretError::Unavailable { reason, .. } if reason.contains("not trusted")),
            "{error:?}"
        );
    }
    // Its certificate does not name this address, though it is the same server.
    let elsewhere = Bao {
        address: own.bao.address.replace("127.0.0.1", "127.0.0.2"),
        ..own.bao.clone()
    };
    assert!(matches!(
        read(&elsewhere.root(), &place).await,
        Err(SecretError::Unavailable { .. })
    ));
}

#[tokio::test]
async fn a_copy_serves_while_the_server_is_gone_and_then_it_is_unavailable() {
    let mut own = Own::start();
    let place = reference("secret", "app", "token");
    write(&own.bao.root(), &place, "one").await.unwrap();
    let clock = Arc::new(TestClock::default());
    let vault = Vault::new(own.bao.options(token("own")), clock.clone()).unwrap();
    let parts = SecretsParts {
        references: [(name("token"), place)].into(),
        vault: Some(Arc::new(VaultSecrets::new(vault))),
        ..SecretsParts::default()
    };
    let secrets = Secrets::new(parts, clock.clone()).unwrap();
    assert_eq!(secrets.get(&name("token")).await.unwrap(), value("one"));
    own.stop();
    clock.advance(Duration::from_millis(59_999));
    assert_eq!(secrets.get(&name("token")).await.unwrap(), value("one"));
    clock.advance(Duration::from_millis(1));
    let error = secrets.get(&name("token")).await.unwrap_err();
    // A connection that was kept breaks if its end was not seen yet.
    let is_told = |reason: &str| reason.contains("cannot be reached") || reason.contains("broke");
    assert!(
        matches!(&error, SecretError::Unavailable { reason, .. } if is_told(reason)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_sealed_server_is_unavailable() {
    let own = Own::start();
    let place = reference("secret", "app", "token");
    let vault = own.bao.root();
    write(&vault, &place, "one").await.unwrap();
    own.bao.run(&["operator", "seal"]);
    let error = read(&vault, &place).await.unwrap_err();
    assert!(
        matches!(&error, SecretError::Unavailable { reason, .. } if reason.contains("sealed")),
        "{error:?}"
    );
}

#[test]
fn a_destroyed_key_never_opens_anything_again() {
    let bao = Bao::shared();
    let mount = bao.unique("transit");
    bao.run(&["secrets", "enable", &format!("-path={mount}"), "transit"]);
    let keys = TransitKeys::new(bao.root(), &mount).unwrap();
    let missing = keys.wrap("epoch", b"slot key").unwrap_err();
    assert!(matches!(missing, KeyServiceError::NotFound { .. }), "{missing:?}");
    keys.create("epoch").unwrap();
    keys.create("epoch").unwrap();
    let wrapped = keys.wrap("epoch", b"slot key").unwrap();
    assert!(!wrapped.windows(4).any(|window| window == b"slot"));
    assert_eq!(*keys.unwrap("epoch", &wrapped).unwrap(), b"slot key");
    let mut damaged = wrapped.clone();
    let last = damaged.last_mut().unwrap();
    *last = if *last == b'A' { b'B' } else { b'A' };
    assert!(matches!(
        keys.unwrap("epoch", &damaged),
        Err(KeyServiceError::Refused { .. })
    ));
    keys.destroy("epoch").unwrap();
    keys.destroy("epoch").unwrap();
    let gone = keys.unwrap("epoch", &wrapped).unwrap_err();
    assert!(matches!(gone, KeyServiceError::NotFound { .. }), "{gone:?}");
    // A key of the same name is another key.
    keys.create("epoch").unwrap();
    let other = keys.unwrap("epoch", &wrapped).unwrap_err();
    assert!(matches!(other, KeyServiceError::Refused { .. }), "{other:?}");
    // One that can be exported was not made here.
    bao.run(&["write", "-f", &format!("{mount}/keys/copied"), "exportable=true"]);
    let copied = keys.create("copied").unwrap_err();
    assert!(matches!(copied, KeyServiceError::Refused { .. }), "{copied:?}");
    let copied = keys.wrap("copied", b"root key").unwrap_err();
    assert!(matches!(copied, KeyServiceError::Refused { .. }), "{copied:?}");
    // Under one of RSA whoever has the public half seals a root key of their own.
    bao.run(&["write", "-f", &format!("{mount}/keys/public"), "type=rsa-2048"]);
    let public = keys.create("public").unwrap_err();
    assert!(matches!(public, KeyServiceError::Refused { .. }), "{public:?}");
    let public = keys.wrap("public", b"root key").unwrap_err();
    assert!(matches!(public, KeyServiceError::Refused { .. }), "{public:?}");
    // One that became so since is left with a login that cannot see it.
    keys.create("master").unwrap();
    let sealed = keys.wrap("master", b"root key").unwrap();
    bao.run(&["write", &format!("{mount}/keys/master/config"), "exportable=true"]);
    let copied = keys.unwrap("master", &sealed).unwrap_err();
    assert!(matches!(copied, KeyServiceError::Refused { .. }), "{copied:?}");
    let policy = bao.policy(&format!(r#"path "{mount}/decrypt/*" {{ capabilities = ["update"] }}"#));
    let leaving = TransitKeys::new(bao.vault(token(&bao.token(&policy, &[]))), &mount).unwrap();
    assert_eq!(*leaving.unwrap("master", &sealed).unwrap(), b"root key");
    // A login that may not use the engine.
    let stranger = TransitKeys::new(bao.vault(token(&bao.token("default", &[]))), &mount).unwrap();
    let denied = stranger.unwrap("epoch", &wrapped).unwrap_err();
    assert!(matches!(denied, KeyServiceError::Refused { .. }), "{denied:?}");
}

#[test]
fn a_store_leaves_a_master_key_that_became_exportable_with_a_login_that_cannot_see_it() {
    let bao = Bao::shared();
    let mount = bao.unique("transit");
    bao.run(&["secrets", "enable", &format!("-path={mount}"), "transit"]);
    let engine = |login: &str| TransitKeys::new(bao.vault(token(login)), &mount).unwrap();
    engine(&bao.token).create("master").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let open = |key: MasterKey| {
        let options = StoreOptions::new(folder.path().join("store"), key, Arc::new(SystemClock::new()));
        SealedStore::open(StoreOptions {
            free_bytes_min: 0,
            ..options
        })
    };
    let master = |login: &str| MasterKey::service(Arc::new(engine(login)), "master");
    drop(open(master(&bao.token)).unwrap());
    bao.run(&["write", &format!("{mount}/keys/master/config"), "exportable=true"]);
    let refused = open(master(&bao.token)).unwrap_err().to_string();
    assert!(refused.contains("aral memory rotate-key"), "{refused}");
    let policy = bao.policy(&format!(
        "path \"{mount}/encrypt/*\" {{ capabilities = [\"update\"] }}\npath \"{mount}/decrypt/*\" {{ capabilities = [\"update\"] }}"
    ));
    let blind = bao.token(&policy, &[]);
    let other = MasterKey::from_text("ab".repeat(32).as_bytes()).unwrap();
    let store = open(master(&blind)).unwrap();
    store.rotate_key(&other, &mut |_| {}).unwrap();
    drop(store);
    assert!(open(master(&blind)).is_err());
    drop(open(other).unwrap());
    // A login that may not create a key makes none by the way.
    let none = engine(&blind).wrap_again("none", b"root key").unwrap_err();
    assert!(matches!(none, KeyServiceError::Refused { .. }), "{none:?}");
    assert!(!engine(&bao.token).is_there("none").unwrap());
}
