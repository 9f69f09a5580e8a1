//! Ships a log to a server on loopback: `ship LOG elastic|otlp ADDRESS`. For tests against real servers, and for trying
//! one out by hand. It speaks HTTP/1.1 without encryption, and so to this machine alone.
#![expect(clippy::print_stdout, reason = "the test reads what this program says")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use aral_audit::sink::elastic::Elastic;
use aral_audit::sink::otlp::Otlp;
use aral_audit::sink::{ANSWER_BYTES_MAX, Answer, AnswerFuture, Exporter, Shipper, Transport, TransportError};
use aral_audit::{AuditLog, Blinder, LogOptions};
use aral_contract::document::PrivateKey;
use aral_runtime::SystemClock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Loopback(SocketAddr);

impl Loopback {
    async fn exchange(&self, path: &str, content_type: &str, body: &[u8]) -> Result<Answer> {
        let mut stream = TcpStream::connect(self.0).await?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.0,
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX as u64).read_to_end(&mut answer).await?;
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n").context("no end of the head")?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { unchunked(body) } else { body.to_owned() };
        Ok(Answer {
            status,
            retry_after: None,
            body: body.into_bytes(),
        })
    }
}

/// Every other line is a size.
fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else {
            break;
        };
        let Some((chunk, rest)) = rest.split_at_checked(size) else {
            break;
        };
        whole.push_str(chunk);
        body = rest.trim_start_matches("\r\n");
    }
    whole
}

impl Transport for Loopback {
    fn post<'a>(&'a self, path: &'a str, content_type: &'static str, body: Vec<u8>) -> AnswerFuture<'a> {
        Box::pin(async move {
            let exchange = tokio::time::timeout(DEADLINE, self.exchange(path, content_type, &body));
            match exchange.await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(TransportError(format!("{error:#}"))),
                Err(_) => Err(TransportError("no answer in time".to_owned())),
            }
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, kind, address] = &arguments[..] else {
        bail!("ship LOG elastic|otlp ADDRESS");
    };
    let address: SocketAddr = address.parse()?;
    ensure!(address.ip().is_loopback(), "without encryption to this machine alone");
    let transport = Box::new(Loopback(address));
    let exporter: Box<dyn Exporter> = match kind.as_str() {
        "elastic" => Box::new(Elastic::new("aral-audit".to_owned(), transport)),
        "otlp" => Box::new(Otlp::new("aral".to_owned(), transport)),
        other => bail!("no sink `{other}`"),
    };
    let key = PrivateKey::from_seed(&Zeroizing::new([1; 32]));
    let blinder = Arc::new(Blinder::from_key(Zeroizing::new([7; 32])));
    let options = LogOptions::new(PathBuf::from(folder));
    let log = AuditLog::open(&options, key, blinder, Arc::new(SystemClock::new()))?;
    let shipper = Shipper::new(&log, kind.parse()?, exporter)?;
    let status = shipper.status();
    log.close()?;
    shipper.run().await?;
    let last = status.borrow().clone();
    println!("delivered up to {}, refused {}", last.position, last.refused);
    Ok(())
}
