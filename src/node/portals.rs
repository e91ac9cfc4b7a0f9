//! Portals: listening sockets by name, and what a reload does to them.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use huntaway_config::{Config, Portal, Problem};
use huntaway_gateway::{MAX_PORTALS, PortalConfig, listen};

/// What becomes of the portals.
pub(super) struct PortalChanges<'a> {
    /// Those to listen on.
    pub(super) added: Vec<&'a Portal>,
    /// Those to listen on as soon as an old one of the same address is gone.
    pub(super) replaced: Vec<&'a Portal>,
    /// The names of those to be closed.
    pub(super) removed: Vec<String>,
}

/// The name of a portal: its own, or else its address.
pub(super) fn portal_name(portal: &Portal) -> String {
    portal.name.as_ref().map_or_else(|| portal.listen.to_string(), |name| name.value.clone())
}

/// Whether there are more than a gateway has.
pub(super) fn check_count(config: &Config) -> Option<Problem> {
    let first_too_many = config.node.portals.get(MAX_PORTALS)?;
    Some(Problem::error(
        first_too_many.listen.span,
        format!("a node has at most {MAX_PORTALS} portals"),
        "take this one and those after it out",
    ))
}

/// What leads from one configuration's portals to another's.
pub(super) fn changes<'a>(served: Option<&Config>, wanted: &'a Config) -> PortalChanges<'a> {
    let old = served.map_or(&[][..], |config| &config.node.portals);
    let new = &wanted.node.portals;
    let is_in = |portal: &Portal, others: &[Portal]| others.iter().any(|other| is_same(portal, other));
    let (mut added, mut replaced) = (Vec::new(), Vec::new());
    for portal in new.iter().filter(|portal| !is_in(portal, old)) {
        let taken = old.iter().any(|other| collide(other, portal));
        if taken { replaced.push(portal) } else { added.push(portal) }
    }
    let removed = old.iter().filter(|portal| !is_in(portal, new)).map(portal_name).collect();
    PortalChanges { added, replaced, removed }
}

fn is_same(one: &Portal, other: &Portal) -> bool {
    portal_name(one) == portal_name(other) && one.listen == other.listen && one.advertise == other.advertise
}

/// Whether the new one cannot be there at the same time as the old one.
fn collide(old: &Portal, new: &Portal) -> bool {
    let same_address = old.listen == new.listen && new.listen.port() != 0;
    same_address || portal_name(old) == portal_name(new)
}

/// Listens on a portal's address.
///
/// # Errors
/// At the portal's line.
pub(super) fn open(portal: &Portal) -> Result<PortalConfig, Problem> {
    let listener = listen(portal.listen.value).map_err(|error| {
        let message = format!("cannot listen on {}: {error}", *portal.listen);
        Problem::error(portal.listen.span, message, cure(&error))
    })?;
    let advertised = portal.advertise.as_ref().map(|address| with_port(address, portal.listen.port()));
    Ok(PortalConfig { name: portal_name(portal), listener, advertised })
}

/// `HOST:PORT` of `HOST`, which may have a port already.
fn with_port(address: &str, port: u16) -> String {
    let host_ends = address.rfind(']').unwrap_or(0);
    match address[host_ends..].contains(':') {
        true => address.to_owned(),
        false => format!("{address}:{port}"),
    }
}

/// Why an address cannot be had, and what to do.
pub(crate) fn cannot_listen(address: SocketAddr, error: &io::Error) -> String {
    format!("cannot listen on {address}: {error} ({})", cure(error))
}

fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => "something else listens there; give another port, or port 0 for any free one",
        ErrorKind::AddrNotAvailable => "this machine does not have that address",
        ErrorKind::PermissionDenied => "ports below 1024 need root; give a higher one",
        _ => "give another address",
    }
}
