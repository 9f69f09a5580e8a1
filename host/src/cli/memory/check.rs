//! `aral memory check`: which records do not open, and without them if it is told so.

use aral_contract::Failure;
use aral_host::operator::{DamagedRecord, MemoryCheck, StoreChecked};

use crate::cli::arguments::storage;
use crate::cli::desk::Desk;
use crate::cli::exit::Exit;
use crate::cli::output::{Done, Output};
use crate::cli::progress::Progress;
use crate::cli::text;

pub(super) fn run(arguments: &storage::MemoryCheck, desk: &mut Desk, output: &Output) -> Done {
    let progress = Progress::counting(output, "opening");
    let act = MemoryCheck {
        delete_damaged: arguments.delete_damaged,
        delete_nameless: arguments.delete_nameless,
    };
    let changed = desk.act_long(act, &mut |told| {
        progress.follow(&told);
        Ok(())
    })?;
    drop(progress);
    let checked = changed.done;
    let object = serde_json::to_value(&checked).map_err(Failure::internal)?;
    let exit = output.changed(&words(&checked), object, changed.unrecorded.as_deref())?;
    if checked.damaged > checked.deleted {
        output.note(
            "hint: read them from a backup first if there is one: `aral memory import --overwrite`; what then still does not \
             open: `aral memory check --delete-damaged`",
        );
    }
    let mut nameless = checked
        .found
        .iter()
        .filter(|one| one.namespace.is_none() && !one.deleted);
    if let Some(one) = nameless.next() {
        let put = if one.secret {
            "aral secret put NAME"
        } else {
            "aral memory put NAMESPACE NAME"
        };
        output.note(&format!(
            "hint: who knows the name of a namespace puts it back by writing anything there: `{put}`; what nobody knows the \
             namespace of: `aral memory check --delete-nameless`"
        ));
    }
    let is_whole = checked.damaged == checked.deleted && checked.nameless == checked.nameless_deleted;
    Ok(match exit {
        Exit::Success if !is_whole => Exit::NotAsWritten,
        exit => exit,
    })
}

fn words(checked: &StoreChecked) -> String {
    let mut shown = format!("records  {}\ndamaged  {}\n", checked.records, checked.damaged);
    if checked.deleted > 0 {
        shown.push_str(&format!("deleted  {}\n", checked.deleted));
    }
    if checked.nameless > 0 {
        shown.push_str(&format!("namespaces without a name  {}\n", checked.nameless));
    }
    checked.found.iter().for_each(|one| shown.push_str(&line(one)));
    let all = checked.damaged.saturating_add(checked.nameless);
    let more = all.saturating_sub(checked.found.len() as u64);
    if more > 0 {
        shown.push_str(&format!("  and {more} more\n"));
    }
    shown
}

pub(super) fn line(one: &DamagedRecord) -> String {
    let place = one.place.get(..16).unwrap_or(&one.place);
    let deleted = if one.deleted { ", deleted" } else { "" };
    let Some(namespace) = &one.namespace else {
        let kind = if one.secret { "secrets" } else { "records" };
        return format!("  {kind} of a namespace without a name, at {place}…{deleted}\n");
    };
    let kind = if one.secret { "secret " } else { "" };
    let name = match &one.name {
        Some(name) => format!("`{}`", text::line(name)),
        None => "whose name does not open".to_owned(),
    };
    format!("  {kind}{namespace}: {name}, at {place}…{deleted}\n")
}
