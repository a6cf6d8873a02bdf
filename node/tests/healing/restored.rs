//! A cluster restored from a snapshot, as an operator does it: nobody's revisions go back.

use meridian_proto::etcdserverpb as pb;
use meridian_proto::etcdserverpb::watch_client::WatchClient;
use tokio_stream::StreamExt;

use crate::processes::Processes;

/// Starts a watch at a revision; the revision it was told is compacted, if it was.
async fn compacted_for(all: &Processes, at: usize, revision: i64) -> i64 {
    let create = pb::WatchCreateRequest {
        key: "k".into(),
        start_revision: revision,
        ..pb::WatchCreateRequest::default()
    };
    let request = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
    };
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    let mut client = WatchClient::new(all.channel(at));
    let mut answers = client.watch(requests).await.unwrap().into_inner();
    while let Some(answer) = answers.next().await {
        let answer = answer.unwrap();
        if answer.canceled {
            return answer.compact_revision;
        }
        assert!(answer.events.is_empty(), "{answer:?}");
    }
    panic!("the watch ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_restored_from_a_snapshot_and_revisions_go_on_above_all_anybody_saw() {
    let mut all = Processes::start(3);
    all.put(0, "k", "1").await;
    all.put(1, "k", "2").await;
    all.fill(2, "early", 10).await;
    all.meridian(0, &["tenant", "create", "t"]);
    all.meridian(0, &["kv", "put", "in-t", "x", "--tenant", "t"]);
    let file = all.dir.path().join("backup").display().to_string();
    all.meridian(0, &["snapshot", "save", &file]);
    let mut seen = 0;
    for i in 0..20 {
        seen = all.put(i % 3, "k", "lost with the cluster").await;
    }
    for at in 0..3 {
        all.kill(at);
    }
    all.found_anew("restored");
    for at in 0..3 {
        let mut words = vec!["snapshot".into(), "restore".into(), file.clone()];
        words.extend(all.identity(at));
        words.extend(["--bump-revision", "1000", "--mark-compacted"].map(str::to_owned));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        all.meridian(at, &words);
    }
    all.start_all();
    for at in 0..3 {
        assert_eq!(all.get(at, "k", 0).await.unwrap().unwrap(), "2");
        all.check(at, "early", 10).await;
        let of_t = all.meridian(at, &["kv", "get", "in-t", "--tenant", "t"]);
        assert_eq!(of_t, "in-t\nx\n");
        // Whoever asks for what it saw of the lost cluster is told to begin afresh.
        assert!(all.get(at, "k", seen).await.is_err());
        assert!(compacted_for(&all, at, seen).await > seen);
    }
    let first = all.put(1, "k", "3").await;
    assert!(first > seen, "{first} after {seen}");
    all.converge().await;
    // A member that restarts from what was restored has the same.
    all.kill(2);
    all.put(0, "k", "4").await;
    all.start_member(2);
    all.converge().await;
    assert_eq!(all.get(2, "k", first).await.unwrap().unwrap(), "3");
}
