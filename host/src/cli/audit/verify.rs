//! `aral audit verify` and `checkpoint`.

use std::path::{Path, PathBuf};

use aral_audit::receipt::RECEIPT_BYTES_MAX;
use aral_audit::verify::{Finding, Tail, TakenOver, VerifyError, What};
use aral_audit::{Checkpoint, Report, newest_checkpoint, verify};
use aral_contract::document::{DocumentError, TrustStore, json as strict};
use aral_contract::failure::chain;
use aral_contract::{Code, Failure};
use aral_runtime::files as machine_files;
use serde_json::{Value, json};

use super::{folder, places, trust};
use crate::cli::arguments::audit::{AuditCheckpoint, AuditVerify};
use crate::cli::configured::Configured;
use crate::cli::exit::Exit;
use crate::cli::files;
use crate::cli::output::{Done, Output};
use crate::cli::text;

/// What to do where nobody trusts the key of a checkpoint.
const TRUST_IT: &str = "trust the key that signed it: `--trust KEY.pub.pem`";

pub(super) fn run(arguments: &AuditVerify, configured: &Configured, output: &Output) -> Done {
    let folder = folder(&arguments.place, configured)?;
    let trust = trust(&arguments.trust, configured)?;
    let mut anchors = arguments
        .anchor
        .iter()
        .map(|path| anchor(path, &trust))
        .collect::<Result<Vec<_>, _>>()?;
    // Read before the log, so that a host that writes meanwhile has signed for no more than is read.
    let own = own_anchor(&folder, &trust, configured, output)?;
    let own = own.map(|(path, checkpoint)| {
        anchors.push(checkpoint);
        path
    });
    let report = verify(&folder, &trust, &anchors).map_err(|error| failure(&error))?;
    output.answer(
        &shown(&folder, &report, own.as_deref()),
        &object(&folder, &report, own.as_deref()),
    )?;
    if report.finding.as_ref().and_then(by_unknown_key).is_some() {
        output
            .note("hint: if that key is yours, give it and every other one that signed the log: `--trust KEY.pub.pem`");
    }
    Ok(if report.is_good() {
        Exit::Success
    } else {
        Exit::NotAsWritten
    })
}

/// Prints the newest checkpoint in its canonical form, in either form of output: it is a document.
pub(super) fn checkpoint(arguments: &AuditCheckpoint, configured: &Configured, output: &Output) -> Done {
    let folder = folder(&arguments.place, configured)?;
    let trust = trust(&arguments.trust, configured)?;
    let newest = newest_checkpoint(&folder, &trust).map_err(|error| failure(&error))?;
    let checkpoint = newest.ok_or_else(|| {
        Failure::new(Code::RecordUnknown, "the log has no checkpoint yet").with_hint("try again in a second")
    })?;
    output.part(&text::json(&String::from_utf8_lossy(&checkpoint.document)))?;
    output.part("\n")?;
    output.note(&format!(
        "hint: keep it where the log is not; `aral audit verify --anchor FILE` then shows whether the first {} records are still there",
        checkpoint.head.size
    ));
    Ok(Exit::Success)
}

/// What the host of the configuration keeps in its folder of state of the log that is verified: its newest checkpoint, and where.
fn own_anchor(
    folder: &Path,
    trust: &TrustStore,
    configured: &Configured,
    output: &Output,
) -> Result<Option<(PathBuf, Vec<u8>)>, Failure> {
    let Some(places) = places(configured)? else {
        return Ok(None);
    };
    let is_same = machine_files::is_same(folder, &places.dir);
    let Some(head) = places.head.filter(|head| is_same && !files::is_absent(head)) else {
        return Ok(None);
    };
    let unusable = |why: String| {
        output.warn(&format!(
            "the log is not compared with `{}`, where its host keeps the newest checkpoint: {why}",
            head.display()
        ));
        Ok(None)
    };
    let document = match files::document(&head) {
        Ok(document) => document,
        Err(failure) => return unusable(failure.message),
    };
    match Checkpoint::verify(&document, trust) {
        // Its host has signed nothing yet, or a power cut took it.
        Err(_) if document.trim_ascii().is_empty() => Ok(None),
        Ok(_) => Ok(Some((head, document))),
        Err(error) => unusable(chain(&error)),
    }
}

/// A checkpoint, or the one in a receipt, by a key that is trusted.
fn anchor(path: &Path, trust: &TrustStore) -> Result<Vec<u8>, Failure> {
    let checkpoint = checkpoint_in(path)?;
    match Checkpoint::verify(&checkpoint, trust) {
        Ok(_) => Ok(checkpoint),
        Err(error) => {
            let failure = of_checkpoint(&error);
            Err(match failure.code {
                Code::DocumentInvalid => Failure {
                    message: format!(
                        "`{}` is no checkpoint and no receipt: {}",
                        path.display(),
                        failure.message
                    ),
                    ..failure
                }
                .with_hint(
                    "`aral audit checkpoint > FILE` makes a checkpoint, `aral audit prove SEQ --out FILE` a receipt",
                ),
                _not_believed => failure.in_file(path),
            })
        }
    }
}

fn checkpoint_in(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = files::document(path)?;
    if bytes.len() > RECEIPT_BYTES_MAX {
        return Ok(bytes);
    }
    let Ok(Value::Object(mut members)) = strict::parse(&bytes) else {
        return Ok(bytes);
    };
    match members.remove("checkpoint") {
        Some(checkpoint) => strict::canonical(&checkpoint)
            .map_err(|error| Failure::new(Code::DocumentInvalid, format!("`{}` is {error}", path.display()))),
        None => Ok(bytes),
    }
}

fn failure(error: &VerifyError) -> Failure {
    let message = chain(error);
    match error {
        VerifyError::Empty { .. } | VerifyError::Files(_) => {
            Failure::new(Code::ConfigInvalid, message).with_hint("name the folder of the log: `--dir FOLDER`")
        }
        VerifyError::Segment(_) => Failure::new(Code::AuditUnavailable, message),
        VerifyError::Anchor(error) => Failure {
            message,
            ..of_checkpoint(error)
        },
    }
}

/// Why a checkpoint is not believed. A key that nobody trusts can be named; nothing else helps against the other reasons.
fn of_checkpoint(error: &DocumentError) -> Failure {
    let failure = Failure::from(error.clone());
    if is_by_unknown_key(error) {
        failure.with_hint(TRUST_IT)
    } else {
        failure
    }
}

/// Why the keys at hand say nothing of a checkpoint: another one signed it. Whose that is, is for a person to say.
fn by_unknown_key(finding: &Finding) -> Option<&DocumentError> {
    let What::CheckpointForged(error) = &finding.what else {
        return None;
    };
    is_by_unknown_key(error).then_some(error)
}

/// Whether naming the key that signed would help.
pub(super) fn is_by_unknown_key(error: &DocumentError) -> bool {
    matches!(
        error,
        DocumentError::UnknownKey { .. } | DocumentError::WrongKeyKind { .. }
    )
}

fn verdict(finding: Option<&Finding>) -> String {
    let Some(finding) = finding else {
        return "good".to_owned();
    };
    match by_unknown_key(finding) {
        Some(error) => format!(
            "cannot be checked with these keys: record {} in `{}`: {error}",
            finding.seq, finding.file
        ),
        None => format!("not as it was written: {finding}"),
    }
}

fn shown(folder: &Path, report: &Report, own_anchor: Option<&Path>) -> String {
    let verdict = verdict(report.finding.as_ref());
    let unsigned = report.size.saturating_sub(report.signed);
    let records = match report.size.checked_sub(1).filter(|last| *last >= report.first) {
        Some(last) => format!("{} to {last}", report.first),
        None => "none".to_owned(),
    };
    let mut shown = format!(
        "log          {}\nfolder       {}\nrecords      {records}\nsigned       {} checkpoints, the last one about {} records\nverdict      {}\n",
        report.log.map_or_else(|| "unknown".to_owned(), |log| log.to_string()),
        text::line(&folder.display().to_string()),
        report.checkpoints,
        report.signed,
        text::line(&verdict),
    );
    if unsigned > 0 && report.is_good() {
        shown.push_str(&format!(
            "not signed   the last {unsigned} records: they are chained, but nobody signed for them yet\n"
        ));
    }
    let TakenOver {
        records,
        first,
        cut_bytes,
    } = report.taken_over;
    if let Some(first) = first {
        shown.push_str(&format!(
            "taken over   {records} records, the first of them {first}: unsigned when a host opened the log behind them, since one was killed or somebody wrote them there\n"
        ));
    }
    if cut_bytes > 0 {
        shown.push_str(&format!(
            "cut off      {cut_bytes} bytes that were no records in their place when a host opened the log; they are beside it, in `cut-*.bin`\n"
        ));
    }
    if let Some(anchor) = own_anchor {
        shown.push_str(&format!(
            "compared     with what its host keeps beside it, `{}`\n",
            anchor.display()
        ));
    }
    if let Some(size) = report.anchor_gone {
        shown.push_str(&format!(
            "anchor       one is about the first {size} records, which retention removed: it says nothing of those that are there\n"
        ));
    }
    shown.push_str(&match report.tail {
        Tail::Anchored { size } => format!("end          reaches at least as far as the anchor, which is about {size} records\n"),
        Tail::CannotBeExcluded => "end          it cannot be excluded that records were cut off: compare with a checkpoint that was kept elsewhere, `--anchor FILE`\n".to_owned(),
    });
    shown
}

fn object(folder: &Path, report: &Report, own_anchor: Option<&Path>) -> Value {
    let finding = report
        .finding
        .as_ref()
        .map(|finding| json!({"seq": finding.seq, "file": finding.file, "what": finding.what.to_string()}));
    let anchored = match report.tail {
        Tail::Anchored { size } => Some(size),
        Tail::CannotBeExcluded => None,
    };
    json!({
        "good": report.is_good(),
        "log": report.log,
        "folder": folder.display().to_string(),
        "first": report.first,
        "size": report.size,
        "signed": report.signed,
        "checkpoints": report.checkpoints,
        "taken_over": {
            "records": report.taken_over.records,
            "first": report.taken_over.first,
            "cut_bytes": report.taken_over.cut_bytes,
        },
        "finding": finding,
        "anchored": anchored,
        "anchor_gone": report.anchor_gone,
        "own_anchor": own_anchor,
    })
}

#[cfg(test)]
mod tests {
    use aral_contract::document::Kind;

    use super::*;

    #[test]
    fn a_key_that_is_not_trusted_proves_no_forgery() {
        let finding = |error| Finding {
            seq: 3,
            file: "a.jsonl".to_owned(),
            what: What::CheckpointForged(error),
        };
        let kind = Kind::Checkpoint;
        let key = "0123456789abcdef".parse().unwrap();
        let unknown = verdict(Some(&finding(DocumentError::UnknownKey { kind, key })));
        assert!(
            unknown.starts_with("cannot be checked with these keys: record 3 in `a.jsonl`"),
            "{unknown}"
        );
        assert!(!unknown.contains("forged"), "{unknown}");
        let wrong = verdict(Some(&finding(DocumentError::Signature { kind, key })));
        assert!(
            wrong.starts_with("not as it was written") && wrong.contains("forged"),
            "{wrong}"
        );
        assert_eq!(verdict(None), "good");
    }
}
