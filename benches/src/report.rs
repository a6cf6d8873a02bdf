//! The table: medians of both sides, the ratio, the target.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::cluster::Product;
use crate::rows::Row;

/// One measured figure: its name and value.
pub type Figures = Vec<(&'static str, f64)>;

/// Every figure of every run.
pub struct Report {
    etcd_version: String,
    runs: BTreeMap<(usize, &'static str), [Vec<f64>; 2]>,
    order: Vec<&'static Row>,
}

impl Report {
    /// An empty one.
    pub fn new(etcd_version: String) -> Self {
        Self {
            etcd_version,
            runs: BTreeMap::new(),
            order: vec![],
        }
    }

    /// Adds what one run measured.
    pub fn add(&mut self, row: &'static Row, product: Product, figures: Figures) {
        if !self.order.iter().any(|known| known.name == row.name) {
            self.order.push(row);
        }
        let place = self.place(row);
        for (name, value) in figures {
            let [ours, theirs] = self.runs.entry((place, name)).or_default();
            match product {
                Product::Meridian => ours.push(value),
                Product::Etcd => theirs.push(value),
            }
        }
    }

    fn place(&self, row: &Row) -> usize {
        self.order
            .iter()
            .position(|known| known.name == row.name)
            .unwrap_or(self.order.len())
    }

    /// The last figures of a row, on one line.
    pub fn latest(&self, row: &Row) -> String {
        let place = self.place(row);
        let mut line = String::new();
        for ((at, name), [ours, theirs]) in &self.runs {
            if *at == place {
                let show = |side: &Vec<f64>| side.last().map_or("-".into(), |v| figure(*v));
                let _ = write!(line, "{name} {} / {}; ", show(ours), show(theirs));
            }
        }
        line
    }

    /// The table of one row.
    pub fn table_of(&self, row: &Row) -> String {
        let mut table = String::new();
        let place = self.place(row);
        for ((at, name), [ours, theirs]) in &self.runs {
            if *at != place {
                continue;
            }
            let (a, b) = (median(ours), median(theirs));
            let ratio = match (a, b) {
                (Some(a), Some(b)) if b != 0.0 => format!("{:.2}", a / b),
                _ => "-".into(),
            };
            let target = row
                .targets
                .iter()
                .find(|(t, _)| t == name)
                .map_or("", |(_, say)| *say);
            let show = |v: Option<f64>| v.map_or("-".into(), figure);
            let spread = |side: &Vec<f64>| {
                let low = side.iter().copied().fold(f64::INFINITY, f64::min);
                let high = side.iter().copied().fold(0.0, f64::max);
                if side.is_empty() {
                    String::new()
                } else {
                    format!(" ({}-{})", figure(low), figure(high))
                }
            };
            let _ = writeln!(
                table,
                "| {} | {name} | {}{} | {}{} | {ratio} | {target} | {} |",
                row.about,
                show(a),
                spread(ours),
                show(b),
                spread(theirs),
                ours.len().max(theirs.len()),
            );
        }
        table
    }

    /// The whole table.
    pub fn table(&self) -> String {
        let mut table = format!(
            "Against {}.\n\n| load | figure | Meridian, median (min-max) | etcd, median (min-max) | ratio | target | runs |\n\
             |---|---|---|---|---|---|---|\n",
            self.etcd_version
        );
        for row in &self.order {
            table.push_str(&self.table_of(row));
        }
        table
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(*upper);
    }
    sorted
        .get(middle.checked_sub(1)?)
        .map(|lower| f64::midpoint(*lower, *upper))
}

/// Three digits, thousands grouped.
fn figure(value: f64) -> String {
    if value >= 1000.0 {
        let whole = format!("{value:.0}");
        let mut grouped = String::new();
        for (i, digit) in whole.chars().enumerate() {
            if i > 0 && (whole.len() - i).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        grouped
    } else if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn figures_are_grouped() {
        assert_eq!(figure(1_234_567.0), "1,234,567");
        assert_eq!(figure(12.345), "12.35");
        assert_eq!(figure(123.4), "123");
    }
}
