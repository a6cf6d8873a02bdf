//! `meridian completion`: scripts that complete commands in shells.

use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use super::failure::Failure;
use super::out::Out;

/// Prints a completion script.
///
/// For bash: `source <(meridian completion bash)`. For zsh: `meridian completion zsh > "${fpath[1]}/_meridian"`.
/// For fish: `meridian completion fish | source`.
#[derive(Debug, Args)]
pub(super) struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub(super) fn run(&self, mut whole: Command, out: &mut Out) -> Result<ExitCode, Failure> {
        let mut script = vec![];
        clap_complete::generate(self.shell, &mut whole, "meridian", &mut script);
        out.raw(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
