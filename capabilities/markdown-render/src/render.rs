//! One pass over the parser's events: unsafe ones are left out or turned into text, headings are named, and the plain text
//! is gathered on the way. The HTML is written by the parser's own writer, which escapes what it is given.

use std::collections::HashMap;

use aral_guest::prelude::*;
use pulldown_cmark::{CowStr, Event, HeadingLevel, Options as Syntax, Parser, Tag, TagEnd, html};

use crate::address;

/// What happens to HTML inside the Markdown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawHtml {
    /// It is shown as text.
    #[default]
    Escape,
    /// It is left out.
    Drop,
}

/// A heading.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct Heading {
    /// 1 to 6.
    pub(crate) level: u8,
    /// Its text.
    pub(crate) text: String,
    /// Its `id` in the HTML.
    pub(crate) id: String,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) raw_html: RawHtml,
    pub(crate) images: bool,
}

#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) html: String,
    pub(crate) text: String,
    pub(crate) outline: Vec<Heading>,
}

pub(crate) fn render(markdown: &str, options: Options) -> Rendered {
    let syntax = Syntax::ENABLE_TABLES
        | Syntax::ENABLE_FOOTNOTES
        | Syntax::ENABLE_STRIKETHROUGH
        | Syntax::ENABLE_TASKLISTS
        | Syntax::ENABLE_GFM;
    let mut pass = Pass {
        options,
        events: Vec::new(),
        text: String::new(),
        outline: Vec::new(),
        used_ids: HashMap::new(),
        kept: Vec::new(),
        heading: None,
    };
    for event in Parser::new_ext(markdown, syntax) {
        pass.take(event);
    }
    let mut html = String::with_capacity(markdown.len().saturating_mul(3) / 2);
    html::push_html(&mut html, pass.events.into_iter());
    Rendered {
        html,
        text: tidy(&pass.text),
        outline: pass.outline,
    }
}

struct Pass<'a> {
    options: Options,
    events: Vec<Event<'a>>,
    text: String,
    outline: Vec<Heading>,
    used_ids: HashMap<String, u32>,
    /// For each open link or image, whether it stays.
    kept: Vec<bool>,
    /// The open heading: where its event is, and where its text begins.
    heading: Option<(usize, usize)>,
}

impl<'a> Pass<'a> {
    fn take(&mut self, event: Event<'a>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => self.say(Event::Text(text.clone()), &text),
            Event::Code(text) => self.say(Event::Code(text.clone()), &text),
            Event::InlineMath(text) | Event::DisplayMath(text) => self.say(Event::Text(text.clone()), &text),
            Event::Html(text) | Event::InlineHtml(text) => {
                if self.options.raw_html == RawHtml::Escape {
                    self.say(Event::Text(text.clone()), &text);
                }
            }
            Event::FootnoteReference(label) => {
                self.events.push(Event::FootnoteReference(note_id(&label)));
            }
            Event::SoftBreak => self.say(Event::SoftBreak, "\n"),
            Event::HardBreak => self.say(Event::HardBreak, "\n"),
            Event::Rule => self.say(Event::Rule, "\n"),
            Event::TaskListMarker(done) => self.say(Event::TaskListMarker(done), if done { "[x] " } else { "[ ] " }),
        }
    }

    fn say(&mut self, event: Event<'a>, text: &str) {
        self.text.push_str(text);
        self.events.push(event);
    }

    fn start(&mut self, tag: Tag<'a>) {
        match tag {
            Tag::Link { ref dest_url, .. } => {
                let keep = address::is_safe(dest_url);
                self.open(keep, tag);
            }
            Tag::Image { ref dest_url, .. } => {
                let keep = self.options.images && address::is_safe_for_image(dest_url);
                self.open(keep, tag);
            }
            Tag::Heading { .. } => {
                self.heading = Some((self.events.len(), self.text.len()));
                self.events.push(Event::Start(tag));
            }
            Tag::FootnoteDefinition(label) => self.events.push(Event::Start(Tag::FootnoteDefinition(note_id(&label)))),
            Tag::Item => {
                self.text.push_str("- ");
                self.events.push(Event::Start(tag));
            }
            other => self.events.push(Event::Start(other)),
        }
    }

    fn open(&mut self, keep: bool, tag: Tag<'a>) {
        self.kept.push(keep);
        if keep {
            self.events.push(Event::Start(tag));
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Link | TagEnd::Image => {
                if self.kept.pop() == Some(true) {
                    self.events.push(Event::End(tag));
                }
                return;
            }
            TagEnd::Heading(level) => self.name_heading(level),
            TagEnd::TableCell => self.text.push('\t'),
            _ => {}
        }
        self.text.push_str(after(tag));
        self.events.push(Event::End(tag));
    }

    /// Gives the heading that ends here an `id`, the same that the outline names.
    fn name_heading(&mut self, level: HeadingLevel) {
        let Some((index, begin)) = self.heading.take() else {
            return;
        };
        let text = self.text.get(begin..).unwrap_or_default().trim().replace('\n', " ");
        let id = self.free_id(&text);
        if let Some(Event::Start(Tag::Heading { id: slot, .. })) = self.events.get_mut(index) {
            *slot = Some(CowStr::from(id.clone()));
        }
        self.outline.push(Heading {
            level: level as u8,
            text,
            id,
        });
    }

    /// The prefix keeps a heading from taking a name that scripts of the page around it look for.
    fn free_id(&mut self, text: &str) -> String {
        let id = format!("section-{}", slug(text));
        let used = self.used_ids.entry(id.clone()).or_default();
        let count = *used;
        *used = used.saturating_add(1);
        if count == 0 { id } else { format!("{id}-{count}") }
    }
}

fn note_id<'a>(label: &str) -> CowStr<'a> {
    CowStr::from(format!("note-{}", slug(label)))
}

/// Letters and digits in lower case, with single hyphens between.
fn slug(text: &str) -> String {
    let words = text
        .split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

/// What follows a block in the plain text.
fn after(tag: TagEnd) -> &'static str {
    match tag {
        TagEnd::Paragraph
        | TagEnd::Heading(_)
        | TagEnd::CodeBlock
        | TagEnd::Table
        | TagEnd::List(_)
        | TagEnd::HtmlBlock => "\n\n",
        TagEnd::Item | TagEnd::TableHead | TagEnd::TableRow | TagEnd::FootnoteDefinition => "\n",
        _ => "",
    }
}

/// No blanks at the ends of lines, and no more than one empty line in a row.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut empty_lines = 0_u32;
    for line in text.lines().map(str::trim_end) {
        if line.is_empty() {
            empty_lines = empty_lines.saturating_add(1);
            continue;
        }
        if empty_lines > 0 && !out.is_empty() {
            out.push('\n');
        }
        empty_lines = 0;
        out.push_str(line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(markdown: &str, raw_html: RawHtml, images: bool) -> String {
        render(markdown, Options { raw_html, images }).html
    }

    #[test]
    fn raw_html_is_shown_or_left_out_but_never_passed() {
        fn check(markdown: &str, escaped: &str, dropped: &str) {
            assert_eq!(html(markdown, RawHtml::Escape, false), escaped);
            assert_eq!(html(markdown, RawHtml::Drop, false), dropped);
        }
        check(
            "a <b onclick=x()>c</b>",
            "<p>a &lt;b onclick=x()&gt;c&lt;/b&gt;</p>\n",
            "<p>a c</p>\n",
        );
        check(
            "<script>alert(1)</script>\n",
            "&lt;script&gt;alert(1)&lt;/script&gt;\n",
            "",
        );
        check(
            "<!-- <img src=x onerror=y> -->",
            "&lt;!-- &lt;img src=x onerror=y&gt; --&gt;",
            "",
        );
    }

    #[test]
    fn links_that_run_something_become_text() {
        for markdown in [
            "[x](javascript:alert(1))",
            "[x](JAVASCRIPT&colon;alert(1))",
            "[x](java&#10;script:alert(1))",
            "[x](&#x1;javascript:alert(1))",
            "<javascript:alert(1)>",
            "[x][y]\n\n[y]: data:text/html,z",
            "![x](javascript:alert(1))",
        ] {
            for images in [false, true] {
                let html = html(markdown, RawHtml::Escape, images);
                assert!(!html.contains("href") && !html.contains("src"), "{markdown}: {html}");
            }
        }
        assert_eq!(
            html("[x](https://example.com/?a=\"b\")", RawHtml::Escape, false),
            "<p><a href=\"https://example.com/?a=%22b%22\">x</a></p>\n"
        );
    }

    #[test]
    fn images_stay_only_if_asked_for() {
        let markdown = "[![logo](https://example.com/l.png)](https://example.com)";
        assert_eq!(
            html(markdown, RawHtml::Escape, false),
            "<p><a href=\"https://example.com\">logo</a></p>\n"
        );
        assert!(html(markdown, RawHtml::Escape, true).contains("<img src=\"https://example.com/l.png\""));
    }

    #[test]
    fn names_in_the_page_are_prefixed() {
        let page = html("# location\n\nx[^cookie]\n\n[^cookie]: y\n", RawHtml::Escape, false);
        assert!(
            page.contains("id=\"section-location\"") && page.contains("id=\"note-cookie\""),
            "{page}"
        );
        assert!(page.contains("href=\"#note-cookie\""), "{page}");
        assert!(!page.contains("id=\"cookie\""), "{page}");
    }

    #[test]
    fn attributes_cannot_be_broken_out_of() {
        let page = html(
            "[x](<https://e.com/\"onmouseover=alert(1)> \"t\\\" onclick=y\")\n\n```a\"b onload=x\nc\n```",
            RawHtml::Escape,
            true,
        );
        for quoted in page.split('"').skip(1).step_by(2) {
            assert!(!quoted.contains('<'), "{page}");
        }
        assert!(
            !page.contains("\" onclick") && !page.contains("\"onmouseover") && !page.contains("\" onload"),
            "{page}"
        );
    }

    #[test]
    fn deep_nesting_ends() {
        let page = html(&"> ".repeat(5_000), RawHtml::Escape, false);
        assert!(page.starts_with("<blockquote>"));
        html(&"[".repeat(20_000), RawHtml::Escape, false);
        html(&"*a ".repeat(20_000), RawHtml::Escape, false);
    }
}
