//! Requests that were handed over, and what their answers mean.

use huntaway_wire::{
    Answer, Broken, ByteRange, Error, MappedRun, Oid, Provisioning, Refusal, Reply, Submission,
};

use crate::cells::State;
use crate::model::{Model, Place};

/// What a request is about.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Blocks get new states; `stable`: on stable storage.
    Change { places: Vec<Place>, stable: bool },
    /// All that was acknowledged when it was asked for goes to stable storage.
    Flush { acknowledged: Vec<Place> },
    /// Blocks are read: they must be as they were asked to be before.
    Read { oid: Oid, range: ByteRange, expected: Vec<(Place, State)> },
    /// Asks which blocks hold data.
    Map { range: ByteRange, expected: Vec<(Place, State)> },
    /// A comparison must fail at this byte.
    Miscompare { offset: u32 },
    /// Nothing that can be seen.
    Reserve,
}

/// What an answer says about the run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All is well.
    Fine,
    /// There is no room on the disk; nothing was done.
    NoRoom,
    /// Too much waits already; nothing was done.
    TooMuch,
    /// It meets damage of this object; nothing was done. Right only if there is any.
    Damaged(Oid, String),
    /// The disk has failed: right only if it did.
    Failed(String),
}

impl Effect {
    /// Takes an answer into account; the text says which promise it breaks.
    pub(crate) fn answered(self, answer: Answer, model: &mut Model) -> Result<Verdict, String> {
        match (self, answer) {
            (Self::Change { places, .. }, Err(Error::Refused(Refusal::NoSpace { .. }))) => {
                model.undo(&places);
                return Ok(Verdict::NoRoom);
            }
            (Self::Change { places, .. }, Err(Error::Refused(Refusal::NotServing)))
                if model.is_newest(&places) =>
            {
                model.undo(&places);
                return Ok(Verdict::TooMuch);
            }
            (_, Err(Error::Refused(Refusal::NoSpace { .. }))) => return Ok(Verdict::NoRoom),
            (_, Err(Error::Refused(Refusal::NotServing))) => return Ok(Verdict::TooMuch),
            (effect, Err(error)) => {
                let told = error.to_string();
                let Error::Broken(Broken::CorruptBlock { oid, .. } | Broken::DamagedObject { oid }) = error
                else {
                    return Ok(Verdict::Failed(told));
                };
                if let Self::Change { places, .. } = &effect
                    && model.is_newest(places)
                {
                    model.undo(places);
                }
                return Ok(Verdict::Damaged(oid, told));
            }
            (Self::Change { places, stable }, Ok(Reply::Done)) => model.acknowledge(&places, stable)?,
            (Self::Flush { acknowledged }, Ok(Reply::Done)) => model.flushed(&acknowledged),
            (Self::Read { oid, range, expected }, Ok(Reply::Data(data))) => {
                let bytes = data.concat();
                if bytes.len() != range.length() as usize {
                    return Err(format!("{} bytes were read instead of {}", bytes.len(), range.length()));
                }
                model.check_read(oid, range, &expected, &bytes)?;
            }
            (Self::Map { range, expected }, Ok(Reply::Map(runs))) => check_map(range, &expected, &runs)?,
            (Self::Miscompare { offset }, Ok(Reply::Miscompare { offset: found })) if found == offset => {}
            (Self::Reserve, Ok(Reply::Done)) => {}
            (effect, Ok(reply)) => return Err(format!("{reply:?} is no answer to {effect:?}")),
        }
        Ok(Verdict::Fine)
    }
}

fn check_map(range: ByteRange, expected: &[(Place, State)], runs: &[MappedRun]) -> Result<(), String> {
    let provisioning: Vec<Provisioning> =
        runs.iter().flat_map(|run| vec![run.provisioning; run.blocks as usize]).collect();
    let starts_right = runs.first().is_some_and(|run| run.first_block == range.blocks().start);
    if !starts_right || provisioning.len() != range.blocks().len() {
        return Err(format!("{runs:?} do not cover {range:?}"));
    }
    let has_data = |state: &State| state.iter().any(|number| *number > 0);
    for (found, (place, state)) in provisioning.iter().zip(expected) {
        if *found == Provisioning::Deallocated && has_data(state) {
            return Err(format!("{place:?} is said to hold nothing, but holds {state:?}"));
        }
    }
    Ok(())
}

/// A request whose answer is to come.
pub(crate) struct Outstanding {
    effect: Effect,
    submission: Submission,
}

impl Outstanding {
    pub(crate) fn new(effect: Effect, submission: Submission) -> Self {
        Self { effect, submission }
    }

    /// The effect and its answer, if that is there.
    pub(crate) fn poll(self) -> Result<(Effect, Answer), Self> {
        match self.submission {
            Submission::Done(answer) => Ok((self.effect, answer)),
            Submission::Waiting(mut receiver) => match receiver.try_recv() {
                Ok(answer) => Ok((self.effect, answer)),
                Err(tokio::sync::oneshot::error::TryRecvError::Empty) => {
                    Err(Self { effect: self.effect, submission: Submission::Waiting(receiver) })
                }
                Err(tokio::sync::oneshot::error::TryRecvError::Closed) => {
                    Ok((self.effect, Err(Refusal::NotServing.into())))
                }
            },
        }
    }
}
