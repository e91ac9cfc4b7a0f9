//! What is asked of the only copy of an object, as commands for the primary of its partition, and the answers back.

use bytes::{Bytes, BytesMut};
use huntaway_wire::replicated::{Answer, Block, Command, Content};
use huntaway_wire::{
    BLOCK_SIZE_BYTES, Broken, ByteRange, Durability, Error, Oid, Operation, Reply, Segments, Vid, pieces,
};

/// What a hole reads as.
static ZEROES: [u8; BLOCK_SIZE_BYTES as usize] = [0; BLOCK_SIZE_BYTES as usize];

/// A command for the primary of an object's partition. It names the first version of the disk: which one is worked with is
/// looked up at each send.
pub(super) fn command(oid: Oid, operation: Operation) -> Command {
    match operation {
        Operation::Read { range } => Command::Read { oid, blocks: range.blocks() },
        Operation::Map { range } => Command::Map { oid, blocks: range.blocks() },
        Operation::Write { range, data, crcs, durability } => {
            Command::Write { oid, range, pieces: blocks(range, &data, &crcs), durability }
        }
        Operation::CompareAndWrite { range, expected, data, crcs, durability } => Command::CompareAndWrite {
            oid,
            range,
            expected: Block::new(joined(&expected)),
            pieces: blocks(range, &data, &crcs),
            durability,
        },
        Operation::Or { range, data, crcs, durability } => {
            Command::Or { oid, range, pieces: blocks(range, &data, &crcs), durability }
        }
        Operation::Discard { range, durability } => Command::Discard { oid, range, durability },
        Operation::Reserve => Command::Reserve { oid, durability: Durability::Stable },
        Operation::Remove { durability } => Command::Remove { oid, durability },
    }
}

/// The command, to this version of its disk.
pub(super) fn to_version(command: &Command, vid: Vid) -> Command {
    let mut command = command.clone();
    match &mut command {
        Command::Read { oid, .. }
        | Command::Map { oid, .. }
        | Command::Write { oid, .. }
        | Command::CompareAndWrite { oid, .. }
        | Command::Or { oid, .. }
        | Command::Discard { oid, .. }
        | Command::Reserve { oid, .. }
        | Command::Remove { oid, .. } => *oid = Oid::new(oid.kind(), vid, oid.index()),
        Command::Flush => {}
    }
    command
}

/// Whether carrying it out twice, or late, can do harm.
pub(super) fn is_read(command: &Command) -> bool {
    matches!(command, Command::Read { .. } | Command::Map { .. })
}

/// What the answer says of what was asked, `read` being the range if it was a read; `None` if it is no answer to that, or damaged.
pub(super) fn reply(answer: Answer, command: &Command, read: Option<ByteRange>) -> Option<Reply> {
    match (answer, command, read) {
        (Answer::Data(contents), Command::Read { blocks, .. }, Some(range)) => {
            let is_whole = contents.len() == blocks.len() && contents.iter().all(is_sound);
            is_whole.then(|| Reply::Data(cut(contents, range)))
        }
        (Answer::Map(runs), Command::Map { .. }, _) => Some(Reply::Map(runs)),
        (Answer::Miscompare { offset }, Command::CompareAndWrite { .. }, _) => {
            Some(Reply::Miscompare { offset })
        }
        (Answer::Done, Command::Read { .. } | Command::Map { .. }, _) => None,
        (Answer::Done, _, _) => Some(Reply::Done),
        _ => None,
    }
}

/// What an initiator is told of an object whose blocks are damaged everywhere.
pub(super) fn damaged(command: &Command) -> Error {
    match command {
        Command::Read { oid, .. }
        | Command::Map { oid, .. }
        | Command::Write { oid, .. }
        | Command::CompareAndWrite { oid, .. }
        | Command::Or { oid, .. }
        | Command::Discard { oid, .. }
        | Command::Reserve { oid, .. }
        | Command::Remove { oid, .. } => Broken::DamagedObject { oid: *oid }.into(),
        Command::Flush => huntaway_wire::Refusal::NotServing.into(),
    }
}

fn is_sound(content: &Content) -> bool {
    content.as_ref().is_none_or(|block| block.bytes.len() == BLOCK_SIZE_BYTES as usize && block.is_sound())
}

/// The bytes of the range, of which these are the blocks.
fn cut(contents: Vec<Content>, range: ByteRange) -> Segments {
    let bytes = |content: Content| content.map_or(Bytes::from_static(&ZEROES), |block| block.bytes);
    let piece = |(piece, content): (std::ops::Range<u32>, Content)| {
        let from = (piece.start % BLOCK_SIZE_BYTES) as usize;
        bytes(content).slice(from..from + piece.len())
    };
    pieces(range).zip(contents).map(piece).collect()
}

/// Data cut at the borders of blocks. What lies in several segments is copied.
fn blocks(range: ByteRange, data: &Segments, crcs: &[u32]) -> Vec<Block> {
    let mut segments = data.iter().filter(|segment| !segment.is_empty());
    let mut segment = Bytes::new();
    let mut take = |mut missing: usize| {
        if segment.is_empty() {
            segment = segments.next().cloned().unwrap_or_default();
        }
        if segment.len() >= missing {
            return segment.split_to(missing);
        }
        let mut piece = BytesMut::with_capacity(missing);
        while missing > 0 {
            let part = segment.split_to(missing.min(segment.len()));
            missing -= part.len();
            piece.extend_from_slice(&part);
            if segment.is_empty() {
                match segments.next() {
                    Some(next) => segment = next.clone(),
                    None => break,
                }
            }
        }
        piece.freeze()
    };
    pieces(range).zip(crcs).map(|(piece, crc)| Block { crc: *crc, bytes: take(piece.len()) }).collect()
}

fn joined(segments: &Segments) -> Bytes {
    match segments.as_slice() {
        [one] => one.clone(),
        several => several.concat().into(),
    }
}

#[cfg(test)]
mod tests {
    use huntaway_wire::{ObjectKind, piece_crcs};
    use smallvec::smallvec;

    use super::*;

    fn oid() -> Oid {
        Oid::new(ObjectKind::Data, Vid::new(7).unwrap(), 5)
    }

    fn bytes(length: usize) -> Bytes {
        (0..length).map(|at| (at * 7 % 251) as u8).collect()
    }

    #[test]
    fn data_is_cut_into_blocks_with_their_checksums_however_it_is_segmented() {
        let (range, all) = (ByteRange::new(4000, 9000).unwrap(), bytes(9000));
        let data: Segments = smallvec![all.slice(..50), Bytes::new(), all.slice(50..5000), all.slice(5000..)];
        let crcs = piece_crcs(range, &data);
        let write = Operation::Write { range, data, crcs, durability: Durability::Logged };
        let Command::Write { pieces, .. } = command(oid(), write) else { panic!() };
        let lengths: Vec<_> = pieces.iter().map(|piece| piece.bytes.len()).collect();
        assert_eq!(lengths, [96, 4096, 4096, 712]);
        assert!(pieces.iter().all(Block::is_sound));
        assert_eq!(pieces.iter().flat_map(|piece| piece.bytes.to_vec()).collect::<Vec<_>>(), all);
    }

    #[test]
    fn parts_of_blocks_are_cut_from_what_was_read_and_holes_are_zeroes() {
        let range = ByteRange::new(4000, 4300).unwrap();
        let read = command(oid(), Operation::Read { range });
        let block = |byte: u8| Some(Block::new(Bytes::from(vec![byte; 4096])));
        let answer = Answer::Data(vec![block(1), None, block(3)]);
        let Some(Reply::Data(data)) = reply(answer, &read, Some(range)) else { panic!() };
        assert_eq!(data.concat(), [vec![1; 96], vec![0; 4096], vec![3; 108]].concat());
    }

    #[test]
    fn damaged_data_is_no_answer() {
        let range = ByteRange::new(0, 4096).unwrap();
        let read = command(oid(), Operation::Read { range });
        let damaged = Block { crc: 1, bytes: bytes(4096) };
        let short = Block::new(bytes(4095));
        let contents = [vec![Some(damaged)], vec![Some(short)], vec![], vec![None, None]];
        for content in contents {
            assert_eq!(reply(Answer::Data(content), &read, Some(range)), None);
        }
        assert_eq!(reply(Answer::Done, &read, Some(range)), None);
    }

    #[test]
    fn a_command_is_sent_to_the_version_that_is_worked_with() {
        let version = Vid::new(9).unwrap();
        let remove = command(oid(), Operation::Remove { durability: Durability::Stable });
        let Command::Remove { oid, .. } = to_version(&remove, version) else { panic!() };
        assert_eq!((oid.vid(), oid.index()), (version, 5));
    }
}
