//! MCP: `/mcp` of `aral serve` and `aral mcp`, byte by byte and through clients that nobody here wrote.

#[cfg(feature = "services")]
mod clients;
mod denials;
mod http;
mod stdio;

use serde_json::{Value, json};

use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::{server, setup};

const ECHO: &str = "runtime-echo-tool";
const SLEEP: &str = "runtime-sleep";
const LOOP: &str = "runtime-infinite-loop";

/// An entry whose input is an object, as most are.
fn entry(guest: Guest) -> Value {
    let mut entry = setup::entry(guest);
    entry["input_schema"] = json!({ "type": "object" });
    entry
}

/// A desk whose first listener answers MCP, with these capabilities.
fn desk(entries: &[Value], change: impl FnOnce(&mut Value)) -> Desk {
    let desk = server::desk(|config| {
        config["serve"]["listener"][0]["mcp"] = json!(true);
        change(config);
    });
    for guest in [RUNTIME_ECHO_TOOL, RUNTIME_SLEEP, RUNTIME_INFINITE_LOOP, RUNTIME_TRAP] {
        desk.component(&guest.bytes());
    }
    desk.manifest(entries);
    desk
}

/// Who may call one and not the other.
fn only_echo() -> Value {
    let mut persona = setup::persona();
    persona["constraints"]["allowed_capabilities"] = json!(["runtime-echo-*"]);
    persona
}
