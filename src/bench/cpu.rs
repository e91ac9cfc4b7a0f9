//! CPU time of processes, by /proc (proc_pid_stat(5)): user and system time of all their threads, those that ended included. It
//! comes in steps of a clock tick, mostly 10 ms.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;

/// How often it is looked at whether processes are idle.
const SAMPLE: Duration = Duration::from_millis(100);
/// Idle is less than this share of a core, or a quarter, more than before all load, over this time. Targets put work off by timers
/// of a second or so: a shorter rest may be the one before it.
const IDLE_SHARE: f64 = 0.01;
const IDLE_TIME: Duration = Duration::from_secs(3);
/// Time in which they have to become idle.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);

/// A process that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("process {0} is not there: is its number right?")]
pub(crate) struct Gone(u32);

/// CPU seconds that the processes have used so far, together; `None` if there are none.
///
/// # Errors
/// One of them has ended.
pub(super) fn used(pids: &[u32]) -> Result<Option<f64>, Gone> {
    if pids.is_empty() {
        return Ok(None);
    }
    let ticks = pids.iter().map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        stat.and_then(|stat| ticks(&stat)).ok_or(Gone(*pid))
    });
    let ticks = ticks.sum::<Result<u64, Gone>>()?;
    Ok(Some(ticks as f64 / clock_ticks_per_second() as f64))
}

/// utime and stime together: the 14th and 15th field, behind the name, which may have anything in it.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// How processes came to rest.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Settled {
    /// CPU seconds used until then, or `None` without processes.
    pub(super) used: Option<f64>,
    /// How long it took; the time of rest that shows it is not counted.
    pub(super) seconds: f64,
    /// They were idle in the end, rather than that we waited no longer.
    pub(super) is_idle: bool,
}

/// What share of a core the processes use while nothing is asked of them; processes of a cluster are never quite still. It takes
/// some seconds to tell.
///
/// # Errors
/// One of them has ended.
pub(super) fn share_at_rest(pids: &[u32]) -> Result<f64, Gone> {
    let Some(before) = used(pids)? else { return Ok(0.0) };
    let began = Instant::now();
    thread::sleep(IDLE_TIME);
    let used = used(pids)?.unwrap_or(0.0) - before;
    Ok(used / began.elapsed().as_secs_f64())
}

/// Waits until the processes are idle, who use that share of a core at rest.
///
/// # Errors
/// One of them has ended.
pub(super) fn settle(pids: &[u32], at_rest: f64) -> Result<Settled, Gone> {
    let began = Instant::now();
    let mut rest_began = began;
    let mut used_before = used(pids)?.unwrap_or(0.0);
    let idle = (at_rest + IDLE_SHARE.max(at_rest / 4.0)) * IDLE_TIME.as_secs_f64();
    loop {
        let now = Instant::now();
        let is_idle = pids.is_empty() || now - rest_began >= IDLE_TIME;
        if is_idle || now - began >= SETTLE_LIMIT {
            let seconds = (rest_began - began).as_secs_f64();
            let used = used(pids)?.map(|used| used - at_rest * rest_began.elapsed().as_secs_f64());
            return Ok(Settled { used, seconds, is_idle });
        }
        thread::sleep(SAMPLE);
        let used = used(pids)?.unwrap_or(0.0);
        if used - used_before >= idle {
            (used_before, rest_began) = (used, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 200 0 0 31 11 5 6 20 0 9 0";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a) S 1"), None);
    }

    #[test]
    fn a_process_is_idle_when_its_work_is_done_and_not_before() {
        let work = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exec sleep 600";
        let mut child = Command::new("sh").args(["-c", work]).spawn().unwrap();
        let settled = settle(&[child.id()], 0.0).unwrap();
        let name = fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(name.trim(), "sleep", "its work is done");
        assert!(settled.is_idle && settled.used > Some(0.0), "{settled:?}");
    }

    #[test]
    fn a_process_that_never_rests_is_idle_when_it_does_no_more_than_before() {
        let work = "while :; do i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; sleep 0.01; done";
        let mut child = Command::new("sh").args(["-c", work]).spawn().unwrap();
        let pids = [child.id()];
        let at_rest = share_at_rest(&pids).unwrap();
        // Others may have left it less time before.
        let settled = settle(&pids, 2.0 * at_rest).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(at_rest > 0.01 && settled.is_idle, "{at_rest}, {settled:?}");
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        assert_eq!(used(&[u32::MAX]), Err(Gone(u32::MAX)));
        assert_eq!(used(&[]), Ok(None));
        assert!(used(&[std::process::id()]).unwrap().is_some());
    }
}
