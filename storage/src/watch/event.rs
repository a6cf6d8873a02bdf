//! Commits as watchers receive them: each event encoded once.
//!
//! An [`Entry`] is a commit with room for its encoded events. The bytes are those of the field `events` of
//! etcd's `WatchResponse`, tag included, so that a response is put together from shared pieces:
//!
//! ```text
//!   [header][watch_id] [0x5a len Event] [0x5a len Event] ...
//!     per delivery       shared by everybody who receives them
//! ```

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use meridian_domain::changes::Change;
use meridian_domain::command::Commit;
use meridian_domain::kv::KeyValue;
use meridian_domain::revision::Revision;
use meridian_proto::mvccpb;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

/// The number of the field `events` in etcd's `WatchResponse`.
const EVENTS_FIELD: u32 = 11;

/// What an event carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// What the key held before.
    pub prev: bool,
    /// No values, only what identifies the versions.
    pub keys_only: bool,
}

impl Form {
    fn index(self) -> usize {
        usize::from(self.prev) | usize::from(self.keys_only) << 1
    }
}

/// The encodings of one change, by [`Form::index`], each made when first asked for.
type Encodings = [OnceLock<Bytes>; 4];

/// A commit on its way to watchers. Shared; every method may be called from any thread.
#[derive(Debug)]
pub struct Entry {
    commit: Arc<Commit>,
    /// One per change; allocated when the first watcher needs one.
    encodings: OnceLock<Box<[Encodings]>>,
}

impl Entry {
    /// Wraps a commit.
    pub fn new(commit: Arc<Commit>) -> Self {
        Self {
            commit,
            encodings: OnceLock::new(),
        }
    }

    /// The revision of the commit.
    pub fn revision(&self) -> Revision {
        self.commit.changes.revision
    }

    /// What changed, in order.
    pub fn changes(&self) -> &[Change] {
        &self.commit.changes.rows
    }

    /// The event of the change at `index`, encoded as one `events` field. Empty if there is no such change.
    pub fn encoded(&self, index: usize, form: Form) -> &[u8] {
        let rows = self.changes();
        let all = self
            .encodings
            .get_or_init(|| rows.iter().map(|_| Encodings::default()).collect());
        let Some(cell) = all.get(index).and_then(|forms| forms.get(form.index())) else {
            return &[];
        };
        cell.get_or_init(|| self.encode(index, form))
    }

    /// As [`Self::encoded`], to be kept: shares the bytes.
    pub fn encoded_shared(&self, index: usize, form: Form) -> Bytes {
        let _ = self.encoded(index, form);
        self.encodings
            .get()
            .and_then(|all| all.get(index)?.get(form.index())?.get())
            .cloned()
            .unwrap_or_default()
    }

    /// Bytes the entry is charged with in a ring: what it keeps alive, and what encoding may add.
    pub fn charge(&self) -> usize {
        const ENTRY: usize = 256;
        const CHANGE: usize = 192;
        let of = |kv: &Option<Arc<KeyValue>>| kv.as_ref().map_or(0, |kv| kv.value.len());
        self.changes()
            .iter()
            .map(|c| CHANGE + 3 * c.key.len() + of(&c.before) + 2 * of(&c.after))
            .sum::<usize>()
            + ENTRY
    }

    fn encode(&self, index: usize, form: Form) -> Bytes {
        let Some(change) = self.changes().get(index) else {
            return Bytes::new();
        };
        let event = mvccpb::Event {
            r#type: i32::from(change.is_delete()),
            kv: Some(match &change.after {
                Some(kv) => wire(kv, form.keys_only),
                None => mvccpb::KeyValue {
                    key: change.key.clone(),
                    mod_revision: self.revision(),
                    ..mvccpb::KeyValue::default()
                },
            }),
            prev_kv: if form.prev {
                self.before(index).map(|kv| wire(kv, form.keys_only))
            } else {
                None
            },
        };
        let len = event.encoded_len();
        let mut bytes = BytesMut::with_capacity(len + 6);
        encode_key(EVENTS_FIELD, WireType::LengthDelimited, &mut bytes);
        encode_varint(len as u64, &mut bytes);
        event.encode_raw(&mut bytes);
        bytes.freeze()
    }

    /// What the key held when the transaction began, as etcd shows it: the version at `revision - 1`, and
    /// nothing beside an event that creates the key.
    fn before(&self, index: usize) -> Option<&Arc<KeyValue>> {
        let rows = self.changes();
        let change = rows.get(index)?;
        if change
            .after
            .as_ref()
            .is_some_and(|kv| kv.create_revision == kv.mod_revision)
        {
            return None;
        }
        rows.iter()
            .find(|c| c.space == change.space && c.key == change.key)?
            .before
            .as_ref()
    }
}

fn wire(kv: &KeyValue, keys_only: bool) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key.clone(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: if keys_only {
            Bytes::new()
        } else {
            kv.value.clone()
        },
        lease: kv.lease,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use meridian_domain::changes::Changes;
    use meridian_domain::key::Space;
    use meridian_domain::name::TenantId;
    use meridian_domain::revision::LogId;
    use meridian_domain::stamp::Stamp;
    use meridian_proto::etcdserverpb::WatchResponse;

    use super::*;

    fn version(create: i64, revision: i64, version: i64, value: &'static str) -> Arc<KeyValue> {
        Arc::new(KeyValue {
            key: Bytes::from_static(b"k"),
            create_revision: create,
            mod_revision: revision,
            version,
            value: Bytes::from_static(value.as_bytes()),
            lease: 0,
        })
    }

    type Side = Option<Arc<KeyValue>>;

    fn entry(revision: i64, rows: Vec<(Side, Side)>) -> Entry {
        let rows = rows
            .into_iter()
            .map(|(before, after)| Change {
                space: Space::RAW,
                key: Bytes::from_static(b"k"),
                before,
                after,
            })
            .collect();
        Entry::new(Arc::new(Commit {
            tenant: TenantId::DEFAULT,
            log_id: LogId::default(),
            stamp: Stamp::default(),
            actor: "test".into(),
            changes: Changes { revision, rows },
        }))
    }

    fn decode(entry: &Entry, index: usize, form: Form) -> mvccpb::Event {
        let mut response = WatchResponse::decode(entry.encoded(index, form)).unwrap();
        assert_eq!(response.events.len(), 1);
        response.events.remove(0)
    }

    #[test]
    fn an_event_is_encoded_once_per_form() {
        let entry = entry(
            3,
            vec![(Some(version(2, 2, 1, "old")), Some(version(2, 3, 2, "new")))],
        );
        let prev = Form {
            prev: true,
            keys_only: false,
        };
        assert_eq!(
            entry.encoded(0, prev).as_ptr(),
            entry.encoded_shared(0, prev).as_ptr()
        );
        let event = decode(&entry, 0, prev);
        assert_eq!(event.kv.unwrap().value, "new");
        assert_eq!(event.prev_kv.unwrap().value, "old");
        assert_eq!(decode(&entry, 0, Form::default()).prev_kv, None);
        let bare = decode(
            &entry,
            0,
            Form {
                prev: true,
                keys_only: true,
            },
        );
        assert_eq!(bare.kv.unwrap().value, "");
        assert_eq!(bare.prev_kv.unwrap().value, "");
        assert!(entry.encoded(1, prev).is_empty());
    }

    #[test]
    fn a_deletion_carries_the_key_and_its_revision_alone() {
        let entry = entry(4, vec![(Some(version(2, 3, 2, "new")), None)]);
        let event = decode(&entry, 0, Form::default());
        assert_eq!(event.r#type, i32::from(true));
        let kv = event.kv.unwrap();
        assert_eq!((kv.key, kv.mod_revision), (Bytes::from_static(b"k"), 4));
        assert_eq!(
            (kv.create_revision, kv.version, kv.value, kv.lease),
            (0, 0, Bytes::new(), 0)
        );
    }

    #[test]
    fn what_was_before_is_what_the_transaction_found_and_a_creation_had_nothing() {
        let form = Form {
            prev: true,
            keys_only: false,
        };
        // One transaction writes the key and then deletes it.
        let both = entry(
            5,
            vec![
                (Some(version(2, 2, 1, "old")), Some(version(2, 5, 2, "mid"))),
                (Some(version(2, 5, 2, "mid")), None),
            ],
        );
        assert_eq!(decode(&both, 0, form).prev_kv.unwrap().value, "old");
        assert_eq!(decode(&both, 1, form).prev_kv.unwrap().value, "old");
        let made = entry(6, vec![(None, Some(version(6, 6, 1, "x")))]);
        assert_eq!(decode(&made, 0, form).prev_kv, None);
    }
}
