#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

//! Files of etcd's: what goes out comes in, what a real etcd wrote is read, and no damage does worse than an error.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use meridian_domain::key::Space;
use meridian_domain::kv::KeyValue;
use meridian_domain::view::View as _;
use proptest::prelude::*;

use super::*;
use crate::disk::FaultyDisk;
use crate::export;
use crate::history::History;
use crate::history::tests::frozen;
use crate::history::tests::naive::{Naive, small};
use crate::machine::{self, Machine};
use crate::row::At;

const LEASES: [(LeaseId, i64, i64); 3] = [(7, 60, 0), (1 << 40, 9_000, 12), (-3, 5, 0)];
const PAGE: usize = 4096;

/// A key, and what becomes of it: a value and a lease, or nothing.
type Write = (u8, Option<(Vec<u8>, usize)>);

/// A tenant to which these transactions were done, and which was compacted then.
fn tenant(transactions: &[Vec<Write>], compacted: Revision) -> Naive {
    let mut all: BTreeMap<At, Version> = BTreeMap::new();
    let mut alive: BTreeMap<u8, At> = BTreeMap::new();
    let mut revision = GENESIS;
    for writes in transactions {
        let mut at = At {
            revision: revision + 1,
            sub: 0,
        };
        let mut touched = BTreeSet::new();
        for (name, write) in writes {
            let before = alive.get(name).copied();
            if !touched.insert(*name) || (before.is_none() && write.is_none()) {
                continue;
            }
            let replaced = before.map(|at| Arc::clone(all[&at].after.as_ref().unwrap()));
            let key = Bytes::from(format!("key/{name}"));
            let after = write.as_ref().map(|(value, lease)| {
                Arc::new(KeyValue {
                    key: key.clone(),
                    create_revision: replaced
                        .as_ref()
                        .map_or(at.revision, |kv| kv.create_revision),
                    mod_revision: at.revision,
                    version: replaced.as_ref().map_or(1, |kv| kv.version + 1),
                    value: value.clone().into(),
                    lease: LEASES.get(*lease).map_or(0, |lease| lease.0),
                })
            });
            if after.is_some() {
                alive.insert(*name, at);
            } else {
                alive.remove(name);
            }
            let version = Version {
                at,
                space: Space::RAW,
                key,
                after,
                prev: before,
                stamp_ms: 0,
                actor: "".into(),
            };
            all.insert(at, version);
            at.sub += 1;
            revision = at.revision;
        }
    }
    let compacted = compacted.min(revision);
    // What was replaced, or deleted, at or before that is forgotten.
    let gone: BTreeSet<At> = all
        .values()
        .flat_map(|row| {
            let own = (row.after.is_none() && row.at.revision < compacted).then_some(row.at);
            [row.prev.filter(|_| row.at.revision <= compacted), own]
        })
        .flatten()
        .collect();
    all.retain(|at, _| !gone.contains(at));
    for row in all.values_mut() {
        row.prev = row.prev.filter(|prev| !gone.contains(prev));
    }
    let mut leases = LEASES.to_vec();
    leases.sort_by_key(|(id, _, _)| *id as u64);
    let outline = Outline {
        revision,
        compacted,
        leases,
    };
    Naive {
        applied: LogId { term: 3, index: 9 },
        versions: all
            .into_iter()
            .map(|(at, row)| ((TenantId::DEFAULT, at), row))
            .collect(),
        facts: outline.as_default_tenant().unwrap().into_iter().collect(),
    }
}

/// Where a file goes.
fn place() -> (FaultyDisk, PathBuf) {
    let disk = FaultyDisk::new();
    disk.create_dir_all(Path::new("/files")).unwrap();
    (disk, PathBuf::from("/files/one"))
}

/// The pages of a tenant's file.
fn exported(tenant: &Naive) -> Vec<u8> {
    let (disk, path) = place();
    let mut rows = tenant.clone();
    let outgoing = export::etcd(&disk, &path, &mut rows, TenantId::DEFAULT).unwrap();
    assert!(disk.open(&path).unwrap_err().is_not_found());
    let size = usize::try_from(outgoing.size()).unwrap();
    outgoing.read(0, size).unwrap().to_vec()
}

/// As etcdctl saves them.
fn saved(pages: &[u8]) -> Vec<u8> {
    [pages, Sha256::digest(pages).as_slice()].concat()
}

/// Reads all there is in a file.
fn read(bytes: &[u8]) -> Result<(Naive, Inspection), Fault> {
    let (disk, path) = place();
    disk.create(&path)?.write_at(bytes, 0)?;
    let mut rows = open(&disk, &path)?;
    let inspection = rows.inspection().clone();
    let mut naive = Naive::default();
    naive.facts.extend(rows.facts()?);
    rows.versions(&mut |tenant, row| {
        naive.versions.insert((tenant, row.at), row);
        Ok(())
    })?;
    Ok((naive, inspection))
}

/// A tenant of a few pages.
fn few() -> Naive {
    let put = |key, value: &str, lease| (key, Some((value.as_bytes().to_vec(), lease)));
    tenant(
        &[
            vec![put(1, "a", 9)],
            vec![put(1, "b", 9), put(2, "leased", 1)],
            vec![put(3, "gone", 9)],
            vec![(3, None), put(4, "d", 0)],
            vec![put(1, "c", 9)],
        ],
        3,
    )
}

/// A tenant with branches.
fn many() -> Naive {
    let write = |n: u32| (n as u8, Some((n.to_le_bytes().repeat(40), 9)));
    let writes: Vec<_> = (0..600).map(|n| vec![write(n)]).collect();
    tenant(&writes, 0)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn write() -> impl Strategy<Value = Write> {
    let value = prop_oneof![
        9 => proptest::collection::vec(any::<u8>(), 0..60),
        1 => proptest::collection::vec(any::<u8>(), 4000..12_000),
    ];
    (
        0..20_u8,
        proptest::option::weighted(0.75, (value, 0..6_usize)),
    )
}

fn transactions() -> impl Strategy<Value = Vec<Vec<Write>>> {
    proptest::collection::vec(proptest::collection::vec(write(), 1..5), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_is_exported_is_imported(transactions in transactions(), compacted in 0..70_i64) {
        let tenant = tenant(&transactions, compacted);
        let pages = exported(&tenant);
        let file = saved(&pages);
        let (mut found, inspection) = read(&file).unwrap();
        prop_assert_eq!(&found.versions, &tenant.versions);
        prop_assert_eq!(&found.facts, &tenant.facts);
        prop_assert_eq!(inspection.sum, Sum::Right(Sha256::digest(&pages).into()));
        prop_assert_eq!(inspection.bytes, file.len() as u64);
        prop_assert_eq!(inspection.versions, tenant.versions.len() as u64);
        prop_assert_eq!(inspection.leases, 3);

        // And a machine takes it for a state.
        found.applied = LogId { term: 1, index: 1 };
        let history = History::in_memory(small()).unwrap();
        history.reset(&mut found).unwrap();
        let machine = Machine::load(&mut found, history, machine::Settings::default()).unwrap();
        let view = machine.store().tenant_named("default").unwrap().view();
        prop_assert_eq!(view.revision(), inspection.revision);
        prop_assert_eq!(view.compacted(), inspection.compacted);
    }

    #[test]
    fn numbers_that_are_anything_do_no_worse_than_an_error(
        of in 0..3_usize,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..6_usize, any::<u64>()), 1..6),
    ) {
        let file = [exported(&few()), exported(&many()), etcds()];
        let mut file = file[of].clone();
        for (place, kind, random) in edits {
            // Where numbers are: heads of pages and elements.
            let at = place.index(file.len() / 16 - 1);
            let page = at - at % (PAGE / 16);
            let at = if random % 2 == 0 { at } else { page + at % 8 };
            let number = [0, 1, random % 40, u64::MAX, random, random << 48][kind];
            file[at * 16 + 8 * (kind % 2)..][..8].copy_from_slice(&number.to_le_bytes());
        }
        if let Ok((found, inspection)) = read(&file) {
            prop_assert_eq!(found.versions.len() as u64, inspection.versions);
        }
    }
}

#[test]
fn a_byte_that_changed_does_no_worse_than_an_error() {
    for pages in [exported(&few()), etcds()] {
        let mut file = pages.clone();
        let mut errors = 0;
        // Behind what is on a page nothing is read; some of that, too.
        let meant = |at: &usize| {
            let end = (at / PAGE + 1) * PAGE;
            at.is_multiple_of(89)
                || pages[at.saturating_sub(16)..end]
                    .iter()
                    .any(|byte| *byte != 0)
        };
        for at in (0..pages.len()).filter(meant) {
            file[at] ^= 1 << (at % 8);
            match read(&file) {
                Ok((found, inspection)) => {
                    assert_eq!(found.versions.len() as u64, inspection.versions);
                }
                Err(Fault::Damaged { .. }) => errors += 1,
                Err(other) => panic!("{other}"),
            }
            file[at] = pages[at];
        }
        assert!(errors > 100, "only {errors} changes were seen");
    }
}

#[test]
fn a_byte_that_changed_is_seen_by_the_sum() {
    let file = saved(&exported(&few()));
    for at in (0..file.len())
        .step_by(97)
        .chain(file.len() - 32..file.len())
    {
        let mut other = file.clone();
        other[at] ^= 0x10;
        match read(&other) {
            Ok((_, inspection)) => assert_eq!(inspection.sum, Sum::Wrong, "byte {at}"),
            Err(Fault::Damaged { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_file_that_is_cut_short_is_refused() {
    for file in [exported(&few()), exported(&many()), etcds()] {
        assert!(read(&file).is_ok());
        for size in (0..file.len()).step_by(512) {
            assert!(matches!(read(&file[..size]), Err(Fault::Damaged { .. })));
        }
    }
}

#[test]
fn pages_that_lead_back_to_themselves_are_refused() {
    let file = exported(&many());
    let branches = (0..file.len() / PAGE).filter(|page| file[page * PAGE + 8] == 1);
    let branches: Vec<usize> = branches.collect();
    assert!(!branches.is_empty());
    for page in branches {
        let children = usize::from(file[page * PAGE + 10]);
        for child in 0..children {
            let at = page * PAGE + 16 + child * 16 + 8;
            for to in [
                page as u64,
                word(&file, page * PAGE + 16 + 8) + u64::from(child == 0),
            ] {
                let mut other = file.clone();
                other[at..at + 8].copy_from_slice(&to.to_le_bytes());
                let refused = read(&other).unwrap_err();
                assert!(matches!(refused, Fault::Damaged { .. }), "{refused}");
            }
        }
    }
}

#[test]
fn a_key_on_a_lease_that_is_not_there_is_refused() {
    let mut tenant = few();
    let outline = Outline {
        revision: 6,
        ..Outline::default()
    };
    tenant.facts = outline.as_default_tenant().unwrap().into_iter().collect();
    let refused = read(&exported(&tenant)).unwrap_err().to_string();
    assert!(refused.contains("hangs on lease"), "{refused}");
}

#[test]
fn an_empty_tenant_stands_at_the_first_revision() {
    let (found, inspection) = read(&saved(&exported(&tenant(&[], 0)))).unwrap();
    assert!(found.versions.is_empty());
    assert_eq!((inspection.revision, inspection.keys), (GENESIS, 0));
}

#[test]
fn only_files_of_etcds_are_taken_for_some() {
    let is = |bytes: &[u8]| {
        let (disk, path) = place();
        disk.create(&path).unwrap().write_at(bytes, 0).unwrap();
        is_etcd(&disk, &path).unwrap()
    };
    let mut file = etcds();
    assert!(is(&file));
    file[16] ^= 1;
    assert!(is(&file), "by its second page");
    file[..8].copy_from_slice(b"MERIDSNP");
    assert!(
        !is(&file),
        "a snapshot of ours in which somebody wrote one of etcd's"
    );
    assert!(!is(b""));
    assert!(!is(&[0; 9000]));
}

/// The pages of a file etcd 3.4.23 wrote: its buckets lie in the leaf of the root, but for two.
fn etcds() -> Vec<u8> {
    let mut file = frozen::bytes("etcd-3.4.23.db", &[]);
    file.truncate(file.len() - 32);
    file
}

#[test]
fn a_file_that_etcd_wrote_is_read() {
    let (found, inspection) = read(&saved(&etcds())).unwrap();
    let lease = 0x1a48_a20a_cb55_df05;
    let wanted = Inspection {
        bytes: 20_512,
        sum: inspection.sum,
        revision: 11,
        compacted: 4,
        keys: 4,
        versions: 10,
        leases: 1,
        auth: true,
    };
    assert_eq!(inspection, wanted);
    assert_eq!(frozen::bytes("etcd-3.4.23.db", &[]), saved(&etcds()));
    let put = |revision, sub, key: &str, value: &str, created, version, prev: Option<i64>| {
        let at = At { revision, sub };
        let key = Bytes::copy_from_slice(key.as_bytes());
        let after = (version > 0).then(|| {
            Arc::new(KeyValue {
                key: key.clone(),
                create_revision: created,
                mod_revision: revision,
                version,
                value: Bytes::copy_from_slice(value.as_bytes()),
                lease: if key == "b" { lease } else { 0 },
            })
        });
        let row = Version {
            at,
            space: Space::RAW,
            key,
            after,
            prev: prev.map(|revision| At { revision, sub: 0 }),
            stamp_ms: 0,
            actor: "".into(),
        };
        ((TenantId::DEFAULT, at), row)
    };
    let wanted = [
        put(3, 0, "a", "2", 2, 2, None),
        put(4, 0, "b", "leased", 4, 1, None),
        put(5, 0, "c", "gone", 5, 1, None),
        put(6, 0, "c", "", 0, 0, Some(5)),
        put(7, 0, "e", "1", 7, 1, None),
        put(8, 0, "a", "3", 2, 3, Some(3)),
        put(9, 0, "e", "2", 7, 2, Some(7)),
        put(9, 1, "f", "1", 9, 1, None),
        put(10, 0, "g", "1", 10, 1, None),
        put(11, 0, "g", "", 0, 0, Some(10)),
    ];
    assert_eq!(found.versions, wanted.into());
    let outline = Outline {
        revision: 11,
        compacted: 4,
        leases: vec![(lease, 3600, 0)],
    };
    let facts = outline.as_default_tenant().unwrap();
    assert_eq!(found.facts, facts.into_iter().collect());
}

/// What is handed to etcd's clients, byte by byte: etcd 3.4.23 was seen to restore exactly this.
#[test]
fn a_file_for_etcd_is_written_as_it_was_released() {
    let file = saved(&exported(&few()));
    let released = frozen::bytes("export-etcd-1.db", &file);
    assert!(file == released, "the bytes handed to etcd have changed");
    assert_eq!(read(&released).unwrap().0.versions, few().versions);
}
