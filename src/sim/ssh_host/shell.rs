//! What simulated machines answer: the few commands that people and programs use to look at a GPU machine, and just
//! enough of a shell to run them in the ways they are written.
//!
//! Understood: commands joined by `;`, `&&`, `||` and new lines, quotes, `$name` and `$?`, assignments, `export`,
//! `exit`, `test a = b`, `sh -c '…'`, and redirections (which only lose output). Not understood, and not meant to
//! be: pipes, loops, substitutions, files. Nothing of the host is touched: what `grep` finds in `/proc` is made up too.

use super::ExecReply;
use crate::sim::Workload;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How deep `sh -c` may nest.
const DEEPEST: u32 = 4;

/// The most commands of one script.
const MOST_COMMANDS: usize = 200;

/// What every machine has left on its disk, GB.
pub const FREE_DISK_GB: u32 = 64;

/// In what state a machine's GPUs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuState<'a> {
    /// They answer.
    Healthy {
        /// Each GPU's name and memory in MiB.
        gpus: &'a [(String, u32)],
        /// The driver's version.
        driver: &'a str,
        /// The highest CUDA version, `12.4`.
        cuda: &'a str,
        /// Whose GPUs they are: other machines' have other UUIDs.
        machine: u64,
    },
    /// `nvidia-smi` is there and fails with these words (on standard output, as the real one does) and exit status.
    Failing {
        /// Its words, without newline at the end.
        words: &'a str,
        /// Its exit status: 9 for a driver that is not loaded, 18 for a version mismatch.
        exit: u32,
    },
    /// There is no `nvidia-smi`.
    Absent,
}

/// What a healthy machine answers to a command.
#[must_use]
pub fn believable_nvidia_smi(command: &str, gpus: &[(String, u32)], driver: &str, cuda: &str) -> ExecReply {
    believable_machine(command, &GpuState::Healthy { gpus, driver, cuda, machine: 0 })
}

/// What a machine with such GPUs, that nobody uses, answers to a command.
#[must_use]
pub fn believable_machine(command: &str, gpu: &GpuState<'_>) -> ExecReply {
    machine_at_work(command, gpu, Workload::Idle)
}

/// What a machine with such GPUs, whose user does such work, answers to a command.
#[must_use]
pub fn machine_at_work(command: &str, gpu: &GpuState<'_>, workload: Workload) -> ExecReply {
    let mut shell = Shell { gpu, workload, variables: BTreeMap::new(), reply: ExecReply::default(), done: false, commands: 0 };
    shell.variables.insert("HOME".to_owned(), "/root".to_owned());
    shell.variables.insert("USER".to_owned(), "root".to_owned());
    shell.variables.insert("SSH_CONNECTION".to_owned(), "198.51.100.7 51022 10.0.0.5 22".to_owned());
    shell.variables.insert("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    shell.script(command, 0);
    shell.reply
}

struct Shell<'a> {
    gpu: &'a GpuState<'a>,
    workload: Workload,
    variables: BTreeMap<String, String>,
    reply: ExecReply,
    done: bool,
    commands: usize,
}

/// A piece of a script: a word, or what stands between commands.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// A word; quoted parts were taken as they are, `$` outside single quotes marked by [`EXPAND`].
    Word(String),
    Always,
    And,
    Or,
}

/// What `df -Pk /` shows.
fn disk_table(free_gb: u32) -> String {
    let free = u64::from(free_gb) * 1_000_000_000 / 1024 + 1;
    format!("Filesystem     1024-blocks      Used Available Capacity Mounted on\noverlay {:>19} {:>9} {free:>9}      20% /\n", free * 5 / 4, free / 4)
}

/// Marks a `$` that is to be expanded; no shell text contains it.
const EXPAND: char = '\u{e000}';

impl Shell<'_> {
    fn script(&mut self, text: &str, depth: u32) {
        let Some(tokens) = tokens(text) else {
            return self.fail("sh: 1: Syntax error: Unterminated quoted string\n", 2);
        };
        let mut runs = true;
        let mut words: Vec<String> = Vec::new();
        for token in tokens.into_iter().chain([Token::Always]) {
            let joint = match token {
                Token::Word(word) => {
                    words.push(word);
                    continue;
                }
                joint => joint,
            };
            let command = std::mem::take(&mut words);
            if runs && !command.is_empty() {
                self.commands += 1;
                if self.commands > MOST_COMMANDS {
                    return self.fail("sh: too many commands\n", 2);
                }
                let command: Vec<String> = command.iter().map(|word| self.expand(word)).collect();
                self.command(&command, depth);
                if self.done {
                    return;
                }
            }
            // A command that was passed over leaves the last status as it is, as in a real shell.
            runs = match joint {
                Token::And => self.reply.exit == 0,
                Token::Or => self.reply.exit != 0,
                Token::Always | Token::Word(_) => true,
            };
        }
    }

    fn expand(&self, word: &str) -> String {
        let mut parts = word.split(EXPAND);
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            if let Some(rest) = part.strip_prefix('?') {
                let _ = write!(out, "{}{rest}", self.reply.exit);
                continue;
            }
            let (name, rest) = match part.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                Some(braced) => braced,
                None => part.split_at(part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len())),
            };
            if name.is_empty() {
                out.push('$');
            } else {
                out.push_str(self.variables.get(name).map_or("", String::as_str));
            }
            out.push_str(rest);
        }
        out
    }

    fn say(&mut self, text: &str) {
        self.reply.stdout.push_str(text);
        self.reply.exit = 0;
    }

    fn fail(&mut self, text: &str, exit: u32) {
        self.reply.stderr.push_str(text);
        self.reply.exit = exit;
    }

    /// Runs one command with its redirections.
    fn command(&mut self, words: &[String], depth: u32) {
        let (mut no_out, mut no_err, mut merge) = (false, false, false);
        let mut plain = Vec::new();
        for word in words {
            match word.as_str() {
                "2>&1" => merge = true,
                ">/dev/null" | "1>/dev/null" => no_out = true,
                "2>/dev/null" => no_err = true,
                "&>/dev/null" => (no_out, no_err) = (true, true),
                "</dev/null" => {}
                _ => plain.push(word.as_str()),
            }
        }
        let (out_before, err_before) = (self.reply.stdout.len(), self.reply.stderr.len());
        self.simple(&plain, depth);
        if no_out {
            self.reply.stdout.truncate(out_before);
        }
        if merge && !no_out {
            let said = self.reply.stderr.split_off(err_before);
            self.reply.stdout.push_str(&said);
        }
        if no_err || (merge && no_out) {
            self.reply.stderr.truncate(err_before);
        }
    }

    fn simple(&mut self, words: &[&str], depth: u32) {
        let assignments = words.iter().take_while(|word| assignment(word).is_some()).count();
        let (set, words) = words.split_at(assignments);
        if words.is_empty() {
            for (name, value) in set.iter().filter_map(|word| assignment(word)) {
                self.variables.insert(name.to_owned(), value.to_owned());
            }
            return self.say("");
        }
        let arguments = &words[1..];
        let program = words[0].rsplit('/').next().unwrap_or(words[0]);
        match program {
            "true" | ":" | "sleep" | "cd" | "set" | "sync" => self.say(""),
            "false" => self.fail("", 1),
            "exit" | "logout" => {
                if let Some(code) = arguments.first() {
                    self.reply.exit = code.parse::<u8>().map_or(2, u32::from);
                }
                self.done = true;
            }
            "export" => {
                for (name, value) in arguments.iter().filter_map(|word| assignment(word)) {
                    self.variables.insert(name.to_owned(), value.to_owned());
                }
                self.say("");
            }
            "echo" => match arguments {
                ["-n", rest @ ..] => self.say(&rest.join(" ")),
                all => self.say(&format!("{}\n", all.join(" "))),
            },
            "printf" => self.say(&arguments.first().copied().unwrap_or_default().replace("\\n", "\n")),
            "test" | "[" => {
                let holds = match arguments.strip_suffix(&["]"]).unwrap_or(arguments) {
                    [left, "=" | "==" | "-eq", right] => left == right,
                    [left, "!=" | "-ne", right] => left != right,
                    ["-n", text] | [text] => !text.is_empty(),
                    ["-z", text] => text.is_empty(),
                    _ => false,
                };
                self.reply.exit = u32::from(!holds);
            }
            "sh" | "bash" | "dash" => match arguments {
                [flags, script, ..] if flags.starts_with('-') && flags.ends_with('c') && depth < DEEPEST => {
                    self.script(script, depth + 1);
                    self.done = false; // `exit` ends the inner shell only
                }
                _ => self.say(""),
            },
            "hostname" => self.say("machine\n"),
            "whoami" => self.say("root\n"),
            "id" => self.say("uid=0(root) gid=0(root) groups=0(root)\n"),
            "pwd" => self.say("/root\n"),
            "uptime" => self.say(" 10:00:00 up 12 min,  0 users,  load average: 0.08, 0.03, 0.01\n"),
            "nproc" => self.say("16\n"),
            "uname" => match arguments {
                [] | ["-s"] => self.say("Linux\n"),
                ["-m"] => self.say("x86_64\n"),
                ["-r"] => self.say("6.8.0-45-generic\n"),
                ["-n"] => self.say("machine\n"),
                _ => self.say("Linux machine 6.8.0-45-generic #45-Ubuntu SMP x86_64 GNU/Linux\n"),
            },
            "nvidia-smi" => self.nvidia_smi(arguments),
            "grep" => self.grep(arguments),
            "df" => self.say(&disk_table(FREE_DISK_GB)),
            other => self.fail(&format!("sh: 1: {other}: not found (command not found)\n"), 127),
        }
    }

    /// Knows one file: the table of connections, with the login that asks and those of the machine's users.
    fn grep(&mut self, arguments: &[&str]) {
        let Some(users) = self.workload.connections().filter(|_| arguments.contains(&"/proc/net/tcp")) else {
            self.reply.exit = 1;
            return;
        };
        for number in 0..=users {
            self.say(&format!("{number:>4}: 0500000A:0016 076433C6:{:04X} 01 \n", 51_022 + number));
        }
    }

    fn nvidia_smi(&mut self, arguments: &[&str]) {
        match *self.gpu {
            GpuState::Absent => self.fail("sh: 1: nvidia-smi: not found (command not found)\n", 127),
            GpuState::Failing { words, exit } => {
                self.say(&format!("{words}\n"));
                self.reply.exit = exit;
            }
            GpuState::Healthy { gpus, driver, cuda, machine } => {
                let (said, exit) = nvidia_smi(arguments, gpus, self.workload, (driver, cuda), machine);
                self.say(&said);
                self.reply.exit = exit;
            }
        }
    }
}

fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    (begins && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')).then_some((name, value))
}

/// Takes a script apart; nothing when a quote is not closed.
fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut found = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        inner => word.push(inner),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '$' => word.push(EXPAND),
                        '\\' if chars.peek().is_some_and(|next| "\"\\$`".contains(*next)) => word.extend(chars.next()),
                        inner => word.push(inner),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            '$' => word.get_or_insert_default().push(EXPAND),
            '&' if chars.peek() != Some(&'&') && word.as_deref().is_some_and(|word| word.ends_with('>')) => {
                word.get_or_insert_default().push(c);
            }
            '&' if chars.peek() == Some(&'>') && word.is_none() => word = Some("&".to_owned()),
            ';' | '\n' | '&' | '|' => {
                found.extend(word.take().map(Token::Word));
                found.push(match (c, chars.next_if_eq(&c)) {
                    ('&', Some(_)) => Token::And,
                    ('|', Some(_)) => Token::Or,
                    _ => Token::Always,
                });
            }
            c if c.is_whitespace() => {
                // `> /dev/null` is `>/dev/null`.
                if !word.as_deref().is_some_and(|word| word.ends_with(['>', '<'])) {
                    found.extend(word.take().map(Token::Word));
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    found.extend(word.take().map(Token::Word));
    Some(found)
}

/// What the real program prints for the arguments that matter, and its exit status.
fn nvidia_smi(arguments: &[&str], gpus: &[(String, u32)], workload: Workload, (driver, cuda): (&str, &str), machine: u64) -> (String, u32) {
    if gpus.is_empty() {
        return ("No devices were found\n".to_owned(), 6);
    }
    if let Some(columns) = arguments.iter().find_map(|argument| argument.strip_prefix("--query-gpu=")) {
        let format = arguments.iter().find_map(|argument| argument.strip_prefix("--format=")).unwrap_or_default();
        return query(columns, format, gpus, workload, driver, machine);
    }
    if arguments.iter().any(|argument| argument.starts_with("--query-compute-apps=pid")) {
        return ((0..workload.gpu_processes()).map(|number| format!("{}\n", 4_711 + number)).collect(), 0);
    }
    match arguments {
        [] => (table(gpus, workload, driver, cuda), 0),
        ["-L" | "--list-gpus"] => {
            let line = |(index, (name, _)): (usize, &(String, u32))| format!("GPU {index}: {name} (UUID: {})\n", uuid(machine, index));
            (gpus.iter().enumerate().map(line).collect(), 0)
        }
        [other, ..] => (format!("Invalid combination of input arguments. Please run 'nvidia-smi -h' for help. ({other})\n"), 2),
    }
}

fn query(columns: &str, format: &str, gpus: &[(String, u32)], workload: Workload, driver: &str, machine: u64) -> (String, u32) {
    let options: Vec<&str> = format.split(',').collect();
    if !options.contains(&"csv") {
        return ("\"--format=\" switch is missing. Please run 'nvidia-smi -h' for help.\n".to_owned(), 2);
    }
    let (header, units) = (!options.contains(&"noheader"), !options.contains(&"nounits"));
    let columns: Vec<&str> = columns.split(',').map(str::trim).collect();
    let mut out = String::new();
    let mut titles = Vec::new();
    for column in &columns {
        let Some(unit) = unit_of(column) else {
            return (format!("Field \"{column}\" is not a valid field to query.\n\n"), 2);
        };
        titles.push(if unit.is_empty() || !units { (*column).to_owned() } else { format!("{column} [{unit}]") });
    }
    if header {
        out.push_str(&titles.join(", "));
        out.push('\n');
    }
    for (index, (name, memory)) in gpus.iter().enumerate() {
        let cells: Vec<String> = columns
            .iter()
            .map(|column| {
                let cell = match *column {
                    "name" | "gpu_name" => name.clone(),
                    "memory.total" => memory.to_string(),
                    "memory.free" => memory.saturating_sub(workload.gpu_memory_mib()).to_string(),
                    "memory.used" => workload.gpu_memory_mib().to_string(),
                    "driver_version" => driver.to_owned(),
                    "uuid" | "gpu_uuid" => uuid(machine, index),
                    "index" => index.to_string(),
                    "count" => gpus.len().to_string(),
                    "temperature.gpu" => (34 + index % 8).to_string(),
                    "compute_cap" => compute_capability(name).to_owned(),
                    "utilization.gpu" => workload.gpu_percent().to_string(),
                    _ => "0".to_owned(),
                };
                match unit_of(column) {
                    Some(unit) if units && !unit.is_empty() => format!("{cell} {unit}"),
                    _ => cell,
                }
            })
            .collect();
        out.push_str(&cells.join(", "));
        out.push('\n');
    }
    (out, 0)
}

/// The unit of a column, empty for those without; nothing for columns that are not known.
fn unit_of(column: &str) -> Option<&'static str> {
    match column {
        "name" | "gpu_name" | "driver_version" | "uuid" | "gpu_uuid" | "index" | "count" | "temperature.gpu" | "compute_cap" => Some(""),
        "memory.total" | "memory.free" | "memory.used" => Some("MiB"),
        "utilization.gpu" | "utilization.memory" => Some("%"),
        _ => None,
    }
}

fn compute_capability(name: &str) -> &'static str {
    const KNOWN: [(&str, &str); 12] = [
        ("B200", "10.0"),
        ("RTX 50", "12.0"),
        ("RTX PRO 6000", "12.0"),
        ("H100", "9.0"),
        ("H200", "9.0"),
        ("RTX 40", "8.9"),
        ("L40", "8.9"),
        ("L4", "8.9"),
        ("Ada", "8.9"),
        ("A100", "8.0"),
        ("T4", "7.5"),
        ("V100", "7.0"),
    ];
    KNOWN.iter().find(|(part, _)| name.contains(part)).map_or("8.6", |(_, capability)| capability)
}

/// An UUID that looks like one: the same for the same GPU of the same machine, and for no other.
fn uuid(machine: u64, index: usize) -> String {
    // Two steps of a mixing generator, so that neighbours look nothing alike.
    let mix = |n: u64| {
        let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        n ^ (n >> 31)
    };
    let index = u64::try_from(index).unwrap_or(u64::MAX);
    let high = mix(machine.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(index).wrapping_add(1));
    let low = mix(high ^ machine);
    format!("GPU-{:08x}-{:04x}-4{:03x}-9{:03x}-{:012x}", high >> 32, high >> 16 & 0xffff, high & 0xfff, low >> 48 & 0xfff, low & 0xffff_ffff_ffff)
}

fn table(gpus: &[(String, u32)], workload: Workload, driver: &str, cuda: &str) -> String {
    let rule = format!("+{}+\n", "-".repeat(89));
    let mut out = format!("Tue Feb  3 10:00:00 2026       \n{rule}");
    let _ = writeln!(out, "| NVIDIA-SMI {driver:<22} Driver Version: {driver:<14} CUDA Version: {cuda:<8} |");
    out.push_str(&rule);
    let (used, percent) = (workload.gpu_memory_mib(), workload.gpu_percent());
    for (index, (name, memory)) in gpus.iter().enumerate() {
        let _ = writeln!(out, "| {index:>3}  {name:<30} On  | 00000000:{:02X}:00.0 Off |                  Off |", index + 1);
        let _ = writeln!(
            out,
            "| 30%  {:>3}C    P8              20W / 450W | {used:>7}MiB / {memory:>6}MiB | {percent:>6}%      Default |",
            34 + index % 8
        );
        out.push_str(&rule);
    }
    out.push_str("| Processes:                                                                              |\n");
    match workload.gpu_processes() {
        0 => out.push_str("|  No running processes found                                                             |\n"),
        _ => {
            let _ = writeln!(out, "|    0   N/A  N/A            4711      C   python3                              {used:>6}MiB |");
        }
    }
    out.push_str(&rule);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<(String, u32)> {
        vec![("NVIDIA GeForce RTX 4090".to_owned(), 24_564); 2]
    }

    fn ask(command: &str) -> ExecReply {
        believable_nvidia_smi(command, &two(), "550.54.15", "12.4")
    }

    #[test]
    fn it_lists_and_queries_like_the_real_one() {
        let list = ask("nvidia-smi -L").stdout;
        assert_eq!(list.lines().count(), 2);
        assert!(list.starts_with("GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-"), "{list}");
        let all: std::collections::BTreeSet<String> = (0..50).flat_map(|machine| (0..8).map(move |index| uuid(machine, index))).collect();
        assert_eq!(all.len(), 400, "no two GPUs have the same");
        assert!(all.iter().all(|uuid| uuid.len() == 40), "{all:?}");
        assert_eq!(
            ask("nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader,nounits").stdout,
            "NVIDIA GeForce RTX 4090, 24564, 550.54.15\n".repeat(2)
        );
        assert_eq!(
            ask("nvidia-smi --query-gpu=index,memory.total,utilization.gpu,temperature.gpu,compute_cap --format=csv").stdout,
            "index, memory.total [MiB], utilization.gpu [%], temperature.gpu, compute_cap\n\
             0, 24564 MiB, 0 %, 34, 8.9\n1, 24564 MiB, 0 %, 35, 8.9\n"
        );
        assert!(ask("nvidia-smi").stdout.contains("CUDA Version: 12.4"));
        assert!(ask("nvidia-smi").stdout.contains("4MiB /  24564MiB"));
        assert_eq!(ask("nvidia-smi --query-gpu=nonsense --format=csv").exit, 2);
        assert_eq!(ask("nvidia-smi --frob").exit, 2);
        assert_eq!(believable_nvidia_smi("nvidia-smi", &[], "1.2", "12.4").stdout, "No devices were found\n");
    }

    #[test]
    fn it_runs_little_scripts() {
        for (script, out, exit) in [
            ("true", "", 0),
            ("echo hello   'big  world' \"$USER\" '$USER' $", "hello big  world root $USER $\n", 0),
            ("false && echo a || echo b", "b\n", 0),
            ("true || echo a && echo b", "b\n", 0),
            ("false; echo $?", "1\n", 0),
            ("x=5; y=\"$x${x}a\"; echo $y-$none-", "55a--\n", 0),
            ("A=1 hostname", "machine\n", 0),
            ("export Z=9; echo $Z\necho ok", "9\nok\n", 0),
            ("sh -c 'echo in; exit 3'; echo out $?", "in\nout 3\n", 0),
            ("bash -lc \"echo \\\"quoted\\\"\"", "quoted\n", 0),
            ("exit 7; echo never", "", 7),
            ("test a = b; echo $?; [ 1 -eq 1 ] && echo yes", "1\nyes\n", 0),
            ("echo gone >/dev/null; echo kept 2>&1", "kept\n", 0),
            ("frob 2>&1 && echo no", "sh: 1: frob: not found (command not found)\n", 127),
            ("frob > /dev/null 2>&1", "", 127),
            ("/usr/bin/uname -m", "x86_64\n", 0),
            ("", "", 0),
            (";;  ;", "", 0),
        ] {
            let reply = ask(script);
            assert_eq!((reply.stdout.as_str(), reply.exit, reply.stderr.as_str()), (out, exit, ""), "{script}");
        }
    }

    #[test]
    fn what_it_does_not_know_it_says_as_a_shell_would() {
        let unknown = ask("frobnicate --now");
        assert!(unknown.exit == 127 && unknown.stderr.contains("frobnicate") && unknown.stderr.contains("command not found"));
        assert_eq!(ask("echo 'open").exit, 2);
        assert_eq!(ask(&"true;".repeat(10_000)).exit, 2);
        let mut nested = "echo deep".to_owned();
        for _ in 0..20 {
            nested = format!("sh -c \"{}\"", nested.replace('\\', "\\\\").replace('"', "\\\""));
            if nested.len() > 100_000 {
                break;
            }
        }
        let _ = ask(&nested);
    }

    #[test]
    fn a_machine_at_work_looks_like_one() {
        let gpus = two();
        let healthy = GpuState::Healthy { gpus: &gpus, driver: "550.54.15", cuda: "12.4", machine: 1 };
        let ask = |command: &str, workload| machine_at_work(command, &healthy, workload).stdout;
        let used = "nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader,nounits";
        assert_eq!(ask(used, Workload::Busy), "97, 6002\n".repeat(2));
        assert_eq!(ask(used, Workload::LoggedIn), "0, 4\n".repeat(2));
        assert!(ask("nvidia-smi", Workload::Busy).contains("6002MiB /  24564MiB |     97%"));
        let apps = "nvidia-smi --query-compute-apps=pid --format=csv,noheader,nounits";
        assert_eq!((ask(apps, Workload::Busy).as_str(), ask(apps, Workload::Idle).as_str()), ("4711\n", ""));
        let connections = "grep -ho anything /proc/net/tcp /proc/net/tcp6";
        let lines = |workload| ask(connections, workload).lines().count();
        assert_eq!((lines(Workload::Idle), lines(Workload::LoggedIn), lines(Workload::Hidden)), (1, 2, 0));
    }

    #[test]
    fn sick_machines_answer_as_sick_machines_do() {
        let failing = GpuState::Failing { words: "Failed to initialize NVML: Driver/library version mismatch", exit: 18 };
        let reply = believable_machine("nvidia-smi -L", &failing);
        assert_eq!((reply.exit, reply.stdout.as_str()), (18, "Failed to initialize NVML: Driver/library version mismatch\n"));
        assert_eq!(believable_machine("nvidia-smi", &GpuState::Absent).exit, 127);
        assert_eq!(believable_machine("echo ok", &GpuState::Absent).stdout, "ok\n");
    }
}
