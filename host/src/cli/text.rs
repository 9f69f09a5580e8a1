//! The filter between texts that others wrote and the terminal. A guest, a manifest or a file name that holds escape
//! sequences could move the cursor, forge lines of ours or reorder what is read; here such characters become visible.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Characters that change how the text around them is shown: C0 and C1 controls, DEL, and the marks that reorder text.
fn is_active(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{E0000}'..='\u{E007F}'
        )
}

fn filter(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(|character| is_active(character) && !keep(character)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_active(character) && !keep(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// For a text of several lines: line feeds and tabs stay, every other active character is escaped.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    filter(text, |character| matches!(character, '\n' | '\t'))
}

/// For a text that must stay on its line, such as the cell of a table: every active character is escaped.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    filter(text, |_| false)
}

/// Columns are no wider. A cell that is longer is shown whole, and pushes what follows it to the right.
const COLUMN_WIDTH_MAX: usize = 80;

/// How wide a column with these cells is, as they are shown. One long cell of a stranger's pads no other cell without end, and a
/// width above 65,535 is one that formatting does not take.
pub(crate) fn column<'a>(cells: impl Iterator<Item = &'a str>) -> usize {
    let widest = cells.map(|cell| cell.chars().count()).max();
    widest.unwrap_or_default().min(COLUMN_WIDTH_MAX)
}

/// For JSON: the active characters that RFC 8259 lets stand in a string become `\uXXXX`, so that it means the same. The
/// other control characters cannot stand there, and between strings only blanks can.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    let keep = |character| matches!(character, '\n' | '\t' | '\r');
    if !text.contains(|character| is_active(character) && !keep(character)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_active(character) && !keep(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _infallible = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_characters_become_visible() {
        for (given, expected) in [
            ("plain ä 漢 🦀", "plain ä 漢 🦀"),
            ("a\x1b[2Jb", "a\\u{1b}[2Jb"),
            ("a\u{9b}31mb", "a\\u{9b}31mb"),
            ("a\rb\u{7f}", "a\\u{d}b\\u{7f}"),
            ("x\u{202e}y", "x\\u{202e}y"),
            ("two\n\tlines", "two\n\tlines"),
        ] {
            assert_eq!(lines(given), expected);
        }
        assert_eq!(line("two\n\tlines"), "two\\u{a}\\u{9}lines");
    }

    #[test]
    fn a_long_cell_makes_no_column_wider_than_a_screen() {
        assert_eq!(column(["ä", "three"].into_iter()), 5);
        assert_eq!(column([].into_iter()), 0);
        assert_eq!(column(["a", &"b".repeat(70_000)].into_iter()), 80);
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({"a\u{9b}": "\u{1b}[2J \u{7f} \u{202e} \u{e0041} ä 🦀"});
        let shown = json(&value.to_string()).into_owned();
        assert!(!shown.contains(is_active), "{shown:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
