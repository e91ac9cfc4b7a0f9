//! Promise: what the keeper of a ledger has told anybody survives that it is killed at any moment.

mod kept;

use std::env;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use huntaway_membership::local::shared::{KeeperOptions, KeeperServer, RemoteDriver};
use huntaway_membership::{Driver, local};
use kept::{create, follower, options};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Tells a process of this test that it is to keep the ledger in that directory, at that address.
const DIRECTORY: &str = "HUNTAWAY_TEST_KEEPER_DIRECTORY";
const ADDRESS: &str = "HUNTAWAY_TEST_KEEPER_ADDRESS";

const KILLS: u64 = 8;

/// Not a test by itself: the process that is killed.
#[test]
fn keeper_process() {
    let (Ok(dir), Ok(address)) = (env::var(DIRECTORY), env::var(ADDRESS)) else { return };
    Runtime::new().expect("threads").block_on(async {
        // Its file is cut now and then.
        let options = KeeperOptions { cut_bytes: 2_000, ..options(2) };
        let server = KeeperServer::open(Path::new(&dir), options).expect("a ledger");
        let listener = TcpListener::bind(&address).await.expect("a port");
        println!("\nkeeper at {}", listener.local_addr().expect("an address"));
        server.serve(listener, std::future::pending()).await.expect("it can be written");
    });
}

/// Killed when it is dropped.
struct Keeper(Child);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.kill().expect("it is ours");
        self.0.wait().expect("it ends");
    }
}

fn keeper(dir: &Path, address: &str) -> (Keeper, SocketAddr) {
    let mut child = Command::new(env::current_exe().expect("this program"))
        .args(["--exact", "keeper_process", "--nocapture"])
        .env(DIRECTORY, dir)
        .env(ADDRESS, address)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let line = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("keeper at ").map(|address| address.parse().expect("an address")));
    (Keeper(child), line.expect("it says where it is"))
}

#[test]
fn what_was_told_survives_a_kill() {
    let runtime = Runtime::new().expect("threads");
    let dir = TempDir::new().expect("a directory");
    let (mut running, address) = keeper(dir.path(), "127.0.0.1:0");
    let driver = Arc::new(runtime.block_on(RemoteDriver::connect(follower(address, 1))).expect("a keeper"));
    let proposer = {
        let driver = driver.clone();
        std::thread::spawn(move || {
            let mut done = Vec::new();
            for number in 0.. {
                let name = format!("disk-{number}");
                if driver.state().vdi("last").is_some() {
                    break;
                }
                driver.propose(create(&name)).expect("it happens");
                done.push(name);
            }
            done
        })
    };
    for kill in 0..KILLS {
        std::thread::sleep(Duration::from_millis(120 + 13 * kill));
        drop(running);
        let told = driver.state().number();
        let file = local::read(dir.path()).expect("a ledger");
        assert!(
            file.state.number() >= told,
            "record {told} was told, the last one is {}",
            file.state.number()
        );
        (running, _) = keeper(dir.path(), &address.to_string());
    }
    driver.propose(create("last")).expect("room");
    let done = proposer.join().expect("no panic");
    drop(running);
    let file = local::read(dir.path()).expect("a ledger");
    assert!(done.len() as u64 > KILLS, "{}", done.len());
    assert!(done.iter().all(|name| file.state.vdi(name).is_some()));
    assert_eq!(file.state.vdis().count(), done.len() + 1);
    assert!((file.records.len() as u64) < file.state.number(), "it was cut");
}
