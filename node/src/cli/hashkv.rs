//! `meridian hashkv`: hashes over the keys, equal on members that are equal.

use std::process::ExitCode;

use clap::Args;
use meridian_client::{Client, HashKv as Hash, Keys};
use serde_json::json;

use super::failure::Failure;
use super::out::{Form, Out};
use super::status::of_members;

/// Hashes the keys on every endpoint at one revision. Fails if the hashes differ.
#[derive(Debug, Args)]
pub(super) struct HashKv {
    /// The revision to hash; the present one if it is not given
    #[arg(long, default_value_t = 0, value_name = "REVISION")]
    rev: i64,
    /// Every member of the cluster, not only the endpoints
    #[arg(long)]
    cluster: bool,
}

impl HashKv {
    pub(super) async fn run(&self, client: &Client, out: &mut Out) -> Result<ExitCode, Failure> {
        let client = if self.cluster {
            of_members(client).await?
        } else {
            client.clone()
        };
        let endpoints = client.endpoints();
        // Hashes can be compared only at one revision.
        let revision = match self.rev {
            0 if endpoints.len() > 1 => client.range(Keys::one("\0")).await?.revision,
            given => given,
        };
        let mut hashes: Vec<(String, Hash)> = vec![];
        for endpoint in endpoints {
            // A member that lags is given the time to catch up: it answers after the revision.
            let one = client.with_endpoints([&endpoint])?;
            one.range(Keys::one("\0")).await?;
            let hash = client.hash_kv(&endpoint, revision).await?;
            hashes.push((endpoint, hash));
        }
        show(out, revision, &hashes)?;
        let first = hashes
            .first()
            .map(|(_, hash)| (hash.hash, hash.compact_revision));
        let same = |hash: &Hash| Some((hash.hash, hash.compact_revision)) == first;
        if hashes.iter().all(|(_, hash)| same(hash)) {
            return Ok(ExitCode::SUCCESS);
        }
        Err(Failure::refused("the hashes differ").hint(
            "if the members are compacted to the same revision, one of them is damaged: \
             see `meridian status --cluster`",
        ))
    }
}

fn show(out: &mut Out, revision: i64, hashes: &[(String, Hash)]) -> Result<(), Failure> {
    match out.form_or(Form::Table) {
        Form::Json => {
            let endpoints: Vec<_> = hashes
                .iter()
                .map(|(endpoint, hash)| {
                    json!({
                        "endpoint": endpoint,
                        "hash": hash.hash,
                        "hash_revision": hash.hash_revision,
                        "compact_revision": hash.compact_revision,
                    })
                })
                .collect();
            out.json(&json!({"revision": revision, "endpoints": endpoints}))?;
        }
        Form::Table => {
            let rows = hashes
                .iter()
                .map(|(endpoint, hash)| {
                    let numbers = [hash.hash.to_string(), hash.hash_revision.to_string()];
                    let compacted = hash.compact_revision.to_string();
                    [vec![endpoint.clone()], numbers.to_vec(), vec![compacted]].concat()
                })
                .collect();
            out.table(&["ENDPOINT", "HASH", "REVISION", "COMPACTED"], rows)?;
        }
        Form::Simple => {
            for (endpoint, hash) in hashes {
                out.line(format!("{endpoint}, {}", hash.hash))?;
            }
        }
    }
    Ok(())
}
