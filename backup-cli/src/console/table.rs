//! Columns for people.

/// Rows of columns, as wide as their widest cell.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    title: &'static str,
    side: Side,
}

/// Where a cell's text stands in its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl Table {
    /// A table with these columns; numbers stand at the right, which `>` before a title asks for.
    pub(crate) fn new(titles: &[&'static str]) -> Self {
        let column = |title: &&'static str| match title.strip_prefix('>') {
            Some(title) => Column { title, side: Side::Right },
            None => Column { title, side: Side::Left },
        };
        Self { columns: titles.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as text; titles only where one has any.
    pub(crate) fn text(&self) -> String {
        let titles: Vec<String> = self.columns.iter().map(|column| column.title.to_owned()).collect();
        let has_titles = titles.iter().any(|title| !title.is_empty());
        let lines: Vec<&Vec<String>> = has_titles.then_some(&titles).into_iter().chain(&self.rows).collect();
        let width = |at: usize| lines.iter().filter_map(|line| line.get(at)).map(|cell| chars(cell)).max();
        let widths: Vec<usize> = (0..self.columns.len()).map(|at| width(at).unwrap_or(0)).collect();
        let mut text = String::new();
        for line in lines {
            let mut written = String::new();
            for ((cell, column), width) in line.iter().zip(&self.columns).zip(&widths) {
                let padding = " ".repeat(width - chars(cell));
                match column.side {
                    Side::Left => written += &format!("{cell}{padding}  "),
                    Side::Right => written += &format!("{padding}{cell}  "),
                }
            }
            text += written.trim_end();
            text.push('\n');
        }
        text
    }
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["ID", ">Size", "Path"]);
        table.row(["a".into(), "1".into(), "/é".into()]);
        table.row(["bcd".into(), "1,000".into(), String::new()]);
        assert_eq!(table.text(), "ID    Size  Path\na        1  /é\nbcd  1,000\n");
        assert_eq!(Table::new(&["", ""]).text(), "");
    }
}
