//! Which cluster, as whom, and how to show the answer: the flags every noun has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches as _};
use meridian_client::{Client, Options, Policy, Tls};

use super::failure::Failure;
use super::out::{Form, Out};

/// The flags every noun has.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster and output")]
pub(super) struct Reach {
    /// Members to talk to, separated by commas
    #[arg(long, global = true, env = "MERIDIAN_ENDPOINTS", value_delimiter = ',')]
    #[arg(default_value = "http://127.0.0.1:2379", value_name = "URL")]
    pub(super) endpoints: Vec<String>,

    /// The tenant whose keys are meant
    #[arg(long, global = true, env = "MERIDIAN_TENANT", value_name = "NAME")]
    tenant: Option<String>,

    /// What shows who asks: an API token, or what a password was exchanged for
    #[arg(long, global = true, env = "MERIDIAN_TOKEN", value_name = "TEXT")]
    #[arg(hide_env_values = true)]
    token: Option<String>,

    /// The authority that signed the members' certificates, in PEM
    #[arg(long, global = true, env = "MERIDIAN_CACERT", value_name = "FILE")]
    cacert: Option<PathBuf>,

    /// The certificate to show to members, in PEM
    #[arg(
        long,
        global = true,
        env = "MERIDIAN_CERT",
        value_name = "FILE",
        requires = "key_file"
    )]
    cert: Option<PathBuf>,

    /// The key of the certificate, in PEM
    #[arg(
        long = "key",
        id = "key_file",
        global = true,
        env = "MERIDIAN_KEY",
        value_name = "FILE"
    )]
    #[arg(requires = "cert")]
    key_file: Option<PathBuf>,

    /// How long one request may take, for example 500ms or 10s
    #[arg(long, global = true, value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = humantime::parse_duration)]
    timeout: Duration,

    /// How to show the answer; each command has a form of its own that is used without it
    #[arg(short, long, global = true, value_enum, value_name = "FORM")]
    output: Option<Form>,

    /// Show keys and values as hexadecimal escapes
    #[arg(long, global = true)]
    hex: bool,
}

impl Reach {
    /// A client of the endpoints. Sends nothing yet.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let tls = match &self.cacert {
            None => None,
            Some(ca) => Some(Tls {
                ca: read(ca)?,
                identity: self.identity()?,
                server_name: None,
            }),
        };
        let options = Options {
            tenant: self.tenant.clone(),
            token: self.token.clone(),
            tls,
            timeout: self.timeout,
            connections: 1,
            probe_interval: None,
            // About two seconds: enough for an election, and not long to wait for nobody.
            retry: Policy {
                attempts_max: 8,
                pause_first: Duration::from_millis(50),
                ..Policy::default()
            },
            user_agent: Some(concat!("meridian/", env!("CARGO_PKG_VERSION")).into()),
            ..Options::default()
        };
        Ok(Client::lazy(&self.endpoints, options)?)
    }

    fn identity(&self) -> Result<Option<(Vec<u8>, Vec<u8>)>, Failure> {
        match (&self.cert, &self.key_file) {
            (Some(cert), Some(key)) => Ok(Some((read(cert)?, read(key)?))),
            _ => Ok(None),
        }
    }

    /// Standard output, in the form asked for.
    pub(super) fn out(&self) -> Out {
        Out::stdout(self.output, self.hex)
    }

    /// Takes over what was given before the noun and not after it.
    pub(super) fn take_over(&mut self, before: &ArgMatches) {
        let Ok(given) = Self::from_arg_matches(before) else {
            return;
        };
        let is_given = |id: &str| before.value_source(id) == Some(ValueSource::CommandLine);
        if is_given("endpoints") {
            self.endpoints = given.endpoints;
        }
        if is_given("timeout") {
            self.timeout = given.timeout;
        }
        for (id, own, theirs) in [
            ("cacert", &mut self.cacert, given.cacert),
            ("cert", &mut self.cert, given.cert),
            ("key_file", &mut self.key_file, given.key_file),
        ] {
            if is_given(id) {
                *own = theirs;
            }
        }
        if is_given("tenant") {
            self.tenant = given.tenant;
        }
        if is_given("token") {
            self.token = given.token;
        }
        self.output = self.output.or(given.output);
        self.hex |= given.hex;
    }

    /// The form asked for.
    pub(super) fn form(&self) -> Option<Form> {
        self.output
    }
}

/// Adds the flags to a command in a place where they are understood but not explained.
pub(super) fn before_the_noun(command: Command) -> Command {
    let known: Vec<_> = command
        .get_arguments()
        .map(|arg| arg.get_id().clone())
        .collect();
    Reach::augment_args(command).mut_args(|arg| {
        if known.contains(arg.get_id()) {
            arg
        } else {
            arg.global(false).hide(true)
        }
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::usage(format!("can not read {}: {error}", path.display())))
}
