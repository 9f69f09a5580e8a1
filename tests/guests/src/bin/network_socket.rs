//! Goes around HTTP: raw TCP and UDP, outgoing and listening.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use aral_test_guests::{attempt, run};
use serde_json::json;

fn main() {
    run(|input| {
        let target = input["target"].as_str().expect("an address");
        let address = target.parse().expect("an address");
        let datagram = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(b"x", target));
        json!([
            attempt("connect", TcpStream::connect(target)),
            attempt(
                "connect with a timeout",
                TcpStream::connect_timeout(&address, Duration::from_secs(1))
            ),
            attempt("listen", TcpListener::bind("127.0.0.1:0")),
            attempt("listen on every address", TcpListener::bind("0.0.0.0:0")),
            attempt("send a datagram", datagram),
            attempt("bind a datagram socket", UdpSocket::bind("0.0.0.0:0")),
        ])
    });
}
