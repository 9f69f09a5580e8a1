//! What the server answers to the methods of MCP: who it is, which tools there are, what a call came to, and that the list of
//! tools is another one now.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use aral_contract::document::json::object_memory_bytes;
use aral_contract::{Code, Failure, TraceContext, TraceId};
use aral_orchestration::Session;
use aral_runtime::entropy;
use futures::FutureExt as _;
use http::request::Parts;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, Extensions, Implementation, ListToolsResult, PaginatedRequestParams,
    ServerCapabilities, ServerConfig, SubscriptionFilter,
};
use rmcp::service::{NotificationContext, RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde::Serialize;
use tokio_util::task::AbortOnDropHandle;

use super::call::Caller;
use super::message::data;
use super::stdio::Paths;
use super::{News, Toolbox, tool};
use crate::bounds::Bounds;
use crate::capabilities;
use crate::limit::Reservation;
use crate::request_place::RequestPlace;
use crate::turn::Turn;

/// One conversation: a session over HTTP, a request without one, or a process with its standard input.
pub(super) struct Handler {
    news: News,
    /// For whom calls are made that come over no network, and with what; none: every request says it.
    local: Option<Local>,
    /// Sends news as long as the conversation lasts.
    sends: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// Whoever started this process.
pub(super) struct Local {
    pub(super) session: Session,
    pub(super) paths: Arc<dyn Paths>,
    pub(super) bounds: Bounds,
}

impl Handler {
    /// For requests that the server has found the caller of.
    pub(super) fn new(news: News) -> Self {
        Self {
            news,
            local: None,
            sends: Mutex::default(),
        }
    }

    /// For whoever started this process.
    pub(super) fn local(news: News, local: Local) -> Self {
        Self {
            local: Some(local),
            ..Self::new(news)
        }
    }

    /// Under the configuration that the request was let in under, also in a session that began under another.
    fn caller(&self, extensions: &Extensions) -> Result<Caller, ErrorData> {
        let parts = extensions.get::<Parts>().map(|parts| &parts.extensions);
        let context = parts.and_then(|parts| parts.get::<TraceContext>()).cloned();
        // One that came over no network gets its name here.
        let context = context.unwrap_or_else(|| TraceContext::begin(entropy::trace_id()));
        let named = parts.and_then(|parts| {
            let caller = parts.get::<Arc<crate::caller::Caller>>()?;
            Some((caller.session.clone(), parts.get::<Toolbox>()?.clone()))
        });
        let local = || {
            let local = self.local.as_ref()?;
            let (dispatcher, session) = local.paths.in_force(&local.session);
            Some((session, Toolbox::new(dispatcher, &local.bounds)))
        };
        let (session, toolbox) = named.or_else(local).ok_or_else(|| failed(context.trace))?;
        let place = parts.and_then(|parts| parts.get::<RequestPlace>());
        Ok(Caller {
            reservation: parts.and_then(|parts| parts.get::<Arc<Reservation>>()).cloned(),
            // Over no network there are no parts.
            place: place.or_else(|| extensions.get::<RequestPlace>()).cloned(),
            session,
            context,
            toolbox,
        })
    }
}

/// A page of the tools of a caller.
///
/// # Errors
/// `document.stale` if the session of the caller has ended.
async fn list(caller: &Caller, after: Option<&str>) -> Result<ListToolsResult, Failure> {
    let dispatcher = &caller.toolbox.dispatcher;
    let page = capabilities::newest(dispatcher.registry(), after);
    let (mut tools, mut turn) = (Vec::with_capacity(page.capabilities.len()), Turn::begin());
    for one in &page.capabilities {
        if let Ok(grant) = capabilities::granted(dispatcher, &caller.session, one) {
            tools.push(tool::tool(&one.entry, &grant));
        }
        // As in the list of capabilities.
        turn.give_way().await;
    }
    caller.session.check_issue()?;
    let mut result = ListToolsResult::with_all_items(tools);
    result.next_cursor = page.next;
    Ok(result)
}

/// What a page takes until it is text, in bytes: its texts, and what its schemas are in memory, which is many times their text.
fn weight(page: &ListToolsResult) -> u64 {
    let objects = page.tools.iter().flat_map(|tool| {
        let meta = tool.meta.as_ref().map(|meta| &meta.0);
        [Some(&*tool.input_schema), tool.output_schema.as_deref(), meta]
    });
    let memory = objects
        .flatten()
        .map(object_memory_bytes)
        .fold(0, usize::saturating_add);
    written(page).saturating_add(u64::try_from(memory).unwrap_or(u64::MAX))
}

/// How many bytes something has as JSON.
pub(super) fn written(value: &impl Serialize) -> u64 {
    struct Count(u64);

    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut count = Count(0);
    let _counting_never_fails = serde_json::to_writer(&mut count, value);
    count.0
}

/// What a caller learns of a fault of the host.
fn failed(trace: TraceId) -> ErrorData {
    ErrorData::internal_error("the host failed", Some(data(Code::Internal.as_str(), trace)))
}

/// A panic fails one request. Without this, nobody would ever answer it.
async fn unwinding<T>(trace: TraceId, answer: impl Future<Output = Result<T, ErrorData>>) -> Result<T, ErrorData> {
    let answered = AssertUnwindSafe(answer).catch_unwind().await;
    answered.unwrap_or_else(|_panic| {
        tracing::error!(%trace, "a request panicked");
        Err(failed(trace))
    })
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("aral", env!("CARGO_PKG_VERSION")).with_title("Aral"))
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let caller = self.caller(&context.extensions)?;
        let after = request.and_then(|request| request.cursor);
        unwinding(caller.context.trace, async {
            let listed = list(&caller, after.as_deref()).await.and_then(|listed| {
                let place = caller.place.as_ref();
                place.map_or(Ok(()), |place| place.weigh(weight(&listed)))?;
                Ok(listed)
            });
            listed.map_err(|failure| {
                let data = data(failure.code.as_str(), caller.context.trace);
                let hint = failure.hint.map(|hint| format!(": {hint}")).unwrap_or_default();
                ErrorData::internal_error(format!("{}{hint}", failure.message), Some(data))
            })
        })
        .await
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let caller = self.caller(&context.extensions)?;
        let call = caller.call(&request.name, &context);
        unwinding(caller.context.trace, call).await.map(CallToolResponse::from)
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        let mut changes = self.news.changes.clone();
        // The rest of the request, with its place, ends here.
        let peer = context.peer;
        let sends = tokio::spawn(async move {
            while changes.changed().await.is_ok() && peer.notify_tool_list_changed().await.is_ok() {}
        });
        *self.sends.lock().unwrap_or_else(PoisonError::into_inner) = Some(AbortOnDropHandle::new(sends));
    }

    fn accepted_subscription_filter(&self, _requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(SubscriptionFilter::builder().tools_list_changed().build())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.news.changes.clone();
        // Who did not ask for the one thing that there is to hear waits for the end: the answer would say that the server ends.
        let hears = context.accepted().tools_list_changed == Some(true);
        loop {
            tokio::select! {
                () = context.cancelled() => return Ok(()),
                () = self.news.draining.cancelled() => return Ok(()),
                changed = changes.changed(), if hears => {
                    if changed.is_err() || context.sink().notify_tool_list_changed().await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use aral_contract::document::json::memory_bytes;
    use rmcp::model::{JsonObject, Tool};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_page_of_tools_weighs_what_its_schemas_take_in_memory() {
        let schema = json!({ "anyOf": vec![json!({ "type": "string" }); 100] });
        let Value::Object(members) = schema.clone() else {
            panic!("{schema}");
        };
        let page = |input: JsonObject, output: JsonObject| {
            let tool = Tool::new("name", "words", Arc::new(input)).with_raw_output_schema(Arc::new(output));
            weight(&ListToolsResult::with_all_items(vec![tool]))
        };
        let none = JsonObject::new;
        let memory = u64::try_from(memory_bytes(&schema)).unwrap();
        assert!(memory > 10 * written(&schema));
        for weighs in [page(members.clone(), none()), page(none(), members.clone())] {
            assert!(weighs > memory, "{weighs}");
        }
        assert!(page(members.clone(), members) > 2 * memory);
    }
}
