//! The load generator compiles, and what it writes it reads again, over every way that data can go.

mod support;

use std::time::Duration;

use support::demo::{Demo, lun};
use support::iload;
use support::needs::available;

#[test]
fn what_is_read_is_what_was_written() {
    if !available(iload::NEEDS) {
        return;
    }
    let demo = Demo::start(lun("size=64MiB"));
    for load in [
        "-w randrw -q 32",
        "-w randrw -q 8 -c 4 -d hd",
        "-w randrw -q 8 -b 13824 -R",
        "-w randrw -q 4 -b 1m -d d",
        "-w write -q 4 -b 1m -d hd -R",
        "-w fua -q 8 -d h",
        "-w flush -q 2",
        "-w randrw -q 16 -F -s 16m",
    ] {
        let report = iload::run(iload::on(&demo, 0, &format!("{load} -V -W 0 -T 1")));
        assert!(
            report.ios > 0 && report.read_back > 0 && report.verified >= report.read_back,
            "{load}: {report:?}"
        );
        assert_eq!((report.errs, report.wrong, report.lost), (0, 0, 0), "{load}: {report:?}");
        assert_eq!(report.hd == 1, load.contains("-d h"), "{load}: {report:?}");
        assert_eq!(report.dd == 1, load.contains("-d d") || load.contains("-d hd"), "{load}: {report:?}");
    }
}

#[test]
fn blocks_of_4_kib_are_read_as_written() {
    if !available(iload::NEEDS) {
        return;
    }
    let demo = Demo::start(lun("size=64MiB,block_size=4096"));
    let report = iload::run(iload::on(&demo, 0, "-w randrw -b 12k -q 8 -V -W 0 -T 1"));
    assert!(report.verified > 0, "{report:?}");
}

/// A checker that finds nothing when something is wrong would make all the others worthless.
#[test]
fn another_runs_data_is_found_out() {
    if !available(iload::NEEDS) {
        return;
    }
    let demo = Demo::start(lun("size=16MiB"));
    let scratch = tempfile::tempdir().unwrap();
    let journal = scratch.path().join("journal").display().to_string();
    let with_journal = |options: &str| iload::on(&demo, 0, options).args(["-J", &journal]);
    iload::run(with_journal("-w randwrite -q 8 -W 0 -T 0.5"));
    let before = iload::run(with_journal("-w check"));
    assert!(before.verified > 0, "{before:?}");

    iload::run(iload::on(&demo, 0, "-w randwrite -q 8 -V -W 0 -T 0.5"));
    let (status, output) = iload::finish(with_journal("-w check").limit(Duration::from_secs(60)));
    assert_eq!(status, 1, "{output}");
    assert!(output.contains("WRONG DATA"), "{output}");
    assert!(iload::report(&output).wrong > 0, "{output}");
}
