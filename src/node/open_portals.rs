//! The portals that are open, as the configuration of their time described them; and the way to others.
//!
//! What cannot be had is found out before anything is given up for it, as far as that can be: only an address that an old
//! portal is in the way of, such as `0.0.0.0:3260` for `192.0.2.10:3260`, has to be free first.

use std::sync::{Mutex, MutexGuard, PoisonError};

use huntaway_config::{Portal, Problem};
use huntaway_gateway::{Gateway, TargetError};
use tokio::net::TcpListener;

use super::portals::{Opened, PortalChanges, open_all, portal_name};

/// What the gateway's portals were opened for.
#[derive(Default)]
pub(super) struct OpenPortals {
    open: Mutex<Vec<Portal>>,
}

impl OpenPortals {
    /// All of them.
    pub(super) fn all(&self) -> Vec<Portal> {
        self.open().clone()
    }

    fn open(&self) -> MutexGuard<'_, Vec<Portal>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes old portals and listens on the addresses that they are in the way of.
    ///
    /// # Errors
    /// The lines that cannot be had; the old portals are open again.
    pub(super) async fn take_over(
        &self,
        gateway: &Gateway,
        changes: &PortalChanges<'_>,
    ) -> Result<Vec<Opened>, Vec<Problem>> {
        for portal in &changes.in_the_way {
            drop(self.close(gateway, portal).await);
        }
        let opened = open_all(&changes.contested);
        if opened.is_err() {
            for portal in &changes.in_the_way {
                self.open_again(gateway, portal);
            }
        }
        opened
    }

    fn open_again(&self, gateway: &Gateway, portal: &Portal) {
        let opened = match open_all(&[portal]) {
            Ok(opened) => opened,
            Err(problems) => {
                let reasons: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
                tracing::error!(portal = portal_name(portal), "portal closed: {}", reasons.join(", "));
                return;
            }
        };
        for opened in opened {
            if let Err(error) = self.add(gateway, opened) {
                tracing::error!(portal = portal_name(portal), %error, "portal closed");
            }
        }
    }

    /// Closes what is to be closed, and lets initiators in by what was opened and by the sockets that are handed over.
    ///
    /// # Errors
    /// What the gateway does not take.
    pub(super) async fn switch(
        &self,
        gateway: &Gateway,
        changes: &PortalChanges<'_>,
        mut opened: Vec<Opened>,
    ) -> Result<(), TargetError> {
        for (old, portal) in &changes.handed_over {
            if let Some(listener) = self.close(gateway, old).await {
                opened.push(Opened { portal: (*portal).clone(), listener });
            }
        }
        for portal in &changes.removed {
            drop(self.close(gateway, portal).await);
        }
        opened.into_iter().try_for_each(|opened| self.add(gateway, opened))
    }

    async fn close(&self, gateway: &Gateway, portal: &Portal) -> Option<TcpListener> {
        let name = portal_name(portal);
        self.open().retain(|open| portal_name(open) != name);
        gateway.remove_portal(&name).await
    }

    fn add(&self, gateway: &Gateway, Opened { portal, listener }: Opened) -> Result<(), TargetError> {
        gateway.add_portal(super::portals::as_served(&portal, listener))?;
        self.open().push(portal);
        Ok(())
    }
}
