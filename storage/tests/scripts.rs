//! The state machine by example: runs every file below `scripts/`.
//!
//! A script is commands, a line `---`, and what they must answer. `UPDATE_GOLDENFILES=1 cargo test -p
//! meridian-storage --test scripts` writes the answers anew; read the difference before you keep it.
//!
//! ```text
//! put KEY VALUE [lease=N] [keep=value|lease] [prev=yes]     keep: takes the present one; VALUE is left out
//! delete KEY [END] [prev=yes]
//! get KEY [END] [revision=N] [limit=N] [order=ascend|descend] [target=version|create|mod|value]
//!     [keys_only=yes] [count_only=yes] [mod_min=N] [mod_max=N] [create_min=N] [create_max=N]
//! txn "[COMPARES ?] OPS [| OPS]"
//! grant ID TTL | revoke ID | checkpoint ID SECONDS | leases
//! compact REVISION | reclaim | kept                         kept: the versions a snapshot would hold
//! create NAME [bytes=N] [keys=N] | quota NAME [bytes=N] [keys=N] | drop NAME | tenants
//! alarm MEMBER nospace|corrupt on|off | alarms
//! usage | restart                                           restart: goes on from what a snapshot would hold
//!
//! COMPARES = COMPARE { , COMPARE }     COMPARE = version|create|mod|value|lease KEY [END] =|!=|>|< OPERAND
//! OPS = OP { ; OP }
//! OP = put KEY VALUE [LEASE] | delete KEY [END] | get KEY [END] [@REVISION] | { [COMPARES ?] OPS [| OPS] }
//! ```
//!
//! END `*` is no end. Writes also take `id=REQUEST term=N rules=N`. A prefix names the tenant. The answer is the
//! revision with what was answered, then, indented, what history says was changed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod script;

use std::path::{Path, PathBuf};

fn scripts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            scripts(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn every_script_holds() {
    let mut found = vec![];
    scripts(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts"),
        &mut found,
    );
    found.sort();
    assert!(found.len() >= 12, "only {found:?} were found");
    for path in found {
        goldenscript::run(&mut script::Stage::new(), &path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
