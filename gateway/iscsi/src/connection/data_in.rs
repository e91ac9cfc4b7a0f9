//! Input data of a task: all its Data-In PDUs laid out in the output buffer, filled in place by the caller
//! (RFC 7143 §11.7).

use smallvec::SmallVec;

use super::{Connection, Phase};
use crate::event::ScsiResponse;
use crate::framing::{Digests, seal_pdu};
use crate::pdu::{DataInPdu, Residual, ScsiStatus, SequenceNumbers};
use crate::tasks::TaskTag;

/// The Data-In PDUs of one task while the caller fills them.
///
/// Take the payload areas with [`next_segment`](Self::next_segment), fill every byte, tell its
/// [CRC](Self::set_crc) where it is known and [of use](Self::has_digests), then [`finish`](Self::finish). Areas that were not taken are sent as zeroes. Dropping it is
/// [abandoning](Self::abandon) it.
pub struct DataIn<'a> {
    connection: &'a mut Connection,
    task: TaskTag,
    layout: Layout,
    /// Where the first header is in the output buffer.
    begin: usize,
    /// Where the next area to hand out begins: its PDU's position, and its offset in the data.
    next: Place,
    /// The CRC32C of each area that was taken, as far as the caller has told it.
    crcs: SmallVec<[Option<u32>; 4]>,
    /// Bytes the device server has, which may be more than fit.
    offered: u64,
    finished: bool,
}

/// How data is cut into PDUs.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Bytes of all payload areas.
    length: usize,
    segment_length: usize,
    burst_length: usize,
    digests: Digests,
}

/// The beginning of one PDU.
#[derive(Clone, Copy, Debug)]
struct Place {
    position: usize,
    offset: usize,
}

/// One PDU.
#[derive(Clone, Copy, Debug)]
struct Segment {
    payload: usize,
    length: usize,
    /// The last of its sequence.
    is_final: bool,
    next: Place,
}

impl Layout {
    fn segment(&self, place: Place) -> Segment {
        let left_of_burst = self.burst_length - place.offset % self.burst_length;
        let length = (self.length - place.offset).min(self.segment_length).min(left_of_burst);
        let header_bytes = self.digests.header_bytes();
        let end = place.offset + length;
        Segment {
            payload: place.position + header_bytes,
            length,
            is_final: end == self.length || length == left_of_burst,
            next: Place {
                position: place.position + header_bytes + self.digests.data_bytes(length),
                offset: end,
            },
        }
    }

    /// Bytes of all PDUs.
    fn total(&self) -> usize {
        let mut place = Place { position: 0, offset: 0 };
        while place.offset < self.length {
            place = self.segment(place).next;
        }
        place.position
    }
}

impl Connection {
    /// Lays out the Data-In PDUs for `length` bytes, or for as many of them as the initiator expects; the
    /// rest becomes an overflow residual. What it adds to the output buffer is bounded by `length` only, so
    /// the caller limits the length of its reads. For an unknown task the layout is empty.
    pub fn data_in(&mut self, task: TaskTag, length: u64) -> DataIn<'_> {
        let expected = match self.phase {
            Phase::Closed => 0,
            _ => self.tasks.task(task).map_or(0, |task| task.expected_data_in()),
        };
        // The minimum of anything and a u32 fits.
        let fitting = length.min(u64::from(expected)) as usize;
        let parameters = self.session.as_ref().map(|session| &session.parameters);
        let layout = Layout {
            length: fitting,
            segment_length: self.initiator_segment_length().max(1),
            burst_length: parameters.map_or(1, |parameters| parameters.max_burst_length as usize).max(1),
            digests: self.digests,
        };
        let begin = self.output.grow(layout.total());
        let next = Place { position: begin, offset: 0 };
        let crcs = SmallVec::new();
        DataIn { connection: self, task, layout, begin, next, crcs, offered: length, finished: false }
    }
}

impl DataIn<'_> {
    /// Bytes of all payload areas together.
    pub fn len(&self) -> usize {
        self.layout.length
    }

    /// Whether there is nothing to fill.
    pub fn is_empty(&self) -> bool {
        self.layout.length == 0
    }

    /// The next payload area, to be filled wholly; `None` after the last.
    pub fn next_segment(&mut self) -> Option<&mut [u8]> {
        if self.next.offset >= self.layout.length {
            return None;
        }
        let segment = self.layout.segment(self.next);
        self.next = segment.next;
        self.crcs.push(None);
        Some(self.connection.output.range_mut(segment.payload..segment.payload + segment.length))
    }

    /// Whether the data has digests, so that telling CRCs saves summing it.
    pub fn has_digests(&self) -> bool {
        self.layout.digests.data
    }

    /// Tells what the CRC32C is of the data that belongs in the area taken last. The digest is made from it without a look
    /// at the area, so that the initiator finds what damaged the data on its way there.
    pub fn set_crc(&mut self, crc: u32) {
        if let Some(last) = self.crcs.last_mut() {
            *last = Some(crc);
        }
    }

    /// Ends the task. GOOD without sense data travels in the last Data-In (collapsed status), anything else
    /// in a SCSI Response behind the data.
    pub fn finish(mut self, response: ScsiResponse) {
        self.finished = true;
        while let Some(unfilled) = self.next_segment() {
            unfilled.fill(0);
        }
        let connection = &mut *self.connection;
        let Some(mut task) = connection.take_task(self.task) else {
            connection.output.truncate(self.begin);
            return;
        };
        let residual = Residual::between(task.expected_data_in(), self.offered);
        let is_plain_good = response.status == ScsiStatus::Good && response.sense.is_empty();
        let collapsed = is_plain_good && self.layout.length > 0;
        let mut place = Place { position: self.begin, offset: 0 };
        for crc in std::mem::take(&mut self.crcs) {
            let segment = self.layout.segment(place);
            let carries_status = collapsed && segment.next.offset == self.layout.length;
            let sequence = match carries_status {
                true => connection.status_numbers(),
                false => SequenceNumbers { stat_sn: 0, ..connection.unconsumed_numbers() },
            };
            let pdu = DataInPdu {
                is_final: segment.is_final,
                status: carries_status.then_some((response.status, residual)),
                initiator_task_tag: task.initiator_task_tag(),
                sequence,
                data_sn: task.take_data_sn(),
                // The layout is no longer than the expected length, a u32.
                buffer_offset: place.offset as u32,
            };
            let mut header = pdu.build();
            header.set_data_segment_length(segment.length as u32);
            seal_pdu(&mut connection.output, self.layout.digests, place.position, &header, crc);
            place = segment.next;
        }
        if !collapsed {
            connection.send_response(&task, &response, residual);
        }
        connection.return_budget(task.held_data);
    }

    /// Takes the layout back; the task goes on, and the output buffer is as before.
    pub fn abandon(self) {}
}

impl Drop for DataIn<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.connection.output.truncate(self.begin);
        }
    }
}
