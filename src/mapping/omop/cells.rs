//! One row as text cells, whatever it was stored in.

use arrow::array::{Array, StringArray};

/// The cells of one row.
#[derive(Clone, Copy, Debug)]
pub enum Cells<'r> {
    /// A record of delimited text: all its text, and where each cell ends.
    Text {
        /// The cells' text, one after another.
        text: &'r str,
        /// Where each cell ends.
        ends: &'r [usize],
    },
    /// A row of columns that were cast to text.
    Columns {
        /// The columns.
        columns: &'r [StringArray],
        /// The row.
        row: usize,
    },
}

impl<'r> Cells<'r> {
    /// How many cells there are.
    pub const fn len(&self) -> usize {
        match self {
            Self::Text { ends, .. } => ends.len(),
            Self::Columns { columns, .. } => columns.len(),
        }
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A cell without surrounding blanks; `None` where it is empty, or written as nothing (`NULL`, `\N`).
    pub fn get(&self, index: usize) -> Option<&'r str> {
        let cell = match *self {
            Self::Text { text, ends } => {
                let end = *ends.get(index)?;
                let start = if index == 0 { 0 } else { ends[index - 1] };
                text.get(start..end)?
            }
            Self::Columns { columns, row } => {
                let column = columns.get(index)?;
                if column.is_null(row) {
                    return None;
                }
                column.value(row)
            }
        };
        let cell = cell.trim();
        (!matches!(cell, "" | "NULL" | "\\N" | "null")).then_some(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_cut_where_they_end() {
        let row = Cells::Text { text: "12 x NULL", ends: &[2, 4, 4, 5, 9] };
        assert_eq!((row.get(0), row.get(1), row.get(2)), (Some("12"), Some("x"), None));
        assert_eq!((row.get(4), row.get(5), row.len()), (None, None, 5));
    }
}
