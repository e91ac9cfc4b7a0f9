//! Sessions byte by byte: what SendTargets answers, and an initiator that logs in and then does nothing (RFC 7143 §4.3,
//! §11.10 to §11.13).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Time that one answer may take.
const LIMIT: Duration = Duration::from_secs(10);
const HEADER_BYTES: usize = 48;
const LOGIN_REQUEST: u8 = 0x43;
const TEXT_REQUEST: u8 = 0x04;
/// Final, or transit.
const FINAL: u8 = 0x80;
/// From operational negotiation (1) to the full feature phase (3).
const OPERATIONAL_TO_FULL: u8 = 0x07;
const NO_TAG: [u8; 4] = [0xff; 4];

/// The `key=value` texts that a portal answers to `SendTargets=All`.
///
/// # Panics
/// If the portal does not let us in, or does not answer.
pub(crate) fn send_targets(portal: &str) -> Vec<String> {
    let mut stream = TcpStream::connect(portal).expect("the portal accepts connections");
    stream.set_read_timeout(Some(LIMIT)).expect("a socket takes a time limit");
    let stat_sn = log_in(&mut stream, "SessionType=Discovery\0");
    let (_, text) = exchange(&mut stream, TEXT_REQUEST, FINAL, stat_sn.wrapping_add(1), "SendTargets=All\0");
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// A session of an initiator that does not log out, whatever it is asked; it lasts until it is dropped.
pub(crate) struct LoggedIn {
    _stream: TcpStream,
}

impl LoggedIn {
    /// Logs in to a target.
    ///
    /// # Panics
    /// If the portal does not let us in.
    pub(crate) fn to(portal: &str, target: &str) -> Self {
        let mut stream = TcpStream::connect(portal).expect("the portal accepts connections");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket takes a time limit");
        log_in(&mut stream, &format!("SessionType=Normal\0TargetName={target}\0"));
        Self { _stream: stream }
    }
}

/// Logs in and returns the answer's StatSN.
fn log_in(stream: &mut TcpStream, session: &str) -> u32 {
    let login = format!("InitiatorName=iqn.2026-11.dev.huntaway:test\0{session}AuthMethod=None\0");
    let (header, _) = exchange(stream, LOGIN_REQUEST, FINAL | OPERATIONAL_TO_FULL, 0, &login);
    assert_eq!(header[36..38], [0, 0], "the login was refused");
    assert_eq!(header[1] & 0x83, 0x83, "the login does not end");
    u32::from_be_bytes([header[24], header[25], header[26], header[27]])
}

/// Sends one request with a text and returns the header and the text of the answer.
fn exchange(
    stream: &mut TcpStream,
    opcode: u8,
    flags: u8,
    exp_stat_sn: u32,
    text: &str,
) -> ([u8; HEADER_BYTES], String) {
    let mut request = vec![0; HEADER_BYTES];
    request[0] = opcode;
    request[1] = flags;
    request[7] = u8::try_from(text.len()).expect("a short text");
    if opcode == LOGIN_REQUEST {
        request[8] = 0x80; // a random ISID
    } else {
        request[20..24].copy_from_slice(&NO_TAG);
        request[28..32].copy_from_slice(&exp_stat_sn.to_be_bytes());
    }
    request.extend_from_slice(text.as_bytes());
    request.resize(request.len().next_multiple_of(4), 0);
    stream.write_all(&request).expect("the portal takes a request");

    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).expect("the portal answers");
    let length = usize::from(header[5]) << 16 | usize::from(header[6]) << 8 | usize::from(header[7]);
    let mut data = vec![0; length.next_multiple_of(4)];
    stream.read_exact(&mut data).expect("the answer is whole");
    data.truncate(length);
    (header, String::from_utf8(data).expect("the answer is text"))
}
