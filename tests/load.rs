//! What is written is read again, over every way that data can go; and the checker finds out when it is not.

mod support;

use std::time::Duration;

use support::demo::{Demo, lun};
use support::load;

#[test]
fn what_is_read_is_what_was_written() {
    let demo = Demo::start(lun("size=64MiB"));
    for load in [
        "mode=randrw,depth=32",
        "mode=randrw,depth=8,connections=4,digests=both",
        "mode=randrw,depth=8,size=13824,solicited=true",
        "mode=randrw,depth=4,size=1MiB,digests=data",
        "mode=write,depth=4,size=1MiB,digests=both,solicited=true",
        "mode=fua,depth=8,digests=header",
        "mode=flush,depth=2",
        "mode=randread,depth=16",
    ] {
        let report = load::run(load::on(&demo, 0, load, 1.0));
        assert!(
            report.ios > 0 && report.read_back > 0 && report.verified >= report.read_back,
            "{load}: {report:?}"
        );
        assert_eq!((report.errors, report.wrong, report.lost), (0, 0, false), "{load}: {report:?}");
        let has = |kind: &str| load.contains(kind) || load.contains("digests=both");
        assert_eq!(report.header_digest, has("digests=header"), "{load}: {report:?}");
        assert_eq!(report.data_digest, has("digests=data"), "{load}: {report:?}");
    }
}

#[test]
fn blocks_of_4_kib_are_read_as_written() {
    let demo = Demo::start(lun("size=64MiB,block_size=4096"));
    let report = load::run(load::on(&demo, 0, "mode=randrw,size=12KiB,depth=8", 1.0));
    assert!(report.verified > 0, "{report:?}");
}

/// A checker that finds nothing when something is wrong would make all the others worthless.
#[test]
fn another_runs_data_is_found_out() {
    let demo = Demo::start(lun("size=16MiB"));
    let scratch = tempfile::tempdir().unwrap();
    let journal = scratch.path().join("journal");
    let with_journal = |load: &str| load::journaled(load::on(&demo, 0, load, 0.5), &journal);
    load::run(with_journal("mode=randwrite,depth=8"));
    let before = load::run(with_journal("mode=check"));
    assert!(before.verified > 0, "{before:?}");

    load::run(load::on(&demo, 0, "mode=randwrite,depth=8", 0.5));
    let (status, output) = load::finish(with_journal("mode=check").limit(Duration::from_secs(60)));
    assert_eq!(status, 1, "{output}");
    let report = load::report(&output);
    let error = report.error.unwrap_or_default();
    assert!(report.wrong > 0 && error.contains("of another run instead of generation"), "{output}");
}
