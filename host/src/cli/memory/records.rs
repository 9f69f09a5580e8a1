//! `aral memory get`, `put`, `delete` and `list`.

use aral_contract::{Code, Failure};
use aral_host::operator as verb;
use aral_memory::record::VALUE_BYTES_MAX;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::arguments::storage::{MemoryDelete, MemoryGet, MemoryList, MemoryPut};
use crate::cli::desk::Desk;
use crate::cli::exit::Exit;
use crate::cli::output::{Done, Output, Stop, failure_object};
use crate::cli::{text, value};

pub(super) fn get(arguments: &MemoryGet, desk: &mut Desk, output: &Output) -> Done {
    let (namespace, name) = (&arguments.namespace, &arguments.name);
    let found = desk.act(verb::MemoryGet {
        namespace: namespace.clone(),
        name: name.as_str().to_owned(),
        reveal: arguments.show.reveal || arguments.show.out.is_some(),
    })?;
    let Some(record) = found else {
        let message = format!("there is no record `{}` in `{namespace}`", text::line(name.as_str()));
        return Err(Failure::new(Code::RecordUnknown, message)
            .with_hint(format!("what there is: `aral memory list {namespace}`"))
            .into());
    };
    let expires = record.expires_at.map(|at| at.to_string());
    let facts = format!(
        "namespace       {namespace}\nname            {}\nsize            {} bytes\nversion         {}\nclassification  {}\nexpires         {}",
        text::line(name.as_str()),
        record.bytes,
        record.version,
        record.classification,
        expires.as_deref().unwrap_or("never"),
    );
    let object = json!({
        "namespace": namespace,
        "name": name.as_str(),
        "bytes": record.bytes,
        "version": record.version,
        "classification": record.classification,
        "expires_at": expires,
    });
    let value = record.value.as_ref().map(verb::Hidden::expose).unwrap_or_default();
    value::show(&arguments.show, value, &facts, object, output)?;
    Ok(Exit::Success)
}

/// The value to write, as large as the store takes.
pub(super) fn value(arguments: &MemoryPut) -> Result<Zeroizing<Vec<u8>>, Failure> {
    value::read(arguments.value.as_deref(), "value", VALUE_BYTES_MAX)
}

pub(super) fn put(arguments: &MemoryPut, value: Zeroizing<Vec<u8>>, desk: &mut Desk, output: &Output) -> Done {
    let (namespace, name) = (&arguments.namespace, &arguments.name);
    let bytes = value.len();
    let changed = desk.act(verb::MemoryPut {
        namespace: namespace.clone(),
        name: name.as_str().to_owned(),
        value: verb::Hidden::new(value),
        ttl_seconds: arguments.ttl,
        classification: arguments.classification,
        if_absent: arguments.if_absent,
        if_version: arguments.if_version,
    })?;
    let written = changed.done;
    let exit = output.changed(
        &format!(
            "wrote {} in {namespace}: {bytes} bytes, version {}, {}",
            text::line(name.as_str()),
            written.version,
            written.classification
        ),
        json!({
            "namespace": namespace,
            "name": name.as_str(),
            "bytes": bytes,
            "version": written.version,
            "classification": written.classification,
            "ttl_seconds": arguments.ttl,
            "expiry_lost": written.expiry_lost,
        }),
        changed.unrecorded.as_deref(),
    )?;
    if let Some(was) = written.expiry_lost {
        output.warn(&format!(
            "what was there before was to be gone at {was}, and this stays: if it is to be gone too, write it again with `--ttl SECONDS`"
        ));
    }
    Ok(exit)
}

pub(super) fn delete(arguments: &MemoryDelete, desk: &mut Desk, output: &Output) -> Done {
    let (namespace, name) = (&arguments.namespace, &arguments.name);
    let changed = desk.act(verb::MemoryDelete {
        namespace: namespace.clone(),
        name: name.as_str().to_owned(),
        if_version: arguments.if_version,
    })?;
    let was = changed.done;
    let shown = text::line(name.as_str());
    let words = match was {
        Some(was) => format!("deleted {shown} in {namespace}, which was {was}; its key is destroyed"),
        None => format!("there was no {shown} in {namespace}"),
    };
    output.changed(
        &words,
        json!({"namespace": namespace, "name": name.as_str(), "deleted": was.is_some(), "classification": was}),
        changed.unrecorded.as_deref(),
    )
}

/// Page by page: a namespace may hold more names than memory does.
pub(super) fn list(arguments: &MemoryList, desk: &mut Desk, output: &Output) -> Done {
    let mut page = |cursor: Option<String>| {
        desk.act(verb::MemoryList {
            namespace: arguments.namespace.clone(),
            prefix: arguments.prefix.clone(),
            cursor,
        })
    };
    // The first one before anything is shown: what fails, mostly fails at once.
    let mut next = page(None)?;
    let mut listing = Listing::begin(arguments, output)?;
    loop {
        for name in &next.names {
            listing.name(name)?;
        }
        next = match next.cursor.map(|cursor| page(Some(cursor))) {
            None => break,
            Some(Ok(page)) => page,
            Some(Err(failure)) => return listing.broken(failure),
        };
    }
    listing.end()?;
    Ok(Exit::Success)
}

/// Names as they come: lines, or the parts of one JSON object.
struct Listing<'a> {
    output: &'a Output,
    count: u64,
}

impl<'a> Listing<'a> {
    fn begin(arguments: &MemoryList, output: &'a Output) -> Result<Self, Stop> {
        if output.json {
            let namespace = json!(arguments.namespace);
            output.part(&format!("{{\"namespace\":{namespace},\"names\":["))?;
        }
        Ok(Self { output, count: 0 })
    }

    fn name(&mut self, name: &str) -> Result<(), Stop> {
        self.count = self.count.saturating_add(1);
        if self.output.json {
            let comma = if self.count > 1 { "," } else { "" };
            return self
                .output
                .part(&format!("{comma}{}", text::json(&Value::from(name).to_string())));
        }
        self.output.part(&format!("{}\n", text::line(name)))
    }

    fn end(self) -> Result<(), Stop> {
        if self.output.json {
            return self.output.part(&format!("],\"count\":{}}}\n", self.count));
        }
        self.output.note(&format!("{} names", self.count));
        Ok(())
    }

    /// What was shown is not all there is, and says so.
    fn broken(self, failure: Failure) -> Done {
        if !self.output.json {
            return Err(failure.into());
        }
        let error = text::json(&failure_object(&failure).to_string()).into_owned();
        self.output.part(&format!("],\"error\":{error}}}\n"))?;
        Ok(Exit::of(failure.code))
    }
}
