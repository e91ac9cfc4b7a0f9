//! The process is killed (`kill -9`) under a writing load, again and again: every acknowledged write is there afterwards.
//!
//! The load generator journals what was acknowledged, outside of the process that is killed. `HUNTAWAY_CRASH_ROUNDS` is the
//! number of rounds (10 unless told).

mod support;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::demo::{Demo, huntaway, lun};
use support::needs::available;
use support::script::{Running, Script};
use support::{iload, wait};

/// Rounds unless told.
const ROUNDS: u64 = 10;
/// Time in which a load has to make progress, or to notice that its target is gone.
const LIMIT: Duration = Duration::from_secs(60);
/// Where the journal counts its acknowledged writes (`benches/load/journal.h`).
const JOURNAL_WRITES_AT: usize = 32;

/// What is written to each LUN, by round. I/Os of 13,824 bytes begin and end inside 4 KiB blocks and cross 4 MiB borders.
const LOADS: [(&str, [&str; 3]); 2] = [
    ("4k", ["-w randrw -q 32 -c 2", "-w randwrite -q 8 -d hd", "-w flush -q 4"]),
    ("13824", ["-w randwrite -q 16", "-w fua -q 4 -R", "-w randrw -q 8 -c 2"]),
];

#[test]
fn acknowledged_writes_survive_kill_9() {
    if !available(iload::NEEDS) {
        return;
    }
    let scratch = tempfile::tempdir().expect("a temporary directory can be made");
    let data = scratch.path().join("data");
    let journals = [scratch.path().join("journal-0"), scratch.path().join("journal-1")];

    for round in 0..rounds() {
        let mut demo = start(&data);
        verify(&demo, &journals);
        let mut loads = start_loads(&demo, &journals, round);
        await_writes(&mut loads, &journals, writes_before_the_kill(round));
        demo.kill();
        for load in &mut loads {
            let status = load.wait(LIMIT).and_then(|status| status.code());
            assert_eq!(status, Some(iload::LOST), "round {round}: {}", load.output());
        }
    }

    let mut demo = start(&data);
    verify(&demo, &journals);
    assert!(demo.stop().success(), "{}", demo.log());
    let mut check = huntaway();
    check.args(["store", "check"]).arg(&data);
    let output = check.output().expect("huntaway can be started");
    assert!(output.status.success(), "store check: {output:?}");
}

fn rounds() -> u64 {
    let told = env::var("HUNTAWAY_CRASH_ROUNDS").ok();
    told.map_or(ROUNDS, |rounds| rounds.parse().expect("HUNTAWAY_CRASH_ROUNDS is a number"))
}

/// Small enough LUNs that most places are written more than once.
fn start(data: &Path) -> Demo {
    Demo::builder().directory(data).args(lun("size=64MiB")).args(lun("size=48MiB,thin=false")).start()
}

/// From a few writes to a few thousand, so that the kill comes at another moment each time.
fn writes_before_the_kill(round: u64) -> u64 {
    let mixed = (round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    1 << (mixed % 13)
}

fn journaled(demo: &Demo, lun: u16, options: &str, journal: &Path) -> Script {
    let (size, _) = LOADS[usize::from(lun)];
    iload::on(demo, lun, options).args(["-b", size, "-J"]).args([journal])
}

/// Reads all that was ever acknowledged.
fn verify(demo: &Demo, journals: &[PathBuf; 2]) {
    for (lun, journal) in (0..).zip(journals) {
        let report = iload::run(journaled(demo, lun, "-w check -q 16", journal));
        let expected = acknowledged_writes(journal) > 0;
        assert_eq!(report.read_back > 0, expected, "LUN {lun}: {report:?}");
    }
}

fn start_loads(demo: &Demo, journals: &[PathBuf; 2], round: u64) -> Vec<Running> {
    let load = |(lun, journal): (u16, &PathBuf)| {
        let (_, variants) = LOADS[usize::from(lun)];
        let options = variants[usize::try_from(round).unwrap_or(0) % variants.len()];
        journaled(demo, lun, &format!("{options} -W 0 -T 3600"), journal).start()
    };
    (0..).zip(journals).map(load).collect()
}

/// Waits until both loads had so many more writes acknowledged.
fn await_writes(loads: &mut [Running], journals: &[PathBuf; 2], writes: u64) {
    let before = journals.each_ref().map(|journal| acknowledged_writes(journal));
    wait::until("writes to be acknowledged", LIMIT, || {
        for load in loads.iter_mut() {
            assert!(load.is_running(), "a load has ended: {}", load.output());
        }
        let done = journals
            .iter()
            .zip(before)
            .all(|(journal, before)| acknowledged_writes(journal) >= before + writes);
        done.then_some(())
    });
}

/// How many writes a journal has seen acknowledged; 0 if there is none yet.
fn acknowledged_writes(journal: &Path) -> u64 {
    let bytes = fs::read(journal).unwrap_or_default();
    let count = bytes.get(JOURNAL_WRITES_AT..JOURNAL_WRITES_AT + 8);
    count.and_then(|count| count.try_into().ok()).map_or(0, u64::from_ne_bytes)
}
