//! What the kernel says about this process, for `/metrics`: `/proc/self`, as in proc(5). Where there is none (another
//! operating system), nothing is said.
//! Elsewhere: how it is printed (`metrics.rs`).

/// Each figure is missing if the kernel doesn't tell.
#[derive(Debug, Default)]
pub(super) struct Usage {
    pub resident_bytes: Option<u64>,
    pub cpu_seconds: Option<f64>,
    pub open_files: Option<u64>,
    pub open_files_limit: Option<u64>,
}

/// Linux gives processor time to programs in hundredths of a second on every architecture (`USER_HZ`).
const CLOCK_TICKS_PER_SECOND: f64 = 100.0;

pub(super) fn usage() -> Usage {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}"));
    Usage {
        resident_bytes: read("status").ok().and_then(|text| resident(&text)),
        cpu_seconds: read("stat").ok().and_then(|text| cpu(&text)),
        open_files: std::fs::read_dir("/proc/self/fd")
            .ok()
            .map(|entries| entries.count() as u64),
        open_files_limit: read("limits").ok().and_then(|text| open_files(&text)),
    }
}

/// From `status`, which knows no page size.
fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Fields 14 and 15 of `stat`; the second is the program's name in parentheses and may hold blanks.
fn cpu(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / CLOCK_TICKS_PER_SECOND)
}

/// The soft limit.
fn open_files(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        assert_eq!(
            resident("VmPeak:\t 9 kB\nVmRSS:\t    2048 kB\n"),
            Some(2_097_152)
        );
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 5 0 0 0 250 50 0 0 20 0 5 0 100 1 1";
        assert_eq!(cpu(stat), Some(3.0));
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files  1024  524288  files\n";
        assert_eq!(open_files(limits), Some(1024));
        assert_eq!(
            open_files("Max open files  unlimited  unlimited  files"),
            None
        );
    }

    #[test]
    fn nonsense_gives_nothing() {
        for text in ["", "VmRSS: lots", "1 (x", "1 (x) S 1 2"] {
            assert_eq!(
                (resident(text), cpu(text), open_files(text)),
                (None, None, None)
            );
        }
    }
}
