//! What requests about the cluster do. They want the node's ledger and stores, so they are answered before it serves, too.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use huntaway_ledger::{Record, State};
use huntaway_membership::ProposeError;
use huntaway_membership::local::shared::NotDone;
use huntaway_store::DiskDirectory;
use hyper::{Method, StatusCode};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::membership::{add, pace_recovery, remove, set_copies, weigh};
use super::protocol::{DiskPlace, DiskStatus, NewDisk};
use super::routes::{Answer, Refusal, disk_status, json, parse};
use crate::cluster::{
    Closed, ClusterStatus, Force, Forced, LunStatus, NewWeight, Round, closed, explanation, forced,
};
use crate::node::{Engine, Storage};

/// Most partitions that are told of because they were not opened.
const MOST_REFUSED: usize = 20;

/// Partitions that are opened at a time: their records share syncs.
const FORCED_AT_ONCE: usize = 32;

/// How long it is tried to open a partition while the node wants too much of the ledger.
const PATIENCE: Duration = Duration::from_secs(60);

/// After what time it is tried again.
const AGAIN: Duration = Duration::from_millis(50);

/// Why a node whose ledger is its own has no others.
pub(super) const ALONE: &str = "this node is alone, for its ledger is its own, and stays so: for copies on several machines make a \
                                cluster by `huntaway keeper --new` with new nodes, and copy the disks there";

/// Whether a request of that path is one about the cluster.
pub(super) fn are_of(path: &str) -> bool {
    matches!(path.split('/').nth(2), Some("cluster" | "objects"))
}

/// Answers one.
pub(super) async fn route(
    engine: Option<&Engine>,
    storage: &Arc<Storage>,
    method: &Method,
    path: &str,
    body: &str,
) -> Answer {
    let words: Vec<&str> = path.split('/').skip(1).collect();
    match (method.as_str(), &*words) {
        ("GET", ["v1", "cluster"]) => {
            let recovery_of_all = storage.recovery_of_all().await;
            let status = ClusterStatus { recovery_of_all, ..storage.sight().status(luns(engine)) };
            json(StatusCode::OK, &status)
        }
        ("PATCH", ["v1", "cluster"]) => json(StatusCode::OK, &set_copies(storage, parse(body)?).await?),
        ("GET", ["v1", "cluster", "explanation"]) => json(StatusCode::OK, &explanation(&storage.sight())),
        ("GET", ["v1", "cluster", "closed"]) => json(StatusCode::OK, &closed(&storage.state())),
        ("POST", ["v1", "cluster", "force"]) => {
            json(StatusCode::OK, &open_by_force(storage, parse(body)?).await?)
        }
        ("POST", ["v1", "cluster", "comparison"]) => {
            let Round { round, is_over } = parse(body)?;
            let alone = "this process keeps no copies that others have as well: ask a node of a cluster";
            let compared = storage.compare(round, is_over).await;
            json(StatusCode::OK, &compared.ok_or_else(|| Refusal::new(StatusCode::CONFLICT, alone))?)
        }
        ("POST", ["v1", "cluster", "nodes"]) => json(StatusCode::CREATED, &add(storage, parse(body)?).await?),
        ("DELETE", ["v1", "cluster", "nodes", node]) => {
            remove(storage, node).await?;
            json(StatusCode::OK, &serde_json::json!({}))
        }
        ("PATCH", ["v1", "cluster", "recovery"]) => {
            json(StatusCode::OK, &pace_recovery(storage, parse(body)?).await?)
        }
        ("PATCH", ["v1", "cluster", "nodes", node]) => {
            let NewWeight { weight } = parse(body)?;
            json(StatusCode::OK, &weigh(storage, node, weight).await?)
        }
        (_, ["v1", "cluster", "disk"]) => json(StatusCode::OK, &disk(method, path, storage, body).await?),
        ("GET", ["v1", "objects", vdi, offset]) => {
            let bad = |report: &str| Refusal::new(StatusCode::BAD_REQUEST, report);
            let offset = offset.parse().map_err(|_| bad("the place in the VDI is a number of bytes"))?;
            let place = storage.sight().object(vdi, offset);
            json(StatusCode::OK, &place.map_err(|why| Refusal::new(StatusCode::NOT_FOUND, &why))?)
        }
        _ => Err(Refusal::unknown(method, path)),
    }
}

/// Has a disk of the node be added, emptied, or kept.
async fn disk(
    method: &Method,
    path: &str,
    storage: &Arc<Storage>,
    body: &str,
) -> Result<DiskStatus, Refusal> {
    let refused = |directory: &Path, not: &str, why: String| {
        let report = format!("the disk in {} is not {not}: {why}", directory.display());
        Refusal::new(StatusCode::CONFLICT, &report)
    };
    let disk = match method.as_str() {
        "POST" => {
            let NewDisk { directory, weight } = parse(body)?;
            let (storage, given) = (Arc::clone(storage), DiskDirectory { path: directory.clone(), weight });
            let added = spawn_blocking(move || storage.add_disk(&given)).await;
            let added = added.map_err(|error| error.to_string()).flatten();
            added.map_err(|why| refused(&directory, "added", why))?
        }
        "DELETE" => {
            let DiskPlace { directory } = parse(body)?;
            storage.remove_disk(&directory).map_err(|why| refused(&directory, "to be taken away", why))?
        }
        "PUT" => {
            let DiskPlace { directory } = parse(body)?;
            storage.keep_disk(&directory).map_err(|why| refused(&directory, "kept", why))?
        }
        _ => return Err(Refusal::unknown(method, path)),
    };
    Ok(disk_status(disk))
}

fn luns(engine: Option<&Engine>) -> Vec<LunStatus> {
    let mut luns = Vec::new();
    for mapped in engine.iter().flat_map(|engine| engine.vdis()) {
        luns.extend(mapped.mappings.into_iter().map(|at| LunStatus {
            target: at.target,
            lun: at.lun,
            vdi: mapped.vdi.name.to_string(),
            size_bytes: mapped.vdi.size_bytes,
        }));
    }
    luns.sort_by(|one, other| (&one.target, one.lun).cmp(&(&other.target, other.lun)));
    luns
}

pub(super) async fn propose(
    storage: &Storage,
    record: Record,
    explain: impl FnOnce(String) -> String,
) -> Result<Arc<State>, Refusal> {
    let Some(proposed) = storage.propose_record(record).await else {
        return Err(Refusal::new(StatusCode::CONFLICT, ALONE));
    };
    proposed.map_err(|error| {
        let status = match error {
            ProposeError::Kept(NotDone::TooMany) => StatusCode::TOO_MANY_REQUESTS,
            ProposeError::Refused(_) => StatusCode::CONFLICT,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Refusal::new(status, &explain(crate::in_full(&error)))
    })
}

/// Opens partitions with what is there, each by a record that names what was shown.
async fn open_by_force(storage: &Storage, Force { closed }: Force) -> Result<Forced, Refusal> {
    let mut opening = Vec::new();
    for closed in closed.into_iter().filter(|closed| !closed.present.is_empty()) {
        opening.push(open_one(storage, closed));
    }
    let all = opening.len();
    let mut opened = stream::iter(opening).buffer_unordered(FORCED_AT_ONCE);
    let mut answer = Forced { opened: 0, refused: Vec::new() };
    let mut not_told = 0;
    while let Some(opened) = opened.next().await {
        match opened {
            Ok(_) => answer.opened += 1,
            Err(refusal) if refusal.status() != StatusCode::CONFLICT => {
                return Err(interrupted(answer.opened, all, &refusal));
            }
            Err(_) if answer.refused.len() >= MOST_REFUSED => not_told += 1,
            Err(refusal) => answer.refused.push(refusal.report().to_owned()),
        }
    }
    if not_told > 0 {
        answer.refused.push(format!("and {not_told} more"));
    }
    Ok(answer)
}

/// It came to an end before all were tried.
fn interrupted(opened: usize, all: usize, why: &Refusal) -> Refusal {
    let report = format!(
        "{opened} of {all} partitions were opened, perhaps some more, and the others were not: {}; `huntaway cluster force` \
         again shows what is left",
        why.report()
    );
    Refusal::new(why.status(), &report)
}

async fn open_one(storage: &Storage, closed: Closed) -> Result<Arc<State>, Refusal> {
    let record = forced(&storage.state(), &closed);
    let record = record.map_err(|why| Refusal::new(StatusCode::BAD_REQUEST, &why))?;
    let said = |why: String| format!("partition {:03x}: {why}", closed.partition);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match propose(storage, Record::Sets(record.clone()), said).await {
            // Those that are open want records as well, for what they compared.
            Err(refusal)
                if refusal.status() == StatusCode::TOO_MANY_REQUESTS && Instant::now() < deadline =>
            {
                sleep(AGAIN).await;
            }
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_opened_is_told_though_the_rest_was_not() {
        let why = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "partition 007: the keeper is away");
        let told = interrupted(2000, 4096, &why);
        assert_eq!(told.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(told.report().starts_with("2000 of 4096 partitions were opened"), "{}", told.report());
        assert!(told.report().contains("the keeper is away"), "{}", told.report());
    }
}
