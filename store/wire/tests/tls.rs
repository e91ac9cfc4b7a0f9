//! Promise: under TLS a connection is between processes of one CA, each of which has the certificate of the node that it says it is.
//! Over loopback, with ports that the kernel picks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use huntaway_wire::encoding::Malformed;
use huntaway_wire::frame::{Frame, Outgoing};
use huntaway_wire::hello::{ClusterId, Identity, Why};
use huntaway_wire::link::{Acceptor, Cut, Inbox, Link, Outbox, Status};
use huntaway_wire::replicated::{Answer, Answered, Block, RequestId};
use huntaway_wire::tls::{Credentials, File, Names, Pem, Tls, Untrusted};
use huntaway_wire::{ClusterKey, Incarnation, NodeId, Partition, Process, Stamp};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const DEADLINE: Duration = Duration::from_secs(30);

/// What nodes 1, 2 and 3 are called.
const NAMES: [&str; 3] = ["one", "two", "three"];

struct Ca {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
struct Made {
    certificate: String,
    key: String,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("it has no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        let pem = params.self_signed(&key).expect("it can be signed").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn made(&self, name: &str) -> Made {
        self.made_as(name, |_| ())
    }

    fn made_as(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Made {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name that hosts may have");
        change(&mut params);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("it can be signed").pem();
        Made { certificate, key: key.serialize_pem() }
    }

    /// What a process has that is called so.
    fn tls(&self, name: &str) -> Tls {
        let Made { certificate, key } = self.made(name);
        tls(&self.pem, &certificate, &key, name).expect("it can be used")
    }
}

fn tls(ca: &str, certificate: &str, key: &str, name: &str) -> Result<Tls, (File, String)> {
    let pem = Pem { ca: ca.as_bytes(), certificate: certificate.as_bytes(), private_key: key.as_bytes() };
    Tls::new(pem, name).map_err(|unusable| (unusable.file, format!("{}: {}", unusable.why, unusable.cure)))
}

fn process(node: u8) -> Process {
    Process { node: NodeId([node; 16]), incarnation: Incarnation(1) }
}

fn identity(node: u8) -> Identity {
    Identity::new(ClusterId([1; 16]), process(node))
}

fn key() -> ClusterKey {
    ClusterKey::new([7; 32])
}

fn with(tls: Tls) -> Credentials {
    let names: Names = Arc::new(|node| {
        let place = usize::from(node.0[0]).checked_sub(1)?;
        NAMES.get(place).map(|name| (*name).to_owned())
    });
    Credentials { key: key(), tls: Some((tls, names)) }
}

/// A frame with so many blocks.
fn frame(blocks: usize) -> Outgoing {
    let partition = Partition::new(3).expect("there are 4096");
    let id = RequestId { gateway: process(9), number: 1 };
    let blocks = (0..blocks).map(|number| Some(Block::new(Bytes::from(vec![number as u8; 4096]))));
    let answered = Answered { id, resend: 0, answer: Answer::Data(blocks.collect()), stamp: Stamp::NONE };
    Outgoing::new(partition, &answered).expect("it is short")
}

/// Tells who sent how many blocks, all of them sound; and sends as many back, if it is told to.
struct Told {
    to: UnboundedSender<(Process, usize)>,
    returns: bool,
}

impl Inbox for Told {
    fn take(&self, from: Process, frame: Frame, back: &Outbox) -> Result<(), Malformed> {
        let (_, Answered { answer: Answer::Data(blocks), .. }) = frame.open::<Answered>()? else {
            panic!("another answer")
        };
        let sound = blocks.iter().flatten().filter(|block| block.is_sound()).count();
        assert_eq!(sound, blocks.len());
        if self.returns {
            back.send(self::frame(sound));
        }
        // Whoever does not listen any more has seen enough.
        let _ = self.to.send((from, sound));
        Ok(())
    }
}

fn told(returns: bool) -> (Arc<Told>, UnboundedReceiver<(Process, usize)>) {
    let (to, told) = unbounded_channel();
    (Arc::new(Told { to, returns }), told)
}

/// Node 2, and what it is told.
async fn serve(credentials: Credentials) -> (SocketAddr, UnboundedReceiver<(Process, usize)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (inbox, told) = told(true);
    tokio::spawn(Acceptor::new(identity(2), credentials, inbox).serve(listener));
    (address, told)
}

/// Why `node` is not connected to node 2.
async fn cut(node: u8, credentials: impl Into<Credentials>, address: SocketAddr) -> Arc<Cut> {
    let (inbox, _told) = told(false);
    let link = Link::new(identity(node), credentials, process(2), address, inbox);
    let mut status = link.status();
    let found = timeout(DEADLINE, status.wait_for(|status| !matches!(status, Status::Calling)));
    match found.await.expect("in time").expect("a link").clone() {
        Status::Cut(cut) => cut,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_said_arrives_in_both_directions() {
    let ca = Ca::new();
    let (address, mut heard) = serve(with(ca.tls("two"))).await;
    let (inbox, mut back) = told(false);
    let link = Link::new(identity(1), with(ca.tls("one")), process(2), address, inbox);
    // More than is encrypted at a time, and than sockets hold.
    for blocks in [1, 1024, 0, 1000] {
        assert!(link.outbox().send(frame(blocks)));
        let came = timeout(DEADLINE, heard.recv()).await.expect("in time");
        assert_eq!(came, Some((process(1), blocks)));
        assert_eq!(timeout(DEADLINE, back.recv()).await.expect("in time"), Some((process(2), blocks)));
    }
}

#[tokio::test]
async fn whoever_shows_no_certificate_of_the_ca_is_not_taken() {
    let (ca, other) = (Ca::new(), Ca::new());
    let (address, mut heard) = serve(with(ca.tls("two"))).await;
    // It does not know of TLS.
    let why = cut(1, key(), address).await;
    assert!(matches!(&*why, Cut::Garbage(_) | Cut::Closed | Cut::Io(_)), "{why}");
    // It finds out that node 2 is of another CA.
    let why = cut(1, with(other.tls("one")), address).await.to_string();
    assert!(why.contains("of no CA in `ca_file`"), "{why}");
    // It believes that CA, and has nothing of it.
    let Made { certificate, key } = other.made("one");
    let both = format!("{}{}", ca.pem, other.pem);
    let credulous = tls(&both, &certificate, &key, "one").expect("it can be used");
    let why = cut(1, with(credulous), address).await.to_string();
    assert!(why.contains("it does not take this process' certificate"), "{why}");
    // It shows nothing.
    let roots = CertificateDer::from_pem_slice(ca.pem.as_bytes()).map(|certificate| {
        let mut roots = RootCertStore::empty();
        roots.add(certificate).map(|()| roots)
    });
    let roots = roots.expect("PEM").expect("a CA's certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots).with_no_client_auth());
    let connector = TlsConnector::from(Arc::new(config.expect("it can be used")));
    let stream = TcpStream::connect(address).await.expect("it listens");
    let name = ServerName::try_from("two").expect("a name");
    let mut stream = connector.connect(name, stream).await.expect("it does not know yet");
    let read = timeout(DEADLINE, stream.read(&mut [0; 64])).await.expect("in time");
    assert!(read.as_ref().is_err_and(|error| error.to_string().contains("CertificateRequired")), "{read:?}");
    assert!(heard.try_recv().is_err());
}

#[tokio::test]
async fn whoever_does_not_know_of_tls_is_not_gone_on_with() {
    let (address, mut heard) = serve(key().into()).await;
    let why = cut(1, with(Ca::new().tls("one")), address).await;
    assert!(matches!(&*why, Cut::Untrusted(Untrusted::Ended)), "{why}");
    assert!(why.to_string().contains("has `tls` in its configuration, too"), "{why}");
    assert!(heard.try_recv().is_err());
}

#[tokio::test]
async fn a_node_has_to_have_the_certificate_of_its_own_name() {
    let ca = Ca::new();
    let (address, mut heard) = serve(with(ca.tls("two"))).await;
    // Node 1 says that it is node 3, and has the cluster's key.
    let why = cut(3, with(ca.tls("one")), address).await;
    assert!(matches!(&*why, Cut::Rejected(by) if by.why == Why::Certificate), "{why}");
    // Nobody knows of node 4.
    let why = cut(4, with(ca.tls("one")), address).await;
    assert!(!matches!(&*why, Cut::Rejected(_)), "{why}");
    assert!(heard.try_recv().is_err());
    // Node 3 is where node 2 should be.
    let (address, _heard) = serve(with(ca.tls("three"))).await;
    let why = cut(1, with(ca.tls("one")), address).await.to_string();
    assert!(why.contains("not valid for name \"two\"") && why.contains("subjectAltName"), "{why}");
}

#[test]
fn files_that_others_would_not_take_are_told_at_once() {
    let (ca, other) = (Ca::new(), Ca::new());
    let Made { certificate, key } = ca.made("one");
    let wrong = |ca: &str, certificate: &str, key: &str, name: &str| {
        tls(ca, certificate, key, name).expect_err("it cannot be used")
    };
    let purpose = ca.made_as("one", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let past = ca.made_as("one", |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let cases = [
        (wrong(&ca.pem, &certificate, &key, "two"), File::Certificate, "not valid for name \"two\""),
        (wrong(&other.pem, &certificate, &key, "one"), File::Certificate, "of no CA in `ca_file`"),
        (wrong(&ca.pem, &certificate, &ca.made("one").key, "one"), File::PrivateKey, "another certificate"),
        (wrong(&ca.pem, &purpose.certificate, &purpose.key, "one"), File::Certificate, "extendedKeyUsage"),
        (wrong(&ca.pem, &past.certificate, &past.key, "one"), File::Certificate, "expired"),
        (wrong("", &certificate, &key, "one"), File::Ca, "BEGIN CERTIFICATE"),
        (wrong(&ca.pem, &key, &key, "one"), File::Certificate, "BEGIN CERTIFICATE"),
        (wrong(&ca.pem, &certificate, &certificate, "one"), File::PrivateKey, "BEGIN PRIVATE KEY"),
        (wrong(&ca.pem, &certificate, &key, "a:b"), File::Certificate, "the name `a:b`"),
    ];
    for ((file, why), expected, word) in cases {
        assert!(file == expected && why.contains(word), "{file:?}: {why}");
        assert!(!why.contains(&key[40..60]), "{why}");
    }
}
