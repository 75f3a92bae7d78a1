//! The container's health check: does this dyno do its job?
//!
//! A web dyno is healthy once something listens on `PORT` where the router can reach it; any other dyno while
//! its command runs. Only the kernel's tables are read: an app sees no connection it did not expect.

use std::{env, fs};

/// The state of a listening socket in `/proc/net/tcp` (`TCP_LISTEN`).
const LISTEN: &str = "0A";

/// Whether the dyno is healthy.
///
/// # Errors
/// The reason in one line when it is not.
pub(crate) fn check() -> Result<(), String> {
    match env::var("PORT") {
        Ok(port) => {
            let port: u16 = port.parse().map_err(|_| "PORT is not a number".to_owned())?;
            let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
            listens(&tables, port)
        }
        Err(_) if command_runs() => Ok(()),
        Err(_) => Err("the command does not run".to_owned()),
    }
}

/// Looks for a socket that listens on `port` of an address other hosts reach.
fn listens(tables: &[String], port: u16) -> Result<(), String> {
    let mut only_loopback = false;
    for line in tables.iter().flat_map(|table| table.lines().skip(1)) {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (Some(local), Some(_), Some(state)) = (words.next(), words.next(), words.next()) else { continue };
        let Some((address, local_port)) = local.split_once(':') else { continue };
        if state == LISTEN && u16::from_str_radix(local_port, 16) == Ok(port) {
            if !is_loopback(address) {
                return Ok(());
            }
            only_loopback = true;
        }
    }
    Err(if only_loopback {
        format!("port {port} is bound to localhost only; bind to 0.0.0.0")
    } else {
        format!("nothing listens on port {port}")
    })
}

/// Whether an address as the kernel prints it (words of four bytes in memory order) is 127.0.0.0/8 or `::1`.
fn is_loopback(address: &str) -> bool {
    let little_endian = cfg!(target_endian = "little");
    let v4 = |word: &str| if little_endian { word.ends_with("7F") } else { word.starts_with("7F") };
    match address.len() {
        8 => v4(address),
        32 if address.starts_with("0000000000000000FFFF0000") || address.starts_with("00000000000000000000FFFF") => {
            v4(&address[24..])
        }
        32 => address == "00000000000000000000000001000000" || address == "00000000000000000000000000000001",
        _ => false,
    }
}

/// Whether process 1, which is the launcher or an init in front of it, has a child besides this check.
fn command_runs() -> bool {
    let me = std::process::id().to_string();
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    processes.flatten().filter_map(|entry| entry.file_name().into_string().ok()).any(|pid| {
        pid != me && fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| is_live_child_of_init(&stat))
    })
}

/// Reads `/proc/<pid>/stat`: `pid (name) state parent …`, where the name may hold anything.
fn is_live_child_of_init(stat: &str) -> bool {
    let Some((_, rest)) = stat.rsplit_once(')') else { return false };
    let mut words = rest.split_ascii_whitespace();
    let (state, parent) = (words.next(), words.next());
    parent == Some("1") && state.is_some_and(|state| !matches!(state, "Z" | "X"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "  sl  local_address rem_address   st tx_queue rx_queue\n";

    fn table(line: &str) -> Vec<String> {
        vec![format!("{HEADER}{line}\n")]
    }

    #[test]
    fn a_listener_on_every_address_is_healthy() {
        assert_eq!(listens(&table("   0: 00000000:1388 00000000:0000 0A 00000000:00000000"), 5000), Ok(()));
        let v6 = "   0: 00000000000000000000000000000000:1388 00000000000000000000000000000000:0000 0A 0:0";
        assert_eq!(listens(&table(v6), 5000), Ok(()));
    }

    #[test]
    fn localhost_only_is_named_as_the_cause() {
        let seen = listens(&table("   0: 0100007F:1388 00000000:0000 0A 00000000:00000000"), 5000);
        assert_eq!(seen, Err("port 5000 is bound to localhost only; bind to 0.0.0.0".to_owned()));
        assert!(is_loopback("00000000000000000000000001000000"));
        assert!(is_loopback("0000000000000000FFFF00000100007F"));
    }

    #[test]
    fn a_connection_is_not_a_listener_and_other_ports_do_not_count() {
        let seen = listens(&table("   0: 00000000:1388 0100007F:9999 01 00000000:00000000"), 5000);
        assert_eq!(seen, Err("nothing listens on port 5000".to_owned()));
        assert!(listens(&table("   0: 00000000:1389 00000000:0000 0A 0:0"), 5000).is_err());
    }

    #[test]
    fn a_process_name_may_hold_anything() {
        assert!(is_live_child_of_init("7 (a) b (c)) S 1 7 7 0"));
        assert!(!is_live_child_of_init("7 (sh) Z 1 7 7 0"));
        assert!(!is_live_child_of_init("7 (sh) S 6 7 7 0"));
    }
}
