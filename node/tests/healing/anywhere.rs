//! Damage at any place of any file of one member, again and again: nothing is lost, nothing wrong is served.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::processes::{Processes, flip, segment};

/// How often a member is damaged.
const ROUNDS: usize = 6;

/// Bytes of a file up to the last one that is not zero, of the first MiB.
fn used(path: &Path) -> u64 {
    let file = std::fs::File::open(path).unwrap();
    let mut bytes = vec![0; 1 << 20];
    let read = file.read_at(&mut bytes, 0).unwrap();
    let last = bytes[..read].iter().rposition(|byte| *byte != 0);
    last.map_or(0, |last| last as u64 + 1)
}

fn file_in(dir: &Path, random: &mut StdRng) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .ok()?
        .map(|file| file.unwrap().path())
        .filter(|path| path.is_file() && used(path) > 0)
        .collect();
    found.sort();
    (!found.is_empty()).then(|| found.swap_remove(random.random_range(0..found.len())))
}

/// Flips a bit somewhere, or removes a file. What was done, for the report.
fn harm(data: &Path, random: &mut StdRng) -> String {
    let path = match random.random_range(0..8) {
        0 => Some(data.join("wal/manifest")),
        1 => file_in(&data.join("history"), random),
        2 => file_in(&data.join("history/a"), random),
        3 => file_in(&data.join("snapshots"), random),
        _ => None,
    };
    let path = path.unwrap_or_else(|| segment(data));
    if random.random_range(0..8) == 0 {
        std::fs::remove_file(&path).unwrap();
        return format!("{} removed", path.display());
    }
    let at = random.random_range(0..used(&path));
    flip(&path, at);
    format!("{} at {at}", path.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_heals_wherever_it_is_damaged() {
    let mut random = StdRng::seed_from_u64(3);
    let mut all = Processes::start(3);
    let file = all.dir.path().join("backup").display().to_string();
    for round in 0..ROUNDS {
        let through = random.random_range(0..3);
        all.fill(through, &format!("r{round}-"), 5).await;
        if round == 2 {
            all.meridian(through, &["snapshot", "save", &file]);
        }
        all.converge().await;
        let at = random.random_range(0..3);
        all.kill(at);
        let data = all.members[at].data.clone();
        println!("round {round}: m{at}, {}", harm(&data, &mut random));
        all.start_member(at);
        for before in 0..=round {
            all.check(at, &format!("r{before}-"), 5).await;
        }
        all.converge().await;
        assert!(!data.join("recovering").exists());
    }
}
