//! Writes a few keys while watching them, then reads them back.
//!
//! Start a node with `meridian dev`, then `cargo run -p meridian-client --example put_get_watch`.

use meridian_client::{Client, Event, Keys, Options, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let endpoints = std::env::args()
        .nth(1)
        .unwrap_or("http://127.0.0.1:2379".into());
    let client = Client::connect(endpoints.split(','), Options::default()).await?;

    let mut watch = client.watch(Keys::prefix("example/")).prev_kv().await?;
    println!("watching example/ from revision {}", watch.start_revision());

    client.put("example/colour", "red").await?;
    client.put("example/colour", "blue").await?;
    client.delete("example/colour").await?;

    for _ in 0..3 {
        let Some(event) = watch.next_event().await else {
            break;
        };
        match event? {
            Event::Put { kv, prev_kv } => {
                println!(
                    "{}: {:?} -> {:?}",
                    kv.mod_revision,
                    prev_kv.map(|kv| kv.value),
                    kv.value
                );
            }
            Event::Delete {
                key, mod_revision, ..
            } => println!("{mod_revision}: {key:?} is gone"),
        }
    }

    let start = watch.start_revision();
    // History is kept until it is compacted: the first value can still be read.
    if let Some(first) = client.get("example/colour").revision(start).await? {
        println!("at revision {start} the colour was {:?}", first.value);
    }
    Ok(())
}
