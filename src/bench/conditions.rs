//! Under which conditions something is measured: the machine, and the CPU to which everybody is pinned.

use std::process::exit;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fs, io, mem, thread};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;
use tokio::runtime::Builder;

use crate::signals::Signals;

/// Exit status when a signal ends it.
const INTERRUPTED: i32 = 1;

/// What is the same for all measurements of a comparison.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Conditions {
    /// Our version.
    huntaway: &'static str,
    pub(super) kernel: String,
    /// CPUs that we may use.
    pub(super) cpus: usize,
    pub(super) cpu_model: String,
    /// The CPU that the targets and we share.
    pub(super) pinned_cpu: Option<usize>,
}

impl Conditions {
    /// Those of this machine, before anybody is pinned.
    pub(super) fn of_this_machine() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let model = read("/proc/cpuinfo");
        let model =
            model.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
        Self {
            huntaway: env!("CARGO_PKG_VERSION"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpus: thread::available_parallelism().map_or(1, usize::from),
            cpu_model: model.map_or("unknown", |(_, model)| model.trim()).to_owned(),
            pinned_cpu: None,
        }
    }
}

/// Why nobody can be pinned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PinError {
    #[error("there is no CPU {0} that we may use")]
    NoCpu(usize),
    #[error("process {pid} cannot be pinned to CPU {cpu}: {source}; it needs its owner's rights")]
    Process { pid: u32, cpu: usize, source: rustix::io::Errno },
    #[error("nobody is pinned, since it could not be undone if a signal ended this: {0}")]
    Signals(#[source] io::Error),
}

/// Processes whose threads share one CPU with this one, until this is dropped, or SIGINT (Ctrl-C) or SIGTERM ends us.
pub(crate) struct Pinned {
    cpu: usize,
    before: Arc<Before>,
}

/// Where processes were allowed to run before they were pinned.
#[derive(Default)]
struct Before(Mutex<Vec<(Who, CpuSet)>>);

/// Who is pinned.
enum Who {
    /// The thread that measures.
    Us,
    /// All threads of a process.
    Process(u32),
}

impl Pinned {
    /// Pins this thread, those it starts later, and all threads of these processes.
    ///
    /// # Errors
    /// There is no such CPU, or we may not.
    pub(crate) fn to(cpu: usize, pids: &[u32]) -> Result<Self, PinError> {
        let mut one = CpuSet::new();
        let own = sched_getaffinity(None).map_err(|_| PinError::NoCpu(cpu))?;
        if cpu >= CpuSet::MAX_CPU {
            return Err(PinError::NoCpu(cpu));
        }
        one.set(cpu);
        let pinned = Self { cpu, before: Arc::default() };
        pinned.before.let_go_at_a_signal().map_err(PinError::Signals)?;
        sched_setaffinity(None, &one).map_err(|_| PinError::NoCpu(cpu))?;
        pinned.before.lock().push((Who::Us, own));
        for &pid in pids {
            let failed = |source| PinError::Process { pid, cpu, source };
            let before = sched_getaffinity(to_pid(pid)).map_err(failed)?;
            let mut all = pinned.before.lock();
            all.push((Who::Process(pid), before));
            set_all(pid, &one).map_err(failed)?;
        }
        Ok(pinned)
    }

    /// The CPU.
    pub(crate) fn cpu(&self) -> usize {
        self.cpu
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let_go(&mut self.before.lock());
    }
}

impl Before {
    fn lock(&self) -> MutexGuard<'_, Vec<(Who, CpuSet)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on a signal that stops us lets everybody go first.
    fn let_go_at_a_signal(self: &Arc<Self>) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut signals = runtime.block_on(async { Signals::listen() })?;
        let before = Arc::clone(self);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let name = runtime.block_on(signals.next());
            // Kept to the end: nobody else may be pinned.
            let mut before = before.lock();
            let_go(&mut before);
            eprintln!("huntaway: ended by {name}");
            exit(INTERRUPTED);
        })?;
        Ok(())
    }
}

fn let_go(pinned: &mut Vec<(Who, CpuSet)>) {
    for (who, before) in mem::take(pinned) {
        // who has ended meanwhile needs nothing
        let _ = match who {
            Who::Process(pid) => set_all(pid, &before),
            Who::Us => sched_setaffinity(None, &before),
        };
    }
}

fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Sets where all threads of a process may run.
fn set_all(pid: u32, cpus: &CpuSet) -> Result<(), rustix::io::Errno> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_err(|_| rustix::io::Errno::SRCH)?;
    let threads = threads.flatten().filter_map(|thread| thread.file_name().to_str()?.parse().ok());
    for thread in threads.filter_map(to_pid) {
        match sched_setaffinity(Some(thread), cpus) {
            // a thread that has ended since
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
