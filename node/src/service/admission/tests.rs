//! Shares, turns and bounds.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use meridian_domain::name::{TenantId, TenantName};

use super::*;
use crate::authn::Who;

fn ctx() -> RequestContext {
    RequestContext {
        tenant: TenantName::new("busy").unwrap(),
        who: Who::Nobody,
        request_id: None,
        deadline: tokio::time::Instant::now() + Duration::from_mins(1),
        deadline_is_callers: false,
        require_leader: false,
        client_api_version: None,
    }
}

const BUSY: Lane = Lane::Tenant(TenantId(1));
const QUIET: Lane = Lane::Tenant(TenantId(2));

fn enter(admission: &Arc<Admission>, lane: Lane, bytes: usize) -> Entrance {
    admission.enter_or_wait(lane, bytes, &ctx()).unwrap()
}

fn opened(entrance: Entrance) -> Option<Pass> {
    match entrance {
        Entrance::Open(pass) => Some(pass),
        Entrance::Wait(_) => None,
    }
}

#[test]
fn a_tenant_alone_fills_the_window_and_then_waits() {
    let admission = Arc::new(Admission::default());
    let passes: Vec<_> = (0..WINDOW)
        .map(|_| opened(enter(&admission, BUSY, 100)).unwrap())
        .collect();
    let Entrance::Wait(mut waiting) = enter(&admission, BUSY, 100) else {
        panic!("no bound")
    };
    assert!(waiting.try_recv().is_err());
    drop(passes.into_iter().next());
    assert!(waiting.try_recv().is_ok());
}

#[test]
fn a_quiet_tenant_enters_a_window_that_is_full_of_anothers_writes() {
    let admission = Arc::new(Admission::default());
    let _full: Vec<_> = (0..WINDOW)
        .map(|_| opened(enter(&admission, BUSY, 100)).unwrap())
        .collect();
    assert!(opened(enter(&admission, QUIET, 100)).is_some());
}

#[test]
fn two_tenants_that_write_are_held_to_equal_shares() {
    let admission = Arc::new(Admission::default());
    let mut passes: VecDeque<_> = (0..WINDOW)
        .map(|_| opened(enter(&admission, BUSY, 100)).unwrap())
        .collect();
    let _quiet = opened(enter(&admission, QUIET, 100)).unwrap();
    let mut waiting: Vec<_> = (0..WINDOW)
        .map(|_| match enter(&admission, BUSY, 100) {
            Entrance::Wait(ready) => ready,
            Entrance::Open(_) => panic!("a busy tenant kept the whole window"),
        })
        .collect();
    // How large the window is follows how long writes take; whoever enters keeps within a share of it.
    let mut entered = vec![];
    while let Some(pass) = passes.pop_front() {
        drop(pass);
        let before = entered.len();
        entered.extend(waiting.iter_mut().filter_map(|ready| ready.try_recv().ok()));
        if entered.len() > before {
            let share = admission.books.lock().share();
            assert!(passes.len() + entered.len() <= share, "beyond {share}");
        }
    }
    assert!(!entered.is_empty() && entered.len() <= pace::WINDOW_MAX / 2);
}

#[test]
fn writers_on_other_members_count() {
    let admission = Arc::new(Admission::default());
    admission.note_writers(2);
    let entered = (0..WINDOW).filter_map(|_| opened(enter(&admission, BUSY, 100)));
    let entered: Vec<_> = entered.collect();
    assert_eq!(entered.len(), admission.books.lock().share());
    assert!(entered.len() < WINDOW / 2);
    admission.note_writers(1);
    assert!(
        opened(enter(&admission, BUSY, 100)).is_none(),
        "others are waiting"
    );
}

#[test]
fn both_tenants_move_on_while_their_lines_are_long() {
    let admission = Arc::new(Admission::default());
    // Both tenants have their share in flight and a line behind it: large writes and small ones.
    let mut held = vec![];
    let mut lines: Vec<(Lane, usize, oneshot::Receiver<Pass>)> = vec![];
    for _ in 0..400 {
        for (lane, bytes) in [(BUSY, 15 << 10), (QUIET, 1 << 10)] {
            match enter(&admission, lane, bytes) {
                Entrance::Open(pass) => held.push(pass),
                Entrance::Wait(ready) => lines.push((lane, bytes, ready)),
            }
        }
    }
    let mut bytes_by_lane = [0usize; 2];
    let mut rounds = 0;
    while rounds < 120 && !held.is_empty() {
        rounds += 1;
        drop(held.remove(0));
        lines.retain_mut(|(lane, bytes, ready)| match ready.try_recv() {
            Ok(pass) => {
                bytes_by_lane[usize::from(*lane == QUIET)] += *bytes;
                held.push(pass);
                false
            }
            Err(_) => true,
        });
    }
    let [busy, quiet] = bytes_by_lane;
    assert!(quiet > 0 && busy > 0, "{busy} {quiet}");
}

#[test]
fn a_line_that_is_full_refuses_and_names_the_tenant() {
    let admission = Arc::new(Admission::default());
    let _full: Vec<_> = (0..WINDOW)
        .map(|_| opened(enter(&admission, BUSY, 1)).unwrap())
        .collect();
    let _line: Vec<_> = (0..WAITING_PER_TENANT)
        .map(|_| enter(&admission, BUSY, 1))
        .collect();
    let Err(refusal) = admission.enter_or_wait(BUSY, 1, &ctx()) else {
        panic!("no bound")
    };
    assert_eq!(refusal.to_string(), "etcdserver: too many requests");
    assert!(refusal.hint().unwrap().contains("tenant busy"));
}

#[test]
fn the_cluster_itself_never_waits_behind_a_tenant() {
    let admission = Arc::new(Admission::default());
    let _full: Vec<_> = (0..WINDOW)
        .map(|_| opened(enter(&admission, BUSY, 1)).unwrap())
        .collect();
    let _line: Vec<_> = (0..10).map(|_| enter(&admission, BUSY, 1)).collect();
    assert!(opened(enter(&admission, Lane::Priority, 1 << 20)).is_some());
}

#[test]
fn a_waiter_that_gave_up_does_not_keep_its_place() {
    let admission = Arc::new(Admission::default());
    let mut full: Vec<_> = (0..WINDOW)
        .map(|_| opened(enter(&admission, BUSY, 1)).unwrap())
        .collect();
    let gone = enter(&admission, BUSY, 1);
    let Entrance::Wait(mut next) = enter(&admission, BUSY, 1) else {
        panic!("no bound")
    };
    drop(gone);
    full.pop();
    assert!(next.try_recv().is_ok());
}

#[test]
fn those_who_only_wait_get_the_share_of_one_that_stopped_writing() {
    let admission = Arc::new(Admission::default());
    drop(opened(enter(&admission, QUIET, 1)).unwrap());
    let mut held = vec![];
    let mut waiting = vec![];
    for _ in 0..200 {
        match enter(&admission, BUSY, 1) {
            Entrance::Open(pass) => held.push(pass),
            Entrance::Wait(ready) => waiting.push(ready),
        }
    }
    assert!(!waiting.is_empty(), "two tenants write");
    {
        let mut books = admission.books.lock();
        let long_ago = Instant::now().checked_sub(2 * RECENT).unwrap();
        books.swept = Some(long_ago);
        for line in books.lines.values_mut() {
            line.last_write = long_ago;
        }
    }
    held.pop();
    let called: Vec<_> = waiting
        .iter_mut()
        .filter_map(|ready| ready.try_recv().ok())
        .collect();
    assert_eq!(called.len(), waiting.len());
}

#[test]
fn everything_given_back_leaves_empty_books() {
    let admission = Arc::new(Admission::default());
    let mut held: VecDeque<Pass> = VecDeque::new();
    let mut lines = vec![];
    for n in 0..5000usize {
        let lane = Lane::Tenant(TenantId((n % 7) as u32));
        match enter(&admission, lane, n) {
            Entrance::Open(pass) => held.push_back(pass),
            Entrance::Wait(ready) => lines.push(ready),
        }
        lines.retain_mut(|ready| match ready.try_recv() {
            Ok(pass) => {
                held.push_back(pass);
                false
            }
            Err(_) => true,
        });
        if n % 3 == 0 {
            drop(held.pop_front());
        }
    }
    while let Some(pass) = held.pop_front() {
        drop(pass);
        lines.retain_mut(|ready| match ready.try_recv() {
            Ok(pass) => {
                held.push_back(pass);
                false
            }
            Err(_) => true,
        });
    }
    assert!(lines.is_empty(), "{} writes were forgotten", lines.len());
    let books = admission.books.lock();
    assert_eq!(
        (books.in_flight, books.in_flight_bytes, books.waiting_bytes),
        (0, 0, 0)
    );
}
