//! Each key of `[secrets.vault]` reaches the server: what a listener on this machine gets to read.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use aral_memory::KeyServiceError;

use super::*;

/// Reads one request: line, headers, body.
fn request(stream: &TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let (mut text, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
        text.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    text.push_str(&String::from_utf8_lossy(&body));
    Some(text)
}

/// Answers every request with a login or a secret, and hands on what it was asked.
fn listen() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (asked, heard) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            while let Some(request) = request(&stream) {
                let body = if request.contains("/login") {
                    r#"{"auth":{"client_token":"from-the-login","lease_duration":0,"renewable":false}}"#
                } else if request.contains("lookup-self") {
                    r#"{"data":{"ttl":0,"renewable":false}}"#
                } else {
                    r#"{"data":{"data":{"field":"value of the server"},"metadata":{"version":1}}}"#
                };
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                if asked.send(request).is_err() || (&stream).write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        }
    });
    (address, heard)
}

fn config(address: &str, login: VaultLogin) -> VaultConfig {
    VaultConfig {
        address: address.to_owned(),
        namespace: None,
        ca_pem: None,
        timeout_ms: 5000,
        login,
    }
}

fn token(folder: &tempfile::TempDir) -> VaultLogin {
    let path = folder.path().join("token");
    files::write_path(&path, b"t0ken\n", 0o600, files::Replace::Allow).unwrap();
    VaultLogin::Token(Credential::File(path))
}

/// Storage without a store, with one secret on the server.
fn storage(vault: VaultConfig) -> Result<Storage, Failure> {
    let reference = "vault://kv/app#field".parse().unwrap();
    let secrets = SecretsConfig {
        names: [("remote".parse().unwrap(), reference)].into_iter().collect(),
        vault: Some(vault),
        ..SecretsConfig::default()
    };
    let id = ("ID".to_owned(), SecretValue::new(b"of-the-variable".to_vec()));
    let config = Config {
        secrets: Some(secrets),
        taken: Some(Taken::new([id]).unwrap()),
        ..Config::closed().unwrap()
    };
    Storage::new(&config, Arc::new(SystemClock::new()))
}

async fn ask(vault: VaultConfig) -> Result<SecretValue, aral_contract::SecretError> {
    let secrets = storage(vault).unwrap().secrets(None).unwrap().unwrap();
    secrets.get(&"remote".parse().unwrap()).await
}

/// All that the server was asked so far.
fn heard(server: &Receiver<String>) -> String {
    server.try_iter().collect::<String>().to_ascii_lowercase()
}

#[tokio::test]
async fn address_namespace_and_token_are_those_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let (address, server) = listen();
    let plain = config(&address, token(&folder));
    let value = ask(plain.clone()).await.unwrap();
    assert_eq!(value.expose(), b"value of the server");
    let asked = heard(&server);
    assert!(
        asked.contains("/v1/kv/data/app") && asked.contains("x-vault-token: t0ken"),
        "{asked}"
    );
    assert!(!asked.contains("x-vault-namespace"), "{asked}");
    let namespace = Some("team-a".to_owned());
    ask(VaultConfig {
        namespace,
        ..plain.clone()
    })
    .await
    .unwrap();
    let asked = heard(&server);
    assert!(asked.contains("x-vault-namespace: team-a"), "{asked}");
    let login = VaultLogin::Token(Credential::Environment("ID".to_owned()));
    ask(VaultConfig { login, ..plain }).await.unwrap();
    assert!(heard(&server).contains("x-vault-token: of-the-variable"));
}

#[tokio::test]
async fn a_role_logs_in_where_it_is_mounted() {
    let (address, server) = listen();
    let login = |mount: &str| VaultLogin::AppRole {
        mount: mount.to_owned(),
        role_id: "the-role".to_owned(),
        secret_id: Credential::Environment("ID".to_owned()),
    };
    ask(config(&address, login("approle"))).await.unwrap();
    let asked = heard(&server);
    assert!(
        asked.contains("/v1/auth/approle/login") && asked.contains("x-vault-token: from-the-login"),
        "{asked}"
    );
    assert!(
        asked.contains("the-role") && asked.contains("of-the-variable"),
        "{asked}"
    );
    ask(config(&address, login("machines"))).await.unwrap();
    assert!(heard(&server).contains("/v1/auth/machines/login"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret-id");
    files::write_path(&path, b"of-the-file\n", 0o600, files::Replace::Refuse).unwrap();
    let login = VaultLogin::AppRole {
        mount: "approle".to_owned(),
        role_id: "the-role".to_owned(),
        secret_id: Credential::File(path),
    };
    ask(config(&address, login)).await.unwrap();
    let asked = heard(&server);
    assert!(
        asked.contains("\"of-the-file\"") && !asked.contains("of-the-variable"),
        "{asked}"
    );
}

#[tokio::test]
async fn one_request_takes_as_long_as_the_key_says() {
    let folder = tempfile::tempdir().unwrap();
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    for timeout_ms in [100, 700] {
        let clock = SystemClock::new();
        let vault = config(&address, token(&folder));
        let error = ask(VaultConfig { timeout_ms, ..vault }).await.unwrap_err();
        assert!(
            matches!(error, aral_contract::SecretError::Unavailable { .. }),
            "{error}"
        );
        assert!(clock.elapsed() >= Duration::from_millis(timeout_ms));
        assert!(clock.elapsed() < Duration::from_millis(timeout_ms) + Duration::from_secs(4));
    }
}

#[test]
fn what_cannot_be_a_server_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |vault: VaultConfig| storage(vault).unwrap_err();
    let good = config("https://vault.example", token(&folder));
    assert!(
        storage(good.clone()).is_ok(),
        "nothing is connected before it is needed"
    );
    let other = refused(config("http://vault.example", token(&folder)));
    assert!(other.message.starts_with("[secrets.vault]: "), "{other}");
    assert!(other.hint.unwrap().contains("[secrets.vault]: address = "));
    let ca_pem = Some(b"no certificate".to_vec());
    let unfounded = refused(VaultConfig { ca_pem, ..good.clone() });
    assert_eq!(unfounded.code, Code::ConfigInvalid);
    assert!(
        !unfounded.message.contains("https://"),
        "the address is as it should be: {unfounded}"
    );
    assert!(unfounded.hint.unwrap().contains("[secrets.vault]: ca_file ="));
    let login = VaultLogin::Token(Credential::Environment("UNSET".to_owned()));
    let unset = refused(VaultConfig { login, ..good });
    assert!(
        unset
            .message
            .contains("the variable `UNSET` is not set, or is empty, and [secrets.vault] token_environment names it"),
        "{unset}"
    );
}

#[test]
fn transit_keys_are_asked_for_at_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let storage = storage(config(&format!("http://{nobody}"), token(&folder))).unwrap();
    let place = |mount: &str| MasterKeyPlace::Transit {
        mount: mount.to_owned(),
        key: "aral-master".to_owned(),
    };
    let key = storage.master_key(&place("transit")).unwrap();
    assert!(key.id().contains("aral-master"), "{key:?}");
    let service = storage.transit("transit").unwrap();
    let error = service.wrap("aral-master", b"key").unwrap_err();
    assert!(matches!(&error, KeyServiceError::Unavailable { .. }), "{error}");
    assert!(service.place().contains("transit") && service.place().contains(&nobody.to_string()));
    let epoch = crate::config::storage::EpochConfig {
        mount: "epochs".to_owned(),
        prefix: "aral-epoch".to_owned(),
        hours: 1,
    };
    let memory = MemoryConfig {
        dir: folder.path().join("store"),
        cache_bytes_max: 1 << 20,
        free_bytes_min: 0,
        sweep_ms: 1000,
        master_key: place("transit"),
        epoch: Some(epoch),
    };
    let made = storage.epoch(&memory).unwrap().unwrap();
    assert_eq!(made.prefix, "aral-epoch");
    assert!(made.service.place().contains("epochs"), "{}", made.service.place());
}
