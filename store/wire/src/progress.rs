//! How far recovery is: what a process is asked, and what it tells of the partitions that it leads. Nothing hangs on it: whoever does
//! not answer is not heard.

use crate::Process;
use crate::encoding::{Encoding, Malformed, Reader, Writer};
use crate::frame::{Framed, Kind};

/// A process is to tell how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskProgress {
    /// Who wants to know.
    pub asker: Process,
    /// The question.
    pub question: u64,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TellProgress {
    /// What was asked.
    pub asked: AskProgress,
    /// Partitions in which somebody learns.
    pub partitions_left: u64,
    /// What is to be compared at most, and copied where it differs, in bytes.
    pub bytes_left: u64,
    /// What was copied since the process started.
    pub bytes_copied: u64,
    /// What was copied of late.
    pub bytes_per_second: u64,
    /// How long that takes at this pace; `None` while nothing is copied.
    pub seconds_left: Option<u64>,
}

impl Framed for AskProgress {
    const KIND: Kind = Kind::AskProgress;
}

impl Framed for TellProgress {
    const KIND: Kind = Kind::TellProgress;
}

impl Encoding for AskProgress {
    fn encode(&self, to: &mut Writer) {
        self.asker.encode(to);
        self.question.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { asker: Process::decode(from)?, question: u64::decode(from)? })
    }
}

impl Encoding for TellProgress {
    fn encode(&self, to: &mut Writer) {
        let Self { asked, partitions_left, bytes_left, bytes_copied, bytes_per_second, seconds_left } = self;
        asked.encode(to);
        (*partitions_left, *bytes_left).encode(to);
        (*bytes_copied, *bytes_per_second).encode(to);
        seconds_left.encode(to);
    }

    fn decode(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let asked = AskProgress::decode(from)?;
        let (partitions_left, bytes_left) = <(u64, u64)>::decode(from)?;
        let (bytes_copied, bytes_per_second) = <(u64, u64)>::decode(from)?;
        let seconds_left = Option::decode(from)?;
        Ok(Self { asked, partitions_left, bytes_left, bytes_copied, bytes_per_second, seconds_left })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Outgoing;
    use crate::{Incarnation, NodeId};

    #[test]
    fn what_is_told_comes_back() {
        let asker = Process { node: NodeId([7; 16]), incarnation: Incarnation(3) };
        let asked = AskProgress { asker, question: 5 };
        let told = |seconds_left| TellProgress {
            asked,
            partitions_left: 1,
            bytes_left: 2,
            bytes_copied: 3,
            bytes_per_second: 4,
            seconds_left,
        };
        for told in [told(None), told(Some(u64::MAX))] {
            let mut writer = Writer::new();
            told.encode(&mut writer);
            let (metadata, payload) = writer.into_bytes();
            assert_eq!(Reader::new(&metadata, payload.clone()).whole(), Ok(told));
            for end in 0..metadata.len() {
                assert!(
                    Reader::new(&metadata[..end], payload.clone()).whole::<TellProgress>().is_err(),
                    "{end}"
                );
            }
        }
        let ask = Outgoing::of_process(&asked).unwrap().to_bytes();
        assert_eq!((ask[3], ask.len()), (25, 16 + 16 + 8 + 8));
        assert_eq!(Outgoing::of_process(&told(None)).unwrap().to_bytes()[3], 26);
    }
}
