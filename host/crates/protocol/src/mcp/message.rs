//! Reads one message of JSON-RPC 2.0, as strictly as everything else here is read: no name twice, no deep nesting, no batch.

use aral_contract::TraceId;
use aral_contract::document::json;
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, ErrorCode, ErrorData, JsonRpcError, RequestId};
use serde_json::Value;

/// Methods whose parameters are known here. The library takes them with others for methods that nobody knows.
const KNOWN: [&str; 6] = [
    "initialize",
    "ping",
    "server/discover",
    "subscriptions/listen",
    "tools/call",
    "tools/list",
];

/// Why something is no message. It becomes an error of JSON-RPC, since no method has been asked for yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    id: Option<RequestId>,
    code: ErrorCode,
    message: String,
}

impl Fault {
    fn request(id: Option<RequestId>, message: &str) -> Self {
        Self {
            id,
            code: ErrorCode::INVALID_REQUEST,
            message: message.to_owned(),
        }
    }

    /// Something that is longer than this.
    pub(super) fn too_long(bytes_max: usize) -> Self {
        Self::request(None, &format!("the message has more than {bytes_max} bytes"))
    }

    /// A request whose id is that of another one, which has no answer yet.
    pub(super) fn twice(id: RequestId) -> Self {
        Self::request(Some(id), "a request with this id is under way in the session")
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
        Some(Self {
            id: Some(request.id.clone()),
            code,
            message: message.to_owned(),
        })
    }

    /// Something that is no text.
    pub(super) fn no_text() -> Self {
        Self {
            id: None,
            code: ErrorCode::PARSE_ERROR,
            message: "the message is not UTF-8".to_owned(),
        }
    }

    /// The answer.
    pub(super) fn error(self, trace: TraceId) -> JsonRpcError {
        let data = data("request.invalid", trace);
        JsonRpcError::new(self.id, ErrorData::new(self.code, self.message, Some(data)))
    }
}

/// What every error of JSON-RPC says besides its words.
pub(super) fn data(code: &str, trace: TraceId) -> Value {
    serde_json::json!({ "code": code, "trace_id": trace.to_string() })
}

/// The message.
pub(super) fn read(bytes: &[u8]) -> Result<ClientJsonRpcMessage, Fault> {
    let value = json::parse(bytes).map_err(|error| Fault {
        id: None,
        code: ErrorCode::PARSE_ERROR,
        message: error.to_string(),
    })?;
    if value.is_array() {
        return Err(Fault::request(
            None,
            "batches are not taken: send one message at a time",
        ));
    }
    let id = value.get("id").cloned().and_then(|id| serde_json::from_value(id).ok());
    let is_version = value.get("jsonrpc").and_then(Value::as_str) == Some("2.0");
    if !is_version {
        return Err(Fault::request(id, "this is not JSON-RPC 2.0"));
    }
    let message: ClientJsonRpcMessage = serde_json::from_value(value)
        .map_err(|_shape| Fault::request(id.clone(), "this is no request, notification or answer"))?;
    if let ClientJsonRpcMessage::Request(request) = &message
        && let ClientRequest::CustomRequest(custom) = &request.request
        && KNOWN.contains(&custom.method.as_str())
    {
        return Err(Fault {
            id,
            code: ErrorCode::INVALID_PARAMS,
            message: "the parameters are not those of the method".to_owned(),
        });
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_well_formed_message_is_taken() {
        let fault = |text: &str| read(text.as_bytes()).err().map(|fault| (fault.code.0, fault.id));
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
}
