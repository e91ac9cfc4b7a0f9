//! Nodes that there are not yet: how they are named, and what the ledger has of them.

use std::net::SocketAddr;
use std::str::FromStr;

use huntaway_ledger::{Incarnation, MAX_WEIGHT, Member, MemberState, Name};
use huntaway_wire::NodeId;

use crate::address::Address;

/// A node as it is named on the command line: `NAME=ADDR:PORT[,zone=ZONE][,weight=N]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewNode {
    /// What people call it.
    pub(crate) name: Name,
    /// Where the others reach it.
    pub(crate) address: Address,
    /// Its name, unless told.
    pub(crate) zone: Name,
    /// 1, unless told.
    pub(crate) weight: u32,
}

impl FromStr for NewNode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once('=').ok_or("write NAME=ADDR:PORT")?;
        let checked = |text: &str| Name::new(text).map_err(|error| error.to_string());
        let name = checked(name)?;
        let mut parts = rest.split(',');
        let address = parts.next().unwrap_or_default().parse()?;
        let mut node = Self { zone: name.clone(), name, address, weight: 1 };
        for part in parts {
            match part.split_once('=') {
                Some(("zone", zone)) => node.zone = checked(zone)?,
                Some(("weight", weight)) => {
                    let weight = weight.parse().ok().filter(|weight| *weight <= MAX_WEIGHT);
                    node.weight =
                        weight.ok_or_else(|| format!("a weight is a number from 0 to {MAX_WEIGHT}"))?;
                }
                _ => return Err(format!("`{part}` is neither zone=ZONE nor weight=N")),
            }
        }
        Ok(node)
    }
}

/// A node that never ran, under a uuid of its own.
///
/// # Errors
/// There is no randomness.
pub(crate) fn member(name: Name, address: SocketAddr, zone: Name, weight: u32) -> Result<Member, String> {
    let mut uuid = [0; 16];
    getrandom::fill(&mut uuid).map_err(|error| format!("no random numbers: {error}"))?;
    let (node, incarnation, state) = (NodeId(uuid), Incarnation(0), MemberState::Up);
    Ok(Member { node, name, incarnation, addresses: vec![address], zone, weight, state })
}

/// The same, of an IPv4 address that is written as one of IPv6.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether the nodes of a cluster reach one of that name there: on one machine by its loopback address as well.
///
/// # Errors
/// Why they do not, and what to do.
pub(crate) fn check_address<'a>(
    name: &str,
    address: SocketAddr,
    others: impl IntoIterator<Item = &'a Member>,
) -> Result<(), String> {
    if address.port() == 0 || address.ip().is_unspecified() {
        return Err(format!(
            "other nodes cannot reach `{name}` at {address}: name the address and port that they connect to"
        ));
    }
    for other in others {
        let other_is = |is: fn(SocketAddr, SocketAddr) -> bool| {
            other.addresses.iter().any(|at| is(canonical(*at), canonical(address)))
        };
        if other_is(|other, new| other == new) {
            return Err(format!("{} has the address {address}: give `{name}` one of its own", other.name));
        }
        if canonical(address).ip().is_loopback() && other_is(|other, _| !other.ip().is_loopback()) {
            let addresses: Vec<String> = other.addresses.iter().map(ToString::to_string).collect();
            return Err(format!(
                "{} at {} cannot reach `{name}` at {address}, which is an address within one machine: name the address that \
                 others connect to",
                other.name,
                addresses.join(" ")
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_a_name_and_an_address_and_the_rest_has_defaults() {
        let node: NewNode = "a=192.0.2.1:3271".parse().unwrap();
        assert_eq!((node.zone.as_str(), node.weight), ("a", 1));
        let node: NewNode = "a=[2001:db8::1]:3271,zone=rack,weight=5".parse().unwrap();
        assert_eq!((node.zone.as_str(), node.weight), ("rack", 5));
        for wrong in [
            "a",
            "a=",
            "a=nowhere",
            "a b=192.0.2.1:1",
            "a=192.0.2.1:1,colour=blue",
            "a=192.0.2.1:1,weight=101",
        ] {
            assert!(wrong.parse::<NewNode>().is_err(), "{wrong}");
        }
    }
}
