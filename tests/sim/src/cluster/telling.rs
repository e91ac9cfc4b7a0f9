//! What happens, in words: for the trace of a run.

use huntaway_replica::{Answer, Body, Change, CopiedBlock, Entry, Lesson, Message, Reply};

use super::block::Seen;

/// What a message says, in a line.
pub(crate) fn told(message: &Message) -> String {
    let pepoch = message.pepoch.0;
    match &message.body {
        Body::Forward { record, settled, attempt } => {
            format!("in {pepoch}: forward {}, settled {settled}, attempt {attempt}", record.version)
        }
        Body::Forwarded { version, attempt, .. } => {
            format!("in {pepoch}: forwarded {version}, attempt {attempt}")
        }
        Body::Gathered { records } | Body::RollForward { records } => {
            let versions: Vec<String> = records.iter().map(|record| record.version.to_string()).collect();
            format!("in {pepoch}: of {} records {versions:?}", records.len())
        }
        Body::Ask { attempt, step, lesson: Lesson::Copy { oid, blocks } } => {
            let blocks: Vec<u32> = blocks.iter().map(|copied| copied.block).collect();
            format!("in {pepoch}: copy {blocks:?} of {}, attempt {attempt} step {step}", oid.index())
        }
        Body::Reply { attempt, step, reply: Reply::Blocks(blocks) } => {
            format!("in {pepoch}: {} blocks, attempt {attempt} step {step}", blocks.len())
        }
        body => format!("in {pepoch}: {body:?}"),
    }
}

/// What an answer says.
pub(crate) fn answered(answer: &Answer) -> String {
    match answer {
        Answer::Data(blocks) => format!("{:?}", blocks.iter().map(Seen::of).collect::<Vec<_>>()),
        answer => format!("{answer:?}"),
    }
}

/// What an entry of a log does.
pub(crate) fn described(entry: &Entry) -> String {
    match entry {
        Entry::Write { record, settled } => {
            let seen: Vec<Seen> = record.contents().iter().map(Seen::of).collect();
            let what = match &record.change {
                Change::Write { .. } => format!("{seen:?}"),
                change => format!("{change:?} of {}", record.oid),
            };
            let place = (record.oid.index(), record.extent());
            let (version, number) = (record.version, record.request.map_or(0, |request| request.number));
            format!("{version} at {place:?} {what} for {number}, {:?}, settled {settled}", record.completion)
        }
        Entry::Copy { oid, blocks } => {
            let seen = |copied: &CopiedBlock| {
                (copied.block, copied.stored.version, Seen::of(&copied.stored.content))
            };
            format!("copies to {}: {:?}", oid.index(), blocks.iter().map(seen).collect::<Vec<_>>())
        }
        entry => format!("{entry:?}"),
    }
}
