//! SCSI Data-In (RFC 7143 §11.7).

use super::{BasicHeader, FINAL, Opcode, RESERVED_TAG, Residual, ScsiStatus, SequenceNumbers};

const STATUS: u8 = 0x01;

/// The header of a Data-In. We never ask for acknowledgement (A bit), which needs ErrorRecoveryLevel 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataInPdu {
    /// The last PDU of its sequence (at most MaxBurstLength bytes).
    pub is_final: bool,
    /// The collapsed status: set only in the last PDU of a command.
    pub status: Option<(ScsiStatus, Residual)>,
    /// The initiator's name for the task.
    pub initiator_task_tag: u32,
    /// Sequence numbers; StatSN is reserved unless `status` is present.
    pub sequence: SequenceNumbers,
    /// Number of this PDU among the Data-Ins of the command, from 0.
    pub data_sn: u32,
    /// Where in the task's data this payload belongs, in bytes.
    pub buffer_offset: u32,
}

impl DataInPdu {
    /// Reads the header.
    pub fn parse(header: &BasicHeader) -> Self {
        let status = (header.flags() & STATUS != 0).then(|| {
            (ScsiStatus::from_code(header.u8_at(3)), Residual::parse(header.flags(), header.u32_at(44)))
        });
        Self {
            is_final: header.flags() & FINAL != 0,
            status,
            initiator_task_tag: header.initiator_task_tag(),
            sequence: SequenceNumbers::parse(header),
            data_sn: header.u32_at(36),
            buffer_offset: header.u32_at(40),
        }
    }

    /// The header on the wire.
    pub fn build(&self) -> BasicHeader {
        let mut header = BasicHeader::new(Opcode::DataIn, self.flags());
        if let Some((status, residual)) = self.status {
            header.put(3, &[status.code()]);
            header.put_u32(44, residual.count());
        }
        header.put_u32(16, self.initiator_task_tag);
        header.put_u32(20, RESERVED_TAG);
        self.sequence.write(&mut header);
        header.put_u32(36, self.data_sn);
        header.put_u32(40, self.buffer_offset);
        header
    }

    fn flags(&self) -> u8 {
        let last = if self.is_final { FINAL } else { 0 };
        last | self.status.map_or(0, |(_, residual)| STATUS | residual.flags())
    }
}
