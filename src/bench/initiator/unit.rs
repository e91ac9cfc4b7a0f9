//! What a LUN is: who made it, and how large it is.

use std::fmt;

use serde::Serialize;

use super::session::Session;
use super::tasks::{Direction, Request};
use crate::bench::error::SessionError;
use crate::node::size;

const INQUIRY: u8 = 0x12;
const INQUIRY_BYTES: u8 = 36;
const SERVICE_ACTION_IN: u8 = 0x9e;
const READ_CAPACITY_16: u8 = 0x10;
const CAPACITY_BYTES: u8 = 32;
const SYNCHRONIZE_CACHE_16: u8 = 0x91;
/// A direct access block device that is there (SPC-4 §6.4.2).
const DISK: u8 = 0;
const NOTHING_THERE: u8 = 0x7f;

/// A logical unit that holds blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LogicalUnit {
    pub(crate) vendor: String,
    pub(crate) product: String,
    pub(crate) revision: String,
    pub(crate) lun_bytes: u64,
    pub(crate) block_bytes: u32,
}

impl LogicalUnit {
    /// Asks for it (INQUIRY, READ CAPACITY(16): SBC-3 §5.16). The session must have a tag 0 that is free.
    ///
    /// # Errors
    /// The connection is over, or there is no disk at this LUN.
    pub(crate) fn ask(session: &mut Session) -> Result<Self, SessionError> {
        session.buffer_mut(0).resize(usize::from(INQUIRY_BYTES), 0);
        let mut cdb = [0; 16];
        (cdb[0], cdb[4]) = (INQUIRY, INQUIRY_BYTES);
        let request = Request { cdb, direction: Direction::In, length_bytes: INQUIRY_BYTES.into() };
        let inquiry = session.run_alone("INQUIRY", &request)?;
        let text = |from: usize, to: usize| {
            String::from_utf8_lossy(inquiry.get(from..to).unwrap_or_default()).trim().to_owned()
        };
        let (vendor, product, revision) = (text(8, 16), text(16, 32), text(32, 36));
        match inquiry.first() {
            Some(&DISK) => {}
            Some(&NOTHING_THERE) | None => return Err(failure("INQUIRY", "there is no such LUN")),
            Some(_) => {
                return Err(failure("INQUIRY", &format!("the LUN ({vendor} {product}) is not a disk")));
            }
        }
        let (lun_bytes, block_bytes) = capacity(session)?;
        Ok(Self { vendor, product, revision, lun_bytes, block_bytes })
    }
}

impl fmt::Display for LogicalUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, {}", self.vendor, self.product, size(self.lun_bytes))
    }
}

/// Bytes of the unit and of its blocks.
fn capacity(session: &mut Session) -> Result<(u64, u32), SessionError> {
    session.buffer_mut(0).resize(usize::from(CAPACITY_BYTES), 0);
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[13]) = (SERVICE_ACTION_IN, READ_CAPACITY_16, CAPACITY_BYTES);
    let request = Request { cdb, direction: Direction::In, length_bytes: CAPACITY_BYTES.into() };
    let answer = session.run_alone("READ CAPACITY(16)", &request)?;
    let last = answer.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    let block_bytes =
        answer.get(8..).and_then(|rest| rest.first_chunk()).map(|bytes| u32::from_be_bytes(*bytes));
    let (Some(last), Some(block_bytes @ 1..)) = (last, block_bytes) else {
        return Err(failure("READ CAPACITY(16)", "too short an answer"));
    };
    let bytes = last.checked_add(1).and_then(|blocks| blocks.checked_mul(block_bytes.into()));
    let bytes = bytes.ok_or_else(|| failure("READ CAPACITY(16)", "a size that cannot be"))?;
    Ok((bytes, block_bytes))
}

fn failure(command: &'static str, outcome: &str) -> SessionError {
    SessionError::Command { command, outcome: outcome.to_owned() }
}

/// The flush of all that a unit has in its write cache (SBC-3 §5.23).
pub(crate) fn flush() -> Request {
    let mut cdb = [0; 16];
    cdb[0] = SYNCHRONIZE_CACHE_16;
    Request { cdb, direction: Direction::None, length_bytes: 0 }
}
