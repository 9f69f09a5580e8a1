//! Which files of a folder tree are searched, in the order of their names. Symbolic links are never followed: what they
//! lead to is found under its own name, if it is in the tree. It reads ignore files, and nothing of the others.

use std::path::{Path, PathBuf};

use aral_guest::prelude::*;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use ignore::{DirEntry, WalkBuilder};

/// Folders below folders: deeper trees are a trap.
const DEPTH_MAX: usize = 64;

/// Globs in one list, and bytes of each.
const GLOBS_MAX: usize = 100;
const GLOB_BYTES_MAX: usize = 256;

/// A file to search.
#[derive(Debug)]
pub(crate) struct FoundFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its path below the folder, for people.
    pub(crate) shown: String,
}

/// What of a tree is searched.
pub(crate) struct Selection {
    include: Option<GlobSet>,
    exclude: GlobSet,
    hidden: bool,
    ignored: bool,
}

impl Selection {
    pub(crate) fn new(include: &[String], exclude: &[String], hidden: bool, ignored: bool) -> Result<Self> {
        Ok(Self {
            include: if include.is_empty() {
                None
            } else {
                Some(glob_set(include)?)
            },
            exclude: glob_set(exclude)?,
            hidden,
            ignored,
        })
    }

    /// The files of the tree; an error is the text of what could not be read.
    pub(crate) fn walk(self, folder: &Path) -> Result<impl Iterator<Item = std::result::Result<FoundFile, String>>> {
        let metadata = std::fs::metadata(folder).context(|| format!("opening folder `{}`", folder.display()))?;
        if !metadata.is_dir() {
            return Err(Error::invalid_input(format!("`{}` is not a folder", folder.display())));
        }
        let root = folder.to_owned();
        let exclude = self.exclude;
        let include = self.include;
        let exclude_root = root.clone();
        let walk = WalkBuilder::new(folder)
            .standard_filters(false)
            .hidden(!self.hidden)
            .ignore(!self.ignored)
            .git_ignore(!self.ignored)
            // A granted folder is seldom a whole repository, and its parents are not granted.
            .require_git(false)
            .parents(false)
            .follow_links(false)
            .max_depth(Some(DEPTH_MAX))
            .sort_by_file_name(Ord::cmp)
            .filter_entry(move |entry| !exclude.is_match(below(&exclude_root, entry.path())))
            .build();
        Ok(walk.filter_map(move |entry| match entry {
            Ok(entry) => file_of(&root, include.as_ref(), &entry).map(Ok),
            Err(error) => Some(Err(error.to_string())),
        }))
    }
}

fn file_of(root: &Path, include: Option<&GlobSet>, entry: &DirEntry) -> Option<FoundFile> {
    // Neither folders nor links, devices or pipes.
    if !entry.file_type().is_some_and(|kind| kind.is_file()) {
        return None;
    }
    let relative = below(root, entry.path());
    if include.is_some_and(|include| !include.is_match(relative)) {
        return None;
    }
    Some(FoundFile {
        path: entry.path().to_owned(),
        shown: relative.display().to_string(),
    })
}

fn below<'a>(root: &Path, path: &'a Path) -> &'a Path {
    path.strip_prefix(root).unwrap_or(path)
}

/// A glob without a slash names files in any folder, as in `.gitignore`.
fn glob_set(globs: &[String]) -> Result<GlobSet> {
    if globs.len() > GLOBS_MAX {
        return Err(Error::invalid_input(format!("at most {GLOBS_MAX} globs can be given")));
    }
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        if glob.len() > GLOB_BYTES_MAX {
            return Err(Error::invalid_input(format!(
                "a glob is at most {GLOB_BYTES_MAX} bytes"
            )));
        }
        let anchored = match glob.strip_prefix('/') {
            Some(rest) => rest.to_owned(),
            None if glob.trim_end_matches('/').contains('/') => glob.clone(),
            None => format!("**/{glob}"),
        };
        let built = GlobBuilder::new(anchored.trim_end_matches('/'))
            .literal_separator(true)
            .build();
        set.add(built.map_err(|error| Error::invalid_input(format!("glob `{glob}` cannot be used: {error}")))?);
    }
    set.build()
        .map_err(|error| Error::invalid_input(format!("the globs cannot be used: {error}")))
}
