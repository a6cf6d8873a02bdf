//! Transactions within records.

use meridian_domain::key::{KeyRange, RangeEnd, Space};
use meridian_domain::kv::{Delete, Order, Put, Range, RevisionBounds, Target};
use meridian_domain::txn::{Compare, Op, Operand, Relation, Txn};

use super::schema::{compare, op};
use super::{NESTING_MAX, Unreadable, required, schema};

pub(super) fn write(txn: &Txn) -> schema::Txn {
    schema::Txn {
        compares: txn.compares.iter().map(write_compare).collect(),
        success: txn.success.iter().map(write_op).collect(),
        failure: txn.failure.iter().map(write_op).collect(),
    }
}

fn write_op(op: &Op) -> schema::Op {
    let op = match op {
        Op::Put(put) => op::Op::Put(write_put(put)),
        Op::Delete(delete) => op::Op::Delete(schema::Delete {
            range: Some(write_range(delete.space, &delete.range)),
            prev_kv: delete.prev_kv,
        }),
        Op::Range(range) => op::Op::Range(write_read(range)),
        Op::Txn(txn) => op::Op::Txn(write(txn)),
    };
    schema::Op { op: Some(op) }
}

fn write_put(put: &Put) -> schema::Put {
    schema::Put {
        space: u32::from(put.space.0),
        key: put.key.clone(),
        value: put.value.clone(),
        lease: put.lease,
        prev_kv: put.prev_kv,
    }
}

fn write_range(space: Space, range: &KeyRange) -> schema::KeyRange {
    let (shape, end) = match &range.end {
        RangeEnd::Single => (schema::RangeShape::Single, bytes::Bytes::new()),
        RangeEnd::Before(end) => (schema::RangeShape::Before, end.clone()),
        RangeEnd::Open => (schema::RangeShape::Open, bytes::Bytes::new()),
    };
    schema::KeyRange {
        space: u32::from(space.0),
        start: range.start.clone(),
        shape: shape.into(),
        end,
    }
}

fn write_read(range: &Range) -> schema::Range {
    let order = match range.order {
        Order::Unordered => schema::Order::Unordered,
        Order::Ascend => schema::Order::Ascend,
        Order::Descend => schema::Order::Descend,
    };
    let target = match range.target {
        Target::Key => schema::Target::Key,
        Target::Version => schema::Target::Version,
        Target::Create => schema::Target::Create,
        Target::Mod => schema::Target::Mod,
        Target::Value => schema::Target::Value,
    };
    schema::Range {
        range: Some(write_range(range.space, &range.range)),
        revision: range.revision,
        limit: range.limit,
        order: order.into(),
        target: target.into(),
        keys_only: range.keys_only,
        count_only: range.count_only,
        mod_min: range.bounds.mod_min,
        mod_max: range.bounds.mod_max,
        create_min: range.bounds.create_min,
        create_max: range.bounds.create_max,
    }
}

fn write_compare(compare: &Compare) -> schema::Compare {
    let relation = match compare.relation {
        Relation::Equal => schema::Relation::Equal,
        Relation::Greater => schema::Relation::Greater,
        Relation::Less => schema::Relation::Less,
        Relation::NotEqual => schema::Relation::NotEqual,
    };
    let operand = match &compare.operand {
        Operand::Version(n) => compare::Operand::Version(*n),
        Operand::Create(n) => compare::Operand::Create(*n),
        Operand::Mod(n) => compare::Operand::Mod(*n),
        Operand::Value(value) => compare::Operand::Value(value.clone()),
        Operand::Lease(n) => compare::Operand::Lease(*n),
    };
    schema::Compare {
        range: Some(write_range(compare.space, &compare.range)),
        relation: relation.into(),
        operand: Some(operand),
    }
}

/// Reads a transaction that stands `depth` levels deep, the outermost at 1.
pub(super) fn read(txn: schema::Txn, depth: usize) -> Result<Txn, Unreadable> {
    if depth > NESTING_MAX {
        return Err(Unreadable::TooDeep);
    }
    let branch = |ops: Vec<schema::Op>| {
        ops.into_iter()
            .map(|op| read_op(op, depth))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(Txn {
        compares: txn
            .compares
            .into_iter()
            .map(read_compare)
            .collect::<Result<_, _>>()?,
        success: branch(txn.success)?,
        failure: branch(txn.failure)?,
    })
}

fn read_op(op: schema::Op, depth: usize) -> Result<Op, Unreadable> {
    Ok(match required(op.op, "operation of a transaction")? {
        op::Op::Put(put) => Op::Put(Put {
            space: read_space(put.space)?,
            key: put.key,
            value: put.value,
            lease: put.lease,
            prev_kv: put.prev_kv,
        }),
        op::Op::Delete(delete) => {
            let (space, range) = read_range(delete.range)?;
            Op::Delete(Delete {
                space,
                range,
                prev_kv: delete.prev_kv,
            })
        }
        op::Op::Range(range) => Op::Range(read_read(range)?),
        op::Op::Txn(txn) => Op::Txn(read(txn, depth + 1)?),
    })
}

fn read_space(space: u32) -> Result<Space, Unreadable> {
    u8::try_from(space)
        .map(Space)
        .map_err(|_| Unreadable::Impossible { what: "space" })
}

fn read_range(range: Option<schema::KeyRange>) -> Result<(Space, KeyRange), Unreadable> {
    let range = required(range, "range of keys")?;
    let shape = schema::RangeShape::try_from(range.shape).map_err(|_| Unreadable::Impossible {
        what: "shape of a range",
    })?;
    let end = match shape {
        schema::RangeShape::Before => RangeEnd::Before(range.end),
        _ if !range.end.is_empty() => {
            return Err(Unreadable::Impossible {
                what: "end of a range",
            });
        }
        schema::RangeShape::Single => RangeEnd::Single,
        schema::RangeShape::Open => RangeEnd::Open,
    };
    Ok((
        read_space(range.space)?,
        KeyRange {
            start: range.start,
            end,
        },
    ))
}

fn read_read(range: schema::Range) -> Result<Range, Unreadable> {
    let order = match schema::Order::try_from(range.order) {
        Ok(schema::Order::Unordered) => Order::Unordered,
        Ok(schema::Order::Ascend) => Order::Ascend,
        Ok(schema::Order::Descend) => Order::Descend,
        Err(_) => return Err(Unreadable::Impossible { what: "order" }),
    };
    let target = match schema::Target::try_from(range.target) {
        Ok(schema::Target::Key) => Target::Key,
        Ok(schema::Target::Version) => Target::Version,
        Ok(schema::Target::Create) => Target::Create,
        Ok(schema::Target::Mod) => Target::Mod,
        Ok(schema::Target::Value) => Target::Value,
        Err(_) => {
            return Err(Unreadable::Impossible {
                what: "target of an order",
            });
        }
    };
    let (space, keys) = read_range(range.range)?;
    Ok(Range {
        space,
        range: keys,
        revision: range.revision,
        limit: range.limit,
        order,
        target,
        keys_only: range.keys_only,
        count_only: range.count_only,
        bounds: RevisionBounds {
            mod_min: range.mod_min,
            mod_max: range.mod_max,
            create_min: range.create_min,
            create_max: range.create_max,
        },
    })
}

fn read_compare(compare: schema::Compare) -> Result<Compare, Unreadable> {
    let relation = match schema::Relation::try_from(compare.relation) {
        Ok(schema::Relation::Equal) => Relation::Equal,
        Ok(schema::Relation::Greater) => Relation::Greater,
        Ok(schema::Relation::Less) => Relation::Less,
        Ok(schema::Relation::NotEqual) => Relation::NotEqual,
        Err(_) => return Err(Unreadable::Impossible { what: "relation" }),
    };
    let operand = match required(compare.operand, "operand of a compare")? {
        compare::Operand::Version(n) => Operand::Version(n),
        compare::Operand::Create(n) => Operand::Create(n),
        compare::Operand::Mod(n) => Operand::Mod(n),
        compare::Operand::Value(value) => Operand::Value(value),
        compare::Operand::Lease(n) => Operand::Lease(n),
    };
    let (space, range) = read_range(compare.range)?;
    Ok(Compare {
        space,
        range,
        relation,
        operand,
    })
}
