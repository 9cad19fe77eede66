//! Texts of others in Markdown (CommonMark with tables): a name, a reason, an address that must not become markup.
//!
//! What is always true: every character that could begin some is escaped, wherever the text stands, so that what is read
//! on a terminal has a few backslashes more than it needs. Runbooks and exports of evidence write with it.

/// Plain words on one line, in a paragraph, a heading, an item or a cell.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '`' | '*' | '_' | '<' | '>' | '[' | ']' | '#' | '&' | '~' | '|' => {
                out.push('\\');
                out.push(character);
            }
            character if character.is_control() => out.push(' '),
            character => out.push(character),
        }
    }
    out
}

/// A name to the byte, in more backticks than it has in a row.
pub(crate) fn code(text: &str) -> String {
    let text: String = text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    let ticks = "`".repeat(longest_run(&text) + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{ticks}{pad}{text}{pad}{ticks}")
}

/// The same in a cell of a table, which ends at its bar even inside of code.
pub(crate) fn code_in_cell(text: &str) -> String {
    code(text).replace('|', "\\|")
}

/// Lines of a shell, in a fence that none of them can end.
pub(crate) fn shell(lines: &[String]) -> String {
    let text = lines.join("\n");
    let fence = "`".repeat(longest_run(&text).max(2) + 1);
    format!("{fence}sh\n{text}\n{fence}\n")
}

/// The longest row of backticks.
fn longest_run(text: &str) -> usize {
    text.split(|character| character != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_text_is_markup() {
        assert_eq!(plain("<b> *x* [y](z)\n# h"), "\\<b\\> \\*x\\* \\[y\\](z) \\# h");
        assert_eq!(plain("a | b \\ ![i](u)"), "a \\| b \\\\ !\\[i\\](u)");
        assert_eq!((code("a`b").as_str(), code("`").as_str()), ("``a`b``", "`` ` ``"));
        assert_eq!(code_in_cell("a|b"), "`a\\|b`");
        assert!(shell(&["```".to_owned(), "rm".to_owned()]).starts_with("````sh\n"));
    }

    proptest! {
        #[test]
        fn words_stay_on_one_line_and_in_one_cell_and_lose_nothing(text in "\\PC{0,40}") {
            let escaped = plain(&text);
            let mut characters = escaped.chars();
            let mut back = String::new();
            while let Some(character) = characters.next() {
                prop_assert!(!matches!(character, '|' | '<' | '`' | '*' | '\n'), "{escaped:?}");
                back.push(if character == '\\' { characters.next().unwrap() } else { character });
            }
            prop_assert_eq!(back, text);
        }

        #[test]
        fn code_ends_at_its_own_backticks(text in "[a`|\n]{1,12}") {
            let written = code(&text);
            let ticks = written.len() - written.trim_start_matches('`').len();
            let fence = "`".repeat(ticks);
            let inside = &written[ticks..written.len() - ticks];
            // As CommonMark reads it: the first row of just as many backticks ends it.
            prop_assert!(!inside.split(|character| character != '`').any(|run| run == fence), "{written:?}");
        }
    }
}
