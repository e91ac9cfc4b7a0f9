//! The process is killed (`kill -9`) under a writing load, again and again, at any moment and before any call to the system
//! that matters: every acknowledged write is there afterwards.
//!
//! The load generator journals what was acknowledged, outside of the process that is killed. `HUNTAWAY_CRASH_ROUNDS` is the
//! number of rounds of each kind (10 unless told).

mod support;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::demo::{Demo, DemoBuilder, huntaway, lun};
use support::needs::{Need, available};
use support::script::{Running, Script};
use support::{load, wait};
use tempfile::TempDir;

/// Rounds unless told.
const ROUNDS: u64 = 10;
/// Time in which a load has to make progress, or to notice that its target is gone.
const LIMIT: Duration = Duration::from_secs(60);
/// Where the journal counts its acknowledged writes (`src/bench/journal.rs`).
const JOURNAL_WRITES_AT: usize = 32;

/// What is written to each LUN, by round. I/Os of 13,824 bytes begin and end inside 4 KiB blocks and cross 4 MiB borders.
const LOADS: [(&str, [&str; 3]); 2] = [
    (
        "4096",
        ["mode=randrw,depth=32,connections=2", "mode=randwrite,depth=8,digests=both", "mode=flush,depth=4"],
    ),
    (
        "13824",
        ["mode=randwrite,depth=16", "mode=fua,depth=4,solicited=true", "mode=randrw,depth=8,connections=2"],
    ),
];

/// Calls to the system before which the process dies: whatever makes something last, or makes or removes a name. And how
/// often one thread makes them at most until then.
const CALLS: [(&str, u64); 5] = [
    ("pwrite64,pwritev,pwritev2", 500),
    ("fdatasync,fsync", 20),
    ("rename,renameat,renameat2", 3),
    ("ftruncate,fallocate", 10),
    ("unlink,unlinkat,mkdir,mkdirat", 5),
];

#[test]
fn acknowledged_writes_survive_kill_9() {
    let place = Place::new();
    for round in 0..rounds() {
        let demo = place.start();
        place.verify(&demo);
        place.load_and_kill(demo, round, writes_before_the_kill(round));
    }
    place.verify_all();
}

#[test]
fn acknowledged_writes_survive_death_before_any_call_to_the_system() {
    if !available(&[Need::Program("strace")]) {
        return;
    }
    let place = Place::new();
    let mut died = [0; 3];
    for round in 0..rounds() {
        let demo = place.start();
        place.verify(&demo);
        drop(demo);
        // it dies while it starts, or under load, or is killed if that call does not come so often
        match place.builder().started_by(strace(round)).try_start() {
            Ok(demo) => died[usize::from(place.load_and_kill(demo, round, 1 << 9))] += 1,
            Err(said) => {
                assert!(said.contains("signal: 9"), "round {round}: {said}");
                died[2] += 1;
            }
        }
    }
    place.verify_all();
    let [killed, under_load, at_the_start] = died;
    println!(
        "{under_load} died before the call under load, {at_the_start} while starting, {killed} were killed"
    );
    assert!(killed * 2 <= rounds(), "most calls are not made that often");
}

/// Has strace kill the process before the call of a kind that is so many for one of its threads. strace is then a child of
/// the process, not its parent, and ends with it.
fn strace(round: u64) -> Vec<String> {
    let mixed = mixed(round);
    let (calls, most) = CALLS[usize::try_from(round).unwrap_or(0) % CALLS.len()];
    let count = 1 + mixed % most;
    let options = ["strace", "-D", "-f", "-qqq", "-o", "/dev/null", "-e"].map(str::to_owned).into_iter();
    let traced =
        [format!("trace={calls}"), "-e".into(), format!("inject={calls}:signal=SIGKILL:when={count}")];
    options.chain(traced).collect()
}

/// A demo's data, and what is known of it outside of the process that dies.
struct Place {
    scratch: TempDir,
    journals: [PathBuf; 2],
}

impl Place {
    fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let journals = ["journal-0", "journal-1"].map(|name| scratch.path().join(name));
        Self { scratch, journals }
    }

    /// Small enough LUNs that most places are written more than once.
    fn builder(&self) -> DemoBuilder {
        let builder = Demo::builder().directory(&self.scratch.path().join("data"));
        builder.args(lun("size=64MiB")).args(lun("size=48MiB,thin=false"))
    }

    fn start(&self) -> Demo {
        self.builder().start()
    }

    /// Reads all that was ever acknowledged.
    fn verify(&self, demo: &Demo) {
        for (lun, journal) in (0..).zip(&self.journals) {
            let report = load::run(journaled(demo, lun, "mode=check,depth=16", journal));
            // what was under way when the process died is read, too, and may be there or not
            let has_any = acknowledged_writes(journal) > 0;
            assert!(report.read_back > 0 || !has_any, "LUN {lun}: {report:?}");
        }
    }

    /// Writes until the process dies, which is true, or until it is killed after so many writes.
    fn load_and_kill(&self, mut demo: Demo, round: u64, writes: u64) -> bool {
        let mut loads = start_loads(&demo, &self.journals, round);
        await_writes(&mut demo, &mut loads, &self.journals, writes);
        let has_died = !demo.is_running();
        demo.kill();
        for load in &mut loads {
            let status = load.wait(LIMIT).and_then(|status| status.code());
            let output = load.output();
            // it may die before they have connected
            let is_cut_off =
                ["Connection refused", "connection broke"].iter().any(|why| output.contains(why))
                    && !output.contains("wrong data");
            assert!(is_cut_off, "round {round}: {status:?} {output}");
        }
        has_died
    }

    /// The same, after the last round, and the store's own check of all there is.
    fn verify_all(&self) {
        let mut demo = self.start();
        self.verify(&demo);
        assert!(demo.stop().success(), "{}", demo.log());
        let mut check = huntaway();
        check.args(["store", "check"]).arg(demo.directory());
        let output = check.output().expect("huntaway can be started");
        assert!(output.status.success(), "store check: {output:?}");
    }
}

fn rounds() -> u64 {
    let told = env::var("HUNTAWAY_CRASH_ROUNDS").ok();
    told.map_or(ROUNDS, |rounds| rounds.parse().expect("HUNTAWAY_CRASH_ROUNDS is a number"))
}

/// From a few writes to a few thousand, so that the kill comes at another moment each time.
fn writes_before_the_kill(round: u64) -> u64 {
    1 << (mixed(round) % 13)
}

fn mixed(round: u64) -> u64 {
    (round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

fn journaled(demo: &Demo, lun: u16, load: &str, journal: &Path) -> Script {
    let (size, _) = LOADS[usize::from(lun)];
    load::journaled(load::on(demo, lun, &format!("{load},size={size}"), load::ENDLESS), journal)
}

fn start_loads(demo: &Demo, journals: &[PathBuf; 2], round: u64) -> Vec<Running> {
    let load = |(lun, journal): (u16, &PathBuf)| {
        let (_, variants) = LOADS[usize::from(lun)];
        let variant = variants[usize::try_from(round).unwrap_or(0) % variants.len()];
        journaled(demo, lun, variant, journal).start()
    };
    (0..).zip(journals).map(load).collect()
}

/// Waits until both loads had so many more writes acknowledged, or the process has ended. Writes that wait for a busy disk may
/// take long; what must not be is that no more are acknowledged.
fn await_writes(demo: &mut Demo, loads: &mut [Running], journals: &[PathBuf; 2], writes: u64) {
    let counts = || journals.each_ref().map(|journal| acknowledged_writes(journal));
    let before = counts();
    let mut seen = before;
    let mut look = || {
        if !demo.is_running() {
            return Some(true);
        }
        for load in loads.iter_mut() {
            // a connection breaks a moment before its process has ended
            let is_alone =
                |demo: &mut Demo| wait::try_until(LIMIT, || (!demo.is_running()).then_some(())).is_some();
            assert!(load.is_running() || is_alone(demo), "a load has ended: {}", load.output());
        }
        let now = counts();
        let is_done = now.iter().zip(before).all(|(now, before)| *now >= before + writes);
        let goes_on = now != seen;
        seen = now;
        (is_done || goes_on).then_some(is_done)
    };
    while !wait::until("more writes to be acknowledged", LIMIT, &mut look) {}
}

/// How many writes a journal has seen acknowledged; 0 if there is none yet.
fn acknowledged_writes(journal: &Path) -> u64 {
    let bytes = fs::read(journal).unwrap_or_default();
    let count = bytes.get(JOURNAL_WRITES_AT..JOURNAL_WRITES_AT + 8);
    count.and_then(|count| count.try_into().ok()).map_or(0, u64::from_le_bytes)
}
