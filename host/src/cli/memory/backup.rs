//! `aral memory export` and `import`: backups that one private key alone can read.

use std::path::Path;

use aral_contract::{Code, Failure};
use aral_host::operator::{ActProgress, Hidden, MemoryExport as Export, MemoryImport as Import, Tell};
use aral_memory::backup::{BackupPrivateKey, BackupPublicKey};
use aral_runtime::files as machine_files;
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::arguments::storage::{MemoryExport, MemoryImport};
use crate::cli::configured::Configured;
use crate::cli::desk::{Desk, Opens};
use crate::cli::exit::Exit;
use crate::cli::files;
use crate::cli::output::{Done, Output};
use crate::cli::progress::Progress;

/// Makes the file of a backup that comes piece by piece.
pub(super) fn write<T>(
    out: &Path,
    progress: &Progress,
    act: impl FnOnce(Tell<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    files::stream_private(out, |put| {
        act(&mut |told| {
            progress.follow(&told);
            match told {
                ActProgress::Progress { .. } => Ok(()),
                ActProgress::Data(piece) => put(&piece),
            }
        })
    })
}

pub(super) fn export(arguments: &MemoryExport, configured: &Configured, output: &Output) -> Done {
    let to = files::text(&arguments.to)?;
    BackupPublicKey::from_pem(&to)
        .map_err(|error| Failure::new(Code::ConfigInvalid, format!("`{}` is {error}", arguments.to.display())))?;
    let mut desk = Desk::open(configured, Opens::ToRead)?;
    let progress = Progress::counting(output, "exporting");
    let exported = write(&arguments.out, &progress, |tell| desk.act_long(Export { to }, tell))?;
    drop(progress);
    output.answer(
        &format!(
            "wrote {} (mode 0600): {} records, readable with the private key of {}",
            arguments.out.display(),
            exported.records,
            exported.key_id
        ),
        &json!({"out": arguments.out, "records": exported.records, "key_id": exported.key_id}),
    )?;
    Ok(Exit::Success)
}

/// The private key, as it stands in its file.
fn private_key(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = files::private_key_text(path)?;
    match BackupPrivateKey::from_pem(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::new(
            Code::ConfigInvalid,
            format!("`{}` is {error}", path.display()),
        )),
    }
}

pub(super) fn import(arguments: &MemoryImport, configured: &Configured, output: &Output) -> Done {
    let text = private_key(&arguments.key)?;
    // What is not there is told before the store is asked for anything.
    machine_files::open_path(&arguments.file).map_err(files::failure)?;
    let mut desk = Desk::open(configured, Opens::ToWrite)?;
    let act = Import {
        key: Hidden::new(Zeroizing::new(text.as_bytes().to_vec())),
        overwrite: arguments.overwrite,
    };
    let progress = Progress::start(output, "importing");
    let changed = desk.import(&act, &arguments.file, &mut |told| {
        if let ActProgress::Progress { done, .. } = told {
            progress.step(&format!("{done} records"));
        }
        Ok(())
    });
    let changed = changed.map_err(|failure| named(failure, &arguments.file))?;
    drop(progress);
    let imported = changed.done;
    output.changed(
        &format!(
            "imported {} records; kept {} that were there already; left out {} whose time was over",
            imported.restored, imported.kept, imported.expired
        ),
        json!({"restored": imported.restored, "kept": imported.kept, "expired": imported.expired}),
        changed.unrecorded.as_deref(),
    )
}

/// How each message about a backup begins. One about the store, into which it is read, does not.
const OF_BACKUP: &str = "the backup ";

/// A failure that is about the backup, with its name.
fn named(failure: Failure, path: &Path) -> Failure {
    match failure.message.strip_prefix(OF_BACKUP) {
        Some(rest) => Failure {
            message: format!("{OF_BACKUP}`{}` {rest}", path.display()),
            ..failure
        },
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use aral_host::storage::{backup_failure, store_failure};
    use aral_memory::StoreError;
    use aral_memory::backup::BackupError;

    use super::*;

    #[test]
    fn an_import_names_the_backup_where_the_backup_is_at_fault_and_not_where_the_store_is() {
        let told = |failure| named(failure, Path::new("s.bak")).message;
        for error in [
            BackupError::Io {
                action: "read",
                source: std::io::ErrorKind::Other.into(),
            },
            BackupError::NotABackup,
            BackupError::Version { found: 9, known: 1 },
            BackupError::WrongKey {
                wanted: "a".to_owned(),
                given: "b".to_owned(),
            },
            BackupError::Damaged { message: 1 },
            BackupError::CutOff { message: 1 },
        ] {
            let message = told(backup_failure(error));
            assert!(message.starts_with("the backup `s.bak` "), "{message}");
        }
        let version = || StoreError::Version { found: 9, known: 1 };
        let of_store = store_failure(version());
        assert_eq!(of_store.code, Code::ConfigInvalid);
        assert_eq!(told(backup_failure(BackupError::Store(version()))), of_store.message);
    }
}
