//! A document as Markdown (CommonMark with tables).
//!
//! What is always true: no text is taken for markup. Every character that could begin some is escaped, so that what is
//! read on a terminal has a few backslashes more than it needs.

use super::document::{Block, Document, Span, Words};

/// Renders documents one after the other.
pub fn markdown(documents: &[Document]) -> String {
    let mut out = String::new();
    for document in documents {
        if !out.is_empty() {
            out.push_str("\n---\n\n");
        }
        out.push_str(&format!("# {}\n", plain(&document.title)));
        for section in &document.sections {
            out.push_str(&format!("\n## {}\n", plain(&section.title)));
            section.blocks.iter().for_each(|block| put(&mut out, block));
        }
    }
    out
}

fn put(out: &mut String, block: &Block) {
    out.push('\n');
    match block {
        Block::Heading(words) => out.push_str(&format!("### {}\n", text(words))),
        Block::Text(words) => out.push_str(&format!("{}\n", text(words))),
        Block::Warning(words) => out.push_str(&format!("> **Mind:** {}\n", text(words))),
        Block::List(items) => items.iter().for_each(|item| out.push_str(&format!("* {}\n", text(item)))),
        Block::Shell(lines) => {
            let fence = "`".repeat(longest_run(&lines.join("\n")).max(2) + 1);
            out.push_str(&format!("{fence}sh\n{}\n{fence}\n", lines.join("\n")));
        }
        Block::Table(heads, rows) => {
            out.push_str(&format!("| {} |\n|{}\n", heads.join(" | "), " --- |".repeat(heads.len())));
            for row in rows {
                // A cell ends at its bar even inside of code.
                let cells: Vec<_> = row.iter().map(|cell| text(cell).replace('|', "\\|")).collect();
                out.push_str(&format!("| {} |\n", cells.join(" | ")));
            }
        }
    }
}

fn text(words: &Words) -> String {
    let span = |span: &Span| match span {
        Span::Plain(text) => plain(text),
        Span::Strong(text) => format!("**{}**", plain(text)),
        Span::Code(text) => code(text),
    };
    words.0.iter().map(span).collect()
}

/// Plain words on one line.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '`' | '*' | '_' | '<' | '>' | '[' | ']' | '#' | '&' | '~' => {
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
fn code(text: &str) -> String {
    let text: String = text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    let ticks = "`".repeat(longest_run(&text) + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{ticks}{pad}{text}{pad}{ticks}")
}

/// The longest row of backticks.
fn longest_run(text: &str) -> usize {
    text.split(|character| character != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_markup() {
        assert_eq!(plain("<b> *x* [y](z)\n# h"), "\\<b\\> \\*x\\* \\[y\\](z) \\# h");
        assert_eq!(code("a`b"), "``a`b``");
        assert_eq!(code("`"), "`` ` ``");
        let row = Block::Table(vec!["a"], vec![vec![Words::from("x|y")]]);
        let mut out = String::new();
        put(&mut out, &row);
        assert!(out.contains("x\\|y"), "{out}");
        let mut out = String::new();
        put(&mut out, &Block::Shell(vec!["```".to_owned(), "rm".to_owned()]));
        assert!(out.starts_with("\n````sh\n"), "{out}");
    }
}
