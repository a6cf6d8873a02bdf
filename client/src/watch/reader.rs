//! The reader's side of a watch.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::mpsc;

use crate::connect::Client;
use crate::error::{Error, Result};
use crate::watch::{Changes, Event, Mail, WatchKey};

/// An open watch. Dropping it closes it.
///
/// Read it with [`Watch::next`] (whole revisions at a time), [`Watch::next_event`] (one by one), or as a
/// stream of [`Changes`]. It survives every failure of members and connections; it ends with an error
/// that trying again can not mend, and then with none.
#[derive(Debug)]
pub struct Watch {
    /// Keeps the client, and with it the task behind the stream, alive.
    _client: Client,
    mail: Arc<Mail>,
    key: WatchKey,
    rx: mpsc::Receiver<Changes>,
    end: Arc<OnceLock<Error>>,
    said_why: bool,
    start: i64,
    /// Events of the last response that [`Watch::next_event`] has yet to hand out.
    rest: VecDeque<Event>,
}

impl Watch {
    pub(super) fn new(
        client: Client,
        mail: Arc<Mail>,
        key: WatchKey,
        rx: mpsc::Receiver<Changes>,
        end: Arc<OnceLock<Error>>,
    ) -> Self {
        let rest = VecDeque::new();
        Self {
            _client: client,
            mail,
            key,
            rx,
            end,
            said_why: false,
            start: 0,
            rest,
        }
    }

    pub(super) fn opened_at(&mut self, start: i64) {
        self.start = start;
    }

    /// Why the watch ended.
    pub(super) fn reason(&self) -> Error {
        self.end
            .get()
            .cloned()
            .unwrap_or_else(|| Error::lost("watch", "the client was closed"))
    }

    /// What keeps the stream from opening, if something does.
    pub(super) fn trouble(&self) -> Option<Error> {
        self.mail.with(|letters| letters.trouble.clone())
    }

    /// The first revision this watch sees: every later change of its keys is delivered.
    pub fn start_revision(&self) -> i64 {
        self.start
    }

    /// The next changes; none after the error that ended the watch.
    ///
    /// Cancel-safe: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Changes>> {
        std::future::poll_fn(|cx| self.poll_changes(cx)).await
    }

    /// The next single event; progress messages are passed over. Cancel-safe.
    pub async fn next_event(&mut self) -> Option<Result<Event>> {
        loop {
            if let Some(event) = self.rest.pop_front() {
                return Some(Ok(event));
            }
            match self.next().await? {
                Ok(changes) => self.rest = changes.events.into(),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Asks the server how far it is. The answer is delivered as [`Changes`] without events, once the
    /// watch has seen everything before it, if the watch was built with
    /// [`progress`](crate::WatchBuilder::progress).
    pub fn request_progress(&self) {
        self.mail.write(|letters| letters.progress = true);
    }

    fn poll_changes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Changes>>> {
        match self.rx.poll_recv(cx) {
            Poll::Ready(Some(changes)) => Poll::Ready(Some(Ok(changes))),
            Poll::Ready(None) if self.said_why => Poll::Ready(None),
            Poll::Ready(None) => {
                self.said_why = true;
                Poll::Ready(Some(Err(self.reason())))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Stream for Watch {
    type Item = Result<Changes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_changes(cx)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.mail.close(self.key);
    }
}
