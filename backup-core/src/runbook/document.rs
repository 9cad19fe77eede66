//! A document before it is rendered: sections of paragraphs, lists, tables and lines for a shell.
//!
//! Texts are kept apart from what surrounds them, so that a renderer escapes each in its own way and nothing in a text
//! is ever taken for markup.

/// A document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// Its title.
    pub title: String,
    /// Its sections, in order.
    pub sections: Vec<Section>,
}

/// A part of a document with a heading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// A word for links to it: letters and `-`.
    pub anchor: &'static str,
    /// Its heading.
    pub title: String,
    /// What it says.
    pub blocks: Vec<Block>,
}

/// Something that stands on lines of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// A heading inside a section.
    Heading(Words),
    /// A paragraph.
    Text(Words),
    /// A paragraph that must not be passed over.
    Warning(Words),
    /// A list.
    List(Vec<Words>),
    /// Lines to type into a shell, each a command or a comment.
    Shell(Vec<String>),
    /// A table: its heads, and rows of as many cells.
    Table(Vec<&'static str>, Vec<Vec<Words>>),
}

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// Plain words.
    Plain(String),
    /// A name, path or command, to the byte.
    Code(String),
    /// Words that matter.
    Strong(String),
}

/// A text of several pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words(pub Vec<Span>);

impl Words {
    /// No words yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds plain words.
    #[must_use]
    pub fn plain(mut self, text: impl Into<String>) -> Self {
        self.0.push(Span::Plain(text.into()));
        self
    }

    /// Adds a name, a path, a command.
    #[must_use]
    pub fn code(mut self, text: impl Into<String>) -> Self {
        self.0.push(Span::Code(text.into()));
        self
    }

    /// Adds words that matter.
    #[must_use]
    pub fn strong(mut self, text: impl Into<String>) -> Self {
        self.0.push(Span::Strong(text.into()));
        self
    }

    /// Adds several pieces.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

impl From<&str> for Words {
    fn from(text: &str) -> Self {
        Self::new().plain(text)
    }
}

impl From<String> for Words {
    fn from(text: String) -> Self {
        Self::new().plain(text)
    }
}

impl Section {
    /// A section that says nothing yet.
    pub(super) fn new(anchor: &'static str, title: &str) -> Self {
        Self { anchor, title: title.to_owned(), blocks: Vec::new() }
    }

    pub(super) fn heading(&mut self, words: impl Into<Words>) {
        self.blocks.push(Block::Heading(words.into()));
    }

    pub(super) fn text(&mut self, words: impl Into<Words>) {
        self.blocks.push(Block::Text(words.into()));
    }

    pub(super) fn warning(&mut self, words: impl Into<Words>) {
        self.blocks.push(Block::Warning(words.into()));
    }

    pub(super) fn list(&mut self, items: impl IntoIterator<Item = Words>) {
        let items: Vec<_> = items.into_iter().collect();
        if !items.is_empty() {
            self.blocks.push(Block::List(items));
        }
    }

    pub(super) fn shell(&mut self, lines: impl IntoIterator<Item = String>) {
        self.blocks.push(Block::Shell(lines.into_iter().collect()));
    }

    pub(super) fn table(&mut self, heads: &[&'static str], rows: Vec<Vec<Words>>) {
        self.blocks.push(Block::Table(heads.to_vec(), rows));
    }
}
