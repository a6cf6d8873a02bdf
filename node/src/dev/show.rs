//! What a person sees of a local cluster.

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
    println!("\nTry, in another terminal:\n");
    println!("  meridian watch greeting{endpoint_flag}");
    println!("  meridian kv put greeting hello{endpoint_flag}");
    println!("  ETCDCTL_API=3 etcdctl --endpoints={all} get greeting");
    println!("  meridian status{endpoint_flag}");
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
