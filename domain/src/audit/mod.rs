//! Audit: what was done, by whom, proven afterwards.
//!
//! ```text
//!   proposal + outcome + changes --derive--> Record --encode (proto)--> bytes --leaf hash--> Tree
//!                                                                                              |
//!   checkpoint: origin, size, root  <--------------------------------------------------- root, proofs
//! ```
//!
//! Records of writes are derived where they are applied, from what was applied, so that none can be left out. The bytes
//! that are kept are the bytes that are hashed: a record is never encoded a second time to be verified. No value stands
//! in a record, only hashes of values.
//!
//! Deliberately absent: signatures, keys, where records lie.

pub mod checkpoint;
pub mod derive;
pub mod proof;
pub mod record;
pub mod tree;
