//! Campaigns in an election while following who leads.
//!
//! Start a node with `meridian dev`, then run `cargo run -p meridian-client --example election -- NAME` in
//! several terminals, and stop the leader.

use std::time::Duration;

use meridian_client::{Client, Options, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or("anonymous".into());
    let endpoints = arguments.next().unwrap_or("http://127.0.0.1:2379".into());
    let client = Client::connect(endpoints.split(','), Options::default()).await?;
    let election = client
        .election("example/election")
        .ttl(Duration::from_secs(5));

    let mut observe = election.observe();
    tokio::spawn(async move {
        while let Ok(leader) = observe.next().await {
            println!(
                "{:?} leads since revision {}",
                leader.value, leader.create_revision
            );
        }
    });

    let leadership = election.campaign(&name).await?;
    println!(
        "{name} is elected; the fencing token is {}",
        leadership.token()
    );
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs(10)) => leadership.resign().await,
        why = leadership.lost() => Err(why),
    }
}
