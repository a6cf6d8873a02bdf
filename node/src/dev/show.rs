//! What a person sees of a local cluster.

use std::path::Path;

use crate::dev::member::Ended;
use crate::dev::ports::Seat;
use crate::version;

/// Says what runs where, and what to try next.
pub fn welcome(seats: &[Seat], processes: &[u32]) {
    let endpoints: Vec<_> = seats
        .iter()
        .map(|seat| format!("127.0.0.1:{}", seat.port))
        .collect();
    let all = endpoints.join(",");
    println!("\nMeridian {} is ready\n", version::MERIDIAN);
    println!(
        "  {:<6} {:<24} {:<24} {:<9} DATA",
        "NAME", "CLIENTS", "PEERS", "PROCESS"
    );
    for (at, seat) in seats.iter().enumerate() {
        let process = processes.get(at).copied().unwrap_or_else(std::process::id);
        println!(
            "  {:<6} {:<24} {:<24} {process:<9} {}",
            seat.name,
            seat.client_url(),
            seat.peer_url(),
            seat.data.display()
        );
    }
    let endpoint_flag = if seats.len() == 1 && all == "127.0.0.1:2379" {
        String::new()
    } else {
        format!(" --endpoints {all}")
    };
    let first = endpoints.first().map_or("127.0.0.1:2379", String::as_str);
    let meridian = program();
    println!("\nTry, in another terminal:\n");
    println!("  {meridian} watch greeting{endpoint_flag}");
    println!("  {meridian} kv put greeting hello{endpoint_flag}");
    println!("  ETCDCTL_API=3 etcdctl --endpoints={all} get greeting");
    println!("  {meridian} status{endpoint_flag}");
    println!("  curl http://{first}/health");
    if let Some(process) = processes.first() {
        println!("  kill -9 {process}        # the others go on");
    }
    println!(
        "\nCtrl-C stops {}.\n",
        if seats.len() == 1 { "it" } else { "them all" }
    );
}

/// Says that a member ended, and how to start it again.
pub fn ended(member: &Ended) {
    println!(
        "{} ended ({}). To start it again:\n\n  {}\n",
        member.name, member.status, member.again
    );
}

/// How a person calls this program from the same folder: by its name if that finds it, else by its path.
fn program() -> String {
    const NAME: &str = "meridian";
    let Ok(own) = std::env::current_exe() else {
        return NAME.into();
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join(NAME));
    let first = found.find(|file| file.is_file());
    if first.and_then(|file| file.canonicalize().ok()) == own.canonicalize().ok() {
        return NAME.into();
    }
    let here = std::env::current_dir().unwrap_or_default();
    shell_word(&shorter(&own, &here).display().to_string())
}

/// A path as it is seen from a folder: without it, if it lies below.
fn shorter<'a>(path: &'a Path, from: &Path) -> &'a Path {
    match path.strip_prefix(from) {
        // A name alone would be looked for elsewhere.
        Ok(below) if below.components().count() > 1 => below,
        _ => path,
    }
}

/// A word as a shell takes it for one.
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_so_that_it_can_be_run() {
        assert_eq!(shell_word("--data-dir"), "--data-dir");
        assert_eq!(
            shell_word("m1=http://127.0.0.1:2380"),
            "m1=http://127.0.0.1:2380"
        );
        assert_eq!(shell_word("/my data/m1"), "'/my data/m1'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
        let below = shorter(Path::new("/w/target/release/meridian"), Path::new("/w"));
        assert_eq!(below, Path::new("target/release/meridian"));
        let beside = shorter(Path::new("/w/meridian"), Path::new("/w"));
        assert_eq!(beside, Path::new("/w/meridian"));
    }
}
