//! Addresses, and what a request does on a real socket: which one it opens, and what it says there first.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

fn options() -> OutboundOptions {
    OutboundOptions::default()
}

#[test]
fn plain_http_is_for_this_machine_and_credentials_are_for_no_address() {
    for good in [
        "https://example.org",
        "https://example.org:9200/base/?a=b",
        "http://127.0.0.1:1",
        "http://[::1]:1",
        "http://localhost:1",
    ] {
        ServerUrl::parse(good).unwrap();
    }
    for (bad, reason) in [
        ("", "no URL"),
        ("example.org", "no URL"),
        ("http://example.org", "plain http"),
        ("http://127.0.0.1.example.org", "plain http"),
        ("http://localhost.example.org", "plain http"),
        ("ftp://example.org", "scheme"),
        ("unix:/run/x", "no host"),
        ("https://root:hunter2@example.org", "user or password"),
        ("https://example.org/#f", "fragment"),
    ] {
        let refused = ServerUrl::parse(bad).unwrap_err().to_string();
        assert!(refused.contains(reason) && !refused.contains("hunter2"), "{refused}");
    }
    let parse = |text| ServerUrl::parse(text).unwrap();
    assert!(parse("https://a.example/x?q").without_query().is_err());
    assert!(parse("https://a.example/x").without_query().is_ok());
    assert!(parse("https://a.example/x").without_path().is_err());
    assert!(parse("https://a.example/").without_path().is_ok());
}

#[test]
fn options_that_cannot_be_are_refused_one_by_one() {
    for proxy in [
        "",
        "proxy.example:3128",
        "socks5://proxy.example",
        "http://user:hunter2@proxy.example:3128",
        "http://proxy.example/path",
        "http://proxy.example/?q",
    ] {
        let proxy = Some(proxy.to_owned());
        let refused = Outbound::new(&OutboundOptions { proxy, ..options() }).unwrap_err();
        assert!(matches!(refused, OutboundError::Proxy(_)), "{refused}");
        assert!(!refused.to_string().contains("hunter2"), "{refused}");
    }
    for name in ["", ".", "*", "a b", "10.0.0.0/33", "http://a"] {
        let no_proxy = vec![name.to_owned()];
        let refused = Outbound::new(&OutboundOptions { no_proxy, ..options() }).unwrap_err();
        assert!(matches!(refused, OutboundError::NoProxy(_)), "{name}: {refused}");
    }
    for pem in [&b""[..], b"none"] {
        let ca_pem = Some(pem.to_vec());
        let refused = Outbound::new(&OutboundOptions { ca_pem, ..options() }).unwrap_err();
        assert!(matches!(refused, OutboundError::Authorities(_)), "{refused}");
    }
}

#[test]
fn what_is_reached_without_the_proxy() {
    let no_proxy = [
        "Internal.example",
        ".corp.example",
        "10.0.0.0/8",
        "192.0.2.7",
        "2001:db8::/32",
    ];
    let outbound = Outbound::new(&OutboundOptions {
        proxy: Some("http://proxy.example:3128".to_owned()),
        no_proxy: no_proxy.map(str::to_owned).to_vec(),
        ca_pem: None,
    })
    .unwrap();
    let direct = |url| outbound.is_direct(&ServerUrl::parse(url).unwrap());
    for url in [
        "https://internal.example",
        "https://a.INTERNAL.example:8443/x",
        "https://a.corp.example",
        "https://10.1.2.3",
        "https://192.0.2.7",
        "https://[2001:db8::1]:8200",
        "http://127.0.0.1:1",
        "https://localhost",
        "https://[::1]",
    ] {
        assert!(direct(url), "{url}");
    }
    for url in [
        "https://example",
        "https://notinternal.example",
        "https://internal.example.org",
        "https://11.0.0.1",
        "https://192.0.2.8",
    ] {
        assert!(!direct(url), "{url}");
    }
}

/// What a proxy is told first by a request to `url`; none: it was not asked. It refuses.
async fn asked_of_the_proxy(url: &str, no_proxy: &[&str]) -> Option<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let outbound = Outbound::new(&OutboundOptions {
        proxy: Some(format!("http://{}", listener.local_addr().unwrap())),
        no_proxy: no_proxy.iter().map(|name| (*name).to_owned()).collect(),
        ca_pem: None,
    })
    .unwrap();
    let server = ServerUrl::parse(url).unwrap();
    let client = outbound.client(&server, None, Duration::from_secs(10)).unwrap();
    let mut request = tokio::spawn(client.get(server.url().clone()).send());
    let proxy = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = [0; 1024];
        let length = stream.read(&mut buffer).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    tokio::select! {
        asked = proxy => {
            request.await.unwrap().unwrap_err();
            Some(asked.lines().next().unwrap().to_owned())
        }
        answered = &mut request => {
            answered.unwrap().unwrap_err();
            None
        }
    }
}

#[tokio::test]
async fn other_machines_are_reached_through_the_proxy_by_their_names() {
    let url = "https://issuer.invalid/keys";
    assert_eq!(
        asked_of_the_proxy(url, &[]).await.as_deref(),
        Some("CONNECT issuer.invalid:443 HTTP/1.1")
    );
    assert_eq!(asked_of_the_proxy(url, &["issuer.invalid"]).await, None);
    assert_eq!(asked_of_the_proxy("http://127.0.0.1:1/keys", &[]).await, None);
    assert_eq!(asked_of_the_proxy("http://localhost:1/keys", &[]).await, None);
}

/// Whatever a name server, or the table of hosts, says. The name of another machine is not looked up as this one.
#[tokio::test]
async fn the_name_of_this_machine_is_asked_of_nobody() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for (name, is_here) in [("localhost", true), ("localhost.invalid", false)] {
        // As if the name were this machine, which is what says that nobody is asked.
        let server = ServerUrl {
            url: format!("https://{name}:{port}").parse().unwrap(),
            local: true,
        };
        let client = Outbound::default()
            .client(&server, None, Duration::from_secs(10))
            .unwrap();
        let connected = tokio::spawn(client.get(server.url().clone()).send());
        listener.accept().await.unwrap();
        connected.abort();
        let parsed = ServerUrl::parse(server.url().as_str()).unwrap();
        assert_eq!(parsed.local, is_here, "{name}");
    }
}

#[tokio::test]
async fn a_body_is_read_to_its_bound() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let server = ServerUrl::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let client = Outbound::default()
        .client(&server, None, Duration::from_secs(10))
        .unwrap();
    for (bytes_max, expected) in [(10, &b"0123456789"[..]), (4, b"01234")] {
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _asked = stream.read(&mut [0; 1024]).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 10\r\n\r\n0123456789";
            stream.write_all(answer).await.unwrap();
            stream
        };
        let (_stream, response) = tokio::join!(served, client.get(server.url().clone()).send());
        assert_eq!(body(response.unwrap(), bytes_max).await.unwrap(), expected);
    }
}
