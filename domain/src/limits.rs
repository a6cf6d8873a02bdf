//! Every hard bound in one place, each with its reason.
//!
//! These are constants of the product, not settings: two members that disagree on them would accept
//! different requests. Where an operator may lower a bound, the setting is checked against this one.

/// The most bytes one encoded request may have. etcd's default (1.5 MiB); clients know it.
pub const REQUEST_BYTES_MAX: usize = 1_572_864;

/// What the transport accepts on top of a request before it refuses to read on (etcd: 512 KiB).
pub const REQUEST_OVERHEAD_BYTES: usize = 512 * 1024;

/// The most operations in one level of a transaction (etcd's `--max-txn-ops`).
pub const TXN_OPS_MAX: usize = 128;

/// The deepest nesting of transactions. The operations budget already bounds it to 128; the stack of
/// a recursive walk must be bounded on its own.
pub const TXN_DEPTH_MAX: usize = 16;

/// The longest time to live of a lease, in seconds (etcd's bound: fits a Go duration).
pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// The most leases one tenant may hold at a time.
pub const LEASES_PER_TENANT_MAX: usize = 1_000_000;

/// The longest tenant name, in bytes (a DNS label, so that it can stand in a host name).
pub const TENANT_NAME_BYTES_MAX: usize = 63;

/// The most tenants of a cluster. Each costs a few KiB on every member.
pub const TENANTS_MAX: usize = 10_000;

/// The longest request id, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

/// How many request ids one tenant remembers; the oldest is forgotten first.
pub const REQUEST_IDS_PER_TENANT: usize = 16_384;

/// The largest recorded answer kept beside a request id, in bytes. A larger answer is not kept: a
/// retry then learns the revision only.
pub const REQUEST_ANSWER_BYTES_MAX: usize = 4_096;

/// The most members (voters and learners) of a cluster.
pub const MEMBERS_MAX: usize = 64;

/// The most watches on one stream.
pub const WATCHES_PER_STREAM_MAX: usize = 65_536;

/// The most distinct revisions in one watch response while catching up (etcd's bound).
pub const WATCH_BATCH_REVISIONS_MAX: usize = 1_000;

/// Nominal cost of a put beside its key and value, in bytes, as etcd charges it against a quota.
pub const PUT_OVERHEAD_BYTES: u64 = 256;

/// The longest name of a user, role or subject, in bytes. SPIFFE ids have up to 2,048.
pub const ACCESS_NAME_BYTES_MAX: usize = 2_048;

/// The most grants of one role: its document must fit one request.
pub const GRANTS_PER_ROLE_MAX: usize = 4_096;

/// The most roles of one caller, those taken over included.
pub const ROLES_PER_SUBJECT_MAX: usize = 256;

/// How many steps deep roles take over from roles.
pub const ROLE_DEPTH_MAX: usize = 16;

/// The most grants one caller's rights are compiled from. Ten times what decisions are measured with.
pub const GRANTS_PER_SUBJECT_MAX: usize = 100_000;

/// The most users of one tenant.
pub const USERS_PER_TENANT_MAX: i64 = 1_000_000;

/// The most roles of one tenant.
pub const ROLES_PER_TENANT_MAX: i64 = 10_000;

/// The most tokens of one tenant, expired ones that nobody removed included.
pub const TOKENS_PER_TENANT_MAX: i64 = 1_000_000;

/// The most holders a role is taken from when it is deleted; beyond it is revoked one by one first.
pub const ROLE_HOLDERS_MAX: usize = 4_096;

/// The most networks in one condition, token or policy.
pub const NETWORKS_MAX: usize = 64;

/// The longest life of a token, in seconds: 90 days.
pub const TOKEN_TTL_SECONDS_MAX: u64 = 90 * 24 * 60 * 60;

/// The most names in one list of a policy: issuers, audiences, trust domains, regions.
pub const POLICY_LIST_MAX: usize = 256;
