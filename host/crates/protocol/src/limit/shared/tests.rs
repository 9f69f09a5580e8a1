//! A server of limits that is one, and one that is not.

#[cfg(feature = "services")]
mod services;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::model::Nowhere;
use super::super::{Asked, Call, Limits};
use super::*;

fn options(address: &str, prefix: &str, timeout_ms: u64) -> RedisOptions {
    RedisOptions {
        url: address.parse().unwrap(),
        password: None,
        ca_pem: None,
        prefix: prefix.parse().unwrap(),
        timeout_ms,
        when_down: WhenDown::Refuse,
    }
}

async fn start(address: &str, prefix: &str, timeout_ms: u64) -> Shared {
    let options = options(address, prefix, timeout_ms);
    let recorder = Recorder {
        clock: Arc::new(aral_runtime::SystemClock::new()),
        sink: Arc::new(Nowhere),
    };
    Shared::start(options, recorder).await.unwrap()
}

/// The words of the next command; none: no command comes.
async fn command(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
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
    Some(words)
}

/// Answers one script, and then begins an answer that nobody asked for and that has no end. Ends once nobody takes it.
async fn flood(listener: TcpListener) {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    loop {
        let command = command(&mut stream).await.unwrap();
        let is_script = command[0] == "EVALSHA";
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

/// Answers everything, and the first script about a cost only once it may. Ends with what the next one says of it.
async fn hold(listener: TcpListener, asked: oneshot::Sender<()>, may_answer: oneshot::Receiver<()>) -> String {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut first = Some((asked, may_answer));
    loop {
        let command = command(&mut stream).await.unwrap();
        let mut answer = "+OK\r\n".to_owned();
        if command[0] == "EVALSHA" {
            let count: usize = command[2].parse().unwrap();
            let (keys, arguments) = command[3..].split_at(count);
            // For each key a word and three numbers, behind a number for all.
            let mut charges = keys.iter().zip(arguments[1..].chunks_exact(4));
            let cost = charges.find(|(key, _)| key.contains(":cost:"));
            match (cost, first.take()) {
                (Some(_), Some((asked, may_answer))) => {
                    asked.send(()).unwrap();
                    may_answer.await.unwrap();
                }
                (Some((_, charge)), None) => return charge.join(" "),
                (None, untouched) => first = untouched,
            }
            // The key for what is put aside has its end where the others have a level.
            answer = format!(
                "*{}\r\n{}",
                count + 3,
                ":7\r\n".repeat(count + 3).replacen(":7", ":0", 3)
            );
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

/// A request that puts a cost aside, at a server that [`hold`]s it.
struct Held {
    limits: Arc<Limits>,
    server: JoinHandle<String>,
    is_asked: oneshot::Receiver<()>,
    answer: oneshot::Sender<()>,
    /// Whether it is let in.
    request: JoinHandle<bool>,
}

impl Held {
    async fn start(prefix: &str, timeout_ms: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("redis://{}", listener.local_addr().unwrap());
        let (asked, is_asked) = oneshot::channel();
        let (answer, may_answer) = oneshot::channel();
        let server = tokio::spawn(hold(listener, asked, may_answer));
        let clock: Arc<dyn Clock> = Arc::new(aral_runtime::SystemClock::new());
        let sink: Arc<dyn AuditSink> = Arc::new(Nowhere);
        let options = options(&address, prefix, timeout_ms);
        let limits = Limits::start(Rates::default(), Some(options), &clock, &sink).await;
        let limits = Arc::new(limits.unwrap());
        let request = {
            let limits = Arc::clone(&limits);
            tokio::spawn(async move {
                let capability = "echo".parse().unwrap();
                let asked = Asked {
                    address: "192.0.2.1".parse().unwrap(),
                    caller: &"x".parse().unwrap(),
                    persona: &"a".parse().unwrap(),
                    tier: None,
                    call: Some(Call {
                        capability: &capability,
                        cost_micro_max: 40,
                        time_max: Duration::from_secs(60),
                    }),
                };
                limits.take(&asked).await.is_ok()
            })
        };
        Self {
            limits,
            server,
            is_asked,
            answer,
            request,
        }
    }

    /// The server answers, and then all of the cost is given back.
    async fn answer_and_get_back(limits: Arc<Limits>, answer: oneshot::Sender<()>, server: JoinHandle<String>) {
        answer.send(()).unwrap();
        let taken = tokio::time::timeout(Duration::from_secs(60), server).await;
        let all = limits.rates.cost.interval_ns() * 40;
        assert_eq!(taken.expect("it is given back").unwrap(), format!("end {all} 0 7"));
    }
}

#[tokio::test]
async fn what_is_put_aside_for_a_request_that_went_away_before_the_answer_is_given_back() {
    let held = Held::start("{aral}:gone", 60_000).await;
    held.is_asked.await.unwrap();
    held.request.abort();
    assert!(held.request.await.unwrap_err().is_cancelled());
    Held::answer_and_get_back(held.limits, held.answer, held.server).await;
}

#[tokio::test]
async fn what_an_answer_that_comes_too_late_counts_is_given_back() {
    let held = Held::start("{aral}:late", 1_000).await;
    held.is_asked.await.unwrap();
    assert!(!held.request.await.unwrap(), "nobody waits any longer");
    Held::answer_and_get_back(held.limits, held.answer, held.server).await;
}
