//! A document as one page of HTML.
//!
//! What is always true: it is whole by itself, without a script and without anything from elsewhere; every text in it is
//! escaped; it can be read on a phone, in the dark, and printed.

use super::document::{Block, Document, Span, Words};

const STYLE: &str = include_str!("runbook.css");

/// Renders documents as articles of one page.
pub fn html(documents: &[Document]) -> String {
    let title = documents.first().map_or("Runbook", |document| &document.title);
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\
         <link rel=\"icon\" href=\"data:,\"><title>{}</title><style>{STYLE}</style></head><body>",
        escaped(title)
    );
    for (number, document) in documents.iter().enumerate() {
        article(&mut out, number, document);
    }
    out.push_str("</body></html>\n");
    out
}

fn article(out: &mut String, number: usize, document: &Document) {
    out.push_str(&format!("<article><h1>{}</h1><nav><ol>", escaped(&document.title)));
    for section in &document.sections {
        let (anchor, title) = (section.anchor, escaped(&section.title));
        out.push_str(&format!("<li><a href=\"#{anchor}-{number}\">{title}</a></li>"));
    }
    out.push_str("</ol></nav>");
    for section in &document.sections {
        let (anchor, title) = (section.anchor, escaped(&section.title));
        out.push_str(&format!("<section id=\"{anchor}-{number}\"><h2>{title}</h2>\n"));
        section.blocks.iter().for_each(|block| put(out, block));
        out.push_str("</section>\n");
    }
    out.push_str("</article>");
}

fn put(out: &mut String, block: &Block) {
    match block {
        Block::Heading(words) => out.push_str(&format!("<h3>{}</h3>\n", text(words))),
        Block::Text(words) => out.push_str(&format!("<p>{}</p>\n", text(words))),
        Block::Warning(words) => {
            out.push_str(&format!("<p class=\"mind\"><strong>Mind:</strong> {}</p>\n", text(words)));
        }
        Block::List(items) => {
            let items: String = items.iter().map(|item| format!("<li>{}</li>", text(item))).collect();
            out.push_str(&format!("<ul>{items}</ul>\n"));
        }
        Block::Shell(lines) => {
            let lines: Vec<_> = lines.iter().map(|line| escaped(line)).collect();
            out.push_str(&format!("<pre tabindex=\"0\"><code>{}</code></pre>\n", lines.join("\n")));
        }
        Block::Table(heads, rows) => {
            let heads: String = heads.iter().map(|head| format!("<th scope=\"col\">{head}</th>")).collect();
            out.push_str(&format!(
                "<div class=\"scroll\" tabindex=\"0\"><table><thead><tr>{heads}</tr></thead><tbody>"
            ));
            for row in rows {
                let cells: String = row.iter().map(|cell| format!("<td>{}</td>", text(cell))).collect();
                out.push_str(&format!("<tr>{cells}</tr>"));
            }
            out.push_str("</tbody></table></div>\n");
        }
    }
}

fn text(words: &Words) -> String {
    let span = |span: &Span| match span {
        Span::Plain(text) => escaped(text),
        Span::Strong(text) => format!("<strong>{}</strong>", escaped(text)),
        Span::Code(text) => format!("<code>{}</code>", escaped(text)),
    };
    words.0.iter().map(span).collect()
}

/// `text` with nothing in it that a browser takes for something else, inside and outside of quotes.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // What would turn the direction of the text around it, or end the page's own.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            character if character.is_control() && character != '\n' => out.push('\u{fffd}'),
            character => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_taken_for_something_else() {
        assert_eq!(
            escaped("<b onclick='x()'>\"&\u{0}\u{202e}"),
            "&lt;b onclick=&#39;x()&#39;&gt;&quot;&amp;\u{fffd}\u{fffd}"
        );
        assert_eq!(escaped("Zürich 🏔"), "Zürich 🏔");
    }
}
