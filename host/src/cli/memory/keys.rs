//! `aral memory keygen` and `rotate-key`.

use std::ops::ControlFlow;
use std::path::Path;

use aral_contract::event::LifecycleChange;
use aral_contract::{Code, EventKind, Failure};
use aral_host::config::storage::MasterKeyPlace;
use aral_host::storage::{read_master_key, store_failure};
use aral_memory::MasterKey;
use aral_memory::backup::BackupPrivateKey;
use serde_json::json;

use super::Opened;
use crate::cli::arguments::storage::{MemoryKeygen, MemoryRotateKey};
use crate::cli::configured::Configured;
use crate::cli::exit::Exit;
use crate::cli::files;
use crate::cli::keygen::paths;
use crate::cli::output::{Done, Output};
use crate::cli::progress::Progress;

/// A master key, or a pair for backups. It overwrites nothing: what is sealed under a lost key is lost.
pub(crate) fn keygen(arguments: &MemoryKeygen, output: &Output) -> Done {
    if arguments.backup {
        return backup_pair(&arguments.name, output);
    }
    let path = &arguments.name;
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
        "hint: to use it, add to aral.toml: [memory.master_key] file = \"{shown}\""
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

/// What the record of a new key says.
fn rotated_event(subject: &str) -> EventKind {
    EventKind::Lifecycle {
        change: LifecycleChange::KeyRotated,
        subject: subject.to_owned(),
        digest: None,
    }
}

/// Where the new key is, and the line that names it.
fn new_key(arguments: &MemoryRotateKey, opened: &Opened) -> Result<(MasterKey, String), Failure> {
    if let Some(path) = &arguments.to {
        let line = format!("[memory.master_key] file = \"{}\"", path.display());
        return Ok((read_master_key(path)?, line));
    }
    let place = arguments.to_transit.as_deref().and_then(|text| text.split_once('/'));
    let Some((mount, key)) = place.filter(|(mount, key)| !mount.is_empty() && !key.is_empty()) else {
        return Err(Failure::new(
            Code::ConfigInvalid,
            "a key in a transit engine is written MOUNT/KEY",
        ));
    };
    let line = format!("[memory.master_key] transit = {{ mount = \"{mount}\", key = \"{key}\" }}");
    let place = MasterKeyPlace::Transit {
        mount: mount.to_owned(),
        key: key.to_owned(),
    };
    Ok((opened.storage.master_key(&place)?, line))
}

pub(super) fn rotate(arguments: &MemoryRotateKey, configured: &Configured, output: &Output) -> Done {
    let opened = Opened::new(configured)?;
    let (key, line) = new_key(arguments, &opened)?;
    let progress = Progress::counting(output, "sealing anew");
    let rotated = opened
        .store
        .rotate_key(&key, &mut |step| progress.count(step.done, step.total))
        .map_err(store_failure)?;
    drop(progress);
    opened.trail.record(rotated_event("memory"));
    let resumed = if rotated.resumed {
        " (went on with what was begun before)"
    } else {
        ""
    };
    output.answer(
        &format!(
            "key id   {}\nrecords  {} sealed anew{resumed}\nThe old key opens nothing any more. Now name the new one in aral.toml:\n  {line}",
            key.id(),
            rotated.records
        ),
        &json!({"key_id": key.id(), "records": rotated.records, "resumed": rotated.resumed, "configuration": line}),
    )?;
    Ok(Exit::Success)
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
        .with_hint("aral.toml: [memory.epoch] transit = { mount = \"transit\", prefix = \"aral-epoch\" }")
        .into());
    }
    let opened = Opened::new(configured)?;
    let progress = Progress::counting(output, "sealing anew");
    let rotated = opened.store.rotate_epoch(&mut |step| {
        progress.count(step.done, step.total);
        ControlFlow::Continue(())
    });
    let rotated = rotated.map_err(store_failure)?;
    drop(progress);
    opened.trail.record(rotated_event("memory epoch"));
    output.answer(
        &format!(
            "records  {} sealed anew; the key of the old epoch is destroyed",
            rotated.records
        ),
        &json!({"records": rotated.records, "resumed": rotated.resumed}),
    )?;
    Ok(Exit::Success)
}
