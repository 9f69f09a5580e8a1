//! Reads one message of JSON-RPC 2.0, as strictly as everything else here is read: no name twice, no deep nesting, no batch.

use aral_contract::document::json;
use aral_contract::{Code, Failure, TraceId};
use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, ErrorCode, ErrorData, GetExtensions as _, GetMeta as _, JsonRpcError,
    ProtocolVersion, RequestId,
};
use serde_json::Value;

use super::arguments::Arguments;

/// Methods that are there. The library knows more of them, and takes these with other parameters for methods that nobody knows.
const KNOWN: [&str; 6] = [
    "initialize",
    "ping",
    "server/discover",
    "subscriptions/listen",
    "tools/call",
    "tools/list",
];

/// What a message may take in memory beside the arguments of a call, in bytes. The library keeps it for as long as a session, a
/// stream or a call lasts; it never sees arguments.
const BESIDE_ARGUMENTS_BYTES_MAX: usize = 64 << 10;
/// Longest id of a request, and longest token of its progress, in bytes. They are said again with each message about it.
const ID_BYTES_MAX: usize = 256;
/// Most characters that are shown of the name of a method.
const METHOD_SHOWN_MAX: usize = 64;

/// Why something is no message, or is not taken. It becomes an error of JSON-RPC, since no method has been asked for yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    id: Option<RequestId>,
    code: ErrorCode,
    kind: Code,
    message: String,
}

impl Fault {
    fn new(id: Option<RequestId>, code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            id,
            code,
            kind: Code::RequestInvalid,
            message: message.into(),
        }
    }

    fn request(id: Option<RequestId>, message: &str) -> Self {
        Self::new(id, ErrorCode::INVALID_REQUEST, message)
    }

    /// A request of a method that is known, whose parameters are others.
    fn parameters(id: Option<RequestId>) -> Self {
        Self::new(
            id,
            ErrorCode::INVALID_PARAMS,
            "the parameters are not those of the method",
        )
    }

    /// Something that is longer than this.
    pub(super) fn too_long(bytes_max: usize) -> Self {
        Self::request(None, &format!("the message has more than {bytes_max} bytes"))
    }

    /// A request whose id or token is that of another one, which has no answer yet.
    pub(super) fn twice(id: RequestId) -> Self {
        let message = "a request with this id or progressToken is under way";
        Self::request(Some(id), message)
    }

    /// A request for which there is no room.
    pub(super) fn full(id: RequestId, failure: &Failure) -> Self {
        let hint = failure.hint.as_deref().unwrap_or("try again later");
        Self {
            id: Some(id),
            code: ErrorCode::INTERNAL_ERROR,
            kind: failure.code,
            message: format!("{}: {hint}", failure.message),
        }
    }

    /// A request that has no place in a session that has begun; none: it has. The first would change what the session speaks, the
    /// second would wait in it without an end and without a bound.
    pub(super) fn in_session(message: &ClientJsonRpcMessage) -> Option<Self> {
        let ClientJsonRpcMessage::Request(request) = message else {
            return None;
        };
        let (code, message) = match &request.request {
            ClientRequest::InitializeRequest(_) => (
                ErrorCode::INVALID_REQUEST,
                "the session has begun: another one begins without `Mcp-Session-Id`",
            ),
            ClientRequest::SubscriptionsListenRequest(_) => (
                ErrorCode::METHOD_NOT_FOUND,
                "a session has no `subscriptions/listen`: its news come on the stream of GET",
            ),
            _ => return None,
        };
        Some(Self::new(Some(request.id.clone()), code, message))
    }

    /// An `initialize` in a conversation without sessions that has begun; none: it is something else.
    pub(super) fn begun(message: &ClientJsonRpcMessage) -> Option<Self> {
        let ClientJsonRpcMessage::Request(request) = message else {
            return None;
        };
        let again = "the conversation has begun: another one begins with another process";
        matches!(&request.request, ClientRequest::InitializeRequest(_))
            .then(|| Self::request(Some(request.id.clone()), again))
    }

    /// A request of a method that is not there, or not any more in the revision that it speaks; none: it is there. The library would
    /// answer the name of the method and nothing else, or an empty list.
    pub(super) fn unknown(message: &ClientJsonRpcMessage) -> Option<Self> {
        let ClientJsonRpcMessage::Request(request) = message else {
            return None;
        };
        let method = request.request.method();
        let version = request.request.get_meta().protocol_version();
        let is_newest = version.is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str());
        if KNOWN.contains(&method) && !(is_newest && method == "ping") {
            return None;
        }
        let shown: String = method.chars().take(METHOD_SHOWN_MAX).collect();
        let message = format!("there is no method `{}`", shown.escape_debug());
        Some(Self::new(
            Some(request.id.clone()),
            ErrorCode::METHOD_NOT_FOUND,
            message,
        ))
    }

    /// Something that is no text.
    pub(super) fn no_text() -> Self {
        Self::new(None, ErrorCode::PARSE_ERROR, "the message is not UTF-8")
    }

    /// The answer.
    pub(super) fn error(self, trace: TraceId) -> JsonRpcError {
        let data = data(self.kind.as_str(), trace);
        JsonRpcError::new(self.id, ErrorData::new(self.code, self.message, Some(data)))
    }
}

/// What every error of JSON-RPC says besides its words.
pub(super) fn data(code: &str, trace: TraceId) -> Value {
    serde_json::json!({ "code": code, "trace_id": trace.to_string() })
}

/// One message.
#[derive(Debug)]
pub(super) struct Read {
    /// Without the arguments, if it is a call.
    pub(super) message: ClientJsonRpcMessage,
    /// The same for who reads it again.
    pub(super) text: String,
    /// Those of a call that has any.
    pub(super) arguments: Option<Arguments>,
}

impl Read {
    /// The message, and with it its arguments.
    pub(super) fn carrying(self) -> ClientJsonRpcMessage {
        let Self {
            mut message, arguments, ..
        } = self;
        if let (ClientJsonRpcMessage::Request(request), Some(arguments)) = (&mut message, arguments) {
            request.request.extensions_mut().insert(arguments);
        }
        message
    }
}

/// Takes away the arguments of a call. A call is a request: what is named like one and has no id is a notification, whose parameters
/// the library passes on as they are.
fn take_arguments(message: &mut Value, id: Option<&RequestId>) -> Option<Value> {
    let is_call = id.is_some() && message.get("method").and_then(Value::as_str) == Some("tools/call");
    let params = message.get_mut("params").filter(|_| is_call)?;
    params.as_object_mut()?.remove("arguments")
}

fn is_long(id: Option<&Value>) -> bool {
    id.and_then(Value::as_str).is_some_and(|id| id.len() > ID_BYTES_MAX)
}

/// The message.
pub(super) fn read(bytes: &[u8]) -> Result<Read, Fault> {
    let parsed = json::parse(bytes);
    let mut value = parsed.map_err(|error| Fault::new(None, ErrorCode::PARSE_ERROR, error.to_string()))?;
    if value.is_array() {
        return Err(Fault::request(
            None,
            "batches are not taken: send one message at a time",
        ));
    }
    if is_long(value.get("id")) {
        let message = format!("the id has more than {ID_BYTES_MAX} bytes");
        return Err(Fault::request(None, &message));
    }
    let id = value.get("id").cloned().and_then(|id| serde_json::from_value(id).ok());
    let is_version = value.get("jsonrpc").and_then(Value::as_str) == Some("2.0");
    if !is_version {
        return Err(Fault::request(id, "this is not JSON-RPC 2.0"));
    }
    if is_long(value.pointer("/params/_meta/progressToken")) {
        let message = format!("the progressToken has more than {ID_BYTES_MAX} bytes");
        return Err(Fault::request(id, &message));
    }
    let arguments = take_arguments(&mut value, id.as_ref());
    if json::memory_bytes(&value) > BESIDE_ARGUMENTS_BYTES_MAX {
        let message = format!(
            "what the message says beside the arguments of a call takes more than {BESIDE_ARGUMENTS_BYTES_MAX} bytes of memory: \
             say less in `_meta`, `capabilities` and `clientInfo`, and icons as addresses, not as `data:`"
        );
        return Err(Fault::request(id, &message));
    }
    let arguments = match arguments {
        None | Some(Value::Null) => None,
        Some(Value::Object(arguments)) => Some(Arguments::new(arguments)),
        Some(_) => return Err(Fault::parameters(id)),
    };
    let text = value.to_string();
    let message: ClientJsonRpcMessage = serde_json::from_value(value)
        .map_err(|_shape| Fault::request(id.clone(), "this is no request, notification or answer"))?;
    if let ClientJsonRpcMessage::Request(request) = &message
        && let ClientRequest::CustomRequest(custom) = &request.request
        && KNOWN.contains(&custom.method.as_str())
    {
        return Err(Fault::parameters(id));
    }
    Ok(Read {
        message,
        text,
        arguments,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Option<(i32, Option<RequestId>)> {
        read(text.as_bytes()).err().map(|fault| (fault.code.0, fault.id))
    }

    #[test]
    fn only_one_well_formed_message_is_taken() {
        let one = || Some(RequestId::Number(1));
        assert_eq!(fault(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#), None);
        assert_eq!(
            fault(r#"{"jsonrpc":"2.0","id":1,"method":"nobody/knows","params":{}}"#),
            None
        );
        for text in [
            "",
            "{",
            "{\"jsonrpc\":\"2.0\",\"jsonrpc\":\"2.0\"}",
            "\u{feff}{}",
            "{} {}",
        ] {
            assert_eq!(fault(text), Some((-32700, None)), "{text}");
        }
        let deep = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"a","arguments":{}1{}}}}}"#,
            "{\"a\":".repeat(100),
            "}".repeat(100)
        );
        assert_eq!(fault(&deep), Some((-32700, None)));
        for text in ["[]", r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, "1", "null", "{}"] {
            assert_eq!(fault(text), Some((-32600, None)), "{text}");
        }
        for text in [
            r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
            r#"{"id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
        ] {
            assert_eq!(fault(text), Some((-32600, one())), "{text}");
        }
        for text in [
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":[]}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#,
        ] {
            assert_eq!(fault(text), Some((-32602, one())), "{text}");
        }
    }

    #[test]
    fn what_is_kept_of_a_message_is_bounded_and_arguments_are_not_kept() {
        let request =
            |method: &str, params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        // Short as a text, and ten times the bound in memory.
        let ballast = format!("[{}0]", "{\"\":0},".repeat(1_000));
        assert!(ballast.len() < 8 << 10);
        let call = |member: &str| request("tools/call", &format!(r#"{{"name":"a","{member}":{{"a":{ballast}}}}}"#));
        let client = r#""clientInfo":{"name":"a","version":"1"}"#;
        for text in [
            request(
                "initialize",
                &format!(
                    r#"{{"protocolVersion":"2025-06-18","capabilities":{{"experimental":{{"a":{{"b":{ballast}}}}}}},{client}}}"#
                ),
            ),
            request(
                "subscriptions/listen",
                &format!(r#"{{"_meta":{{"a":{ballast}}},"notifications":{{}}}}"#),
            ),
            request("tools/list", &format!(r#"{{"arguments":{ballast}}}"#)),
            call("_meta"),
        ] {
            assert_eq!(fault(&text), Some((-32600, Some(RequestId::Number(1)))), "{text}");
        }
        assert_eq!(fault(&call("arguments")), None);
        let notice = call("arguments").replacen(r#""id":1,"#, "", 1);
        assert_eq!(fault(&notice), Some((-32600, None)), "nobody's arguments");
        let icon = format!("data:image/png;base64,{}", "A".repeat(BESIDE_ARGUMENTS_BYTES_MAX));
        let named = format!(r#"{{"name":"a","version":"1","icons":[{{"src":"{icon}"}}]}}"#);
        let params = format!(r#"{{"protocolVersion":"2025-11-25","capabilities":{{}},"clientInfo":{named}}}"#);
        let refused = read(request("initialize", &params).as_bytes()).unwrap_err();
        assert!(refused.message.contains("`clientInfo`"), "{}", refused.message);
        let with = |bytes: usize| request("tools/list", &format!(r#"{{"_meta":{{"a":"{}"}}}}"#, "x".repeat(bytes)));
        assert_eq!(fault(&with(BESIDE_ARGUMENTS_BYTES_MAX - (4 << 10))), None);
        assert!(fault(&with(BESIDE_ARGUMENTS_BYTES_MAX)).is_some());
    }

    #[test]
    fn the_library_sees_no_arguments_and_they_come_along_as_text() {
        let call = |params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        let text = call(r#"{"name":"a","_meta":{"progressToken":7},"arguments":{"b":[1,{"":0}]}}"#);
        let read_it = read(text.as_bytes()).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&read_it.text).unwrap(),
            serde_json::from_str::<Value>(&call(r#"{"name":"a","_meta":{"progressToken":7}}"#)).unwrap()
        );
        assert_eq!(
            read_it.arguments.as_ref().map(Arguments::all),
            Some(r#"{"b":[1,{"":0}]}"#)
        );
        let ClientJsonRpcMessage::Request(request) = read_it.carrying() else {
            panic!("a request")
        };
        let ClientRequest::CallToolRequest(call_of_it) = &request.request else {
            panic!("a call")
        };
        assert_eq!(call_of_it.params.arguments, None);
        let carried = Arguments::of(request.request.extensions()).map(Arguments::all);
        assert_eq!(carried, Some(r#"{"b":[1,{"":0}]}"#));
        for none in [r#"{"name":"a"}"#, r#"{"name":"a","arguments":null}"#] {
            assert!(read(call(none).as_bytes()).unwrap().arguments.is_none(), "{none}");
        }
        // What is no call keeps what it calls arguments.
        let other = r#"{"jsonrpc":"2.0","id":1,"method":"nobody/knows","params":{"arguments":{"b":1}}}"#;
        let other = read(other.as_bytes()).unwrap();
        assert!(other.arguments.is_none() && other.text.contains("arguments"));
    }

    #[test]
    fn an_id_and_a_token_of_progress_are_short() {
        let id = |bytes: usize| format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"ping"}}"#, "x".repeat(bytes));
        assert_eq!(fault(&id(ID_BYTES_MAX)), None);
        assert_eq!(fault(&id(ID_BYTES_MAX + 1)), Some((-32600, None)));
        let token = |bytes: usize| {
            let params = format!(r#"{{"name":"a","_meta":{{"progressToken":"{}"}}}}"#, "x".repeat(bytes));
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#)
        };
        assert_eq!(fault(&token(ID_BYTES_MAX)), None);
        assert_eq!(
            fault(&token(ID_BYTES_MAX + 1)),
            Some((-32600, Some(RequestId::Number(1))))
        );
    }
}
