//! Flushes of many partitions: each process is asked once to sync all that it has, and what the ledger says by then tells for which
//! partitions that is enough. The others are flushed by their primaries.
//!
//! One round of questions is under way at a time. A flush needs one that begins after it came, and shares it with all that came
//! meanwhile. ARCHITECTURE.md says why that is a flush ("A flush of a disk").

use std::sync::{Arc, Mutex};
use std::time::Duration;

use huntaway_wire::replicated::{Answers, SyncAll, Synced};
use huntaway_wire::{Answer, Partition, Process, Reply};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Asker, Cluster, Flushes, number};
use crate::sessions::lock;

/// Processes have so long to answer.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// What they knew is known here by then, or partitions are asked.
const LEARNING_TIME: Duration = Duration::from_millis(500);

/// A round that is under way, and the next one, have ended by then: if not, whoever drives them is stuck.
const ROUNDS_TIME: Duration = Duration::from_secs(3);

/// The rounds of a gateway.
pub(super) struct Rounds {
    state: Mutex<State>,
    /// The number of the newest table.
    learned: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    is_running: bool,
    /// For the next round.
    waiting: Vec<oneshot::Sender<Arc<Round>>>,
    /// Where answers go, to what this round asked.
    answers: Option<(SyncAll, mpsc::Sender<Told>)>,
}

/// What a process answers: the last record that it knows, if all is well.
type Told = (Process, Option<u64>);

/// What came of a round.
#[derive(Debug, Default)]
struct Round {
    /// Who has synced what it had when the round began, or later.
    synced: Vec<Process>,
    /// The last record that any of them knew of then.
    known: u64,
}

/// A partition to be flushed, and its changes so far: see [`super::Requests::unflushed`].
pub(super) type Wanted = (Partition, u64);

impl Rounds {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), learned: watch::Sender::new(0) }
    }

    /// There is a newer table.
    pub(super) fn learned(&self, number: u64) {
        self.learned.send_replace(number);
    }

    pub(super) fn answered(&self, from: Process, Synced { asked, known }: Synced) {
        if let Some((this, answers)) = &lock(&self.state).answers
            && *this == asked
        {
            // There is room for what each process answers; who answers more often is not heard.
            let _ = answers.try_send((from, known));
        }
    }
}

impl Cluster {
    /// Flushes the partitions for `reply`: by a round, as far as that goes.
    pub(super) async fn flush_by_round(
        self: Arc<Self>,
        wanted: Vec<Wanted>,
        asker: Arc<Asker>,
        reply: oneshot::Sender<Answer>,
    ) {
        let left = self.left_by_round(wanted).await;
        let asked: Vec<_> = left.into_iter().map(|partition| self.flush_one(partition, &asker)).collect();
        let mut answer = Ok(Reply::Done);
        for submission in asked {
            answer = answer.and(submission.answer().await);
        }
        // Whoever waited may be gone.
        let _ = reply.send(answer);
    }

    /// The partitions that a round, which begins now or later, does not flush.
    async fn left_by_round(self: &Arc<Self>, wanted: Vec<Wanted>) -> Vec<Partition> {
        let all = |wanted: Vec<Wanted>| wanted.into_iter().map(|(partition, _)| partition).collect();
        let Ok(Ok(round)) = timeout(ROUNDS_TIME, self.next_round()).await else { return all(wanted) };
        let mut learned = self.rounds.learned.subscribe();
        let is_known = timeout(LEARNING_TIME, learned.wait_for(|number| *number >= round.known)).await;
        let table = self.table.load();
        if !matches!(is_known, Ok(Ok(_))) || !table.are_all_up(&round.synced) {
            return all(wanted);
        }
        let mut left = Vec::new();
        for (partition, covered) in wanted {
            if !table.is_held_by(partition, &round.synced) {
                left.push(partition);
            } else if self.flushes == Flushes::OfThisGateway {
                self.requests(partition).is_flushed(covered);
            }
        }
        left
    }

    /// What comes of the next round that begins.
    fn next_round(self: &Arc<Self>) -> oneshot::Receiver<Arc<Round>> {
        let (sender, receiver) = oneshot::channel();
        let mut state = lock(&self.rounds.state);
        state.waiting.push(sender);
        if !std::mem::replace(&mut state.is_running, true) {
            tokio::spawn(Arc::clone(self).go_round());
        }
        receiver
    }

    /// One round after the other, as long as anybody waits for one.
    async fn go_round(self: Arc<Self>) {
        loop {
            let waiting = {
                let mut state = lock(&self.rounds.state);
                state.is_running = !state.waiting.is_empty();
                std::mem::take(&mut state.waiting)
            };
            if waiting.is_empty() {
                return;
            }
            let round = Arc::new(self.round().await);
            waiting.into_iter().for_each(|waiting| _ = waiting.send(Arc::clone(&round)));
        }
    }

    /// Asks every process that is up. When one does not answer, or cannot say that all is well, the rest is not waited for: it is of
    /// no use.
    async fn round(self: &Arc<Self>) -> Round {
        let (asked, deadline) =
            (SyncAll { gateway: self.gateway, round: number() }, Instant::now() + ANSWER_TIME);
        let table = self.table.load_full();
        let mut left: Vec<Process> = table.ways().map(|way| way.process).collect();
        let (sender, mut receiver) = mpsc::channel(left.len().max(1));
        lock(&self.rounds.state).answers = Some((asked, sender));
        let answers: Arc<dyn Answers> = Arc::clone(self) as _;
        let are_asked =
            table.ways().all(|way| way.store.is_reachable() && way.store.sync_all(asked, &answers));
        let mut round = Round::default();
        while are_asked && !left.is_empty() {
            let Ok(Some((from, known))) = timeout_at(deadline, receiver.recv()).await else { break };
            let Some(known) = known else { break };
            if let Some(at) = left.iter().position(|process| *process == from) {
                round.synced.push(left.swap_remove(at));
                round.known = round.known.max(known);
            }
        }
        lock(&self.rounds.state).answers = None;
        round
    }
}
