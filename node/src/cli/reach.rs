//! Which cluster, as whom, and how to show the answer: the flags every noun has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use meridian_client::{Client, Options, Prefer, Tls};

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
            tls,
            timeout: self.timeout,
            connections: 1,
            probe_interval: None,
            prefer: Prefer::Balanced,
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

    /// The form asked for.
    pub(super) fn form(&self) -> Option<Form> {
        self.output
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::usage(format!("can not read {}: {error}", path.display())))
}
