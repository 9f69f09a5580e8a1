//! Searches the text files of a granted folder with a regular expression, as a person would with ripgrep, whose libraries
//! do the work: what `.gitignore` names is left out, binary files are skipped, and any expression takes linear time. What
//! lies outside the granted folder does not exist here.

mod files;
mod passages;

use aral_guest::prelude::*;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};

/// Bytes that a compiled expression may take: `(a{1000}){1000}` is refused, not compiled.
const REGEX_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// What to look for: a regular expression in the syntax of Rust's `regex`, within one line.
    #[schemars(length(min = 1, max = 4096))]
    pattern: String,
    /// The folder to search; the first granted one if absent.
    folder: Option<String>,
    /// Search only files that one of these globs names: `*.rs`, `src/**/*.md`. All files if empty.
    #[serde(default)]
    include: Vec<String>,
    /// Leave out files and folders that one of these globs names.
    #[serde(default)]
    exclude: Vec<String>,
    /// Whether `pattern` is a text rather than an expression.
    #[serde(default)]
    literal: bool,
    /// Whether upper and lower case are the same.
    #[serde(default)]
    case_insensitive: bool,
    /// Whether a match must be a whole word.
    #[serde(default)]
    word: bool,
    /// Whether files and folders whose names begin with a dot are searched.
    #[serde(default)]
    hidden: bool,
    /// Whether files that a `.gitignore` or `.ignore` names are searched.
    #[serde(default)]
    ignored: bool,
    /// Lines to show before and after each match.
    #[serde(default)]
    #[schemars(range(min = 0, max = 20))]
    context_lines: usize,
    /// Matching lines to return.
    #[serde(default = "default_matches_max")]
    #[schemars(range(min = 1, max = 1000))]
    matches_max: usize,
}

fn default_matches_max() -> usize {
    100
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Output {
    /// Matches with the lines around them, by path and line.
    passages: Vec<passages::Passage>,
    /// Matching lines that are returned.
    matches: usize,
    /// Files that were searched.
    files_searched: usize,
    /// Files with a match.
    files_matched: usize,
    /// Files that were skipped because they are not text.
    files_binary: usize,
    /// Files and folders that could not be read, with the reason; at most 20.
    unreadable: Vec<String>,
    /// Whether there may be more matches than are returned.
    truncated: bool,
}

fn grep(input: Input) -> Result<Output> {
    let matcher = matcher(&input)?;
    if !(1..=1000).contains(&input.matches_max) || input.context_lines > 20 {
        return Err(Error::invalid_input(
            "`matches_max` is 1 to 1000 and `context_lines` at most 20",
        ));
    }
    let selection = files::Selection::new(&input.include, &input.exclude, input.hidden, input.ignored)?;
    let folder = match &input.folder {
        Some(folder) => folder.clone(),
        None => aral_guest::files::first_root()?,
    };
    let mut collector = passages::Collector::new(input.matches_max, input.context_lines);
    for found in selection.walk(std::path::Path::new(&folder))? {
        match found {
            Ok(file) => collector.search(&matcher, &file),
            Err(reason) => collector.note_unreadable(reason),
        }
        if collector.is_full() {
            break;
        }
    }
    let output = collector.finish();
    log::debug(format_args!(
        "{} matches in {} files",
        output.matches, output.files_searched
    ));
    Ok(output)
}

fn matcher(input: &Input) -> Result<RegexMatcher> {
    if input.pattern.is_empty() {
        return Err(Error::invalid_input("`pattern` is empty"));
    }
    RegexMatcherBuilder::new()
        .fixed_strings(input.literal)
        .case_insensitive(input.case_insensitive)
        .word(input.word)
        .line_terminator(Some(b'\n'))
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX)
        .build(&input.pattern)
        .map_err(|error| Error::invalid_input(format!("`pattern` cannot be used: {error}")))
}

capability! {
    title: "Search text",
    description: "Searches the text files of a folder tree with a regular expression and returns the matching lines with \
                  their context. Leaves out what .gitignore names, hidden files and binary files.",
    run: grep,
}

#[cfg(test)]
mod tests;
