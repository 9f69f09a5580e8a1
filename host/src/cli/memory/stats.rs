//! `aral memory stats`: what the store holds, and the state of its keys and its disk.

use aral_contract::Failure;
use aral_host::operator::MemoryStats;

use crate::cli::desk::Desk;
use crate::cli::exit::Exit;
use crate::cli::inspect::bytes;
use crate::cli::output::{Done, Output};

pub(super) fn run(desk: &mut Desk, output: &Output) -> Done {
    let stats = desk.act(MemoryStats {})?;
    let state = if stats.rotating {
        "begun and not ended: start `aral memory rotate-key` again"
    } else {
        "none"
    };
    let mut shown = format!(
        "store      {}\nid         {}\nformat     {}\nkey        {}\nrotation   {state}\nepochs     {}\nslots      {} of {} used\nfree disk  {} (writes need {})\n",
        stats.dir.display(),
        stats.store,
        stats.format,
        stats.keys.join(" or "),
        if stats.epochs.is_empty() {
            "none".to_owned()
        } else {
            stats.epochs.join(", ")
        },
        stats.slots_used,
        stats.slots,
        bytes(stats.free_bytes),
        bytes(stats.free_bytes_min),
    );
    let width = stats
        .namespaces
        .iter()
        .map(|one| one.namespace.as_str().len())
        .max()
        .unwrap_or_default();
    shown.push_str(&format!("namespaces {}\n", stats.namespaces.len()));
    for one in &stats.namespaces {
        let name = one.namespace.as_str();
        shown.push_str(&format!(
            "  {name:width$}  {} records, {}\n",
            one.records,
            bytes(one.bytes)
        ));
    }
    let nameless = match stats.nameless {
        Some(0) => None,
        Some(count) => Some(count.to_string()),
        None => Some("unknown".to_owned()),
    };
    if let Some(nameless) = nameless {
        shown.push_str(&format!("nameless   {nameless}: see `aral memory check`\n"));
    }
    let object = serde_json::to_value(&stats).map_err(Failure::internal)?;
    output.answer(&shown, &object)?;
    Ok(Exit::Success)
}
