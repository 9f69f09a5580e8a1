//! Markdown into HTML that can be shown as it is, plain text and an outline. Needs no permission. What a reader's browser
//! would run or fetch does not come through: raw HTML, script addresses and, unless asked for, images.

mod address;
mod render;

use aral_guest::prelude::*;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The Markdown (CommonMark with tables, footnotes, task lists and strikethrough).
    markdown: String,
    /// What happens to HTML inside the Markdown.
    #[serde(default)]
    raw_html: render::RawHtml,
    /// Whether images stay. Showing one tells its server who reads the page; otherwise its description stands in its place.
    #[serde(default)]
    images: bool,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Output {
    /// The HTML, without `<html>` and `<body>`.
    html: String,
    /// The text alone.
    text: String,
    /// The headings in order.
    outline: Vec<render::Heading>,
}

fn render(input: Input) -> Result<Output> {
    let options = render::Options {
        raw_html: input.raw_html,
        images: input.images,
    };
    let rendered = render::render(&input.markdown, options);
    Ok(Output {
        html: rendered.html,
        text: rendered.text,
        outline: rendered.outline,
    })
}

capability! {
    title: "Render Markdown",
    description: "Turns Markdown into HTML that is safe to show, plain text and an outline of its headings.",
    run: render,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_document() {
        let input = serde_json::json!({ "markdown": include_str!("../tests/data/readme.md") });
        let output: serde_json::Value =
            serde_json::from_str(&aral_guest::serve(render, &input.to_string()).unwrap()).unwrap();
        assert_eq!(output["html"], include_str!("../tests/data/readme.html"));
        assert_eq!(output["text"], include_str!("../tests/data/readme.txt"));
        assert_eq!(
            output["outline"],
            serde_json::json!([
                {"level": 1, "text": "Tidy tables", "id": "section-tidy-tables"},
                {"level": 2, "text": "Use", "id": "section-use"},
                {"level": 2, "text": "Use", "id": "section-use-1"},
            ])
        );
    }

    #[test]
    fn unknown_members_are_refused() {
        assert!(matches!(
            aral_guest::serve(render, r#"{"markdown":"","html":true}"#),
            Err(Error::InvalidInput(_))
        ));
        assert!(matches!(
            aral_guest::serve(render, r#"{"markdown":"","raw_html":"keep"}"#),
            Err(Error::InvalidInput(_))
        ));
    }
}
