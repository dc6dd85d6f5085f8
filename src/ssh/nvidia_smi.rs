//! What a machine is asked about its GPUs, and how its answer is read.
//!
//! Pure text work: the login is `ssh/mod.rs`'s business and the verdict `domain::verify`'s. One command asks
//! everything, between marks of our own, because what comes back may begin with a banner, end too early or be
//! somebody else's shell. The rule for reading: a *report* only when every GPU's line was understood, *broken* only
//! when the machine says so itself, and *silent* for everything in between, since silence is no contradiction.

use crate::domain::ids::clip;
use crate::domain::verify::GpuReport;
use crate::ports::GpuAnswer;

/// What is run on the machine: works in any login shell that hands single-quoted text on to `sh`.
pub const COMMAND: &str = concat!(
    "sh -c 'PATH=\"$PATH:/usr/local/nvidia/bin:/usr/lib/wsl/lib\"; export PATH; LC_ALL=C; export LC_ALL; ",
    "echo \"--gpu-begin--\"; ",
    "nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader,nounits; code=$?; ",
    "echo \"--gpu-query $code--\"; ",
    "test \"$code\" = 0 && nvidia-smi; ",
    "echo \"--gpu-end--\"; exit \"$code\"'"
);

const BEGIN: &str = "--gpu-begin--";
const QUERY: &str = "--gpu-query ";
const END: &str = "--gpu-end--";

/// More GPUs than any machine has.
const MOST_GPUS: usize = 64;

/// How much of a machine's words is repeated, characters.
const WORDS: usize = 200;

/// Phrases by which `nvidia-smi` says that driver or GPU don't work, lower case.
const DRIVER_TROUBLE: [&str; 8] = [
    "failed to initialize nvml",
    "driver/library version mismatch",
    "couldn't communicate with the nvidia driver",
    "nvidia-smi has failed",
    "no devices were found",
    "unable to determine the device handle",
    "gpu is lost",
    "libnvidia-ml.so",
];

/// Reads the answer to [`COMMAND`]. `exit` is the exit status, `None` when none was seen. Never panics.
#[must_use]
pub fn parse(stdout: &[u8], stderr: &[u8], exit: Option<u32>) -> GpuAnswer {
    let stdout = lines(stdout);
    let stderr = lines(stderr);
    let Some(begin) = stdout.iter().position(|line| line.ends_with(BEGIN)) else {
        return without_marks(&stdout, &stderr, exit);
    };
    let after = &stdout[begin + 1..];
    let Some((query_end, (unfinished, code))) = after.iter().enumerate().find_map(|(at, line)| query_mark(line).map(|mark| (at, mark))) else {
        return GpuAnswer::Silent("the answer broke off before its end".to_owned());
    };
    let query = &after[..query_end];
    let plain = &after[query_end + 1..];
    let plain = &plain[..plain.iter().position(|line| line.ends_with(END)).unwrap_or(plain.len())];
    match code {
        0 if !unfinished.is_empty() => GpuAnswer::Silent(format!("a line broke off: {}", clip(unfinished, WORDS))),
        0 => read_rows(query, plain, &stderr),
        127 => GpuAnswer::Broken("there is no nvidia-smi on the machine".to_owned()),
        126 => GpuAnswer::Broken("nvidia-smi may not be run on the machine".to_owned()),
        _ => {
            let unfinished = [unfinished.to_owned()];
            let words = || query.iter().chain(&unfinished).chain(&stderr).filter(|line| !line.is_empty());
            trouble(words()).map_or_else(|| GpuAnswer::Silent(format!("nvidia-smi ended with {code}: {}", first_words(words()))), GpuAnswer::Broken)
        }
    }
}

/// An answer that does not even begin as asked for.
fn without_marks(stdout: &[String], stderr: &[String], exit: Option<u32>) -> GpuAnswer {
    let all = || stdout.iter().chain(stderr);
    if let Some(words) = trouble(all()) {
        return GpuAnswer::Broken(words);
    }
    let not_found = |line: &&String| line.contains("nvidia-smi") && (line.contains("not found") || line.contains("No such file"));
    if exit == Some(127) || all().any(|line| not_found(&line)) {
        return GpuAnswer::Broken("there is no nvidia-smi on the machine".to_owned());
    }
    match exit {
        None => GpuAnswer::Silent("the connection ended before an answer".to_owned()),
        Some(code) => GpuAnswer::Silent(format!("no readable answer (exit status {code}): {}", first_words(all()))),
    }
}

/// The rows of a query that `nvidia-smi` itself thinks went well.
fn read_rows(query: &[String], plain: &[String], stderr: &[String]) -> GpuAnswer {
    let mut gpus = Vec::new();
    let mut driver = None;
    for line in query {
        let mut fields = line.rsplitn(3, ',').map(str::trim);
        let (Some(version), Some(memory), Some(name)) = (fields.next(), fields.next(), fields.next()) else {
            continue; // a banner or a warning
        };
        if let Some(unknown) = bracketed(name) {
            let lost = unknown.to_ascii_lowercase();
            return if lost.contains("lost") || lost.contains("unknown error") || lost.contains("err") {
                GpuAnswer::Broken(format!("a GPU answers with [{}]", clip(unknown, WORDS)))
            } else {
                GpuAnswer::Silent("a GPU does not tell its name".to_owned())
            };
        }
        let Some(memory) = memory_mib(memory).or_else(|| table_memory(plain, gpus.len())) else {
            return GpuAnswer::Silent(format!("the memory of a GPU can't be read: {}", clip(line, WORDS)));
        };
        if name.is_empty() || gpus.len() >= MOST_GPUS {
            return GpuAnswer::Silent(format!("an answer that makes no sense: {}", clip(line, WORDS)));
        }
        gpus.push((clip(name, 100), memory));
        driver = driver.or_else(|| is_version(version).then(|| version.to_owned()));
    }
    if gpus.is_empty() {
        return trouble(query.iter().chain(stderr))
            .map_or_else(|| GpuAnswer::Silent(format!("no GPU in the answer: {}", first_words(query.iter().chain(stderr)))), GpuAnswer::Broken);
    }
    GpuAnswer::Report(GpuReport { gpus, driver, cuda: plain.iter().find_map(|line| cuda_version(line)) })
}

/// Lines without control characters and trailing blanks; whatever is no UTF-8 is replaced.
fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.split(['\n', '\r'])
        .map(|line| line.chars().filter(|c| !c.is_control() || *c == '\t').collect::<String>().trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

/// The exit status in the mark that ends the query's output, with what stands before the mark on its line.
fn query_mark(line: &str) -> Option<(&str, u32)> {
    let (before, after) = line.rsplit_once(QUERY)?;
    Some((before, after.strip_suffix("--")?.parse().ok()?))
}

/// The machine's own words for a driver or GPU that does not work.
fn trouble<'a>(lines: impl Iterator<Item = &'a String>) -> Option<String> {
    for line in lines {
        let lower = line.to_lowercase();
        if DRIVER_TROUBLE.iter().any(|phrase| lower.contains(phrase)) {
            return Some(clip(line, WORDS));
        }
    }
    None
}

fn first_words<'a>(mut lines: impl Iterator<Item = &'a String>) -> String {
    lines.next().map_or_else(|| "nothing was said".to_owned(), |line| clip(line, WORDS))
}

/// The inside of `[N/A]`, `[Unknown Error]` and the like; `ERR!` counts as one.
fn bracketed(field: &str) -> Option<&str> {
    if field == "ERR!" { Some(field) } else { field.strip_prefix('[')?.strip_suffix(']') }
}

/// `81559` or `81559 MiB`; nothing for `[N/A]`, zero and the absurd.
fn memory_mib(field: &str) -> Option<u32> {
    let digits = field.strip_suffix("MiB").unwrap_or(field).trim();
    digits.parse().ok().filter(|mib| (1..=16 * 1024 * 1024).contains(mib))
}

/// The total of the `at`-th `123MiB / 81559MiB` in the plain table. Process rows have no slash between two sizes.
fn table_memory(plain: &[String], at: usize) -> Option<u32> {
    plain
        .iter()
        .filter_map(|line| {
            let (before, after) = line.split_once("MiB /")?;
            before.ends_with(|c: char| c.is_ascii_digit()).then_some(())?;
            memory_mib(after.trim_start().split_once("MiB")?.0)
        })
        .nth(at)
}

fn is_version(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.contains('.') && text.chars().all(|c| c.is_ascii_digit() || c == '.')
}

/// The highest CUDA version in the header of plain `nvidia-smi`, as major × 100 + minor: `CUDA Version: 12.4` is 1204.
#[must_use]
pub fn cuda_version(line: &str) -> Option<u32> {
    let after = line.split_once("CUDA")?.1;
    let (label, version) = after.split_once(':')?;
    if !label.trim_end().ends_with("Version") {
        return None;
    }
    let version = version.trim_start();
    let version = &version[..version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len())];
    let (major, minor) = version.split_once('.')?;
    let (major, minor) = (major.parse::<u32>().ok()?, minor.split('.').next()?.parse::<u32>().ok()?);
    (major < 1_000 && minor < 100).then(|| major * 100 + minor)
}

/// One line of `nvidia-smi -L`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGpu {
    /// Its index on the machine.
    pub index: u32,
    /// Its name, at most 100 characters.
    pub name: String,
    /// Its UUID: `GPU-…`, at most 100 characters; empty where none is shown.
    pub uuid: String,
    /// Its MIG slices' names, in order.
    pub slices: Vec<String>,
}

/// Reads the output of `nvidia-smi -L`; lines that are neither a GPU nor a MIG slice are passed over.
#[must_use]
pub fn parse_list(stdout: &[u8]) -> Vec<ListedGpu> {
    let mut found: Vec<ListedGpu> = Vec::new();
    for line in lines(stdout) {
        if let Some((index, rest)) = line.strip_prefix("GPU ").and_then(|rest| rest.split_once(':'))
            && let Ok(index) = index.trim().parse()
            && found.len() < MOST_GPUS
        {
            let (name, uuid) = rest.split_once("(UUID:").map_or((rest, ""), |(name, uuid)| (name, uuid.trim_end_matches(')')));
            found.push(ListedGpu { index, name: clip(name.trim(), 100), uuid: clip(uuid.trim(), 100), slices: Vec::new() });
        } else if let (Some(slice), Some(gpu)) = (line.strip_prefix("MIG "), found.last_mut())
            && let Some((name, _)) = slice.split_once("Device")
            && gpu.slices.len() < MOST_GPUS
        {
            gpu.slices.push(clip(name.trim(), 100));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: &str = "Tue Feb  3 10:00:00 2026\n+---+\n\
        | NVIDIA-SMI 550.54.15    Driver Version: 550.54.15    CUDA Version: 12.4     |\n";

    fn answer(query: &str, code: u32, plain: &str) -> String {
        format!("{BEGIN}\n{query}{QUERY}{code}--\n{plain}{END}\n")
    }

    fn read(stdout: &str, stderr: &str, exit: u32) -> GpuAnswer {
        parse(stdout.as_bytes(), stderr.as_bytes(), Some(exit))
    }

    fn report(stdout: &str) -> GpuReport {
        match read(stdout, "", 0) {
            GpuAnswer::Report(report) => report,
            other => panic!("{other:?}"),
        }
    }

    fn is_broken(answer: &GpuAnswer, word: &str) -> bool {
        matches!(answer, GpuAnswer::Broken(text) if text.contains(word))
    }

    fn is_silent(answer: &GpuAnswer) -> bool {
        matches!(answer, GpuAnswer::Silent(_))
    }

    #[test]
    fn a_healthy_machine_is_reported_whole() {
        let text = answer("NVIDIA A100-SXM4-80GB, 81920, 550.54.15\nNVIDIA A100-SXM4-80GB, 81920, 550.54.15\n", 0, HEADER);
        let expected =
            GpuReport { gpus: vec![("NVIDIA A100-SXM4-80GB".to_owned(), 81_920); 2], driver: Some("550.54.15".to_owned()), cuda: Some(1204) };
        assert_eq!(report(&text), expected);
        assert_eq!(report(&text.replace('\n', "\r\n")), expected, "CRLF from a terminal");
        let banner = format!("Welcome!\n * Support: https://x, y, z\nNVIDIA H100, 81559, 1.2\nhave fun{text}bye\n");
        assert_eq!(report(&banner), expected, "what stands before our mark is no answer");
    }

    #[test]
    fn fields_that_are_not_there_do_not_spoil_the_rest() {
        let no_driver = report(&answer("NVIDIA L4, 23034, [N/A]\n", 0, "| CUDA Version: N/A |\n"));
        assert_eq!((no_driver.driver, no_driver.cuda), (None, None));
        let with_unit = report(&answer("NVIDIA L4, 23034 MiB, 570.1\n", 0, ""));
        assert_eq!(with_unit.gpus, [("NVIDIA L4".to_owned(), 23_034)]);
        let table = "|  0%   40C    P0    60W / 400W |      5MiB /  81920MiB |      0%      Default |\n";
        assert_eq!(report(&answer("NVIDIA A100, [N/A], 550.1\n", 0, table)).gpus[0].1, 81_920, "the table tells what the query does not");
        let comma = report(&answer("NVIDIA Odd, Name, 1000, 1.2\n", 0, ""));
        assert_eq!(comma.gpus[0].0, "NVIDIA Odd, Name");
    }

    #[test]
    fn what_is_not_told_is_silence_not_contradiction() {
        for query in [
            "NVIDIA GB10, [N/A], 580.1\n",
            "NVIDIA A100, [Insufficient Permissions], 550.1\n",
            "NVIDIA L4, 23034, 550.1\nNVIDIA L4, 230",
            "NVIDIA L4, 23034, 550.1\nNVIDIA L4, x, 550.1\n",
            "[N/A], 23034, 550.1\n",
            ", 23034, 550.1\n",
            "",
            "warning: something\n",
            "NVIDIA L4, 0, 550.1\n",
            "NVIDIA L4, 99999999999, 550.1\n",
        ] {
            let read = read(&answer(query, 0, ""), "", 0);
            assert!(is_silent(&read), "{query:?}: {read:?}");
        }
        let many = "NVIDIA L4, 23034, 550.1\n".repeat(65);
        assert!(is_silent(&read(&answer(&many, 0, ""), "", 0)));
    }

    #[test]
    fn a_missing_program_is_broken() {
        assert!(is_broken(&read(&answer("", 127, ""), "sh: 1: nvidia-smi: not found\n", 127), "no nvidia-smi"));
        assert!(is_broken(&read(&answer("", 126, ""), "sh: 1: nvidia-smi: Permission denied\n", 126), "may not be run"));
        assert!(is_broken(&read("", "bash: nvidia-smi: command not found\n", 127), "no nvidia-smi"));
        assert!(is_broken(&read("", "sh: nvidia-smi: No such file or directory\n", 1), "no nvidia-smi"));
    }

    #[test]
    fn a_driver_that_does_not_work_is_broken_in_the_machines_words() {
        for (words, code) in [
            ("Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.54", 18),
            (
                "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running.",
                9,
            ),
            ("No devices were found", 6),
            ("Unable to determine the device handle for GPU 0000:01:00.0: GPU is lost.  Reboot the system to recover this GPU", 15),
            ("Failed to initialize NVML: Unknown Error", 255),
            ("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.", 12),
        ] {
            let first = words.lines().next().unwrap();
            assert!(is_broken(&read(&answer(&format!("{words}\n"), code, ""), "", code), &first[..20]), "{words}");
            assert!(is_broken(&read(&answer("", code, ""), words, code), &first[..20]), "on stderr: {words}");
            assert!(is_broken(&read(words, "", code), &first[..20]), "without marks: {words}");
        }
        assert!(is_broken(&read(&answer("No devices were found\n", 0, ""), "", 0), "No devices"), "some versions exit with 0");
        assert!(is_broken(&read(&answer("[GPU is lost], [GPU is lost], 550.1\n", 0, ""), "", 0), "lost"));
        assert!(is_broken(&read(&answer("ERR!, ERR!, 550.1\n", 0, ""), "", 0), "ERR!"));
    }

    #[test]
    fn an_answer_cut_off_or_not_understood_is_silent() {
        let whole = answer("NVIDIA L4, 23034, 550.1\nNVIDIA L4, 23034, 550.1\n", 0, HEADER);
        let marked = whole.find("--\nTue").unwrap() + 2;
        for end in 0..marked {
            assert!(is_silent(&read(&whole[..end], "", 0)), "{:?}", &whole[..end]);
        }
        for end in marked..whole.len() {
            assert_eq!(report(&whole[..end]).gpus.len(), 2, "the query was complete: {:?}", &whole[..end]);
        }
        assert!(is_silent(&parse(b"", b"", None)));
        assert!(is_silent(&read("Please login as the user \"ubuntu\" rather than the user \"root\".\n", "", 142)));
        assert!(is_silent(&read(&answer("Segmentation fault\n", 139, ""), "", 139)));
        assert!(is_silent(&parse(&[0xff, 0xfe, 0, 1, 2], &[0x80], Some(0))));
    }

    #[test]
    fn the_machines_words_are_capped_and_clean() {
        let GpuAnswer::Broken(text) = read(&format!("Failed to initialize NVML: \u{1b}[31m{}", "x".repeat(10_000)), "", 255) else {
            panic!("expected broken");
        };
        assert!(text.chars().count() <= WORDS + 1 && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn cuda_is_found_in_old_and_new_headers() {
        assert_eq!(cuda_version("| NVIDIA-SMI 550.54.15   Driver Version: 550.54.15   CUDA Version: 12.4  |"), Some(1204));
        assert_eq!(cuda_version("| NVIDIA-SMI 590.44   KMD Version: 590.44   CUDA UMD Version: 13.1 |"), Some(1301));
        assert_eq!(cuda_version("| CUDA Version: ERR! |"), None);
        assert_eq!(cuda_version("| CUDA Version: 99999999999.1 |"), None);
        assert_eq!(cuda_version("| 0 NVIDIA CUDA thing: 12.4 |"), None);
    }

    #[test]
    fn the_list_names_gpus_and_their_slices() {
        let text = "GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f)\r\n\
            \x20 MIG 1g.10gb     Device  0: (UUID: MIG-1)\n  MIG 2g.20gb     Device  1: (UUID: MIG-2)\n\
            warning: noise\nGPU 1: Tesla T4\n";
        let list = parse_list(text.as_bytes());
        assert_eq!(list.len(), 2);
        assert_eq!((list[0].index, list[0].name.as_str()), (0, "NVIDIA A100-SXM4-80GB"));
        assert_eq!(list[0].uuid, "GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f");
        assert_eq!(list[0].slices, ["1g.10gb", "2g.20gb"]);
        assert_eq!((list[1].name.as_str(), list[1].uuid.as_str()), ("Tesla T4", ""));
        assert!(parse_list(b"GPU x: y\nMIG 1g Device\nNo devices were found\n").is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(out in proptest::collection::vec(any::<u8>(), 0..400), err in proptest::collection::vec(any::<u8>(), 0..100), exit in any::<Option<u32>>()) {
            let _ = parse(&out, &err, exit);
            let _ = parse_list(&out);
        }

        #[test]
        fn no_lines_between_our_marks_make_it_panic(rows in "[ -~\\n\\[\\],é]{0,200}", plain in "[ -~\\nMiB/0-9:CUDA]{0,200}", code in any::<u32>()) {
            let _ = parse(answer(&rows, code, &plain).as_bytes(), b"", Some(code));
            let _ = parse(answer(&rows, 0, &plain).as_bytes(), rows.as_bytes(), None);
            let _ = parse_list(rows.as_bytes());
            let _ = cuda_version(&plain);
        }

        #[test]
        fn a_report_has_as_many_gpus_as_rows(count in 1_usize..16, memory in 1_u32..200_000) {
            let rows = format!("NVIDIA X, {memory}, 1.2\n").repeat(count);
            prop_assert_eq!(report(&answer(&rows, 0, "")).gpus, vec![("NVIDIA X".to_owned(), memory); count]);
        }
    }
}
