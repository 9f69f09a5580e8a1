//! `aral memory export --salvage`: what still opens of a store that lost records, and a plain word on what does not.

use std::path::Path;

use aral_contract::{Code, Failure};
use aral_host::operator::{MemorySalvage, Salvaged};
use aral_memory::backup::BackupPublicKey;
use serde_json::json;

use super::backup::write;
use super::check::line;
use crate::cli::arguments::storage::MemoryExport;
use crate::cli::configured::Configured;
use crate::cli::desk::Desk;
use crate::cli::exit::Exit;
use crate::cli::files;
use crate::cli::output::{Done, Output};
use crate::cli::progress::Progress;

/// What the folder of the copy is called beside the backup, behind its name.
const COPY: &str = ".records";

pub(super) fn run(arguments: &MemoryExport, configured: &Configured, output: &Output) -> Done {
    let to = files::text(&arguments.to)?;
    BackupPublicKey::from_pem(&to)
        .map_err(|error| Failure::new(Code::ConfigInvalid, format!("`{}` is {error}", arguments.to.display())))?;
    files::refuse_existing(&arguments.out)?;
    let mut copy = arguments.out.clone().into_os_string();
    copy.push(COPY);
    let (operator, salvage) = Desk::salvage(configured, Path::new(&copy))?;
    let progress = Progress::counting(output, "salvaging");
    let salvaged = write(&arguments.out, &progress, |tell| {
        MemorySalvage { to }.act(&operator, &salvage, tell)
    })?;
    drop(progress);
    drop(salvage);
    let out = arguments.out.display();
    output.answer(
        &format!(
            "wrote {out} (mode 0600): {} records, readable with the private key of {}\n{}",
            salvaged.records,
            salvaged.key_id,
            lost(&salvaged)
        ),
        &json!({
            "out": arguments.out, "records": salvaged.records, "key_id": salvaged.key_id, "whole": salvaged.whole,
            "lost": salvaged.lost, "unfinished": salvaged.unfinished, "keyless": salvaged.keyless,
            "looked_through": salvaged.looked_through, "commit": salvaged.commit, "known_commit": salvaged.known_commit,
            "commits_lost": salvaged.commits_lost, "unreadable_bytes": salvaged.unreadable_bytes, "found": salvaged.found,
        }),
    )?;
    if salvaged.whole {
        output.note("nothing is missing: it is the same as without --salvage");
        return Ok(Exit::Success);
    }
    output.warn(&format!(
        "the backup is not whole, and nobody can say what is missing: {}",
        missing(&salvaged)
    ));
    output.note(&format!(
        "hint: keep the folder as it is; then name an empty one in aral.toml, [memory] dir, and read the backup: `aral memory \
         import --key BACKUP.pem {out}`; an older backup, read after that without `--overwrite`, adds what is missing, and what was \
         deleted since it was made"
    ));
    Ok(Exit::Incomplete)
}

fn lost(salvaged: &Salvaged) -> String {
    let mut shown = String::new();
    if salvaged.lost > 0 {
        shown.push_str(&format!("lost  {}\n", salvaged.lost));
    }
    salvaged.found.iter().for_each(|one| shown.push_str(&line(one)));
    let more = salvaged.lost.saturating_sub(salvaged.found.len() as u64);
    if more > 0 {
        shown.push_str(&format!("  and {more} more\n"));
    }
    shown
}

/// Everything that speaks against it that the backup has all.
fn missing(salvaged: &Salvaged) -> String {
    let mut parts = Vec::new();
    match (salvaged.commit, salvaged.known_commit, salvaged.commits_lost) {
        (Some(_), Some(_), Some(0)) => {}
        (Some(commit), Some(known), Some(lost)) => parts.push(format!(
            "the database breaks off after commit {commit}, and there was {known}: of {lost} at least it has parts at most"
        )),
        (None, _, _) => parts.push(
            "the database does not say with which commit it ends, so that nobody can say how many are lost".to_owned(),
        ),
        (Some(_), _, _) => parts.push(
            "the keys do not say which commit was the newest, so that nobody can say how many are lost".to_owned(),
        ),
    }
    if salvaged.lost > 0 {
        parts.push(format!(
            "{} keys are there whose record is not, or does not open",
            salvaged.lost
        ));
    }
    if salvaged.unfinished > 0 {
        parts.push(format!(
            "{} more may be of writes that were cut off before they were answered",
            salvaged.unfinished
        ));
    }
    if salvaged.keyless > 0 {
        parts.push(format!(
            "{} records are there whose key is not: they were deleted or replaced later, or the key is damaged",
            salvaged.keyless
        ));
    }
    if !salvaged.looked_through {
        parts.push("what else the database had cannot be told from what was deleted".to_owned());
    }
    if salvaged.unreadable_bytes > 0 {
        parts.push(format!(
            "{} bytes of it were not read: the disk does not, or they are not what a store writes",
            salvaged.unreadable_bytes
        ));
    }
    parts.join("; ")
}
