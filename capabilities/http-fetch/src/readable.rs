//! What a person would read of an HTML page: headings, paragraphs, lists and tables as text, without scripts, menus and
//! forms. If the page marks its main part, only that. The tokens come from `html5gum`, which follows the HTML standard and
//! takes any bytes; this only decides which of the text to keep.

use std::mem;

use html5gum::{DefaultEmitter, Token, Tokenizer};

/// Elements that hold no text for a reader, or text that is not the page's own.
const SKIPPED: [&str; 16] = [
    "aside", "button", "canvas", "dialog", "footer", "form", "head", "iframe", "nav", "noscript", "object", "script",
    "select", "style", "svg", "template",
];

/// The subset that never holds text, whatever else a page gets wrong.
const NEVER_TEXT: [&str; 4] = ["script", "style", "svg", "template"];

/// Elements that begin and end a line.
const BLOCKS: [&str; 28] = [
    "address",
    "article",
    "blockquote",
    "body",
    "caption",
    "dd",
    "details",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "header",
    "hr",
    "html",
    "legend",
    "li",
    "main",
    "ol",
    "p",
    "pre",
    "section",
    "summary",
    "table",
    "tr",
    "ul",
    "title",
];

/// A marked main part with less text than this is a mistake of the page.
const MAIN_CHARS_MIN: usize = 200;

#[derive(Debug, PartialEq)]
pub(crate) struct Page {
    pub(crate) title: Option<String>,
    pub(crate) text: String,
}

pub(crate) fn extract(html: &str) -> Page {
    let strict = read(html, &SKIPPED);
    if !strict.whole.is_empty() {
        return strict.into_page();
    }
    // An element that is never closed swallows the rest of a page; then a menu is better than nothing.
    let lenient = read(html, &NEVER_TEXT);
    Page {
        title: strict.title.or(lenient.title),
        text: lenient.whole,
    }
}

#[derive(Default)]
struct Reader {
    title: Option<String>,
    /// The text of the whole page, and of what lies inside `main` or `article`.
    whole: String,
    main: String,
    line: String,
    in_title: bool,
    main_depth: usize,
    pre_depth: usize,
    /// The outermost skipped element, and how many of its name are open.
    skipping: Option<(String, usize)>,
}

impl Reader {
    fn into_page(self) -> Page {
        let main_is_enough = self.main.chars().count() >= MAIN_CHARS_MIN;
        Page {
            title: self.title,
            text: if main_is_enough { self.main } else { self.whole },
        }
    }
}

fn read(html: &str, skipped: &[&str]) -> Reader {
    let mut emitter = DefaultEmitter::default();
    // The text of scripts and styles is not markup.
    emitter.naively_switch_states(true);
    let mut reader = Reader::default();
    for token in Tokenizer::new_with_emitter(html, emitter) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => {
                let name = String::from_utf8_lossy(&tag.name);
                reader.start(&name, tag.self_closing, skipped);
            }
            Token::EndTag(tag) => reader.end(&String::from_utf8_lossy(&tag.name)),
            Token::String(text) => reader.text(&String::from_utf8_lossy(&text)),
            Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
        }
    }
    reader.break_line();
    reader
}

impl Reader {
    fn start(&mut self, name: &str, self_closing: bool, skipped: &[&str]) {
        if name == "title" && self.title.is_none() && !matches!(&self.skipping, Some((open, _)) if open != "head") {
            self.in_title = true;
            return;
        }
        if let Some((open, depth)) = &mut self.skipping {
            if open == name && !self_closing {
                *depth = depth.saturating_add(1);
            } else if open == "head" && name == "body" {
                self.skipping = None;
            }
            return;
        }
        if skipped.contains(&name) {
            self.break_line();
            if !self_closing {
                self.skipping = Some((name.to_owned(), 1));
            }
            return;
        }
        self.block_edge(name);
        match name {
            "main" | "article" => self.main_depth = self.main_depth.saturating_add(1),
            "pre" => self.pre_depth = self.pre_depth.saturating_add(1),
            "li" => self.line.push_str("- "),
            "br" => self.break_line(),
            "td" | "th" if !self.line.trim().is_empty() => self.line.push_str(" | "),
            _ => {
                if let Some(level) = heading_level(name) {
                    self.line.push_str(&"#".repeat(level));
                    self.line.push(' ');
                }
            }
        }
    }

    fn end(&mut self, name: &str) {
        if name == "title" && self.in_title {
            self.in_title = false;
            return;
        }
        if let Some((open, depth)) = &mut self.skipping {
            if open == name {
                *depth = depth.saturating_sub(1);
                if *depth == 0 {
                    self.skipping = None;
                }
            }
            return;
        }
        self.block_edge(name);
        match name {
            "main" | "article" => self.main_depth = self.main_depth.saturating_sub(1),
            "pre" => self.pre_depth = self.pre_depth.saturating_sub(1),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if self.in_title {
            let title = self.title.get_or_insert_default();
            title.push_str(text);
            *title = title.split_whitespace().collect::<Vec<_>>().join(" ");
            return;
        }
        if self.skipping.is_some() {
            return;
        }
        if self.pre_depth > 0 {
            self.preformatted(text);
            return;
        }
        for character in text.chars() {
            // As a browser shows it: any run of blanks is one blank, and none begins a line.
            if character.is_whitespace() {
                if !self.line.is_empty() && !self.line.ends_with(' ') {
                    self.line.push(' ');
                }
            } else if !character.is_control() {
                self.line.push(character);
            }
        }
    }

    fn preformatted(&mut self, text: &str) {
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                self.break_line();
            }
            self.line.extend(
                line.chars()
                    .filter(|character| !character.is_control() || *character == '\t'),
            );
        }
    }

    fn block_edge(&mut self, name: &str) {
        if BLOCKS.contains(&name) || heading_level(name).is_some() {
            self.break_line();
        }
    }

    fn break_line(&mut self) {
        let line = mem::take(&mut self.line);
        let line = line.trim_end();
        // What only marks an item or a heading that turned out empty is no line.
        if line.trim_matches(['-', '#', ' ', '|']).is_empty() {
            return;
        }
        self.whole.push_str(line);
        self.whole.push('\n');
        if self.main_depth > 0 {
            self.main.push_str(line);
            self.main.push('\n');
        }
    }
}

fn heading_level(name: &str) -> Option<usize> {
    match name {
        "h1" => Some(1),
        "h2" => Some(2),
        "h3" => Some(3),
        "h4" => Some(4),
        "h5" => Some(5),
        "h6" => Some(6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(html: &str, expected: &str) {
        assert_eq!(extract(html).text, expected, "{html}");
    }

    #[test]
    fn blocks_blanks_and_entities() {
        check("<p>a\n  b</p>c<br>d &amp; e&nbsp;f", "a b\nc\nd & e f\n");
        check("<h2>T</h2><ul><li>x<li>y <b>z</b></ul>", "## T\n- x\n- y z\n");
        check("<table><tr><th>a<th>b<tr><td>1<td>2</table>", "a | b\n1 | 2\n");
        check("<pre>a\n  b\tc</pre>", "a\n  b\tc\n");
        check("", "");
    }

    #[test]
    fn scripts_and_menus_are_left_out() {
        check("<script>var a = '<p>x</p>';</script><p>y", "y\n");
        check(
            "<style>p{}</style><nav><ul><li>Home</ul></nav><p>y<footer>z</footer>",
            "y\n",
        );
        check("<template><p>x</p></template><noscript>on</noscript><p>y", "y\n");
        check("<!-- <p>x --><p>y", "y\n");
        check("<svg><title>icon</title><text>x</text></svg>y", "y\n");
    }

    #[test]
    fn the_main_part_if_it_is_one() {
        let long = "word ".repeat(60);
        check(
            &format!("<p>before<main><p>{long}</main><p>after"),
            &format!("{}\n", long.trim_end()),
        );
        check("<p>before<main>x</main><p>after", "before\nx\nafter\n");
    }

    #[test]
    fn broken_pages_still_give_something() {
        check(
            "<nav><p>never closed, and all there is",
            "never closed, and all there is\n",
        );
        check("<head><title>t</title><body><p>x", "x\n");
        check("</p></main></nav>x<", "x<\n");
        check("<p attr=\"unclosed", "");
        assert_eq!(extract("<title>a\n b</title>").title.as_deref(), Some("a b"));
        assert_eq!(extract("<svg><title>icon</title></svg>x").title, None);
    }

    #[test]
    fn depth_costs_nothing() {
        check(&format!("{}x", "<div>".repeat(100_000)), "x\n");
    }
}
