//! Logins, renewals and hostile answers, at a server that says what the test wants. What a real server says is tested
//! with a real one.

mod leaving;
#[cfg(feature = "services")]
mod services;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aral_contract::{SecretError, SecretReference, SecretSource as _, SecretValue};
use aral_runtime::files;

use super::client::Erased;
use super::testing::{LASTING, Said, Server, granted, granted_for, role, taken, token, version};
use super::*;
use crate::key_service::{KeyService as _, KeyServiceError};
use crate::secret::VaultSecrets;
use crate::secret::tests::TestClock;

fn reference() -> SecretReference {
    "vault://kv/app/db#password".parse().unwrap()
}

fn clock() -> Arc<TestClock> {
    Arc::default()
}

/// A server that takes every login, and says this of everything else.
fn server(answer: impl Fn() -> Said + Send + Sync + 'static) -> Server {
    Server::start(move |asked| match asked.path.as_str() {
        "/v1/auth/token/lookup-self" => Said::json(200, LASTING),
        "/v1/auth/approle/login" => granted("t-1", 60),
        _ => answer(),
    })
}

async fn read(vault: &Vault) -> Result<SecretValue, SecretError> {
    VaultSecrets::new(vault.clone()).read(&reference()).await
}

async fn read_text(vault: &Vault) -> String {
    String::from_utf8(read(vault).await.unwrap().expose().to_vec()).unwrap()
}

#[test]
fn an_address_is_https_or_this_machine() {
    let server = Server::start(|_| Said::json(200, "{}"));
    for (address, reason) in [
        ("https://vault.example.com:8200", ""),
        ("https://10.0.0.1", ""),
        ("http://127.0.0.1:8200", ""),
        ("http://[::1]:8200/", ""),
        ("http://localhost:8200", ""),
        ("http://vault.example.com:8200", "plain http"),
        ("http://10.0.0.1:8200", "plain http"),
        ("http://127.0.0.1.example.com", "plain http"),
        ("http://localhost.example.com", "plain http"),
        ("ftp://127.0.0.1", "scheme"),
        ("127.0.0.1:8200", "it is no URL"),
        ("unix:/run/vault", "it has no host"),
        ("https://root:hunter2@vault.example.com", "it has a user"),
        ("https://vault.example.com/v1", "it has a path"),
        ("https://vault.example.com/?x", "it has a path"),
        ("", "it is no URL"),
    ] {
        let options = VaultOptions {
            address: address.to_owned(),
            ..server.options(token("t"))
        };
        match Vault::new(options, clock()) {
            Ok(_) => assert_eq!(reason, "", "{address} was taken"),
            Err(error) => {
                let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
                assert!(!reason.is_empty() && text.contains(reason), "{address}: {text}");
                assert!(!text.contains("hunter2"), "{text}");
            }
        }
    }
}

#[test]
fn options_that_no_server_has_are_refused_one_by_one() {
    let server = Server::start(|_| Said::json(200, "{}"));
    let options = || server.options(token("t"));
    for namespace in ["", "a b", "a//b", "../root", "a\r\nx-vault-token: b"] {
        let wrong = VaultOptions {
            namespace: Some(namespace.to_owned()),
            ..options()
        };
        let error = Vault::new(wrong, clock()).unwrap_err();
        assert!(error.to_string().contains("cannot be a namespace"), "{error}");
    }
    for pem in [
        &b""[..],
        b"-----BEGIN CERTIFICATE-----\nnot\n-----END CERTIFICATE-----\n",
    ] {
        let wrong = VaultOptions {
            address: "https://127.0.0.1".to_owned(),
            authorities_pem: Some(pem.to_vec()),
            ..options()
        };
        let error = Vault::new(wrong, clock()).unwrap_err();
        assert!(matches!(error, VaultError::Client(_)), "{error:?}");
        assert!(
            !error.to_string().contains("https://"),
            "its address is none of what is wrong: {error}"
        );
    }
    let login = VaultLogin::AppRole {
        mount: "../sys".to_owned(),
        role_id: String::new(),
        secret_id: taken(""),
    };
    assert!(Vault::new(server.options(login), clock()).is_err());
    let vault = Vault::new(options(), clock()).unwrap();
    assert!(TransitKeys::new(vault, "a/../b").is_err());
    assert!(server.asked().is_empty(), "an option was tried on the server");
}

#[tokio::test]
async fn a_request_carries_token_and_namespace_and_no_more() {
    let server = server(|| version(r#"{"password":"hunter2"}"#, 1));
    let options = VaultOptions {
        namespace: Some("/team-a/".to_owned()),
        ..server.options(token(" s.token\n"))
    };
    let vault = Vault::new(options, clock()).unwrap();
    assert_eq!(read_text(&vault).await, "hunter2");
    let asked = server.asked();
    let last = asked.last().unwrap();
    assert_eq!(last.line(), "GET /v1/kv/data/app/db");
    for (name, wanted) in [
        ("x-vault-token", Some("s.token")),
        ("x-vault-namespace", Some("team-a")),
        ("x-vault-request", Some("true")),
        ("referer", None),
        ("cookie", None),
        ("content-length", None),
    ] {
        assert_eq!(last.header(name), wanted, "{name}");
    }
    let shown = format!("{vault:?}");
    assert!(!shown.contains("s.token"), "{shown}");
}

#[tokio::test]
async fn a_request_with_a_secret_is_erased_when_its_exchange_is_given_up() {
    static ERASED: AtomicU32 = AtomicU32::new(0);
    let exchange = async {
        let request = Erased::new(7_u32, |request| {
            ERASED.store(*request, Ordering::SeqCst);
        });
        std::future::pending::<()>().await;
        *request.request()
    };
    let given_up = tokio::time::timeout(Duration::from_millis(10), exchange).await;
    assert!(given_up.is_err());
    assert_eq!(ERASED.load(Ordering::SeqCst), 7);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start(|_| version(r#"{"password":"from elsewhere"}"#, 1));
    let there = elsewhere.address;
    for status in [301, 302, 303, 307, 308] {
        let server = server(move || Said(status, format!("location: http://{there}/\r\n"), Vec::new()));
        let error = read(&server.vault(token("t"), clock())).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, SecretError::Unavailable { .. }), "{error:?}");
        assert!(text.contains("not followed"), "{text}");
    }
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let endless = || version(&format!(r#"{{"password":"{}"}}"#, "x".repeat(3 << 20)), 1).2;
    for head in [String::new(), format!("content-length: {}\r\n", 3 << 20)] {
        let server = server(move || Said(200, head.clone(), endless()));
        let error = read(&server.vault(token("t"), clock())).await.unwrap_err();
        assert!(error.to_string().contains("larger than 2 MiB"), "{error}");
    }
    // Just below the bound it is read, in several steps, and is then no secret for its size.
    let server = server(|| version(&format!(r#"{{"password":"{}"}}"#, "x".repeat(1 << 20)), 1));
    assert_eq!(
        read(&server.vault(token("t"), clock())).await.unwrap().expose().len(),
        1 << 20
    );
}

#[tokio::test]
async fn a_server_that_never_answers_costs_its_time_and_no_more() {
    let (_until_the_end, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let server = server(move || {
        let _ended = held.lock().unwrap().recv();
        Said::json(200, "{}")
    });
    let waiting = |timeout_ms| {
        let options = VaultOptions {
            timeout_ms,
            ..server.options(token("t"))
        };
        Vault::new(options, clock()).unwrap()
    };
    // It ends at all: nothing else ends this exchange.
    let error = read(&waiting(200)).await.unwrap_err();
    assert!(matches!(error, SecretError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("gave no answer in"), "{error}");
    // One who gives up earlier than that is not kept.
    let given_up = tokio::time::timeout(Duration::from_millis(50), read(&waiting(600_000))).await;
    assert!(given_up.is_err());
}

#[tokio::test]
async fn as_many_exchanges_as_may_go_on_at_once_and_the_others_wait() {
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    // How many are held now, and the most that ever were.
    let (now, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let server = server(move || {
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        held.lock().unwrap().recv().unwrap();
        now.fetch_sub(1, Ordering::SeqCst);
        version(r#"{"password":"x"}"#, 1)
    });
    let options = VaultOptions {
        timeout_ms: 600_000,
        ..server.options(token("t"))
    };
    let vault = Vault::new(options, clock()).unwrap();
    let all = 4 * EXCHANGES_MAX;
    let mut reading = tokio::task::JoinSet::new();
    for _ in 0..all {
        let vault = vault.clone();
        reading.spawn(async move { read_text(&vault).await });
    }
    let begun = aral_runtime::SystemClock::new();
    while seen.load(Ordering::SeqCst) < EXCHANGES_MAX {
        assert!(begun.elapsed() < Duration::from_secs(30), "fewer go on at once");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // With a larger bound more of them come meanwhile.
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..all {
        let_go.send(()).unwrap();
    }
    while let Some(read) = reading.join_next().await {
        assert_eq!(read.unwrap(), "x");
    }
    assert_eq!(seen.load(Ordering::SeqCst), EXCHANGES_MAX);
    let line = format!("\n| `EXCHANGES_MAX` | {EXCHANGES_MAX} | ");
    assert!(
        include_str!("../../../../../docs/defaults.md").contains(&line),
        "{line}"
    );
}

#[tokio::test]
async fn a_mount_that_hangs_below_a_token_costs_the_time_of_a_request_and_no_more() {
    let server = server(|| version(r#"{"password":"x"}"#, 1));
    let mount = Arc::new(std::sync::Mutex::new(()));
    let options = VaultOptions {
        timeout_ms: 200,
        ..server.options(VaultLogin::Token(Credential::Hangs(Arc::clone(&mount))))
    };
    let vault = Vault::new(options, clock()).unwrap();
    let hanging = mount.lock().unwrap();
    let asks = vault.clone();
    // Without a runtime, as a store asks that is being opened.
    let (told, tells) = std::sync::mpsc::channel();
    let blocking = std::thread::spawn(move || {
        let checked = asks.run_blocking(|session| async move { session.check().await });
        told.send(checked.is_err()).unwrap();
    });
    let is_refused = tells.recv_timeout(Duration::from_secs(30));
    assert!(is_refused.expect("nobody waits for ever"));
    blocking.join().unwrap();
    drop(hanging);
    // Whoever logs in holds the token until then, and a machine that stands may take the time of any request.
    let found = loop {
        if let Ok(found) = read(&vault).await {
            break found;
        }
    };
    assert_eq!(found.expose(), b"x");
}

#[tokio::test]
async fn every_status_has_one_meaning_and_the_text_of_the_server_is_not_passed_on() {
    for (status, wanted, said) in [
        (400, "Refused", "status 400"),
        (404, "NotFound", "there is no secret"),
        (405, "Refused", "status 405"),
        (418, "Refused", "status 418"),
        (408, "Unavailable", "status 408"),
        (412, "Unavailable", "status 412"),
        (425, "Unavailable", "status 425"),
        (429, "Unavailable", "status 429"),
        (473, "Unavailable", "status 473"),
        (500, "Unavailable", "status 500"),
        (501, "Unavailable", "status 501"),
        (502, "Unavailable", "status 502"),
        (503, "Unavailable", "sealed"),
        (599, "Unavailable", "status 599"),
    ] {
        let server = server(move || Said::json(status, r#"{"errors":["text-of-the-server"]}"#));
        let error = read(&server.vault(token("t"), clock())).await.unwrap_err();
        let (shown, text) = (format!("{error:?}"), error.to_string());
        assert!(shown.starts_with(wanted), "{status}: {shown}");
        assert!(text.contains(said), "{status}: {text}");
        assert!(!shown.contains("text-of-the-server"), "{shown}");
    }
    for body in ["", "null", "[]", "{", r#"{"data":7}"#, r#"{"data":{"data":[1]}}"#] {
        let server = server(move || Said::json(200, body));
        let error = read(&server.vault(token("t"), clock())).await.unwrap_err();
        assert!(!error.to_string().is_empty(), "{body}");
    }
}

#[tokio::test]
async fn a_field_is_a_string_or_is_refused_for_what_it_is() {
    for (fields, said) in [
        (r#"{"password":7}"#, "a number"),
        (r#"{"password":true}"#, "a boolean"),
        (r#"{"password":null}"#, "null"),
        (r#"{"password":["hunter2"]}"#, "a list"),
        (r#"{"password":{"a":"hunter2"}}"#, "an object"),
    ] {
        let server = server(move || version(fields, 1));
        let error = read(&server.vault(token("t"), clock())).await.unwrap_err();
        assert!(
            matches!(&error, SecretError::Refused { reason, .. } if reason.contains(said)),
            "{error:?}"
        );
        assert!(!format!("{error:?}").contains("hunter2"));
    }
    for fields in [r#"{"other":"x"}"#, "{}", "null"] {
        let server = server(move || version(fields, 1));
        let error = read(&server.vault(token("t"), clock())).await.unwrap_err();
        assert!(matches!(error, SecretError::NotFound { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_token_that_no_header_can_hold_is_an_error_wherever_it_comes_from() {
    let server = Server::start(|_| granted("bad\\ntoken\\u0001", 60));
    for login in [role(), token("two words"), token(""), token("t\0"), token("ä")] {
        let error = read(&server.vault(login, clock())).await.unwrap_err();
        assert!(matches!(error, SecretError::Refused { .. }), "{error:?}");
        assert!(!format!("{error:?}").contains("bad"), "{error:?}");
    }
}

#[tokio::test]
async fn a_token_that_is_longer_than_any_is_refused_and_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    for (bytes, is_taken) in [(8192, true), (8193, false)] {
        let text = "t".repeat(bytes);
        files::write_path(&file, text.as_bytes(), 0o600, files::Replace::Allow).unwrap();
        for login in [VaultLogin::Token(Credential::File(file.clone())), token(&text)] {
            let server = server(|| version(r#"{"password":"x"}"#, 1));
            let outcome = read(&server.vault(login, clock())).await;
            assert_eq!(outcome.is_ok(), is_taken, "{bytes}: {outcome:?}");
            assert_eq!(!server.asked().is_empty(), is_taken, "{bytes}");
            if let Err(error) = outcome {
                assert!(matches!(error, SecretError::Refused { .. }), "{error:?}");
            }
        }
    }
    let line = "\n| `CREDENTIAL_BYTES_MAX` of a secret server | 8192 | ";
    assert!(include_str!("../../../../../docs/defaults.md").contains(line));
}

#[tokio::test]
async fn a_token_is_renewed_while_it_is_used_and_replaced_when_its_end_comes() {
    let renewals = AtomicU32::new(0);
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/v1/auth/approle/login" => granted("t", 60),
        "/v1/auth/token/renew-self" => {
            // The second one says that the end is near.
            let seconds = if renewals.fetch_add(1, Ordering::Relaxed) == 0 {
                60
            } else {
                20
            };
            granted("t", seconds)
        }
        _ => version(r#"{"password":"x"}"#, 1),
    });
    let clock = clock();
    let vault = server.vault(role(), clock.clone());
    let mut seen = 0;
    let mut since = |server: &Server| {
        let lines = server.lines();
        let new = lines[seen..].to_vec();
        seen = lines.len();
        new
    };
    let (login, renew) = ("POST /v1/auth/approle/login", "POST /v1/auth/token/renew-self");
    let get = "GET /v1/kv/data/app/db";
    for (pause, wanted) in [
        (0, &[login, get][..]),
        (39, &[get]),
        (1, &[renew, get]),
        (39, &[get]),
        (1, &[renew, login, get]),
        (1, &[get]),
    ] {
        clock.advance(Duration::from_secs(pause));
        assert_eq!(read_text(&vault).await, "x");
        assert_eq!(since(&server), wanted, "after {pause} s more");
    }
    let login = &server.asked()[0];
    assert_eq!(login.body, r#"{"role_id":"the-role","secret_id":"its-secret"}"#);
    assert_eq!(login.header("x-vault-token"), None);
}

#[tokio::test]
async fn a_renewal_that_fails_costs_nothing_while_the_token_is_valid() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/v1/auth/token/lookup-self" => Said::json(200, r#"{"data":{"ttl":60,"renewable":true}}"#),
        "/v1/auth/token/renew-self" => Said::json(503, ""),
        _ => version(r#"{"password":"x"}"#, 1),
    });
    let clock = clock();
    let vault = server.vault(token("t"), clock.clone());
    for pause in [0, 45, 0] {
        clock.advance(Duration::from_secs(pause));
        assert_eq!(read_text(&vault).await, "x");
    }
    let renewals = server.lines().iter().filter(|line| line.contains("renew-self")).count();
    assert_eq!(renewals, 1, "it does not try again with every request");
    clock.advance(Duration::from_secs(20));
    let error = read(&vault).await.unwrap_err();
    assert!(matches!(error, SecretError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_renewal_that_met_a_passing_failure_is_tried_again() {
    for status in [408, 425, 501, 529] {
        let renewals = AtomicU32::new(0);
        let server = Server::start(move |asked| match asked.path.as_str() {
            "/v1/auth/token/lookup-self" => Said::json(200, r#"{"data":{"ttl":60,"renewable":true}}"#),
            "/v1/auth/token/renew-self" if renewals.fetch_add(1, Ordering::SeqCst) == 0 => Said::json(status, ""),
            "/v1/auth/token/renew-self" => granted("t", 60),
            _ => version(r#"{"password":"x"}"#, 1),
        });
        let clock = clock();
        let vault = server.vault(token("t"), clock.clone());
        for pause in [0, 45, 10] {
            clock.advance(Duration::from_secs(pause));
            assert_eq!(read_text(&vault).await, "x", "{status}");
        }
        let renewals = server.lines().iter().filter(|line| line.contains("renew-self")).count();
        assert_eq!(renewals, 2, "{status}");
    }
}

#[tokio::test]
async fn an_idle_token_is_renewed_too() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/v1/auth/token/lookup-self" => Said::json(200, r#"{"data":{"ttl":2,"renewable":true}}"#),
        "/v1/auth/token/renew-self" => granted("t", 2),
        _ => version(r#"{"password":"x"}"#, 1),
    });
    let vault = server.vault(token("t"), Arc::new(aral_runtime::SystemClock::new()));
    assert_eq!(read_text(&vault).await, "x");
    let begun = aral_runtime::SystemClock::new();
    while server.lines().iter().filter(|line| line.contains("renew-self")).count() < 2 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", server.lines());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The timers of the runtime stand while the machine sleeps.
#[tokio::test]
async fn whether_an_idle_token_is_due_is_looked_at_often_however_long_it_lasts() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/v1/auth/token/lookup-self" => Said::json(200, r#"{"data":{"ttl":86400,"renewable":true}}"#),
        _ => version(r#"{"password":"x"}"#, 1),
    });
    let vault = server.vault(token("t"), clock());
    assert_eq!(read_text(&vault).await, "x");
    assert_eq!(vault.0.session.rest().await, Some(Duration::from_secs(30)));
}

/// A server for which the tokens `t-1` to `t-N` that it gave in turn are valid when `valid` says so.
fn revoking(valid: fn(&str) -> bool, policy: bool) -> Server {
    let logins = AtomicU32::new(0);
    Server::start(move |asked| {
        let known = asked.header("x-vault-token").is_some_and(valid);
        match asked.path.as_str() {
            "/v1/auth/approle/login" => granted(&format!("t-{}", 1 + logins.fetch_add(1, Ordering::Relaxed)), 60),
            "/v1/auth/token/lookup-self" if known => Said::json(200, LASTING),
            _ if known && policy => version(r#"{"password":"x"}"#, 1),
            _ => Said::json(403, r#"{"errors":["permission denied"]}"#),
        }
    })
}

#[tokio::test]
async fn a_revoked_token_is_replaced_once() {
    let logins = |server: &Server| server.lines().iter().filter(|line| line.ends_with("/login")).count();
    let server = revoking(|token| token == "t-2", true);
    let vault = server.vault(role(), clock());
    assert_eq!(read_text(&vault).await, "x");
    assert_eq!(logins(&server), 2);
    assert_eq!(read_text(&vault).await, "x");
    assert_eq!(logins(&server), 2);
    // No token is ever good enough: it asks twice, and gives up.
    let server = revoking(|_| false, true);
    let error = read(&server.vault(role(), clock())).await.unwrap_err();
    assert!(matches!(error, SecretError::Refused { .. }), "{error:?}");
    assert_eq!(logins(&server), 2);
}

/// A server that takes each token so often, whatever is asked with it (`token_num_uses`), and lets it read a secret.
fn counting(uses: u32) -> Server {
    let left = Mutex::new(HashMap::new());
    Server::start(move |asked| {
        let mut left = left.lock().unwrap();
        if asked.path == "/v1/auth/approle/login" {
            let token = format!("t-{}", left.len());
            left.insert(token.clone(), uses);
            return granted_for(&token, 60, uses);
        }
        let token = asked.header("x-vault-token").and_then(|token| left.get_mut(token));
        let is_valid = token.is_some_and(|left| left.checked_sub(1).map(|less| *left = less).is_some());
        match asked.path.as_str() {
            _ if !is_valid => Said::json(403, r#"{"errors":["permission denied"]}"#),
            "/v1/kv/data/app/db" => version(r#"{"password":"x"}"#, 1),
            // Without the policy `default`.
            _ => Said::json(403, r#"{"errors":["permission denied"]}"#),
        }
    })
}

#[tokio::test]
async fn a_token_that_is_used_up_is_replaced_each_time() {
    for uses in [1, 3] {
        let server = counting(uses);
        let vault = server.vault(role(), clock());
        for _ in 0..6 {
            assert_eq!(read_text(&vault).await, "x", "{uses}");
        }
        let mut reading = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let vault = vault.clone();
            reading.spawn(async move { read_text(&vault).await });
        }
        while let Some(read) = reading.join_next().await {
            assert_eq!(read.unwrap(), "x", "{uses}");
        }
        let lines = server.lines();
        let logins = lines.iter().filter(|line| line.ends_with("/login")).count();
        assert_eq!(logins, 12 / uses as usize, "{lines:?}");
        assert_eq!(lines.len(), logins + 12, "nothing is sent that is refused: {lines:?}");
    }
}

#[tokio::test]
async fn a_token_is_not_replaced_at_the_rate_of_requests_that_it_may_not_make() {
    // It may not ask about itself either: nobody says whether it is valid.
    let server = revoking(|_| false, true);
    let clock = clock();
    let vault = server.vault(role(), clock.clone());
    for (pause, logins) in [(0, 2), (29, 2), (1, 3)] {
        clock.advance(Duration::from_secs(pause));
        for _ in 0..10 {
            let error = read(&vault).await.unwrap_err();
            assert!(
                matches!(&error, SecretError::Refused { reason, .. } if reason.contains("policy")),
                "{error:?}"
            );
        }
        let lines = server.lines();
        let seen = lines.iter().filter(|line| line.ends_with("/login")).count();
        assert_eq!(seen, logins, "after {pause} s more");
    }
    let line = "\n| `REPLACED_FOR` | 30 s | ";
    assert!(include_str!("../../../../../docs/defaults.md").contains(line));
}

#[tokio::test]
async fn a_token_is_not_replaced_at_the_rate_of_requests_where_an_earlier_one_could_ask_about_itself() {
    // The role loses the policy `default` after the first question.
    let (logins, questions) = (AtomicU32::new(0), AtomicU32::new(0));
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/v1/auth/approle/login" => granted(&format!("t-{}", logins.fetch_add(1, Ordering::SeqCst)), 60),
        "/v1/auth/token/lookup-self" if questions.fetch_add(1, Ordering::SeqCst) == 0 => Said::json(200, LASTING),
        _ => Said::json(403, r#"{"errors":["permission denied"]}"#),
    });
    let vault = server.vault(role(), clock());
    for _ in 0..10 {
        let error = read(&vault).await.unwrap_err();
        assert!(
            matches!(&error, SecretError::Refused { reason, .. } if reason.contains("policy") && reason.contains("revoked")),
            "{error:?}"
        );
    }
    assert_eq!(server.lines().iter().filter(|line| line.ends_with("/login")).count(), 2);
}

#[tokio::test]
async fn a_login_that_was_refused_is_not_tried_at_the_rate_of_requests() {
    let server = Server::start(|asked| match asked.path.as_str() {
        "/v1/auth/approle/login" if asked.body.contains("right") => granted("t", 60),
        "/v1/auth/approle/login" => Said::json(400, r#"{"errors":["invalid role or secret ID"]}"#),
        _ => version(r#"{"password":"x"}"#, 1),
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret-id");
    let write = |text: &str| files::write_path(&file, text.as_bytes(), 0o600, files::Replace::Allow).unwrap();
    write("wrong");
    let login = VaultLogin::AppRole {
        mount: "approle".to_owned(),
        role_id: "the-role".to_owned(),
        secret_id: Credential::File(file.clone()),
    };
    let clock = clock();
    let vault = server.vault(login, clock.clone());
    let refused = async || {
        let error = read(&vault).await.unwrap_err();
        assert!(
            matches!(&error, SecretError::Refused { reason, .. } if reason.contains("role_id")),
            "{error:?}"
        );
    };
    // Three within a quarter of an hour, and then one.
    for (pause, logins) in [(0, 1), (1, 2), (31, 2), (1, 3), (959, 3), (1, 4), (959, 4), (1, 5)] {
        clock.advance(Duration::from_secs(pause));
        for _ in 0..10 {
            refused().await;
        }
        assert_eq!(server.lines().len(), logins, "after {pause} s more");
    }
    // Another one has pauses of its own.
    write("other");
    refused().await;
    clock.advance(Duration::from_secs(1));
    refused().await;
    assert_eq!(server.lines().len(), 7);
    write("right");
    assert_eq!(read_text(&vault).await, "x");
    let line = "\n| `REFUSED_FOR` | 1 s to 16 min | ";
    assert!(include_str!("../../../../../docs/defaults.md").contains(line));
}

#[tokio::test]
async fn a_login_that_its_caller_gives_up_is_kept_for_the_next() {
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let (held, logins) = (std::sync::Mutex::new(held), AtomicU32::new(0));
    let server = Server::start(move |asked| match asked.path.as_str() {
        // As with `secret_id_num_uses = 1`.
        "/v1/auth/approle/login" if logins.fetch_add(1, Ordering::SeqCst) > 0 => Said::json(400, ""),
        "/v1/auth/approle/login" => {
            held.lock().unwrap().recv().unwrap();
            granted("t-1", 60)
        }
        _ => version(r#"{"password":"x"}"#, 1),
    });
    let vault = server.vault(role(), clock());
    let asking = vault.clone();
    let first = tokio::spawn(async move { read(&asking).await });
    let begun = aral_runtime::SystemClock::new();
    while server.asked().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody logs in");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    // Whatever was given up has ended before this comes: there is one thread.
    vault.0.worker.spawn(async {}).await.unwrap();
    let_go.send(()).unwrap();
    assert_eq!(read_text(&vault).await, "x");
    assert_eq!(
        server.lines(),
        ["POST /v1/auth/approle/login", "GET /v1/kv/data/app/db"]
    );
}

#[tokio::test]
async fn a_policy_that_says_no_causes_no_login() {
    let server = revoking(|_| true, false);
    let error = read(&server.vault(role(), clock())).await.unwrap_err();
    assert!(
        matches!(&error, SecretError::Refused { reason, .. } if reason.contains("policy")),
        "{error:?}"
    );
    assert_eq!(server.lines().iter().filter(|line| line.ends_with("/login")).count(), 1);
}

#[tokio::test]
async fn a_token_that_is_refused_can_be_replaced_in_its_file() {
    use std::os::unix::fs::PermissionsExt as _;

    let server = revoking(|token| token == "fresh", true);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    #[expect(clippy::disallowed_methods, reason = "a test writes its files")]
    let write = |text: &str, mode: u32| {
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let vault = server.vault(VaultLogin::Token(Credential::File(file.clone())), clock());
    let error = read(&vault).await.unwrap_err().to_string();
    let told = format!("cannot open `{}`: No such file", file.display());
    assert!(error.contains(&told), "{error}");
    write("stale\n", 0o644);
    let error = read(&vault).await.unwrap_err().to_string();
    assert!(error.contains("mode 0644"), "{error}");
    write("stale\n", 0o600);
    let error = read(&vault).await.unwrap_err().to_string();
    assert!(error.contains("does not take the token"), "{error}");
    write("fresh\n", 0o600);
    assert_eq!(read_text(&vault).await, "x");
}

#[tokio::test]
async fn a_login_that_is_not_taken_is_no_missing_secret() {
    for (status, said) in [(400, "role_id"), (403, "role_id"), (404, "mount")] {
        let server = Server::start(move |_| Said::json(status, r#"{"errors":["invalid role or secret ID"]}"#));
        let error = read(&server.vault(role(), clock())).await.unwrap_err();
        assert!(
            matches!(&error, SecretError::Refused { reason, .. } if reason.contains(said)),
            "{error:?}"
        );
    }
    let server = Server::start(|_| Said::json(503, ""));
    let error = read(&server.vault(role(), clock())).await.unwrap_err();
    assert!(matches!(error, SecretError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_field_is_replaced_if_it_is_what_it_was() {
    for (status, held, wanted) in [
        (200, r#"{"password":"one"}"#, ""),
        (200, r#"{"password":"other"}"#, "meanwhile"),
        (200, r#"{"user":"app"}"#, "there is no secret"),
        (404, r#"{}"#, "there is no secret"),
    ] {
        let server = Server::start(move |asked| match (asked.method.as_str(), asked.path.as_str()) {
            (_, "/v1/auth/token/lookup-self") => Said::json(200, LASTING),
            ("GET", _) if status == 200 => version(held, 1),
            ("GET", _) => Said::json(status, r#"{"errors":[]}"#),
            _ => Said::json(200, "{}"),
        });
        let secrets = VaultSecrets::new(server.vault(token("t"), clock()));
        let (one, two) = (SecretValue::new(b"one".to_vec()), SecretValue::new(b"two".to_vec()));
        let replaced = secrets.replace(&reference(), &one, &two).await;
        let writes = server.lines().iter().filter(|line| line.starts_with("POST")).count();
        match replaced {
            Ok(_) => assert_eq!((wanted, writes), ("", 1), "{held}"),
            Err(error) => {
                assert!(
                    !wanted.is_empty() && error.to_string().contains(wanted),
                    "{held}: {error}"
                );
                assert_eq!(writes, 0, "{held}");
            }
        }
    }
}

#[tokio::test]
async fn a_write_keeps_the_other_fields_and_follows_whoever_wrote_meanwhile() {
    let attempts = AtomicU32::new(0);
    let server = Server::start(move |asked| match (asked.method.as_str(), asked.path.as_str()) {
        (_, "/v1/auth/token/lookup-self") => Said::json(200, LASTING),
        ("GET", _) => version(
            r#"{"user":"app","port":5432,"password":"old"}"#,
            4 + attempts.load(Ordering::Relaxed),
        ),
        _ if attempts.fetch_add(1, Ordering::Relaxed) < 2 => Said::json(
            400,
            r#"{"errors":["check-and-set parameter did not match the current version"]}"#,
        ),
        _ => Said::json(200, "{}"),
    });
    let secrets = VaultSecrets::new(server.vault(token("t"), clock()));
    let value = SecretValue::new(b"new \"quoted\"".to_vec());
    assert_eq!(secrets.write(&reference(), &value).await.unwrap(), reference());
    let asked = server.asked();
    let writes: Vec<_> = asked.iter().filter(|asked| asked.method == "POST").collect();
    let wanted = |version: u32| {
        serde_json::json!({
            "data": { "user": "app", "port": 5432, "password": "new \"quoted\"" },
            "options": { "cas": version },
        })
    };
    assert_eq!(writes.len(), 3);
    for (write, version) in writes.iter().zip([4, 5, 6]) {
        assert_eq!(write.line(), "POST /v1/kv/data/app/db");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&write.body).unwrap(),
            wanted(version)
        );
    }
}

#[tokio::test]
async fn fields_that_nobody_asked_for_are_neither_rounded_nor_in_the_way() {
    let server = server(|| version(r#"{"huge":1e400,"serial":12345678901234567890123,"password":"old"}"#, 4));
    let vault = server.vault(token("t"), clock());
    assert_eq!(read_text(&vault).await, "old");
    let value = SecretValue::new(b"new".to_vec());
    VaultSecrets::new(vault).write(&reference(), &value).await.unwrap();
    let asked = server.asked();
    let write = asked.iter().find(|asked| asked.method == "POST").unwrap();
    assert_eq!(
        write.body,
        r#"{"data":{"huge":1e400,"serial":12345678901234567890123,"password":"new"},"options":{"cas":4}}"#
    );
}

#[tokio::test]
async fn a_write_that_always_collides_ends() {
    let server = Server::start(|asked| match asked.method.as_str() {
        "GET" if asked.path.contains("lookup") => Said::json(200, LASTING),
        "GET" => Said::json(404, r#"{"data":{"data":null,"metadata":{"version":9}}}"#),
        _ => Said::json(400, r#"{"errors":["check-and-set parameter did not match"]}"#),
    });
    let secrets = VaultSecrets::new(server.vault(token("t"), clock()));
    let error = secrets
        .write(&reference(), &SecretValue::new(b"x".to_vec()))
        .await
        .unwrap_err();
    assert!(matches!(error, SecretError::Unavailable { .. }), "{error:?}");
    let asked = server.asked();
    let writes: Vec<_> = asked.iter().filter(|asked| asked.method == "POST").collect();
    assert_eq!(writes.len(), 8);
    // A version that was deleted is followed, not taken for none.
    assert!(writes[0].body.contains(r#""cas":9"#), "{}", writes[0].body);
    let error = secrets
        .write(&reference(), &SecretValue::new(vec![0xff]))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, SecretError::Refused { reason, .. } if reason.contains("UTF-8")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_reference_that_was_not_parsed_leads_nowhere() {
    let server = server(|| version(r#"{"password":"x"}"#, 1));
    let secrets = VaultSecrets::new(server.vault(token("t"), clock()));
    for (mount, path) in [
        ("kv", "../../sys/seal"),
        ("kv", "a?b"),
        ("kv", "a#b"),
        ("kv/%2e%2e", "a"),
        ("", "a"),
        ("kv", ""),
    ] {
        let forged = SecretReference::Vault {
            mount: mount.to_owned(),
            path: path.to_owned(),
            field: "password".to_owned(),
        };
        let error = secrets.read(&forged).await.unwrap_err();
        assert!(
            matches!(error, SecretError::Refused { .. }),
            "{mount} {path}: {error:?}"
        );
    }
    assert!(
        server.lines().iter().all(|line| line.contains("lookup-self")),
        "{:?}",
        server.lines()
    );
    let other = "local://a".parse().unwrap();
    assert!(matches!(secrets.read(&other).await, Err(SecretError::Refused { .. })));
}

/// A transit engine whose key is as the test says.
fn transit(key: &'static str) -> Server {
    Server::start(move |asked| match (asked.method.as_str(), asked.path.as_str()) {
        (_, "/v1/auth/token/lookup-self") => Said::json(200, LASTING),
        ("GET", "/v1/transit/keys/k") if key.is_empty() => Said::json(404, r#"{"errors":[]}"#),
        ("GET", "/v1/transit/keys/k") => Said::json(200, key),
        (_, "/v1/transit/encrypt/k") => Said::json(200, r#"{"data":{"ciphertext":"vault:v1:AAAA"}}"#),
        (_, "/v1/transit/decrypt/k") => Said::json(200, r#"{"data":{"plaintext":"aGVsbG8="}}"#),
        _ => Said::json(204, ""),
    })
}

fn keys(server: &Server) -> TransitKeys {
    TransitKeys::new(server.vault(token("t"), clock()), "transit").unwrap()
}

const GOOD_KEY: &str = r#"{"data":{"type":"aes256-gcm96","exportable":false,"allow_plaintext_backup":false}}"#;

/// Of the first two a copy can be taken. With the others, wrapped bytes can be made without the engine.
const UNFIT_KEYS: [&str; 5] = [
    r#"{"data":{"type":"aes256-gcm96","exportable":true,"allow_plaintext_backup":false}}"#,
    r#"{"data":{"type":"aes256-gcm96","exportable":false,"allow_plaintext_backup":true}}"#,
    r#"{"data":{"type":"rsa-2048","exportable":false,"allow_plaintext_backup":false}}"#,
    r#"{"data":{"type":"managed_key","exportable":false,"allow_plaintext_backup":false}}"#,
    r#"{"data":{"type":"","exportable":false,"allow_plaintext_backup":false}}"#,
];

/// In async code on purpose: it blocks, and must not mind the runtime that is there.
#[tokio::test]
async fn keys_wrap_and_unwrap_also_where_a_runtime_is() {
    let server = transit(GOOD_KEY);
    let keys = keys(&server);
    keys.create("k").unwrap();
    let wrapped = keys.wrap("k", b"hello").unwrap();
    assert_eq!(wrapped, b"vault:v1:AAAA");
    assert_eq!(*keys.unwrap("k", &wrapped).unwrap(), b"hello");
    assert_eq!(
        keys.place(),
        format!("the transit engine `transit` at http://{}", server.address)
    );
    let bodies: Vec<String> = server.asked().into_iter().map(|asked| asked.body).collect();
    assert!(bodies.contains(&r#"{"plaintext":"aGVsbG8="}"#.to_owned()), "{bodies:?}");
    assert!(
        bodies.iter().any(|body| body.contains(r#""exportable":false"#)
            && body.contains(r#""allow_plaintext_backup":false"#)
            && body.contains(r#""type":"aes256-gcm96""#)),
        "{bodies:?}"
    );
}

#[test]
fn a_key_that_does_not_keep_what_it_wraps_is_not_taken_for_an_epoch() {
    for key in UNFIT_KEYS {
        let error = keys(&transit(key)).create("k").unwrap_err();
        assert!(matches!(error, KeyServiceError::Refused { .. }), "{key}: {error:?}");
    }
    let silent = keys(&transit(r#"{"data":{"type":"aes256-gcm96"}}"#)).create("k");
    assert!(matches!(silent, Err(KeyServiceError::Unavailable { .. })), "{silent:?}");
}

#[test]
fn a_key_that_does_not_keep_what_it_wraps_neither_wraps_nor_unwraps() {
    for key in UNFIT_KEYS {
        let server = transit(key);
        for (what, error) in [
            ("name another key", keys(&server).wrap("k", b"hello").unwrap_err()),
            (
                "`aral memory rotate-key`",
                keys(&server).unwrap("k", b"vault:v1:AAAA").unwrap_err(),
            ),
        ] {
            assert!(
                matches!(&error, KeyServiceError::Refused { reason, .. } if reason.contains(what)),
                "{key}: {error:?}"
            );
        }
        let asked = server.lines();
        let used = |line: &String| line.contains("encrypt") || line.contains("decrypt");
        assert!(!asked.iter().any(used), "{asked:?}");
    }
}

#[test]
fn every_type_of_key_that_authenticates_is_used() {
    for key in [
        GOOD_KEY,
        r#"{"data":{"type":"aes128-gcm96","exportable":false,"allow_plaintext_backup":false}}"#,
        r#"{"data":{"type":"chacha20-poly1305","exportable":false,"allow_plaintext_backup":false}}"#,
        r#"{"data":{"type":"xchacha20-poly1305","exportable":false,"allow_plaintext_backup":false}}"#,
    ] {
        let server = transit(key);
        let keys = keys(&server);
        keys.create("k").unwrap();
        let wrapped = keys.wrap("k", b"hello").unwrap();
        assert_eq!(*keys.unwrap("k", &wrapped).unwrap(), b"hello", "{key}");
    }
}

#[test]
fn a_type_of_key_that_is_refused_is_named_with_those_that_are_not() {
    let error = keys(&transit(UNFIT_KEYS[2])).wrap("k", b"hello").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("`rsa-2048`") && text.contains("aes256-gcm96"), "{text}");
}

#[test]
fn who_may_not_see_what_a_key_is_unwraps_with_it_and_seals_nothing_new() {
    let server = Server::start(|asked| match (asked.method.as_str(), asked.path.as_str()) {
        (_, "/v1/auth/token/lookup-self") => Said::json(200, LASTING),
        ("GET", "/v1/transit/keys/k") => Said::json(403, r#"{"errors":["permission denied"]}"#),
        (_, "/v1/transit/decrypt/k") => Said::json(200, r#"{"data":{"plaintext":"aGVsbG8="}}"#),
        _ => Said::json(500, ""),
    });
    assert_eq!(*keys(&server).unwrap("k", b"vault:v1:AAAA").unwrap(), b"hello");
    let error = keys(&server).wrap("k", b"hello").unwrap_err();
    assert!(matches!(error, KeyServiceError::Refused { .. }), "{error:?}");
    assert!(!server.lines().iter().any(|line| line.contains("encrypt")));
}

#[test]
fn no_key_is_made_by_wrapping_and_one_that_stays_is_not_destroyed() {
    let server = transit("");
    let error = keys(&server).wrap("k", b"hello").unwrap_err();
    assert!(matches!(error, KeyServiceError::NotFound { .. }), "{error:?}");
    assert!(!server.lines().iter().any(|line| line.contains("encrypt")));
    assert!(!keys(&server).is_there("k").unwrap());
    assert!(keys(&transit(GOOD_KEY)).is_there("k").unwrap());
    keys(&server).destroy("k").unwrap();
    let error = keys(&transit(GOOD_KEY)).destroy("k").unwrap_err();
    assert!(
        matches!(&error, KeyServiceError::Refused { reason, .. } if reason.contains("still there")),
        "{error:?}"
    );
}

/// A refused login says nothing of the key, and must not be taken for a key of which somebody may have a copy.
#[test]
fn a_key_is_unfit_for_what_the_engine_says_of_it_alone() {
    for key in UNFIT_KEYS {
        let why = keys(&transit(key)).unfit("k").unwrap().unwrap();
        assert!(why.contains("`aral memory rotate-key`"), "{key}: {why}");
    }
    assert_eq!(keys(&transit(GOOD_KEY)).unfit("k").unwrap(), None);
    let refusing = Server::start(|_| Said::json(400, r#"{"errors":["invalid role or secret ID"]}"#));
    let no_login = TransitKeys::new(refusing.vault(role(), clock()), "transit").unwrap();
    let no_request = Server::start(|asked| match asked.path.as_str() {
        "/v1/auth/token/lookup-self" => Said::json(200, LASTING),
        _ => Said::json(418, ""),
    });
    for keys in [no_login, keys(&no_request)] {
        let unknown = keys.unfit("k");
        assert!(matches!(unknown, Err(KeyServiceError::Refused { .. })), "{unknown:?}");
    }
}

#[test]
fn names_and_bytes_that_are_none_of_the_engine_are_not_sent() {
    let server = transit(GOOD_KEY);
    let keys = keys(&server);
    for name in ["", "a/b", "..", "a b", "a?b", &"a".repeat(3000)] {
        let error = keys.create(name).unwrap_err();
        assert!(matches!(error, KeyServiceError::Refused { .. }), "{name}: {error:?}");
    }
    for wrapped in [&b""[..], b"plain", b"\xff", b"Vault:v1:x"] {
        let error = keys.unwrap("k", wrapped).unwrap_err();
        assert!(matches!(error, KeyServiceError::Refused { .. }), "{error:?}");
    }
    assert!(keys.wrap("k", &vec![0; (64 << 10) + 1]).is_err());
    assert!(server.asked().is_empty());
}
