//! Counts lines, words and characters. A plain WASI program: JSON on standard input, JSON on standard output, and
//! standard error is its log. It knows nothing of Aral; any language that reaches wasip2 can do the same.
#![expect(
    clippy::print_stderr,
    reason = "standard error is the log of a program of this shape"
)]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// Different words that are told apart: bounds the memory that a text of nothing but new words takes.
const DIFFERENT_WORDS_MAX: usize = 200_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    text: String,
    #[serde(default = "default_top")]
    top: usize,
}

fn default_top() -> usize {
    10
}

#[derive(Debug, PartialEq, Serialize)]
struct Output {
    lines: usize,
    words: usize,
    characters: usize,
    bytes: usize,
    different_words: usize,
    top_words: Vec<Word>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Word {
    word: String,
    count: usize,
}

fn main() -> ExitCode {
    match run(&mut std::io::stdin().lock(), &mut std::io::stdout().lock()) {
        Ok(words) => {
            eprintln!("counted {words} words");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(input: &mut impl Read, output: &mut impl Write) -> Result<usize, String> {
    let mut text = String::new();
    input
        .read_to_string(&mut text)
        .map_err(|error| format!("cannot read the input: {error}"))?;
    let input: Input =
        serde_json::from_str(&text).map_err(|error| format!("the input is not what is expected: {error}"))?;
    let counts = count(&input)?;
    serde_json::to_writer(&mut *output, &counts).map_err(|error| format!("cannot write the output: {error}"))?;
    output
        .flush()
        .map_err(|error| format!("cannot write the output: {error}"))?;
    Ok(counts.words)
}

fn count(input: &Input) -> Result<Output, String> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut words = 0_usize;
    for word in words_of(&input.text) {
        words += 1;
        *counts.entry(word.to_lowercase()).or_default() += 1;
        if counts.len() > DIFFERENT_WORDS_MAX {
            return Err(format!("the text has more than {DIFFERENT_WORDS_MAX} different words"));
        }
    }
    let different_words = counts.len();
    let mut top_words: Vec<Word> = counts.into_iter().map(|(word, count)| Word { word, count }).collect();
    top_words.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.word.cmp(&b.word)));
    top_words.truncate(input.top.min(1_000));
    Ok(Output {
        lines: input.text.lines().count(),
        words,
        characters: input.text.chars().count(),
        bytes: input.text.len(),
        different_words,
        top_words,
    })
}

/// Runs of letters and digits, with the apostrophes and hyphens that stand inside a word.
fn words_of(text: &str) -> impl Iterator<Item = &str> {
    let joins = |character: char| matches!(character, '\'' | '\u{2019}' | '-');
    text.split(move |character: char| !character.is_alphanumeric() && !joins(character))
        .map(move |word| word.trim_matches(joins))
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(input: &str) -> Result<serde_json::Value, String> {
        let mut output = Vec::new();
        run(&mut input.as_bytes(), &mut output)?;
        Ok(serde_json::from_slice(&output).unwrap())
    }

    #[test]
    fn a_real_text() {
        let text = include_str!("../tests/data/gettysburg.txt");
        let counts = call(&serde_json::json!({ "text": text, "top": 3 }).to_string()).unwrap();
        assert_eq!(counts["lines"], text.lines().count());
        assert_eq!(counts["bytes"], text.len());
        assert_eq!(counts["words"], 271);
        assert_eq!(
            counts["top_words"],
            serde_json::json!([{"word": "that", "count": 13}, {"word": "the", "count": 11}, {"word": "we", "count": 10}])
        );
    }

    #[test]
    fn words() {
        fn check(text: &str, expected: &[&str]) {
            assert_eq!(words_of(text).collect::<Vec<_>>(), expected);
        }
        check("", &[]);
        check(" -- ' ", &[]);
        check("don't re-read 'this'", &["don't", "re-read", "this"]);
        check("Größe, naïve; 日本 42", &["Größe", "naïve", "日本", "42"]);
    }

    #[test]
    fn bad_input_is_an_error_and_not_an_answer() {
        for bad in ["", "[]", "{}", r#"{"text":1}"#, r#"{"text":"a","extra":1}"#] {
            assert!(call(bad).is_err(), "{bad:?}");
        }
        assert!(run(&mut [0xff_u8].as_slice(), &mut Vec::new()).is_err());
    }

    #[test]
    fn too_many_different_words() {
        let text: String = (0..=DIFFERENT_WORDS_MAX).map(|number| format!("w{number} ")).collect();
        assert!(count(&Input { text, top: 1 }).unwrap_err().contains("different words"));
    }
}
