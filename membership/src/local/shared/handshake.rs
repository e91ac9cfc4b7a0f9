//! How both sides show that they have the cluster's key before anything else is said.
//!
//! ```text
//! follower ── hello: versions, cluster, nonce ───────────────────────► keeper
//! follower ◄─ challenge: nonce, proof over the hello and this nonce ── keeper      (or why not)
//! follower ── proof over the same, and what it knows ────────────────► keeper
//! ```
//!
//! Later versions may add to the end of these; what is proved is what was sent. Neither proof tells anything of the key, and none is
//! good for another exchange, as between nodes ([`huntaway_wire::hello`]). What follows is checked for damage, but not
//! signed: who can change packets on their way is not kept out by this.

use core::time::Duration;
use std::io;

use huntaway_ledger::RecordHash;
use huntaway_ledger::keeper::Follower;
use huntaway_wire::{ClusterKey, KEY_BYTES};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::frame::{Cut, Messages, PREAMBLE_BYTES, framed, send};
use super::message::{Challenge, FromKeeper, Hello, Proof, VERSION};
use super::rejection::Rejection;

/// All of it takes no longer.
pub(super) const DEADLINE: Duration = Duration::from_secs(3);

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
    let framed_hello = framed(&hello);
    let answer = async {
        send(stream, &framed_hello).await?;
        messages.next_hello::<Challenge>().await
    };
    let hello = framed_hello.slice(PREAMBLE_BYTES..);
    match timeout(DEADLINE, answer).await.map_err(|_| Cut::Silent)??.0 {
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
        let (hello, as_sent): (Hello, _) = messages.next_hello().await?;
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
        let (follower, nonce) = (hello.follower, random()?);
        let proof = key.proof(KEEPER, [&as_sent, &nonce]);
        send(stream, &framed(&Challenge::Prove { nonce, proof })).await?;
        let (Proof { proof, last, hash }, _) = messages.next_hello().await?;
        if !key.is_proof(&proof, FOLLOWER, [&as_sent, &nonce]) {
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

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tokio::io::{AsyncWriteExt, duplex, split};

    use super::*;

    fn key(byte: u8) -> ClusterKey {
        ClusterKey::new([byte; KEY_BYTES])
    }

    /// With a few bytes more at the end of its metadata.
    fn later(framed: &[u8]) -> BytesMut {
        let mut message = BytesMut::from(&framed[PREAMBLE_BYTES..]);
        message.extend(b"what a later version says");
        let metadata = (message.len() - 2) as u16;
        message[..2].copy_from_slice(&metadata.to_le_bytes());
        let mut later = BytesMut::from(&(message.len() as u32).to_le_bytes()[..]);
        later.extend(crc32c::crc32c(&message).to_le_bytes());
        later.extend(message);
        later
    }

    #[tokio::test]
    async fn later_versions_may_say_more() {
        let (near, far) = duplex(4096);
        let (keeper, follower) = (split(near), split(far));
        let called = tokio::spawn(async move {
            let (reader, mut writer) = keeper;
            answer(&mut Messages::new(reader), &mut writer, &key(7), [1; 16]).await
        });
        let (reader, mut writer) = follower;
        let mut messages = Messages::new(reader);
        let hello = Hello { versions: (1, 9), cluster: [1; 16], follower: Follower(5), nonce: [3; 32] };
        let hello = later(&framed(&hello));
        writer.write_all(&hello).await.unwrap();
        let (challenge, _) = messages.next_hello::<Challenge>().await.unwrap();
        let Challenge::Prove { nonce, proof } = challenge else { panic!("{challenge:?}") };
        let exchange: [&[u8]; 2] = [&hello[PREAMBLE_BYTES..], &nonce];
        assert!(key(7).is_proof(&proof, KEEPER, exchange));
        let proof = Proof { proof: key(7).proof(FOLLOWER, exchange), last: 6, hash: RecordHash([4; 32]) };
        writer.write_all(&later(&framed(&proof))).await.unwrap();
        let called = called.await.unwrap().unwrap();
        assert_eq!((called.follower, called.last, called.hash), (Follower(5), 6, RecordHash([4; 32])));
    }
}
