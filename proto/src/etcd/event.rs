//! Changes, as a watcher sees them.

use meridian_domain::changes::Change;
use meridian_domain::kv::KeyValue;
use meridian_domain::revision::Revision;

use super::kv;
use crate::mvccpb::{self, Event, event::EventType};

/// Writes a change of `revision` as an event, with what the key held before if `with_prev`.
///
/// A deletion carries the key and the revision, nothing else.
pub fn event(revision: Revision, change: &Change, with_prev: bool) -> Event {
    let (kind, now) = match &change.after {
        Some(after) => (EventType::Put, kv::key_value(KeyValue::clone(after))),
        None => (
            EventType::Delete,
            mvccpb::KeyValue {
                key: change.key.clone(),
                mod_revision: revision,
                ..mvccpb::KeyValue::default()
            },
        ),
    };
    let before = if with_prev {
        change.before.as_deref()
    } else {
        None
    };
    Event {
        r#type: kind.into(),
        kv: Some(now),
        prev_kv: before.map(|before| kv::key_value(before.clone())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use meridian_domain::key::Space;

    use super::*;

    fn version(mod_revision: Revision) -> Arc<KeyValue> {
        Arc::new(KeyValue {
            key: Bytes::from_static(b"k"),
            create_revision: 2,
            mod_revision,
            version: mod_revision - 1,
            value: Bytes::from_static(b"v"),
            lease: 5,
        })
    }

    fn change(before: Option<Arc<KeyValue>>, after: Option<Arc<KeyValue>>) -> Change {
        Change {
            space: Space::RAW,
            key: Bytes::from_static(b"k"),
            before,
            after,
        }
    }

    #[test]
    fn a_delete_carries_key_and_revision_alone() {
        let seen = event(4, &change(Some(version(3)), None), false);
        let expected = mvccpb::KeyValue {
            key: Bytes::from_static(b"k"),
            mod_revision: 4,
            ..mvccpb::KeyValue::default()
        };
        assert_eq!(
            seen,
            Event {
                r#type: 1,
                kv: Some(expected),
                prev_kv: None
            }
        );
    }

    #[test]
    fn the_version_before_is_there_if_asked_for_and_known() {
        let overwritten = change(Some(version(2)), Some(version(3)));
        let expected = kv::key_value(KeyValue::clone(&version(2)));
        assert_eq!(event(3, &overwritten, true).prev_kv, Some(expected));
        assert_eq!(event(3, &overwritten, false).prev_kv, None);
        let created = change(None, Some(version(2)));
        assert_eq!(event(2, &created, true).prev_kv, None);
    }
}
