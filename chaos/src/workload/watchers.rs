//! Watchers: each follows everything under the prefix, from one member to the next when a stream ends, and
//! resumes at the revision after the last one it got.

use std::time::Duration;

use bytes::Bytes;
use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::watch_client::WatchClient;
use meridian_proto::etcdserverpb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::history::{Event, Watched};
use crate::workload::{PREFIX, Shared};
use crate::world::{self, WorldError};

/// A stream on which nothing came for so long is given up: its member may be stopped.
const SILENCE: Duration = Duration::from_secs(3);

/// Follows everything from revision 1, until the run is done.
pub async fn follow(shared: Shared, number: usize) {
    let mut watched = Watched {
        from: 1,
        ..Watched::default()
    };
    let mut next = 1;
    let mut member = number;
    while !shared.is_done() {
        let opened = tokio::time::timeout(SILENCE, open(&shared.urls, member, next)).await;
        let Ok(Ok((_requests, mut answers))) = opened else {
            member += 1;
            watched.reconnects += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        while !shared.is_done() {
            match tokio::time::timeout(SILENCE, answers.message()).await {
                Ok(Ok(Some(answer))) if !answer.canceled => {
                    let message = events(&shared, answer);
                    if let Some(last) = message.last() {
                        next = last.revision + 1;
                        watched.messages.push(message);
                    }
                }
                _ => break,
            }
        }
        member += 1;
        watched.reconnects += 1;
    }
    shared.history.record(|log| log.watched.push(watched));
}

/// Reads everything that ever happened under the prefix, up to `until`, from one member.
pub async fn replay(shared: &Shared, member: usize, until: i64) -> Result<Watched, WorldError> {
    let mut watched = Watched {
        from: 1,
        ..Watched::default()
    };
    let mut last = 0;
    let (_requests, mut answers) = open(&shared.urls, member, 1).await?;
    while last < until {
        let answer = tokio::time::timeout(Duration::from_secs(20), answers.message())
            .await
            .map_err(|_| WorldError::Request(format!("history ends at {last}, not {until}")))??
            .ok_or_else(|| WorldError::Request("the stream of history ended".into()))?;
        let mut message = events(shared, answer);
        last = message.last().map_or(last, |event| event.revision);
        // A lease may run out meanwhile: what came after `until` is nobody's to compare.
        message.retain(|event| event.revision <= until);
        if !message.is_empty() {
            watched.messages.push(message);
        }
    }
    Ok(watched)
}

fn events(shared: &Shared, answer: pb::WatchResponse) -> Vec<Event> {
    let at = shared.history.now();
    let event = |event: meridian_proto::mvccpb::Event| {
        let kv = event.kv.unwrap_or_default();
        let value = (event.r#type == 0).then_some(kv.value);
        Event {
            key: kv.key,
            value,
            revision: kv.mod_revision,
            at,
        }
    };
    answer.events.into_iter().map(event).collect()
}

type Opened = (mpsc::Sender<pb::WatchRequest>, Streaming<pb::WatchResponse>);

/// Opens a watch of the prefix. The sender keeps the stream open.
async fn open(urls: &[String], member: usize, from: i64) -> Result<Opened, WorldError> {
    let channel = world::connect(urls, member % urls.len()).await?;
    let (requests, receiver) = mpsc::channel(4);
    let mut end = PREFIX.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    let create = pb::WatchCreateRequest {
        key: Bytes::from_static(PREFIX.as_bytes()),
        range_end: Bytes::from(end),
        start_revision: from,
        ..Default::default()
    };
    let request = pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    requests
        .send(request)
        .await
        .map_err(|e| WorldError::Request(e.to_string()))?;
    let answers = WatchClient::new(channel)
        .watch(ReceiverStream::new(receiver))
        .await?
        .into_inner();
    Ok((requests, answers))
}
