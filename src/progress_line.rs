//! A line that tells how far something is, written anew in its place. Where nobody looks on, nothing is written.

use std::io::{IsTerminal, Write, stderr};

/// Columns of the bar.
const BAR: u64 = 24;

/// The line, on standard error.
pub(crate) struct ProgressLine {
    is_seen: bool,
    /// Columns that it takes now.
    columns: usize,
}

impl ProgressLine {
    /// Nothing is told yet.
    pub(crate) fn new() -> Self {
        Self { is_seen: stderr().is_terminal(), columns: 0 }
    }

    /// So much is done of all there is.
    pub(crate) fn tell(&mut self, done: u64, all: u64, what: &str) {
        if self.is_seen {
            let line = format!("{} {what}", bar(done, all));
            let columns = line.chars().count();
            // Whoever closed it does not look on.
            let _ = write!(stderr(), "\r{line:<width$}", width = self.columns);
            let _ = stderr().flush();
            self.columns = columns;
        }
    }

    /// It is over: what is written next stands where it stood.
    pub(crate) fn clear(&mut self) {
        if self.columns > 0 {
            let _ = write!(stderr(), "\r{:width$}\r", "", width = self.columns);
            self.columns = 0;
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.clear();
    }
}

fn bar(done: u64, all: u64) -> String {
    let done = done.min(all);
    let part = |of: u64| u128::from(done) * u128::from(of) / u128::from(all.max(1));
    let (full, percent) = if all == 0 { (BAR as usize, 100) } else { (part(BAR) as usize, part(100)) };
    format!("[{}{}] {percent:3}%", "#".repeat(full), ".".repeat(BAR as usize - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_when_all_is_done() {
        assert_eq!(bar(0, 4096), "[........................]   0%");
        assert_eq!(bar(2048, 4096), "[############............]  50%");
        assert_eq!(bar(4095, 4096), "[#######################.]  99%");
        assert_eq!(bar(5, 4), "[########################] 100%");
        assert_eq!(bar(0, 0), "[########################] 100%");
    }
}
