//! Portals: listening sockets by name, and what a reload does to them.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use huntaway_config::{Config, Portal, Problem, overlap};
use huntaway_gateway::{MAX_PORTALS, PortalConfig, listen};
use tokio::net::TcpListener;

/// What becomes of the portals. Those that stay as they are are not here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PortalChanges<'a> {
    /// Those to listen on; an old one of the same name may be open meanwhile.
    pub(super) added: Vec<&'a Portal>,
    /// Those that go on with an old one's socket: only the name or what discovery shows is another.
    pub(super) handed_over: Vec<(&'a Portal, &'a Portal)>,
    /// Those whose addresses are free only without old ones ...
    pub(super) contested: Vec<&'a Portal>,
    /// ... which are these.
    pub(super) in_the_way: Vec<&'a Portal>,
    /// Those to be closed when all else is done.
    pub(super) removed: Vec<&'a Portal>,
}

/// A portal that is listened on, by which nobody gets in yet.
#[derive(Debug)]
pub(super) struct Opened {
    /// What it is for.
    pub(super) portal: Portal,
    /// The socket.
    pub(super) listener: TcpListener,
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

/// What leads from the portals that are open to those that are wanted.
pub(super) fn changes<'a>(open: &'a [Portal], wanted: &'a [Portal]) -> PortalChanges<'a> {
    let is_in = |portal: &Portal, others: &[Portal]| others.iter().any(|other| is_same(portal, other));
    let mut old: Vec<&Portal> = open.iter().filter(|portal| !is_in(portal, wanted)).collect();
    let mut changes = PortalChanges::default();
    for portal in wanted.iter().filter(|portal| !is_in(portal, open)) {
        if let Some(at) = old.iter().position(|old| can_hand_over(old, portal)) {
            changes.handed_over.push((old.swap_remove(at), portal));
        } else if old.iter().any(|old| overlap(&old.listen, &portal.listen)) {
            changes.contested.push(portal);
        } else {
            changes.added.push(portal);
        }
    }
    let is_in_the_way = |old: &&Portal| changes.contested.iter().any(|new| overlap(&old.listen, &new.listen));
    (changes.in_the_way, changes.removed) = old.into_iter().partition(is_in_the_way);
    changes
}

fn is_same(one: &Portal, other: &Portal) -> bool {
    portal_name(one) == portal_name(other) && one.listen == other.listen && one.advertise == other.advertise
}

/// Whether the new one listens where the old one does. The port that a 0 stands for is the same for one name only.
fn can_hand_over(old: &Portal, new: &Portal) -> bool {
    old.listen == new.listen && (new.listen.port() != 0 || portal_name(old) == portal_name(new))
}

/// Listens on all of the portals.
///
/// # Errors
/// The lines of those that cannot be had; then none is listened on.
pub(super) fn open_all(wanted: &[&Portal]) -> Result<Vec<Opened>, Vec<Problem>> {
    let (mut opened, mut problems) = (Vec::new(), Vec::new());
    for portal in wanted {
        match open(portal) {
            Ok(listener) => opened.push(Opened { portal: (*portal).clone(), listener }),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(opened) } else { Err(problems) }
}

fn open(portal: &Portal) -> Result<TcpListener, Problem> {
    listen(portal.listen.value).map_err(|error| {
        let message = format!("cannot listen on {}: {error}", *portal.listen);
        Problem::error(portal.listen.span, message, cure(&error))
    })
}

/// A portal as the gateway wants it.
pub(super) fn as_served(portal: &Portal, listener: TcpListener) -> PortalConfig {
    let advertised = portal.advertise.as_ref().map(|address| with_port(address, portal.listen.port()));
    PortalConfig { name: portal_name(portal), listener, advertised }
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

#[cfg(test)]
mod tests {
    use huntaway_config::{At, Span};

    use super::*;

    fn portals(all: &[(&str, &str)]) -> Vec<Portal> {
        let at = |value: &str| At { value: value.to_owned(), span: Span::default() };
        let portal = |(name, listen): &(&str, &str)| Portal {
            name: Some(at(name)),
            listen: At { value: listen.parse().unwrap(), span: Span::default() },
            advertise: None,
        };
        all.iter().map(portal).collect()
    }

    /// What is done to get from the one to the other.
    fn lines(old: &[(&str, &str)], new: &[(&str, &str)]) -> Vec<String> {
        let (old, new) = (portals(old), portals(new));
        let changes = changes(&old, &new);
        let named = |what: &str, portals: &[&Portal]| {
            portals.iter().map(|portal| format!("{what} {}", portal_name(portal))).collect::<Vec<_>>()
        };
        let mut lines = named("open", &changes.added);
        lines.extend(named("give up", &changes.in_the_way));
        lines.extend(named("take", &changes.contested));
        let pairs = changes.handed_over.iter();
        lines.extend(pairs.map(|(old, new)| format!("{} becomes {}", portal_name(old), portal_name(new))));
        lines.extend(named("close", &changes.removed));
        lines
    }

    #[test]
    fn a_portal_is_given_up_only_for_an_address_that_it_is_in_the_way_of() {
        let one = [("a", "192.0.2.1:1")];
        assert!(lines(&one, &one).is_empty());
        assert_eq!(lines(&one, &[("a", "192.0.2.1:2")]), ["open a", "close a"]);
        assert_eq!(lines(&one, &[("b", "192.0.2.2:1")]), ["open b", "close a"]);
        assert_eq!(lines(&one, &[("b", "192.0.2.1:1")]), ["a becomes b"]);
        assert_eq!(lines(&one, &[("a", "0.0.0.0:1")]), ["give up a", "take a"]);
        assert_eq!(lines(&[("a", "0.0.0.0:1")], &[("b", "192.0.2.1:1")]), ["give up a", "take b"]);
        assert_eq!(lines(&one, &[("a", "[::]:1")]), ["open a", "close a"]);
    }

    #[test]
    fn portals_may_change_names() {
        let (ab, ba) =
            ([("a", "192.0.2.1:1"), ("b", "192.0.2.2:1")], [("b", "192.0.2.1:1"), ("a", "192.0.2.2:1")]);
        assert_eq!(lines(&ab, &ba), ["a becomes b", "b becomes a"]);
        // any free port each time
        assert_eq!(lines(&[("a", "127.0.0.1:0")], &[("b", "127.0.0.1:0")]), ["open b", "close a"]);
    }
}
