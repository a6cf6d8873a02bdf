//! `cargo run --release -p chaos -- --seed 7 --minutes 2`

#![allow(clippy::print_stdout, reason = "a program that prints its verdict")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use chaos::run::{Plan, Verdict};
use chaos::world::Product;
use clap::Parser;

/// Starts a cluster of real processes, breaks it at random from a seed while clients use it, and checks what
/// they saw.
#[derive(Parser)]
#[command(name = "chaos", version)]
struct Arguments {
    /// Decides which faults come when, and what clients do.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// How long faults go on, in minutes; fractions are allowed.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// How many members.
    #[arg(long, default_value_t = 3)]
    members: usize,
    /// How many clients write and read.
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// The program under test; the release build of this repository if not given.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Which flags the program takes: `meridian`, or `etcd` as the control.
    #[arg(long, default_value = "meridian")]
    product: Product,
    /// Keep the data directories and logs of the members here.
    #[arg(long)]
    keep: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let program = arguments
        .program
        .unwrap_or_else(|| match arguments.product {
            Product::Meridian => PathBuf::from("target/release/meridian"),
            Product::Etcd => PathBuf::from("etcd"),
        });
    let plan = Plan {
        seed: arguments.seed,
        duration: Duration::from_secs_f64(arguments.minutes.clamp(0.01, 1440.0) * 60.0),
        members: arguments.members.clamp(1, 7),
        clients: arguments.clients.clamp(1, 64),
        product: arguments.product,
        program,
        keep: arguments.keep,
    };
    println!(
        "seed {}, {:?}, {} members",
        plan.seed, plan.duration, plan.members
    );
    match chaos::run::run(&plan, |line| println!("{line}")).await {
        Ok(report) => {
            println!("{report}");
            match report.verdict {
                Verdict::Passed => ExitCode::SUCCESS,
                Verdict::Failed | Verdict::Invalid => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            println!("could not run: {error}");
            ExitCode::from(2)
        }
    }
}
