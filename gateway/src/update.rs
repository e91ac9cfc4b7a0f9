//! What follows an update of what is served: commands under way end, and who may no longer be here leaves.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::nexus::{Call, Nexus};
use crate::session::LOGOUT_SECONDS;
use crate::sessions::Sessions;

/// How long commands to units that are no more may wait for their write data.
const DATA_PATIENCE: Duration = Duration::from_secs(3);

/// How long, after that, commands to units that are no more may wait for their initiator to take its answers.
const ROOM_PATIENCE: Duration = Duration::from_secs(3);

/// How long room in sessions' mailboxes is waited for.
const CALL_PATIENCE: Duration = Duration::from_secs(1);

/// Waits until no command has any of these units any more. Those that stores have are waited for; those that still wait
/// for their initiator's data after [`DATA_PATIENCE`] end in CHECK CONDITION, and a session whose initiator does not take
/// what it asked of them is closed after [`ROOM_PATIENCE`] more.
pub(crate) async fn drain(sessions: &Sessions, retired: Vec<watch::Receiver<()>>) {
    // Never sent, only dropped: the error is what is waited for.
    let mut ended = Box::pin(join_all(retired.into_iter().map(async |mut end| end.changed().await)));
    if timeout(DATA_PATIENCE, &mut ended).await.is_ok() {
        return;
    }
    tokio::select! {
        _ = &mut ended => return,
        () = call_all(sessions, || Call::FailRetired) => {}
    }
    // Again and again: one that waits for a store now may wait for its initiator later.
    while timeout(ROOM_PATIENCE, &mut ended).await.is_err() {
        tokio::select! {
            _ = &mut ended => return,
            () = call_all(sessions, || Call::CloseIfStalled) => {}
        }
    }
}

/// Asks the same of all sessions. One that is ending and hears nothing any more is waited for no longer than
/// [`CALL_PATIENCE`].
async fn call_all(sessions: &Sessions, call: impl Fn() -> Call) {
    let all = sessions.all();
    // Whether all have heard it or not: it is asked again.
    let _ = timeout(CALL_PATIENCE, join_all(all.iter().map(|session| session.call(call())))).await;
}

/// Asks the initiators to log out, and closes the sessions that are still there after [`LOGOUT_SECONDS`].
pub(crate) async fn expel(revoked: Vec<Arc<Nexus>>) {
    join_all(revoked.into_iter().map(async |nexus| {
        let (initiator, target) = (&nexus.key.initiator, &nexus.key.target);
        tracing::info!(
            initiator,
            target,
            tsih = nexus.tsih,
            "session revoked: asking the initiator to log out"
        );
        let left = async {
            nexus.call(Call::RequestLogout).await;
            nexus.ended().await;
        };
        if timeout(Duration::from_secs(LOGOUT_SECONDS.into()), left).await.is_err() {
            nexus.close().await;
        }
    }))
    .await;
}
