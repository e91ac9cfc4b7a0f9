//! The table of a comparison: medians over the rounds, and ratios to the first target. In Markdown, with columns aligned.

use super::measurement::Measurement;

const HEAD: [&str; 9] = [
    "load",
    "target",
    "IOPS (least..most)",
    "MB/s",
    "p50 us",
    "p99 us",
    "CPU us per I/O",
    "IOPS ratio",
    "CPU ratio",
];
/// Columns of numbers, which are aligned to the right.
const TEXT_COLUMNS: usize = 2;

/// What a target has achieved under a load.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    iops: f64,
    least: f64,
    most: f64,
    mb_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    /// Through the drain.
    cpu_us: Option<f64>,
}

impl Row {
    fn of(measurements: &[&Measurement]) -> Option<Self> {
        let values =
            |field: fn(&Measurement) -> f64| measurements.iter().map(|m| field(m)).collect::<Vec<_>>();
        let cpu: Option<Vec<f64>> =
            measurements.iter().map(|m| m.costs.cpu_us_per_io_through_drain).collect();
        let iops = values(|m| m.iops);
        Some(Self {
            least: iops.iter().copied().min_by(f64::total_cmp)?,
            most: iops.iter().copied().max_by(f64::total_cmp)?,
            iops: median(iops)?,
            mb_per_s: median(values(|m| m.mb_per_s))?,
            p50_us: median(values(|m| m.latency_us.p50))?,
            p99_us: median(values(|m| m.latency_us.p99))?,
            cpu_us: cpu.and_then(median),
        })
    }

    fn cells(&self, load: &str, target: &str, first: Option<&Self>) -> [String; 9] {
        let ratio = |ours: f64, theirs: f64| {
            if theirs > 0.0 { format!("{:.2}", ours / theirs) } else { String::new() }
        };
        let cpu_ratio = first.and_then(|first| Some(ratio(self.cpu_us?, first.cpu_us?)));
        [
            load.to_owned(),
            target.to_owned(),
            format!("{:.0} ({:.0}..{:.0})", self.iops, self.least, self.most),
            format!("{:.1}", self.mb_per_s),
            format!("{:.0}", self.p50_us),
            format!("{:.0}", self.p99_us),
            self.cpu_us.map(|cpu| format!("{cpu:.2}")).unwrap_or_default(),
            first.map(|first| ratio(self.iops, first.iops)).unwrap_or_default(),
            cpu_ratio.unwrap_or_default(),
        ]
    }
}

/// The middle value; the mean of the two in the middle of an even number.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some((low + high) / 2.0)
}

/// The table, each line ended by a line feed. Measurements that failed or that verified are left out; a target of which nothing is
/// left has an empty row.
pub(crate) fn table(measurements: &[Measurement]) -> String {
    let measured = || measurements.iter().filter(|m| !m.verify);
    let loads = distinct(measured().map(|m| m.load.name.as_str()));
    let targets = distinct(measured().map(|m| m.target.as_str()));
    let mut rows = Vec::new();
    for load in &loads {
        let mut first = None;
        for (index, target) in targets.iter().enumerate() {
            let good =
                measured().filter(|m| m.load.name == *load && m.target == *target && m.error.is_none());
            let row = Row::of(&good.collect::<Vec<_>>());
            let empty = || {
                let mut cells: [String; 9] = Default::default();
                (cells[0], cells[1]) = ((*load).to_owned(), (*target).to_owned());
                cells
            };
            if index == 0 {
                first.clone_from(&row);
            }
            rows.push(row.map_or_else(empty, |row| row.cells(load, target, first.as_ref())));
        }
    }
    markdown(rows)
}

/// What the pass that verifies has shown.
pub(crate) fn verified(measurements: &[Measurement]) -> String {
    let (mut loads, mut reads, mut wrong) = (0, 0, 0);
    for measurement in measurements.iter().filter(|m| m.verify) {
        loads += 1;
        reads += measurement.verified;
        wrong += measurement.wrong;
    }
    format!("verified: {reads} reads of {loads} loads, {wrong} of them wrong")
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

fn markdown(rows: Vec<[String; 9]>) -> String {
    let head = HEAD.map(str::to_owned);
    let widths: [usize; 9] = std::array::from_fn(|column| {
        std::iter::once(&head).chain(&rows).map(|row| row[column].chars().count()).max().unwrap_or(0)
    });
    let line = |row: &[String; 9]| {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if column < TEXT_COLUMNS { format!(" {cell:<width$} |") } else { format!(" {cell:>width$} |") }
        });
        format!("|{}\n", cells.collect::<String>())
    };
    let rule = widths.iter().enumerate().map(|(column, width)| {
        let dashes = "-".repeat(*width);
        if column < TEXT_COLUMNS { format!(" {dashes} |") } else { format!(" {dashes}:|") }
    });
    let rule = format!("|{}\n", rule.collect::<String>());
    line(&head) + &rule + &rows.iter().map(line).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(iops: f64, cpu_us: Option<f64>) -> Row {
        Row { iops, least: iops - 1.0, most: iops + 1.0, mb_per_s: 1.0, p50_us: 2.0, p99_us: 3.0, cpu_us }
    }

    #[test]
    fn the_median_is_the_middle_value_or_the_mean_of_two() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn ratios_are_to_the_first_target_where_both_are_known() {
        let (first, second) = (row(100.0, Some(10.0)), row(250.0, Some(4.0)));
        let cells = second.cells("load", "second", Some(&first));
        assert_eq!(cells[2..], ["250 (249..251)", "1.0", "2", "3", "4.00", "2.50", "0.40"]);
        assert_eq!(row(250.0, None).cells("load", "second", Some(&first))[6..], ["", "2.50", ""]);
        assert_eq!(second.cells("load", "second", None)[7..], ["", ""]);
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [row(1.0, None), row(100_000.0, None)].map(|row| row.cells("load", "target", None));
        let text = markdown(rows.to_vec());
        let lengths: Vec<_> = text.lines().map(str::len).collect();
        assert!(lengths.len() == 4 && lengths.iter().all(|length| *length == lengths[0]), "{text}");
    }
}
