//! `meridian`: the server, a local cluster for trying things, and the command line, in one binary.

use std::process::ExitCode;

use clap::Command;
use meridian_node::{dev, run, version};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // One provider of cryptography for the whole process; a second call can only find the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let matches = command().get_matches();
    match matches.subcommand() {
        Some(("server", matches)) => run::server(matches),
        Some(("dev", matches)) => dev::run(matches),
        _ => ExitCode::from(2),
    }
}

/// Everything that can be typed.
fn command() -> Command {
    Command::new("meridian")
        .version(version::MERIDIAN)
        .about("A replicated, tenant-namespaced configuration store that speaks etcd's API")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(run::command())
        .subcommand(dev::command())
}
