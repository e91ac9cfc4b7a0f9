//! A target as it is served: its units, and what each initiator may do with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use huntaway_scsi::{LogicalUnit, LogicalUnitConfig};
use iscsi_target::{Admission, Authentication, DigestPolicy};
use wildmatch::WildMatch;

use crate::disk::NextDisks;
use crate::metrics::Metrics;
use crate::served::{InitiatorConfig, MAX_LUNS, TargetConfig, TargetError, UnitConfig};
use crate::unit::{Description, Unit};
use crate::view::View;

/// The one target portal group of this gateway: all its portals reach the same sessions.
pub(crate) const PORTAL_GROUP_TAG: u16 = 1;

/// The name of the product in INQUIRY data.
pub const PRODUCT: &str = "VIRTUAL-DISK";

/// A target with its LUNs.
pub(crate) struct Target {
    /// As configured.
    pub(crate) name: String,
    digests: DigestPolicy,
    units: BTreeMap<u16, Arc<Unit>>,
    portals: Option<Vec<String>>,
    access: Vec<Access>,
}

/// An entry of the access control list.
pub(crate) struct Access {
    pattern: WildMatch,
    authentication: Authentication,
    pub(crate) view: Arc<View>,
}

impl Target {
    /// Builds a target in the place of `before`: the units whose description is the same are the same.
    pub(crate) fn new(
        config: TargetConfig,
        before: Option<&Self>,
        disks: &mut NextDisks<'_>,
        metrics: &Metrics,
    ) -> Result<Self, TargetError> {
        let TargetConfig { name, portals, initiators, digests, units: configs } = config;
        let mut units = BTreeMap::new();
        for unit in configs {
            let lun = unit.lun;
            if lun >= MAX_LUNS {
                return Err(TargetError::LunOutOfRange(lun));
            }
            let before = before.and_then(|before| before.units.get(&lun));
            if units.insert(lun, build_unit(&name, unit, before, disks, metrics)?).is_some() {
                return Err(TargetError::LunTwice(lun));
            }
        }
        let access = initiators.into_iter().map(|initiator| Access::new(initiator, &units)).collect();
        Ok(Self { name, digests, units, portals, access })
    }

    /// What the initiator of this name (in lower case) may do here; `None`: nothing.
    pub(crate) fn access(&self, initiator: &str) -> Option<&Access> {
        self.access.iter().find(|access| access.pattern.matches(initiator))
    }

    /// On what terms those of an entry may log in.
    pub(crate) fn admission(&self, access: &Access) -> Admission {
        Admission { authentication: access.authentication.clone(), digests: self.digests }
    }

    pub(crate) fn is_served_through(&self, portal: &str) -> bool {
        self.portals.as_ref().is_none_or(|portals| portals.iter().any(|name| name == portal))
    }

    pub(crate) fn units(&self) -> impl Iterator<Item = &Arc<Unit>> {
        self.units.values()
    }

    /// Whether exactly this unit is behind its LUN here.
    pub(crate) fn has(&self, unit: &Arc<Unit>) -> bool {
        self.units.get(&unit.lun).is_some_and(|own| Arc::ptr_eq(own, unit))
    }
}

impl Access {
    fn new(config: InitiatorConfig, units: &BTreeMap<u16, Arc<Unit>>) -> Self {
        let InitiatorConfig { pattern, luns, authentication } = config;
        let sees = |lun: &u16| luns.as_ref().is_none_or(|luns| luns.contains(lun));
        let visible = units.iter().filter(|(lun, _)| sees(lun));
        let view = View::new(visible.map(|(lun, unit)| (*lun, Arc::clone(unit))).collect());
        Self { pattern: WildMatch::new(&pattern.to_lowercase()), authentication, view: Arc::new(view) }
    }
}

fn build_unit(
    target: &str,
    config: UnitConfig,
    before: Option<&Arc<Unit>>,
    disks: &mut NextDisks<'_>,
    metrics: &Metrics,
) -> Result<Arc<Unit>, TargetError> {
    let UnitConfig { lun, uuid, block_size, physical_block_size, .. } = config;
    let UnitConfig { thin, read_only, write_cache, modes_are_fixed, .. } = config;
    let UnitConfig { soft_threshold_bytes, sanitization, volume, .. } = config;
    let size_bytes = volume.size_bytes();
    let disk = disks.disk(uuid, sanitization);
    let description = Description {
        uuid,
        size_bytes,
        block_size,
        physical_block_size,
        thin,
        read_only,
        write_cache,
        soft_threshold_bytes,
    };
    if let Some(before) = before
        && before.description == description
    {
        return Ok(Arc::clone(before));
    }
    let scsi = LogicalUnit::new(LogicalUnitConfig {
        identifier: uuid,
        serial: uuid.iter().map(|byte| format!("{byte:02x}")).collect(),
        product: PRODUCT.into(),
        blocks: size_bytes / u64::from(block_size.max(1)),
        block_size,
        physical_block_size,
        thin,
        read_only,
        write_cache,
        modes_are_fixed,
        soft_threshold_bytes,
        target_name: target.into(),
        target_port_group: PORTAL_GROUP_TAG,
        relative_target_port: 1,
    })
    .map_err(|source| TargetError::Unit { lun, source })?;
    let metrics = metrics.units.unit(format!("{target}/{lun}"));
    Ok(Arc::new(Unit::new(lun, description, scsi, volume, metrics, disk)))
}
