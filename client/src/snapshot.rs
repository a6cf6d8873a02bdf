//! Downloading a snapshot of a member: everything it holds, verified on the way.
//!
//! ```text
//! blob blob blob ... blob sum      the last message is the SHA-256 of all blobs before it
//! ```

use bytes::Bytes;
use meridian_proto::etcdserverpb as wire;
use meridian_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use sha2::{Digest as _, Sha256};
use tonic::Streaming;
use tonic::metadata::MetadataValue;

use crate::connect::Client;
use crate::error::{Error, Kind, Result};
use crate::retry::Effect;

impl Client {
    /// Begins to download a snapshot from the member at `endpoint`. It is taken at one revision; writes
    /// go on meanwhile.
    pub async fn snapshot(&self, endpoint: &str) -> Result<Snapshot> {
        let member = self.member_at("snapshot", endpoint)?;
        let mut request = tonic::Request::new(wire::SnapshotRequest {});
        self.sign(request.metadata_mut(), "snapshot", None)?;
        // Everything a member holds; without it the tenant would come as a file of etcd's.
        let format = MetadataValue::from_static("meridian");
        request
            .metadata_mut()
            .insert("meridian-snapshot-format", format);
        let mut service =
            MaintenanceClient::new(member.channel()).max_decoding_message_size(usize::MAX);
        let url = member.url().clone();
        let status =
            |status| Error::from_status("snapshot", status, Effect::Read, Some(url.clone()));
        let opened = tokio::time::timeout(self.inner().options.timeout, service.snapshot(request));
        let stream = match opened.await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(refused)) => return Err(status(refused)),
            Err(_) => return Err(status(crate::retry::gave_up(self.inner().options.timeout))),
        };
        Ok(Snapshot {
            stream,
            sum: Sha256::new(),
            held: None,
            done: false,
            url,
        })
    }
}

/// A snapshot on its way. Read it with [`Snapshot::next`] to the end: only then it is verified.
#[derive(Debug)]
pub struct Snapshot {
    stream: Streaming<wire::SnapshotResponse>,
    sum: Sha256,
    /// The last message read: it may be the sum, so it is handed out only when another follows.
    held: Option<Chunk>,
    done: bool,
    url: std::sync::Arc<str>,
}

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The bytes.
    pub bytes: Bytes,
    /// How many are still to come.
    pub remaining: u64,
    /// The version of the server's format, where it says it.
    pub version: String,
}

impl Snapshot {
    /// The next piece; none at the end, once everything before it verified.
    /// [`Kind::Damaged`] if it does not.
    pub async fn next(&mut self) -> Result<Option<Chunk>> {
        while !self.done {
            let message = self.stream.message().await.map_err(|status| {
                Error::from_status("snapshot", status, Effect::Read, Some(self.url.clone()))
            })?;
            let Some(message) = message else {
                self.done = true;
                return self.verify().map(|()| None);
            };
            let chunk = Chunk {
                bytes: message.blob,
                remaining: message.remaining_bytes,
                version: message.version,
            };
            if let Some(data) = self.held.replace(chunk) {
                self.sum.update(&data.bytes);
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    fn verify(&mut self) -> Result<()> {
        let damaged = |what: &str| Error::of(Kind::Damaged, "snapshot", what);
        let sum = self
            .held
            .take()
            .ok_or_else(|| damaged("the snapshot is empty"))?;
        if sum.bytes.as_ref() != self.sum.finalize_reset().as_slice() {
            return Err(damaged(
                "the snapshot was cut short or damaged on the way; fetch it again",
            ));
        }
        Ok(())
    }
}
