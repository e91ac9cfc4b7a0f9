//! How commands print what they were told: as JSON for programs, or as a table for people, with columns as wide as what is in them.

/// How it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// For people
    Table,
    /// For programs
    Json,
}

impl Form {
    /// The text of it; `table` makes the one for people.
    ///
    /// # Errors
    /// It cannot be JSON.
    pub(crate) fn text(
        self,
        value: &impl serde::Serialize,
        table: impl FnOnce() -> String,
    ) -> serde_json::Result<String> {
        Ok(match self {
            Self::Json => serde_json::to_string_pretty(value)? + "\n",
            Self::Table => table(),
        })
    }
}

/// The lines of a table, each ended by a line feed.
pub(crate) fn table<const COLUMNS: usize>(
    head: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows);
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
    });
    let line = |line: &[String; COLUMNS]| {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  "));
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["root", "10GiB", ""], ["database", "1TiB", "x"]].map(|row| row.map(str::to_owned));
        let expected = "NAME      SIZE   LUNS\nroot      10GiB\ndatabase  1TiB   x\n";
        assert_eq!(table(["NAME", "SIZE", "LUNS"], rows), expected);
    }
}
