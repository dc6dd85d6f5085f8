//! How much disk space a machine has left, asked by one command and read from its answer. Pure text work.

/// What is run on the machine: the portable form, one line for each file system, in units of 1024 bytes.
pub(super) const COMMAND: &str = "df -Pk /";

/// More than any machine has, GB.
const MOST: u64 = 1_000_000;

/// Free space, GB (10⁹ bytes, rounded down); `None` = the answer is not understood. Never panics.
pub(super) fn parse(stdout: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(stdout);
    // A banner may stand before it; the file system's name may have spaces, what follows it not.
    let line = text.lines().map(str::trim).rev().find(|line| line.ends_with(" /"))?;
    let available: u64 = line.split_whitespace().rev().nth(2)?.parse().ok()?;
    let gb = available.checked_mul(1024)? / 1_000_000_000;
    u32::try_from(gb).ok().filter(|_| gb <= MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_is_read_from_the_line_of_the_root() {
        let table =
            "Welcome!\nFilesystem     1024-blocks     Used Available Capacity Mounted on\noverlay          104857600 41943040  62914560      40% /\n";
        assert_eq!(parse(table.as_bytes()), Some(64));
        assert_eq!(parse(b"a name with spaces 2000000 1000000 1000000 50% /\r\n"), Some(1));
        for bad in [
            "",
            "df: /: No such file or directory\n",
            "overlay 1 2 x 40% /\n",
            "overlay 1 2 -5 40% /\n",
            "/ /\n",
            "o 1 1 99999999999999999999 1% /\n",
            "o 1 1 9999999999999999 1% /\n",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
