//! "Not now": why a request could not be served at the moment, though nothing is wrong with it.
//!
//! [`Unavailable::is_certain`] tells the two kinds apart that matter to whoever retries: the write surely
//! did not and never will take effect, or nobody knows.

use meridian_proto::peer::RefusalCode;

/// Why not now. `Display` is etcd's text where etcd has the same case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// There is no leader, and none came in time. Nothing was written.
    #[error("etcdserver: no leader")]
    NoLeader,
    /// This member is not the leader, and only the leader can do it.
    #[error("etcdserver: not leader")]
    NotLeader,
    /// The leader changed while the request was on its way. A read may simply be repeated.
    #[error("etcdserver: leader changed")]
    LeaderChanged,
    /// It took longer than the caller would wait.
    #[error("{}", timed_out_text(*.0))]
    TimedOut(Delay),
    /// Too much is waiting already. Nothing was written.
    #[error("etcdserver: too many requests")]
    Overloaded,
    /// The member is stopping, or has stopped.
    #[error("etcdserver: server stopped")]
    Stopped,
    /// The write may or may not have taken effect. A request id makes a retry safe.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    OutcomeUnknown,
    /// The leader's disk is full. Nothing was written.
    #[error("etcdserver: mvcc: database space exceeded")]
    DiskFull,
    /// The state of this member differs from that of most others. It serves nothing until it is replaced.
    #[error("etcdserver: corrupt cluster")]
    Fenced,
    /// The member that was asked does not understand the question: it runs an older version.
    #[error("etcdserver: not capable")]
    NotCapable,
}

/// What a request was waiting for when its time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// A quorum, a disk: nothing in particular.
    Plain,
    /// A leader was lost meanwhile.
    LeaderFailure,
    /// The leader is known, but there is no connection to it.
    ConnectionLost,
    /// Everything was there but this member had not applied it yet.
    Apply,
}

fn timed_out_text(delay: Delay) -> &'static str {
    match delay {
        Delay::Plain => "etcdserver: request timed out",
        Delay::LeaderFailure => {
            "etcdserver: request timed out, possibly due to previous leader failure"
        }
        Delay::ConnectionLost => "etcdserver: request timed out, possibly due to connection lost",
        Delay::Apply => {
            "etcdserver: request timed out, waiting for the applied index took too long"
        }
    }
}

impl Unavailable {
    /// The stable name, the same on every door and in every version.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoLeader => "no_leader",
            Self::NotLeader => "not_leader",
            Self::LeaderChanged => "leader_changed",
            Self::TimedOut(_) => "timed_out",
            Self::Overloaded => "overloaded",
            Self::Stopped => "stopped",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::DiskFull => "disk_full",
            Self::Fenced => "fenced",
            Self::NotCapable => "not_capable",
        }
    }

    /// Whether a write that failed with this surely has no effect, now or later.
    pub fn is_certain(self) -> bool {
        !matches!(
            self,
            Self::TimedOut(_) | Self::OutcomeUnknown | Self::Stopped | Self::LeaderChanged
        )
    }

    /// What to do about it, for a person.
    pub fn hint(self) -> &'static str {
        match self {
            Self::NoLeader => {
                "a majority of the voting members must be up and able to reach each other"
            }
            Self::NotLeader | Self::LeaderChanged => {
                "try again; clients find the leader by themselves"
            }
            Self::TimedOut(_) | Self::OutcomeUnknown => {
                "the write may have taken effect: read before writing again, or send a request id"
            }
            Self::Overloaded => "back off and try again",
            Self::Stopped => "use another member",
            Self::DiskFull => "free space on the leader's disk; reads and deletes go on",
            Self::Fenced => "replace this member: its state differs from that of most others",
            Self::NotCapable => "upgrade every member to the same version",
        }
    }

    /// As members tell each other.
    pub(crate) fn to_wire(self) -> RefusalCode {
        match self {
            Self::NoLeader | Self::NotLeader | Self::LeaderChanged => RefusalCode::NotLeader,
            Self::TimedOut(_) => RefusalCode::TimedOut,
            Self::Overloaded => RefusalCode::Overloaded,
            Self::Stopped => RefusalCode::Stopped,
            Self::OutcomeUnknown => RefusalCode::OutcomeUnknown,
            Self::DiskFull => RefusalCode::DiskFull,
            Self::Fenced => RefusalCode::Fault,
            Self::NotCapable => RefusalCode::UnknownQuestion,
        }
    }

    /// The way back.
    pub(crate) fn from_wire(code: RefusalCode) -> Self {
        match code {
            RefusalCode::NotLeader => Self::LeaderChanged,
            RefusalCode::Overloaded => Self::Overloaded,
            RefusalCode::Stopped => Self::Stopped,
            RefusalCode::DiskFull => Self::DiskFull,
            RefusalCode::TimedOut => Self::TimedOut(Delay::Plain),
            RefusalCode::UnknownQuestion => Self::NotCapable,
            RefusalCode::Fault | RefusalCode::OutcomeUnknown | RefusalCode::Unspecified => {
                Self::OutcomeUnknown
            }
        }
    }
}
