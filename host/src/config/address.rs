//! Addresses with a port as they stand in `aral.toml`: an error says which key and which value, and how one is written.

use std::net::SocketAddr;

use serde::de::{Deserialize, Deserializer, Error};

use super::parse::HINT;

/// `address` of `[[serve.listener]]`
pub(super) fn of_listener<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let line = "[[serve.listener]]: address = \"127.0.0.1:8080\"";
    parse("address", &String::deserialize(from)?, line)
}

/// `address` of `[serve.admin]`
pub(super) fn of_admin<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let line = "[serve.admin]: address = \"127.0.0.1:9000\"";
    parse("address", &String::deserialize(from)?, line).map(Some)
}

/// `nameservers` of `[egress]`
pub(super) fn of_nameservers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<SocketAddr>, D::Error> {
    let line = "[egress]: nameservers = [\"127.0.0.1:53\"]";
    let texts = Vec::<String>::deserialize(from)?;
    texts.iter().map(|text| parse("nameservers", text, line)).collect()
}

fn parse<E: Error>(key: &str, text: &str, line: &str) -> Result<SocketAddr, E> {
    text.parse().map_err(|_| {
        let shown = text.escape_debug();
        E::custom(format!(
            "{key}: `{shown}` is not an IP address with a port{HINT}aral.toml, {line}"
        ))
    })
}
