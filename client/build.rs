//! Says at compile time whether etcd is installed, so that tests that need one are shown as ignored
//! where it is not.

use std::env;

fn main() {
    println!("cargo:rustc-check-cfg=cfg(has_etcd)");
    println!("cargo:rerun-if-env-changed=PATH");
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|folder| folder.join("etcd").is_file()) {
        println!("cargo:rustc-cfg=has_etcd");
    }
}
