//! `huntaway bench`: it measures any target and says how, checks what it reads, and destroys nothing unless it is told to.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_getaffinity};
use serde_json::Value;
use support::demo::{Demo, lun, write_secret};
use support::initiator::Login;
use support::needs::skip;
use support::script::{Outcome, Script};
use support::wait;

const HEADER_BYTES: usize = 48;
const DATA_IN: u8 = 0x25;

/// Time for several measurements on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);
/// Options for a short measurement.
const SHORT: [&str; 6] = ["--rounds", "1", "--seconds", "0.2", "--warm", "0"];
/// Options for one that only verifies.
const VERIFYING: [&str; 7] = ["--rounds", "0", "--seconds", "0.2", "--warm", "0", "--verify"];

fn bench<'a>(targets: impl IntoIterator<Item = &'a String>, options: &[&str]) -> Script {
    let targets = targets.into_iter().flat_map(|target| ["--target", target.as_str()]);
    Script::program(env!("CARGO_BIN_EXE_huntaway")).args(["bench"]).args(targets).args(options).limit(LIMIT)
}

fn target(demo: &Demo, lun: u16) -> String {
    format!("portal={},iqn={},lun={lun}", demo.portal(), demo.target())
}

/// What it says when it fails.
fn failure(script: Script) -> String {
    let Outcome { status, output } = script.finish();
    assert_eq!(status.and_then(|status| status.code()), Some(1), "{output}");
    output
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("the file was written");
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

#[test]
fn the_table_and_the_lines_of_json_tell_of_each_load_on_each_target() {
    let demo = Demo::start([lun("size=4MiB"), lun("size=4MiB")].concat());
    let targets = [
        format!("name=first,pid={},{}", demo.ready.pid, target(&demo, 0)),
        format!("name=second,{}", target(&demo, 1)),
    ];
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("lines");
    let name = file.display().to_string();
    let own = "mode=randrw,size=16KiB,depth=2";
    let options =
        ["--destroy-data", "--verify", "--loads", "read 4k q32, digests,write 4k q1", "--load", own];
    let output = bench(&targets, &[&options[..], &SHORT, &["--json", &name]].concat()).run();

    let loads = ["read 4k q32, digests", "write 4k q1", own];
    let rows: Vec<Vec<&str>> = output
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows[0][..3], ["load", "target", "IOPS (least..most)"], "{output}");
    let expected: Vec<_> = loads.iter().flat_map(|load| [[*load, "first"], [load, "second"]]).collect();
    let found: Vec<_> = rows[2..].iter().map(|row| [row[0], row[1]]).collect();
    assert_eq!(found, expected, "{output}");
    for row in &rows[2..] {
        let is_first = row[1] == "first";
        assert!(if is_first { row[7] == "1.00" } else { row[7].parse::<f64>().is_ok() }, "{output}");
        assert_eq!((row[6].is_empty(), row[8].is_empty()), (!is_first, !is_first), "{output}");
    }
    assert!(output.contains("reads of 6 loads, 0 of them wrong"), "{output}");

    let lines = lines(&file);
    let order: Vec<_> =
        lines.iter().map(|line| (line["load"].as_str().unwrap(), line["target"].as_str().unwrap())).collect();
    let once = loads.iter().flat_map(|load| [(*load, "first"), (*load, "second")]);
    assert_eq!(order, once.clone().chain(once).collect::<Vec<_>>(), "in turn, first to verify");
    for (index, line) in lines.iter().enumerate() {
        let is_first = line["target"] == "first";
        assert_eq!(line["verify"], index < 6, "{line}");
        assert_eq!(line["cpu_us_per_io_through_drain"].is_f64(), is_first, "{line}");
        assert_eq!(line["data_digest"], line["load"] == loads[0], "{line}");
        assert_eq!((&line["lun_bytes"], &line["block_bytes"]), (&(4 << 20).into(), &512.into()), "{line}");
        assert!(line["ios"].as_u64() > Some(0) && line["latency_us"]["p99"].as_f64() > Some(0.0), "{line}");
        assert!(line["kernel"].is_string() && line["max_burst_length"].is_u64(), "{line}");
        assert_eq!(line["verified"].as_u64() > Some(0), index < 6, "{line}");
        assert!(line["error"].is_null() && line["errors"] == 0, "{line}");
    }
}

#[test]
fn a_load_that_writes_goes_on_until_it_has_written_enough() {
    let demo = Demo::start(lun("size=16MiB"));
    let options =
        ["--destroy-data", "--load", "mode=write,size=1MiB,depth=2", "--min-bytes", "24MiB", "-o", "json"];
    let times = ["--rounds", "1", "--seconds", "0", "--warm", "0"];
    let output = bench([&target(&demo, 0)], &[&options[..], &times].concat()).run();
    let line: Value = serde_json::from_str(output.trim()).unwrap();
    assert!(line["ios"].as_u64() >= Some(24), "{line}");
}

#[test]
fn nothing_is_destroyed_unless_it_is_said_so() {
    const BLOCK: [u8; 512] = [0x5a; 512];
    let demo = Demo::start(lun("size=16MiB"));
    let login = Login {
        portal: demo.portal(),
        initiator: "iqn.2026-11.net.example:owner",
        target: Some(demo.target()),
        account: None,
        mutual: None,
    };
    let mut owner = login.log_in().unwrap();
    let _ = owner.read(0);
    owner.tell(0, &[0x2a, 0, 0, 0, 0, 9, 0, 0, 1, 0], &BLOCK).unwrap();
    let mut is_untouched = || owner.ask(0, &[0x28, 0, 0, 0, 0, 9, 0, 0, 1, 0], 512) == Ok(BLOCK.to_vec());

    let targets = [target(&demo, 0)];
    for options in [
        &["--loads", "read 4k q1"][..],
        &["--loads", "quick"],
        &["--verify", "--loads", "read 4k q1", "--no-fill"],
    ] {
        let output = failure(bench(&targets, &[options, &SHORT].concat()));
        let unit = format!("LUN 0 of {} at {} (HUNTAWAY VIRTUAL-DISK, 16MiB)", demo.target(), demo.portal());
        assert!(output.contains(&unit) && output.contains("--destroy-data"), "{output}");
        assert!(is_untouched(), "{options:?}");
    }
    bench(&targets, &[&["--loads", "read 4k q1", "--no-fill"][..], &SHORT].concat()).run();
    assert!(is_untouched(), "loads that read do not write");
    bench(&targets, &[&["--loads", "read 4k q1", "--destroy-data"][..], &SHORT].concat()).run();
    assert!(!is_untouched(), "the LUN is filled before it is read");
}

#[test]
fn a_target_that_damages_data_is_found_out() {
    let demo = Demo::start(lun("size=16MiB"));
    let portal = damaging_proxy(demo.portal().to_owned());
    let targets = [format!("name=bad,portal={portal},iqn={},lun=0", demo.target())];
    for (load, expected) in [
        ("mode=randread,size=4KiB,depth=4", ["bad: ", "wrong data at LBA ", ": found a damaged block"]),
        (
            "mode=randread,size=4KiB,depth=4,digests=data",
            ["bad: ", "the data digest of 4096 bytes", "of a read of LBA "],
        ),
    ] {
        let options = ["--destroy-data", "--load", load];
        let output = failure(bench(&targets, &[&options[..], &VERIFYING].concat()));
        assert!(expected.iter().all(|part| output.contains(part)), "{load}: {output}");
    }
}

#[test]
fn a_wrong_secret_is_told_from_a_right_one() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name).display().to_string();
    write_secret(path("right").as_ref(), "correct-horse-battery\n");
    write_secret(path("wrong").as_ref(), "another-horse-battery\n");
    let account = format!("alice:{}", path("right"));
    let demo = Demo::start([&lun("size=16MiB")[..], &["--chap".into(), account]].concat());
    let with = |name: &str| {
        let targets = [format!("{},chap=alice:{}", target(&demo, 0), path(name))];
        bench(&targets, &[&["--destroy-data", "--loads", "read 4k q1"][..], &VERIFYING].concat())
    };
    with("right").run();
    let output = failure(with("wrong"));
    assert!(output.contains("authentication failed") && output.contains(demo.target()), "{output}");
    assert!(!output.contains("horse"), "{output}");
    assert!(failure(with("missing")).contains(&path("missing")));
    let without = bench([&target(&demo, 0)], &["--destroy-data"]);
    assert!(
        failure(without).contains("authentication failed; are user and secret (chap=USER:SECRETFILE) right?")
    );
}

#[test]
fn what_cannot_be_measured_is_named_with_its_reason() {
    let demo = Demo::start([lun("size=16MiB"), lun("size=16MiB,read_only=true")].concat());
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (portal, iqn) = (demo.portal(), demo.target());
    for (target, expected) in [
        (
            format!("portal={nobody},iqn={iqn}"),
            format!("portal {nobody} cannot be reached: Connection refused"),
        ),
        (format!("portal={portal},iqn={iqn}x"), "there is no target of this name at this portal".to_owned()),
        (format!("portal={portal},iqn={iqn},lun=7"), "there is no such LUN".to_owned()),
        (format!("portal={portal},iqn={iqn},pid=4294967295"), "process 4294967295 is not there".to_owned()),
    ] {
        let output = failure(bench([&target], &["--destroy-data"]));
        assert!(output.contains(&expected), "{target}: {output}");
    }
    let twice = [target(&demo, 0), target(&demo, 0)];
    assert!(failure(bench(&twice, &["--destroy-data"])).contains("tell them apart with name=NAME"));
    let reading = ["--destroy-data", "--loads", "read 4k q1"];
    let output = failure(bench([&target(&demo, 1)], &[&reading[..], &SHORT].concat()));
    assert!(output.contains("it cannot be filled: "), "{output}");
    assert!(
        output.contains("write of 1048576 bytes at LBA ") && output.contains("sense 7h/27h/"),
        "{output}"
    );
    let uneven = ["--destroy-data", "--load", "mode=write,size=1000"];
    let output = failure(bench([&target(&demo, 0)], &[&uneven[..], &SHORT].concat()));
    assert!(output.contains("no multiple of the LUN's blocks of 512 bytes"), "{output}");
}

#[test]
fn when_it_is_interrupted_the_target_may_run_again_where_it_did() {
    let own = sched_getaffinity(None).unwrap();
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| own.is_set(*cpu)).collect();
    let [cpu, _, ..] = cpus[..] else { return skip("there is only one CPU to be pinned to") };
    let demo = Demo::start(lun("size=16MiB"));
    let pid = demo.ready.pid;
    let before = allowed_cpus(pid);
    let targets = [format!("{},pid={pid}", target(&demo, 0))];
    for signal in [Signal::INT, Signal::TERM] {
        let cpu = cpu.to_string();
        let endless =
            ["--destroy-data", "--load", "mode=randread", "--seconds", "3600", "--pin", cpu.as_str()];
        let mut running = bench(&targets, &endless).start();
        wait::until("the target to be pinned", LIMIT, || {
            assert!(running.is_running(), "{}", running.output());
            (allowed_cpus(pid) == BTreeSet::from([cpu.clone()])).then_some(())
        });
        running.signal_group(signal);
        let status = running.wait(LIMIT).expect("it ends");
        assert_eq!(status.code(), Some(1), "{}", running.output());
        assert_eq!(allowed_cpus(pid), before, "{signal:?}");
    }
}

/// The CPUs that a process's threads may run on, as lists such as `0-3`.
fn allowed_cpus(pid: u32) -> BTreeSet<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
    // a thread may have ended
    let status = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    let list = |status: String| {
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t").map(str::to_owned))
    };
    status.filter_map(list).collect()
}

/// A portal in front of another one that flips a bit in the data of the hundredth Data-In of 4 KiB of each connection.
fn damaging_proxy(portal: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("it listens").to_string();
    thread::spawn(move || {
        for initiator in listener.incoming() {
            let (Ok(initiator), Ok(target)) = (initiator, TcpStream::connect(&portal)) else { return };
            let (Ok(mut from), Ok(mut to)) = (initiator.try_clone(), target.try_clone()) else { return };
            // either end closes when the other does
            thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                to.shutdown(std::net::Shutdown::Write)
            });
            thread::spawn(move || match damage(target, initiator) {
                Err(error) if error.kind() != ErrorKind::UnexpectedEof => eprintln!("the proxy: {error}"),
                _ => {}
            });
        }
    });
    address
}

/// Passes PDUs on, one of them damaged.
fn damage(mut target: TcpStream, mut initiator: TcpStream) -> std::io::Result<()> {
    let (mut digest_bytes, mut seen) = (0, 0);
    loop {
        let mut pdu = vec![0; HEADER_BYTES];
        target.read_exact(&mut pdu)?;
        let length = u32::from_be_bytes([0, pdu[5], pdu[6], pdu[7]]) as usize;
        let digest = if length > 0 { digest_bytes } else { 0 };
        pdu.resize(HEADER_BYTES + length.next_multiple_of(4) + digest, 0);
        target.read_exact(&mut pdu[HEADER_BYTES..])?;
        if pdu.windows(17).any(|text| text == b"DataDigest=CRC32C") && pdu[0] == 0x23 {
            digest_bytes = 4;
        }
        if pdu[0] == DATA_IN && length == 4096 {
            seen += 1;
            pdu[HEADER_BYTES + 1000] ^= u8::from(seen == 100);
        }
        initiator.write_all(&pdu)?;
    }
}
