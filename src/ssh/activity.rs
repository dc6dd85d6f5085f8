//! What a machine is asked about whether anybody uses it, and how its answer is read.
//!
//! Pure text work, as in `nvidia_smi.rs`: one command between marks of our own. Minimal containers have no `ss` and no
//! `who`, so connections are read from `/proc`: every established one to the port of the SSH server that we came by is a
//! login or a forward, except our own and those that have not authenticated yet (the whole world knocks at open ports):
//! those whose process is there before and after the table is read.
//! Our own connection must be among them: where it is not, the table is of another place and tells nothing.
//!
//! The rule for reading: what is not understood is unknown, and unknown counts as use.

use crate::domain::idle::Activity;

/// What is run on the machine: works in any login shell that hands single-quoted text on to `sh`, with busybox as well.
pub const COMMAND: &str = concat!(
    "sh -c 'PATH=\"$PATH:/usr/local/nvidia/bin:/usr/lib/wsl/lib\"; export PATH; LC_ALL=C; export LC_ALL; ",
    "echo \"--use-begin--\"; ",
    "nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader,nounits; echo \"--use-gpu $?--\"; ",
    "nvidia-smi --query-compute-apps=pid --format=csv,noheader,nounits; echo \"--use-processes $?--\"; ",
    "echo \"$SSH_CONNECTION\"; echo \"--use-self 0--\"; ",
    "ACCEPTED=\"^sshd[a-z-]*: .*\\[accepted\\]\"; NET=\"^sshd-auth: |^sshd[a-z-]*: .*\\[(net|preauth)\\]\"; ",
    "grep -lE \"$ACCEPTED\" /proc/[0-9]*/cmdline; echo \"--use-accepted 0--\"; ",
    "grep -lE \"$NET\" /proc/[0-9]*/cmdline; echo \"--use-net 0--\"; ",
    "grep -hoE \"^ *[0-9]+: [0-9A-F]+:[0-9A-F]{4} [0-9A-F]+:[0-9A-F]{4} 01 \" /proc/net/tcp /proc/net/tcp6; echo \"--use-connections 0--\"; ",
    "grep -lE \"$ACCEPTED\" /proc/[0-9]*/cmdline; echo \"--use-accepted 0--\"; ",
    "grep -lE \"$NET\" /proc/[0-9]*/cmdline; echo \"--use-net 0--\"'"
);

const BEGIN: &str = "--use-begin--";

/// More GPUs than any machine has.
const MOST_GPUS: usize = 64;

/// Reads the answer to [`COMMAND`]. Never panics.
#[must_use]
pub fn parse(stdout: &[u8]) -> Activity {
    let text = String::from_utf8_lossy(stdout);
    let lines: Vec<&str> = text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect();
    let Some(begin) = lines.iter().position(|line| line.ends_with(BEGIN)) else { return Activity::default() };
    let mut rest = &lines[begin + 1..];
    let mut part = |mark: &str| -> Option<(&[&str], u32)> {
        let (at, code) = rest.iter().enumerate().find_map(|(at, line)| marked(line, mark).map(|code| (at, code)))?;
        let (found, after) = rest.split_at(at);
        rest = &after[1..];
        Some((found, code))
    };
    let gpus = part("gpu").filter(|(_, code)| *code == 0).map(|(rows, _)| rows.to_vec()).unwrap_or_default();
    let processes = part("processes").filter(|(_, code)| *code == 0).map(|(rows, _)| rows.to_vec());
    let ours = part("self").and_then(|(rows, _)| rows.last().copied().and_then(ports));
    let mut processes_of = |mark: &str| part(mark).map(|(rows, _)| rows.to_vec());
    let before = (processes_of("accepted"), processes_of("net"));
    let table = processes_of("connections");
    let after = (processes_of("accepted"), processes_of("net"));
    let stayed = |(before, after): (Vec<&str>, Vec<&str>)| after.iter().filter(|row| row.starts_with("/proc/") && before.contains(row)).count();
    // Who knocks has a process of the one kind, of the other or of both: at least as many knock as there are of either.
    let knocking = before.0.zip(after.0).map(stayed).zip(before.1.zip(after.1).map(stayed)).map(|(accepted, net)| accepted.max(net));
    let (gpu_percent, gpu_memory_mib) = gpu_use(&gpus);
    Activity {
        gpu_percent,
        gpu_memory_mib,
        gpu_processes: processes.and_then(|rows| count_processes(&rows)),
        connections: ours.zip(table).zip(knocking).and_then(|((ours, table), knocking)| others(ours, &table, knocking)),
    }
}

/// The exit status in a mark that stands alone on its line.
fn marked(line: &str, mark: &str) -> Option<u32> {
    line.strip_prefix("--use-")?.strip_prefix(mark)?.strip_prefix(' ')?.strip_suffix("--")?.parse().ok()
}

/// The highest utilisation and the most memory in use of any GPU; unknown as soon as one of them does not tell.
fn gpu_use(rows: &[&str]) -> (Option<u32>, Option<u32>) {
    if rows.is_empty() || rows.len() > MOST_GPUS {
        return (None, None);
    }
    let column = |at: usize, most: u32| {
        let cell = |row: &&str| row.split(',').nth(at).and_then(|cell| cell.trim().parse::<u32>().ok()).filter(|value| *value <= most);
        rows.iter().map(cell).collect::<Option<Vec<u32>>>().and_then(|all| all.into_iter().max())
    };
    (column(0, 100), column(1, 16 * 1024 * 1024))
}

/// A process id a line, or nothing; words instead say that they can't be told.
fn count_processes(rows: &[&str]) -> Option<u32> {
    let ids = rows.iter().filter(|row| row.parse::<u32>().is_ok()).count();
    (ids == rows.len()).then(|| u32::try_from(ids).unwrap_or(u32::MAX))
}

/// The client's and the server's port of our own login: `198.51.100.7 51022 10.0.0.5 22`.
fn ports(line: &str) -> Option<(u16, u16)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, client, _, server] = words.as_slice() else { return None };
    Some((client.parse().ok()?, server.parse().ok()?))
}

/// Connections to the same server port as ours, without ours and those that have not logged in yet.
fn others((client, server): (u16, u16), table: &[&str], knocking: usize) -> Option<u32> {
    let port = |end: &str| u16::from_str_radix(end.rsplit_once(':')?.1, 16).ok();
    let ends = |row: &&str| {
        let mut words = row.split_whitespace().skip(1);
        Some((port(words.next()?)?, port(words.next()?)?))
    };
    let there: Vec<u16> = table.iter().filter_map(ends).filter(|(local, _)| *local == server).map(|(_, remote)| remote).collect();
    let without_ours = there.contains(&client).then(|| there.len() - 1)?;
    u32::try_from(without_ours.saturating_sub(knocking)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: &str = "   3: 0500000A:0016 0764C6C6:C74E 01 ";

    fn answer(gpus: &str, processes: &str, table: &str, knocking: &str) -> String {
        format!(
            "Welcome!\n--use-begin--\n{gpus}--use-gpu 0--\n{processes}--use-processes 0--\n198.198.100.7 51022 10.0.0.5 22\n--use-self 0--\n\
             --use-accepted 0--\n{knocking}--use-net 0--\n{table}--use-connections 0--\n--use-accepted 0--\n{knocking}--use-net 0--\n"
        )
    }

    fn read(text: &str) -> (Option<u32>, Option<u32>, Option<u32>, Option<u32>) {
        let found = parse(text.as_bytes());
        (found.gpu_percent, found.gpu_memory_mib, found.gpu_processes, found.connections)
    }

    #[test]
    fn a_quiet_machine_has_nothing_but_us() {
        let quiet = answer("0, 4\n0, 11\n", "", &format!("{OURS}\n"), "");
        assert_eq!(read(&quiet), (Some(0), Some(11), Some(0), Some(0)));
        assert_eq!(read(&quiet.replace('\n', "\r\n")), (Some(0), Some(11), Some(0), Some(0)));
    }

    #[test]
    fn one_gpu_of_several_and_every_process_counts() {
        assert_eq!(read(&answer("0, 4\n97, 70000\n0, 4\n", "4711\n4712\n", &format!("{OURS}\n"), "")), (Some(97), Some(70_000), Some(2), Some(0)));
    }

    #[test]
    fn logins_and_forwards_count_but_not_who_knocks_nor_other_ports() {
        let other = "   4: 0000000000000000FFFF00000500000A:0016 0000000000000000FFFF00000964C6C6:D000 01 ";
        let web = "   5: 0500000A:1F90 0964C6C6:D001 01 ";
        let out = "   6: 0500000A:D002 0964C6C6:0016 01 ";
        let table = format!("{OURS}\n{other}\n{web}\n{out}\n");
        assert_eq!(read(&answer("0, 4\n", "", &table, "")).3, Some(1));
        assert_eq!(read(&answer("0, 4\n", "", &table, "/proc/811/cmdline\n")).3, Some(0), "it has not logged in");
        assert_eq!(read(&answer("0, 4\n", "", &format!("{OURS}\n"), "/proc/811/cmdline\n")).3, Some(0), "its connection is closing");
        let came = answer("0, 4\n", "", &format!("{OURS}\n{other}\n"), "/proc/811/cmdline\n").replacen("811", "812", 1);
        assert_eq!(read(&came).3, Some(1), "who comes and goes meanwhile hides nobody");
        let both = answer("0, 4\n", "", &format!("{OURS}\n{other}\n{web}\n"), "/proc/811/cmdline\n")
            .replace("--use-accepted", "/proc/810/cmdline\n--use-accepted")
            .replace(":1F90", ":0016");
        assert_eq!(read(&both).3, Some(1), "two processes of one that knocks are one");
    }

    #[test]
    fn what_is_not_told_is_unknown() {
        let table = format!("{OURS}\n");
        for (text, expected) in [
            (answer("[N/A], 4\n", "", &table, ""), (None, Some(4), Some(0), Some(0))),
            (answer("0, 4\n0, [N/A]\n", "", &table, ""), (Some(0), None, Some(0), Some(0))),
            (answer("Failed to initialize NVML\n", "", &table, ""), (None, None, Some(0), Some(0))),
            (answer("0, 4\n", "", &table, "").replace("gpu 0", "gpu 9"), (None, None, Some(0), Some(0))),
            (answer("0, 4\n", "", &table, "").replace("processes 0", "processes 127"), (Some(0), Some(4), None, Some(0))),
            (answer("0, 4\n", "[Insufficient Permissions]\n", &table, ""), (Some(0), Some(4), None, Some(0))),
            (answer("0, 4\n", "", "", ""), (Some(0), Some(4), Some(0), None)),
            (answer("0, 4\n", "", "   4: 0500000A:0016 0964C6C6:D000 01 \n", ""), (Some(0), Some(4), Some(0), None)),
            (answer("0, 4\n", "", &table, "").replace("198.198.100.7 51022 10.0.0.5 22", ""), (Some(0), Some(4), Some(0), None)),
            (answer("400, 4\n", "", &table, ""), (None, Some(4), Some(0), Some(0))),
            ("Please log in as ubuntu\n".to_owned(), (None, None, None, None)),
        ] {
            assert_eq!(read(&text), expected, "{text}");
        }
    }

    #[test]
    fn an_answer_that_breaks_off_never_looks_idle() {
        let whole = answer("0, 4\n0, 4\n", "", &format!("{OURS}\n   4: 0500000A:0016 0964C6C6:D000 01 \n"), "");
        let end = whole.rfind("--use-net").unwrap();
        for cut in 0..=end {
            let (percent, memory, _, connections) = read(&whole[..cut]);
            assert!(connections.is_none(), "{:?}", &whole[..cut]);
            assert!(percent.is_none() == memory.is_none());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_lines_between_our_marks_make_it_panic(a in "[ -~\\n]{0,80}", b in "[ -~\\n]{0,80}", c in "[ 0-9A-F:\\n]{0,120}", d in "[ -~\\n]{0,80}") {
            let _ = parse(answer(&a, &b, &c, &d).as_bytes());
        }
    }
}
