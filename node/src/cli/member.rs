//! `meridian member`: who belongs to the cluster.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use meridian_client::{Client, Member as Record, Membership};
use serde_json::{Value, json};

use super::failure::Failure;
use super::out::{Form, Out, member_id};

/// Members.
#[derive(Debug, Args)]
pub(super) struct Member {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List members
    List,
    /// Announce a new member, which then starts with --initial-cluster-state existing
    Add {
        /// The name it will start with
        name: String,
        /// Where the other members will reach it, separated by commas
        #[arg(long, required = true, value_delimiter = ',', value_name = "URL")]
        peer_urls: Vec<String>,
        /// Without a vote, until it is promoted
        #[arg(long)]
        learner: bool,
    },
    /// Remove a member for good
    Remove {
        /// Its id (hexadecimal)
        #[arg(value_parser = parse_id)]
        id: u64,
    },
    /// Give a learner that has caught up a vote
    Promote {
        /// Its id (hexadecimal)
        #[arg(value_parser = parse_id)]
        id: u64,
    },
    /// Change where the other members reach a member
    Update {
        /// Its id (hexadecimal)
        #[arg(value_parser = parse_id)]
        id: u64,
        /// Where the other members will reach it, separated by commas
        #[arg(long, required = true, value_delimiter = ',', value_name = "URL")]
        peer_urls: Vec<String>,
    },
    /// Hand leadership to a member; the endpoints must include the leader's
    MoveLeader {
        /// Its id (hexadecimal)
        #[arg(value_parser = parse_id)]
        id: u64,
    },
}

/// Reads a member id.
pub(super) fn parse_id(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16)
        .map_err(|_| format!("{text:?} is not a member id, which is hexadecimal"))
}

impl Member {
    pub(super) async fn run(&self, client: &Client, out: &mut Out) -> Result<ExitCode, Failure> {
        match &self.verb {
            Verb::List => list(out, &client.members().await?)?,
            Verb::Add {
                name,
                peer_urls,
                learner,
            } => {
                let after = client.member_add(peer_urls.clone(), *learner).await?;
                added(out, name, peer_urls, &after)?;
            }
            Verb::Remove { id } => {
                let after = client.member_remove(*id).await?;
                changed(out, &after, *id, "removed from")?;
            }
            Verb::Promote { id } => {
                let after = client.member_promote(*id).await?;
                changed(out, &after, *id, "promoted in")?;
            }
            Verb::Update { id, peer_urls } => {
                let after = client.member_update(*id, peer_urls.clone()).await?;
                changed(out, &after, *id, "updated in")?;
            }
            Verb::MoveLeader { id } => {
                client.move_leader(*id).await?;
                let id = member_id(*id);
                match out.form_or(Form::Simple) {
                    Form::Json => out.json(&json!({"leader": id}))?,
                    _ => out.line(format!("leadership moved to {id}"))?,
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn status_of(member: &Record) -> &'static str {
    if member.client_urls.is_empty() {
        "unstarted"
    } else {
        "started"
    }
}

fn to_json(member: &Record) -> Value {
    json!({
        "id": member_id(member.id),
        "name": member.name,
        "status": status_of(member),
        "peer_urls": member.peer_urls,
        "client_urls": member.client_urls,
        "learner": member.is_learner,
    })
}

fn list(out: &mut Out, membership: &Membership) -> Result<(), Failure> {
    let cells = |m: &Record| {
        vec![
            member_id(m.id),
            status_of(m).to_owned(),
            m.name.clone(),
            m.peer_urls.join(","),
            m.client_urls.join(","),
            m.is_learner.to_string(),
        ]
    };
    match out.form_or(Form::Table) {
        Form::Json => {
            let members: Vec<_> = membership.members.iter().map(to_json).collect();
            let cluster = member_id(membership.cluster_id);
            out.json(&json!({"cluster_id": cluster, "members": members}))?;
        }
        Form::Simple => {
            for member in &membership.members {
                out.line(cells(member).join(", "))?;
            }
        }
        Form::Table => {
            let rows = membership.members.iter().map(cells).collect();
            let header = [
                "ID",
                "STATUS",
                "NAME",
                "PEER URLS",
                "CLIENT URLS",
                "LEARNER",
            ];
            out.table(&header, rows)?;
        }
    }
    Ok(())
}

/// Prints the answer to an addition, with the settings the new member needs.
fn added(
    out: &mut Out,
    name: &str,
    peer_urls: &[String],
    after: &Membership,
) -> Result<(), Failure> {
    let id = after.added.as_ref().map_or(0, |member| member.id);
    let named = after.members.iter().flat_map(|member| {
        let name = if member.id == id { name } else { &member.name };
        member
            .peer_urls
            .iter()
            .map(move |url| format!("{name}={url}"))
    });
    let cluster = named.collect::<Vec<_>>().join(",");
    if out.form_or(Form::Simple) == Form::Json {
        let members: Vec<_> = after.members.iter().map(to_json).collect();
        out.json(&json!({
            "cluster_id": member_id(after.cluster_id),
            "added": member_id(id),
            "members": members,
            "initial_cluster": cluster,
        }))?;
        return Ok(());
    }
    let cluster_id = member_id(after.cluster_id);
    out.line(format!(
        "Member {} added to cluster {cluster_id}",
        member_id(id)
    ))?;
    out.line("\nStart it with:\n")?;
    out.line(format!(
        "meridian server --name {name} --initial-cluster-state existing \\\n  \
         --initial-advertise-peer-urls {} \\\n  --initial-cluster {cluster}",
        peer_urls.join(","),
    ))?;
    Ok(())
}

fn changed(out: &mut Out, after: &Membership, id: u64, what: &str) -> Result<(), Failure> {
    let (id, cluster) = (member_id(id), member_id(after.cluster_id));
    match out.form_or(Form::Simple) {
        Form::Json => {
            let members: Vec<_> = after.members.iter().map(to_json).collect();
            out.json(&json!({"cluster_id": cluster, "member": id, "members": members}))?;
        }
        _ => out.line(format!("Member {id} {what} cluster {cluster}"))?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::printed;

    fn membership() -> Membership {
        let member = |id: u64, name: &str| Record {
            id,
            name: name.into(),
            peer_urls: vec![format!("http://h{id}:2380")],
            client_urls: if name.is_empty() {
                vec![]
            } else {
                vec![format!("http://h{id}:2379")]
            },
            is_learner: name.is_empty(),
        };
        let members = vec![member(0xa, "a"), member(0xb, "")];
        Membership {
            cluster_id: 0xc1,
            added: members.last().cloned(),
            members,
        }
    }

    #[test]
    fn members_are_listed_in_three_forms() {
        let simple = printed(Form::Simple, |out| list(out, &membership()));
        assert_eq!(
            simple,
            "a, started, a, http://ha:2380, http://ha:2379, false\n\
             b, unstarted, , http://hb:2380, , true\n"
                .replace("ha:", "h10:")
                .replace("hb:", "h11:")
        );
        let json = printed(Form::Json, |out| list(out, &membership()));
        let value: Value = serde_json::from_str(&json).expect("json");
        assert_eq!(value["cluster_id"], "c1");
        assert_eq!(value["members"][1]["status"], "unstarted");
        let table = printed(Form::Table, |out| list(out, &membership()));
        assert!(
            table.contains("PEER URLS") && table.contains("unstarted"),
            "{table}"
        );
    }

    #[test]
    fn an_addition_says_how_to_start_the_member() {
        let urls = ["http://h11:2380".to_owned()];
        let text = printed(Form::Simple, |out| added(out, "b", &urls, &membership()));
        assert_eq!(
            text,
            "Member b added to cluster c1\n\nStart it with:\n\n\
             meridian server --name b --initial-cluster-state existing \\\n  \
             --initial-advertise-peer-urls http://h11:2380 \\\n  \
             --initial-cluster a=http://h10:2380,b=http://h11:2380\n"
        );
    }
}
