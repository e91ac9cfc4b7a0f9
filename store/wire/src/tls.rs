//! TLS beneath connections between processes: both sides show certificates of one CA, each for the name that the ledger has for who
//! shows it. That both have the cluster's key they prove all the same ([`crate::hello`]).

use core::time::Duration;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, Error, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, sink};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::{ClusterKey, NodeId};

/// What the certificate of whoever keeps a cluster's ledger is for. With TLS, no node has that name.
pub const KEEPER: &str = "keeper";

/// How long it is waited for whoever is not taken to read why, and how many bytes are read of it meanwhile.
const LINGERS: Duration = Duration::from_secs(1);
const MOST_UNREAD: u64 = 64 << 10;

/// What the ledger calls a node, or a gateway that is none; `None`: it does not know of it, or not yet.
pub type Names = Arc<dyn Fn(NodeId) -> Option<String> + Send + Sync>;

/// How a process shows who it is, and finds out who others are.
#[derive(Clone)]
pub struct Credentials {
    /// The cluster's key.
    pub key: ClusterKey,
    /// `None`: connections are as the network has them.
    pub tls: Option<(Tls, Names)>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

impl From<ClusterKey> for Credentials {
    fn from(key: ClusterKey) -> Self {
        Self { key, tls: None }
    }
}

/// The files of a process, in PEM.
#[derive(Clone, Copy)]
pub struct Pem<'a> {
    /// Certificates of CAs.
    pub ca: &'a [u8],
    /// The process' own certificate, then those between it and a CA's, if there are any.
    pub certificate: &'a [u8],
    /// The key that belongs to it.
    pub private_key: &'a [u8],
}

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// That of the CAs.
    Ca,
    /// That of the process' certificate.
    Certificate,
    /// That of its key.
    PrivateKey,
}

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// Which.
    pub file: File,
    /// Why.
    pub why: String,
    /// What to do.
    pub cure: String,
}

/// What a process shows to others, and which CAs it believes.
#[derive(Clone)]
pub struct Tls {
    called: TlsAcceptor,
    calls: TlsConnector,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(..)")
    }
}

/// What the other side showed.
#[derive(Debug, Clone)]
pub struct Certificate(CertificateDer<'static>);

impl Certificate {
    /// Whether it is for that name.
    ///
    /// # Errors
    /// [`Untrusted`] says for which it is.
    pub fn is_for(&self, name: &str) -> Result<(), Untrusted> {
        Ok(verify_server_name(&ParsedCertificate::try_from(&self.0)?, &server_name(name)?)?)
    }
}

impl Tls {
    /// For the process of that name.
    ///
    /// # Errors
    /// [`Unusable`]: others would not take what it shows.
    pub fn new(pem: Pem<'_>, name: &str) -> Result<Self, Unusable> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(pem.certificate).map_err(|why| Unusable::no_pem(File::Certificate, &why))?;
        let roots = Arc::new(roots(pem.ca).map_err(|why| Unusable::no_pem(File::Ca, &why))?);
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let clients = clients.build().map_err(|why| Unusable::no_pem(File::Ca, &why))?;
        let servers = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let servers = servers.build().map_err(|why| Unusable::no_pem(File::Ca, &why))?;
        let is_taken = server_name(name).and_then(|name| {
            let (own, between) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
            servers.verify_server_cert(own, between, &name, &[], UnixTime::now())?;
            clients.verify_client_cert(own, between, UnixTime::now())?;
            Ok(())
        });
        is_taken.map_err(|untrusted| {
            let (why, cure) = untrusted.explained();
            Unusable { file: File::Certificate, why, cure: cure.to_owned() }
        })?;
        // What is wrong with a key is told without a byte of it.
        let key = PrivateKeyDer::from_pem_slice(pem.private_key)
            .map_err(|_| Unusable::no_pem(File::PrivateKey, &"no line says BEGIN PRIVATE KEY"))?;

        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map(|builder| builder.with_client_cert_verifier(clients))
            .and_then(|builder| builder.with_single_cert(chain.clone(), key.clone_key()));
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map(|builder| builder.with_root_certificates(roots))
            .and_then(|builder| builder.with_client_auth_cert(chain, key));
        let (mut server, mut client) = (server.map_err(Unusable::key)?, client.map_err(Unusable::key)?);
        // Who comes again shows its certificate again.
        server.send_tls13_tickets = 0;
        client.resumption = Resumption::disabled();
        Ok(Self { called: Arc::new(server).into(), calls: Arc::new(client).into() })
    }

    /// Goes on with whoever calls, if what it shows is of our CA.
    pub(crate) async fn called(&self, stream: TcpStream) -> io::Result<(TlsStream<TcpStream>, Certificate)> {
        let stream = match self.called.accept(stream).into_fallible().await {
            Ok(stream) => stream,
            Err((error, mut stream)) => {
                // Were it closed with something unread, the other side might never read why.
                let _ = stream.shutdown().await;
                let _ = timeout(LINGERS, copy(&mut stream.take(MOST_UNREAD), &mut sink())).await;
                return Err(error);
            }
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let shown = shown.ok_or_else(|| io::Error::other(Error::NoCertificatesPresented))?;
        let shown = Certificate(shown.clone().into_owned());
        Ok((stream.into(), shown))
    }

    /// Goes on with whom it called, if what that shows is of our CA, and for that name.
    pub(crate) async fn call(&self, stream: TcpStream, name: &str) -> io::Result<TlsStream<TcpStream>> {
        let name = server_name(name).map_err(io::Error::other)?.to_owned();
        match self.calls.connect(name, stream).await {
            Ok(stream) => Ok(stream.into()),
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                Err(io::Error::other(Untrusted::Ended))
            }
            Err(error) => Err(error),
        }
    }
}

impl Unusable {
    fn no_pem(file: File, why: &dyn fmt::Display) -> Self {
        let cure = "name a file in PEM, as openssl and others write it".to_owned();
        Self { file, why: why.to_string(), cure }
    }

    fn key(error: Error) -> Self {
        let (why, cure) = match error {
            Error::InconsistentKeys(_) => (
                "it belongs to another certificate".to_owned(),
                "name the key that was made for the certificate",
            ),
            error => (error.to_string(), "make another key: one on the curve P-256, or an RSA key"),
        };
        Self { file: File::PrivateKey, why, cure: cure.to_owned() }
    }
}

/// At least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err("no line says BEGIN CERTIFICATE".to_owned()),
        all => all.map_err(|error| error.to_string()),
    }
}

fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

fn server_name(name: &str) -> Result<ServerName<'_>, Untrusted> {
    ServerName::try_from(name).map_err(|_| Untrusted::NoName(name.to_owned()))
}

/// Why a connection is not secured.
#[derive(Debug, Clone, PartialEq)]
pub enum Untrusted {
    /// No certificate can be for that name.
    NoName(String),
    /// The ledger does not know who that is.
    Nobody,
    /// The other side does not go on, as whoever does not know of TLS.
    Ended,
    /// What the other side shows, or says.
    Tls(Error),
}

impl std::error::Error for Untrusted {}

impl From<Error> for Untrusted {
    fn from(error: Error) -> Self {
        Self::Tls(error)
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (why, cure) = self.explained();
        write!(f, "{why}: {cure}")
    }
}

impl Untrusted {
    /// What is behind the error of a connection that is not the network's.
    pub fn of(error: &io::Error) -> Option<Self> {
        let inner = error.get_ref()?;
        let known = inner.downcast_ref::<Error>().map(|error| Self::Tls(error.clone()));
        known.or_else(|| inner.downcast_ref::<Self>().cloned())
    }

    /// Why, and what to do.
    fn explained(&self) -> (String, &'static str) {
        match self {
            Self::NoName(name) => (
                format!("no certificate can be for the name `{name}`"),
                "with TLS nodes have names as hosts have: letters, digits, - and .",
            ),
            Self::Nobody => (
                "the ledger does not know who that is".to_owned(),
                "this goes by itself if it has just been started or added",
            ),
            Self::Ended => ("it ends the connection before that is secured".to_owned(), BOTH),
            Self::Tls(Error::InvalidCertificate(error)) => of_certificate(error),
            Self::Tls(Error::NoCertificatesPresented) => ("it shows no certificate".to_owned(), BOTH),
            Self::Tls(Error::AlertReceived(alert)) => {
                (format!("it does not take this process' certificate ({alert:?})"), "its log says why")
            }
            Self::Tls(Error::InvalidMessage(_) | Error::InappropriateMessage { .. }) => {
                ("what comes is not TLS".to_owned(), BOTH)
            }
            Self::Tls(error) => (error.to_string(), BOTH),
        }
    }
}

/// What to do about whoever does not know of TLS.
const BOTH: &str = "see that it is a process of this cluster, and has `tls` in its configuration, too";

fn of_certificate(error: &CertificateError) -> (String, &'static str) {
    use CertificateError as Wrong;
    let (why, cure) = match error {
        Wrong::UnknownIssuer | Wrong::BadSignature => (
            "the certificate is of no CA in `ca_file`",
            "see that all processes of the cluster have the same `ca_file`, and certificates of that CA",
        ),
        Wrong::NotValidForNameContext { .. } | Wrong::NotValidForName => {
            let cure = "the certificate of a node or gateway has its name (`node: name`) as a subjectAltName, that of the \
                        ledger's keeper has `keeper`";
            return (error.to_string(), cure);
        }
        Wrong::Expired | Wrong::ExpiredContext { .. } => {
            ("the certificate has expired", "make another one, and start its process again")
        }
        Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => {
            ("the certificate is not valid yet", "see that the clock is right")
        }
        Wrong::InvalidPurpose | Wrong::InvalidPurposeContext { .. } => (
            "the certificate is not for both sides of a connection",
            "its extendedKeyUsage has serverAuth and clientAuth, if it has one",
        ),
        error => return (error.to_string(), "make another one"),
    };
    (why.to_owned(), cure)
}
