//! `meridian snapshot status`.

use std::path::Path;
use std::sync::Arc;

use meridian_storage::disk::OsDisk;
use meridian_storage::fault::Fault;
use meridian_storage::seal::{Plain, Seal};
use meridian_storage::snapshot::{Inspection, inspect};
use serde_json::json;

use crate::cli::failure::Failure;
use crate::cli::out::{Form, Out, member_id, size};

/// Verifies a snapshot file and shows what is in it.
pub(super) fn run(out: &mut Out, path: &Path) -> Result<(), Failure> {
    if let Some(inspection) = super::etcd::inspected(path)? {
        return super::etcd::show(out, path, &inspection);
    }
    let inspection = verified(path)?;
    show(out, &inspection)
}

/// What a snapshot file of Meridian's holds, once all of it verified.
pub(super) fn verified(path: &Path) -> Result<Inspection, Failure> {
    let spinner = super::spinner("verifying");
    let seal: Arc<dyn Seal> = Arc::new(Plain);
    let inspection = inspect(&OsDisk::new(), seal.as_ref(), path);
    spinner.finish_and_clear();
    inspection.map_err(|fault| unusable(path, &fault))
}

/// Why a snapshot file can not be used.
pub(super) fn unusable(path: &Path, fault: &Fault) -> Failure {
    if fault.is_not_found() {
        return Failure::not_found(format!("there is no file {}", path.display()));
    }
    let failure = Failure::refused(fault.to_string());
    match fault {
        Fault::Damaged { .. } => failure.hint(
            "use another snapshot, or save one anew with `meridian snapshot save` or `etcdctl snapshot save`",
        ),
        _ => failure,
    }
}

/// A hash, to be read.
pub(super) fn hex(hash: &[u8]) -> String {
    let two = |text: String, byte| format!("{text}{byte:02x}");
    hash.iter().fold(String::new(), two)
}

fn show(out: &mut Out, inspection: &Inspection) -> Result<(), Failure> {
    let hash = hex(&inspection.hash);
    let cluster = member_id(inspection.cluster);
    let keys: u64 = inspection.tenants.iter().map(|tenant| tenant.keys).sum();
    match out.form_or(Form::Table) {
        Form::Json => {
            let tenants: Vec<_> = inspection
                .tenants
                .iter()
                .map(|tenant| {
                    json!({
                        "id": tenant.tenant.0,
                        "revision": tenant.revision,
                        "keys": tenant.keys,
                        "versions": tenant.versions,
                        "bytes": tenant.bytes,
                    })
                })
                .collect();
            out.json(&json!({
                "cluster_id": cluster,
                "applied_term": inspection.applied.term,
                "applied_index": inspection.applied.index,
                "bytes": inspection.bytes,
                "sha256": hash,
                "keys": keys,
                "tenants": tenants,
            }))?;
        }
        Form::Simple => out.line(format!(
            "{hash}, {}, {keys}, {}",
            inspection.applied,
            size(inspection.bytes)
        ))?,
        Form::Table => {
            let rows = [
                ("cluster", cluster),
                ("log position", inspection.applied.to_string()),
                ("size", size(inspection.bytes)),
                ("SHA-256", hash),
            ];
            let rows = rows.map(|(name, value)| vec![name.to_owned(), value]);
            out.table(&["SNAPSHOT", "VERIFIED"], rows.to_vec())?;
            let rows = inspection
                .tenants
                .iter()
                .map(|tenant| {
                    vec![
                        tenant.tenant.to_string(),
                        tenant.revision.to_string(),
                        tenant.keys.to_string(),
                        tenant.versions.to_string(),
                        size(tenant.bytes),
                    ]
                })
                .collect();
            out.table(
                &["TENANT ID", "REVISION", "KEYS", "VERSIONS", "BYTES"],
                rows,
            )?;
        }
    }
    Ok(())
}
