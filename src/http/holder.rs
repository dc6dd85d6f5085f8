//! Who has a port, as far as Linux tells: for the message of a server that can't have it. Never an error: where it can't
//! be told, nothing is.

use std::fs;
use std::path::Path;

/// The state LISTEN in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// `gpu-shopper (pid 4711)`; `None` where it can't be told: another user's process, or not Linux.
pub(super) fn of(port: u16) -> Option<String> {
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"].iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    let inodes: Vec<String> = sockets.iter().flat_map(|table| listeners(table, port)).map(|inode| format!("socket:[{inode}]")).collect();
    if inodes.is_empty() {
        return None;
    }
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if has_any(&entry.path().join("fd"), &inodes) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", crate::domain::ids::clip(name.trim(), 40)));
        }
    }
    None
}

/// Inodes of the sockets that listen on a port.
fn listeners(table: &str, port: u16) -> Vec<String> {
    let wanted = format!(":{port:04X}");
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listens = |cells: &Vec<&str>| cells.get(1).is_some_and(|local| local.ends_with(&wanted)) && cells.get(3) == Some(&LISTEN);
    lines.filter(listens).filter_map(|cells| cells.get(9).map(|inode| (*inode).to_owned())).collect()
}

fn has_any(folder: &Path, sockets: &[String]) -> bool {
    let Ok(open) = fs::read_dir(folder) else { return false };
    open.flatten().filter_map(|file| fs::read_link(file.path()).ok()).any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_found_and_nobody_is_nobody() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        if cfg!(target_os = "linux") {
            assert!(of(port).unwrap().contains(&format!("(pid {})", std::process::id())));
        }
        drop(held);
        assert_eq!(of(port), None);
    }

    #[test]
    fn a_connection_to_a_port_does_not_hold_it() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1\n   \
                     1: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1\n";
        assert_eq!(listeners(table, 8080), ["4711"]);
        assert!(listeners(table, 8081).is_empty());
    }
}
