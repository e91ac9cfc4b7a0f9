//! Promise: ten thousand connections of nobody cost little memory each, and keep no initiator from its disk.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use support::demo::Demo;
use support::initiator::{Initiator, Login};
use support::{http, wait};

/// Connections without a session.
const CONNECTIONS: usize = 10_000;

/// Of these so many say as much as one may that has proved nothing.
const TALKATIVE: usize = 1_000;

/// Memory that each may cost.
const MAX_BYTES: usize = 64 << 10;

/// Files that this process needs besides, and the demo.
const OTHER_FILES: usize = 1_500;

/// Time in which all connections are accepted.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many connections the limit of open files allows; it is raised as far as it can be.
fn possible() -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the soft limit may be the hard one");
    let limit = limit.maximum.map_or(usize::MAX, |limit| usize::try_from(limit).expect("64 bits"));
    CONNECTIONS.min(limit.saturating_sub(OTHER_FILES))
}

fn log_in(demo: &Demo, initiator: &str) -> Initiator {
    let target = Some(demo.target());
    let login = Login { portal: demo.portal(), initiator, target, account: None, mutual: None };
    login.log_in().expect("anyone may log in")
}

/// Memory that the process has in use, in bytes.
fn resident(demo: &Demo) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", demo.pid())).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells it");
    let kibibytes: usize = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kibibytes << 10
}

/// TCP connections that the demo counts.
fn connections(demo: &Demo) -> usize {
    let metrics = http::get(&format!("{}/metrics", demo.ready.admin)).body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("huntaway_gateway_connections "));
    line.and_then(|value| value.parse().ok()).expect("the gauge is there")
}

/// A Login request whose text goes on (C), of `length` bytes.
fn unfinished(length: usize) -> Vec<u8> {
    let mut request = vec![0; 48 + length];
    request[..2].copy_from_slice(&[0x43, 0x44]);
    request[5..8].copy_from_slice(&u32::try_from(length).expect("little").to_be_bytes()[1..]);
    request[48..].fill(b'x');
    request
}

/// Opens a connection and says as much as can be held, but nothing that ends the login.
fn talk(demo: &Demo) -> TcpStream {
    let mut stream = TcpStream::connect(demo.portal()).expect("the portal accepts connections");
    for _ in 0..2 {
        stream.write_all(&unfinished(8_000)).expect("the portal takes a request");
        let mut answer = [0; 48];
        stream.read_exact(&mut answer).expect("the portal answers");
        assert_eq!((answer[0] & 0x3f, answer[36]), (0x23, 0), "the login goes on");
    }
    // Part of another, which would be too much.
    stream.write_all(&unfinished(8_000)[..8_000]).expect("the portal takes a part");
    stream
}

#[test]
fn ten_thousand_connections_of_nobody_are_held_cheaply_and_keep_nobody_out() {
    let possible = possible();
    assert!(
        possible >= 2 * TALKATIVE,
        "the limit of open files (ulimit -Hn) allows {possible} connections only"
    );
    let demo = Demo::start(["--lun", "size=16MiB,thin=true"]);
    let mut old = log_in(&demo, "iqn.2026-11.test:old");
    assert_eq!(old.read(0), Ok(()));
    let before = resident(&demo);

    let silent = possible - TALKATIVE;
    let idle: Vec<_> = (0..silent)
        .map(|_| TcpStream::connect(demo.portal()).expect("the portal accepts connections"))
        .collect();
    wait::until("all to be accepted", PATIENCE, || (connections(&demo) > silent).then_some(()));
    let each = resident(&demo).saturating_sub(before) / silent;
    let talkative: Vec<_> = (0..TALKATIVE).map(|_| talk(&demo)).collect();
    let talk = (resident(&demo).saturating_sub(before) - each * silent) / TALKATIVE;
    println!(
        "{each} bytes for each of {silent} that are silent, {talk} for each of {TALKATIVE} that are not"
    );
    assert!(each <= MAX_BYTES && talk <= MAX_BYTES, "{each}, {talk} bytes a connection");

    assert_eq!(old.read(0), Ok(()), "who is logged in does not notice");
    assert_eq!(log_in(&demo, "iqn.2026-11.test:new").read(0), Ok(()), "who logs in gets in");
    drop((idle, talkative));
}
