//! The payload of a record about a gateway that keeps no data.

use huntaway_wire::NodeId;
use rkyv::rancor::Failure;
use rkyv::{Archive, Serialize};

use crate::{GatewayState, Incarnation, Name, Record, StartId};

/// A gateway, as a record or a snapshot has it.
#[derive(Archive, Serialize)]
pub(crate) struct GatewayForm {
    node: [u8; 16],
    incarnation: u64,
    start: u64,
    name: String,
}

pub(crate) fn gateway_form(name: &Name, started: &GatewayState) -> GatewayForm {
    let GatewayState { node, incarnation, start } = *started;
    GatewayForm { node: node.0, incarnation: incarnation.0, start: start.0, name: name.as_str().to_owned() }
}

pub(crate) fn gateway(form: &ArchivedGatewayForm) -> Option<(Name, GatewayState)> {
    let started = GatewayState {
        node: NodeId(form.node),
        incarnation: Incarnation(form.incarnation.to_native()),
        start: StartId(form.start.to_native()),
    };
    Some((Name::new(form.name.as_str()).ok()?, started))
}

pub(super) fn decode(payload: &[u8]) -> Option<Record> {
    let (name, started) = gateway(rkyv::access::<_, Failure>(payload).ok()?)?;
    let GatewayState { node, incarnation, start } = started;
    Some(Record::GatewayStarted { name, node, incarnation, start })
}
