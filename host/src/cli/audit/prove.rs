//! `aral audit prove` and `check`: receipts, made from the log and checked without it.

use std::path::Path;

use aral_audit::receipt::{Checked, ReceiptError};
use aral_audit::schema::AuditEvent;
use aral_audit::{Part, Salt, check as check_receipt, prove as prove_record};
use aral_contract::failure::chain;
use aral_contract::{Code, Failure};
use serde_json::{Value, json};

use super::verify::is_by_unknown_key;
use super::words;
use super::{folder, trust};
use crate::cli::arguments::audit::{AuditCheck, AuditProve};
use crate::cli::configured::Configured;
use crate::cli::exit::Exit;
use crate::cli::files;
use crate::cli::output::{Done, Output, failure_object};
use crate::cli::text;

pub(super) fn prove(arguments: &AuditProve, configured: &Configured, output: &Output) -> Done {
    let folder = folder(&arguments.place, configured)?;
    let receipt = match prove_record(&folder, arguments.seq) {
        Err(error @ ReceiptError::Damaged { .. }) => {
            let failed = failure(&error);
            output.failure(&failed, &json!({"error": failure_object(&failed)}))?;
            return Ok(Exit::NotAsWritten);
        }
        other => other.map_err(|error| failure(&error))?,
    };
    let document = serde_json::to_string(&receipt).map_err(Failure::internal)?;
    match &arguments.out {
        None => output.part(&format!("{}\n", text::json(&document)))?,
        Some(path) => {
            files::create(path, document.as_bytes())?;
            output.answer(
                &format!("wrote {}: the receipt of record {}", path.display(), arguments.seq),
                &json!({"seq": arguments.seq, "out": path}),
            )?;
        }
    }
    Ok(Exit::Success)
}

pub(super) fn check(arguments: &AuditCheck, configured: &Configured, output: &Output) -> Done {
    let trust = trust(&arguments.trust, configured)?;
    let receipt = files::document(&arguments.receipt)?;
    let checked = match check_receipt(&receipt, &trust) {
        Ok(checked) => checked,
        Err(error) => {
            let reason = chain(&error);
            output.answer(
                &format!("proves nothing: {}", text::line(&reason)),
                &json!({"good": false, "reason": reason}),
            )?;
            if matches!(&error, ReceiptError::Checkpoint(error) if is_by_unknown_key(error)) {
                output.note("hint: if that key is yours, or one that you trust, give it: `--trust KEY.pub.pem`");
            }
            return Ok(Exit::NotAsWritten);
        }
    };
    let parts = [
        ("input", Part::Input, &arguments.input, &arguments.input_salt),
        ("output", Part::Output, &arguments.output, &arguments.output_salt),
    ];
    let mut opened = Vec::new();
    for (name, part, file, salt) in parts {
        if let (Some(file), Some(salt)) = (file, salt) {
            opened.push((name, commits(&checked, part, file, salt)?));
        }
    }
    let good = opened.iter().all(|(_, commits)| *commits);
    output.answer(&shown(&checked, good, &opened), &object(&checked, good, &opened))?;
    Ok(if good { Exit::Success } else { Exit::NotAsWritten })
}

/// Whether the record commits to what is in a file.
fn commits(checked: &Checked, part: Part, file: &Path, salt: &str) -> Result<bool, Failure> {
    let salt: Salt = serde_json::from_value(Value::from(salt))
        .map_err(|_| Failure::new(Code::ConfigInvalid, "a salt is 64 lower-case hex digits"))?;
    let value = files::document(file)?;
    let AuditEvent::Invocation(invocation) = &checked.record.event else {
        return Ok(false);
    };
    let proven = invocation.evidence.as_ref();
    Ok(proven.is_some_and(|proven| proven.commits_to(part, &salt, &value)))
}

fn shown(checked: &Checked, good: bool, opened: &[(&str, bool)]) -> String {
    let mut shown = format!(
        "good         {}\nlog          {}\nrecord       {}\nsigned       {}, for the first {} records\n",
        if good { "yes" } else { "no" },
        checked.log,
        words::line(&checked.record),
        checked.checkpoint.issued_at,
        checked.checkpoint.head.size,
    );
    for (name, commits) in opened {
        let verdict = if *commits { "is the one" } else { "is not the one" };
        shown.push_str(&format!("{name:<13}{verdict}\n"));
    }
    shown
}

fn object(checked: &Checked, good: bool, opened: &[(&str, bool)]) -> Value {
    let mut object = json!({
        "good": good,
        "log": checked.log,
        "record": checked.record,
        "signed_at": checked.checkpoint.issued_at,
        "size": checked.checkpoint.head.size,
    });
    for (name, commits) in opened {
        crate::cli::report::insert(&mut object, name, Value::from(*commits));
    }
    object
}

fn failure(error: &ReceiptError) -> Failure {
    let message = chain(error);
    match error {
        ReceiptError::Unknown { .. } => Failure::new(Code::RecordUnknown, message),
        ReceiptError::NotSigned { .. } => Failure::new(Code::Unavailable, message),
        ReceiptError::Damaged { .. } | ReceiptError::Segment(_) => Failure::new(Code::AuditUnavailable, message),
        ReceiptError::Files(_) => Failure::new(Code::ConfigInvalid, message),
        ReceiptError::TooLarge
        | ReceiptError::Json(_)
        | ReceiptError::Shape(_)
        | ReceiptError::WrongKind(_)
        | ReceiptError::Checkpoint(_)
        | ReceiptError::NotIncluded { .. } => Failure::new(Code::DocumentInvalid, message),
    }
}
