//! What the kernel says of a process: memory and CPU time.

use crate::load::Failed;

/// Resident memory, in bytes.
pub fn rss_bytes(pid: u32) -> Result<u64, Failed> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|n| n.parse::<u64>().ok())
        .ok_or_else(|| Failed::new(format!("no VmRSS of process {pid}")))?;
    Ok(kib * 1024)
}

/// User and system time spent so far, in microseconds (the kernel counts in ticks of 10 ms).
pub fn cpu_us(pid: u32) -> Result<u64, Failed> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold blanks; the fields after it are counted from the last one.
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|n| n.parse::<u64>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok((user + system) * 10_000),
        _ => Err(Failed::new(format!("no CPU time of process {pid}"))),
    }
}
