//! Meridian for applications: keys, watches, leases, locks, elections and tenants, from async Rust.
//!
//! ```no_run
//! # async fn example() -> meridian_client::Result<()> {
//! use meridian_client::{Client, Keys, Options};
//!
//! let client = Client::connect(["http://127.0.0.1:2379"], Options::default()).await?;
//! client.put("config/log", "info").await?;
//!
//! let mut watch = client.watch(Keys::prefix("config/")).await?;
//! client.put("config/log", "debug").await?;
//! let changes = watch.next().await.expect("the watch is open")?;
//! assert_eq!(changes.events[0].key(), "config/log");
//! # Ok(()) }
//! ```
//!
//! The crate speaks etcd's gRPC API, so it works with an etcd cluster too. What it adds:
//!
//! - **Many members.** Every call goes to a member that is well, by load, latency or leadership; when it
//!   fails another is asked. See [`Options`].
//! - **Retries that are safe.** Reads are repeated freely. Writes carry request ids, under which Meridian
//!   applies them at most once; against etcd they are repeated only when they surely were not sent. What
//!   remains is said: [`Error::outcome_unknown`].
//! - **Watches that do not end.** They resume by revision over any failure, without gap or double, and a
//!   slow reader costs no memory. See [`Watch`].
//! - **Locks that can be trusted.** Every lock and leadership carries a fencing token, and says when it is
//!   lost. See [`Lock`].
//!
//! Deliberately absent: blocking calls, name resolution and service discovery, and any global state.

mod connect;
mod error;
mod options;
mod request_id;
mod retry;

mod contend;
mod election;
mod keys;
mod kv;
mod lease;
mod lock;
mod watch;

mod maintenance;
mod member;
mod snapshot;
mod tenant;

pub use connect::Client;
pub use election::{Election, Leadership, Observe};
pub use error::{Error, Kind, Result};
pub use keys::Keys;
pub use kv::{
    Compact, Compare, CompareNumber, CompareValue, Delete, Deleted, Found, Get, Op, OpAnswer,
    Order, Pages, Put, Range, SortBy, Txn, TxnAnswer, Written,
};
pub use lease::{Grant, KeepAlive, Lease, LeaseStatus};
pub use lock::{Lock, LockBuilder};
pub use maintenance::{Alarm, AlarmKind, HashKv, MemberStatus, MeridianStatus};
pub use member::{Member, Membership};
pub use meridian_domain::kv::KeyValue;
pub use meridian_domain::tenant::{Quota, Retention, Usage};
pub use options::{Options, Prefer, Tls};
pub use retry::Policy;
pub use snapshot::{Chunk, Snapshot};
pub use tenant::Tenant;
pub use watch::{Changes, Event, Watch, WatchBuilder};
