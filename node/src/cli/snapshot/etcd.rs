//! Files of etcd's: what `etcdctl snapshot save` made, of Meridian or of etcd.
//!
//! Such a file is the tenant `default` and nothing else. Its SHA-256 stands at its end, unless it was copied from the
//! data directory of an etcd (`member/snap/db`): then nothing tells whether it is whole, and as etcd does,
//! `snapshot restore` takes it only with `--skip-hash-check`.

use std::io::Write as _;
use std::path::Path;

use meridian_storage::disk::OsDisk;
use meridian_storage::import::{self, Inspection, Sum};
use serde_json::json;

use super::status::{hex, unusable};
use crate::cli::failure::Failure;
use crate::cli::out::{Form, Out, size};

/// What a file of etcd's holds, once all of it was read; none if it is no such file. Its sum is not judged.
pub(super) fn inspected(path: &Path) -> Result<Option<Inspection>, Failure> {
    let disk = OsDisk::new();
    let fault = |fault| unusable(path, &fault);
    if !import::is_etcd(&disk, path).map_err(fault)? {
        return Ok(None);
    }
    let spinner = super::spinner("verifying");
    let rows = import::open(&disk, path);
    spinner.finish_and_clear();
    Ok(Some(rows.map_err(fault)?.inspection().clone()))
}

/// Whether a file is whole, as far as its sum says.
pub(super) fn judge(path: &Path, sum: Sum, skip_hash_check: bool) -> Result<(), Failure> {
    let path = path.display();
    match sum {
        _ if skip_hash_check => Ok(()),
        Sum::Right(_) => Ok(()),
        Sum::Wrong => Err(
            Failure::refused(format!("{path} has another SHA-256 than it says"))
                .hint("it was damaged since it was saved: use another copy"),
        ),
        Sum::Missing => Err(
            Failure::refused(format!("{path} has no SHA-256 at its end")).hint(
                "a file that was copied from an etcd's data directory has none: if it is one and its \
                 etcd was stopped, give --skip-hash-check; if not, it was cut short",
            ),
        ),
    }
}

/// Tells standard error what a restored cluster will not have.
pub(super) fn warn(path: &Path, inspection: &Inspection) {
    if inspection.auth {
        let text = format!(
            "warning: in {} authentication is enabled; its users and roles are not taken over. Decide who may do \
             what before clients reach the new cluster\n",
            path.display()
        );
        // If standard error is gone, nobody is there to be warned.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// Shows what a file holds.
pub(super) fn show(out: &mut Out, path: &Path, inspection: &Inspection) -> Result<(), Failure> {
    // Without a sum there is something to see all the same.
    let sum = match inspection.sum {
        Sum::Missing => None,
        Sum::Right(sum) => Some(hex(&sum)),
        Sum::Wrong => return judge(path, inspection.sum, false),
    };
    let shown = sum.clone().unwrap_or_else(|| "none".into());
    match out.form_or(Form::Table) {
        Form::Json => out.json(&json!({
            "format": "etcd",
            "bytes": inspection.bytes,
            "sha256": sum,
            "revision": inspection.revision,
            "compact_revision": inspection.compacted,
            "keys": inspection.keys,
            "versions": inspection.versions,
            "leases": inspection.leases,
            "auth_enabled": inspection.auth,
        }))?,
        Form::Simple => out.line(format!(
            "{shown}, {}, {}, {}",
            inspection.revision,
            inspection.keys,
            size(inspection.bytes)
        ))?,
        Form::Table => {
            let rows = [
                ("format", "etcd's: one tenant".to_owned()),
                ("revision", inspection.revision.to_string()),
                ("compacted", inspection.compacted.to_string()),
                ("keys", inspection.keys.to_string()),
                ("versions", inspection.versions.to_string()),
                ("leases", inspection.leases.to_string()),
                ("size", size(inspection.bytes)),
                ("SHA-256", shown),
            ];
            let rows = rows.map(|(name, value)| vec![name.to_owned(), value]);
            let read = if sum.is_some() { "VERIFIED" } else { "READ" };
            out.table(&["SNAPSHOT", read], rows.to_vec())?;
        }
    }
    warn(path, inspection);
    Ok(())
}
