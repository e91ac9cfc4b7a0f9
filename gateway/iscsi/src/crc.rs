//! CRC32C of bytes whose parts are summed already: the sum of the whole from those of its pieces.
//!
//! CRC32C(A‖B) is CRC32C(A), moved past as many zero bytes as B has, XOR CRC32C(B). Moving is linear, so for pieces of
//! one length it is a look into four tables, one for each byte of the CRC.

use smallvec::SmallVec;

/// Length in bytes of the pieces that sums are kept of.
pub const PIECE_BYTES: usize = 4096;

/// CRC32C of each piece of some bytes, cut at multiples of [`PIECE_BYTES`] from their beginning; the last piece may be
/// shorter.
pub type PieceCrcs = SmallVec<[u32; 4]>;

/// The polynomial of CRC32C, lowest bit first (RFC 7143 §13.1).
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What moving past something makes of each bit of a CRC.
type Bits = [u32; 32];

/// What moving past a whole piece makes of each value of each byte of a CRC.
static PAST_A_PIECE: [[u32; 256]; 4] = past_a_piece();

/// CRC32C of bytes that are added one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunningCrc(u32);

impl RunningCrc {
    /// The CRC32C of all that was added.
    pub fn value(self) -> u32 {
        self.0
    }

    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }

    /// Adds bytes whose CRC32C is known to be `crc`: a piece of [`PIECE_BYTES`], or what is added first, is not
    /// looked at.
    pub fn add_known(&mut self, bytes: &[u8], crc: u32) {
        match bytes.len() {
            PIECE_BYTES => self.0 = move_past_a_piece(self.0) ^ crc,
            // However far it is moved, 0 stays 0.
            _ if self.0 == 0 => self.0 = crc,
            _ => self.add(bytes),
        }
    }
}

fn move_past_a_piece(crc: u32) -> u32 {
    let bytes = crc.to_le_bytes();
    PAST_A_PIECE.iter().zip(bytes).fold(0, |moved, (table, byte)| moved ^ table[usize::from(byte)])
}

const fn past_a_piece() -> [[u32; 256]; 4] {
    // Past one bit, and then twice as far until it is a piece.
    let mut bits: Bits = [POLYNOMIAL; 32];
    let mut bit = 1;
    while bit < 32 {
        bits[bit] = 1 << (bit - 1);
        bit += 1;
    }
    let mut distance_bits = 1;
    while distance_bits < PIECE_BYTES * 8 {
        let once = bits;
        bit = 0;
        while bit < 32 {
            bits[bit] = moved(&once, once[bit]);
            bit += 1;
        }
        distance_bits *= 2;
    }
    let mut tables = [[0; 256]; 4];
    let mut at = 0;
    while at < 4 * 256 {
        tables[at / 256][at % 256] = moved(&bits, ((at % 256) as u32) << (at / 256 * 8));
        at += 1;
    }
    tables
}

const fn moved(bits: &Bits, crc: u32) -> u32 {
    let mut moved = 0;
    let mut bit = 0;
    while bit < 32 {
        if crc >> bit & 1 == 1 {
            moved ^= bits[bit];
        }
        bit += 1;
    }
    moved
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    fn bytes(length: usize) -> Vec<u8> {
        (0..length as u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
    }

    /// The sum of all from those of parts that begin at `cuts`.
    fn combined(bytes: &[u8], mut cuts: Vec<usize>, is_known: impl Fn(usize) -> bool) -> u32 {
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut sum = RunningCrc::default();
        for (number, ends) in cuts.windows(2).enumerate() {
            let part = &bytes[ends[0]..ends[1]];
            match is_known(number) {
                true => sum.add_known(part, crc32c::crc32c(part)),
                false => sum.add(part),
            }
        }
        sum.value()
    }

    #[test]
    fn moving_past_a_piece_is_what_summing_zeroes_does() {
        let crcs = (0..4096_u32).map(|number| number.wrapping_mul(0x9e37_79b9));
        for crc in crcs.chain((0..32).map(|bit| 1 << bit)) {
            assert_eq!(move_past_a_piece(crc), crc32c::crc32c_combine(crc, 0, PIECE_BYTES), "{crc:#x}");
        }
    }

    #[test]
    fn pieces_and_rest_of_any_length_add_up() {
        let bytes = bytes(9000);
        for length in 0..=bytes.len() {
            let whole = crc32c::crc32c(&bytes[..length]);
            let cuts = (0..length).step_by(PIECE_BYTES).collect();
            assert_eq!(combined(&bytes[..length], cuts, |_| true), whole, "{length} bytes");
            // A short part, then pieces.
            let cuts = (length % PIECE_BYTES..length).step_by(PIECE_BYTES).collect();
            assert_eq!(combined(&bytes[..length], cuts, |_| true), whole, "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn parts_add_up_wherever_they_are_cut(
            length in 0_usize..40_000,
            shift in 0_usize..PIECE_BYTES,
            further: [u16; 3],
            known: u32,
            fill in any::<Option<u8>>(),
        ) {
            let bytes = fill.map_or_else(|| bytes(length), |byte| vec![byte; length]);
            let mut cuts: Vec<usize> = (shift.min(length)..length).step_by(PIECE_BYTES).collect();
            cuts.extend(further.map(|cut| usize::from(cut) % (length + 1)));
            let sum = combined(&bytes, cuts, |number| known >> (number % 32) & 1 == 1);
            prop_assert_eq!(sum, crc32c::crc32c(&bytes));
        }
    }
}
