//! The floor: the same axum on the same hyper, which reads the same JSON and writes it again, and nothing else. No caller, no
//! limit, no record, no sandbox.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::Bytes;
use http::{Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tower::Service as _;

/// After a connection that could not be taken.
const PAUSE: Duration = Duration::from_millis(5);

/// Says where it listens as `aral serve --json` does, and answers for ever.
pub(crate) fn run() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(accept())
}

async fn accept() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("{}", serde_json::json!({ "listening": [url] }));
    let router = Router::new().route("/v1/invoke/{capability}", post(echo));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, router.clone()))),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn serve(stream: TcpStream, router: Router) {
    let _refused = stream.set_nodelay(true);
    let service = service_fn(|request: Request<Incoming>| {
        let mut router = router.clone();
        async move { router.call(request.map(Body::new)).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    // Whoever measures sees on its own side that a connection ended early.
    let _ended = connection.await;
}

async fn echo(body: Bytes) -> Response {
    let echoed = serde_json::from_slice::<Value>(&body).and_then(|value| serde_json::to_vec(&value));
    match echoed {
        Ok(output) => ([(header::CONTENT_TYPE, "application/json")], output).into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}
