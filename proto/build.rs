//! Turns `schema/**/*.proto` into Rust, without `protoc`: protox reads, tonic-prost-build writes.
//!
//! Byte fields become `bytes::Bytes`, so that a value is never copied on its way out. The descriptors
//! of everything are kept beside the code, for the JSON gateway.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let schema = Path::new("schema");
    println!("cargo:rerun-if-changed=schema");
    let mut files = vec![];
    collect(schema, &mut files)?;
    // The order of files decides the order of the generated code.
    files.sort();

    let mut compiler = protox::Compiler::new([schema])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(&files)?;
    let code = compiler.file_descriptor_set();
    let descriptors = compiler
        .include_source_info(false)
        .encode_file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors)?;

    tonic_prost_build::configure()
        .bytes(".")
        .emit_rerun_if_changed(false)
        .compile_fds(code)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
