//! Where the process may not use io_uring, as in most containers, threads read what is only on the disk.

mod support;

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{Advice, fadvise};
use support::demo::{Demo, lun};
use support::http::get;
use support::load;
use support::needs::{Need, available, skip};

/// strace, which refuses it as the seccomp filter of a container does; it becomes the process, and is then a child of that.
const REFUSING: [&str; 11] = [
    "strace",
    "-D",
    "-f",
    "-qqq",
    "-o",
    "/dev/null",
    "--seccomp-bpf",
    "-e",
    "trace=io_uring_setup",
    "-e",
    "inject=io_uring_setup:error=EPERM",
];

#[test]
fn what_is_only_on_the_disk_is_read_by_threads() {
    if !available(&[Need::Program("strace")]) {
        return;
    }
    // unlike /tmp, it is hardly ever in memory
    let scratch =
        tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory is writable");
    let (data, journal) = (scratch.path().join("data"), scratch.path().join("journal"));
    let builder = || Demo::builder().directory(&data).args(lun("size=32MiB"));
    let run = |demo: &Demo, load| load::run(load::journaled(load::on(demo, 0, load, 1.0), &journal));

    let mut demo = builder().start();
    run(&demo, "mode=randwrite,depth=16");
    assert!(demo.stop().success(), "{}", demo.log());
    forget(&data);

    let demo = builder().started_by(REFUSING).start();
    let metrics = get(&format!("{}/metrics", demo.ready.admin)).body;
    let engines: Vec<&str> =
        metrics.lines().filter(|line| line.starts_with("huntaway_store_read_engine{")).collect();
    if engines.iter().any(|line| line.contains("memory")) {
        return skip("the target directory is in memory");
    }
    assert!(matches!(engines[..], [one] if one.contains("engine=\"threads\"")), "{engines:?} {}", demo.log());
    let report = run(&demo, "mode=check,depth=16");
    assert!(report.verified > 0 && report.wrong == 0, "{report:?}");
    let bytes = read_by_threads(demo.ready.pid);
    // but little: each brings what the kernel reads ahead, which is at hand then
    assert!(bytes >= 4096, "{bytes} bytes for {report:?}");
}

/// Has the kernel drop what it keeps of the files below a directory.
fn forget(directory: &Path) {
    for entry in fs::read_dir(directory).expect("a directory can be listed").flatten() {
        let path = entry.path();
        if path.is_dir() {
            forget(&path);
        } else {
            let file = File::open(&path).expect("a file can be opened");
            file.sync_all()
                .and_then(|()| Ok(fadvise(&file, 0, None, Advice::DontNeed)?))
                .expect("it can be dropped");
        }
    }
}

/// Bytes that the threads for reading have read.
fn read_by_threads(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there").flatten();
    let readers = threads
        .filter(|thread| fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name == "read\n"));
    let bytes = |io: String| io.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse::<u64>().ok());
    readers.filter_map(|thread| bytes(fs::read_to_string(thread.path().join("io")).ok()?)).sum()
}
