//! Text inside a page.

/// `text` with nothing in it that a browser takes for something else, inside and outside of quotes.
pub(super) fn escaped(text: &str) -> String {
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
