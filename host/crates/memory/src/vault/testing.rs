//! A server that says what a test wants, and keeps what it was asked. For what a real server never says.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aral_contract::{Clock, SecretValue};

use super::{Credential, Vault, VaultLogin, VaultOptions};
use crate::secret::EnvironmentSecrets;

/// One request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    /// `METHOD /path`.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// What is said: a status, more header lines, and a body.
pub(crate) struct Said(pub(crate) u16, pub(crate) String, pub(crate) Vec<u8>);

impl Said {
    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self(status, String::new(), body.as_bytes().to_vec())
    }
}

/// The server. It ends when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    ended: Arc<AtomicBool>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            ended: Arc::default(),
        };
        let (asked, ended, answer) = (server.asked.clone(), server.ended.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                let (asked, answer) = (asked.clone(), answer.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &asked, &*answer));
            }
        });
        server
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// `METHOD /path` of each request, in order.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().iter().map(Asked::line).collect()
    }

    pub(crate) fn options(&self, login: VaultLogin) -> VaultOptions {
        VaultOptions {
            address: format!("http://{}", self.address),
            outbound: aral_runtime::outbound::Outbound::default(),
            authorities_pem: None,
            namespace: None,
            login,
            timeout_ms: 5000,
        }
    }

    pub(crate) fn vault(&self, login: VaultLogin, clock: Arc<dyn Clock>) -> Vault {
        Vault::new(self.options(login), clock).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        let _wakes_it = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

fn serve(mut stream: TcpStream, asked: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Said) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut words = line.split(' ');
    let mut request = Asked {
        method: words.next().unwrap_or_default().to_owned(),
        path: words.next().unwrap_or_default().to_owned(),
        ..Asked::default()
    };
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap();
        request.headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length = request.header("content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    request.body = String::from_utf8(body).unwrap();
    asked.lock().unwrap().push(request.clone());
    let Said(status, headers, body) = answer(&request);
    // The client may have seen enough before all is sent.
    let _gone = stream.write_all(format!("HTTP/1.1 {status} X\r\nconnection: close\r\n{headers}\r\n").as_bytes());
    let _gone = stream.write_all(&body);
}

pub(crate) fn token(text: &str) -> VaultLogin {
    VaultLogin::Token(taken(text))
}

/// A token or secret id that came in the environment.
pub(crate) fn taken(text: &str) -> Credential {
    let name = "THE_CREDENTIAL".to_owned();
    let variable = (name.clone(), SecretValue::new(text.as_bytes().to_vec()));
    let variables = Arc::new(EnvironmentSecrets::new([variable]).unwrap());
    Credential::Taken { variables, name }
}

pub(crate) fn role() -> VaultLogin {
    VaultLogin::AppRole {
        mount: "approle".to_owned(),
        role_id: "the-role".to_owned(),
        secret_id: taken("its-secret"),
    }
}

/// The answer to a question after a token that stays valid.
pub(crate) const LASTING: &str = r#"{"data":{"ttl":0,"renewable":false}}"#;

/// The answer to a login or a renewal.
pub(crate) fn granted(token: &str, seconds: u64) -> Said {
    granted_for(token, seconds, 0)
}

/// The same for a token that may be used so often, where that is not 0.
pub(crate) fn granted_for(token: &str, seconds: u64, uses: u32) -> Said {
    let auth = format!(r#""client_token":"{token}","lease_duration":{seconds},"renewable":true,"num_uses":{uses}"#);
    Said::json(200, &format!(r#"{{"auth":{{{auth}}}}}"#))
}

/// One version of a secret.
pub(crate) fn version(fields: &str, number: u32) -> Said {
    Said::json(
        200,
        &format!(r#"{{"data":{{"data":{fields},"metadata":{{"version":{number}}}}}}}"#),
    )
}
