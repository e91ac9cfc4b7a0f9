//! An I_T nexus as other sessions, and updates, see it: what its initiator sees, and is to be told.
//!
//! What others want of a session is asked by a [`Call`] in its mailbox; what its initiator is to be told is put into its
//! nexus at once, so that it cannot come too late or be lost.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use huntaway_scsi::{Sense, UnitAttentions};
use tokio::sync::{mpsc, oneshot};

use crate::disk::Disk;
use crate::sessions::lock;
use crate::unit::Unit;
use crate::view::{News, View};

/// What makes a session the same one to its initiator (RFC 7143 §6.3.5): a second login with it reinstates. Names are
/// in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey {
    pub(crate) initiator: String,
    pub(crate) isid: [u8; 6],
    pub(crate) target: String,
}

/// Where a connection came from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) peer: SocketAddr,
    /// The name of the portal it came in by.
    pub(crate) portal: Arc<str>,
}

/// Some LUNs of a target.
pub(crate) type Luns = Arc<[u16]>;

/// What is asked of a session by others.
pub(crate) enum Call {
    /// Give up all tasks of these LUNs. `done` is dropped when none of them can take effect any more.
    AbortTasks { luns: Luns, done: oneshot::Sender<()> },
    /// `done` is dropped when nothing that stores have by now can change the disk any more.
    SettleWrites { disk: Arc<Disk>, done: oneshot::Sender<()> },
    /// Wait no longer for the write data of commands to units that are no more.
    FailRetired,
    /// End now if commands to units that are no more wait for the initiator to take its answers.
    CloseIfStalled,
    /// Ask the initiator to log out.
    RequestLogout,
    /// End now.
    Close,
}

/// An I_T nexus.
pub(crate) struct Nexus {
    pub(crate) key: SessionKey,
    pub(crate) tsih: u16,
    /// The CID of its one connection.
    pub(crate) connection_id: u16,
    pub(crate) origin: Origin,
    /// What the initiator sees. Replaced only under the lock of `attentions`.
    view: ArcSwap<View>,
    /// Its initiator may no longer use its target.
    revoked: AtomicBool,
    mailbox: mpsc::Sender<Call>,
    /// What the initiator is to be told, for each LUN.
    attentions: Mutex<BTreeMap<u16, UnitAttentions>>,
    /// Spares commands the lock when there is nothing to tell.
    has_attentions: AtomicBool,
}

impl Nexus {
    pub(crate) fn new(
        key: SessionKey,
        tsih: u16,
        connection_id: u16,
        origin: Origin,
        view: Arc<View>,
        mailbox: mpsc::Sender<Call>,
    ) -> Self {
        Self {
            key,
            tsih,
            connection_id,
            origin,
            view: ArcSwap::new(view),
            revoked: AtomicBool::new(false),
            mailbox,
            attentions: Mutex::default(),
            has_attentions: AtomicBool::new(false),
        }
    }

    /// The unit behind a LUN, as of now.
    pub(crate) fn unit(&self, lun: u16) -> Option<Arc<Unit>> {
        self.view.load().unit(lun).cloned()
    }

    /// The LUNs the initiator sees, in ascending order.
    pub(crate) fn luns(&self) -> Vec<u16> {
        self.view.load().luns().collect()
    }

    /// The LUNs under which the initiator sees this disk.
    pub(crate) fn luns_of(&self, disk: &Arc<Disk>) -> Vec<u16> {
        self.luns_where(|unit| Arc::ptr_eq(&unit.disk, disk))
    }

    /// The LUNs whose units the initiator sees and this is true of.
    pub(crate) fn luns_where(&self, is_meant: impl Fn(&Unit) -> bool) -> Vec<u16> {
        let view = self.view.load();
        view.luns().filter(|lun| view.unit(*lun).is_some_and(|unit| is_meant(unit))).collect()
    }

    /// Whether both are sessions with one target.
    pub(crate) fn shares_target(&self, other: &Self) -> bool {
        self.key.target == other.key.target
    }

    /// Changes what the initiator sees, and notes what it is to be told of that. Whoever sees the new view finds the
    /// news as well; who is told the news finds the new view.
    pub(crate) fn show(&self, view: Arc<View>) {
        let mut attentions = lock(&self.attentions);
        let news = view.news_since(&self.view.load());
        attentions.retain(|lun, _| view.unit(*lun).is_some());
        for News { lun, is_other_disk, attentions: told } in news {
            if is_other_disk {
                attentions.remove(&lun);
            }
            for attention in told {
                attentions.entry(lun).or_default().establish(attention);
            }
        }
        self.has_attentions.store(!attentions.is_empty(), Ordering::Release);
        self.view.store(view);
    }

    /// The initiator may no longer use its target: it sees nothing there any more. Whether that was news.
    pub(crate) fn revoke(&self) -> bool {
        let is_news = !self.revoked.swap(true, Ordering::AcqRel);
        if is_news {
            self.show(Arc::default());
        }
        is_news
    }

    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }

    /// Takes over what the initiator was to be told through `predecessor`, before what it is to be told since.
    pub(crate) fn inherit(&self, predecessor: &Self) {
        let inherited = std::mem::take(&mut *lock(&predecessor.attentions));
        let mut attentions = lock(&self.attentions);
        let view = self.view.load();
        for (lun, mut queue) in inherited.into_iter().filter(|(lun, _)| view.unit(*lun).is_some()) {
            let since = attentions.remove(&lun).unwrap_or_default();
            since.iter().for_each(|attention| queue.establish(*attention));
            attentions.insert(lun, queue);
        }
        self.has_attentions.store(true, Ordering::Release);
    }

    /// Has the initiator told at its next command to each LUN it sees.
    pub(crate) fn establish_everywhere(&self, attention: Sense) {
        self.establish(&self.luns(), attention);
    }

    /// Has the initiator told at its next command to each of these LUNs that it sees.
    pub(crate) fn establish(&self, luns: &[u16], attention: Sense) {
        let mut attentions = lock(&self.attentions);
        let view = self.view.load();
        for lun in luns.iter().filter(|lun| view.unit(**lun).is_some()) {
            attentions.entry(*lun).or_default().establish(attention);
        }
        self.has_attentions.store(!attentions.is_empty(), Ordering::Release);
    }

    /// The sense to answer this command with instead of carrying it out, if there is something to tell.
    pub(crate) fn intercept(&self, lun: u16, cdb: &[u8]) -> Option<Sense> {
        self.told(lun, |attentions| attentions.intercept(cdb))
    }

    /// The oldest thing to tell, for REQUEST SENSE.
    pub(crate) fn take_attention(&self, lun: u16) -> Option<Sense> {
        self.told(lun, UnitAttentions::take)
    }

    fn told(&self, lun: u16, take: impl FnOnce(&mut UnitAttentions) -> Option<Sense>) -> Option<Sense> {
        if !self.has_attentions.load(Ordering::Acquire) {
            return None;
        }
        let mut attentions = lock(&self.attentions);
        let of_unit = attentions.get_mut(&lun)?;
        let sense = take(of_unit);
        if of_unit.is_empty() {
            attentions.remove(&lun);
        }
        self.has_attentions.store(!attentions.is_empty(), Ordering::Release);
        sense
    }

    /// Asks for something. A session that has ended does not care.
    pub(crate) async fn call(&self, call: Call) {
        let _ = self.mailbox.send(call).await;
    }

    /// Has the session give up its tasks of these LUNs, and waits until none of them can take effect any more.
    pub(crate) async fn abort_tasks(&self, luns: Luns) {
        let (done, settled) = oneshot::channel();
        self.call(Call::AbortTasks { luns, done }).await;
        self.settled(settled).await;
    }

    /// Waits until nothing that the session's stores have by now can change the disk any more.
    pub(crate) async fn settle_writes(&self, disk: Arc<Disk>) {
        let (done, settled) = oneshot::channel();
        self.call(Call::SettleWrites { disk, done }).await;
        self.settled(settled).await;
    }

    async fn settled(&self, settled: oneshot::Receiver<()>) {
        tokio::select! {
            // Only ever dropped.
            _ = settled => {}
            // A call that came too late may lie in the mailbox of an ended session for as long as we hold that.
            () = self.mailbox.closed() => {}
        }
    }

    /// Closes the session and waits until none of its commands can take effect any more.
    pub(crate) async fn close(&self) {
        self.call(Call::Close).await;
        self.ended().await;
    }

    /// Waits until the session has ended, and none of its commands can take effect any more.
    pub(crate) async fn ended(&self) {
        self.mailbox.closed().await;
    }
}
