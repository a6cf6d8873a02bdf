//! Tenants over real sockets: apart, within their quotas, told so when they are not.

use meridian_proto::api::v1::tenant_service_client::TenantServiceClient;
use meridian_proto::api::v1::{
    CreateTenantRequest, DeleteTenantRequest, ListTenantsRequest, Quota,
};
use meridian_proto::etcdserverpb::DeleteRangeRequest;
use tonic::Code;

use crate::requests::{assert_refused, bytes, get, prefix, put, under};
use crate::served::Served;

#[tokio::test(flavor = "multi_thread")]
async fn tenants_have_keys_revisions_and_quotas_of_their_own() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    let mut tenants = TenantServiceClient::new(served.channel().await);
    let unknown = kv.put(under("team-a", put("k", "v"))).await.unwrap_err();
    assert_refused(
        &unknown,
        Code::NotFound,
        "meridian: tenant \"team-a\" does not exist",
    );
    let create = CreateTenantRequest {
        name: "team-a".into(),
        quota: Some(Quota {
            keys: 2,
            requests_per_second: 1000,
            ..Quota::default()
        }),
        retention: None,
    };
    let made = tenants
        .create(create.clone())
        .await
        .unwrap()
        .into_inner()
        .tenant
        .unwrap();
    assert_eq!((made.name.as_str(), made.revision), ("team-a", 1));
    assert_eq!(
        tenants.create(create).await.unwrap_err().code(),
        Code::AlreadyExists
    );

    kv.put(put("k", "default's")).await.unwrap();
    kv.put(put("k2", "default's")).await.unwrap();
    let own = kv
        .put(under("team-a", put("k", "a's")))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(own.header.unwrap().revision, 2);
    let read = kv
        .range(under("team-a", prefix("\0", "\0")))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((read.count, read.kvs[0].value.clone()), (1, bytes("a's")));

    kv.put(under("team-a", put("k2", ""))).await.unwrap();
    let full = kv.put(under("team-a", put("k3", ""))).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    let hint = full
        .metadata()
        .get("meridian-hint")
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        hint.contains("team-a") && hint.contains("of 2 keys"),
        "{hint}"
    );
    let gone = DeleteRangeRequest {
        key: bytes("k2"),
        ..DeleteRangeRequest::default()
    };
    kv.delete_range(under("team-a", gone)).await.unwrap();

    let all = tenants
        .list(ListTenantsRequest {})
        .await
        .unwrap()
        .into_inner()
        .tenants;
    let names: Vec<_> = all.iter().map(|tenant| tenant.name.as_str()).collect();
    assert_eq!(names, ["default", "team-a"]);
    assert_eq!(all[1].usage.unwrap().keys, 1);
    tenants
        .delete(DeleteTenantRequest {
            name: "team-a".into(),
        })
        .await
        .unwrap();
    assert_eq!(
        kv.range(under("team-a", get("k")))
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    let kept = tenants
        .delete(DeleteTenantRequest {
            name: "default".into(),
        })
        .await
        .unwrap_err();
    assert_eq!(kept.code(), Code::FailedPrecondition);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_over_its_rate_is_told_so() {
    let served = Served::start().await;
    let mut kv = served.kv().await;
    let mut tenants = TenantServiceClient::new(served.channel().await);
    let quota = Some(Quota {
        requests_per_second: 3,
        ..Quota::default()
    });
    let create = CreateTenantRequest {
        name: "slow".into(),
        quota,
        retention: None,
    };
    tenants.create(create).await.unwrap();
    let mut refusal = None;
    for _ in 0..100 {
        if let Err(status) = kv.range(under("slow", get("k"))).await {
            refusal = Some(status);
            break;
        }
    }
    let refusal = refusal.unwrap();
    assert_refused(
        &refusal,
        Code::ResourceExhausted,
        "etcdserver: too many requests",
    );
    let hint = refusal
        .metadata()
        .get("meridian-hint")
        .unwrap()
        .to_str()
        .unwrap();
    assert!(
        hint.contains("slow") && hint.contains("3 requests per second"),
        "{hint}"
    );
    kv.range(get("k")).await.unwrap();
    served.stop().await;
}
