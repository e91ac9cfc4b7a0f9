//! Targets, their LUNs, and who may log in: what initiators see of the configuration.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use huntaway_scsi::{ConfigError, LogicalUnit, LogicalUnitConfig};
use iscsi_target::{Authentication, Directory, LoginStatus, TargetListing};

use crate::metrics::Metrics;
use crate::unit::Unit;
use crate::volume::Volume;

/// LUNs of one target: 0 to 255.
pub const MAX_LUNS: u16 = 256;

/// The one target portal group of this gateway: all its portals reach the same sessions.
pub(crate) const PORTAL_GROUP_TAG: u16 = 1;

/// The name of the product in INQUIRY data.
const PRODUCT: &str = "VIRTUAL-DISK";

/// A disk to be served under a LUN.
pub struct UnitConfig {
    /// The LUN, 0 to 255.
    pub lun: u16,
    /// The disk's uuid: its identity through every gateway.
    pub uuid: [u8; 16],
    /// Bytes of a logical block: 512 or 4096.
    pub block_size: u32,
    /// Bytes of a physical block: no smaller than a logical one.
    pub physical_block_size: u32,
    /// UNMAP gives space back.
    pub thin: bool,
    /// Initiators may only read.
    pub read_only: bool,
    /// Writes are acknowledged once logged; otherwise once on stable storage.
    pub write_cache: bool,
    /// The data.
    pub volume: Arc<Volume>,
}

/// A target to be served.
pub struct TargetConfig {
    /// Its IQN.
    pub name: String,
    /// What initiators must prove at login.
    pub authentication: Authentication,
    /// Its disks.
    pub units: Vec<UnitConfig>,
}

/// A configuration that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// See [`MAX_LUNS`].
    #[error("LUN {0} is out of range: write 0 to 255")]
    LunOutOfRange(u16),
    /// Two disks have one number.
    #[error("LUN {0} is given to two disks")]
    LunTwice(u16),
    /// SCSI cannot describe this disk.
    #[error("LUN {lun}: {source}")]
    Unit {
        /// Its number.
        lun: u16,
        /// Why.
        source: ConfigError,
    },
}

/// A target with its LUNs.
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) units: BTreeMap<u16, Arc<Unit>>,
    authentication: Authentication,
}

/// Everything this gateway serves.
pub(crate) struct Targets {
    by_name: BTreeMap<String, Arc<Target>>,
    /// The addresses of all portals, as they listen.
    portals: Vec<SocketAddr>,
    /// What SendTargets shows instead.
    advertised: Vec<String>,
}

impl Target {
    pub(crate) fn new(config: TargetConfig, metrics: &Metrics) -> Result<Self, TargetError> {
        let mut units = BTreeMap::new();
        for unit in config.units {
            let lun = unit.lun;
            if lun >= MAX_LUNS {
                return Err(TargetError::LunOutOfRange(lun));
            }
            let unit = build_unit(&config.name, unit, metrics)?;
            if units.insert(lun, Arc::new(unit)).is_some() {
                return Err(TargetError::LunTwice(lun));
            }
        }
        Ok(Self { name: config.name, units, authentication: config.authentication })
    }

    /// What a reset of one LUN, or of all, does to mode parameters: they are the default ones again (pages are not saved).
    pub(crate) fn reset_modes(&self, lun: Option<u16>) {
        let chosen = self.units.values().filter(|unit| lun.is_none_or(|lun| lun == unit.lun));
        chosen.for_each(|unit| unit.reset_modes());
    }

    #[cfg(test)]
    pub(crate) fn empty() -> Self {
        Self { name: "t".into(), units: BTreeMap::new(), authentication: Authentication::None }
    }

    /// Its LUNs in ascending order.
    pub(crate) fn luns(&self) -> impl Iterator<Item = u16> {
        self.units.keys().copied()
    }
}

fn build_unit(target: &str, config: UnitConfig, metrics: &Metrics) -> Result<Unit, TargetError> {
    let UnitConfig { lun, uuid, block_size, physical_block_size, volume, .. } = config;
    let scsi = LogicalUnit::new(LogicalUnitConfig {
        identifier: uuid,
        serial: uuid.iter().map(|byte| format!("{byte:02x}")).collect(),
        product: PRODUCT.into(),
        blocks: volume.size_bytes() / u64::from(block_size.max(1)),
        block_size,
        physical_block_size,
        thin: config.thin,
        read_only: config.read_only,
        write_cache: config.write_cache,
        target_name: target.into(),
        target_port_group: PORTAL_GROUP_TAG,
        relative_target_port: 1,
    })
    .map_err(|source| TargetError::Unit { lun, source })?;
    Ok(Unit::new(lun, scsi, volume, metrics.unit(format!("{target}/{lun}"))))
}

impl Targets {
    pub(crate) fn new(targets: Vec<Target>, portals: Vec<SocketAddr>, advertised: Vec<String>) -> Self {
        let by_name = targets.into_iter().map(|target| (target.name.clone(), Arc::new(target))).collect();
        Self { by_name, portals, advertised }
    }

    /// What SendTargets shows to an initiator that came in by `local`: a portal that listens on every address is shown with
    /// the one the initiator knows.
    fn addresses(&self, local: SocketAddr) -> Vec<(String, u16)> {
        let reachable = |portal: &SocketAddr| match portal.ip().is_unspecified() {
            true => (portal.is_ipv4() == local.is_ipv4()).then(|| SocketAddr::new(local.ip(), portal.port())),
            false => Some(*portal),
        };
        let shown: Vec<String> = match &*self.advertised {
            [] => self.portals.iter().filter_map(reachable).map(|portal| portal.to_string()).collect(),
            configured => configured.to_vec(),
        };
        shown.into_iter().map(|address| (address, PORTAL_GROUP_TAG)).collect()
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<Target>> {
        self.by_name.get(name).cloned()
    }
}

/// The targets as seen through one connection.
pub(crate) struct PortalView {
    pub(crate) targets: Arc<Targets>,
    /// The address the initiator connected to.
    pub(crate) local: SocketAddr,
}

impl Directory for PortalView {
    fn targets(&self, _initiator: &str) -> Vec<TargetListing> {
        let addresses = self.targets.addresses(self.local);
        let listing = |name: &String| TargetListing { name: name.clone(), addresses: addresses.clone() };
        self.targets.by_name.keys().map(listing).collect()
    }

    fn admit(&self, _initiator: &str, target: Option<&str>) -> Result<Authentication, LoginStatus> {
        let Some(name) = target else { return Ok(Authentication::None) };
        let target = self.targets.by_name.get(name).ok_or(LoginStatus::NotFound)?;
        Ok(target.authentication.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(portals: &[&str], advertised: &[&str], local: &str) -> Vec<String> {
        let portals = portals.iter().map(|portal| portal.parse().unwrap()).collect();
        let targets = Targets::new(Vec::new(), portals, advertised.iter().map(ToString::to_string).collect());
        targets.addresses(local.parse().unwrap()).into_iter().map(|(address, _)| address).collect()
    }

    #[test]
    fn every_portal_is_shown_by_an_address_that_can_be_reached() {
        let portals = ["0.0.0.0:3260", "[::]:3260", "192.0.2.9:3261"];
        assert_eq!(shown(&portals, &[], "192.0.2.1:3260"), ["192.0.2.1:3260", "192.0.2.9:3261"]);
        assert_eq!(shown(&portals, &[], "[2001:db8::1]:3260"), ["[2001:db8::1]:3260", "192.0.2.9:3261"]);
        assert_eq!(shown(&portals, &["san.example:3260"], "192.0.2.1:3260"), ["san.example:3260"]);
    }
}
