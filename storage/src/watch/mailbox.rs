//! What the dispatcher leaves for a stream of watches.
//!
//! Per watch one [`Mark`]: the first and the last revision that has something for it. Marks of a watch that
//! was not collected yet are joined, so a stream that never reads costs nothing more.

use std::task::Waker;

use meridian_domain::revision::Revision;
use parking_lot::Mutex;

/// "Look at these revisions." Empty if `from` is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// The first revision with something for the watch.
    pub(super) from: Revision,
    /// The last one known.
    pub(super) last: Revision,
}

/// Where the marks of one session lie until it collects them.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    marks: Vec<Mark>,
    /// Slots whose mark is not empty (or was emptied since); a slot may stand here twice.
    pending: Vec<u32>,
    /// Whether the session knows, or is about to be told, that something is pending.
    rung: bool,
    waker: Option<Waker>,
}

impl Mailbox {
    /// Notes that `slot` has something at `from..=last`. True if the session must be woken for it.
    pub(super) fn mark(&self, slot: u32, from: Revision, last: Revision) -> bool {
        let mut inner = self.inner.lock();
        let Some(mark) = inner.marks.get_mut(slot as usize) else {
            return false;
        };
        let was_empty = mark.from == 0;
        if was_empty {
            mark.from = from;
        }
        mark.last = last;
        if was_empty {
            inner.pending.push(slot);
        }
        !std::mem::replace(&mut inner.rung, true)
    }

    /// Makes room for `slots` watches.
    pub(super) fn reserve(&self, slots: usize) {
        let mut inner = self.inner.lock();
        if inner.marks.len() < slots {
            inner.marks.resize(slots, Mark::default());
        }
    }

    /// Forgets what was marked for `slot`.
    pub(super) fn clear(&self, slot: u32) {
        if let Some(mark) = self.inner.lock().marks.get_mut(slot as usize) {
            *mark = Mark::default();
        }
    }

    /// Hands every mark to `each` and empties them.
    pub(super) fn collect(&self, mut each: impl FnMut(u32, Mark)) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        inner.rung = false;
        for slot in inner.pending.drain(..) {
            let Some(mark) = inner.marks.get_mut(slot as usize) else {
                continue;
            };
            let mark = std::mem::take(mark);
            if mark.from != 0 {
                each(slot, mark);
            }
        }
        // One burst must not cost a quiet stream memory for ever.
        if inner.pending.capacity() > 1024 {
            inner.pending = Vec::new();
        }
    }

    /// Who is to be woken from now on.
    pub(super) fn register(&self, waker: &Waker) {
        let mut inner = self.inner.lock();
        if !inner.waker.as_ref().is_some_and(|own| own.will_wake(waker)) {
            inner.waker = Some(waker.clone());
        }
    }

    pub(super) fn wake(&self) {
        let inner = self.inner.lock();
        if let Some(waker) = &inner.waker {
            waker.wake_by_ref();
        }
    }
}
