//! How far recovery is in the whole cluster: other processes are asked how far they are, of the partitions that they lead.

use std::collections::BTreeMap;
use std::time::Duration;

use huntaway_replica::Progress;
use huntaway_wire::Process;
use huntaway_wire::progress::{AskProgress, TellProgress};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::{Host, Shared};
use crate::locking::lock;

/// Others have so long to answer.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// Most who ask at a time: to the others nobody answers.
const MOST_ASKING: usize = 16;

/// Questions that are not answered yet.
#[derive(Default)]
pub(super) struct Asking {
    question: u64,
    waiting: BTreeMap<u64, mpsc::Sender<(Process, Progress)>>,
}

impl Shared {
    /// What this process says when it is asked.
    pub(super) fn tell_progress(&self, asked: AskProgress) -> TellProgress {
        let Progress { partitions_left, bytes_left, bytes_copied, bytes_per_second, time_left } =
            lock(&self.recovery).progress();
        TellProgress {
            asked,
            partitions_left: partitions_left as u64,
            bytes_left,
            bytes_copied,
            bytes_per_second,
            seconds_left: time_left.map(|left| left.as_secs()),
        }
    }

    /// Another process tells how far it is.
    pub(super) fn progress_was_told(&self, from: Process, told: TellProgress) {
        let TellProgress { asked, bytes_left, bytes_copied, bytes_per_second, .. } = told;
        if asked.asker != self.me {
            return;
        }
        let progress = Progress {
            partitions_left: usize::try_from(told.partitions_left).unwrap_or(usize::MAX),
            bytes_left,
            bytes_copied,
            bytes_per_second,
            time_left: told.seconds_left.map(Duration::from_secs),
        };
        if let Some(answers) = lock(&self.asking).waiting.get(&asked.question) {
            // There is room for what each process answers; who answers more often is not heard.
            let _ = answers.try_send((from, progress));
        }
    }
}

impl Host {
    /// How far each process is that is up and answers, of what it leads, and how many do not answer.
    pub async fn progress_of_all(&self) -> (Vec<Progress>, usize) {
        let shared = &*self.shared;
        let others = shared.others();
        let (sender, mut receiver) = mpsc::channel(others.len().max(1));
        let question = {
            let mut asking = lock(&shared.asking);
            asking.question += 1;
            let question = asking.question;
            if asking.waiting.len() < MOST_ASKING {
                asking.waiting.insert(question, sender);
            }
            question
        };
        let asked = AskProgress { asker: shared.me, question };
        others.iter().for_each(|process| shared.links.ask(*process, &asked));
        let mut told = BTreeMap::from([(shared.me, self.progress())]);
        let deadline = Instant::now() + ANSWER_TIME;
        while told.len() <= others.len() {
            let Ok(Some((from, progress))) = timeout_at(deadline, receiver.recv()).await else { break };
            if others.contains(&from) {
                told.insert(from, progress);
            }
        }
        lock(&shared.asking).waiting.remove(&question);
        let silent = others.iter().filter(|process| !told.contains_key(process)).count();
        (told.into_values().collect(), silent)
    }
}
