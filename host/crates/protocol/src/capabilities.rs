//! `GET /v1/capabilities` and `/v1/capabilities/{id}`: what the caller may call, and how. The three yeses are asked for each
//! capability, and what they do not give is not shown. Where on this machine a scope reaches is nobody's business here.

use std::sync::Arc;

use aral_capability::{Capability, Registry};
use aral_contract::version::exactly;
use aral_contract::{Failure, Grant, Permission};
use aral_orchestration::{Dispatcher, Session};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use http::header;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::caller::Caller;
use crate::door::Door;
use crate::invoke::{self, Versions};
use crate::openapi::Fields;
use crate::problem::Problem;
use crate::turn::Turn;

/// Capabilities that one page looks at. Stops one request from asking for thousands of decisions.
const EXAMINED_MAX: usize = 200;

/// Where a page begins.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// `next` of the page before.
    after: Option<String>,
}

/// A page of the list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page {
    /// What the caller may call, by name and version.
    capabilities: Vec<Summary>,
    /// Where the next page begins; none: this is the last. A page may be empty and not the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// One capability in the list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Summary {
    /// Its name.
    id: String,
    /// Its version.
    version: String,
    /// One line on it.
    title: String,
    /// What it does and when to use it.
    description: String,
    /// What it may do for this caller, such as `file:read`.
    permissions: Vec<&'static str>,
}

/// One capability.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Details {
    /// What the list has of it.
    #[serde(flatten)]
    #[schema(inline)]
    summary: Summary,
    /// JSON Schema (draft 2020-12) of the input.
    input_schema: Value,
    /// JSON Schema (draft 2020-12) of the output.
    output_schema: Value,
    /// How much one call may use, by the names of the documentation.
    #[schema(value_type = std::collections::BTreeMap<String, u64>)]
    limits: Value,
}

/// List what the caller may call.
#[utoipa::path(
    get,
    path = "/v1/capabilities",
    tag = "capabilities",
    params(Paging, Fields),
    responses(
        (status = 200, description = "A page of the list", body = Page, headers(
            ("RateLimit" = String, description = "What is left of the limits of this caller"),
            ("RateLimit-Policy" = String, description = "What there is of them"),
        ), links(
            ("show" = (
                operation_id = "show",
                parameters(("id" = "$response.body#/capabilities/0/id")),
                description = "How to call the first of the page; the others likewise",
            )),
            ("call" = (
                operation_id = "invoke",
                parameters(("capability" = "$response.body#/capabilities/0/id")),
                description = "Calls the first of the page; the others likewise",
            )),
        )),
        (status = "4XX", response = crate::problem::ProblemResponse),
        (status = "5XX", response = crate::problem::ProblemResponse),
    )
)]
pub(crate) async fn list(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Arc<Caller>>,
    paging: Result<Query<Paging>, QueryRejection>,
) -> Result<Response, Problem> {
    let after = invoke::query(paging)?.after;
    let all = door.shared.dispatcher.registry().list();
    let from = match &after {
        Some(after) => all.partition_point(|one| place(one) <= place_of(after)),
        None => 0,
    };
    let rest = all.get(from..).unwrap_or_default();
    let (page, more) = rest.split_at(rest.len().min(EXAMINED_MAX));
    let (mut capabilities, mut turn) = (Vec::with_capacity(page.len()), Turn::begin());
    for one in page {
        if let Ok(grant) = granted(&door.shared.dispatcher, &caller.session, one) {
            capabilities.push(Summary::new(one, &grant));
        }
        // A page of decisions that nobody made before takes long, and others wait for this thread.
        turn.give_way().await;
    }
    // A session that ends meanwhile may call nothing any more, which says nothing of what the caller may call.
    caller.session.check_issue()?;
    Ok(json(&Page {
        capabilities,
        next: (!more.is_empty())
            .then(|| page.last().map(|last| cursor(last)))
            .flatten(),
    }))
}

/// Show how to call a capability.
#[utoipa::path(
    get,
    path = "/v1/capabilities/{id}",
    tag = "capabilities",
    params(("id" = String, Path, description = "Name of the capability"), Versions, Fields),
    responses(
        (status = 200, description = "How to call it", body = Details, headers(
            ("RateLimit" = String, description = "What is left of the limits of this caller"),
            ("RateLimit-Policy" = String, description = "What there is of them"),
        ), links(
            ("call" = (
                operation_id = "invoke",
                parameters(
                    ("capability" = "$response.body#/id"),
                    ("version" = "={$response.body#/version}"),
                ),
                description = "Calls this version",
            )),
        )),
        (status = "4XX", response = crate::problem::ProblemResponse),
        (status = "5XX", response = crate::problem::ProblemResponse),
    )
)]
pub(crate) async fn show(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Arc<Caller>>,
    id: Result<Path<String>, PathRejection>,
    versions: Result<Query<Versions>, QueryRejection>,
) -> Result<Response, Problem> {
    let id = invoke::capability_of(id)?;
    let version = invoke::query(versions)?.requirement()?;
    let found = door.shared.dispatcher.registry().find(&id, version.as_ref())?;
    let grant = granted(&door.shared.dispatcher, &caller.session, &found)?;
    Ok(json(&Details {
        summary: Summary::new(&found, &grant),
        input_schema: found.entry.input_schema.clone(),
        output_schema: found.entry.output_schema.clone(),
        limits: grant.limits.entries().into_iter().collect(),
    }))
}

/// The three yeses for this very version. Nothing is recorded: nothing was asked for.
pub(crate) fn granted(
    dispatcher: &Dispatcher,
    session: &Session,
    capability: &Capability,
) -> Result<Arc<Grant>, Failure> {
    let version = exactly(&capability.entry.version);
    dispatcher.allowed(session, &capability.entry.id, Some(&version))
}

/// Capabilities in the version that is called if nobody asks for another, by name.
pub(crate) struct Newest {
    pub(crate) capabilities: Vec<Arc<Capability>>,
    /// What to go on after; none: there are no more.
    pub(crate) next: Option<String>,
}

/// A page of them, after that name.
pub(crate) fn newest(registry: &Registry, after: Option<&str>) -> Newest {
    let mut all = registry.list();
    all.dedup_by(|one, before| one.entry.id == before.entry.id);
    let from = after.map_or(0, |after| all.partition_point(|one| one.entry.id.as_str() <= after));
    let rest = all.get(from..).unwrap_or_default();
    let (page, more) = rest.split_at(rest.len().min(EXAMINED_MAX));
    let last = page.last().map(|last| last.entry.id.to_string());
    Newest {
        // What was withdrawn meanwhile is not there.
        capabilities: page
            .iter()
            .filter_map(|one| registry.find(&one.entry.id, None).ok())
            .collect(),
        next: last.filter(|_| !more.is_empty()),
    }
}

impl Summary {
    fn new(capability: &Capability, grant: &Grant) -> Self {
        let entry = &capability.entry;
        Self {
            id: entry.id.to_string(),
            version: entry.version.to_string(),
            title: entry.title.clone(),
            description: entry.description.clone(),
            permissions: grant
                .permissions
                .present()
                .into_iter()
                .map(Permission::as_str)
                .collect(),
        }
    }
}

fn cursor(capability: &Capability) -> String {
    format!("{}@{}", capability.entry.id, capability.entry.version)
}

/// What the list is ordered by.
fn place(capability: &Capability) -> (&str, Option<semver::Version>) {
    (capability.entry.id.as_str(), Some(capability.entry.version.clone()))
}

/// The place that a cursor names, whether or not something is there still.
fn place_of(cursor: &str) -> (&str, Option<semver::Version>) {
    let (id, version) = cursor.split_once('@').unwrap_or((cursor, ""));
    (id, version.parse().ok())
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => Problem::from(Failure::internal(error)).into_response(),
    }
}
