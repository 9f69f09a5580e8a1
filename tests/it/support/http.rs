//! HTTP servers as a guest may meet them: honest, huge, slow, silent, redirecting. Written on the bare stream, because a
//! well-behaved library would not misbehave as told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::task::Task;

/// The running server.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    _task: Task,
}

impl Http {
    /// Without TLS, on loopback.
    pub(crate) async fn start() -> Self {
        Self::start_on("127.0.0.1:0", None).await
    }

    /// With TLS if there is a configuration.
    pub(crate) async fn start_on(address: &str, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("a bound socket");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let task = Task::start(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, seen) = (tls.clone(), seen.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &seen).await,
                        Some(config) => {
                            if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                                serve(stream, &seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            requests,
            _task: task,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The heads of all requests so far, as they came.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic in the server").clone()
    }
}

/// One request for each connection. A peer that goes away ends it; what it asked for is in the list by then.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, seen: &Mutex<Vec<String>>) {
    let Some((head, rest)) = read_head(&mut stream).await else {
        return;
    };
    seen.lock().expect("no panic in the server").push(head.clone());
    let body = read_body(&mut stream, &head, rest).await;
    let _ = respond(&mut stream, &head, &body).await;
    let _ = stream.shutdown().await;
}

async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Some((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(size) if size > 0 => bytes.extend_from_slice(&chunk[..size]),
            _ => return None,
        }
    }
}

/// The body in its raw form, chunks and all.
async fn read_body<S: AsyncRead + Unpin>(stream: &mut S, head: &str, mut bytes: Vec<u8>) -> Vec<u8> {
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let chunked = head.contains("transfer-encoding: chunked");
    loop {
        let complete = match length {
            Some(length) => bytes.len() >= length,
            None => !chunked || bytes.ends_with(b"0\r\n\r\n"),
        };
        let mut chunk = [0; 16 << 10];
        if complete {
            return bytes;
        }
        match stream.read(&mut chunk).await {
            Ok(size) if size > 0 => bytes.extend_from_slice(&chunk[..size]),
            _ => return bytes,
        }
    }
}

/// What the path asks for; `/NUMBER` parts are sizes or codes.
async fn respond<S: AsyncWrite + Unpin>(stream: &mut S, head: &str, body: &[u8]) -> std::io::Result<()> {
    let path = head.split_whitespace().nth(1).unwrap_or("/");
    let (verb, argument) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((path.trim_start_matches('/'), ""));
    let number = argument.parse().unwrap_or(0_usize);
    match verb {
        "redirect" => {
            let target = argument.replacen(':', "://", 1);
            let text =
                format!("HTTP/1.1 302 Found\r\nlocation: {target}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(text.as_bytes()).await
        }
        // Exactly as many bytes as announced.
        "bytes" => {
            stream.write_all(plain(number).as_bytes()).await?;
            fill(stream, number).await
        }
        // No length: the end of the connection is the end of the body.
        "endless" => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
                .await?;
            fill(stream, usize::MAX).await
        }
        // A byte now and then, forever.
        "drip" => {
            stream.write_all(plain(1 << 20).as_bytes()).await?;
            drip(stream, b"x").await
        }
        "drip-head" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nx-slow: ").await?;
            drip(stream, b"x").await
        }
        // So many milliseconds late.
        "wait" => {
            tokio::time::sleep(Duration::from_millis(u64::try_from(number).unwrap_or(u64::MAX))).await;
            stream.write_all(format!("{}hello", plain(5)).as_bytes()).await
        }
        // So many milliseconds late with the head, and as late again with the end of a body that is empty and has no length.
        "late" => {
            let late = Duration::from_millis(u64::try_from(number).unwrap_or(u64::MAX));
            tokio::time::sleep(late).await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
                .await?;
            stream.flush().await?;
            tokio::time::sleep(late).await;
            Ok(())
        }
        // The request was read, and that is all.
        "silent" => std::future::pending().await,
        "fields" => {
            let text = format!(
                "HTTP/1.1 200 OK\r\nx-large: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                "x".repeat(number)
            );
            stream.write_all(text.as_bytes()).await
        }
        "not-http" => stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await,
        // What came in the header `authorization`, after the scheme, in some spelling.
        "reflect" => {
            let line = head.lines().find_map(|line| line.strip_prefix("authorization: "));
            let value = line.map_or("", |line| line.rsplit(' ').next().unwrap_or_default());
            reflect(stream, argument, value).await
        }
        // The body of the request comes back.
        "echo" => {
            stream.write_all(plain(body.len()).as_bytes()).await?;
            stream.write_all(body).await
        }
        "html" => {
            let page = "<html><head><title>A page</title><script>alert(1)</script></head><body><nav>menu</nav><article><h1>Heading</h1><p>Readable text &amp; more.</p></article></body></html>";
            let text = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
                page.len()
            );
            stream.write_all(text.as_bytes()).await
        }
        _ => {
            let body = if head.starts_with("HEAD ") { "" } else { "hello" };
            stream.write_all(format!("{}{body}", plain(5)).as_bytes()).await
        }
    }
}

async fn reflect<S: AsyncWrite + Unpin>(stream: &mut S, how: &str, value: &str) -> std::io::Result<()> {
    let each = |spell: fn(u8) -> String| value.bytes().map(spell).collect::<String>();
    let body = match how {
        "hex" => each(|byte| format!("{byte:02x}")),
        "upper-hex" => each(|byte| format!("{byte:02X}")),
        "url" => each(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        }),
        "url-all" => each(|byte| format!("%{byte:02x}")),
        "json" => each(|byte| format!("\\u00{byte:02x}")),
        "base64" => STANDARD.encode(value),
        "base64-url" => URL_SAFE_NO_PAD.encode(value),
        "base64-within" => STANDARD.encode(format!("user:{value}:end")),
        _ => value.to_owned(),
    };
    let field = match how {
        "field" => format!("x-echo: {value}\r\n"),
        "gzip" => "content-encoding: gzip\r\n".to_owned(),
        "part" => "content-range: bytes 0-4/99\r\n".to_owned(),
        "redirect" => format!("location: https://api.example.test/reflect/plain?{value}\r\n"),
        _ => String::new(),
    };
    let status = match how {
        "part" => "206 Partial Content",
        "redirect" => "302 Found",
        _ => "200 OK",
    };
    if how == "chunks" {
        let head = format!("HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        for byte in body.bytes() {
            stream.write_all(&[b'1', b'\r', b'\n', byte, b'\r', b'\n']).await?;
            stream.flush().await?;
        }
        return stream
            .write_all(format!("0\r\nx-end: {value}\r\n\r\n").as_bytes())
            .await;
    }
    let head = format!(
        "HTTP/1.1 {status}\r\n{field}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await
}

fn plain(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n")
}

async fn fill<S: AsyncWrite + Unpin>(stream: &mut S, mut left: usize) -> std::io::Result<()> {
    let chunk = [b'x'; 16 << 10];
    while left > 0 {
        let size = left.min(chunk.len());
        stream.write_all(&chunk[..size]).await?;
        left -= size;
    }
    stream.flush().await
}

async fn drip<S: AsyncWrite + Unpin>(stream: &mut S, byte: &[u8]) -> std::io::Result<()> {
    loop {
        stream.write_all(byte).await?;
        stream.flush().await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
