//! The fields of each document, in order.

use super::Document;
use super::bytes::{Reader, Writer};
use crate::access::grant::{Address, Conditions, Effect, Grant, Network, Proofs, Window};
use crate::access::key::Key;
use crate::access::policy::{Algorithm, Door, Issuer, Policy, Trust};
use crate::access::principal::Binding;
use crate::access::role::{Assignment, Role};
use crate::access::scope::Scope;
use crate::access::token::Token;
use crate::access::user::User;
use crate::access::verb::Verbs;
use crate::key::{KeyRange, RangeEnd, Space};

impl Document for Door {
    fn write(&self, to: &mut Writer) {
        to.flag(self.enabled);
        to.number(self.revocations);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            enabled: from.flag()?,
            revocations: from.number()?,
        })
    }
}

impl Document for Role {
    fn write(&self, to: &mut Writer) {
        to.text(&self.name);
        to.list(&self.parents, |to, parent| to.text(parent));
        to.number(self.next_grant.into());
        to.list(&self.grants, |to, grant| grant.write(to));
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            name: from.text()?,
            parents: from.list(Reader::text)?,
            next_grant: from.short()?,
            grants: from.list(Grant::read)?,
        })
    }
}

impl Document for Grant {
    fn write(&self, to: &mut Writer) {
        to.number(self.number.into());
        to.byte(match self.effect {
            Effect::Allow => 0,
            Effect::Deny => 1,
        });
        to.number(self.verbs.bits());
        self.scope.write(to);
        self.conditions.window.write(to);
        to.byte(self.conditions.proofs.bits());
        to.list(&self.conditions.networks, |to, network| network.write(to));
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            number: from.short()?,
            effect: match from.byte()? {
                0 => Effect::Allow,
                1 => Effect::Deny,
                _ => return None,
            },
            verbs: Verbs::from_bits(from.number()?)?,
            scope: Scope::read(from)?,
            conditions: Conditions {
                window: Window::read(from)?,
                proofs: Proofs::from_bits(from.byte()?)?,
                networks: from.list(Network::read)?,
            },
        })
    }
}

impl Document for Window {
    fn write(&self, to: &mut Writer) {
        to.number(self.not_before_ms);
        to.number(self.not_after_ms);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            not_before_ms: from.number()?,
            not_after_ms: from.number()?,
        })
    }
}

impl Document for Network {
    fn write(&self, to: &mut Writer) {
        to.plain(&self.address.0);
        to.byte(self.bits);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let address = Address(from.plain()?);
        let bits = from.byte()?;
        (bits <= 128).then_some(Self { address, bits })
    }
}

impl Document for Scope {
    fn write(&self, to: &mut Writer) {
        match self {
            Self::Tenant => to.byte(0),
            Self::Cluster => to.byte(1),
            Self::Keys { space, range } => {
                let (tag, end) = match &range.end {
                    RangeEnd::Single => (2, None),
                    RangeEnd::Before(end) => (3, Some(end)),
                    RangeEnd::Open => (4, None),
                };
                to.byte(tag);
                to.byte(space.0);
                to.bytes(&range.start);
                if let Some(end) = end {
                    to.bytes(end);
                }
            }
            Self::Prefix { space, prefix } => {
                to.byte(5);
                to.byte(space.0);
                to.bytes(prefix);
            }
            Self::Path { space, path } => {
                to.byte(6);
                to.byte(space.0);
                to.bytes(path);
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        let tag = from.byte()?;
        if tag < 2 {
            return Some(if tag == 0 {
                Self::Tenant
            } else {
                Self::Cluster
            });
        }
        let space = Space(from.byte()?);
        let start = from.bytes()?;
        let end = match tag {
            2 => RangeEnd::Single,
            3 => RangeEnd::Before(from.bytes()?),
            4 => RangeEnd::Open,
            5 => {
                return Some(Self::Prefix {
                    space,
                    prefix: start,
                });
            }
            6 => return Some(Self::Path { space, path: start }),
            _ => return None,
        };
        let range = KeyRange { start, end };
        Some(Self::Keys { space, range })
    }
}

impl Document for Assignment {
    fn write(&self, to: &mut Writer) {
        to.text(&self.role);
        self.scope.write(to);
        self.window.write(to);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            role: from.text()?,
            scope: Scope::read(from)?,
            window: Window::read(from)?,
        })
    }
}

impl Document for Binding {
    fn write(&self, to: &mut Writer) {
        to.list(&self.roles, |to, role| role.write(to));
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            roles: from.list(Assignment::read)?,
        })
    }
}

impl Document for User {
    fn write(&self, to: &mut Writer) {
        to.text(&self.name);
        to.option(self.password.as_deref(), Writer::text);
        to.number(self.generation);
        to.list(&self.roles, |to, role| role.write(to));
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            name: from.text()?,
            password: from.option(Reader::text)?,
            generation: from.number()?,
            roles: from.list(Assignment::read)?,
        })
    }
}

impl Document for Token {
    fn write(&self, to: &mut Writer) {
        to.text(&self.id);
        to.plain(&self.digest);
        to.text(&self.holder);
        to.list(&self.roles, |to, role| role.write(to));
        to.number(self.issued_ms);
        to.number(self.expires_ms);
        to.list(&self.networks, |to, network| network.write(to));
        to.option(self.bound_to.as_deref(), Writer::text);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            id: from.text()?,
            digest: from.plain()?,
            holder: from.text()?,
            roles: from.list(Assignment::read)?,
            issued_ms: from.number()?,
            expires_ms: from.number()?,
            networks: from.list(Network::read)?,
            bound_to: from.option(Reader::text)?,
        })
    }
}

impl Document for Key {
    fn write(&self, to: &mut Writer) {
        to.plain(&self.0);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.plain().map(Self)
    }
}

impl Document for Policy {
    fn write(&self, to: &mut Writer) {
        to.byte(self.proofs.bits());
        to.list(&self.networks, |to, network| network.write(to));
        to.number(self.password_chars_min.into());
        to.number(self.lock_after.into());
        to.number(self.lock_seconds);
        to.number(self.token_ttl_seconds_max);
        to.list(&self.audited, |to, scope| scope.write(to));
        to.list(&self.regions, |to, region| to.text(region));
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            proofs: Proofs::from_bits(from.byte()?)?,
            networks: from.list(Network::read)?,
            password_chars_min: from.short()?,
            lock_after: from.short()?,
            lock_seconds: from.number()?,
            token_ttl_seconds_max: from.number()?,
            audited: from.list(Scope::read)?,
            regions: from.list(Reader::text)?,
        })
    }
}

impl Document for Trust {
    fn write(&self, to: &mut Writer) {
        to.list(&self.domains, |to, domain| to.text(domain));
        to.flag(self.dns_names);
        to.flag(self.common_names);
        to.list(&self.issuers, |to, issuer| issuer.write(to));
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            domains: from.list(Reader::text)?,
            dns_names: from.flag()?,
            common_names: from.flag()?,
            issuers: from.list(Issuer::read)?,
        })
    }
}

impl Document for Issuer {
    fn write(&self, to: &mut Writer) {
        to.text(&self.name);
        to.text(&self.issuer);
        to.list(&self.audiences, |to, audience| to.text(audience));
        to.list(&self.algorithms, |to, algorithm| {
            to.byte(*algorithm as u8);
        });
        to.text(&self.keys_url);
        to.text(&self.groups_claim);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            name: from.text()?,
            issuer: from.text()?,
            audiences: from.list(Reader::text)?,
            algorithms: from.list(|from| match from.byte()? {
                0 => Some(Algorithm::Rs256),
                1 => Some(Algorithm::Es256),
                2 => Some(Algorithm::EdDsa),
                _ => None,
            })?,
            keys_url: from.text()?,
            groups_claim: from.text()?,
        })
    }
}
