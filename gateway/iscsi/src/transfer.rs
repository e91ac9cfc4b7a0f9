//! The write data of one task: immediate, unsolicited and solicited (RFC 7143 §4.2.5.2, §11.7, §11.8).
//!
//! Data comes in offset order (DataPDUInOrder and DataSequenceInOrder are Yes), in *bursts*: the
//! unsolicited one, then one for each R2T. A burst ends with the F bit. A burst with a gap, damage or the
//! wrong amount fails the transfer, but the failure is reported only when every burst has ended, as
//! RFC 7143 §7.8 and §7.9 demand.

use bytes::BytesMut;
use smallvec::SmallVec;

use crate::crc::{PIECE_BYTES, PieceCrcs};
use crate::event::DataFailure;
use crate::framing::Frame;
use crate::parameters::Parameters;
use crate::payload::Payload;
use crate::pdu::{DataOutPdu, RESERVED_TAG, ScsiCommandPdu};

/// A sequence of Data-Outs that is under way.
#[derive(Clone, Copy, Debug)]
struct Burst {
    target_transfer_tag: u32,
    next_offset: u32,
    end: u32,
    next_data_sn: u32,
}

/// What an R2T asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Solicitation {
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// The negotiated bounds of solicited data.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TransferLimits {
    pub(crate) max_burst_length: u32,
    pub(crate) max_outstanding_r2t: usize,
}

/// Gathers the write data of one task.
#[derive(Debug)]
pub(crate) struct WriteTransfer {
    is_write: bool,
    /// Bytes of output data the initiator has.
    expected: u32,
    wanted: Option<u32>,
    /// Front first; at most the unsolicited burst, or as many R2Ts as negotiated.
    bursts: SmallVec<[Burst; 2]>,
    /// Where the next R2T begins.
    solicited: u32,
    received: Gathered,
    failure: Option<DataFailure>,
    is_over: bool,
}

impl WriteTransfer {
    /// Begins with what the command PDU says and its frame carries. Immediate data below `copied_payload` bytes
    /// is copied.
    pub(crate) fn begin(
        command: &ScsiCommandPdu,
        frame: &Frame,
        parameters: &Parameters,
        copied_payload: usize,
    ) -> Self {
        let expected = if command.write { command.expected_data_transfer_length } else { 0 };
        let mut transfer = Self {
            is_write: command.write,
            expected,
            wanted: None,
            bursts: SmallVec::new(),
            solicited: 0,
            received: Gathered::default(),
            failure: None,
            is_over: false,
        };
        if !command.write {
            return transfer;
        }
        let unsolicited_end = expected.min(parameters.first_burst_length);
        if !frame.data.is_empty() && !parameters.immediate_data {
            transfer.fail(DataFailure::UnexpectedUnsolicitedData);
        }
        // The framing bounds a data segment to 24 bits.
        let immediate_end = frame.data.len() as u32;
        if immediate_end > unsolicited_end {
            transfer.fail(DataFailure::IncorrectAmount);
        } else if !frame.data_is_intact {
            transfer.fail(DataFailure::ProtocolServiceCrc);
        } else {
            transfer.received.push(frame.clone(), copied_payload);
        }
        // Without the F bit more must follow, unless there is nothing left that could.
        let more_follows = !command.is_final && immediate_end < unsolicited_end;
        if more_follows {
            if parameters.initial_r2t {
                transfer.fail(DataFailure::UnexpectedUnsolicitedData);
            }
            transfer.bursts.push(Burst {
                target_transfer_tag: RESERVED_TAG,
                next_offset: immediate_end,
                end: unsolicited_end,
                next_data_sn: 0,
            });
        }
        transfer.solicited = if more_follows { unsolicited_end } else { immediate_end };
        transfer
    }

    /// All expected data, if it came with the command.
    pub(crate) fn complete_immediate_data(&mut self) -> Option<Payload> {
        let complete = self.is_write && self.failure.is_none() && self.bursts.is_empty();
        (complete && self.received.len() == self.expected as usize).then(|| self.received.whole())
    }

    /// The device server wants this many bytes from offset 0; only what the initiator has is waited for.
    pub(crate) fn want(&mut self, length: u32) {
        self.wanted = Some(length.min(self.expected));
    }

    /// Bytes that come, or came, without being asked for and are kept.
    pub(crate) fn unsolicited(&self) -> u32 {
        match self.failure {
            None => self.solicited,
            Some(_) => 0,
        }
    }

    /// Bytes that R2Ts will ask for.
    pub(crate) fn to_solicit(&self) -> u32 {
        match self.failure {
            None => self.wanted.unwrap_or(0).saturating_sub(self.solicited),
            Some(_) => 0,
        }
    }

    /// The next R2T to send, under this tag, if one is due and allowed.
    pub(crate) fn solicit(
        &mut self,
        target_transfer_tag: u32,
        limits: &TransferLimits,
    ) -> Option<Solicitation> {
        let unsolicited_is_open =
            self.bursts.first().is_some_and(|burst| burst.target_transfer_tag == RESERVED_TAG);
        let length = self.to_solicit().min(limits.max_burst_length);
        if length == 0 || unsolicited_is_open || self.bursts.len() >= limits.max_outstanding_r2t {
            return None;
        }
        let offset = self.solicited;
        self.solicited += length;
        let end = self.solicited;
        self.bursts.push(Burst { target_transfer_tag, next_offset: offset, end, next_data_sn: 0 });
        Some(Solicitation { offset, length })
    }

    /// Takes one Data-Out of this task and the frame it came in. A payload below `copied_payload` bytes is copied.
    pub(crate) fn receive(&mut self, pdu: &DataOutPdu, frame: Frame, copied_payload: usize) {
        if self.is_over {
            return;
        }
        let tag = pdu.target_transfer_tag;
        let Some(at) = self.bursts.iter().position(|burst| burst.target_transfer_tag == tag) else {
            self.fail(match tag {
                RESERVED_TAG => DataFailure::UnexpectedUnsolicitedData,
                _ => DataFailure::ProtocolServiceCrc,
            });
            return;
        };
        let burst = &mut self.bursts[at];
        // The framing bounds a data segment to 24 bits.
        let verdict = burst.receive(pdu, frame.data.len() as u32);
        let ended = pdu.is_final.then_some(*burst);
        if at != 0 || !frame.data_is_intact {
            self.fail(DataFailure::ProtocolServiceCrc);
        }
        match verdict {
            Err(failure) => self.fail(failure),
            Ok(()) if self.failure.is_none() => self.received.push(frame, copied_payload),
            Ok(()) => {}
        }
        if let Some(burst) = ended {
            self.bursts.remove(at);
            if burst.next_offset != burst.end {
                self.fail(DataFailure::IncorrectAmount);
            }
        }
    }

    /// The outcome, once everything that was wanted is here or nothing more will come.
    pub(crate) fn take_outcome(&mut self) -> Option<Result<Payload, DataFailure>> {
        let wanted = self.wanted? as usize;
        if self.is_over || !self.bursts.is_empty() {
            return None;
        }
        let outcome = match self.failure {
            Some(failure) => Err(failure),
            None if self.received.len() < wanted => return None,
            None => Ok(self.received.take(wanted)),
        };
        self.is_over = true;
        Some(outcome)
    }

    /// The first failure is the one that is reported.
    fn fail(&mut self, failure: DataFailure) {
        if self.failure.is_none() {
            self.failure = Some(failure);
            self.received = Gathered::default();
        }
    }
}

impl Burst {
    /// Checks the place of a Data-Out in its burst.
    fn receive(&mut self, pdu: &DataOutPdu, length: u32) -> Result<(), DataFailure> {
        if pdu.data_sn != self.next_data_sn || pdu.buffer_offset != self.next_offset {
            return Err(DataFailure::ProtocolServiceCrc);
        }
        if length > self.end - self.next_offset {
            return Err(DataFailure::IncorrectAmount);
        }
        self.next_data_sn = self.next_data_sn.wrapping_add(1);
        self.next_offset += length;
        Ok(())
    }
}

/// Received bytes; small pieces are copied together so that they do not pin the buffers they came in.
#[derive(Debug, Default)]
struct Gathered {
    payload: Payload,
    small: BytesMut,
    /// Of the first pieces of both together.
    piece_crcs: PieceCrcs,
}

impl Gathered {
    fn len(&self) -> usize {
        self.payload.len() + self.small.len()
    }

    fn push(&mut self, frame: Frame, copied_payload: usize) {
        self.note_crcs(&frame);
        let data = frame.data;
        if data.len() < copied_payload {
            self.small.extend_from_slice(&data);
        } else {
            self.join_small();
            self.payload.push(data);
        }
    }

    /// Keeps the CRCs of the frame's pieces if they are pieces of the whole, too, and those before them are known.
    fn note_crcs(&mut self, frame: &Frame) {
        let length = self.len();
        self.piece_crcs.truncate(length / PIECE_BYTES);
        if length == self.piece_crcs.len() * PIECE_BYTES {
            self.piece_crcs.extend_from_slice(&frame.piece_crcs);
        }
    }

    fn join_small(&mut self) {
        if !self.small.is_empty() {
            self.payload.push(self.small.split().freeze());
        }
    }

    fn whole(&mut self) -> Payload {
        self.join_small();
        self.payload.set_piece_crcs(self.piece_crcs.clone());
        self.payload.clone()
    }

    fn take(&mut self, length: usize) -> Payload {
        self.join_small();
        let mut payload = std::mem::take(&mut self.payload);
        payload.set_piece_crcs(std::mem::take(&mut self.piece_crcs));
        payload.truncated(length)
    }
}

#[cfg(test)]
mod tests;
