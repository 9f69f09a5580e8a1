//! `aral secret`: where secrets are, and storing them there. Values come in unseen and go out with `--reveal` alone.

use std::sync::Arc;

use aral_contract::event::SecretOperation;
use aral_contract::id::SecretName;
use aral_contract::secret::SECRET_BYTES_MAX;
use aral_contract::{Clock, Code, EventKind, Failure, SecretError, SecretValue};
use aral_host::Storage;
use aral_host::storage::{secret_failure, store_failure};
use aral_memory::Secrets;
use aral_memory::sealed::SealedStore;
use aral_runtime::SystemClock;
use serde_json::{Value, json};

use super::arguments::storage::{Secret, SecretGet, SecretPut};
use super::configured::Configured;
use super::exit::Exit;
use super::output::{Done, Output, Stop, failure_object};
use super::trail::Trail;
use super::{session, text, value};

/// Secrets in one page of a listing.
const PAGE_MAX: usize = 1000;

pub(crate) fn run(verb: &Secret, configured: &Configured, output: &Output) -> Done {
    match verb {
        Secret::Get(arguments) => get(arguments, &Opened::new(configured, Some(&arguments.name))?, output),
        Secret::Put(arguments) => {
            let value = new_value(arguments)?;
            let opened = Opened::new(configured, Some(&arguments.name))?;
            let written = session::block_on(opened.secrets.put(&arguments.name, &value))?;
            stored(arguments, &opened, written, "stored", output)
        }
        Secret::Rotate(arguments) => {
            let value = new_value(arguments)?;
            let opened = Opened::new(configured, Some(&arguments.name))?;
            let written = session::block_on(opened.secrets.rotate(&arguments.name, &value))?;
            stored(arguments, &opened, written, "rotated", output)
        }
        Secret::List => list(&Opened::new(configured, None)?, output),
    }
}

/// Secrets by name, with the store behind them if that is needed.
struct Opened {
    secrets: Secrets,
    trail: Trail,
    _store: Option<SealedStore>,
}

impl Opened {
    /// The store is opened for a secret that lies in it, and for a listing: others work beside a host that has it open.
    fn new(configured: &Configured, name: Option<&SecretName>) -> Result<Self, Failure> {
        let config = &configured.config;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let storage = Storage::new(config, Arc::clone(&clock))?;
        let elsewhere = |name| {
            let names = config.secrets.as_ref().map(|secrets| &secrets.names);
            let reference = names.and_then(|names| names.get(name));
            reference.is_some_and(|reference| !matches!(reference, aral_contract::SecretReference::Local { .. }))
        };
        let needed = config.memory.is_some() && !name.is_some_and(elsewhere);
        let store = needed.then(|| storage.open()).transpose()?;
        let local = store.as_ref().map(SealedStore::secrets);
        let secrets = storage.secrets(local)?.ok_or_else(|| {
            Failure::new(
                Code::ConfigInvalid,
                "there is no place for secrets: the configuration has neither [memory] nor [secrets]",
            )
            .with_hint("`aral memory keygen master.key`, then in aral.toml: [memory.master_key] file = \"master.key\"")
        })?;
        Ok(Self {
            secrets,
            trail: Trail::open(config, &clock)?,
            _store: store,
        })
    }

    fn note(&self, secret: &SecretName, operation: SecretOperation, refused: Option<&SecretError>) {
        self.trail.record(EventKind::SecretAccess {
            capability: None,
            secret: secret.clone(),
            operation,
            target: None,
            refused: refused.map(ToString::to_string),
        });
    }
}

fn get(arguments: &SecretGet, opened: &Opened, output: &Output) -> Done {
    let name = &arguments.name;
    let reference = opened.secrets.reference(name).ok_or_else(|| {
        Failure::new(Code::RecordUnknown, format!("there is no secret `{name}`")).with_hint(format!(
            "aral.toml: [secrets.names] {name} = \"vault://MOUNT/PATH#FIELD\""
        ))
    })?;
    let facts = format!("secret     {name}\nreference  {reference}");
    let object = json!({"name": name, "reference": reference});
    if !arguments.show.reveal && arguments.show.out.is_none() {
        value::show(&arguments.show, &[], &facts, object, output)?;
        return Ok(Exit::Success);
    }
    let read = session::block_on(opened.secrets.get(name))?;
    opened.note(name, SecretOperation::Reveal, read.as_ref().err());
    let value = read.map_err(|error| secret_failure(&error))?;
    value::show(&arguments.show, value.expose(), &facts, object, output)?;
    Ok(Exit::Success)
}

fn new_value(arguments: &SecretPut) -> Result<SecretValue, Failure> {
    // With room for the line end that is taken off.
    let value = value::read(arguments.value.as_deref(), "secret", SECRET_BYTES_MAX.saturating_add(2))?;
    let mut value = if arguments.exact {
        value
    } else {
        value::without_line_end(value)
    };
    Ok(SecretValue::new(std::mem::take(&mut *value)))
}

fn stored(
    arguments: &SecretPut,
    opened: &Opened,
    written: Result<aral_contract::SecretReference, SecretError>,
    verb: &str,
    output: &Output,
) -> Done {
    let name = &arguments.name;
    opened.note(name, SecretOperation::Write, written.as_ref().err());
    let reference = written.map_err(|error| secret_failure(&error))?;
    output.answer(
        &format!("{verb} {name} at {reference}"),
        &json!({"name": name, "reference": reference}),
    )?;
    Ok(Exit::Success)
}

/// Page by page: a store may hold more than memory does.
fn list(opened: &Opened, output: &Output) -> Done {
    let page = |cursor: Option<&str>| session::block_on(opened.secrets.list(cursor, PAGE_MAX))?.map_err(store_failure);
    let mut next = page(None)?;
    if output.json {
        output.part("{\"secrets\":[")?;
    }
    let mut first = true;
    loop {
        for place in &next.secrets {
            show(place, std::mem::take(&mut first), output)?;
        }
        next = match next.cursor.as_deref().map(|cursor| page(Some(cursor))) {
            None => break,
            Some(Ok(page)) => page,
            Some(Err(failure)) if output.json => {
                let error = failure_object(&failure);
                output.part(&text::json(&format!("],\"error\":{error}}}\n")))?;
                return Ok(Exit::of(failure.code));
            }
            Some(Err(failure)) => return Err(failure.into()),
        };
    }
    if output.json {
        output.part("]}\n")?;
    }
    Ok(Exit::Success)
}

fn show(place: &aral_memory::SecretPlace, first: bool, output: &Output) -> Result<(), Stop> {
    if !output.json {
        return output.part(&format!("{}  {}\n", place.name, place.reference));
    }
    let object: Value = json!({"name": place.name, "reference": place.reference});
    output.part(&format!("{}{object}", if first { "" } else { "," }))
}
