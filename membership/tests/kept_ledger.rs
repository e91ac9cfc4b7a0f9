//! Promise: processes that follow one ledger know the same, whatever becomes of connections and of the keeper; what was asked for
//! happens once; nobody who is not of the cluster has a say; and nobody's lease outlives what it rests on.

mod kept;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use huntaway_ledger::keeper::{HoldEnd, NotLeased, NotStarted, Proposal};
use huntaway_ledger::{
    DiskRecord, FollowError, InSyncChange, InSyncSet, MAX_HELD, MAX_RECORD_BYTES, Memory, Operation, Record,
    SetRecord, StartId,
};
use huntaway_membership::local::shared::{
    ClusterKey, Cut, KeeperOptions, KeeperServer, KeeperStatus, NodeStart, NotDone, Rejection, RemoteDriver,
    RemoteOptions, StartError,
};
use huntaway_membership::{Driver, ProposeError, local};
use huntaway_wire::NodeId;
use kept::{Disk, Kept, create, follower, key, node, options, until};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, spawn_blocking};

async fn following(address: SocketAddr, number: u8) -> Arc<RemoteDriver> {
    Arc::new(RemoteDriver::connect(follower(address, number)).await.expect("a keeper"))
}

fn records(dir: &Path) -> Vec<Record> {
    local::read(dir).expect("a ledger").records
}

fn is_up(driver: &RemoteDriver, node: NodeId) -> bool {
    driver.state().sets().node(node).is_some_and(|state| state.is_up)
}

async fn propose(driver: &Arc<RemoteDriver>, text: String) -> Result<(), ProposeError> {
    let driver = driver.clone();
    spawn_blocking(move || driver.propose(create(&text)).map(drop)).await.expect("no panic")
}

async fn know_the_same(drivers: &[&Arc<RemoteDriver>]) {
    let newest = drivers.iter().map(|driver| driver.state().number()).max().unwrap_or(0);
    until("all know the same", || drivers.iter().all(|driver| driver.state().number() >= newest)).await;
    let digests: Vec<_> = drivers.iter().map(|driver| driver.state().digest().expect("memory")).collect();
    assert!(digests.windows(2).all(|two| two[0] == two[1]));
}

/// What the ledger has of disks, by name, each of which is to be there once.
fn made(dir: &Path) -> BTreeMap<String, u32> {
    let mut made = BTreeMap::new();
    for record in records(dir) {
        if let Record::CreateVdi { name, .. } = record {
            *made.entry(name.as_str().to_owned()).or_insert(0) += 1;
        }
    }
    made
}

async fn refused(options: RemoteOptions) -> Cut {
    let options = RemoteOptions { patience: Duration::from_millis(500), ..options };
    RemoteDriver::connect(options).await.expect_err("it is not to be taken")
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_of_the_cluster_is_told_why_and_what_to_do() {
    let dir = TempDir::new().expect("a directory");
    let kept = Kept::new(dir.path(), options(1)).await;
    let driver = following(kept.address, 1).await;
    let own = follower(kept.address, 1);
    let cut = refused(RemoteOptions { key: ClusterKey::new([8; 32]), ..own.clone() }).await;
    assert!(
        matches!(cut, Cut::Rejected(Rejection::Key)) && cut.to_string().contains("the same one"),
        "{cut}"
    );
    let cut = refused(RemoteOptions { cluster: Some([9; 16]), ..own.clone() }).await;
    assert!(matches!(cut, Cut::Rejected(Rejection::Cluster)) && cut.to_string().contains("address"), "{cut}");
    let same = RemoteOptions { cluster: Some(driver.cluster()), ..own };
    assert!(RemoteDriver::connect(same).await.is_ok());

    // Something else is at the address, and something else calls.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let other = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"220 mail.example ESMTP and so on\r\n").await;
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    let cut = refused(follower(address, 1)).await;
    assert!(matches!(cut, Cut::Length { .. }) && cut.to_string().contains("keeper's"), "{cut}");
    other.abort();
    // Those that only connect have no place.
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect(kept.address).await.expect("it listens"));
    }
    assert!(RemoteDriver::connect(follower(kept.address, 1)).await.is_ok());
    let strangers: [&[u8]; 4] =
        [b"GET / HTTP/1.1\r\n\r\n", &[0; 64], &[0xff; 4096], &[9, 0, 0, 0, 1, 2, 3, 4]];
    for bytes in strangers {
        let mut stream = TcpStream::connect(kept.address).await.expect("it listens");
        stream.write_all(bytes).await.expect("it reads");
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "nothing is said to a stranger: {answer:?}");
    }
    propose(&driver, "disk".to_owned()).await.expect("the rest goes on");
    kept.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_proposed_while_keepers_come_and_go_happens_once() {
    let dir = TempDir::new().expect("a directory");
    let mut kept = Kept::new(dir.path(), options(2)).await;
    let address = kept.address;
    let (one, two) = (following(address, 1).await, following(address, 2).await);
    let is_over = Arc::new(AtomicBool::new(false));
    let mut proposers = JoinSet::new();
    for (proposer, driver) in [&one, &two, &one].into_iter().enumerate() {
        let (driver, is_over) = (driver.clone(), is_over.clone());
        proposers.spawn(async move {
            let mut done = Vec::new();
            for number in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let name = format!("disk-{proposer}-{number}");
                propose(&driver, name.clone()).await.expect("it happens");
                done.push(name);
            }
            done
        });
    }
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        kept.stop().await;
        kept = Kept::at(dir.path(), options(2), address).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    is_over.store(true, Ordering::Relaxed);
    let done: Vec<String> = proposers.join_all().await.concat();
    let made = made(dir.path());
    assert!(done.len() > 20, "{}", done.len());
    assert_eq!(made.len(), done.len());
    assert!(done.iter().all(|name| made.get(name) == Some(&1)));
    know_the_same(&[&one, &two]).await;
    kept.stop().await;
}

/// Carries bytes between followers and a keeper, and stops after so many.
async fn carry(listener: TcpListener, to: SocketAddr) {
    let mut most = 300_u64;
    while let Ok((from, _)) = listener.accept().await {
        let Ok(to) = TcpStream::connect(to).await else { continue };
        most = most * 3 % 20_011 + 400;
        let ((mut from_reader, mut from_writer), (mut to_reader, mut to_writer)) =
            (from.into_split(), to.into_split());
        tokio::spawn(async move {
            let mut limited = (&mut to_reader).take(most);
            tokio::select! {
                _ = tokio::io::copy(&mut from_reader, &mut to_writer) => {}
                _ = tokio::io::copy(&mut limited, &mut from_writer) => {}
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_proposed_over_connections_that_are_cut_happens_once() {
    let dir = TempDir::new().expect("a directory");
    let kept = Kept::new(dir.path(), options(2)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let carrier = tokio::spawn(carry(listener, kept.address));
    let (cut, other) = (following(address, 1).await, following(kept.address, 2).await);
    for number in 0..60 {
        propose(&cut, format!("disk-{number}")).await.expect("it happens");
    }
    let made = made(dir.path());
    assert_eq!((made.len(), made.values().max()), (60, Some(&1)));
    know_the_same(&[&cut, &other]).await;
    carrier.abort();
    kept.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_late_gets_the_state_as_a_whole() {
    let dir = TempDir::new().expect("a directory");
    let few = || KeeperOptions { history_bytes: 1000, ..options(2) };
    let kept = Kept::new(dir.path(), few()).await;
    let one = following(kept.address, 1).await;
    for number in 0..10 {
        propose(&one, format!("disk-{number}")).await.expect("room");
    }
    let two = following(kept.address, 2).await;
    assert_eq!(two.state().vdis().count(), 10);
    propose(&two, "another".to_owned()).await.expect("room");
    know_the_same(&[&one, &two]).await;
    kept.stop().await;
}

/// Carries bytes between followers and a keeper, but none while it is stuck; and nothing goes on that was stuck once.
async fn carry_unless(is_stuck: Arc<AtomicBool>, listener: TcpListener, to: SocketAddr) {
    while let Ok((mut from, _)) = listener.accept().await {
        let Ok(mut to) = TcpStream::connect(to).await else { continue };
        let is_stuck = is_stuck.clone();
        tokio::spawn(async move {
            let is = async |wanted| {
                while is_stuck.load(Ordering::Relaxed) != wanted {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
                () = is(true) => is(false).await,
            }
        });
    }
}

/// A follower that does not read holds nobody up, and knows all when it reads again.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_holds_nobody_up() {
    let dir = TempDir::new().expect("a directory");
    let kept = Kept::new(dir.path(), options(2)).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let is_stuck = Arc::new(AtomicBool::new(false));
    let carrier = tokio::spawn(carry_unless(is_stuck.clone(), listener, kept.address));
    let (slow, other) = (following(address, 1).await, following(kept.address, 2).await);
    let before = slow.state().number();
    is_stuck.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(50)).await;
    for number in 0..100 {
        propose(&other, format!("disk-{number}")).await.expect("nobody waits");
    }
    assert_eq!(slow.state().number(), before);
    // It has things to do all the time, and notices that it hears nothing.
    let mut status = slow.status();
    let is_cut =
        |status: &KeeperStatus| matches!(status, KeeperStatus::Cut(cut) if matches!(**cut, Cut::Silent));
    let is_noticed = tokio::time::timeout(kept::DEADLINE, status.wait_for(is_cut)).await.is_ok();
    assert!(is_noticed, "it hears nothing");
    is_stuck.store(false, Ordering::Relaxed);
    know_the_same(&[&slow, &other]).await;
    carrier.abort();
    kept.stop().await;
}

/// Of records that are made while a follower connects it misses none, whether it gets them or the state as a whole.
#[tokio::test(flavor = "multi_thread")]
async fn who_connects_while_records_are_made_knows_all() {
    for history_bytes in [1000, 4 << 20] {
        let dir = TempDir::new().expect("a directory");
        let kept = Kept::new(dir.path(), KeeperOptions { history_bytes, ..options(2) }).await;
        let one = following(kept.address, 1).await;
        let is_over = Arc::new(AtomicBool::new(false));
        let (proposer, over) = (one.clone(), is_over.clone());
        let proposals = spawn_blocking(move || {
            (0..).take_while(|_| !over.load(Ordering::Relaxed)).for_each(|number| {
                proposer.propose(create(&format!("disk-{number}"))).map(drop).expect("room");
            });
        });
        let mut others = Vec::new();
        for _ in 0..20 {
            others.push(following(kept.address, 2).await);
        }
        is_over.store(true, Ordering::Relaxed);
        proposals.await.expect("no panic");
        know_the_same(&others.iter().chain([&one]).collect::<Vec<_>>()).await;
        assert!(one.state().vdis().count() > 5);
        kept.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_cut_when_it_is_long_and_nobody_notices() {
    let dir = TempDir::new().expect("a directory");
    let log = dir.path().join("epoch/log");
    let short = || KeeperOptions { cut_bytes: 20_000, ..options(2) };
    let mut kept = Kept::new(dir.path(), short()).await;
    let address = kept.address;
    let (one, two) = (following(address, 1).await, following(address, 2).await);
    let mut longest = 0;
    for round in 0..3 {
        for number in 0..100 {
            propose(&one, format!("disk-{number}")).await.expect("room");
            let vid = one.state().vdi(&format!("disk-{number}")).expect("it is there").vid;
            let delete = Operation::DeleteVdi { vid };
            let driver = one.clone();
            spawn_blocking(move || driver.propose(delete).map(drop)).await.expect("no panic").expect("room");
            longest = longest.max(std::fs::metadata(&log).expect("a ledger").len());
        }
        propose(&two, format!("stays-{round}")).await.expect("room");
        kept.stop().await;
        kept = Kept::at(dir.path(), short(), address).await;
    }
    let late = following(address, 1).await;
    assert_eq!(late.state().vdis().count(), 3);
    know_the_same(&[&one, &two, &late]).await;
    kept.stop().await;
    let records = records(dir.path()).len() as u64;
    // The state of a cluster takes a quarter of a million bytes.
    assert!(longest < 700_000 && records < one.state().number(), "{longest} bytes, {records} records");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_ledger_can_have_is_refused_at_once_and_the_rest_goes_on() {
    let dir = TempDir::new().expect("a directory");
    let kept = Kept::new(dir.path(), options(1)).await;
    let driver = following(kept.address, 1).await;
    propose(&driver, "disk".to_owned()).await.expect("room");
    let disk = driver.state().vdi("disk").expect("it is there").vid;
    let hold = Proposal::Hold { disks: vec![disk; MAX_HELD + 1], then: HoldEnd::Freeze };
    let refused = driver.propose_any(hold).expect_err("it is too long");
    assert!(matches!(refused, ProposeError::Kept(NotDone::Unreadable(_))), "{refused}");
    let nodes = vec![node(1); MAX_RECORD_BYTES / 16];
    let long = Proposal::Record(Record::Sets(SetRecord::NodesDown { nodes }));
    let refused = driver.propose_any(long).expect_err("it is too long");
    assert!(matches!(refused, ProposeError::Refused(FollowError::TooLarge(_))), "{refused}");
    propose(&driver, "other".to_owned()).await.expect("the rest goes on");
    kept.stop().await;
}

fn is_refused(status: &KeeperStatus) -> bool {
    matches!(status, KeeperStatus::Cut(cut) if matches!(**cut, Cut::Rejected(Rejection::OldCopy { .. })))
}

async fn is_not_followed(driver: &RemoteDriver) {
    let mut status = driver.status();
    let is_told = tokio::time::timeout(kept::DEADLINE, status.wait_for(is_refused)).await.is_ok();
    assert!(is_told, "in time");
    assert!(driver.state().vdi("second").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_ledger_is_not_followed() {
    let dir = TempDir::new().expect("a directory");
    let kept = Kept::new(dir.path(), options(1)).await;
    let address = kept.address;
    let driver = following(address, 1).await;
    propose(&driver, "first".to_owned()).await.expect("room");
    let log = dir.path().join("epoch/log");
    let old = std::fs::read(&log).expect("a ledger");
    propose(&driver, "second".to_owned()).await.expect("room");
    kept.stop().await;
    std::fs::write(&log, &old).expect("a directory to write to");
    let few = || KeeperOptions { history_bytes: 1000, cut_bytes: 4000, ..options(1) };
    let kept = Kept::at(dir.path(), few(), address).await;
    is_not_followed(&driver).await;
    kept.stop().await;
    // Nor is what became of it elsewhere, be it longer by now than what is sent record by record.
    let kept = Kept::new(dir.path(), few()).await;
    let other = following(kept.address, 1).await;
    for number in 0..10 {
        propose(&other, format!("disk-{number}")).await.expect("room");
    }
    kept.stop().await;
    until("nobody is there", || !is_refused(&driver.status().borrow())).await;
    let kept = Kept::at(dir.path(), few(), address).await;
    is_not_followed(&driver).await;
    kept.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_come_from_a_keeper_that_runs_and_for_the_newest_process() {
    let dir = TempDir::new().expect("a directory");
    let kept = Kept::new(dir.path(), options(2)).await;
    let address = kept.address;
    let (mut disk, one) = (Disk::new(), following(address, 1).await);
    assert!(!one.has_lease());
    disk.start(&one).await.expect("it starts");
    let again = following(address, 1).await;
    let refused = disk.start(&again).await;
    assert!(matches!(refused, Err(StartError::NotStarted(NotStarted::StillRuns))), "{refused:?}");
    let stranger = following(address, 9).await;
    let refused =
        stranger.start(NodeStart { memory: Memory::Kept, start: StartId(5), after: Vec::new() }).await;
    assert!(matches!(refused, Err(StartError::NotStarted(NotStarted::Stranger))), "{refused:?}");
    // Without a keeper there is no lease, with the next one there is.
    kept.stop().await;
    until("the lease has run out", || !one.has_lease()).await;
    let kept = Kept::at(dir.path(), options(2), address).await;
    until("another lease", || one.has_lease()).await;
    // Who leaves is down at once.
    Arc::try_unwrap(one).expect("nobody else has it").leave().await;
    until("it is down", || !is_up(&again, node(1))).await;
    disk.start(&again).await.expect("it starts");
    let down = records(dir.path()).iter().filter(|record| is_down(record)).count();
    assert_eq!(down, 1);
    kept.stop().await;
}

fn is_down(record: &Record) -> bool {
    matches!(record, Record::Sets(SetRecord::NodesDown { .. }))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_silent_is_down_and_up_again_when_it_speaks() {
    let dir = TempDir::new().expect("a directory");
    let quick = KeeperOptions { silence: Duration::from_secs(2), ..options(2) };
    let kept = Kept::new(dir.path(), quick).await;
    let (one, two) = (following(kept.address, 1).await, following(kept.address, 2).await);
    let (mut first, mut second) = (Disk::new(), Disk::new());
    first.start(&one).await.expect("it starts");
    second.start(&two).await.expect("it starts");
    drop(two);
    until("node 2 is down", || !is_up(&one, node(2))).await;
    assert!(one.has_lease());
    let two = following(kept.address, 2).await;
    second.start(&two).await.expect("it starts");
    assert!(is_up(&two, node(2)));
    until("both know of it", || is_up(&one, node(2)) && two.not_leased() != Some(NotLeased::OtherProcess))
        .await;
    kept.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_something_to_say_first_is_not_up_again_before_that() {
    let dir = TempDir::new().expect("a directory");
    let quick = KeeperOptions { silence: Duration::from_secs(1), ..options(1) };
    let kept = Kept::new(dir.path(), quick).await;
    let one = following(kept.address, 1).await;
    Disk::new().start(&one).await.expect("it starts");
    one.wait_to_ask(true);
    until("it is down", || !is_up(&one, node(1))).await;
    // What it asks would come after what it proposes.
    for text in ["what", "it", "says"] {
        propose(&one, text.into()).await.expect("it is heard");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(!is_up(&one, node(1)));
    one.wait_to_ask(false);
    until("it is up", || is_up(&one, node(1)) && one.has_lease()).await;
    kept.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_disk_failed_is_said_of_all_partitions_though_there_are_more_than_may_wait() {
    let dir = TempDir::new().expect("a directory");
    let kept = Kept::new(dir.path(), options(3)).await;
    let one = following(kept.address, 1).await;
    Disk::new().start(&one).await.expect("it starts");
    let incarnation = one.state().sets().node(node(1)).expect("it is known").incarnation;
    let kept_by = |driver: &RemoteDriver| {
        let state = driver.state();
        let is_keeper = |set: &InSyncSet| set.keepers().contains(&node(1)) && !set.failed.contains(&node(1));
        state
            .sets()
            .sets()
            .filter(|(_, set)| is_keeper(set))
            .map(|(at, set)| (at, set.pepoch))
            .collect::<Vec<_>>()
    };
    let all = kept_by(&one);
    assert!(all.len() > 1000, "{}", all.len());
    for (partition, pepoch) in all {
        let change = InSyncChange::Failed { node: node(1), incarnation };
        one.propose_unheard(Proposal::Record(Record::Sets(SetRecord::Changed { partition, pepoch, change })));
    }
    until("all is said", || kept_by(&one).is_empty()).await;
    kept.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_taken_when_all_who_lead_hold_and_not_before() {
    let dir = TempDir::new().expect("a directory");
    let kept = Kept::new(dir.path(), options(2)).await;
    let drivers = [following(kept.address, 1).await, following(kept.address, 2).await];
    for driver in &drivers {
        Disk::new().start(driver).await.expect("it starts");
    }
    propose(&drivers[0], "disk".to_owned()).await.expect("room");
    let disk = drivers[0].state().vdi("disk").expect("it is there").vid;
    let hold = |driver: &Arc<RemoteDriver>| {
        let (driver, proposal) =
            (driver.clone(), Proposal::Hold { disks: vec![disk], then: HoldEnd::Freeze });
        spawn_blocking(move || driver.propose_any(proposal))
    };
    let not_held = hold(&drivers[0]).await.expect("no panic");
    assert!(matches!(not_held, Err(ProposeError::Kept(NotDone::NotHeld))), "{not_held:?}");
    let asked = hold(&drivers[1]);
    for driver in &drivers {
        until("it is held", || !driver.state().disks().held(2).is_empty()).await;
        driver.holds(2, driver.state().leads(driver.node()));
        // Of another one, that is over, it is told at the same time.
        driver.holds(1, driver.state().leads(driver.node()));
    }
    let state = asked.await.expect("no panic").expect("all hold");
    assert_ne!(state.disks().working(disk), Some(disk));
    let commits = |record: &Record| matches!(record, Record::Disks(DiskRecord::Commit { .. }));
    assert_eq!(records(dir.path()).iter().filter(|record| commits(record)).count(), 1);
    // Nor does anybody but the keeper say who is down.
    let driver = drivers[0].clone();
    let down = Proposal::Record(Record::Sets(SetRecord::NodesDown { nodes: vec![node(2)] }));
    let answer = spawn_blocking(move || driver.propose_any(down)).await.expect("no panic");
    assert!(matches!(answer, Err(ProposeError::Kept(NotDone::NotProposable))), "{answer:?}");
    kept.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_has_one_keeper_and_one_cluster() {
    let dir = TempDir::new().expect("a directory");
    let none = KeeperServer::open(dir.path(), KeeperOptions::new(key())).expect_err("there is none");
    assert!(none.to_string().contains("there is no node"), "{none}");
    let kept = Kept::new(dir.path(), options(1)).await;
    let used = KeeperServer::open(dir.path(), options(1)).expect_err("it is in use");
    assert!(used.to_string().contains("in use"), "{used}");
    kept.stop().await;
    let mut other = options(1);
    other.make.as_mut().expect("one to make").name = kept::name("other");
    let wrong = KeeperServer::open(dir.path(), other).expect_err("it is another one");
    assert!(wrong.to_string().contains("belongs to the cluster test"), "{wrong}");
    assert!(KeeperServer::open(dir.path(), KeeperOptions::new(key())).is_ok());
}
