//! The stage scripts play on: one machine, with its history in memory.

mod language;
mod show;

use std::error::Error;

use bytes::Bytes;
use meridian_domain::command::{AlarmKind, Command, Guards, Proposal};
use meridian_domain::key::{KeyRange, Space};
use meridian_domain::kv::{Put, Range};
use meridian_domain::name::{TenantId, TenantName};
use meridian_domain::revision::LogId;
use meridian_domain::stamp::{RequestId, Stamp};
use meridian_domain::tenant::{Quota, Retention};
use meridian_domain::txn::{Op, Txn};
use meridian_domain::view::View;
use meridian_proto::record::proposal;
use meridian_storage::fault::Fault;
use meridian_storage::history::{self, History};
use meridian_storage::machine::{Frozen, Machine, Settings};
use meridian_storage::mvcc::view::TenantView;
use meridian_storage::row::{Rows, Version};

pub type Failure = Box<dyn Error>;

pub struct Stage {
    machine: Machine,
    history: History,
    at: LogId,
}

impl Stage {
    pub fn new() -> Self {
        let history = History::in_memory(history::Settings::default()).unwrap();
        let machine = Machine::new(history.clone(), Settings::default());
        Self {
            machine,
            history,
            at: LogId { term: 1, index: 0 },
        }
    }

    /// The tenant a command is for.
    fn tenant(&self, prefix: Option<&str>) -> Result<TenantId, Failure> {
        let name = prefix.unwrap_or(TenantName::DEFAULT);
        match self.machine.store().tenant_named(name) {
            Some(tenant) => Ok(tenant.id()),
            // Numbers reach tenants that are gone.
            None => Ok(TenantId(
                name.parse().map_err(|_| format!("no tenant {name}"))?,
            )),
        }
    }

    fn view(&self, prefix: Option<&str>) -> Result<TenantView, Failure> {
        let tenant = self.machine.store().tenant(self.tenant(prefix)?);
        Ok(tenant.ok_or("no such tenant")?.view())
    }

    /// Proposes a command, and says what was answered and what changed.
    fn write(
        &mut self,
        prefix: Option<&str>,
        command: Command,
        args: &mut Args<'_>,
    ) -> Result<String, Failure> {
        let number = |text: Option<&str>| text.map(str::parse::<u64>).transpose();
        let guards = Guards {
            rules_revision: number(args.take_key("rules"))?,
            term: number(args.take_key("term"))?,
        };
        let id = args
            .take_key("id")
            .map(|id| RequestId::new(Bytes::copy_from_slice(id.as_bytes())));
        let tenant = self.tenant(prefix)?;
        let before = self
            .machine
            .store()
            .tenant(tenant)
            .map(|tenant| tenant.root().revision());
        let record = proposal::encode(&Proposal {
            tenant,
            request_id: id.transpose()?,
            actor: "anonymous".into(),
            stamp: Stamp::default(),
            guards,
            command,
        });
        self.at.index += 1;
        let receipt = self.machine.apply(self.at, &record);
        self.machine.publish();
        let mut said = show::receipt(&receipt);
        if let (Some(before), Some(tenant)) = (before, self.machine.store().tenant(tenant)) {
            let now = tenant.root().revision();
            let (from, most) = (before + 1, usize::MAX);
            for commit in self.history.commits(tenant.id(), from, now, most, most)? {
                said += &show::commit(&commit);
            }
        }
        Ok(said)
    }

    fn rows(&self) -> Result<Kept, Fault> {
        Kept::of(&self.machine.freeze(), &self.history)
    }

    fn restart(&mut self) -> Result<(), Fault> {
        let history = History::in_memory(history::Settings::default())?;
        history.reset(&mut self.rows()?)?;
        self.machine = Machine::load(&mut self.rows()?, history.clone(), Settings::default())?;
        self.history = history;
        Ok(())
    }
}

type Args<'a> = goldenscript::ArgumentConsumer<'a>;

fn needed<'a>(args: &mut Args<'a>, what: &str) -> Result<&'a str, Failure> {
    args.next_pos()
        .ok_or_else(|| format!("{what} is missing").into())
}

fn put(args: &mut Args<'_>) -> Result<Put, Failure> {
    let key = language::bytes(needed(args, "the key")?);
    let keep = args.take_key("keep");
    let value = match keep {
        Some("value") => None,
        _ => Some(language::bytes(needed(args, "the value")?)),
    };
    let lease = match (keep, args.take_key("lease")) {
        (Some("lease"), _) => None,
        (_, lease) => Some(lease.unwrap_or("0").parse()?),
    };
    let prev_kv = args.take_key("prev").is_some();
    Ok(Put {
        space: Space::RAW,
        key,
        value,
        lease,
        prev_kv,
    })
}

fn range(args: &mut Args<'_>) -> Result<Range, Failure> {
    let mut range = Range::of(Space::RAW, keys(args)?);
    let mut number = |name| args.take_key(name).unwrap_or("0").parse::<i64>();
    range.revision = number("revision")?;
    range.limit = number("limit")?;
    range.bounds.mod_min = number("mod_min")?;
    range.bounds.mod_max = number("mod_max")?;
    range.bounds.create_min = number("create_min")?;
    range.bounds.create_max = number("create_max")?;
    range.keys_only = args.take_key("keys_only").is_some();
    range.count_only = args.take_key("count_only").is_some();
    range.order = language::order(args.take_key("order"))?;
    range.target = language::target(args.take_key("target"))?;
    Ok(range)
}

fn keys(args: &mut Args<'_>) -> Result<KeyRange, Failure> {
    let key = needed(args, "the key")?;
    Ok(language::keys(key, args.next_pos()))
}

fn quota(args: &mut Args<'_>) -> Result<Quota, Failure> {
    let mut number = |name| args.take_key(name).unwrap_or("0").parse();
    Ok(Quota {
        bytes: number("bytes")?,
        keys: number("keys")?,
        ..Quota::default()
    })
}

/// The command of a write, if it is one.
fn command(name: &str, args: &mut Args<'_>) -> Result<Option<Command>, Failure> {
    Ok(Some(match name {
        "put" => Command::Txn(Txn::once(Op::Put(put(args)?))),
        "delete" => {
            let (range, prev_kv) = (keys(args)?, args.take_key("prev").is_some());
            let delete = meridian_domain::kv::Delete {
                space: Space::RAW,
                range,
                prev_kv,
            };
            Command::Txn(Txn::once(Op::Delete(delete)))
        }
        "txn" => Command::Txn(language::txn(needed(args, "the transaction")?)?),
        "grant" => Command::LeaseGrant {
            id: needed(args, "the id")?.parse()?,
            ttl_seconds: needed(args, "the time to live")?.parse()?,
        },
        "revoke" => Command::LeaseRevoke {
            id: needed(args, "the id")?.parse()?,
        },
        "checkpoint" => Command::LeaseCheckpoint {
            remaining: vec![(
                needed(args, "the id")?.parse()?,
                needed(args, "seconds")?.parse()?,
            )],
        },
        "compact" => Command::Compact {
            revision: needed(args, "the revision")?.parse()?,
        },
        "create" => Command::TenantCreate {
            name: TenantName::new(needed(args, "the name")?)?,
            quota: quota(args)?,
            retention: Retention::default(),
        },
        "quota" => Command::TenantChange {
            name: TenantName::new(needed(args, "the name")?)?,
            quota: Some(quota(args)?),
            retention: None,
        },
        "drop" => Command::TenantDelete {
            name: TenantName::new(needed(args, "the name")?)?,
        },
        "alarm" => Command::Alarm {
            member: needed(args, "the member")?.parse()?,
            kind: match needed(args, "the kind")? {
                "nospace" => AlarmKind::NoSpace,
                "corrupt" => AlarmKind::Corrupt,
                other => return Err(format!("unknown alarm {other}").into()),
            },
            raised: needed(args, "on or off")? == "on",
        },
        _ => return Ok(None),
    }))
}

impl goldenscript::Runner for Stage {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        asked: &goldenscript::Command,
        context: &goldenscript::Context,
    ) -> Result<String, Failure> {
        let mut args = asked.consume_args();
        let prefix = context.prefix.as_deref();
        if let Some(command) = command(&asked.name, &mut args)? {
            let said = self.write(prefix, command, &mut args)?;
            args.reject_next()?;
            return Ok(said);
        }
        let said = match asked.name.as_str() {
            "get" => {
                let view = self.view(prefix)?;
                match view.range(&range(&mut args)?) {
                    Ok(reply) => format!("@{}{}", view.revision(), show::range(&reply)),
                    Err(rejection) => show::refused(&rejection),
                }
            }
            "leases" => {
                let view = self.view(prefix)?;
                let line = |id| show::lease(view.lease(id), &view.lease_keys(id));
                view.leases().into_iter().map(line).collect()
            }
            "reclaim" => {
                while self.machine.reclaim(1) {}
                String::new()
            }
            "kept" => self
                .rows()?
                .versions
                .iter()
                .map(|(_, version)| show::version(version))
                .collect(),
            "tenants" => self
                .view(None)?
                .cluster()
                .tenants()
                .iter()
                .map(show::tenant)
                .collect(),
            "alarms" => format!("{:?}\n", self.view(None)?.cluster().alarms()),
            "usage" => {
                let usage = self.view(prefix)?.usage();
                format!("{} keys, {} bytes\n", usage.keys, usage.bytes)
            }
            "restart" => {
                self.restart()?;
                String::new()
            }
            other => return Err(format!("unknown command {other}").into()),
        };
        args.reject_next()?;
        Ok(said)
    }
}

/// What a snapshot of a state would hold.
struct Kept {
    applied: LogId,
    facts: Vec<(Bytes, Bytes)>,
    versions: Vec<(TenantId, Version)>,
}

impl Kept {
    fn of(frozen: &Frozen, history: &History) -> Result<Self, Fault> {
        let mut versions = vec![];
        let pin = history.pin();
        for (id, keyspace) in &frozen.tenants {
            pin.versions(*id, keyspace.revision(), &mut |version| {
                if keyspace.retains(version.space, &version.key, version.at) {
                    versions.push((*id, Version::clone(version)));
                }
                Ok(())
            })?;
        }
        Ok(Self {
            applied: frozen.applied,
            facts: frozen.facts.to_vec(),
            versions,
        })
    }
}

impl Rows for Kept {
    fn applied(&self) -> LogId {
        self.applied
    }

    fn facts(&mut self) -> Result<Vec<(Bytes, Bytes)>, Fault> {
        Ok(std::mem::take(&mut self.facts))
    }

    fn versions(
        &mut self,
        each: &mut dyn FnMut(TenantId, Version) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        self.versions
            .drain(..)
            .try_for_each(|(tenant, version)| each(tenant, version))
    }
}
