//! One file into one folder, whole or not at all. It knows nothing of what the file says.

use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use aral_guest::prelude::*;

/// Characters of a name without its ending: leaves room for the ending of the file that is being written.
const NAME_CHARS_MAX: usize = 100;

/// A name that is a file in the folder on every system: no separator, no leading dot, no trailing dot or space.
pub(crate) fn file_name(name: &str, ending: &str) -> Result<String> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || " ._-".contains(character);
    let good = name.len() <= NAME_CHARS_MAX
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.ends_with(|last: char| last.is_ascii_alphanumeric() || last == '_' || last == '-')
        && name.chars().all(allowed);
    if good {
        Ok(format!("{name}.{ending}"))
    } else {
        Err(Error::invalid_input(format!(
            "`{}` is not a file name: 1 to {NAME_CHARS_MAX} letters, digits, inner spaces and `.`, `_`, `-`, without the ending",
            name.chars().take(NAME_CHARS_MAX).collect::<String>().escape_debug()
        )))
    }
}

/// Writes beside the target and renames: whoever reads the folder sees the old file or the new one. Without `overwrite`
/// the name is taken first, so that two calls at once cannot both believe that it was free.
pub(crate) fn store(folder: &Path, name: &str, bytes: &[u8], overwrite: bool) -> Result<PathBuf> {
    let target = folder.join(name);
    if !overwrite {
        reserve(&target, name)?;
    }
    let temporary = folder.join(format!(
        ".{name}.{:016x}.part",
        RandomState::new().build_hasher().finish()
    ));
    let written = write_new(&temporary, bytes).and_then(|()| fs::rename(&temporary, &target));
    if let Err(error) = written {
        // Best effort: what failed is told either way.
        let _ = fs::remove_file(&temporary);
        if !overwrite {
            let _ = fs::remove_file(&target);
        }
        return Err(error).context(|| format!("writing `{name}`"));
    }
    Ok(target)
}

fn reserve(target: &Path, name: &str) -> Result<()> {
    match OpenOptions::new().write(true).create_new(true).open(target) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::invalid_input(format!(
            "`{name}` is there already: choose another name or set `overwrite`"
        ))),
        Err(error) => Err(error).context(|| format!("creating `{name}`")),
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A folder of its own for one test, removed with it.
    pub(crate) struct TestFolder(pub(crate) PathBuf);

    impl TestFolder {
        pub(crate) fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("report-write-{}-{test}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        pub(crate) fn names(&self) -> Vec<String> {
            let mut names: Vec<_> = fs::read_dir(&self.0)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for TestFolder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn names_that_are_files_in_the_folder() {
        assert_eq!(
            file_name("2026-q3 sales_v1.2", "md"),
            Ok("2026-q3 sales_v1.2.md".to_owned())
        );
        for bad in [
            "",
            ".",
            "..",
            ".hidden",
            "a/b",
            "../a",
            "a\\b",
            "a.",
            "a ",
            " a",
            "-a",
            "a\0",
            "a\nb",
            "\u{e4}",
            "C:a",
            &"x".repeat(101),
        ] {
            assert!(
                matches!(file_name(bad, "md"), Err(Error::InvalidInput(_))),
                "{bad:?} was taken"
            );
        }
    }

    #[test]
    fn nothing_is_replaced_unless_asked() {
        let folder = TestFolder::new("replace");
        store(&folder.0, "a.md", b"one", false).unwrap();
        assert!(matches!(
            store(&folder.0, "a.md", b"two", false),
            Err(Error::InvalidInput(_))
        ));
        assert_eq!(fs::read(folder.0.join("a.md")).unwrap(), b"one");
        store(&folder.0, "a.md", b"two", true).unwrap();
        assert_eq!(fs::read(folder.0.join("a.md")).unwrap(), b"two");
        assert_eq!(folder.names(), ["a.md"]);
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let folder = TestFolder::new("failure");
        fs::create_dir(folder.0.join("a.md")).unwrap();
        assert!(store(&folder.0, "a.md", b"one", true).is_err());
        assert_eq!(folder.names(), ["a.md"]);
        assert!(matches!(
            store(&folder.0.join("missing"), "b.md", b"", false),
            Err(Error::InvalidInput(_))
        ));
    }
}
