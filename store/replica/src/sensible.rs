//! Messages that nobody sends who keeps to the protocol: numbers beyond an object, lists longer than was asked for. They are ignored
//! as if they had been lost, so that what comes after them can take sizes and places for granted.

use core::ops::Range;

use huntaway_wire::{BLOCK_SIZE_BYTES, BLOCKS_PER_OBJECT, Version};

use crate::event::{Command, Page};
use crate::message::{Body, Lesson, Message, Reply};
use crate::record::{Change, Content, CopiedBlock, Record, SET_ASIDE_BLOCK, Stored};
use crate::teaching::PAGE_OBJECTS;

impl Message {
    /// Whether all of it lies within its bounds.
    pub(crate) fn is_sensible(&self) -> bool {
        match &self.body {
            Body::Forward { record, .. } => is_record(record),
            Body::Gathered { records } | Body::RollForward { records } => {
                records.iter().all(|record| is_record(record))
            }
            Body::Inspect { lesson, .. } | Body::Mend { lesson, .. } | Body::Ask { lesson, .. } => {
                is_lesson(lesson)
            }
            Body::Inspected { reply, .. } | Body::Reply { reply, .. } => is_reply(reply),
            Body::Beacon { .. }
            | Body::Misses
            | Body::Released
            | Body::Suspect { .. }
            | Body::Granted { .. }
            | Body::Forwarded { .. }
            | Body::Flush { .. }
            | Body::Flushed { .. }
            | Body::Gather
            | Body::RolledForward
            | Body::Mended { .. } => true,
        }
    }
}

/// Whether the blocks that a command names are an object's.
pub(crate) fn is_command(command: &Command) -> bool {
    match command {
        Command::Read { blocks, .. } | Command::Map { blocks, .. } => is_range(blocks),
        _ => true,
    }
}

fn is_range(blocks: &Range<u32>) -> bool {
    blocks.start < blocks.end && blocks.end <= BLOCKS_PER_OBJECT
}

/// The same, of what replicas tell each other: also whether space is set aside.
fn is_inner_range(blocks: &Range<u32>) -> bool {
    blocks.start < blocks.end && blocks.end <= SET_ASIDE_BLOCK + 1
}

fn is_record(record: &Record) -> bool {
    let is_version = (1..=Version::MAX_SEQ).contains(&record.version.seq);
    is_version && is_change(record)
}

fn is_change(record: &Record) -> bool {
    match &record.change {
        Change::Write { first_block, blocks } => {
            let most = BLOCKS_PER_OBJECT as usize - (*first_block).min(BLOCKS_PER_OBJECT) as usize;
            (1..=most).contains(&blocks.len()) && blocks.iter().all(is_content)
        }
        Change::Free { runs } => {
            let is_apart = |pair: &[Range<u32>]| pair[0].end < pair[1].start;
            !runs.is_empty() && runs.iter().all(is_inner_range) && runs.windows(2).all(is_apart)
        }
        Change::Remove | Change::Reserve | Change::Nothing => true,
    }
}

fn is_content(content: &Content) -> bool {
    content.as_ref().is_none_or(|block| block.bytes.len() == BLOCK_SIZE_BYTES as usize)
}

fn is_lesson(lesson: &Lesson) -> bool {
    match lesson {
        Lesson::Digests { most, .. } => (1..=PAGE_OBJECTS).contains(most),
        Lesson::Read { blocks, .. } => is_inner_range(blocks),
        Lesson::Copy { blocks, .. } | Lesson::Replace { blocks, .. } => {
            let is_block = |copied: &CopiedBlock| {
                let is_data = copied.stored.content.is_some();
                is_content(&copied.stored.content) && !(is_data && copied.block == SET_ASIDE_BLOCK)
            };
            are_ascending(blocks.iter().map(|copied| copied.block)) && blocks.iter().all(is_block)
        }
        Lesson::Begin { .. }
        | Lesson::Requests
        | Lesson::Versions { .. }
        | Lesson::Verify { .. }
        | Lesson::Remove { .. }
        | Lesson::Sync => true,
    }
}

fn is_reply(reply: &Reply) -> bool {
    let most = SET_ASIDE_BLOCK as usize + 1;
    match reply {
        Reply::Missing(blocks) | Reply::Verified(blocks) => {
            are_ascending(blocks.iter().map(|verified| verified.block))
        }
        Reply::Versions(versions) => are_ascending(versions.iter().map(|(block, _)| *block)),
        Reply::Blocks(blocks) => blocks.len() <= most && blocks.iter().all(is_stored),
        Reply::Damaged(blocks) => blocks.len() <= most && blocks.iter().flatten().all(is_stored),
        Reply::Digests(page) => is_page(page),
        Reply::Done | Reply::Failed | Reply::Requests(_) => true,
    }
}

fn is_stored(stored: &Stored) -> bool {
    is_content(&stored.content)
}

/// Whether each is a block of an object and comes after the one before it.
fn are_ascending(mut blocks: impl Iterator<Item = u32>) -> bool {
    let mut least = 0;
    blocks.all(|block| {
        let is_next = (least..=SET_ASIDE_BLOCK).contains(&block);
        least = block.saturating_add(1);
        is_next
    })
}

/// A page that is not the last one says with its last object how far it goes.
fn is_page(page: &Page) -> bool {
    let is_ordered = page.objects.is_sorted_by(|(one, _), (next, _)| one < next);
    page.objects.len() <= PAGE_OBJECTS && is_ordered && (page.is_last || !page.objects.is_empty())
}

#[cfg(test)]
mod tests {
    use huntaway_wire::{ObjectKind, Oid, Pepoch, Vid};

    use super::*;

    fn oid(index: u32) -> Oid {
        Oid::new(ObjectKind::Data, Vid::new(1).unwrap(), index)
    }

    fn is_sensible(body: Body) -> bool {
        Message { pepoch: Pepoch(1), body }.is_sensible()
    }

    #[test]
    fn blocks_are_those_of_an_object() {
        let read =
            |blocks| is_sensible(Body::Inspect { number: 1, lesson: Lesson::Read { oid: oid(0), blocks } });
        assert!(read(0..1) && read(0..BLOCKS_PER_OBJECT) && read(BLOCKS_PER_OBJECT - 1..BLOCKS_PER_OBJECT));
        assert!(
            !read(0..0)
                && !read(SET_ASIDE_BLOCK + 1..SET_ASIDE_BLOCK + 2)
                && !read(0..u32::MAX)
                && !read(1..SET_ASIDE_BLOCK + 2)
        );
        let copy = |blocks: &[u32]| {
            let block = |block: &u32| CopiedBlock::new(*block, Stored::default());
            let blocks = std::sync::Arc::new(blocks.iter().map(block).collect());
            is_sensible(Body::Ask { attempt: 1, step: 1, lesson: Lesson::Copy { oid: oid(0), blocks } })
        };
        assert!(copy(&[]) && copy(&[0, 7, BLOCKS_PER_OBJECT - 1]));
        assert!(!copy(&[7, 7]) && !copy(&[7, 3]) && !copy(&[u32::MAX]));
        let versions = |block| {
            let reply = Reply::Versions(vec![(block, Version::NEVER)]);
            is_sensible(Body::Reply { attempt: 1, step: 1, reply })
        };
        assert!(versions(SET_ASIDE_BLOCK) && !versions(SET_ASIDE_BLOCK + 1) && !versions(u32::MAX));
    }

    #[test]
    fn pages_are_in_order_and_say_how_far_they_go() {
        let page = |objects: &[u32], is_last| {
            let objects = objects.iter().map(|index| (oid(*index), None)).collect();
            is_sensible(Body::Inspected { number: 1, reply: Reply::Digests(Page { objects, is_last }) })
        };
        assert!(page(&[], true) && page(&[1, 2], false) && page(&(0..64).collect::<Vec<_>>(), false));
        assert!(!page(&[], false) && !page(&[2, 1], true) && !page(&[1, 1], true));
        assert!(!page(&(0..65).collect::<Vec<_>>(), false));
    }
}
