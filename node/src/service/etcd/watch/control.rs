//! What the client says on its stream: create, cancel, progress.

use meridian_domain::key::{KeyRange, Space};
use meridian_domain::limits::WATCHES_PER_STREAM_MAX;
use meridian_domain::rejection::Rejection;
use meridian_domain::tenant::QuotaKind;
use meridian_proto::etcdserverpb::watch_create_request::FilterType;
use meridian_proto::etcdserverpb::watch_request::RequestUnion;
use meridian_proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use meridian_storage::watch::{Filters, Form, Watch};

use super::source::Member;
use super::stream::{EVERY_WATCH, FRAGMENT, PROGRESS, Stream, Ticker};
use crate::status::Refusal;

const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

impl<M: Member> Stream<M> {
    /// Does what a request says; one that says nothing known is ignored.
    pub(super) fn obey(&mut self, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => {
                if let Err(reason) = self.create(create) {
                    self.refuse(reason);
                }
            }
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.ask_progress(),
            None => {}
        }
    }

    /// Creates a watch and says so, in etcd's order of checks; or the reason why not.
    fn create(&mut self, create: WatchCreateRequest) -> Result<(), String> {
        let WatchCreateRequest {
            key,
            range_end,
            start_revision,
            watch_id,
            ..
        } = create;
        let compacted = self.source.compacted();
        if start_revision < 0 {
            return Err(Rejection::Compacted { compacted }.to_string());
        }
        let key = if key.is_empty() {
            bytes::Bytes::from_static(&[0])
        } else {
            key
        };
        let range = KeyRange::from_wire(key, range_end);
        self.source.may_watch(&range).map_err(in_grpcs_words)?;
        self.rights.note(&self.source);
        if range.is_empty() {
            return Err(EMPTY_RANGE.into());
        }
        let id = self.choose_id(watch_id)?;
        if start_revision > 0 && start_revision < compacted {
            self.say_created(id, self.session.hub().revision());
            self.cancel_compacted(id, compacted);
            return Ok(());
        }
        if self.session.watches() >= WATCHES_PER_STREAM_MAX {
            return Err(format!(
                "etcdserver: too many requests: a stream has at most {WATCHES_PER_STREAM_MAX} watches; \
                 open another one"
            ));
        }
        let mut notes = 0;
        if create.fragment {
            notes |= FRAGMENT;
        }
        if create.progress_notify {
            notes |= PROGRESS;
            let interval = self.manner.progress_interval;
            self.ticker.get_or_insert_with(|| Ticker::new(interval));
        }
        let filtered = |kind: FilterType| create.filters.contains(&i32::from(kind));
        let watch = Watch {
            id,
            space: Space::RAW,
            range,
            start: start_revision,
            seen: self.source.revision(),
            filters: Filters {
                no_put: filtered(FilterType::Noput),
                no_delete: filtered(FilterType::Nodelete),
            },
            form: Form {
                prev: create.prev_kv,
                keys_only: self.manner.keys_only,
            },
            notes,
        };
        let limit = self.source.watchers_max();
        let Some(added) = self.session.add(&watch, limit) else {
            let tenant = self.source.tenant();
            let no = Rejection::RateExceeded {
                tenant,
                kind: QuotaKind::Watchers,
                limit,
            };
            return Err(format!("{no}: {}", no.hint().unwrap_or_default()));
        };
        self.slots.insert(id, added.slot);
        self.say_created(id, added.revision);
        Ok(())
    }

    /// The id asked for, if it is free; the next free one of the stream if none was. One that was given
    /// once is not given again.
    fn choose_id(&mut self, asked: i64) -> Result<i64, String> {
        if asked != 0 {
            let taken = self.slots.contains_key(&asked);
            return if taken {
                Err(DUPLICATE_ID.into())
            } else {
                Ok(asked)
            };
        }
        while self.slots.contains_key(&self.next_id) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        Ok(id)
    }

    fn say_created(&mut self, id: i64, revision: i64) {
        self.outbox.push(&WatchResponse {
            header: Some(self.header(revision)),
            watch_id: id,
            created: true,
            ..WatchResponse::default()
        });
    }

    fn refuse(&mut self, reason: String) {
        self.outbox.push(&WatchResponse {
            header: Some(self.header(self.session.hub().revision())),
            watch_id: EVERY_WATCH,
            created: true,
            canceled: true,
            cancel_reason: reason,
            ..WatchResponse::default()
        });
    }

    fn cancel(&mut self, id: i64) {
        let Some(slot) = self.slots.remove(&id) else {
            return;
        };
        self.session.remove(slot);
        self.outbox.push(&WatchResponse {
            header: Some(self.header(self.session.hub().revision())),
            watch_id: id,
            canceled: true,
            ..WatchResponse::default()
        });
    }

    /// Remembers to say how far the watches are, once events that are on their way have gone; unless one of
    /// them is catching up, or there are none.
    fn ask_progress(&mut self) {
        if self.session.watches() > 0 && self.session.is_synced() {
            self.asked = Some(self.session.hub().revision());
        }
    }
}

/// As Go's gRPC library prints an error.
pub(super) fn in_grpcs_words(no: Rejection) -> String {
    let refusal = Refusal::from(no);
    format!(
        "rpc error: code = {:?} desc = {}",
        refusal.grpc(),
        refusal.text()
    )
}
