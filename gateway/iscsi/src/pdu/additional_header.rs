//! Additional header segments of a SCSI Command: the rest of a long CDB and the read length of a
//! bidirectional command (RFC 7143 §11.2.2).

/// Type 1: bytes of the CDB beyond the 16 in the basic header.
const EXTENDED_CDB: u8 = 1;
/// Type 2: expected length of the read half of a bidirectional command.
const BIDIRECTIONAL_READ_LENGTH: u8 = 2;
/// Bytes of CDB in the basic header.
const BASIC_CDB_BYTES: usize = 16;
/// The longest CDB that exists (SPC-4 §4.2.3.2).
const LONGEST_CDB_BYTES: usize = 260;

/// What the additional header segments of one command say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdditionalHeaders<'a> {
    /// CDB bytes 16 and on.
    pub extended_cdb: &'a [u8],
    /// Bytes the initiator expects from the read half of a bidirectional command.
    pub bidirectional_read_length: Option<u32>,
}

/// The additional header segments contradict their lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed additional header segment of type {segment_type}")]
pub struct MalformedAdditionalHeader {
    /// AHSType of the segment at fault.
    pub segment_type: u8,
}

impl<'a> AdditionalHeaders<'a> {
    /// Reads all segments; unknown types are skipped.
    ///
    /// # Errors
    /// When a segment runs past the end or has a length its type cannot have: reject the PDU.
    pub fn parse(mut bytes: &'a [u8]) -> Result<Self, MalformedAdditionalHeader> {
        let mut found = Self::default();
        while let [high, low, segment_type, rest @ ..] = bytes {
            let malformed = MalformedAdditionalHeader { segment_type: *segment_type };
            // AHSLength counts the AHS-specific byte that follows the type, and not the padding.
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let segment = rest.get(..length).ok_or(malformed)?;
            match *segment_type {
                EXTENDED_CDB => {
                    found.extended_cdb = segment.get(1..).ok_or(malformed)?;
                    if found.extended_cdb.len() > LONGEST_CDB_BYTES - BASIC_CDB_BYTES {
                        return Err(malformed);
                    }
                }
                BIDIRECTIONAL_READ_LENGTH => {
                    let length = segment.get(1..).and_then(|bytes| bytes.try_into().ok()).ok_or(malformed)?;
                    found.bidirectional_read_length = Some(u32::from_be_bytes(length));
                }
                _ => {}
            }
            bytes = bytes.get((3 + length).next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_cdb_and_read_length_are_found() {
        let bytes = [0, 5, 1, 0, 0xaa, 0xbb, 0xcc, 0xdd, 0, 5, 2, 0, 0, 1, 0, 0];
        let found = AdditionalHeaders::parse(&bytes).unwrap();
        assert_eq!(found.extended_cdb, [0xaa, 0xbb, 0xcc, 0xdd]);
        assert_eq!(found.bidirectional_read_length, Some(65_536));
    }

    #[test]
    fn segments_past_the_end_are_malformed() {
        for bytes in
            [&[0, 9, 1, 0, 1, 2, 3, 4][..], &[0xff, 0xff, 7, 0], &[0, 2, 2, 0, 1, 0, 0, 0], &[0, 0, 1, 0]]
        {
            assert!(AdditionalHeaders::parse(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn unknown_types_are_skipped() {
        let bytes = [0, 1, 9, 0, 0, 3, 1, 0, 7, 8, 0, 0];
        assert_eq!(AdditionalHeaders::parse(&bytes).unwrap().extended_cdb, [7, 8]);
    }
}
