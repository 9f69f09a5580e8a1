//! `aral memory export` and `import`: backups that one private key alone can read.

use std::io::{BufReader, BufWriter, Write as _};

use aral_contract::event::Severity;
use aral_contract::{Code, EventKind, Failure};
use aral_host::storage::{backup_failure, store_failure};
use aral_memory::backup::{BackupError, BackupPrivateKey, BackupPublicKey};
use aral_memory::sealed::Existing;
use aral_runtime::files::{self as machine_files, FilesError};
use serde_json::json;

use super::Opened;
use crate::cli::arguments::storage::{MemoryExport, MemoryImport};
use crate::cli::configured::Configured;
use crate::cli::exit::Exit;
use crate::cli::files;
use crate::cli::output::{Done, Output};
use crate::cli::progress::Progress;

/// Either the file or the backup in it.
enum Failed {
    File(FilesError),
    Backup(BackupError),
}

impl From<FilesError> for Failed {
    fn from(error: FilesError) -> Self {
        Self::File(error)
    }
}

impl From<Failed> for Failure {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::File(error) => files::failure(error),
            Failed::Backup(error) => backup_failure(error),
        }
    }
}

/// Everything that the store holds went out or came in, under a key for backups.
fn moved(rule: &'static str, key: String) -> EventKind {
    EventKind::Security {
        severity: Severity::Medium,
        rule,
        subject: format!("key {key}"),
        source: None,
    }
}

pub(super) fn export(arguments: &MemoryExport, configured: &Configured, output: &Output) -> Done {
    let key = BackupPublicKey::from_pem(&files::text(&arguments.to)?)
        .map_err(|error| Failure::new(Code::ConfigInvalid, format!("`{}` is {error}", arguments.to.display())))?;
    let opened = Opened::new(configured)?;
    // As many keys of records as there are records.
    let total = u64::from(opened.store.status().map_err(store_failure)?.slots_used);
    let progress = Progress::counting(output, "exporting");
    let records = machine_files::stream_private(&arguments.out, |file| {
        let mut buffered = BufWriter::new(file);
        let exported = opened
            .store
            .export(&key, &mut buffered, &mut |done| progress.count(done, total.max(done)));
        let flush = |source| BackupError::Io {
            action: "written",
            source,
        };
        exported
            .and_then(|records| buffered.flush().map(|()| records).map_err(flush))
            .map_err(Failed::Backup)
    })
    .map_err(Failure::from)?;
    drop(progress);
    opened.trail.record(moved("memory_exported", key.id().to_string()));
    output.answer(
        &format!(
            "wrote {} (mode 0600): {} records, readable with the private key of {}",
            arguments.out.display(),
            records,
            key.id()
        ),
        &json!({"out": arguments.out, "records": records, "key_id": key.id()}),
    )?;
    Ok(Exit::Success)
}

pub(super) fn import(arguments: &MemoryImport, configured: &Configured, output: &Output) -> Done {
    let text = files::private_text(&arguments.key)?;
    let key = BackupPrivateKey::from_pem(&text)
        .map_err(|error| Failure::new(Code::ConfigInvalid, format!("`{}` is {error}", arguments.key.display())))?;
    let mut file = BufReader::new(machine_files::open_path(&arguments.file).map_err(files::failure)?);
    let opened = Opened::new(configured)?;
    let existing = if arguments.overwrite {
        Existing::Replace
    } else {
        Existing::Keep
    };
    let progress = Progress::start(output, "importing");
    let imported = opened
        .store
        .import(&key, &mut file, existing, &mut |done| {
            progress.step(&format!("{done} records"));
        })
        .map_err(backup_failure)?;
    drop(progress);
    opened
        .trail
        .record(moved("memory_imported", key.public_key().id().to_string()));
    output.answer(
        &format!(
            "imported {} records; kept {} that were there already; left out {} whose time was over",
            imported.restored, imported.kept, imported.expired
        ),
        &json!({"restored": imported.restored, "kept": imported.kept, "expired": imported.expired}),
    )?;
    Ok(Exit::Success)
}
