//! Who sits where: names, ports and directories of the members of a local cluster.

use std::path::{Path, PathBuf};

/// The client port for which etcd's own sample cluster is imitated.
const CUSTOMARY: u16 = 2379;

/// One member's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its name.
    pub name: String,
    /// Its client port; the peer port is the next one.
    pub port: u16,
    /// Where its data lies.
    pub data: PathBuf,
}

/// Seats for `nodes` members. From the customary port on they are those of etcd's sample cluster (2379, 22379,
/// 32379, ...), from any other one they stand ten apart.
pub fn plan(nodes: u16, port: u16, directory: &Path) -> Vec<Seat> {
    (1..=nodes)
        .map(|number| {
            let offset = match number {
                1 => 0,
                _ if port == CUSTOMARY => number * 10_000,
                _ => (number - 1) * 10,
            };
            let name = format!("m{number}");
            Seat {
                data: directory.join(&name),
                name,
                port: port.saturating_add(offset),
            }
        })
        .collect()
}

impl Seat {
    /// Where clients reach it.
    pub fn client_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where the others reach it.
    pub fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.saturating_add(1))
    }

    /// The flags of its server, as one member of `all`.
    pub fn flags(&self, all: &[Self]) -> Vec<String> {
        let initial: Vec<_> = all
            .iter()
            .map(|seat| format!("{}={}", seat.name, seat.peer_url()))
            .collect();
        [
            ("name", self.name.clone()),
            ("data-dir", self.data.display().to_string()),
            ("listen-client-urls", self.client_url()),
            ("advertise-client-urls", self.client_url()),
            ("listen-peer-urls", self.peer_url()),
            ("initial-advertise-peer-urls", self.peer_url()),
            ("initial-cluster", initial.join(",")),
            ("initial-cluster-token", "meridian-dev".to_owned()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [format!("--{flag}"), value])
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_customary_ports_are_those_of_etcds_sample_cluster() {
        let ports = |port| -> Vec<u16> {
            plan(3, port, Path::new("/d"))
                .iter()
                .map(|seat| seat.port)
                .collect()
        };
        assert_eq!(ports(2379), [2379, 22379, 32379]);
        assert_eq!(ports(7000), [7000, 7010, 7020]);
    }
}
