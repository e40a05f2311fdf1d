//! The name of a run folder that nobody named.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nin::disk::make_new_folder;
use nin::train::TrainError;

/// Makes `runs/NAME-YYYYMMDD-HHMMSS`, in UTC, with a number behind it if several runs begin in one second.
///
/// # Errors
/// [`TrainError`] if it cannot be made.
pub(super) fn default_run_dir(name: &str) -> Result<PathBuf, TrainError> {
    let seconds =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let base = format!("{name}-{}", timestamp(seconds));
    let mut number = 1;
    loop {
        let behind = if number == 1 { String::new() } else { format!("-{number}") };
        let path = Path::new("runs").join(format!("{base}{behind}"));
        if make_new_folder(&path)? {
            return Ok(path);
        }
        number += 1;
    }
}

/// Seconds since 1970 as `YYYYMMDD-HHMMSS`, by the civil calendar (400-year cycles of 146,097 days, years from March).
fn timestamp(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = cycle * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{date:02}-{hour:02}{minute:02}{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_follow_the_calendar() {
        assert_eq!(timestamp(0), "19700101-000000");
        assert_eq!(timestamp(951_782_400), "20000229-000000");
        assert_eq!(timestamp(1_767_225_599), "20251231-235959");
    }
}
