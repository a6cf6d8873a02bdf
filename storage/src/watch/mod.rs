//! Watching: a watcher is a cursor over the recent past.
//!
//! ```text
//!   apply thread                 dispatcher                        a stream of watches
//!   ------------                 ----------                        -------------------
//!   publish(commits)             dispatch()                        Session
//!        |                            |                               |
//!        v                            v                               v
//!   [ring of entries] --read--> interest index --marks--> mailbox --> cursors
//!   oldest ... newest           key -> watchers          (from,last)   | next .. last
//!        ^                                                             |
//!        +---------------- read by revision ---------------------------+
//!                     older than the ring: history, in slices
//! ```
//!
//! - [`Hub::publish`] appends to the [`ring`] and wakes the dispatcher. Nothing else happens on the apply
//!   thread, however many watchers there are.
//! - [`Hub::dispatch`] looks up who is interested in each new commit and *marks* it: "there is something
//!   for you at revision r". Marks first, then [`Hub::dispatched`] moves, then streams are woken.
//! - A [`Session`] holds the cursors of one client stream. A mark is a range of revisions, not a queue: a
//!   watcher that does not read costs the same 16 bytes however far it falls behind. A session reads no
//!   further than `dispatched`, so what it has not been told of does not exist below that revision: this is
//!   what a progress message may promise.
//!
//! Live, slow and resumed watchers are one path: each has a first and a last revision it must look at, reads
//! them from the ring while they are there and from history otherwise. A new watcher that starts in the past
//! is one whose first mark reaches from there to the present. A ring that was reset (snapshot installed) or
//! overrun marks everybody over the gap.
//!
//! An event is encoded once per [`event::Form`], by the first who needs it, however many receive it.
//!
//! Deliberately absent: queues per watcher, timers, tasks, the wire beyond the encoded events.

pub mod event;
pub mod hub;
pub mod session;

mod cursor;
mod interest;
mod mailbox;
mod metrics;
mod ranges;
mod ring;
mod span;

#[cfg(test)]
mod model;
#[cfg(test)]
mod program;
#[cfg(test)]
mod tests;

pub use event::{Entry, Form};
pub use hub::{Hub, Settings};
pub use session::{Added, Batch, Event, Filters, Session, Step, Watch};
