//! Sense data: why a command ended in CHECK CONDITION (SPC-4), in fixed and descriptor format.
//!
//! Every sense this device server or the code around it reports has a constructor here, so that key, code and
//! qualifier are written down once. Which conditions become unit attentions is decided in `unit_attention.rs`.

use crate::mode::THRESHOLD_DESCRIPTOR_BYTE;
use smallvec::SmallVec;

/// Bytes of fixed format sense data (SPC-4).
pub const FIXED_SENSE_LENGTH: usize = 18;

/// The most bytes [`Sense::encode`] makes: descriptor format with information and sense key specific data.
pub const MAXIMUM_SENSE_LENGTH: usize = 28;

/// Encoded sense data, without the two length bytes that iSCSI puts before it.
pub type SenseBytes = SmallVec<[u8; 32]>;

/// The sense key: the kind of trouble (SPC-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SenseKey {
    /// Nothing to report.
    NoSense = 0x0,
    /// The logical unit cannot be used now.
    NotReady = 0x2,
    /// The medium could not be read or written.
    MediumError = 0x3,
    /// Something is broken that is not the medium.
    HardwareError = 0x4,
    /// The command asked for what is not supported or not possible.
    IllegalRequest = 0x5,
    /// Something happened that the initiator should know before it goes on.
    UnitAttention = 0x6,
    /// Writing is not allowed.
    DataProtect = 0x7,
    /// The command was given up; it may be sent again.
    AbortedCommand = 0xb,
    /// Data that should have been equal differ.
    Miscompare = 0xe,
}

impl SenseKey {
    /// Every one of them.
    pub const ALL: [Self; 9] = [
        Self::NoSense,
        Self::NotReady,
        Self::MediumError,
        Self::HardwareError,
        Self::IllegalRequest,
        Self::UnitAttention,
        Self::DataProtect,
        Self::AbortedCommand,
        Self::Miscompare,
    ];

    /// Its name in lower case with underscores, for logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoSense => "no_sense",
            Self::NotReady => "not_ready",
            Self::MediumError => "medium_error",
            Self::HardwareError => "hardware_error",
            Self::IllegalRequest => "illegal_request",
            Self::UnitAttention => "unit_attention",
            Self::DataProtect => "data_protect",
            Self::AbortedCommand => "aborted_command",
            Self::Miscompare => "miscompare",
        }
    }
}

/// What a [`FieldPointer`] points into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldSource {
    /// The command descriptor block (C/D bit set).
    Cdb,
    /// The parameter list sent with the command.
    ParameterList,
}

/// The field in error (SPC-4): the most significant byte of the field and, where it is not whole
/// bytes, its most significant bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FieldPointer {
    /// Whether `byte` counts in the CDB or in the parameter list.
    pub source: FieldSource,
    /// Offset of the byte in error.
    pub byte: u16,
    /// Number of the bit in error, 7 the most significant; `None` points at the whole byte.
    pub bit: Option<u8>,
}

/// The two encodings of sense data; the control mode page's D_SENSE bit chooses (SPC-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SenseFormat {
    /// 18 bytes, response code 70h. Cannot carry an information field of more than 32 bits.
    Fixed,
    /// A list of descriptors, response code 72h.
    Descriptor,
}

/// Why a command failed, or what REQUEST SENSE has to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sense {
    /// The kind of trouble.
    pub key: SenseKey,
    /// ADDITIONAL SENSE CODE.
    pub asc: u8,
    /// ADDITIONAL SENSE CODE QUALIFIER.
    pub ascq: u8,
    /// The INFORMATION field: an LBA, or for a miscompare the byte offset of the first difference.
    pub information: Option<u64>,
    /// The field in error of an ILLEGAL REQUEST.
    pub field_pointer: Option<FieldPointer>,
    /// How far what makes it NOT READY is, in parts of 65536 (PROGRESS INDICATION).
    pub progress: Option<u16>,
}

impl Sense {
    const fn new(key: SenseKey, asc: u8, ascq: u8) -> Self {
        Self { key, asc, ascq, information: None, field_pointer: None, progress: None }
    }

    const fn with_information(mut self, information: u64) -> Self {
        self.information = Some(information);
        self
    }

    const fn with_field(mut self, source: FieldSource, byte: u16, bit: Option<u8>) -> Self {
        self.field_pointer = Some(FieldPointer { source, byte, bit });
        self
    }

    /// NO ADDITIONAL SENSE INFORMATION (00h/00h): what REQUEST SENSE answers when there is nothing to tell.
    pub const fn no_sense() -> Self {
        Self::new(SenseKey::NoSense, 0x00, 0x00)
    }

    /// LOGICAL UNIT IS IN PROCESS OF BECOMING READY (04h/01h).
    pub const fn becoming_ready() -> Self {
        Self::new(SenseKey::NotReady, 0x04, 0x01)
    }

    /// LOGICAL UNIT NOT ACCESSIBLE, TARGET PORT IN UNAVAILABLE STATE (04h/0Ch): another path may be better.
    pub const fn port_unavailable() -> Self {
        Self::new(SenseKey::NotReady, 0x04, 0x0c)
    }

    /// LOGICAL UNIT NOT READY, SANITIZE IN PROGRESS (04h/1Bh), so far in parts of 65536.
    pub const fn sanitize_in_progress(progress: u16) -> Self {
        let mut sense = Self::new(SenseKey::NotReady, 0x04, 0x1b);
        sense.progress = Some(progress);
        sense
    }

    /// SANITIZE COMMAND FAILED (31h/03h).
    pub const fn sanitize_failed() -> Self {
        Self::new(SenseKey::MediumError, 0x31, 0x03)
    }

    /// UNRECOVERED READ ERROR (11h/00h) at `lba`.
    pub const fn read_error(lba: u64) -> Self {
        Self::new(SenseKey::MediumError, 0x11, 0x00).with_information(lba)
    }

    /// INTERNAL TARGET FAILURE (44h/00h).
    pub const fn internal_failure() -> Self {
        Self::new(SenseKey::HardwareError, 0x44, 0x00)
    }

    /// INVALID COMMAND OPERATION CODE (20h/00h).
    pub const fn invalid_opcode() -> Self {
        Self::new(SenseKey::IllegalRequest, 0x20, 0x00).with_field(FieldSource::Cdb, 0, None)
    }

    /// INVALID FIELD IN CDB (24h/00h); `byte` and `bit` as in [`FieldPointer`].
    pub const fn invalid_field_in_cdb(byte: u16, bit: Option<u8>) -> Self {
        Self::new(SenseKey::IllegalRequest, 0x24, 0x00).with_field(FieldSource::Cdb, byte, bit)
    }

    /// INVALID FIELD IN PARAMETER LIST (26h/00h); `byte` and `bit` as in [`FieldPointer`].
    pub const fn invalid_field_in_parameter_list(byte: u16, bit: Option<u8>) -> Self {
        Self::new(SenseKey::IllegalRequest, 0x26, 0x00).with_field(FieldSource::ParameterList, byte, bit)
    }

    /// PARAMETER LIST LENGTH ERROR (1Ah/00h): the list ends inside something.
    pub const fn parameter_list_length_error() -> Self {
        Self::new(SenseKey::IllegalRequest, 0x1a, 0x00)
    }

    /// LOGICAL BLOCK ADDRESS OUT OF RANGE (21h/00h): `lba` is what the command gave, found at CDB byte `byte`.
    pub const fn lba_out_of_range_in_cdb(lba: u64, byte: u16) -> Self {
        Self::lba_out_of_range(lba).with_field(FieldSource::Cdb, byte, None)
    }

    /// LOGICAL BLOCK ADDRESS OUT OF RANGE (21h/00h): `lba` was found at byte `byte` of the parameter list.
    pub const fn lba_out_of_range_in_parameter_list(lba: u64, byte: u16) -> Self {
        Self::lba_out_of_range(lba).with_field(FieldSource::ParameterList, byte, None)
    }

    /// LOGICAL BLOCK ADDRESS OUT OF RANGE (21h/00h) where no field is known to be at fault (after a resize, say).
    pub const fn lba_out_of_range(lba: u64) -> Self {
        Self::new(SenseKey::IllegalRequest, 0x21, 0x00).with_information(lba)
    }

    /// INVALID FIELD IN COMMAND INFORMATION UNIT (0Eh/03h): the transport's expected data transfer length does
    /// not fit the command.
    pub const fn invalid_data_length() -> Self {
        Self::new(SenseKey::IllegalRequest, 0x0e, 0x03)
    }

    /// LOGICAL UNIT NOT SUPPORTED (25h/00h): nothing is at this LUN.
    pub const fn logical_unit_not_supported() -> Self {
        Self::new(SenseKey::IllegalRequest, 0x25, 0x00)
    }

    /// SAVING PARAMETERS NOT SUPPORTED (39h/00h).
    pub const fn saving_not_supported() -> Self {
        Self::new(SenseKey::IllegalRequest, 0x39, 0x00).with_field(FieldSource::Cdb, 2, Some(7))
    }

    /// WRITE PROTECTED (27h/00h): the LUN is read-only.
    pub const fn write_protected() -> Self {
        Self::new(SenseKey::DataProtect, 0x27, 0x00)
    }

    /// LOGICAL UNIT SOFTWARE WRITE PROTECTED (27h/02h): an initiator set SWP in the control mode page.
    pub const fn software_write_protected() -> Self {
        Self::new(SenseKey::DataProtect, 0x27, 0x02)
    }

    /// SPACE ALLOCATION FAILED WRITE PROTECT (27h/07h): no space is left for this write; `lba` is its first block.
    pub const fn space_allocation_failed(lba: u64) -> Self {
        Self::new(SenseKey::DataProtect, 0x27, 0x07).with_information(lba)
    }

    /// PROTOCOL SERVICE CRC ERROR (47h/05h): write data arrived with a wrong digest (RFC 7143 §7.8).
    pub const fn protocol_crc_error() -> Self {
        Self::new(SenseKey::AbortedCommand, 0x47, 0x05)
    }

    /// WRITE ERROR - UNEXPECTED UNSOLICITED DATA (0Ch/0Ch).
    pub const fn unexpected_unsolicited_data() -> Self {
        Self::new(SenseKey::AbortedCommand, 0x0c, 0x0c)
    }

    /// WRITE ERROR - NOT ENOUGH UNSOLICITED DATA (0Ch/0Dh): also for any other wrong amount.
    pub const fn incorrect_amount_of_data() -> Self {
        Self::new(SenseKey::AbortedCommand, 0x0c, 0x0d)
    }

    /// MISCOMPARE DURING VERIFY OPERATION (1Dh/00h); `offset_bytes` counts from the first byte of the write data
    /// to the first that differs.
    pub const fn miscompare(offset_bytes: u64) -> Self {
        Self::new(SenseKey::Miscompare, 0x1d, 0x00).with_information(offset_bytes)
    }

    /// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED (29h/00h): a new I_T nexus.
    pub const fn power_on() -> Self {
        Self::new(SenseKey::UnitAttention, 0x29, 0x00)
    }

    /// SCSI BUS RESET OCCURRED (29h/02h): the target was reset (TARGET WARM or COLD RESET).
    pub const fn target_reset() -> Self {
        Self::new(SenseKey::UnitAttention, 0x29, 0x02)
    }

    /// BUS DEVICE RESET FUNCTION OCCURRED (29h/03h): LOGICAL UNIT RESET.
    pub const fn logical_unit_reset() -> Self {
        Self::new(SenseKey::UnitAttention, 0x29, 0x03)
    }

    /// MODE PARAMETERS CHANGED (2Ah/01h): through another I_T nexus.
    pub const fn mode_parameters_changed() -> Self {
        Self::new(SenseKey::UnitAttention, 0x2a, 0x01)
    }

    /// CAPACITY DATA HAS CHANGED (2Ah/09h).
    pub const fn capacity_changed() -> Self {
        Self::new(SenseKey::UnitAttention, 0x2a, 0x09)
    }

    /// COMMANDS CLEARED BY ANOTHER INITIATOR (2Fh/00h): CLEAR TASK SET through another I_T nexus.
    pub const fn commands_cleared() -> Self {
        Self::new(SenseKey::UnitAttention, 0x2f, 0x00)
    }

    /// THIN PROVISIONING SOFT THRESHOLD REACHED (38h/07h); INFORMATION says where the logical block provisioning mode page
    /// has the threshold's descriptor (SBC-3).
    pub const fn soft_threshold_reached() -> Self {
        let sense = Self::new(SenseKey::UnitAttention, 0x38, 0x07);
        sense.with_information(THRESHOLD_DESCRIPTOR_BYTE as u64)
    }

    /// INQUIRY DATA HAS CHANGED (3Fh/03h).
    pub const fn inquiry_changed() -> Self {
        Self::new(SenseKey::UnitAttention, 0x3f, 0x03)
    }

    /// REPORTED LUNS DATA HAS CHANGED (3Fh/0Eh).
    pub const fn luns_changed() -> Self {
        Self::new(SenseKey::UnitAttention, 0x3f, 0x0e)
    }

    /// The sense data as it is sent, at most [`MAXIMUM_SENSE_LENGTH`] bytes.
    pub fn encode(&self, format: SenseFormat) -> SenseBytes {
        match format {
            SenseFormat::Fixed => self.encode_fixed(),
            SenseFormat::Descriptor => self.encode_descriptors(),
        }
    }

    fn encode_fixed(&self) -> SenseBytes {
        let mut bytes = [0u8; FIXED_SENSE_LENGTH];
        bytes[0] = 0x70;
        bytes[2] = self.key as u8;
        // A value that does not fit is left out with VALID clear (SPC-4).
        if let Some(information) = self.information.and_then(|value| u32::try_from(value).ok()) {
            bytes[0] |= 0x80;
            bytes[3..7].copy_from_slice(&information.to_be_bytes());
        }
        bytes[7] = (FIXED_SENSE_LENGTH - 8) as u8;
        bytes[12] = self.asc;
        bytes[13] = self.ascq;
        if let Some(specific) = self.key_specific() {
            bytes[15..18].copy_from_slice(&specific);
        }
        SenseBytes::from_slice(&bytes)
    }

    fn encode_descriptors(&self) -> SenseBytes {
        let mut bytes = SenseBytes::from_slice(&[0x72, self.key as u8, self.asc, self.ascq, 0, 0, 0, 0]);
        if let Some(information) = self.information {
            bytes.extend_from_slice(&[0x00, 0x0a, 0x80, 0x00]);
            bytes.extend_from_slice(&information.to_be_bytes());
        }
        if let Some(specific) = self.key_specific() {
            bytes.extend_from_slice(&[0x02, 0x06, 0x00, 0x00]);
            bytes.extend_from_slice(&specific);
            bytes.push(0x00);
        }
        bytes[7] = (bytes.len() - 8) as u8;
        bytes
    }
}

impl Sense {
    /// Sense key specific data with SKSV set.
    fn key_specific(&self) -> Option<[u8; 3]> {
        let progress = self.progress.map(u16::to_be_bytes).map(|[high, low]| [0x80, high, low]);
        self.field_pointer.as_ref().map(FieldPointer::encode).or(progress)
    }
}

impl FieldPointer {
    /// Sense key specific data with SKSV set.
    fn encode(&self) -> [u8; 3] {
        let source = match self.source {
            FieldSource::Cdb => 0x40,
            FieldSource::ParameterList => 0x00,
        };
        let bit = self.bit.map_or(0x00, |bit| 0x08 | (bit & 0x07));
        let [high, low] = self.byte.to_be_bytes();
        [0x80 | source | bit, high, low]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_format_golden_bytes() {
        let sense = Sense::invalid_field_in_cdb(1, Some(7)).encode(SenseFormat::Fixed);
        assert_eq!(sense.as_slice(), [0x70, 0, 5, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, 0x24, 0, 0, 0xcf, 0, 1]);
        let sense = Sense::miscompare(0x102).encode(SenseFormat::Fixed);
        assert_eq!(sense.as_slice(), [0xf0, 0, 0xe, 0, 0, 1, 2, 0x0a, 0, 0, 0, 0, 0x1d, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn descriptor_format_golden_bytes() {
        let sense = Sense::lba_out_of_range_in_cdb(0x0102_0304_0506_0708, 2).encode(SenseFormat::Descriptor);
        assert_eq!(
            sense.as_slice(),
            [
                0x72, 5, 0x21, 0, 0, 0, 0, 20, // header
                0x00, 0x0a, 0x80, 0, 1, 2, 3, 4, 5, 6, 7, 8, // information
                0x02, 0x06, 0, 0, 0xc0, 0, 2, 0, // sense key specific
            ]
        );
        assert_eq!(sense.len(), MAXIMUM_SENSE_LENGTH);
        assert_eq!(
            Sense::power_on().encode(SenseFormat::Descriptor).as_slice(),
            [0x72, 6, 0x29, 0, 0, 0, 0, 0]
        );
    }

    #[test]
    fn progress_is_in_the_sense_key_specific_bytes() {
        let sense = Sense::sanitize_in_progress(0x1234);
        let fixed = [0x70, 0, 2, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, 4, 0x1b, 0, 0x80, 0x12, 0x34];
        assert_eq!(sense.encode(SenseFormat::Fixed).as_slice(), fixed);
        let descriptor = [0x72, 2, 4, 0x1b, 0, 0, 0, 8, 2, 6, 0, 0, 0x80, 0x12, 0x34, 0];
        assert_eq!(sense.encode(SenseFormat::Descriptor).as_slice(), descriptor);
    }

    #[test]
    fn a_threshold_points_at_its_descriptor() {
        let sense = Sense::soft_threshold_reached().encode(SenseFormat::Fixed);
        assert_eq!(sense.as_slice(), [0xf0, 0, 6, 0, 0, 0, 16, 0x0a, 0, 0, 0, 0, 0x38, 7, 0, 0, 0, 0]);
    }

    #[test]
    fn information_beyond_32_bits_is_not_valid_in_fixed_format() {
        let sense = Sense::lba_out_of_range(1 << 32).encode(SenseFormat::Fixed);
        assert_eq!(sense[0], 0x70);
        assert_eq!(&sense[3..7], [0, 0, 0, 0]);
    }

    #[test]
    fn parameter_list_pointer_has_cd_clear() {
        let sense = Sense::invalid_field_in_parameter_list(0x0203, None).encode(SenseFormat::Fixed);
        assert_eq!(&sense[15..18], [0x80, 2, 3]);
    }
}
