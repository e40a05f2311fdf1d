//! The most memory that this process has had.

/// The largest resident set of this process so far, in MiB: `VmHWM` of Linux, which counts as `getrusage`'s `ru_maxrss` does.
/// `None` where the system does not say.
#[must_use]
pub(crate) fn peak_memory_mib() -> Option<f64> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read() {
        let status = "Name:\tnin\nVmPeak:\t  900000 kB\nVmHWM:\t  204800 kB\nVmRSS:\t  100000 kB\n";
        assert_eq!(parse(status), Some(200.0));
        assert_eq!(parse("Name:\tnin\n"), None);
        assert_eq!(parse("VmHWM:\tmuch\n"), None);
    }
}
