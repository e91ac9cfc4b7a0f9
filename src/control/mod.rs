//! The control socket: how `huntaway apply` and `huntaway vdi` talk to a running node. HTTP/1 with JSON on a Unix socket that
//! only the node's user and root can use.

mod client;
mod cluster_routes;
mod membership;
mod protocol;
mod routes;
mod server;

pub(crate) use client::Client;
pub(crate) use protocol::{
    DiskStatus, LunOfVdi, NewDisk, NewSize, NewVdi, PlanAnswer, SanitizeStatus, VdiStatus,
};
pub(crate) use server::ControlSocket;
