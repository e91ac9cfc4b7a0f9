//! Pings of the target (RFC 7143 §11.19), which initiators answer or not.

use std::io::Read;

use super::{Initiator, NOP_IN};

impl Initiator {
    /// Waits for the next ping, past whatever else comes, and answers it if that is wanted.
    pub fn ping(&mut self, is_answered: bool) {
        loop {
            let mut header = [0; 48];
            self.stream.read_exact(&mut header).unwrap();
            let length = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
            self.stream.read_exact(&mut vec![0; length.next_multiple_of(4)]).unwrap();
            if header[0] & 0x3f != NOP_IN {
                continue;
            }
            let mut answer = [0; 48];
            answer[..2].copy_from_slice(&[0x40, 0x80]);
            answer[16..20].fill(0xff);
            answer[20..24].copy_from_slice(&header[20..24]);
            if is_answered {
                self.send(answer, &[]);
            }
            return;
        }
    }
}
