//! A gateway to test, and what it is told to serve.

use std::future::ready;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use huntaway_gateway::cluster::Cluster;
use huntaway_gateway::{
    Authentication, DEFAULT_LOGIN_TIME, DigestPolicy, Gateway, GatewayConfig, InitiatorConfig, Metrics,
    NotRecorded, PortalConfig, Router, Sanitization, SanitizeRecord, SanitizeRecords, Served, TargetConfig,
    TargetError, UnitConfig, Volume, listen,
};
use huntaway_wire::{Peer, Pepoch, Vid};
use prometheus::Registry;
use tokio::task::JoinHandle;

use super::{MemoryPeer, OTHER_TARGET, TARGET};

/// Space of which initiators of thin disks are told.
pub const SOFT_THRESHOLD_BYTES: u64 = 64 << 20;

/// Bytes of a disk unless a test says otherwise.
const DISK_BYTES: u64 = 8 << 20;

/// A gateway that runs in threads of its own until it is dropped or shut down.
pub struct TestGateway {
    pub portal: SocketAddr,
    pub peer: Arc<MemoryPeer>,
    pub gateway: Option<Arc<Gateway>>,
    pub runtime: tokio::runtime::Runtime,
    pub registry: Registry,
    pub records: Arc<Records>,
    router: Arc<Router>,
}

/// What was recorded of sanitize operations; refused on demand.
#[derive(Default)]
pub struct Records {
    pub all: Mutex<Vec<(u8, SanitizeRecord)>>,
    pub refuse: AtomicBool,
    /// While a test holds this, what is recorded is not ready.
    pub gate: Arc<tokio::sync::Mutex<()>>,
}

impl SanitizeRecords for Records {
    fn record(&self, disk: [u8; 16], record: SanitizeRecord) -> BoxFuture<'static, Result<(), NotRecorded>> {
        if self.refuse.load(Ordering::Relaxed) {
            return ready(Err(NotRecorded)).boxed();
        }
        self.all.lock().unwrap().push((disk[0], record));
        let gate = Arc::clone(&self.gate);
        async move {
            drop(gate.lock().await);
            Ok(())
        }
        .boxed()
    }
}

impl Records {
    /// Those of the first disk.
    pub fn of_first(&self) -> Vec<SanitizeRecord> {
        let all = self.all.lock().unwrap();
        all.iter().filter(|(disk, _)| *disk == 1).map(|(_, record)| *record).collect()
    }
}

impl TestGateway {
    /// Serves `luns` disks of 8 MiB to anyone.
    pub fn start(luns: u16) -> Self {
        let gateway = Self::empty();
        gateway.update(gateway.disks(luns)).unwrap();
        gateway
    }

    /// Serves the first disk to anyone as LUN 0 of [`TARGET`], and what `elsewhere` makes behind [`OTHER_TARGET`].
    pub fn behind_two_targets(elsewhere: impl Fn(&Self) -> Vec<UnitConfig>) -> Self {
        let gateway = Self::empty();
        let other = TargetConfig { name: OTHER_TARGET.into(), ..target(vec![anyone()], elsewhere(&gateway)) };
        gateway.update(served(vec![target(vec![anyone()], vec![gateway.unit(0)]), other])).unwrap();
        gateway
    }

    /// Serves nothing yet, through a portal named `p`.
    pub fn empty() -> Self {
        Self::with_limits(1000, DEFAULT_LOGIN_TIME)
    }

    /// The same, with so many connections at most and this time for each login.
    pub fn with_limits(max_connections: usize, login_time: Duration) -> Self {
        Self::built(max_connections, login_time, || None)
    }

    /// Serves one disk of a cluster to anyone.
    pub fn over(cluster: impl FnOnce() -> Arc<Cluster>) -> Self {
        let gateway = Self::built(1000, DEFAULT_LOGIN_TIME, || Some(cluster()));
        gateway.update(gateway.disks(1)).unwrap();
        gateway
    }

    /// `cluster` is made within the gateway's runtime.
    fn built(
        max_connections: usize,
        login_time: Duration,
        cluster: impl FnOnce() -> Option<Arc<Cluster>>,
    ) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
        let entered = runtime.enter();
        let peer = Arc::new(MemoryPeer::default());
        let cluster = cluster();
        let router = Arc::new(match &cluster {
            Some(cluster) => Router::to_cluster(Arc::clone(cluster)),
            None => Router::to_one(Arc::clone(&peer) as Arc<dyn Peer>, |_| Pepoch(1)),
        });
        let registry = Registry::new();
        let records = Arc::new(Records::default());
        let gateway = Gateway::start(GatewayConfig {
            portals: vec![portal("p", "127.0.0.1:0".parse().unwrap())],
            served: served(Vec::new()),
            max_connections,
            login_time,
            records: Arc::clone(&records) as Arc<dyn SanitizeRecords>,
            cluster,
            loops: None,
            metrics: Metrics::new(&registry).unwrap(),
        })
        .unwrap();
        drop(entered);
        let portal = gateway.portals()[0].1;
        Self { portal, peer, gateway: Some(Arc::new(gateway)), runtime, registry, records, router }
    }

    pub fn gateway(&self) -> &Arc<Gateway> {
        self.gateway.as_ref().unwrap()
    }

    /// The one target with `luns` disks of 8 MiB for anyone.
    pub fn disks(&self, luns: u16) -> Served {
        served(vec![target(vec![anyone()], (0..luns).map(|lun| self.unit(lun)).collect())])
    }

    /// A disk of 8 MiB, one for each LUN.
    pub fn unit(&self, lun: u16) -> UnitConfig {
        self.disk(lun, u32::from(lun) + 1, DISK_BYTES)
    }

    /// Disk number `vid` with so many bytes.
    pub fn disk(&self, lun: u16, vid: u32, size_bytes: u64) -> UnitConfig {
        let id = Vid::new(vid).unwrap();
        UnitConfig {
            lun,
            uuid: [vid as u8; 16],
            block_size: 512,
            physical_block_size: 4096,
            thin: true,
            read_only: false,
            write_cache: true,
            modes_are_fixed: false,
            soft_threshold_bytes: SOFT_THRESHOLD_BYTES,
            sanitization: Sanitization::Idle,
            volume: Arc::new(Volume::new(id, id, size_bytes, Arc::clone(&self.router))),
        }
    }

    pub fn update(&self, served: Served) -> Result<(), TargetError> {
        self.runtime.block_on(self.gateway().update(served))
    }

    /// Begins an update that is waited for elsewhere.
    pub fn start_update(&self, served: Served) -> JoinHandle<Result<(), TargetError>> {
        let gateway = Arc::clone(self.gateway());
        self.runtime.spawn(async move { gateway.update(served).await })
    }

    /// Opens another portal; returns where it listens.
    pub fn add_portal(&self, name: &str, address: SocketAddr) -> Result<SocketAddr, TargetError> {
        let _entered = self.runtime.enter();
        let config = portal(name, address);
        let address = config.listener.local_addr().unwrap();
        self.gateway().add_portal(config).map(|()| address)
    }

    /// The gateway, to be shut down.
    pub fn take(&mut self) -> Gateway {
        Arc::into_inner(self.gateway.take().unwrap()).unwrap()
    }

    /// The value of a counter in the registry; `None` if it is not there.
    pub fn counter(&self, family: &str, label: (&str, &str)) -> Option<f64> {
        let families = self.registry.gather();
        let family = families.iter().find(|found| found.name() == family)?;
        let has_label = |metric: &&prometheus::proto::Metric| {
            metric.get_label().iter().any(|pair| (pair.name(), pair.value()) == label)
        };
        family.get_metric().iter().find(has_label).map(|metric| metric.get_counter().get_value())
    }
}

fn portal(name: &str, address: SocketAddr) -> PortalConfig {
    PortalConfig { name: name.into(), listener: listen(address).unwrap(), advertised: None }
}

/// Everybody, without authentication.
pub fn anyone() -> InitiatorConfig {
    initiator("*")
}

/// Initiators of this pattern, without authentication.
pub fn initiator(pattern: &str) -> InitiatorConfig {
    InitiatorConfig { pattern: pattern.into(), luns: None, authentication: Authentication::None }
}

/// [`TARGET`] with these initiators and disks.
pub fn target(initiators: Vec<InitiatorConfig>, units: Vec<UnitConfig>) -> TargetConfig {
    TargetConfig { name: TARGET.into(), portals: None, initiators, digests: DigestPolicy::Allowed, units }
}

/// These targets; discovery is free.
pub fn served(targets: Vec<TargetConfig>) -> Served {
    Served { targets, discovery: Authentication::None }
}
