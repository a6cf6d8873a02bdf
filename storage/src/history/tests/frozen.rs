//! The formats as they were first released. These files are read for ever; a change of a format gets new files
//! beside them.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use meridian_domain::key::Space;
use meridian_domain::kv::KeyValue;
use meridian_domain::name::TenantId;
use meridian_domain::revision::LogId;

use crate::history::contents::Contents;
use crate::history::packed::Memory;
use crate::history::run::{self, Entries};
use crate::history::{block, envelope};
use crate::row::{At, Version};
use crate::seal::Plain;

/// The content of a frozen file. Where there is none yet, `MERIDIAN_FREEZE=1` makes it from `now`.
pub fn bytes(name: &str, now: &[u8]) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/frozen")
        .join(name);
    if !path.exists() && std::env::var_os("MERIDIAN_FREEZE").is_some() {
        std::fs::write(&path, now).unwrap();
    }
    std::fs::read(path).unwrap()
}

fn rows() -> Vec<Version> {
    let put =
        |revision, sub, key: &'static str, value: &'static str, prev: Option<At>, lease| Version {
            at: At { revision, sub },
            space: Space(0),
            key: key.into(),
            after: Some(Arc::new(KeyValue {
                key: key.into(),
                create_revision: prev.map_or(revision, |at| at.revision),
                mod_revision: revision,
                version: 1 + i64::from(prev.is_some()),
                value: value.into(),
                lease,
            })),
            prev,
            stamp_ms: 1_700_000_000_000 + revision as u64,
            actor: "alice".into(),
        };
    let first = At {
        revision: 2,
        sub: 0,
    };
    let mut deleted = put(
        700,
        0,
        "a",
        "",
        Some(At {
            revision: 3,
            sub: 1,
        }),
        0,
    );
    deleted.after = None;
    deleted.actor = "bob".into();
    deleted.space = Space(200);
    deleted.stamp_ms = 5;
    vec![
        put(2, 0, "a", "first", None, 0),
        put(3, 0, "b", "", None, -7),
        put(3, 1, "a", "second", Some(first), 1 << 40),
        deleted,
    ]
}

#[test]
fn a_block_is_written_and_read_as_it_was_released() {
    let packed = block::pack(
        &Plain,
        TenantId(9),
        rows().into_iter().map(Arc::new).collect(),
    );
    let [one] = packed.as_slice() else {
        panic!("one block")
    };
    assert_eq!(
        one.key,
        envelope::block_key(
            TenantId(9),
            At {
                revision: 2,
                sub: 0
            }
        )
    );
    let frozen = bytes("block-1.bin", &one.value);
    assert!(one.value == frozen, "the bytes of format 1 have changed");
    let read = block::load(&Plain, Path::new("x"), &one.key, &frozen.into()).unwrap();
    assert_eq!(
        read.rows
            .iter()
            .map(|row| (**row).clone())
            .collect::<Vec<_>>(),
        rows()
    );
}

#[test]
fn a_run_is_written_and_read_as_it_was_released() {
    let entries = Entries::from([
        (run::fact_key(b"kept"), Some(Bytes::from("value"))),
        (run::fact_key(b"removed"), None),
        (
            run::dropped_key(
                TenantId(9),
                At {
                    revision: 3,
                    sub: 1,
                },
            ),
            Some(Bytes::new()),
        ),
        (run::removed_key(TenantId(8)), Some(Bytes::new())),
    ]);
    let mut packing = run::Packing::new(&Plain, 5);
    for (key, value) in &entries {
        packing.push(key, value.as_deref());
    }
    let (_, rows) = packing.finish().unwrap();
    let [(key, value)] = rows.as_slice() else {
        panic!("one chunk")
    };
    assert_eq!(*key, envelope::run_key(5, 0));
    let frozen = bytes("run-1.bin", value);
    assert!(*value == frozen, "the bytes of format 1 have changed");
    let mut back = Entries::new();
    run::read(
        &Plain,
        Path::new("x"),
        key,
        &frozen.into(),
        Memory::Own,
        &mut |key, value| {
            back.insert(key, value);
        },
    )
    .unwrap();
    assert_eq!(back, entries);
}

#[test]
fn the_table_of_contents_is_written_and_read_as_it_was_released() {
    let contents = Contents {
        applied: LogId { term: 3, index: 4 },
        next_run: 5,
        blocks: 6,
        rows: 7,
        chunks: 8,
        hash: 9,
    };
    let value = contents.wrap(&Plain);
    let frozen = bytes("contents-1.bin", &value);
    assert!(value == frozen, "the bytes of format 1 have changed");
    assert_eq!(
        Contents::unwrap(&Plain, Path::new("x"), &frozen.into()).unwrap(),
        contents
    );
}
