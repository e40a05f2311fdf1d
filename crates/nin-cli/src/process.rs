//! What the system says of this process: Linux in `/proc/self/status`, others nothing.

/// The largest resident set of this process so far, in MiB: `VmHWM`, which counts as `getrusage`'s `ru_maxrss` does.
#[must_use]
pub(crate) fn peak_memory_mib() -> Option<f64> {
    mebibytes(&status()?)
}

/// A bit for each signal that is ignored, from that of signal 1 on: `SigIgn`. Where nothing is said, as on macOS, no signal
/// counts as ignored: without unsafe code a program cannot ask.
#[cfg(unix)]
pub(crate) fn ignored_signals() -> u64 {
    let mask = status().and_then(|status| u64::from_str_radix(field(&status, "SigIgn:")?, 16).ok());
    mask.unwrap_or(0)
}

fn status() -> Option<String> {
    std::fs::read_to_string("/proc/self/status").ok()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn mebibytes(status: &str) -> Option<f64> {
    let kib: f64 = field(status, "VmHWM:")?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read() {
        let status = "Name:\tnin\nVmPeak:\t  900000 kB\nVmHWM:\t  204800 kB\nVmRSS:\t  100000 kB\n";
        assert_eq!(mebibytes(status), Some(200.0));
        assert_eq!(mebibytes("Name:\tnin\n"), None);
        assert_eq!(mebibytes("VmHWM:\tmuch\n"), None);
    }
}
