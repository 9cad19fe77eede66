//! A document as Markdown (CommonMark with tables).
//!
//! What is always true: no text is taken for markup; see [`crate::markdown`].

use super::document::{Block, Document, Span, Words};
use crate::markdown::{code, code_in_cell, plain, shell};

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
        Block::Shell(lines) => out.push_str(&shell(lines)),
        Block::Table(heads, rows) => {
            out.push_str(&format!("| {} |\n|{}\n", heads.join(" | "), " --- |".repeat(heads.len())));
            for row in rows {
                let cells: Vec<_> = row.iter().map(|cell| written(cell, code_in_cell)).collect();
                out.push_str(&format!("| {} |\n", cells.join(" | ")));
            }
        }
    }
}

fn text(words: &Words) -> String {
    written(words, code)
}

fn written(words: &Words, code: fn(&str) -> String) -> String {
    let span = |span: &Span| match span {
        Span::Plain(text) => plain(text),
        Span::Strong(text) => format!("**{}**", plain(text)),
        Span::Code(text) => code(text),
    };
    words.0.iter().map(span).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_in_a_cell_is_no_new_cell() {
        let cells = vec![Words::from("x|y"), Words(vec![Span::Code("a|b".to_owned())])];
        let mut out = String::new();
        put(&mut out, &Block::Table(vec!["a", "b"], vec![cells]));
        assert!(out.ends_with("| x\\|y | `a\\|b` |\n"), "{out}");
    }
}
