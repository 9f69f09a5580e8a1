//! HTTP/2: every bound of a connection holds for it too, and those that it alone needs.

use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::Request;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::authority::Authority;
use super::peer::{H2, Peer, RequestBody, Stream, invoke, whole};
use crate::Bounds;
use crate::tests::{Fixture, newest, next_frame, start_with};

async fn start(bounds: Bounds) -> (Authority, Fixture) {
    let authority = Authority::new("root");
    let options = authority.options();
    let it = start_with(bounds, |listener, _| listener.tls = Some(options)).await;
    (authority, it)
}

fn usual() -> http2::Builder<TokioExecutor> {
    http2::Builder::new(TokioExecutor::new())
}

async fn connect(authority: &Authority, it: &Fixture) -> H2 {
    Peer::new(authority, None).h2(it.address, &usual()).await
}

/// A body that begins and does not end.
fn endless() -> RequestBody {
    let first = stream::iter([Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(b"{")))]);
    StreamBody::new(futures::StreamExt::chain(first, stream::pending())).boxed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_ends_where_its_frames_say() {
    let (authority, it) = start(Bounds::default()).await;
    let mut h2 = connect(&authority, &it).await;
    assert_eq!(h2.get("/v1/capabilities").await.unwrap().status, 200);
    // Nothing is there to be called: it is reached all the same.
    assert_eq!(h2.send(invoke(whole("{}"))).await.unwrap().status, 404);
    let parts = stream::iter(["{", "}"].map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))));
    assert_eq!(
        h2.send(invoke(StreamBody::new(parts).boxed())).await.unwrap().status,
        404,
        "no length"
    );
    let mut wrong = invoke(whole("{}"));
    wrong.headers_mut().insert("content-length", 1.into());
    let answer = h2.send(wrong).await;
    assert!(answer.as_ref().is_none_or(|answer| answer.status == 400), "{answer:?}");
    let mut h2 = connect(&authority, &it).await;
    let elsewhere = Request::get("https://evil.example/ready")
        .body(Empty::new().boxed())
        .unwrap();
    assert_eq!(h2.send(elsewhere).await.unwrap().status, 421);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn body_bytes_max_and_body_ms() {
    let bounds = Bounds {
        body_bytes_max: 10,
        body_ms: 300,
        ..Bounds::default()
    };
    let (authority, it) = start(bounds).await;
    let mut h2 = connect(&authority, &it).await;
    assert_eq!(h2.send(invoke(whole("[1,2,3,4,5,6]"))).await.unwrap().status, 413);
    let answer = h2.send(invoke(endless())).await.unwrap();
    assert_eq!(answer.status, 408);
    assert!(!answer.headers.contains_key("connection"));
    assert_eq!(
        h2.get("/ready").await.unwrap().status,
        200,
        "others on the connection are not concerned"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_max() {
    for (streams_max, at_once) in [(1, false), (2, true)] {
        let bounds = Bounds {
            streams_max,
            ..Bounds::default()
        };
        let (authority, it) = start(bounds).await;
        let mut h2 = connect(&authority, &it).await;
        assert_eq!(h2.get("/ready").await.unwrap().status, 200, "settings are known");
        let mut sender = h2.sender.clone();
        let first = tokio::spawn(async move { sender.send_request(invoke(endless())).await });
        tokio::time::sleep(Duration::from_millis(200)).await;
        let second = tokio::time::timeout(Duration::from_millis(700), h2.get("/ready")).await;
        assert_eq!(second.is_ok(), at_once, "{streams_max}");
        first.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_max() {
    for (resets_max, ends) in [(5, true), (100, false)] {
        let bounds = Bounds {
            resets_max,
            ..Bounds::default()
        };
        let (authority, it) = start(bounds).await;
        let mut h2 = connect(&authority, &it).await;
        for _ in 0..20 {
            if h2.sender.ready().await.is_err() {
                break;
            }
            let mut sender = h2.sender.clone();
            let request = tokio::spawn(async move { sender.send_request(invoke(endless())).await });
            tokio::time::sleep(Duration::from_millis(20)).await;
            request.abort();
        }
        assert_eq!(h2.ends_within(2000).await, ends, "{resets_max}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_bytes_max() {
    let fields = "x".repeat(10 << 10);
    for (header_bytes_max, taken) in [(8 << 10, false), (32 << 10, true)] {
        let bounds = Bounds {
            header_bytes_max,
            ..Bounds::default()
        };
        let (authority, it) = start(bounds).await;
        let mut h2 = connect(&authority, &it).await;
        let request = Request::get("https://localhost/ready").header("x", &fields);
        let answer = h2.send(request.body(Empty::new().boxed()).unwrap()).await;
        let status = answer.map(|answer| answer.status.as_u16());
        assert_eq!(status == Some(200), taken, "{header_bytes_max}: {status:?}");
    }
}

/// The first bytes of a connection, and a request that is not whole.
const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn raw(authority: &Authority, it: &Fixture) -> Stream {
    let peer = Peer::new(authority, None).offering(&["h2"]);
    let mut stream = peer.connect(it.address).await.unwrap();
    stream.write_all(BEGINNING).await.unwrap();
    stream
}

/// Whether the other side ends the connection within this time, whatever it says before.
async fn ends_within(stream: &mut Stream, ms: u64) -> bool {
    let all = async { while !matches!(stream.read(&mut [0; 1024]).await, Ok(0) | Err(_)) {} };
    tokio::time::timeout(Duration::from_millis(ms), all).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_ms() {
    let bounds = Bounds {
        header_ms: 400,
        ..Bounds::default()
    };
    let (authority, it) = start(bounds).await;
    // A frame of 100 bytes of which some come; a whole one that does not end the fields; a part of the preface.
    let half = b"\0\0\x64\x01\x04\0\0\0\x01\x82";
    let open = b"\0\0\x01\x01\0\0\0\0\x01\x82";
    for rest in [&half[..], &open[..]] {
        let mut stream = raw(&authority, &it).await;
        stream.write_all(rest).await.unwrap();
        assert!(ends_within(&mut stream, 5000).await);
        let (authority, it) = start(Bounds::default()).await;
        let mut stream = raw(&authority, &it).await;
        stream.write_all(rest).await.unwrap();
        assert!(!ends_within(&mut stream, 1000).await, "the usual bound is longer");
    }
    let peer = Peer::new(&authority, None).offering(&["h2"]);
    let mut stream = peer.connect(it.address).await.unwrap();
    stream.write_all(&BEGINNING[..10]).await.unwrap();
    assert!(ends_within(&mut stream, 5000).await);
    // Nothing is asked on a connection, and nothing has begun: that is another bound.
    let mut idle = raw(&authority, &it).await;
    assert!(!ends_within(&mut idle, 1200).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_ms() {
    let bounds = Bounds {
        idle_ms: 400,
        ..Bounds::default()
    };
    let (authority, it) = start(bounds).await;
    let mut h2 = connect(&authority, &it).await;
    assert_eq!(h2.get("/ready").await.unwrap().status, 200);
    assert!(h2.ends_within(5000).await);
    // A ping is no question.
    let mut stream = raw(&authority, &it).await;
    let (mut reads, mut writes) = tokio::io::split(&mut stream);
    let pings = async {
        loop {
            let _closed = writes.write_all(b"\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\0").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let all = async { while !matches!(reads.read(&mut [0; 1024]).await, Ok(0) | Err(_)) {} };
    let ended = async {
        tokio::select! {
            () = all => {}
            () = pings => {}
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(5), ended).await.is_ok());
    let (authority, it) = start(Bounds::default()).await;
    let mut h2 = connect(&authority, &it).await;
    assert!(!h2.ends_within(1000).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_ms_ends_answers_that_nobody_reads_and_frees_their_place() {
    let bounds = Bounds {
        write_ms: 1_000,
        requests_max: 1,
        ..Bounds::default()
    };
    let (authority, it) = start(bounds).await;
    let peer = Peer::new(&authority, None);
    // One byte of the answer may come, which is less than it has.
    let mut builder = usual();
    builder.initial_stream_window_size(1);
    let mut slow = peer.h2(it.address, &builder).await;
    let request = Request::get("https://localhost/v1/capabilities").body(Empty::new().boxed());
    let unread = slow.sender.send_request(request.unwrap()).await.unwrap();
    assert_eq!(unread.status(), 200);
    let mut other = connect(&authority, &it).await;
    assert_eq!(
        other.get("/v1/capabilities").await.unwrap().status,
        503,
        "the place is taken"
    );
    assert!(slow.ends_within(10_000).await);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(other.get("/v1/capabilities").await.unwrap().status, 200);
    drop(unread);
}

/// A question that needs a caller, with this key.
fn list(key: Option<&str>) -> Request<RequestBody> {
    let request = Request::get("https://localhost/v1/capabilities");
    let request = match key {
        Some(key) => request.header("authorization", format!("Bearer {key}")),
        None => request,
    };
    request.body(Empty::new().boxed()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_that_a_stranger_does_not_read_has_no_place() {
    const KEY: &str = "aral_a-key-of-the-test";
    let authority = Authority::new("root");
    let options = authority.options();
    let bounds = Bounds {
        requests_max: 1,
        ..Bounds::default()
    };
    let it = start_with(bounds, |listener, callers| {
        listener.tls = Some(options);
        listener.anonymous = None;
        callers[0].keys = vec![aral_contract::Digest::of(KEY.as_bytes())];
    })
    .await;
    let mut builder = usual();
    builder.initial_stream_window_size(1);
    let mut slow = Peer::new(&authority, None).h2(it.address, &builder).await;
    let mut unread = Vec::new();
    // Nothing was shown, and something wrong.
    for key in [None, Some("aral_another")] {
        slow.sender.ready().await.unwrap();
        let refused = slow.sender.send_request(list(key)).await.unwrap();
        assert_eq!(refused.status(), 401);
        unread.push(refused);
    }
    let mut known = connect(&authority, &it).await;
    assert_eq!(known.send(list(Some(KEY))).await.unwrap().status, 200);
    drop(unread);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsent_bytes_max_and_unsent_bytes_per_caller_max() {
    let keys = ["aral_a-key-of-the-test", "aral_another"];
    let usually = Bounds::default().unsent_bytes_max;
    for (all, own, expected) in [
        (usually, usually, [200_u16, 200]),
        (usually, 1, [503, 200]),
        (1, usually, [503, 503]),
    ] {
        let authority = Authority::new("root");
        let options = authority.options();
        let bounds = Bounds {
            unsent_bytes_max: all,
            unsent_bytes_per_caller_max: own,
            ..Bounds::default()
        };
        let it = start_with(bounds, |listener, callers| {
            listener.tls = Some(options);
            listener.anonymous = None;
            callers.push(callers[0].clone());
            callers[1].name = "other".parse().unwrap();
            for (caller, key) in callers.iter_mut().zip(keys) {
                caller.keys = vec![aral_contract::Digest::of(key.as_bytes())];
            }
        })
        .await;
        let mut builder = usual();
        builder.initial_stream_window_size(1);
        let mut slow = Peer::new(&authority, None).h2(it.address, &builder).await;
        // However large it is, the first has room.
        let unread = slow.sender.send_request(list(Some(keys[0]))).await.unwrap();
        assert_eq!(unread.status(), 200);
        let mut reads = connect(&authority, &it).await;
        for (key, expected) in keys.into_iter().zip(expected) {
            let answer = reads.send(list(Some(key))).await.unwrap();
            assert_eq!(answer.status, expected, "{all} {own} {key}");
        }
        drop(unread);
        slow.task.abort();
        let again = async {
            while reads.send(list(Some(keys[0]))).await.unwrap().status != 200 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), again).await.unwrap();
    }
}

/// A subscription to news of the list of tools, which begins with an event and has no end.
fn subscription() -> Request<RequestBody> {
    let (fields, body) = newest(
        "subscriptions/listen",
        serde_json::json!({ "notifications": { "toolsListChanged": true } }),
    );
    let request = Request::post("https://localhost/mcp")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    let fields = fields.lines().map(|line| line.split_once(": ").unwrap());
    let request = fields.fold(request, |request, (name, value)| request.header(name, value));
    request.body(whole(body)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_ms_is_for_each_piece_of_a_stream() {
    let bounds = Bounds {
        write_ms: 500,
        idle_ms: 500,
        ..Bounds::default()
    };
    let (authority, it) = start(bounds).await;
    let mut reads = connect(&authority, &it).await;
    let mut news = reads.sender.send_request(subscription()).await.unwrap();
    assert_eq!(news.status(), 200);
    assert!(news.body_mut().frame().await.unwrap().unwrap().is_data());
    assert!(!reads.ends_within(2_000).await, "a stream may be silent");
    assert_eq!(reads.get("/ready").await.unwrap().status, 200);
    // One byte of the first event may come, which is less than it has.
    let mut builder = usual();
    builder.initial_stream_window_size(1);
    let mut slow = Peer::new(&authority, None).h2(it.address, &builder).await;
    let unread = slow.sender.send_request(subscription()).await.unwrap();
    assert_eq!(unread.status(), 200);
    assert!(slow.ends_within(10_000).await);
    assert_eq!(reads.get("/ready").await.unwrap().status, 200);
    drop((news, unread));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_server_lets_requests_end() {
    let (authority, it) = start(Bounds::default()).await;
    let mut idle = connect(&authority, &it).await;
    assert_eq!(idle.get("/ready").await.unwrap().status, 200);
    let busy = connect(&authority, &it).await;
    let (sent, body) = futures::channel::mpsc::unbounded();
    sent.unbounded_send(Ok(Frame::data(Bytes::from_static(b"{")))).unwrap();
    let mut sender = busy.sender.clone();
    let request = tokio::spawn(async move { sender.send_request(invoke(StreamBody::new(body).boxed())).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let _told = it.stop.send(());
    assert!(idle.ends_within(5000).await);
    sent.unbounded_send(Ok(Frame::data(Bytes::from_static(b"}")))).unwrap();
    drop(sent);
    assert_eq!(request.await.unwrap().unwrap().status(), 404);
    tokio::time::timeout(Duration::from_secs(10), it.task)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_on_which_nothing_is_under_way_is_told_that_the_server_ends() {
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;
    const ACK: u8 = 1;
    for answers in [true, false] {
        let (authority, it) = start(Bounds::default()).await;
        let mut stream = raw(&authority, &it).await;
        loop {
            let (kind, flags, _) = next_frame(&mut stream).await.unwrap();
            if (kind, flags) == (SETTINGS, ACK) {
                break;
            }
        }
        let _told = it.stop.send(());
        let mut reasons = Vec::new();
        while let Some((kind, flags, payload)) = next_frame(&mut stream).await {
            match kind {
                PING if answers && flags != ACK => {
                    let pong = [&[0, 0, 8, PING, ACK, 0, 0, 0, 0][..], &payload].concat();
                    stream.write_all(&pong).await.unwrap();
                }
                GOAWAY => reasons.push(payload[4..8].to_vec()),
                _ => {}
            }
        }
        assert!(!reasons.is_empty(), "{answers}");
        assert!(reasons.iter().all(|reason| *reason == [0; 4]), "{reasons:?}");
        // Well before the time that what is under way has.
        tokio::time::timeout(Duration::from_secs(10), it.task)
            .await
            .unwrap()
            .unwrap();
    }
}
