//! Under TLS a keeper of a ledger takes whom it knows by certificates, each of which speaks for its own node alone.

mod kept;

use std::sync::{Arc, Mutex};

use huntaway_ledger::keeper::Proposal;
use huntaway_ledger::{EpochRecord, Name, Record};
use huntaway_membership::Driver;
use huntaway_membership::local::shared::{
    Cut, KeeperOptions, KeeperStatus, RemoteDriver, RemoteOptions, StartError,
};
use huntaway_wire::Epoch;
use huntaway_wire::tls::{KEEPER, Pem, Tls};
use kept::{Disk, Kept, follower, options};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::{NamedTempFile, TempDir};
use tokio::time::timeout;

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("it has no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        let pem = params.self_signed(&key).expect("it can be signed").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// What a process has that is called so.
    fn tls(&self, name: &str) -> Option<Tls> {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name that hosts may have");
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("it can be signed").pem();
        let private_key = key.serialize_pem();
        let (ca, certificate, private_key) =
            (self.pem.as_bytes(), certificate.as_bytes(), private_key.as_bytes());
        Some(Tls::new(Pem { ca, certificate, private_key }, name).expect("it can be used"))
    }
}

async fn refused(options: RemoteOptions) -> Cut {
    let options = RemoteOptions { patience: std::time::Duration::from_millis(500), ..options };
    RemoteDriver::connect(options).await.expect_err("it is not to be taken")
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_are_taken_by_their_certificates() {
    let (ca, other, dir) = (Ca::new(), Ca::new(), TempDir::new().expect("a directory"));
    let kept = Kept::new(dir.path(), KeeperOptions { tls: ca.tls(KEEPER), ..options(2) }).await;
    let with = |tls: Option<Tls>, number: u8| RemoteOptions { tls, ..follower(kept.address, number) };
    let one = RemoteDriver::connect(with(ca.tls("node-1"), 1)).await;
    let one = Arc::new(one.expect("it is taken"));
    Disk::new().start(&one).await.expect("it may start");

    let cut = refused(with(None, 1)).await.to_string();
    assert!(cut.contains("tls"), "{cut}");
    let cut = refused(with(other.tls("node-1"), 1)).await.to_string();
    assert!(cut.contains("of no CA in `ca_file`"), "{cut}");
    // Who is called is no keeper.
    let second = TempDir::new().expect("a directory");
    let node = Kept::new(second.path(), KeeperOptions { tls: ca.tls("node-2"), ..options(1) }).await;
    let cut = refused(RemoteOptions { tls: ca.tls("node-1"), ..follower(node.address, 1) }).await.to_string();
    assert!(cut.contains("not valid for name \"keeper\""), "{cut}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_speaks_for_its_own_node_alone() {
    let (ca, dir) = (Ca::new(), TempDir::new().expect("a directory"));
    let logged = NamedTempFile::new().expect("a file");
    let log = logged.reopen().expect("it is there");
    tracing_subscriber::fmt().with_ansi(false).with_writer(Mutex::new(log)).init();
    let kept = Kept::new(dir.path(), KeeperOptions { tls: ca.tls(KEEPER), ..options(2) }).await;
    let with = |name: &str, number: u8| RemoteOptions { tls: ca.tls(name), ..follower(kept.address, number) };
    let is_told = async |driver: &RemoteDriver| {
        let mut status = driver.status();
        let told = status.wait_for(|status| {
            matches!(status, KeeperStatus::Cut(cut) if cut.to_string().contains("certificate for another name"))
        });
        drop(timeout(kept::DEADLINE, told).await.expect("in time").expect("it is connected"));
    };
    let false_one = Arc::new(RemoteDriver::connect(with("node-2", 1)).await.expect("it may follow"));
    let mut disk = Disk::new();
    let (started, ()) = tokio::join!(disk.start(&false_one), is_told(&false_one));
    assert!(matches!(started, Err(StartError::Late)), "{started:?}");
    // Nor for a gateway.
    let two = Arc::new(RemoteDriver::connect(with("node-2", 2)).await.expect("it may follow"));
    let own = |name: &str| Name::new(name).expect("a valid name");
    let (gateway, driver) = (own("gateway-1"), Arc::clone(&two));
    let started = tokio::spawn(async move { driver.start_gateway(&gateway).await });
    is_told(&two).await;
    started.abort();
    let gateway = Arc::new(RemoteDriver::connect(with("gateway-1", 0)).await.expect("it may follow"));
    assert!(gateway.start_gateway(&own("gateway-1")).await.is_ok());
    // Nor is another node given its name.
    let state = gateway.state();
    let mut members = state.members().to_vec();
    members[1].name = own("gateway-1");
    let cluster = state.cluster().expect("it has one").clone();
    let number = Epoch(state.epoch().0 + 1);
    let epoch = Record::Epoch(EpochRecord { number, cluster, members, voters: state.voters().to_vec() });
    gateway.propose_unheard(Proposal::Record(epoch));
    is_told(&gateway).await;
    assert_eq!(gateway.state().members(), state.members());
    // Whoever looks after the cluster finds out who that was.
    let log = std::fs::read_to_string(logged.path()).expect("it is text");
    for words in [
        "valid for name \"node-1\"; certificate is only valid for DnsName(\"node-2\")",
        "valid for name \"gateway-1\"; certificate is only valid for DnsName(\"node-2\")",
        "gives a node the name of another",
        "cut off address=Some(127.0.0.1:",
    ] {
        assert!(log.contains(words), "{words} is not in:\n{log}");
    }
}
