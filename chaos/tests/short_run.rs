//! A short run of real processes under faults, as part of the tests. The binary under test is the one next to
//! this test's own; it is built with the workspace.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::PathBuf;
use std::time::Duration;

use chaos::run::{Plan, Verdict};
use chaos::world::Product;

/// `target/<profile>/meridian`, beside the folder this test lies in.
fn meridian() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("meridian")
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_while_members_are_killed_and_stopped() {
    let program = meridian();
    assert!(
        program.is_file(),
        "{} is missing: cargo build -p meridian-node",
        program.display()
    );
    let plan = Plan {
        seed: 7,
        duration: Duration::from_secs(25),
        members: 3,
        clients: 6,
        product: Product::Meridian,
        program,
        keep: None,
    };
    let report = chaos::run::run(&plan, |_| {}).await.unwrap();
    assert_eq!(report.verdict, Verdict::Passed, "{report}");
}
