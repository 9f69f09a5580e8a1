//! `aral memory keygen` and `rotate-key`.

use std::path::Path;

use aral_contract::{Code, Failure};
use aral_host::operator as verb;
use aral_host::storage::{read_master_key, store_failure};
use aral_memory::MasterKey;
use aral_memory::backup::BackupPrivateKey;
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::arguments::storage::{MemoryKeygen, MemoryRotateKey};
use crate::cli::configured::{Configured, Located};
use crate::cli::desk::{Desk, Opens};
use crate::cli::exit::Exit;
use crate::cli::files;
use crate::cli::keygen::{paths, quoted};
use crate::cli::output::{Done, Output};
use crate::cli::progress::Progress;

/// Where aral.toml says where the master key is.
const TABLE: &str = "[memory.master_key]";

/// A master key, or a pair for backups. It overwrites nothing: what is sealed under a lost key is lost.
pub(crate) fn keygen(arguments: &MemoryKeygen, located: &Located, output: &Output) -> Done {
    if arguments.backup {
        return backup_pair(&arguments.name, output);
    }
    let path = &arguments.name;
    let name = located.name_of(path)?;
    let text = MasterKey::generate_text().map_err(Failure::internal)?;
    let id = MasterKey::from_text(text.as_bytes()).map_err(store_failure)?.id();
    files::create_private(path, text.as_bytes())?;
    let shown = path.display();
    output.answer(
        &format!(
            "key id      {id}\nmaster key  {shown} (keep a copy where the store is not: without it the store is noise)"
        ),
        &json!({"key_id": id, "master_key": path}),
    )?;
    output.note(&format!(
        "hint: to use it, add to aral.toml:\n{TABLE}\nfile = {}",
        quoted(&name)
    ));
    Ok(Exit::Success)
}

fn backup_pair(name: &Path, output: &Output) -> Done {
    let (private_path, public_path) = paths(name)?;
    let key = BackupPrivateKey::generate().map_err(Failure::internal)?;
    let public = key.public_key();
    files::refuse_existing(&public_path)?;
    files::create_private(&private_path, key.to_pem().as_bytes())?;
    files::create(&public_path, public.to_pem().as_bytes())?;
    let (private, shown) = (private_path.display(), public_path.display());
    output.answer(
        &format!(
            "key id       {}\nprivate key  {private} (keep it off this machine: it reads every backup)\npublic key   {shown}",
            public.id()
        ),
        &json!({"key_id": public.id(), "private_key": private_path, "public_key": public_path}),
    )?;
    output.note(&format!(
        "hint: to back up: `aral memory export --to {shown} --out FILE`"
    ));
    Ok(Exit::Success)
}

/// Where the new key is, and the lines that name it.
fn new_key(arguments: &MemoryRotateKey, located: &Located) -> Result<(verb::NewKey, String), Failure> {
    if let Some(path) = &arguments.to {
        let line = format!("{TABLE}\nfile = {}", quoted(&located.name_of(path)?));
        // Whether it is a key is known before the store is asked for anything.
        read_master_key(path)?;
        let text = files::private_text(path)?;
        let text = Zeroizing::new(text.trim_end().as_bytes().to_vec());
        return Ok((verb::NewKey::Text(verb::Hidden::new(text)), line));
    }
    let place = arguments.to_transit.as_deref().and_then(|text| text.split_once('/'));
    let Some((mount, key)) = place.filter(|(mount, key)| !mount.is_empty() && !key.is_empty()) else {
        return Err(Failure::new(
            Code::ConfigInvalid,
            "a key in a transit engine is written MOUNT/KEY",
        ));
    };
    let line = format!("{TABLE}\ntransit = {{ mount = \"{mount}\", key = \"{key}\" }}");
    let (mount, key) = (mount.to_owned(), key.to_owned());
    Ok((verb::NewKey::Transit { mount, key }, line))
}

pub(super) fn rotate(arguments: &MemoryRotateKey, located: &Located, desk: &mut Desk, output: &Output) -> Done {
    let (key, lines) = new_key(arguments, located)?;
    let progress = Progress::counting(output, "sealing anew");
    let changed = desk.act_long(verb::MemoryRotateKey { key }, &mut |told| {
        progress.follow(&told);
        Ok(())
    })?;
    drop(progress);
    let rotated = changed.done;
    let key_id = rotated.key_id.unwrap_or_default();
    let resumed = if rotated.resumed {
        " (went on with what was begun before)"
    } else {
        ""
    };
    output.changed(
        &format!(
            "key id   {key_id}\nrecords  {} sealed anew{resumed}\nThe old key opens nothing any more. Now name the new one in aral.toml, \
             or the next start fails (a server that runs goes on, and takes that with `aral reload`):\n{lines}{}{}",
            rotated.records,
            told_left(&rotated.epochs_left),
            told_unfit(rotated.unfit.as_deref())
        ),
        json!({
            "key_id": key_id, "records": rotated.records, "resumed": rotated.resumed, "epochs_left": rotated.epochs_left,
            "unfit": rotated.unfit, "configuration": lines,
        }),
        changed.unrecorded.as_deref(),
    )
}

pub(super) fn rotate_epoch(configured: &Configured, output: &Output) -> Done {
    if configured
        .config
        .memory
        .as_ref()
        .is_some_and(|memory| memory.epoch.is_none())
    {
        return Err(Failure::new(
            Code::ConfigInvalid,
            "there are no epochs: the configuration has no [memory.epoch]",
        )
        .with_hint("aral.toml, [memory.epoch]: transit = { mount = \"transit\", prefix = \"aral-epoch\" }")
        .into());
    }
    let mut desk = Desk::open(configured, Opens::ToWrite)?;
    let progress = Progress::counting(output, "sealing anew");
    let changed = desk.act_long(verb::MemoryRotateEpoch {}, &mut |told| {
        progress.follow(&told);
        Ok(())
    })?;
    drop(progress);
    let rotated = changed.done;
    let destroyed = if rotated.epochs_left.is_empty() {
        "; the key of the old epoch is destroyed"
    } else {
        ""
    };
    output.changed(
        &format!(
            "records  {} sealed anew{destroyed}{}{}",
            rotated.records,
            told_left(&rotated.epochs_left),
            told_unfit(rotated.unfit.as_deref())
        ),
        json!({
            "records": rotated.records, "resumed": rotated.resumed, "epochs_left": rotated.epochs_left,
            "unfit": rotated.unfit,
        }),
        changed.unrecorded.as_deref(),
    )
}

/// What the operator must know of keys that should be gone.
fn told_left(names: &[String]) -> String {
    let mut text = String::new();
    if !names.is_empty() {
        text.push_str(
            "\nKeys of old epochs are still there, and with them what the medium kept of deleted records. The log says why:",
        );
    }
    for name in names {
        text.push_str("\n  ");
        text.push_str(name);
    }
    text
}

/// What the operator must know of a master key of which somebody may have a copy.
fn told_unfit(reason: Option<&str>) -> String {
    reason.map_or_else(String::new, |reason| {
        format!("\nwarning: a new epoch began under a master key that is not fit any more: {reason}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_should_be_gone_is_named() {
        assert_eq!(told_left(&[]), "");
        let text = told_left(&["e-1".to_owned(), "e-2".to_owned()]);
        assert!(
            text.contains("still there") && text.ends_with(":\n  e-1\n  e-2"),
            "{text}"
        );
    }

    #[test]
    fn a_master_key_that_is_not_fit_is_told() {
        assert_eq!(told_unfit(None), "");
        let text = told_unfit(Some("the master key `a`: it can be exported"));
        assert!(
            text.starts_with("\nwarning: ") && text.ends_with("it can be exported"),
            "{text}"
        );
    }
}
