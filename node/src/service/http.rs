//! Plain HTTP on the client port: is it well, what is it, what does it count.
//!
//! ```text
//!   /version          etcd's version numbers, and Meridian's
//!   /health           could a client write now? confirmed with a quorum; ?serializable=true asks this member alone
//!   /livez /readyz    named checks, one a line with ?verbose; /readyz/<check> for one; ?exclude=<check>
//!   /metrics          Prometheus text
//! ```
//!
//! The forms and reasons are etcd's, because probes and dashboards know them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::routing::any;
use http::{HeaderValue, Method, Response, StatusCode, header};
use meridian_domain::command::AlarmKind;
use meridian_domain::name::TenantName;
use meridian_domain::query::Query;
use meridian_domain::view::ClusterView;
use meridian_storage::wal::Wal;
use tokio::time::Instant;

use crate::pipeline::{Consistency, Pipeline};
use crate::service::scrape;
use crate::status::Refusal;
use crate::version;

/// How long a health check waits for the others.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the checks look at.
#[derive(Clone)]
pub struct Outside {
    /// To read as a client would.
    pub pipeline: Arc<Pipeline>,
    /// To see whether the disk takes writes.
    pub wal: Wal,
}

/// The routes.
pub fn router(outside: Outside) -> Router {
    Router::new()
        .route("/version", any(show_version))
        .route("/health", any(health))
        .route("/livez", any(live))
        .route("/livez/{check}", any(live_one))
        .route("/readyz", any(ready))
        .route("/readyz/{check}", any(ready_one))
        .route("/metrics", any(show_metrics))
        .with_state(outside)
}

/// One thing that must hold for a member to be well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// No member raised `CORRUPT`, and this one agrees with the others.
    DataCorruption,
    /// This member answers from what it has.
    SerializableRead,
    /// This member answers freshly: a quorum is there.
    LinearizableRead,
    /// This member has a vote.
    NonLearner,
}

impl Check {
    const LIVE: &[Self] = &[Self::SerializableRead];
    const READY: &[Self] = &[
        Self::DataCorruption,
        Self::SerializableRead,
        Self::LinearizableRead,
        Self::NonLearner,
    ];

    /// Its name in paths and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }
}

impl Outside {
    /// Whether a check holds; if not, why.
    pub async fn holds(&self, check: Check) -> Result<(), String> {
        match check {
            Check::DataCorruption => {
                let status = self.pipeline.replica.status();
                if status.fenced || self.alarms().contains(&AlarmKind::Corrupt) {
                    return Err("alarm activated: CORRUPT".into());
                }
                Ok(())
            }
            Check::SerializableRead => self.read(Consistency::Serializable).await,
            Check::LinearizableRead => self.read(Consistency::Linearizable).await,
            Check::NonLearner => self
                .pipeline
                .refuse_on_learner()
                .map_err(|_| "member is learner".into()),
        }
    }

    async fn read(&self, consistency: Consistency) -> Result<(), String> {
        let Ok(tenant) = TenantName::new(TenantName::DEFAULT) else {
            return Ok(());
        };
        let mut ctx = self.pipeline.system_context(tenant);
        ctx.deadline = Instant::now() + PATIENCE;
        self.pipeline
            .read(&ctx, &Query::Alarms, consistency)
            .await
            .map(drop)
            .map_err(|refusal: Refusal| refusal.to_string())
    }

    fn alarms(&self) -> Vec<AlarmKind> {
        self.pipeline
            .store
            .cluster()
            .alarms()
            .into_iter()
            .map(|(_, kind)| kind)
            .collect()
    }

    /// etcd's reason why a client could not write now, if there is one.
    async fn sickness(&self, serializable: bool, excluded: &[String]) -> Option<String> {
        for kind in self.alarms() {
            let name = alarm_name(kind);
            if !excluded.iter().any(|excluded| excluded == name) {
                return Some(format!("ALARM {name}"));
            }
        }
        if !serializable && self.pipeline.standing.borrow().leader.is_none() {
            return Some("RAFT NO LEADER".into());
        }
        if !serializable
            && !excluded.iter().any(|excluded| excluded == "NOSPACE")
            && let Err(fault) = self.wal.reserve_ok()
        {
            tracing::warn!(%fault, "this member takes no writes");
            return Some("ALARM NOSPACE".into());
        }
        let consistency = if serializable {
            Consistency::Serializable
        } else {
            Consistency::Linearizable
        };
        self.read(consistency)
            .await
            .err()
            .map(|error| format!("RANGE ERROR:{error}"))
    }
}

/// etcd's name of an alarm.
pub fn alarm_name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    }
}

async fn show_version(method: Method) -> Response<Body> {
    if let Some(refused) = only_get(&method) {
        return refused;
    }
    // In etcd's order; a map of the JSON library would sort the names.
    let body = format!(
        r#"{{"etcdserver":"{}","etcdcluster":"{}","storage":"{}","meridian":"{}"}}"#,
        version::ETCD,
        version::ETCD_CLUSTER,
        version::ETCD_STORAGE,
        version::MERIDIAN
    );
    text(StatusCode::OK, "application/json", body)
}

async fn health(
    State(outside): State<Outside>,
    method: Method,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    if let Some(refused) = only_get(&method) {
        return refused;
    }
    let query = Asked::parse(query.as_deref());
    let sickness = outside.sickness(query.serializable, &query.excluded).await;
    let (status, body) = match sickness {
        None => {
            scrape::HEALTH_SUCCESS.inc();
            (
                StatusCode::OK,
                serde_json::json!({"health": "true", "reason": ""}).to_string(),
            )
        }
        Some(reason) => {
            scrape::HEALTH_FAILURES.inc();
            let body = serde_json::json!({"health": "false", "reason": reason}).to_string();
            (StatusCode::SERVICE_UNAVAILABLE, body + "\n")
        }
    };
    text(status, "application/json", body)
}

async fn live(
    State(outside): State<Outside>,
    method: Method,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    report(&outside, "livez", Check::LIVE, &method, query.as_deref()).await
}

async fn ready(
    State(outside): State<Outside>,
    method: Method,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    report(&outside, "readyz", Check::READY, &method, query.as_deref()).await
}

async fn live_one(
    State(outside): State<Outside>,
    Path(check): Path<String>,
    method: Method,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    report_one(
        &outside,
        "livez",
        Check::LIVE,
        &check,
        &method,
        query.as_deref(),
    )
    .await
}

async fn ready_one(
    State(outside): State<Outside>,
    Path(check): Path<String>,
    method: Method,
    RawQuery(query): RawQuery,
) -> Response<Body> {
    report_one(
        &outside,
        "readyz",
        Check::READY,
        &check,
        &method,
        query.as_deref(),
    )
    .await
}

async fn report_one(
    outside: &Outside,
    kind: &'static str,
    all: &[Check],
    name: &str,
    method: &Method,
    query: Option<&str>,
) -> Response<Body> {
    match all.iter().find(|check| check.name() == name) {
        Some(check) => report(outside, kind, std::slice::from_ref(check), method, query).await,
        None => text(StatusCode::NOT_FOUND, PLAIN, "404 page not found\n".into()),
    }
}

async fn report(
    outside: &Outside,
    kind: &'static str,
    checks: &[Check],
    method: &Method,
    query: Option<&str>,
) -> Response<Body> {
    if let Some(refused) = only_get(method) {
        return refused;
    }
    let asked = Asked::parse(query);
    let mut lines = String::new();
    let mut well = true;
    for check in checks {
        let name = check.name();
        if asked.excluded.iter().any(|excluded| excluded == name) {
            continue;
        }
        match outside.holds(*check).await {
            Ok(()) => {
                let _ = writeln!(lines, "[+]{name} ok");
                scrape::count_check(kind, name, true);
            }
            Err(why) => {
                let _ = writeln!(lines, "[-]{name} failed: {why}");
                scrape::count_check(kind, name, false);
                well = false;
            }
        }
    }
    if well {
        let body = if asked.verbose {
            lines + "ok\n"
        } else {
            "ok\n".into()
        };
        text(StatusCode::OK, PLAIN, body)
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, lines + "\n")
    }
}

async fn show_metrics(State(outside): State<Outside>, method: Method) -> Response<Body> {
    if let Some(refused) = only_get(&method) {
        return refused;
    }
    let body = crate::pipeline::off_the_reactor(|| scrape::scrape(&outside.pipeline));
    text(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        body,
    )
}

const PLAIN: &str = "text/plain; charset=utf-8";

/// What a query string asks of a health check.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    serializable: bool,
    verbose: bool,
    excluded: Vec<String>,
}

impl Asked {
    fn parse(query: Option<&str>) -> Self {
        let mut asked = Self::default();
        for pair in query.unwrap_or_default().split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "serializable" => asked.serializable = value == "true",
                "verbose" => asked.verbose = true,
                "exclude" => asked.excluded.push(value.to_owned()),
                _ => {}
            }
        }
        asked
    }
}

fn only_get(method: &Method) -> Option<Response<Body>> {
    if method == Method::GET || method == Method::HEAD {
        return None;
    }
    let mut refused = text(
        StatusCode::METHOD_NOT_ALLOWED,
        PLAIN,
        "Method Not Allowed\n".into(),
    );
    refused
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("GET"));
    Some(refused)
}

fn text(status: StatusCode, kind: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_what_to_leave_out() {
        let asked = Asked::parse(Some("serializable=true&exclude=NOSPACE&exclude=x&verbose"));
        assert!(asked.serializable && asked.verbose);
        assert_eq!(asked.excluded, ["NOSPACE", "x"]);
        assert_eq!(Asked::parse(None), Asked::default());
    }
}
