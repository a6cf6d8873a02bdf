//! Takes a lock, writes under its protection, and gives it up.
//!
//! Start a node with `meridian dev`, then run `cargo run -p meridian-client --example lock` in two
//! terminals: the second waits for the first.

use std::time::Duration;

use meridian_client::{Client, Options, Put, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let endpoints = std::env::args()
        .nth(1)
        .unwrap_or("http://127.0.0.1:2379".into());
    let client = Client::connect(endpoints.split(','), Options::default()).await?;

    println!("waiting for the lock");
    let lock = client
        .lock("example/lock")
        .ttl(Duration::from_secs(5))
        .acquire()
        .await?;
    println!("got it; the fencing token is {}", lock.token());

    // The work is given up the moment the lock is lost, and the write is refused if it was.
    let work = tokio::time::sleep(Duration::from_secs(2));
    tokio::select! {
        () = work => {
            let guarded = Put::new("example/last-holder", lock.token().to_string());
            let done = client.txn().when(lock.held()).then(guarded).await?;
            println!("wrote under the lock: {}", done.succeeded);
        }
        why = lock.lost() => println!("lost the lock: {why}"),
    }
    lock.unlock().await
}
