//! A name server on loopback, over UDP and TCP, that answers what the test scripts and counts what it was asked.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::task::Task;

/// Name to addresses: one list for each time that the name is asked for, the last of which stays.
type Zone = BTreeMap<String, Vec<Vec<IpAddr>>>;

#[derive(Debug)]
struct State {
    zone: Zone,
    queries: Vec<String>,
    asked: BTreeMap<(String, RecordType), usize>,
}

/// The running server.
#[derive(Debug)]
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    _tasks: [Task; 2],
}

impl Dns {
    /// Each name always has the same addresses.
    pub(crate) async fn start(zone: &[(&str, &[&str])]) -> Self {
        let zone = zone.iter().map(|(name, addresses)| (*name, vec![*addresses]));
        Self::start_changing(zone.collect::<Vec<_>>().as_slice()).await
    }

    /// Each name has the first list when it is asked for the first time, the second then, and so on.
    pub(crate) async fn start_changing(zone: &[(&str, Vec<&[&str]>)]) -> Self {
        let parse = |list: &&[&str]| list.iter().map(|text| text.parse().expect("an address")).collect();
        let zone = zone
            .iter()
            .map(|(name, lists)| ((*name).to_owned(), lists.iter().map(parse).collect()));
        let state = State {
            zone: zone.collect(),
            queries: Vec::new(),
            asked: BTreeMap::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let (udp, tcp) = bind().await;
        let address = udp.local_addr().expect("a bound socket");
        let tasks = [
            Task::start(serve_udp(udp, state.clone())),
            Task::start(serve_tcp(tcp, state.clone())),
        ];
        Self {
            address,
            state,
            _tasks: tasks,
        }
    }

    /// The names that were asked for, each as often as it was, addresses of both families counted once each.
    pub(crate) fn queries(&self) -> Vec<String> {
        self.state.lock().expect("no panic in the server").queries.clone()
    }
}

/// The same port for both protocols. Whoever reads nothing from them is a name server that does not answer.
pub(crate) async fn bind() -> (UdpSocket, TcpListener) {
    for _ in 0..20 {
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a UDP port");
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("a bound socket")).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

async fn serve_udp(socket: UdpSocket, state: Arc<Mutex<State>>) {
    let mut buffer = [0; 4096];
    while let Ok((size, peer)) = socket.recv_from(&mut buffer).await {
        if let Some(answer) = answer(&state, &buffer[..size]) {
            let _ = socket.send_to(&answer, peer).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let state = state.clone();
        tokio::spawn(async move {
            while let Ok(size) = stream.read_u16().await {
                let mut query = vec![0; usize::from(size)];
                if stream.read_exact(&mut query).await.is_err() {
                    return;
                }
                let Some(answer) = answer(&state, &query) else { return };
                let size = u16::try_from(answer.len()).expect("a short answer");
                if stream.write_u16(size).await.is_err() || stream.write_all(&answer).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn answer(state: &Mutex<State>, query: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    let question = query.queries.first()?.clone();
    let name = question.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
    let mut state = state.lock().expect("no panic in the server");
    state.queries.push(name.clone());
    let asked = state.asked.entry((name.clone(), question.query_type())).or_default();
    let turn = *asked;
    *asked += 1;
    let mut response = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    response.metadata.recursion_desired = true;
    response.metadata.recursion_available = true;
    response.add_query(question.clone());
    match state.zone.get(&name).and_then(|lists| lists.get(turn).or(lists.last())) {
        None => response.metadata.response_code = ResponseCode::NXDomain,
        Some(addresses) => {
            for address in addresses {
                let data = match (address, question.query_type()) {
                    (IpAddr::V4(address), RecordType::A) => RData::A(A(*address)),
                    (IpAddr::V6(address), RecordType::AAAA) => RData::AAAA(AAAA(*address)),
                    _ => continue,
                };
                // No one may keep it: the next query shall come here.
                response.add_answer(Record::from_rdata(question.name().clone(), 0, data));
            }
        }
    }
    response.to_vec().ok()
}
