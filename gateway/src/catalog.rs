//! The catalog: all targets as they are served at one moment, and the targets as seen through one connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use iscsi_target::{Admission, Authentication, DigestPolicy, Directory, RefusalReason, TargetListing};

use crate::disk::{Disks, NextDisks};
use crate::gateway::Shared;
use crate::metrics::Metrics;
use crate::served::{Served, TargetError};
use crate::target::{Access, Target};
use crate::unit::Unit;

/// Everything this gateway serves. Immutable: an update is another catalog.
pub(crate) struct Catalog {
    /// By their names in lower case (RFC 3722).
    targets: BTreeMap<String, Target>,
    disks: Disks,
    discovery: Authentication,
}

impl Default for Catalog {
    fn default() -> Self {
        Self { targets: BTreeMap::new(), disks: Disks::new(), discovery: Authentication::None }
    }
}

impl Catalog {
    /// Builds the catalog that follows `before`.
    pub(crate) fn new(served: Served, before: &Self, metrics: &Metrics) -> Result<Self, TargetError> {
        let mut targets = BTreeMap::new();
        let mut disks = NextDisks::after(&before.disks);
        for config in served.targets {
            let name = config.name.to_lowercase();
            let target = Target::new(config, before.targets.get(&name), &mut disks, metrics)?;
            if let Some(twice) = targets.insert(name, target) {
                return Err(TargetError::TargetTwice(twice.name));
            }
        }
        Ok(Self { targets, disks: disks.finish(), discovery: served.discovery })
    }

    /// The target and what this initiator may do there, both names in any case.
    ///
    /// # Errors
    /// It may do nothing there; why.
    pub(crate) fn admit(
        &self,
        portal: &str,
        initiator: &str,
        target: &str,
    ) -> Result<(&Target, &Access), RefusalReason> {
        let target = self.targets.get(&target.to_lowercase()).ok_or(RefusalReason::NoSuchTarget)?;
        if !target.is_served_through(portal) {
            return Err(RefusalReason::NotThroughPortal);
        }
        let access = target.access(&initiator.to_lowercase()).ok_or(RefusalReason::NotAllowed)?;
        Ok((target, access))
    }

    /// What an initiator that is logged in may do at its target, names in lower case. Sessions outlive their portal.
    pub(crate) fn access(&self, initiator: &str, target: &str) -> Option<&Access> {
        self.targets.get(target)?.access(initiator)
    }

    /// All units.
    pub(crate) fn units(&self) -> impl Iterator<Item = &Arc<Unit>> {
        self.targets.values().flat_map(Target::units)
    }

    /// All units that are not in `other`.
    pub(crate) fn units_not_in<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Arc<Unit>> {
        self.targets.iter().flat_map(|(name, target)| {
            let there = other.targets.get(name);
            target.units().filter(move |unit| !there.is_some_and(|there| there.has(unit)))
        })
    }

    /// On what terms discovery sessions are let in.
    pub(crate) fn discovery(&self) -> Admission {
        Admission { authentication: self.discovery.clone(), digests: DigestPolicy::Allowed }
    }

    fn visible<'a>(&'a self, initiator: &'a str) -> impl Iterator<Item = &'a Target> {
        self.targets.values().filter(|target| target.access(initiator).is_some())
    }
}

/// The targets as seen through one connection.
pub(crate) struct PortalView {
    pub(crate) shared: Arc<Shared>,
    /// The portal it came in by.
    pub(crate) portal: Arc<str>,
    /// The address the initiator connected to.
    pub(crate) local: SocketAddr,
}

impl Directory for PortalView {
    fn targets(&self, initiator: &str) -> Vec<TargetListing> {
        let catalog = self.shared.sessions.catalog();
        let listing = |target: &Target| {
            let addresses = self.shared.portals.addresses(self.local, |name| target.is_served_through(name));
            TargetListing { name: target.name.clone(), addresses }
        };
        catalog.visible(&initiator.to_lowercase()).map(listing).collect()
    }

    fn admit(&self, initiator: &str, target: Option<&str>) -> Result<Admission, RefusalReason> {
        let catalog = self.shared.sessions.catalog();
        let Some(name) = target else { return Ok(catalog.discovery()) };
        let (target, access) = catalog.admit(&self.portal, initiator, name)?;
        Ok(target.admission(access))
    }
}
