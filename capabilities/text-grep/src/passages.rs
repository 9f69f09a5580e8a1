//! The matching lines of one file after the other, with the lines around them. Memory stays bounded whatever the files
//! hold: long lines are cut, and matches, texts and reasons are counted.

use std::fs::File;
use std::io;

use aral_guest::prelude::*;
use grep_regex::RegexMatcher;
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkFinish, SinkMatch};

use crate::Output;
use crate::files::FoundFile;

/// Bytes of a line that are shown.
const LINE_BYTES_SHOWN: usize = 1_000;

/// Bytes of text that are returned: as JSON they stay below the host's output limit.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Bytes that the searcher may hold: a longer line ends the search of its file.
const HEAP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Reasons that are returned for files that could not be read.
const UNREADABLE_MAX: usize = 20;

/// Lines of one file that stand together.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Passage {
    /// The file, relative to the folder.
    pub(crate) path: String,
    /// Its lines.
    pub(crate) lines: Vec<Line>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Line {
    /// Its number, from 1.
    pub(crate) number: u64,
    /// Its text; of a long line the first 1,000 bytes.
    pub(crate) text: String,
    /// Whether it matches, rather than stands beside a match.
    pub(crate) matches: bool,
}

pub(crate) struct Collector {
    searcher: Searcher,
    matches_max: usize,
    text_bytes: usize,
    output: Output,
}

impl Collector {
    pub(crate) fn new(matches_max: usize, context_lines: usize) -> Self {
        let searcher = SearcherBuilder::new()
            .line_number(true)
            .before_context(context_lines)
            .after_context(context_lines)
            .binary_detection(BinaryDetection::quit(0))
            .heap_limit(Some(HEAP_BYTES_MAX))
            .build();
        Self {
            searcher,
            matches_max,
            text_bytes: 0,
            output: Output {
                passages: Vec::new(),
                matches: 0,
                files_searched: 0,
                files_matched: 0,
                files_binary: 0,
                unreadable: Vec::new(),
                truncated: false,
            },
        }
    }

    /// Whether there is no room for another match.
    pub(crate) fn is_full(&self) -> bool {
        self.output.truncated
    }

    pub(crate) fn note_unreadable(&mut self, reason: String) {
        if self.output.unreadable.len() < UNREADABLE_MAX {
            self.output.unreadable.push(reason);
        }
    }

    pub(crate) fn search(&mut self, matcher: &RegexMatcher, found: &FoundFile) {
        let mut file = FileSink {
            path: &found.shown,
            matches_max: self.matches_max,
            matches_before: self.output.matches,
            text_bytes: self.text_bytes,
            passages: Vec::new(),
            begin_passage: true,
            matches: 0,
            binary: false,
            full: false,
        };
        let searched =
            File::open(&found.path).and_then(|opened| self.searcher.search_reader(matcher, opened, &mut file));
        if let Err(error) = searched {
            self.note_unreadable(format!("{}: {error}", found.shown));
            // What was found before the error stands.
        }
        if file.binary {
            // A match before the first NUL says nothing about a file that is not text.
            self.output.files_binary = self.output.files_binary.saturating_add(1);
            return;
        }
        self.output.files_searched = self.output.files_searched.saturating_add(1);
        self.output.truncated |= file.full;
        if file.matches > 0 {
            self.output.files_matched = self.output.files_matched.saturating_add(1);
            self.output.matches = self.output.matches.saturating_add(file.matches);
            self.text_bytes = file.text_bytes;
            self.output.passages.append(&mut file.passages);
        }
    }

    pub(crate) fn finish(self) -> Output {
        self.output
    }
}

struct FileSink<'a> {
    path: &'a str,
    matches_max: usize,
    matches_before: usize,
    text_bytes: usize,
    passages: Vec<Passage>,
    begin_passage: bool,
    matches: usize,
    binary: bool,
    full: bool,
}

impl FileSink<'_> {
    /// False if there is no room.
    fn add(&mut self, number: Option<u64>, bytes: &[u8], matches: bool) -> bool {
        let text = shown(bytes);
        self.text_bytes = self.text_bytes.saturating_add(text.len());
        if self.text_bytes > TEXT_BYTES_MAX {
            self.full = true;
            return false;
        }
        if self.begin_passage {
            self.text_bytes = self.text_bytes.saturating_add(self.path.len());
            self.passages.push(Passage {
                path: self.path.to_owned(),
                lines: Vec::new(),
            });
            self.begin_passage = false;
        }
        if let Some(passage) = self.passages.last_mut() {
            passage.lines.push(Line {
                number: number.unwrap_or_default(),
                text,
                matches,
            });
        }
        true
    }
}

impl Sink for FileSink<'_> {
    type Error = io::Error;

    fn matched(&mut self, searcher: &Searcher, found: &SinkMatch<'_>) -> Result<bool, io::Error> {
        if self.matches_before.saturating_add(self.matches) >= self.matches_max {
            self.full = true;
            return Ok(false);
        }
        // Without context nothing breaks the passages: lines that do not touch are passages of their own.
        if searcher.after_context() == 0 {
            let last = self
                .passages
                .last()
                .and_then(|passage| passage.lines.last())
                .map(|line| line.number);
            let touches = last
                .zip(found.line_number())
                .is_some_and(|(last, this)| last.saturating_add(1) == this);
            self.begin_passage = !touches;
        }
        if !self.add(found.line_number(), found.bytes(), true) {
            return Ok(false);
        }
        self.matches = self.matches.saturating_add(1);
        Ok(true)
    }

    fn context(&mut self, _: &Searcher, context: &SinkContext<'_>) -> Result<bool, io::Error> {
        Ok(self.add(context.line_number(), context.bytes(), false))
    }

    fn context_break(&mut self, _: &Searcher) -> Result<bool, io::Error> {
        self.begin_passage = true;
        Ok(true)
    }

    fn finish(&mut self, _: &Searcher, finish: &SinkFinish) -> Result<(), io::Error> {
        self.binary = finish.binary_byte_offset().is_some();
        Ok(())
    }
}

/// The line without its end, in UTF-8, cut where a character ends, without control characters.
fn shown(line: &[u8]) -> String {
    let kept = line.get(..LINE_BYTES_SHOWN).unwrap_or(line);
    let text = String::from_utf8_lossy(kept);
    let text = text.trim_end_matches(['\n', '\r', '\u{fffd}']);
    text.chars()
        .filter(|character| !character.is_control() || *character == '\t')
        .collect()
}
