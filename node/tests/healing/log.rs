//! A log that is damaged or gone: never served, never forgotten in silence, taken back from the others.

use std::path::PathBuf;

use crate::processes::{Processes, find, flip, segment};

/// Damages the body of the entry that holds a value.
fn damage_body(all: &Processes, at: usize, value: &str) {
    let path = segment(&all.members[at].data);
    let place = find(&path, value.as_bytes()).expect("the value is in the log");
    flip(&path, place + 5);
}

/// Damages the header of that entry: nobody can tell any more whether it was a vote.
fn damage_header(all: &Processes, at: usize, value: &str) {
    let path = segment(&all.members[at].data);
    let place = find(&path, value.as_bytes()).unwrap();
    let begins = (0..place)
        .rev()
        .find(|at| {
            use std::os::unix::fs::FileExt;
            let mut mark = [0; 4];
            let file = std::fs::File::open(&path).unwrap();
            file.read_exact_at(&mut mark, *at).unwrap();
            &mark == b"MREC"
        })
        .unwrap();
    flip(&path, begins + 30);
}

fn recovering(all: &Processes, at: usize) -> PathBuf {
    all.members[at].data.join("recovering")
}

/// Without one of the others, nothing is committed unless this member takes part.
async fn takes_part(all: &mut Processes, at: usize) {
    all.converge().await;
    assert!(!recovering(all, at).exists());
    let another = (at + 1) % 3;
    all.kill(another);
    all.put(at, "together", "1").await;
    all.start_member(another);
    all.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_entry_is_put_back_as_another_member_has_it() {
    let mut all = Processes::start(3);
    let damaged = all.follower().await;
    all.fill(damaged, "early", 20).await;
    all.converge().await;
    all.kill(damaged);
    damage_body(&all, damaged, "value of early007");
    let leader = all.leader().await;
    all.fill(leader, "late", 20).await;
    all.start_member(damaged);
    let said = all.said(damaged);
    assert!(said.contains("is damaged at byte"), "{said}");
    assert!(said.contains("put back from other members"), "{said}");
    assert!(!all.members[damaged].data.join("wal.damaged-1").exists());
    all.check(damaged, "early", 20).await;
    all.check(damaged, "late", 20).await;
    takes_part(&mut all, damaged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_members_are_mostly_damaged_heals_from_the_one_that_is_whole() {
    let mut all = Processes::start(3);
    all.fill(0, "early", 20).await;
    all.converge().await;
    for at in 0..3 {
        all.kill(at);
    }
    damage_body(&all, 1, "value of early007");
    damage_body(&all, 2, "value of early007");
    damage_body(&all, 2, "value of early013");
    all.start_all();
    for at in 0..3 {
        all.check(at, "early", 20).await;
    }
    takes_part(&mut all, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_may_have_lost_its_vote_waits_until_every_other_voter_was_asked() {
    let mut all = Processes::start(3);
    let damaged = all.follower().await;
    all.fill(damaged, "early", 10).await;
    all.converge().await;
    let leader = all.leader().await;
    let silent = (0..3).find(|at| ![damaged, leader].contains(at)).unwrap();
    all.kill(damaged);
    damage_header(&all, damaged, "value of early007");
    all.kill(silent);
    all.spawn(damaged);
    let waiting = "waiting for every other voter";
    let deadline = std::time::Instant::now() + crate::processes::PATIENCE;
    while !all.said(damaged).contains(waiting) {
        assert!(
            std::time::Instant::now() < deadline,
            "{}",
            all.said(damaged)
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let note = std::fs::read_to_string(recovering(&all, damaged)).unwrap();
    assert!(note.starts_with("lost "), "{note:?}");
    // That is remembered, whatever happens in between.
    all.kill(damaged);
    all.spawn(damaged);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(!all.is_ready(damaged));
    all.spawn(silent);
    all.ready(damaged);
    all.ready(silent);
    all.check(damaged, "early", 10).await;
    takes_part(&mut all, damaged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_log_is_gone_does_not_pretend_to_be_new() {
    let mut all = Processes::start(3);
    let damaged = all.leader().await;
    all.fill(damaged, "early", 10).await;
    all.converge().await;
    all.kill(damaged);
    for part in ["wal", "history", "snapshots"] {
        std::fs::remove_dir_all(all.members[damaged].data.join(part)).unwrap();
    }
    all.start_member(damaged);
    let said = all.said(damaged);
    assert!(said.contains("the log is gone"), "{said}");
    all.check(damaged, "early", 10).await;
    takes_part(&mut all, damaged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_log_alone_is_gone_goes_on_behind_the_state_it_has() {
    let mut all = Processes::start(3);
    let damaged = all.follower().await;
    all.fill(damaged, "early", 10).await;
    let file = all.dir.path().join("backup").display().to_string();
    all.meridian(damaged, &["snapshot", "save", &file]);
    // The state is ahead of the snapshot.
    all.fill(damaged, "between", 10).await;
    all.stop(damaged);
    std::fs::remove_dir_all(all.members[damaged].data.join("wal")).unwrap();
    let leader = all.leader().await;
    all.fill(leader, "late", 10).await;
    all.start_member(damaged);
    for prefix in ["early", "between", "late"] {
        all.check(damaged, prefix, 10).await;
    }
    takes_part(&mut all, damaged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_member_with_a_damaged_log_stops_and_says_what_to_do() {
    let mut all = Processes::start(1);
    all.fill(0, "early", 10).await;
    let file = all.dir.path().join("backup");
    all.meridian(0, &["snapshot", "save", &file.display().to_string()]);
    all.kill(0);
    damage_body(&all, 0, "value of early007");
    let segment = segment(&all.members[0].data);
    let before = std::fs::read(&segment).unwrap();
    all.spawn(0);
    assert_eq!(all.ended(0).code(), Some(3));
    let said = all.said(0);
    for word in [
        "is damaged at byte",
        "meridian snapshot restore",
        ".snapshot",
    ] {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
    assert!(
        before == std::fs::read(&segment).unwrap(),
        "something was changed"
    );
    assert!(!recovering(&all, 0).exists());
}
