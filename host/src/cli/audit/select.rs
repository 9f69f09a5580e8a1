//! `aral audit query` and `export`: the records that somebody asks for, read from oldest to newest, one at a time.

use aral_audit::{Filter, query as records};
use aral_contract::Clock as _;
use aral_runtime::SystemClock;
use serde_json::json;

use super::{folder, read_failure, words};
use crate::cli::arguments::audit::{AuditExport, AuditQuery, Which};
use crate::cli::configured::Configured;
use crate::cli::exit::Exit;
use crate::cli::files;
use crate::cli::output::{Done, Output, failure_object};
use crate::cli::text;

/// What the options restrict.
fn filter(which: &Which) -> Filter {
    let now = SystemClock::new().now();
    Filter {
        since: which.since.map(|when| when.moment(now)),
        until: which.until.map(|when| when.moment(now)),
        trace: which.trace,
        persona: which.persona.clone(),
        capability: which.capability.clone(),
        kind: which.kind.clone(),
        severity: which.severity,
    }
}

pub(super) fn query(arguments: &AuditQuery, configured: &Configured, output: &Output) -> Done {
    let folder = folder(&arguments.place, configured)?;
    let found = records(&folder, filter(&arguments.which)).map_err(|error| read_failure(&error))?;
    if output.json {
        output.part("{\"records\":[")?;
    }
    let (mut count, mut broken, mut cut) = (0u64, None, false);
    for found in found {
        let (entry, record) = match found {
            Ok(found) => found,
            Err(error) => {
                broken = Some(read_failure(&error));
                break;
            }
        };
        if count == arguments.limit {
            cut = true;
            break;
        }
        let comma = if count > 0 { "," } else { "" };
        count = count.saturating_add(1);
        if output.json {
            output.part(&format!("{comma}{}", text::json(&String::from_utf8_lossy(&entry.line))))?;
        } else {
            output.part(&format!("{}\n", words::line(&record)))?;
        }
    }
    if output.json {
        let error = broken.as_ref().map(failure_object);
        let end = json!({"count": count, "cut": cut, "error": error}).to_string();
        output.part(&format!("],{}\n", text::json(end.trim_start_matches('{'))))?;
        return Ok(broken.map_or(Exit::Success, |failure| Exit::of(failure.code)));
    }
    match broken {
        Some(failure) => Err(failure.into()),
        None => {
            let more = if cut { "; there are more, see `--limit`" } else { "" };
            output.note(&format!("{count} records{more}"));
            Ok(Exit::Success)
        }
    }
}

/// Byte for byte, so that each line has the leaf that the log has.
pub(super) fn export(arguments: &AuditExport, configured: &Configured, output: &Output) -> Done {
    let folder = folder(&arguments.place, configured)?;
    let found = records(&folder, filter(&arguments.which)).map_err(|error| read_failure(&error))?;
    let count = files::stream_private(&arguments.out, |put| {
        let mut count = 0u64;
        for found in found {
            let (entry, _) = found.map_err(|error| read_failure(&error))?;
            put(&entry.line)?;
            put(b"\n")?;
            count = count.saturating_add(1);
        }
        Ok(count)
    })?;
    output.answer(
        &format!("wrote {} (mode 0600): {count} records", arguments.out.display()),
        &json!({"out": arguments.out, "records": count}),
    )?;
    Ok(Exit::Success)
}
