//! `aral memory get`, `put`, `delete` and `list`.

use aral_contract::event::DataOperation;
use aral_contract::{Classification, Code, Failure};
use aral_memory::record::{PAGE_NAMES_MAX, VALUE_BYTES_MAX};
use aral_memory::{Page, Precondition, Quota, Write};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Opened;
use crate::cli::arguments::storage::{MemoryDelete, MemoryGet, MemoryList, MemoryPut};
use crate::cli::exit::Exit;
use crate::cli::output::{Done, Output, Stop, failure_object};
use crate::cli::{text, value};

pub(super) fn get(arguments: &MemoryGet, opened: &Opened, output: &Output) -> Done {
    let (namespace, name) = (&arguments.namespace, &arguments.name);
    let found = opened.noting(
        opened.records.get(namespace, name),
        namespace,
        Some(name),
        DataOperation::Read,
        |found| {
            found.as_ref().map_or((None, 0), |record| {
                (Some(record.classification), record.value.len() as u64)
            })
        },
    )?;
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
        record.value.len(),
        record.version,
        record.classification,
        expires.as_deref().unwrap_or("never"),
    );
    let object = json!({
        "namespace": namespace,
        "name": name.as_str(),
        "bytes": record.value.len(),
        "version": record.version,
        "classification": record.classification,
        "expires_at": expires,
    });
    value::show(&arguments.show, &record.value, &facts, object, output)?;
    Ok(Exit::Success)
}

/// The value to write, as large as the store takes.
pub(super) fn value(arguments: &MemoryPut) -> Result<Zeroizing<Vec<u8>>, Failure> {
    value::read(arguments.value.as_deref(), "value", VALUE_BYTES_MAX)
}

pub(super) fn put(arguments: &MemoryPut, value: Zeroizing<Vec<u8>>, opened: &Opened, output: &Output) -> Done {
    let (namespace, name) = (&arguments.namespace, &arguments.name);
    let bytes = value.len();
    let write = Write {
        name: name.clone(),
        value,
        ttl_seconds: arguments.ttl,
        classification: arguments.classification,
        precondition: match arguments.if_version {
            Some(version) => Precondition::Version(version),
            None if arguments.if_absent => Precondition::Absent,
            None => Precondition::Any,
        },
    };
    let version = opened.noting(
        opened.records.put(namespace, write, &Quota::UNLIMITED),
        namespace,
        Some(name),
        DataOperation::Write,
        |_version| (Some(arguments.classification), bytes as u64),
    )?;
    output.answer(
        &format!(
            "wrote {} in {namespace}: {bytes} bytes, version {version}, {}",
            text::line(name.as_str()),
            arguments.classification
        ),
        &json!({
            "namespace": namespace,
            "name": name.as_str(),
            "bytes": bytes,
            "version": version,
            "classification": arguments.classification,
            "ttl_seconds": arguments.ttl,
        }),
    )?;
    Ok(Exit::Success)
}

pub(super) fn delete(arguments: &MemoryDelete, opened: &Opened, output: &Output) -> Done {
    let (namespace, name) = (&arguments.namespace, &arguments.name);
    let precondition = arguments.if_version.map_or(Precondition::Any, Precondition::Version);
    let was: Option<Classification> = opened.noting(
        opened.records.delete(namespace, name, precondition),
        namespace,
        Some(name),
        DataOperation::Delete,
        |was| (*was, 0),
    )?;
    let shown = text::line(name.as_str());
    let words = match was {
        Some(was) => format!("deleted {shown} in {namespace}, which was {was}; its key is destroyed"),
        None => format!("there was no {shown} in {namespace}"),
    };
    output.answer(
        &words,
        &json!({"namespace": namespace, "name": name.as_str(), "deleted": was.is_some(), "classification": was}),
    )?;
    Ok(Exit::Success)
}

/// Page by page: a namespace may hold more names than memory does.
pub(super) fn list(arguments: &MemoryList, opened: &Opened, output: &Output) -> Done {
    let page = |cursor: Option<&str>| -> Result<Page, Failure> {
        let (namespace, prefix) = (&arguments.namespace, &arguments.prefix);
        opened.noting(
            opened.records.list(namespace, prefix, cursor, PAGE_NAMES_MAX),
            namespace,
            None,
            DataOperation::List,
            |page| (None, page.names.len() as u64),
        )
    };
    // The first one before anything is shown: what fails, mostly fails at once.
    let mut next = page(None)?;
    let mut listing = Listing::begin(arguments, output)?;
    loop {
        for name in &next.names {
            listing.name(name.as_str())?;
        }
        next = match next.cursor.as_deref().map(|cursor| page(Some(cursor))) {
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
