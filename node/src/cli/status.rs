//! `meridian status`: how every endpoint is.

use std::process::ExitCode;

use clap::Args;
use futures::future::join_all;
use meridian_client::{Client, Error, MemberStatus, MeridianStatus};
use serde_json::{Value, json};

use super::failure::Failure;
use super::out::{Form, Out, member_id, size};

/// Asks every endpoint how it is. Fails if one of them does not answer.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Ask every member of the cluster, not only the endpoints
    #[arg(long)]
    cluster: bool,
}

/// One endpoint's answer.
struct Answer {
    endpoint: String,
    status: Result<(MemberStatus, Option<MeridianStatus>), Error>,
}

impl Status {
    pub(super) async fn run(&self, client: &Client, out: &mut Out) -> Result<ExitCode, Failure> {
        let client = if self.cluster {
            of_members(client).await?
        } else {
            client.clone()
        };
        let answers = join_all(client.endpoints().into_iter().map(|endpoint| {
            let client = &client;
            async move {
                let status = async {
                    let status = client.status(&endpoint).await?;
                    // What is Meridian's own is an extra: without it the row is shown all the same.
                    let own = client.meridian_status(&endpoint).await.unwrap_or(None);
                    Ok((status, own))
                };
                let status = status.await;
                Answer { endpoint, status }
            }
        }))
        .await;
        show(out, &answers)?;
        match answers.into_iter().find_map(|answer| answer.status.err()) {
            None => Ok(ExitCode::SUCCESS),
            Some(error) => Err(error.into()),
        }
    }
}

/// A client of every member's own client URLs.
pub(super) async fn of_members(client: &Client) -> Result<Client, Failure> {
    let members = client.members().await?.members;
    let urls: Vec<_> = members
        .into_iter()
        .flat_map(|member| member.client_urls)
        .collect();
    Ok(client.with_endpoints(urls)?)
}

fn show(out: &mut Out, answers: &[Answer]) -> Result<(), Failure> {
    match out.form_or(Form::Table) {
        Form::Json => {
            let endpoints: Vec<_> = answers.iter().map(to_json).collect();
            out.json(&json!({"endpoints": endpoints}))?;
        }
        Form::Simple => {
            for answer in answers {
                out.line(cells(out, answer).join(", "))?;
            }
        }
        Form::Table => {
            let rows = answers.iter().map(|answer| cells(out, answer)).collect();
            let header = [
                "ENDPOINT", "ID", "NAME", "VERSION", "DB SIZE", "ROLE", "TERM", "INDEX", "APPLIED",
                "ERRORS",
            ];
            out.table(&header, rows)?;
        }
    }
    Ok(())
}

fn role(status: &MemberStatus) -> &'static str {
    match status {
        _ if status.is_leader() => "leader",
        _ if status.is_learner => "learner",
        _ => "follower",
    }
}

fn cells(out: &Out, answer: &Answer) -> Vec<String> {
    let (status, own) = match &answer.status {
        Ok((status, own)) => (status, own.as_ref()),
        Err(error) => {
            let mut row = vec![String::new(); 9];
            row.insert(0, answer.endpoint.clone());
            row.truncate(9);
            row.push(out.mark(error.message(), false));
            return row;
        }
    };
    let version = match own {
        Some(own) => format!("meridian {}", own.version),
        None => format!("etcd {}", status.version),
    };
    let db_size = u64::try_from(status.db_size).unwrap_or(0);
    vec![
        answer.endpoint.clone(),
        member_id(status.member_id),
        own.map_or_else(String::new, |own| own.name.clone()),
        version,
        size(db_size),
        if status.is_leader() {
            out.mark("leader", true)
        } else {
            role(status).to_owned()
        },
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        if status.errors.is_empty() {
            String::new()
        } else {
            out.mark(status.errors.join("; ").trim(), false)
        },
    ]
}

fn to_json(answer: &Answer) -> Value {
    let (status, own) = match &answer.status {
        Ok((status, own)) => (status, own.as_ref()),
        Err(error) => {
            return json!({
                "endpoint": answer.endpoint,
                "error": {"message": error.message(), "code": error.code()},
            });
        }
    };
    let own = own.map(|own| {
        let digest = own.digest.map(|(applied_index, digest)| {
            json!({"applied_index": applied_index, "digest": format!("{digest:016x}")})
        });
        json!({
            "version": own.version,
            "name": own.name,
            "region": own.region,
            "zone": own.zone,
            "disk_bytes": own.disk_bytes,
            "memory_bytes": own.memory_bytes,
            "uptime_seconds": own.uptime.as_secs(),
            "digest": digest,
        })
    });
    json!({
        "endpoint": answer.endpoint,
        "cluster_id": member_id(status.cluster_id),
        "member_id": member_id(status.member_id),
        "version": status.version,
        "db_size": status.db_size,
        "db_size_in_use": status.db_size_in_use,
        "leader_id": member_id(status.leader_id),
        "role": role(status),
        "raft_term": status.raft_term,
        "raft_index": status.raft_index,
        "raft_applied_index": status.raft_applied_index,
        "revision": status.revision,
        "errors": status.errors,
        "meridian": own,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::printed;

    fn answers() -> Vec<Answer> {
        let status = MemberStatus {
            member_id: 0xa1,
            leader_id: 0xa1,
            version: "3.5.21".into(),
            db_size: 2048,
            raft_term: 3,
            raft_index: 17,
            raft_applied_index: 16,
            ..MemberStatus::default()
        };
        vec![Answer {
            endpoint: "http://a:2379".into(),
            status: Ok((status, None)),
        }]
    }

    #[test]
    fn a_row_says_who_leads_and_how_far_it_is() {
        let text = printed(Form::Simple, |out| show(out, &answers()));
        assert_eq!(
            text,
            "http://a:2379, a1, , etcd 3.5.21, 2.00 KiB, leader, 3, 17, 16, \n"
        );
    }

    #[test]
    fn programs_get_numbers_and_hexadecimal_ids() {
        let text = printed(Form::Json, |out| show(out, &answers()));
        let value: Value = serde_json::from_str(&text).expect("json");
        let first = &value["endpoints"][0];
        assert_eq!(
            (&first["role"], &first["db_size"]),
            (&json!("leader"), &json!(2048))
        );
        assert_eq!(
            (&first["member_id"], &first["meridian"]),
            (&json!("a1"), &Value::Null)
        );
    }
}
