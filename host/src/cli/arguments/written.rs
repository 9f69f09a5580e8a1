//! A file that a verb writes, as it stands on the command line.

use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};

/// Any path but `-`, which elsewhere means a pipe: whoever writes it here would get a file of that name, and an empty pipe.
pub(crate) fn file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| {
        if path == Path::new("-") {
            Err("this goes to a file, and not to standard output; a file of this name is `./-`")
        } else {
            Ok(path)
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use clap::error::ErrorKind;

    use crate::cli::arguments::Arguments;

    #[test]
    fn no_verb_takes_a_dash_for_the_name_of_a_file_that_it_writes() {
        for words in [
            "memory keygen",
            "memory get notes a --out",
            "memory export --to k.pub.pem --out",
            "secret get token --out",
            "audit export --out",
            "audit prove 1 --out",
            "manifest build . --out",
            "persona new --id me --out",
            "run a.wasm --observe",
        ] {
            let parse = |file: &str| {
                let words = ["aral"].into_iter().chain(words.split(' ')).chain([file]);
                Arguments::try_parse_from(words)
            };
            let refused = parse("-").unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ValueValidation, "{words}: {refused}");
            assert!(refused.to_string().contains("`./-`"), "{words}: {refused}");
            assert!(parse("./-").is_ok(), "{words}");
        }
    }
}
