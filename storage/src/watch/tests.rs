//! What a script can not say: limits, promises, closing, and threads that meet.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use bytes::Bytes;
use meridian_domain::key::{KeyRange, Space};
use meridian_domain::revision::Revision;
use meridian_proto::etcdserverpb::WatchResponse;
use prost::Message;

use super::event::Form;
use super::hub::{Hub, Settings};
use super::model::{World, commit_of};
use super::session::{Filters, Session, Step, Watch};

fn watch(id: i64, range: KeyRange, start: Revision, prev: bool) -> Watch {
    Watch {
        id,
        space: Space::RAW,
        range,
        start,
        seen: 0,
        filters: Filters::default(),
        form: Form {
            prev,
            keys_only: false,
        },
        notes: 0,
    }
}

#[test]
fn what_was_before_is_shown_while_the_revision_before_can_be_read() {
    for (compacted, shown) in [(0, true), (2, true), (3, false)] {
        let mut world = World::new(64);
        let mut session = Session::open(world.hub.clone());
        session.add(&watch(0, KeyRange::all(), 0, true), 0).unwrap();
        let made = world.make(vec![vec![(1, true)], vec![(1, true)]]);
        world.hub.publish(made, 3);
        session.hurry();
        session.collect(Waker::noop(), compacted);
        let Step::Batch(batch) = session.next(1 << 20) else {
            panic!("a batch")
        };
        let mut body = vec![];
        batch
            .events()
            .for_each(|event| body.extend_from_slice(event.bytes()));
        let response = WatchResponse::decode(body.as_slice()).unwrap();
        assert_eq!(response.events[0].prev_kv, None);
        assert_eq!(
            response.events[1].prev_kv.is_some(),
            shown,
            "compacted {compacted}"
        );
    }
}

#[test]
fn a_watch_over_the_limit_is_not_added_and_one_that_goes_makes_room() {
    let hub = Arc::new(Hub::new(1, Settings::default()));
    let mut session = Session::open(hub.clone());
    let any = watch(0, KeyRange::all(), 0, false);
    let first = session.add(&any, 2).unwrap();
    session.add(&any, 2).unwrap();
    assert!(session.add(&any, 2).is_none());
    assert_eq!(hub.watchers(), 2);
    session.remove(first.slot);
    assert!(session.add(&any, 2).is_some());
    drop(session);
    assert_eq!(hub.watchers(), 0);
}

#[test]
fn progress_is_not_promised_below_a_revision_a_watch_waits_for() {
    let mut world = World::new(64);
    let mut session = Session::open(world.hub.clone());
    let added = session
        .add(&watch(0, KeyRange::all(), 3, false), 0)
        .unwrap();
    let mut at = |world: &mut World, key| {
        let made = world.make(vec![vec![(key, true)]]);
        world.hub.publish(made, world.revision());
        session.hurry();
        session.collect(Waker::noop(), 0);
        let mut seen = 0;
        while let Step::Batch(batch) = session.next(1 << 20) {
            seen += batch.events;
        }
        (seen, session.settled(), session.settled_of(added.slot))
    };
    assert_eq!(at(&mut world, 1), (0, None, None));
    assert_eq!(at(&mut world, 1), (1, Some(3), Some(3)));
    assert_eq!(at(&mut world, 1), (1, Some(4), Some(4)));
}

#[test]
fn a_closed_hub_wakes_every_session() {
    struct Flag(AtomicBool);
    impl std::task::Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let hub = Arc::new(Hub::new(1, Settings::default()));
    let mut session = Session::open(hub.clone());
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    session.collect(&Waker::from(flag.clone()), 0);
    hub.close();
    assert!(flag.0.load(Ordering::SeqCst) && hub.is_closed());
}

/// Apply, dispatcher and streams on threads of their own: nothing is lost where they meet.
#[test]
fn threads_that_publish_dispatch_and_read_lose_and_double_nothing() {
    const COMMITS: Revision = 20_000;
    let settings = Settings {
        ring_commits_max: 512,
        ..Settings::default()
    };
    let hub = Arc::new(Hub::new(1, settings));
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0_u8..4)
        .map(|reader| {
            let hub = hub.clone();
            std::thread::spawn(move || {
                let mut session = Session::open(hub);
                let range = KeyRange::single(Bytes::from(vec![reader]));
                let first = session.add(&watch(0, range, 2, false), 0).unwrap();
                let mut seen: Vec<Revision> = vec![];
                loop {
                    session.collect(Waker::noop(), 0);
                    match session.next(4096) {
                        Step::Idle | Step::Busy => std::thread::yield_now(),
                        Step::Past { from, to } => {
                            let read = (from..=to.min(from + 999))
                                .map(|r| commit_of(r, &[(r % 5) as u8]))
                                .collect();
                            assert!(session.feed(from, read));
                        }
                        Step::Batch(batch) => {
                            seen.extend(batch.events().map(|event| event.revision()));
                        }
                    }
                    if session.settled_of(first.slot) == Some(COMMITS + 1) {
                        return seen;
                    }
                }
            })
        })
        .collect();
    let dispatcher = std::thread::spawn({
        let (hub, done) = (hub.clone(), done.clone());
        move || {
            while !done.load(Ordering::SeqCst) || hub.dispatch() {
                hub.dispatch();
                std::thread::yield_now();
            }
        }
    });
    for revision in 2..=COMMITS + 1 {
        hub.publish(
            vec![Arc::new(commit_of(revision, &[(revision % 5) as u8]))],
            revision,
        );
    }
    done.store(true, Ordering::SeqCst);
    dispatcher.join().unwrap();
    for (reader, thread) in readers.into_iter().enumerate() {
        let expected: Vec<Revision> = (2..=COMMITS + 1)
            .filter(|r| *r % 5 == reader as Revision)
            .collect();
        assert_eq!(thread.join().unwrap(), expected);
    }
}

#[test]
fn a_watch_that_starts_now_does_not_show_what_its_owner_has_read() {
    let mut world = World::new(64);
    let mut session = Session::open(world.hub.clone());
    let mut any = watch(0, KeyRange::all(), 0, false);
    any.seen = 2;
    assert_eq!(session.add(&any, 0).unwrap().revision, 2);
    for expected in [0, 1] {
        let made = world.make(vec![vec![(1, true)]]);
        world.hub.publish(made, world.revision());
        session.hurry();
        session.collect(Waker::noop(), 0);
        let mut seen = 0;
        while let Step::Batch(batch) = session.next(1 << 20) {
            seen += batch.events;
        }
        assert_eq!(seen, expected);
        assert_eq!(session.settled(), Some(world.revision()));
    }
}
