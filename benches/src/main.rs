//! The stopwatch: one load, the same client, on Meridian and on etcd, one after the other, repeatedly.
//!
//! ```text
//! cargo build --release && cargo run --release -p meridian-benches -- --runs 5
//! ```
//!
//! Every row starts fresh clusters of three members on loopback, on the same disk, with durable writes on both,
//! in alternating order, and prints the median of each side, the ratio, and etcd's version. The load generator
//! shares the machine with the servers, so beside each throughput stands the servers' own CPU time per operation.

#![allow(
    clippy::print_stdout,
    reason = "a program that prints its measurements"
)]

mod cluster;
mod load;
mod process;
mod report;
mod rows;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::cluster::Product;
use crate::report::Report;

/// Runs the same load on Meridian and on etcd and prints both, with the ratio.
#[derive(Parser, Clone, Debug)]
#[command(name = "compare", version)]
pub struct Arguments {
    /// The rows to run, by name (see `--list`); all if none is given.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Print the names of the rows and stop.
    #[arg(long)]
    list: bool,
    /// Alternating runs of each row on each side.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds of measured load in each run of a throughput row, after two of warm-up.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Where the data directories go; must be a real disk.
    #[arg(long, default_value = "target/compare")]
    dir: PathBuf,
    /// The Meridian binary.
    #[arg(long, default_value = "target/release/meridian")]
    meridian: PathBuf,
    /// The etcd binary.
    #[arg(long, default_value = "etcd")]
    etcd: PathBuf,
    /// Write the table to this file as well.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Only this side: `meridian` or `etcd`.
    #[arg(long)]
    only: Option<Product>,
}

impl Arguments {
    fn seconds(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        for row in rows::ALL {
            println!("{:<18} {}", row.name, row.about);
        }
        return std::process::ExitCode::SUCCESS;
    }
    // Dropping the run ends the members it started, so an interrupted comparison leaves nothing behind.
    let outcome = tokio::select! {
        outcome = run(&arguments) => outcome,
        () = interrupted() => Err(load::Failed::new("interrupted")),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            println!("stopped: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

async fn run(arguments: &Arguments) -> Result<(), load::Failed> {
    std::fs::create_dir_all(&arguments.dir)?;
    let mut report = Report::new(cluster::version(&arguments.etcd)?);
    for row in rows::ALL {
        if !arguments.rows.is_empty() && !arguments.rows.iter().any(|r| r == row.name) {
            continue;
        }
        for run in 0..arguments.runs {
            // Alternate who goes first, so that a machine that warms up or tires favours neither.
            let mut order = vec![Product::Meridian, Product::Etcd];
            if run % 2 == 1 {
                order.reverse();
            }
            order.retain(|product| arguments.only.is_none_or(|only| only == *product));
            for product in order {
                let figures = rows::run(row, product, arguments).await?;
                report.add(row, product, figures);
            }
            println!(
                "{} run {}/{}: {}",
                row.name,
                run + 1,
                arguments.runs,
                report.latest(row)
            );
        }
        println!("{}", report.table_of(row));
    }
    let table = report.table();
    println!("\n{table}");
    if let Some(out) = &arguments.out {
        std::fs::write(out, table)?;
    }
    Ok(())
}
