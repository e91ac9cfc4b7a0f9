//! An initiator as small as it can be: it logs in by CHAP or without, asks for targets, LUNs and readiness (RFC 7143
//! §11.12, §12.1), and sends the commands it is told to. It keeps no state but its sequence numbers.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use md5::{Digest, Md5};

/// Time that one answer may take.
const LIMIT: Duration = Duration::from_secs(10);
const HEADER_BYTES: usize = 48;
const SCSI_COMMAND: u8 = 0x01;
const LOGIN_REQUEST: u8 = 0x43;
const TEXT_REQUEST: u8 = 0x04;
/// Immediate: it has no turn among commands.
const NOP_OUT: u8 = 0x40;
const NOP_IN: u8 = 0x20;
const SCSI_RESPONSE: u8 = 0x21;
/// Immediate: it has no turn among commands.
const TASK_MANAGEMENT: u8 = 0x42;
const TASK_MANAGEMENT_RESPONSE: u8 = 0x22;
const LUN_RESET: u8 = 5;
const LOGIN_RESPONSE: u8 = 0x23;
const TEXT_RESPONSE: u8 = 0x24;
const DATA_IN: u8 = 0x25;
/// Final, or transit.
const FINAL: u8 = 0x80;
const READ: u8 = 0x40;
const WRITE: u8 = 0x20;
/// In the security stage, to the full feature phase (3).
const SECURITY_TO_FULL: u8 = 0x03;
/// From operational negotiation (1) to the full feature phase (3).
const OPERATIONAL_TO_FULL: u8 = 0x07;
/// What we ask the target to answer, if it is to prove itself.
const OUR_IDENTIFIER: u8 = 9;
/// No task, or no answer is wanted.
const NO_TAG: [u8; 4] = [0xff; 4];
const OUR_CHALLENGE: [u8; 16] = *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff";

/// Sense key, code and qualifier; without sense data, the code is the status.
pub(crate) type Sense = (u8, u8, u8);

/// A CHAP user and secret.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account(pub(crate) &'static str, pub(crate) &'static str);

/// Who logs in, where and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Login<'a> {
    /// `127.0.0.1:PORT`.
    pub(crate) portal: &'a str,
    /// The initiator's name.
    pub(crate) initiator: &'a str,
    /// The target's name; a discovery session has none.
    pub(crate) target: Option<&'a str>,
    /// CHAP; without it, CHAP is not offered.
    pub(crate) account: Option<Account>,
    /// The secret by which the target is to prove itself.
    pub(crate) mutual: Option<&'a str>,
}

/// A session in its full feature phase; it lasts until it is dropped.
pub(crate) struct Initiator {
    stream: TcpStream,
    /// Time that one answer may take.
    limit: Duration,
    deadline: Instant,
    isid: u16,
    cmd_sn: u32,
    exp_stat_sn: u32,
}

/// One ISID twice would be one session, of which the later login takes the earlier's place.
static NEXT_ISID: AtomicU16 = AtomicU16::new(0);

/// Why there is no session.
enum NotLoggedIn {
    /// A response says so.
    Refused(u16),
    /// There was none.
    Lost(io::Error),
}

impl From<io::Error> for NotLoggedIn {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl Login<'_> {
    /// Logs in. The error is the status of the response that refuses it, such as `0x0201`.
    ///
    /// # Panics
    /// If the portal does not answer as iSCSI does, or the target's proof is wrong.
    pub(crate) fn log_in(&self) -> Result<Initiator, u16> {
        self.try_log_in(LIMIT).expect("the portal lets initiators log in")
    }

    /// The same, at a portal that may not be there, or not answer within the limit: nor may anything later.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) fn try_log_in(&self, limit: Duration) -> io::Result<Result<Initiator, u16>> {
        let address = self.portal.parse().map_err(io::Error::other)?;
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(limit))?;
        let (isid, deadline) = (NEXT_ISID.fetch_add(1, Ordering::Relaxed), Instant::now() + limit);
        let mut initiator = Initiator { stream, limit, deadline, isid, cmd_sn: 1, exp_stat_sn: 0 };
        match self.negotiate(&mut initiator) {
            Ok(()) => Ok(Ok(initiator)),
            Err(NotLoggedIn::Refused(status)) => Ok(Err(status)),
            Err(NotLoggedIn::Lost(error)) => Err(error),
        }
    }

    fn negotiate(&self, initiator: &mut Initiator) -> Result<(), NotLoggedIn> {
        let session = match self.target {
            Some(target) => format!("SessionType=Normal\0TargetName={target}\0"),
            None => "SessionType=Discovery\0".to_owned(),
        };
        let names = format!("InitiatorName={}\0{session}MaxRecvDataSegmentLength=262144\0", self.initiator);
        let Some(account) = self.account else {
            initiator.login_request(FINAL | OPERATIONAL_TO_FULL, &format!("{names}AuthMethod=None\0"))?;
            return Ok(());
        };
        initiator.login_request(0, &format!("{names}AuthMethod=CHAP\0"))?;
        let challenge = initiator.login_request(0, "CHAP_A=5\0")?;
        let answer = self.answer(account, &challenge);
        let proof = initiator.login_request(FINAL | SECURITY_TO_FULL, &answer)?;
        if let Some(secret) = self.mutual {
            let expected = response(OUR_IDENTIFIER, secret, &OUR_CHALLENGE);
            assert_eq!(value(&proof, "CHAP_R").to_lowercase(), expected, "the target does not prove itself");
        }
        Ok(())
    }

    fn answer(&self, Account(user, secret): Account, challenge: &str) -> String {
        let identifier = value(challenge, "CHAP_I").parse().expect("a small number");
        let proof = response(identifier, secret, &bytes(value(challenge, "CHAP_C")));
        let ours = self.mutual.map_or_else(String::new, |_| {
            format!("CHAP_I={OUR_IDENTIFIER}\0CHAP_C={}\0", hexadecimal(&OUR_CHALLENGE))
        });
        format!("CHAP_N={user}\0CHAP_R={proof}\0{ours}")
    }
}

impl Initiator {
    /// How long each answer may take from now on.
    pub(crate) fn limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// The names of the targets that SendTargets=All tells.
    pub(crate) fn targets(&mut self) -> Vec<String> {
        let mut header = [0; HEADER_BYTES];
        header[0] = TEXT_REQUEST;
        header[1] = FINAL;
        header[20..24].fill(0xff);
        self.send(header, b"SendTargets=All\0");
        self.cmd_sn += 1;
        let (_, text) = self.receive(TEXT_RESPONSE);
        let text = String::from_utf8(text).expect("the answer is text");
        text.split('\0').filter_map(|pair| pair.strip_prefix("TargetName=")).map(str::to_owned).collect()
    }

    /// The LUNs that REPORT LUNS tells (SPC-4 §6.33).
    pub(crate) fn luns(&mut self) -> Vec<u8> {
        self.command(0, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0], 4096);
        self.receive(DATA_IN).1[8..].chunks(8).map(|lun| lun[1]).collect()
    }

    /// Peripheral qualifier and device type that INQUIRY tells (SPC-4 §6.4).
    pub(crate) fn peripheral(&mut self, lun: u8) -> u8 {
        self.command(lun, &[0x12, 0, 0, 0, 36, 0], 36);
        self.receive(DATA_IN).1[0]
    }

    /// Whether the first block can be read, or else sense key, code and qualifier. A unit attention is taken and passed over.
    pub(crate) fn read(&mut self, lun: u8) -> Result<(), Sense> {
        loop {
            self.command(lun, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], 512);
            let (header, data) = self.next();
            match header[0] & 0x3f {
                DATA_IN => return Ok(()),
                SCSI_RESPONSE if data[4] & 0xf == 6 => {}
                SCSI_RESPONSE => return Err((data[4] & 0xf, data[14], data[15])),
                other => panic!("{other:#x} is no answer to a READ"),
            }
        }
    }

    /// What a command that reads is answered with, or else sense key, code and qualifier.
    pub(crate) fn ask(&mut self, lun: u8, cdb: &[u8], length_bytes: u32) -> Result<Vec<u8>, Sense> {
        self.try_ask(lun, cdb, length_bytes).expect("the portal answers")
    }

    /// The same, at a portal that may be gone.
    ///
    /// # Errors
    /// The connection is lost, or the answer is late: the session is of no use any more.
    pub(crate) fn try_ask(
        &mut self,
        lun: u8,
        cdb: &[u8],
        length_bytes: u32,
    ) -> io::Result<Result<Vec<u8>, Sense>> {
        const STATUS: u8 = 0x01;
        self.try_send_command(lun, cdb, READ, length_bytes, &[])?;
        let mut all = Vec::new();
        loop {
            let (header, data) = self.try_next()?;
            match header[0] & 0x3f {
                DATA_IN => {
                    all.extend_from_slice(&data);
                    if header[1] & STATUS != 0 {
                        return Ok(Ok(all));
                    }
                }
                SCSI_RESPONSE => return Ok(outcome(&header, &data).map(|()| all)),
                other => return Err(unexpected(other)),
            }
        }
    }

    /// Whether a command that writes, with at most 64 KiB, ends well, or else sense key, code and qualifier.
    pub(crate) fn tell(&mut self, lun: u8, cdb: &[u8], data: &[u8]) -> Result<(), Sense> {
        self.try_tell(lun, cdb, data).expect("the portal answers")
    }

    /// The same, at a portal that may be gone.
    ///
    /// # Errors
    /// The connection is lost, or the answer is late: the session is of no use any more.
    pub(crate) fn try_tell(&mut self, lun: u8, cdb: &[u8], data: &[u8]) -> io::Result<Result<(), Sense>> {
        self.try_send_command(lun, cdb, WRITE, data.len() as u32, data)?;
        let (header, data) = self.try_next()?;
        match header[0] & 0x3f {
            SCSI_RESPONSE => Ok(outcome(&header, &data)),
            other => Err(unexpected(other)),
        }
    }

    /// What a LUN RESET is answered with; 0: it is done (RFC 7143 §11.6.1).
    pub(crate) fn reset(&mut self, lun: u8) -> u8 {
        let mut header = [0; HEADER_BYTES];
        header[0] = TASK_MANAGEMENT;
        header[1] = FINAL | LUN_RESET;
        header[9] = lun;
        header[16..20].copy_from_slice(&self.cmd_sn.to_be_bytes());
        header[20..24].copy_from_slice(&NO_TAG);
        self.send(header, &[]);
        self.receive(TASK_MANAGEMENT_RESPONSE).0[2]
    }

    fn command(&mut self, lun: u8, cdb: &[u8], length_bytes: u32) {
        self.try_send_command(lun, cdb, READ, length_bytes, &[]).expect("the portal takes a command");
    }

    fn try_send_command(
        &mut self,
        lun: u8,
        cdb: &[u8],
        direction: u8,
        length_bytes: u32,
        data: &[u8],
    ) -> io::Result<()> {
        let mut header = [0; HEADER_BYTES];
        header[0] = SCSI_COMMAND;
        header[1] = FINAL | direction;
        header[9] = lun;
        header[16..20].copy_from_slice(&self.cmd_sn.to_be_bytes());
        header[20..24].copy_from_slice(&length_bytes.to_be_bytes());
        header[32..32 + cdb.len()].copy_from_slice(cdb);
        self.try_send(header, data)?;
        self.cmd_sn += 1;
        Ok(())
    }

    /// Sends one Login request, and takes the text of its response, or the status that refuses it.
    fn login_request(&mut self, flags: u8, text: &str) -> Result<String, NotLoggedIn> {
        let mut header = [0; HEADER_BYTES];
        header[0] = LOGIN_REQUEST;
        header[1] = flags;
        header[8] = 0x80; // a random ISID
        header[12..14].copy_from_slice(&self.isid.to_be_bytes());
        self.try_send(header, text.as_bytes())?;
        let (header, text) = self.try_next()?;
        if header[0] & 0x3f != LOGIN_RESPONSE {
            return Err(unexpected(header[0]).into());
        }
        match u16::from_be_bytes([header[36], header[37]]) {
            0 => Ok(String::from_utf8(text).expect("the answer is text")),
            status => Err(NotLoggedIn::Refused(status)),
        }
    }

    fn send(&mut self, header: [u8; HEADER_BYTES], data: &[u8]) {
        self.try_send(header, data).expect("the portal takes a request");
    }

    fn try_send(&mut self, mut header: [u8; HEADER_BYTES], data: &[u8]) -> io::Result<()> {
        let length = u32::try_from(data.len()).expect("little data");
        header[5..8].copy_from_slice(&length.to_be_bytes()[1..]);
        header[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        header[28..32].copy_from_slice(&self.exp_stat_sn.to_be_bytes());
        let mut request = header.to_vec();
        request.extend_from_slice(data);
        request.resize(request.len().next_multiple_of(4), 0);
        self.deadline = Instant::now() + self.limit;
        self.stream.write_all(&request)
    }

    fn receive(&mut self, opcode: u8) -> ([u8; HEADER_BYTES], Vec<u8>) {
        let (header, data) = self.next();
        assert_eq!(header[0] & 0x3f, opcode, "{header:x?} {data:x?}");
        (header, data)
    }

    fn next(&mut self) -> ([u8; HEADER_BYTES], Vec<u8>) {
        self.try_next().expect("the portal answers")
    }

    /// The next PDU that is no ping; those are answered.
    fn try_next(&mut self) -> io::Result<([u8; HEADER_BYTES], Vec<u8>)> {
        let deadline = self.deadline;
        loop {
            let mut header = [0; HEADER_BYTES];
            self.read_until(deadline, &mut header)?;
            let length = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
            let mut data = vec![0; length.next_multiple_of(4)];
            self.read_until(deadline, &mut data)?;
            data.truncate(length);
            if header[0] & 0x3f != NOP_IN {
                let stat_sn = u32::from_be_bytes([header[24], header[25], header[26], header[27]]);
                self.exp_stat_sn = stat_sn.wrapping_add(1);
                return Ok((header, data));
            }
            if header[20..24] != NO_TAG {
                self.answer_ping(&header)?;
            }
        }
    }

    /// NOP-Out with the tag of the NOP-In (RFC 7143 §11.18).
    fn answer_ping(&mut self, ping: &[u8; HEADER_BYTES]) -> io::Result<()> {
        let mut header = [0; HEADER_BYTES];
        header[0] = NOP_OUT;
        header[1] = FINAL;
        header[8..16].copy_from_slice(&ping[8..16]);
        header[16..20].copy_from_slice(&NO_TAG);
        header[20..24].copy_from_slice(&ping[20..24]);
        self.try_send(header, &[])
    }

    fn read_until(&mut self, deadline: Instant, mut into: &mut [u8]) -> io::Result<()> {
        while !into.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(into) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => into = &mut into[length..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn unexpected(opcode: u8) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("{:#x} is no answer to that", opcode & 0x3f))
}

/// What a SCSI Response says.
fn outcome(header: &[u8; HEADER_BYTES], data: &[u8]) -> Result<(), Sense> {
    match (header[3], data) {
        (0, _) => Ok(()),
        (status, data) if data.len() < 16 => Err((0, status, 0)),
        _ => Err((data[4] & 0xf, data[14], data[15])),
    }
}

fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let pair = text.split('\0').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    pair.unwrap_or_else(|| panic!("there is no {key} in {text:?}"))
}

/// CHAP_R with MD5 (RFC 1994 §4.1).
fn response(identifier: u8, secret: &str, challenge: &[u8]) -> String {
    let digest = Md5::new().chain_update([identifier]).chain_update(secret).chain_update(challenge);
    hexadecimal(&digest.finalize())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.strip_prefix("0x").expect("binary values come in hexadecimal");
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("two digits a byte");
    (0..digits.len()).step_by(2).map(byte).collect()
}
