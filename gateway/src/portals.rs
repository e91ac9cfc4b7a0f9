//! Portals: where initiators come in, and what discovery shows of that.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;

use crate::served::TargetError;
use crate::target::PORTAL_GROUP_TAG;

/// Portals of one gateway at most.
pub const MAX_PORTALS: usize = 64;

/// A portal to be opened.
pub struct PortalConfig {
    /// Its name, which targets know it by: unlike that of any other portal. The address it listens on will do.
    pub name: String,
    /// The listening socket: see [`listen`](crate::listen).
    pub listener: TcpListener,
    /// What discovery shows instead of the address it listens on, as `ADDR:PORT`.
    pub advertised: Option<String>,
}

/// A portal that is open.
#[derive(Debug, Clone)]
pub(crate) struct Portal {
    pub(crate) name: Arc<str>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    pub(crate) advertised: Option<String>,
}

/// The portals that are open, in the order they were opened.
#[derive(Default)]
pub(crate) struct Portals {
    open: Mutex<Vec<Portal>>,
}

impl Portals {
    fn open(&self) -> MutexGuard<'_, Vec<Portal>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a portal; returns the name that its connections go by.
    ///
    /// # Errors
    /// It has no address, or its name is taken, or there are too many.
    pub(crate) fn add(&self, config: &PortalConfig) -> Result<Arc<str>, TargetError> {
        let PortalConfig { name, listener, advertised } = config;
        let address = listener.local_addr().map_err(|_| TargetError::PortalWithoutAddress(name.clone()))?;
        let mut open = self.open();
        if open.iter().any(|portal| *portal.name == **name) {
            return Err(TargetError::PortalTwice(name.clone()));
        }
        if open.len() >= MAX_PORTALS {
            return Err(TargetError::TooManyPortals);
        }
        let name: Arc<str> = name.as_str().into();
        open.push(Portal { name: Arc::clone(&name), address, advertised: advertised.clone() });
        Ok(name)
    }

    pub(crate) fn remove(&self, name: &str) {
        self.open().retain(|portal| *portal.name != *name);
    }

    pub(crate) fn all(&self) -> Vec<Portal> {
        self.open().clone()
    }

    /// What SendTargets shows, of the portals that are `chosen` by name, to an initiator that came in by `local`: a portal
    /// that listens on every address is shown with the one the initiator knows.
    pub(crate) fn addresses(&self, local: SocketAddr, chosen: impl Fn(&str) -> bool) -> Vec<(String, u16)> {
        let reachable = |portal: &SocketAddr| match portal.ip().is_unspecified() {
            true => (portal.is_ipv4() == local.is_ipv4()).then(|| SocketAddr::new(local.ip(), portal.port())),
            false => Some(*portal),
        };
        let mut shown: Vec<String> = Vec::new();
        for portal in self.open().iter().filter(|portal| chosen(&portal.name)) {
            let address = match &portal.advertised {
                Some(advertised) => Some(advertised.clone()),
                None => reachable(&portal.address).map(|address| address.to_string()),
            };
            shown.extend(address.filter(|address| !shown.contains(address)));
        }
        shown.into_iter().map(|address| (address, PORTAL_GROUP_TAG)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(portals: &[(&str, Option<&str>)], local: &str) -> Vec<String> {
        let portal = |(address, advertised): &(&str, Option<&str>)| Portal {
            name: (*address).into(),
            address: address.parse().unwrap(),
            advertised: advertised.map(str::to_owned),
        };
        let portals = Portals { open: Mutex::new(portals.iter().map(portal).collect()) };
        let shown = portals.addresses(local.parse().unwrap(), |name| !name.ends_with(":9"));
        shown.into_iter().map(|(address, _)| address).collect()
    }

    #[test]
    fn every_portal_is_shown_by_an_address_that_can_be_reached() {
        let portals = [("0.0.0.0:3260", None), ("[::]:3260", None), ("192.0.2.9:3261", None)];
        assert_eq!(shown(&portals, "192.0.2.1:3260"), ["192.0.2.1:3260", "192.0.2.9:3261"]);
        assert_eq!(shown(&portals, "[2001:db8::1]:3260"), ["[2001:db8::1]:3260", "192.0.2.9:3261"]);
    }

    #[test]
    fn what_is_advertised_is_shown_once_and_other_portals_are_not() {
        let san = Some("san.example:3260");
        let portals = [("0.0.0.0:3260", san), ("192.0.2.9:3261", san), ("192.0.2.1:9", None)];
        assert_eq!(shown(&portals, "192.0.2.1:3260"), ["san.example:3260"]);
    }
}
