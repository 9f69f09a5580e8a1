//! Writes a report into a granted folder, as Markdown, CSV or JSON. A reader of the folder sees the old file or the whole
//! new one, and nothing is replaced unless the caller asks for it. Where the folder lies and how much fits is the host's.

mod format;
mod store;

use std::path::Path;

use aral_guest::prelude::*;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The folder to write into; the first granted one if absent.
    folder: Option<String>,
    /// The file name without its ending: 1 to 100 letters, digits, inner spaces and `.`, `_`, `-`.
    #[schemars(length(min = 1, max = 100))]
    name: String,
    /// How to write it. CSV takes one table and nothing else.
    #[serde(default)]
    format: format::Format,
    /// Whether a file of this name is replaced. Otherwise that is an error.
    #[serde(default)]
    overwrite: bool,
    /// What to write.
    report: format::Report,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Output {
    /// Where it was written.
    path: String,
    /// How long it is.
    bytes: usize,
}

fn write(input: Input) -> Result<Output> {
    let name = store::file_name(&input.name, input.format.ending())?;
    let text = input.format.render(&input.report)?;
    let folder = match input.folder {
        Some(folder) => folder,
        None => files::first_root()?,
    };
    let path = store::store(Path::new(&folder), &name, text.as_bytes(), input.overwrite)?;
    let path = path.display().to_string();
    log::info(format_args!("wrote {} bytes to {path}", text.len()));
    Ok(Output {
        path,
        bytes: text.len(),
    })
}

capability! {
    title: "Write a report",
    description: "Writes a report with headings, text and tables into a folder, as Markdown, CSV or JSON.",
    run: write,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_report_is_written_and_kept() {
        let folder = store::tests::TestFolder::new("whole");
        let call = |overwrite: bool| {
            let mut input: serde_json::Value =
                serde_json::from_str(include_str!("../tests/data/quarter.json")).unwrap();
            input["folder"] = folder.0.display().to_string().into();
            input["overwrite"] = overwrite.into();
            aral_guest::serve(write, &input.to_string())
        };
        let answer: serde_json::Value = serde_json::from_str(&call(false).unwrap()).unwrap();
        let written = std::fs::read_to_string(answer["path"].as_str().unwrap()).unwrap();
        assert_eq!(written, include_str!("../tests/data/quarter.md"));
        assert!(matches!(call(false), Err(Error::InvalidInput(text)) if text.contains("overwrite")));
        assert!(call(true).is_ok());
        assert_eq!(folder.names(), ["2026-q3.md"]);
    }

    #[test]
    fn a_bad_call_writes_nothing() {
        let folder = store::tests::TestFolder::new("bad");
        let folder_text = folder.0.display().to_string();
        for (name, format) in [("../up", "markdown"), ("ok", "csv"), ("", "json"), ("ok", "docx")] {
            let input = serde_json::json!({
                "folder": folder_text, "name": name, "format": format, "report": { "title": "No table" }
            });
            let answer = aral_guest::serve(write, &input.to_string());
            assert!(
                matches!(answer, Err(Error::InvalidInput(_))),
                "{name} {format}: {answer:?}"
            );
        }
        assert!(folder.names().is_empty());
    }
}
