//! Rights of a stream: looked at again when the rules move, or when what allowed them ends.
//!
//! ```text
//!   rules revision  r7 ........ r8              a watch that r8 does not allow is cancelled,
//!   watches         w1 w2 w3    w1 w3           with the reason etcd gives; the stream goes on
//! ```
//!
//! It is looked before events are handed out, so nothing a rule forbids leaves after the stream knows the rule. Quiet
//! streams are woken when rules move ([`super::background`]).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use meridian_proto::etcdserverpb::WatchResponse;

use super::control::in_grpcs_words;
use super::source::{Member, Source};
use super::stream::Stream;

/// Timers need a bound; then it is looked again.
const LASTS_MAX: Duration = Duration::from_hours(24);

/// What the watches of a stream were allowed by.
#[derive(Default)]
pub(super) struct Rights {
    rules: u64,
    /// Set while they end at a moment.
    end: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Rights {
    /// A watch was allowed: by the rules of now, for so long.
    pub(super) fn note(&mut self, source: &Arc<dyn Source>) {
        let rules = source.rules();
        if rules == self.rules {
            return;
        }
        // Watches that were allowed by older rules are looked at when the stream next takes a turn.
        if self.rules == 0 {
            self.rules = rules;
            self.time(source);
        }
    }

    fn time(&mut self, source: &Arc<dyn Source>) {
        let lasts = source.lasts().map(|lasts| lasts.min(LASTS_MAX));
        self.end = lasts.map(|lasts| Box::pin(tokio::time::sleep(lasts)));
    }
}

impl<M: Member> Stream<M> {
    /// Cancels the watches that may not go on, if there is a reason to look.
    pub(super) fn look_at_rights(&mut self, cx: &mut Context<'_>) {
        let rules = self.source.rules();
        let ended = match &mut self.rights.end {
            Some(end) => end.as_mut().poll(cx).is_ready(),
            None => false,
        };
        if rules == self.rights.rules && !ended {
            return;
        }
        self.rights.rules = rules;
        let watches: Vec<_> = self
            .session
            .each()
            .map(|(slot, id, _)| (slot, id))
            .collect();
        for (slot, id) in watches {
            let Some(range) = self.session.range(slot) else {
                continue;
            };
            if let Err(no) = self.source.may_watch(&range) {
                self.slots.remove(&id);
                self.session.remove(slot);
                self.outbox.push(&WatchResponse {
                    header: Some(self.header(self.session.hub().revision())),
                    watch_id: id,
                    canceled: true,
                    cancel_reason: in_grpcs_words(no),
                    ..WatchResponse::default()
                });
            }
        }
        self.rights.time(&self.source);
        // The new timer must know whom to wake.
        if let Some(end) = &mut self.rights.end
            && end.as_mut().poll(cx).is_ready()
        {
            cx.waker().wake_by_ref();
        }
    }
}
