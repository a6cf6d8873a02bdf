//! The version store and snapshots, deleted and damaged: what the log or another member has comes back.

use std::path::{Path, PathBuf};

use crate::processes::{Processes, flip};

/// All files below a directory that hold something, the largest first.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.metadata().unwrap().len() > 0 {
                found.push(path);
            }
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().len()));
    found
}

/// The complete snapshots in a data directory, the newest last.
fn snapshots(data: &Path) -> Vec<PathBuf> {
    let mut found = files(&data.join("snapshots"));
    found.retain(|path| path.extension().is_some_and(|of| of == "snapshot"));
    found.sort();
    found
}

/// Flips bits all over a file.
fn damage(path: &Path) {
    let size = path.metadata().unwrap().len();
    for at in (0..size.min(1 << 20)).step_by(61) {
        flip(path, at);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_store_that_is_deleted_or_damaged_is_rebuilt() {
    let mut all = Processes::start(1);
    let old = all.put(0, "k", "old").await;
    all.put(0, "k", "new").await;
    all.fill(0, "early", 30).await;
    let history = all.members[0].data.join("history");
    all.stop(0);
    std::fs::remove_dir_all(&history).unwrap();
    all.start_member(0);
    assert_eq!(all.get(0, "k", old).await.unwrap().unwrap(), "old");
    // From now on there is a snapshot to begin with.
    let file = all.dir.path().join("backup").display().to_string();
    all.meridian(0, &["snapshot", "save", &file]);
    all.fill(0, "late", 30).await;
    for which in 0..3 {
        all.stop(0);
        let files = files(&history);
        match which {
            0 => damage(&files[0]),
            1 => std::fs::remove_file(&files[0]).unwrap(),
            _ => {
                for path in &files {
                    damage(path);
                }
            }
        }
        all.start_member(0);
        assert_eq!(all.get(0, "k", old).await.unwrap().unwrap(), "old");
        all.check(0, "early", 30).await;
        all.check(0, "late", 30).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_does_not_stop_the_start() {
    let mut all = Processes::start(1);
    let file = all.dir.path().join("backup").display().to_string();
    all.fill(0, "early", 10).await;
    all.meridian(0, &["snapshot", "save", &file]);
    all.fill(0, "between", 10).await;
    all.meridian(0, &["snapshot", "save", &file]);
    all.fill(0, "late", 10).await;
    let data = all.members[0].data.clone();
    // The newest alone; then all of them, and the version store with them.
    for all_of_them in [false, true] {
        all.kill(0);
        std::fs::remove_dir_all(data.join("history")).unwrap();
        let mut found = snapshots(&data);
        assert!(!found.is_empty());
        if all_of_them {
            for path in &found {
                flip(path, 100);
            }
        } else {
            flip(&found.pop().unwrap(), 100);
        }
        all.start_member(0);
        for prefix in ["early", "between", "late"] {
            all.check(0, prefix, 10).await;
        }
        let said = all.said(0);
        assert!(
            said.contains("a snapshot is damaged and set aside"),
            "{said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_all_its_state_takes_it_back_from_the_others() {
    let mut all = Processes::start(3);
    all.fill(0, "early", 10).await;
    let file = all.dir.path().join("backup").display().to_string();
    all.meridian(0, &["snapshot", "save", &file]);
    for at in 0..3 {
        all.stop(at);
    }
    // The log of a restored cluster begins behind the snapshot: it can not rebuild the state alone.
    all.found_anew("anew");
    for at in 0..3 {
        let mut words = vec!["snapshot".into(), "restore".into(), file.clone()];
        words.extend(all.identity(at));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        all.meridian(at, &words);
    }
    all.start_all();
    all.fill(0, "late", 10).await;
    all.converge().await;
    let lost = all.leader().await;
    all.kill(lost);
    for part in ["history", "snapshots"] {
        std::fs::remove_dir_all(all.members[lost].data.join(part)).unwrap();
    }
    // Nor can the others give away what lies in their snapshots: they have to make a new one.
    for at in (0..3).filter(|at| *at != lost) {
        for path in snapshots(&all.members[at].data) {
            flip(&path, 100);
        }
    }
    let leader = all.leader().await;
    all.start_member(lost);
    let said = all.said(lost);
    assert!(
        said.contains("neither a snapshot nor the version store"),
        "{said}"
    );
    let said = all.said(leader);
    assert!(said.contains("damaged and set aside"), "{said}");
    all.check(lost, "early", 10).await;
    all.check(lost, "late", 10).await;
    all.converge().await;
    let another = (lost + 1) % 3;
    all.kill(another);
    all.put(lost, "together", "1").await;
}
