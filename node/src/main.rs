//! `meridian`: the server, a local cluster for trying things, and the command line, in one binary.

use std::process::ExitCode;

use clap::Command;
use meridian_node::{cli, dev, run, version};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // One provider of cryptography for the whole process; a second call can only find the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let matches = command().get_matches();
    match matches.subcommand() {
        Some(("server", matches)) => run::server(matches),
        Some(("dev", matches)) => dev::run(matches),
        _ => cli::run(&matches, command()),
    }
}

/// Everything that can be typed; the nouns of the command line come from [`cli`].
fn command() -> Command {
    let command = Command::new("meridian")
        .version(version::MERIDIAN)
        .about("A replicated, tenant-namespaced configuration store that speaks etcd's API")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(run::command())
        .subcommand(dev::command());
    cli::augment(command)
}
