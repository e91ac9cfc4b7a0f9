//! How both sides show that they have the cluster's key before anything else is said.
//!
//! ```text
//! follower ── hello: versions, cluster, nonce ───────────────────────► keeper
//! follower ◄─ challenge: nonce, proof over the hello and this nonce ── keeper      (or why not)
//! follower ── proof over the same, and what it knows ────────────────► keeper
//! ```
//!
//! Neither proof tells anything of the key, and none is good for another exchange. What follows is checked for damage, but not
//! signed: who can change packets on their way is not kept out by this.

use core::time::Duration;
use std::io;

use huntaway_ledger::RecordHash;
use huntaway_ledger::keeper::Follower;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::frame::{Cut, Messages, framed, send};
use super::key::{ClusterKey, KEY_BYTES};
use super::message::{Challenge, FromKeeper, Hello, Proof, Rejection, VERSION};

/// All of it takes no longer.
const DEADLINE: Duration = Duration::from_secs(3);

const KEEPER: &[u8] = b"huntaway: keeper of the ledger";
const FOLLOWER: &[u8] = b"huntaway: follower of the ledger";

/// Who calls.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) key: ClusterKey,
    /// Zeroes: whichever the key is for.
    pub(super) cluster: [u8; 16],
    pub(super) follower: Follower,
    /// The last record that it knows.
    pub(super) last: u64,
    pub(super) hash: RecordHash,
}

/// Whom a keeper has to do with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Called {
    pub(super) follower: Follower,
    pub(super) last: u64,
    pub(super) hash: RecordHash,
}

/// A follower's side.
pub(super) async fn call(
    messages: &mut Messages<impl AsyncRead + Unpin>,
    stream: &mut (impl AsyncWrite + Unpin),
    caller: &Caller,
) -> Result<(), Cut> {
    let Caller { key, cluster, follower, last, hash } = caller;
    let versions = (VERSION, VERSION);
    let hello = Hello { versions, cluster: *cluster, follower: *follower, nonce: random()? };
    let hello = framed(&hello);
    let answer = async {
        send(stream, &hello).await?;
        messages.next::<Challenge>().await
    };
    match timeout(DEADLINE, answer).await.map_err(|_| Cut::Silent)?? {
        Challenge::Rejected(rejection) => Err(rejection.into()),
        Challenge::Prove { nonce, proof } if key.is_proof(&proof, KEEPER, [&hello, &nonce]) => {
            let proof = key.proof(FOLLOWER, [&hello, &nonce]);
            messages.trusted();
            send(stream, &framed(&Proof { proof, last: *last, hash: *hash })).await
        }
        Challenge::Prove { .. } => Err(Rejection::Key.into()),
    }
}

/// A keeper's side. Whoever is not taken is told why.
pub(super) async fn answer(
    messages: &mut Messages<impl AsyncRead + Unpin>,
    stream: &mut (impl AsyncWrite + Unpin),
    key: &ClusterKey,
    cluster: [u8; 16],
) -> Result<Called, Cut> {
    let exchange = async {
        let hello: Hello = messages.next().await?;
        let why = if !(hello.versions.0..=hello.versions.1).contains(&VERSION) {
            Some(Rejection::Versions { oldest: VERSION, newest: VERSION })
        } else if ![cluster, [0; 16]].contains(&hello.cluster) {
            Some(Rejection::Cluster)
        } else {
            None
        };
        if let Some(why) = why {
            send(stream, &framed(&Challenge::Rejected(why))).await?;
            return Err(why.into());
        }
        let (follower, hello, nonce) = (hello.follower, framed(&hello), random()?);
        let proof = key.proof(KEEPER, [&hello, &nonce]);
        send(stream, &framed(&Challenge::Prove { nonce, proof })).await?;
        let Proof { proof, last, hash } = messages.next().await?;
        if !key.is_proof(&proof, FOLLOWER, [&hello, &nonce]) {
            send(stream, &framed(&FromKeeper::Rejected(Rejection::Key))).await?;
            return Err(Rejection::Key.into());
        }
        messages.trusted();
        Ok(Called { follower, last, hash })
    };
    timeout(DEADLINE, exchange).await.map_err(|_| Cut::Silent)?
}

fn random() -> Result<[u8; KEY_BYTES], Cut> {
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| Cut::Io(io::Error::other(error.to_string())))?;
    Ok(bytes)
}
