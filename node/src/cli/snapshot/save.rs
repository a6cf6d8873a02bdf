//! `meridian snapshot save`.

use std::path::{Path, PathBuf};

use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::cli::failure::Failure;
use crate::cli::out::{Form, Out, size};
use crate::cli::reach::Reach;

/// Downloads a snapshot beside the file, makes it durable, and only then gives it its name.
pub(super) async fn run(reach: &Reach, out: &mut Out, path: &Path) -> Result<(), Failure> {
    let client = reach.client()?;
    let endpoint = client.endpoints().swap_remove(0);
    let mut snapshot = client.snapshot(&endpoint).await?;
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let guard = Unfinished(Some(partial.clone()));
    let io = |what: &str, error: &std::io::Error| {
        Failure::io(&format!("can not {what} {}", partial.display()), error)
    };
    let mut file = tokio::fs::File::create(&partial)
        .await
        .map_err(|e| io("create", &e))?;
    let bar = super::bar("saving");
    let mut written = 0;
    while let Some(chunk) = snapshot.next().await? {
        file.write_all(&chunk.bytes)
            .await
            .map_err(|e| io("write", &e))?;
        written += chunk.bytes.len() as u64;
        bar.set_length(written + chunk.remaining);
        bar.set_position(written);
    }
    file.sync_all().await.map_err(|e| io("flush", &e))?;
    drop(file);
    std::fs::rename(&partial, path).map_err(|e| io("rename", &e))?;
    sync_folder_of(path).map_err(|e| io("flush the folder of", &e))?;
    guard.finished();
    bar.finish_and_clear();
    let file = path.display().to_string();
    match out.form_or(Form::Simple) {
        Form::Json => out.json(&json!({"file": file, "bytes": written, "endpoint": endpoint}))?,
        _ => out.line(format!("Snapshot saved at {file} ({})", size(written)))?,
    }
    Ok(())
}

/// A file that is removed unless it is finished.
struct Unfinished(Option<PathBuf>);

impl Unfinished {
    fn finished(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // It may never have been made.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Makes a name that was given in the folder of `path` survive a power loss.
pub(super) fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
