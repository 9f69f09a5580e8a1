//! `aral memory stats`: what the store holds, and the state of its keys and its disk.

use aral_contract::Failure;
use aral_host::operator::MemoryStats;

use crate::cli::desk::Desk;
use crate::cli::exit::Exit;
use crate::cli::inspect::bytes;
use crate::cli::output::{Done, Output};

pub(super) fn run(desk: &mut Desk, output: &Output) -> Done {
    let stats = desk.act(MemoryStats {})?;
    let state = rotation(stats.rotating, stats.rotating_now);
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
    let secrets = &stats.secrets;
    shown.push_str(&format!(
        "secrets    {} of {}, {} of {}\n",
        secrets.records,
        secrets.records_max,
        bytes(secrets.bytes),
        bytes(secrets.bytes_max)
    ));
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

/// What of a rotation there is, and what to do about it.
fn rotation(is_begun: bool, is_under_way: bool) -> &'static str {
    match (is_begun, is_under_way) {
        (false, _) => "none",
        (true, true) => "begun, and under way (or a check or a backup is): ask again in a while",
        (true, false) => "begun and not ended: start `aral memory rotate-key` again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_that_goes_on_is_not_to_be_started_again() {
        assert_eq!(rotation(false, false), "none");
        assert!(rotation(true, false).contains("start `aral memory rotate-key` again"));
        let under_way = rotation(true, true);
        assert!(
            under_way.contains("under way") && !under_way.contains("start"),
            "{under_way}"
        );
    }
}
