//! Whether a compare holds, given what is stored.
//!
//! One function for reads at the edge and for apply, so that they can not disagree.

use crate::kv::KeyValue;
use crate::txn::{Compare, Operand};

/// Whether `compare` holds for the versions found in its range (alive ones only, any order).
///
/// An empty range, or a missing key, compares as zero in every number; a value compare on it is false,
/// whatever the relation (etcd's rule).
pub fn holds<'a>(compare: &Compare, found: impl IntoIterator<Item = &'a KeyValue>) -> bool {
    let mut any = false;
    for kv in found {
        any = true;
        if !holds_for(compare, kv) {
            return false;
        }
    }
    any || holds_for_nothing(compare)
}

fn holds_for(compare: &Compare, kv: &KeyValue) -> bool {
    let ordering = match &compare.operand {
        Operand::Version(n) => kv.version.cmp(n),
        Operand::Create(n) => kv.create_revision.cmp(n),
        Operand::Mod(n) => kv.mod_revision.cmp(n),
        Operand::Value(v) => kv.value.cmp(v),
        Operand::Lease(n) => kv.lease.cmp(n),
    };
    compare.relation.holds(ordering)
}

fn holds_for_nothing(compare: &Compare) -> bool {
    match &compare.operand {
        Operand::Version(n) | Operand::Create(n) | Operand::Mod(n) | Operand::Lease(n) => {
            compare.relation.holds(0.cmp(n))
        }
        Operand::Value(_) => false,
    }
}
