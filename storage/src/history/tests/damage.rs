//! On disk, with sled: restarts, kills, and damage at rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use meridian_domain::name::TenantId;

use super::naive::{Maker, Naive, small};
use crate::fault::Fault;
use crate::history::History;
use crate::history::place::REBUILDS;
use crate::row::Rows;
use crate::seal::Plain;

fn open(dir: &Path) -> (History, Option<Box<dyn Rows>>) {
    History::open(dir, small(), Arc::new(Plain)).unwrap()
}

/// A history with some rows, flushed and closed.
fn filled(dir: &Path, seed: u64) -> Naive {
    filled_by_steps(dir, seed).pop().unwrap()
}

/// The same, with what was there after each batch.
fn filled_by_steps(dir: &Path, seed: u64) -> Vec<Naive> {
    let mut states = Vec::new();
    let (history, rows) = open(dir);
    assert!(rows.is_none());
    let mut maker = Maker::new(seed);
    let mut naive = Naive::default();
    for round in 0..30 {
        let tenant = TenantId(1 + round % 3);
        let batch = if round % 7 == 6 {
            maker.compact(tenant)
        } else {
            maker.batch(tenant, 15)
        };
        naive.absorb(&batch);
        states.push(naive.clone());
        history.submit(batch);
        if round % 5 == 0 {
            history.flush().unwrap();
        }
    }
    assert_eq!(history.flush().unwrap(), naive.applied);
    states
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn what_was_flushed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("versions");
    let naive = filled(&dir, 1);
    let (history, rows) = open(&dir);
    assert_eq!(Naive::of(rows.unwrap().as_mut()), naive);
    naive.check(&history);
}

#[test]
fn a_kill_at_any_time_leaves_the_rows_of_one_applied_position() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("live");
    let (history, _) = open(&live);
    let mut maker = Maker::new(2);
    let mut naive = Naive::default();
    let mut states = vec![naive.clone()];
    for round in 0..40 {
        let tenant = TenantId(1 + round % 2);
        let batch = if round % 9 == 8 {
            maker.compact(tenant)
        } else {
            maker.batch(tenant, 10)
        };
        naive.absorb(&batch);
        states.push(naive.clone());
        history.submit(batch);
        if round % 8 == 3 {
            // The files as they are this moment: what a killed process leaves to the next.
            let killed = dir.path().join(format!("killed-{round}"));
            copy(&live, &killed);
            let (_history, rows) = open(&killed);
            let Some(mut rows) = rows else { continue };
            // A copy is not a snapshot: files may be torn against each other, as after a power loss. Then
            // it must be found out.
            let mut back = Naive {
                applied: rows.applied(),
                ..Naive::default()
            };
            back.facts.extend(rows.facts().unwrap());
            let read = rows.versions(&mut |tenant, row| {
                back.versions.insert((tenant, row.at), row);
                Ok(())
            });
            match read {
                Ok(()) => assert!(states.contains(&back), "at {}", back.applied),
                Err(fault) => assert!(matches!(fault, Fault::Damaged { .. }), "{fault}"),
            }
        }
    }
    history.flush().unwrap();
    let killed = dir.path().join("killed-flushed");
    copy(&live, &killed);
    let (_history, rows) = open(&killed);
    assert_eq!(
        Naive::of(rows.unwrap().as_mut()),
        naive,
        "what was flushed is there"
    );
}

#[test]
fn a_store_that_is_gone_is_begun_anew() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 5] = [
        ("the directory", |dir| fs::remove_dir_all(dir).unwrap()),
        ("the database", |dir| {
            fs::remove_dir_all(dir.join("a")).unwrap();
        }),
        ("the pointer", |dir| {
            fs::remove_file(dir.join("current")).unwrap();
        }),
        ("sled's file", |dir| {
            fs::remove_file(dir.join("a/db")).unwrap();
        }),
        ("sled's settings", |dir| {
            fs::write(dir.join("a/conf"), b"segment_size: 17\n????").unwrap();
        }),
    ];
    for (what, harm) in harms {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("versions");
        filled(&dir, 3);
        harm(&dir);
        let (history, rows) = open(&dir);
        assert!(rows.is_none(), "{what}");
        let mut maker = Maker::new(4);
        history.submit(maker.batch(TenantId(1), 5));
        history.flush().unwrap();
    }
}

#[test]
fn damaged_stores_are_set_aside_and_two_are_kept() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("versions");
    let before = REBUILDS.get();
    for round in 0..4 {
        fs::remove_dir_all(&dir).ok();
        filled(&dir, round);
        fs::write(dir.join("current"), "?").unwrap();
        assert!(open(&dir).1.is_none());
    }
    assert!(REBUILDS.get() >= before + 4);
    let mut names: Vec<_> = fs::read_dir(parent.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["versions", "versions.damaged-1", "versions.damaged-2"]
    );
}

#[test]
fn a_store_in_use_is_refused_and_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("versions");
    let (history, _) = open(&dir);
    let second = History::open(&dir, small(), Arc::new(Plain));
    assert!(matches!(second, Err(Fault::Directory { .. })));
    history.submit(Maker::new(1).batch(TenantId(1), 5));
    history.flush().unwrap();
}

/// Flips bytes all over the files. Whatever sled makes of it: no panic, and never wrong rows.
#[test]
fn flipped_bytes_at_rest_are_found_or_harmless() {
    let parent = tempfile::tempdir().unwrap();
    let good = parent.path().join("good");
    let states = filled_by_steps(&good, 5);
    let naive = states.last().unwrap();
    let (mut found, mut harmless) = (0, 0);
    let mut random = Maker::new(9);
    for (n, file) in files(&good).iter().cycle().take(120).enumerate() {
        let dir = parent.path().join(format!("bad-{n}"));
        copy(&good, &dir);
        let file = dir.join(file.strip_prefix(&good).unwrap());
        let mut bytes = fs::read(&file).unwrap();
        if bytes.is_empty() {
            continue;
        }
        // Most of sled's file is zeros beyond its end: aim where something is written.
        let end = bytes.iter().rposition(|b| *b != 0).unwrap_or(0) as u64 + 1;
        for _ in 0..=n % 3 {
            let at = random.below(end) as usize;
            bytes[at] ^= 1 << random.below(8);
        }
        fs::write(&file, &bytes).unwrap();
        let (history, rows) = open(&dir);
        let Some(mut rows) = rows else {
            found += 1;
            continue;
        };
        let mut back = Naive {
            applied: rows.applied(),
            ..Naive::default()
        };
        back.facts.extend(rows.facts().unwrap());
        let read = rows.versions(&mut |tenant, row| {
            back.versions.insert((tenant, row.at), row);
            Ok(())
        });
        drop(rows);
        if read.is_ok() {
            assert!(states.contains(&back), "{}", file.display());
            harmless += 1;
        } else {
            found += 1;
            // The caller heals from another source.
            history.reset(&mut naive.clone()).unwrap();
            naive.check(&history);
            history.submit(crate::row::Batch::default());
        }
        drop(history);
        fs::remove_dir_all(&dir).unwrap();
    }
    assert!(found > 10, "found {found}, harmless {harmless}");
}

#[test]
fn a_store_found_damaged_while_loading_is_replaced_and_set_aside() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("versions");
    let naive = filled(&dir, 6);
    // A value changed behind the history's back: sled itself finds nothing wrong.
    let db = sled::Config::new().path(dir.join("a")).open().unwrap();
    let (key, value) = db.scan_prefix(b"b").next().unwrap().unwrap();
    let mut bytes = value.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    db.insert(key, bytes).unwrap();
    drop(db);
    for missing in [false, true] {
        if missing {
            // And a value that is gone without a trace.
            let dir = parent.path().join("versions/b");
            let db = sled::Config::new().path(dir).open().unwrap();
            let (key, _) = db.scan_prefix(b"b").next_back().unwrap().unwrap();
            db.remove(key).unwrap();
            drop(db);
        }
        let (history, rows) = open(&dir);
        let read = rows.unwrap().versions(&mut |_, _| Ok(()));
        assert!(matches!(read, Err(Fault::Damaged { .. })), "{read:?}");
        history.reset(&mut naive.clone()).unwrap();
        naive.check(&history);
        drop(history);
        assert!(parent.path().join("versions.damaged-1").is_dir());
        let (history, rows) = open(&dir);
        assert_eq!(Naive::of(rows.unwrap().as_mut()), naive);
        drop(history);
    }
}

#[test]
fn damage_at_run_time_is_a_fault_and_never_a_wrong_answer() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("versions");
    let naive = filled(&dir, 8);
    let (history, rows) = open(&dir);
    drop(rows);
    let first = *naive.versions.keys().next().unwrap();
    assert!(history.version(first.0, first.1).unwrap().is_some());
    history.shared().cache.clear();
    // Through the history's own handle, as if sled had returned something else.
    let backend = Arc::clone(&history.shared().state.lock().backend);
    let mut blocks = Vec::new();
    backend
        .scan(b"b", b"", &mut |key, value| {
            blocks.push((key.to_vec(), value));
            Ok(crate::backend::Step::Next)
        })
        .unwrap();
    let (key, value) = blocks[0].clone();
    let mut bytes = value.to_vec();
    bytes[20] ^= 1;
    backend
        .write(vec![(key.into(), Some(bytes.into()))])
        .unwrap();
    let read = history.version(first.0, first.1);
    assert!(matches!(read, Err(Fault::Damaged { .. })), "{read:?}");
}
