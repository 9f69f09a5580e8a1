//! A server of limits that is one, and one that is not.

#[cfg(feature = "services")]
mod services;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::super::model::Nowhere;
use super::*;

async fn start(address: &str, prefix: &str, timeout_ms: u64) -> Shared {
    let options = RedisOptions {
        url: address.parse().unwrap(),
        password: None,
        ca_pem: None,
        prefix: prefix.parse().unwrap(),
        timeout_ms,
        when_down: WhenDown::Refuse,
    };
    let recorder = Recorder {
        clock: Arc::new(aral_runtime::SystemClock::new()),
        sink: Arc::new(Nowhere),
    };
    Shared::start(options, recorder).await.unwrap()
}

/// The first word of the next command; none: no command comes.
async fn command(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    let count: usize = line.trim_end().strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..count {
        line.clear();
        stream.read_line(&mut line).await.ok()?;
        let length: usize = line.trim_end().strip_prefix('$')?.parse().ok()?;
        let mut word = vec![0; length + "\r\n".len()];
        stream.read_exact(&mut word).await.ok()?;
        words.push(String::from_utf8_lossy(&word).trim_end().to_owned());
    }
    words.into_iter().next()
}

/// Answers one script, and then begins an answer that nobody asked for and that has no end. Ends once nobody takes it.
async fn flood(listener: TcpListener) {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    loop {
        let command = command(&mut stream).await.unwrap();
        let is_script = command == "EVALSHA";
        let answer = if is_script {
            "*4\r\n:1\r\n:0\r\n:0\r\n:0\r\n"
        } else {
            "+OK\r\n"
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
        if is_script {
            break;
        }
    }
    stream.write_all(b"$9000000000000\r\n").await.unwrap();
    // Slowly: a test that fails must not fill this machine.
    while stream.write_all(&[b'x'; 1024]).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_nobody_asked_for_is_not_taken_for_ever_where_nobody_asks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("redis://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(flood(listener));
    let shared = start(&address, "{aral}:idle", 1_000).await;
    let ended = tokio::time::timeout(Duration::from_secs(60), server).await;
    ended.expect("the connection is given up").unwrap();
    assert!(shared.link.is_down());
}
