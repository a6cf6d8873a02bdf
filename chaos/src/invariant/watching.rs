//! What a watch promises: ordered, unique, reliable, atomic, resumable.
//!
//! Every watcher, over all its connections, got exactly what a replay of history says, in order, from where it
//! started to where it ended; and all events of a revision in one message.

use crate::history::{Event, Watched};
use crate::invariant::{FAULTS_MAX, Faults};

/// Checks one watcher against a replay of history.
pub fn check(watcher: usize, watched: &Watched, replay: &Watched) -> Faults {
    let mut faults = vec![];
    let got: Vec<&Event> = watched.messages.iter().flatten().collect();
    let history: Vec<&Event> = replay
        .messages
        .iter()
        .flatten()
        .filter(|event| event.revision >= watched.from)
        .collect();
    for (i, event) in got.iter().enumerate() {
        match history.get(i) {
            Some(expected) if same(event, expected) => {}
            expected => {
                faults.push(format!(
                    "event {i} of watcher {watcher} is {}, history has {}",
                    shown(Some(event)),
                    shown(expected.copied())
                ));
                break;
            }
        }
    }
    let mut last = 0;
    for message in &watched.messages {
        if let Some(first) = message.first() {
            if first.revision <= last {
                faults.push(format!(
                    "watcher {watcher} got revision {} in two messages, or went back to it",
                    first.revision
                ));
            }
            last = message.last().map_or(last, |event| event.revision);
        }
    }
    faults.truncate(FAULTS_MAX);
    faults
}

fn same(a: &Event, b: &Event) -> bool {
    a.key == b.key && a.value == b.value && a.revision == b.revision
}

fn shown(event: Option<&Event>) -> String {
    match event {
        Some(event) => format!("{:?} at revision {}", event.key, event.revision),
        None => "nothing".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: i64) -> Event {
        Event {
            key: "k".into(),
            value: None,
            revision,
            at: 0,
        }
    }

    fn watched(messages: &[&[i64]]) -> Watched {
        let message = |revisions: &&[i64]| revisions.iter().map(|r| event(*r)).collect();
        Watched {
            from: 1,
            messages: messages.iter().map(message).collect(),
            reconnects: 0,
        }
    }

    #[test]
    fn gaps_doubles_disorder_and_torn_revisions_are_found() {
        let history = watched(&[&[2], &[3, 3], &[4]]);
        assert!(check(0, &watched(&[&[2, 3, 3], &[4]]), &history).is_empty());
        assert!(
            check(0, &watched(&[&[2], &[3, 3]]), &history).is_empty(),
            "it may end earlier"
        );
        for wrong in [
            watched(&[&[2], &[4]]),
            watched(&[&[2], &[2], &[3, 3]]),
            watched(&[&[3, 3], &[2]]),
            watched(&[&[2], &[3], &[3], &[4]]),
            watched(&[&[2], &[3, 3], &[4], &[5]]),
        ] {
            assert!(!check(0, &wrong, &history).is_empty(), "{wrong:?}");
        }
    }
}
