//! Logins key by key: CHAP, discovery, and what is refused.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};

use huntaway_gateway::{Authentication, Chap, ChapAccount, Secret};
use md5::{Digest, Md5};
use socket2::{Domain, Socket, Type};

use super::{Initiator, LOGIN_RESPONSE, PATIENCE, Pdu};

/// Identifier and challenge that an initiator sends for mutual CHAP.
const OUR_CHALLENGE: &str = "CHAP_I=9\0CHAP_C=0x00112233445566778899aabbccddeeff\0";

/// A CHAP user and secret.
#[derive(Debug, Clone, Copy)]
pub struct Account(pub &'static str, pub &'static str);

impl Account {
    fn chap(self) -> ChapAccount {
        ChapAccount { user: self.0.into(), secret: Secret::new(self.1.as_bytes()) }
    }

    /// What a target asks for that this account may use.
    pub fn required(self) -> Authentication {
        Authentication::Chap(Chap::new(vec![self.chap()]))
    }

    /// The answer to the challenge in this response.
    fn proof(self, response: &Pdu) -> String {
        let Self(user, secret) = self;
        let identifier: u8 = value(response, "CHAP_I").unwrap().parse().unwrap();
        let challenge = bytes(&value(response, "CHAP_C").unwrap());
        let proof =
            Md5::new().chain_update([identifier]).chain_update(secret).chain_update(challenge).finalize();
        let proof: String = proof.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("CHAP_N={user}\0CHAP_R=0x{proof}\0")
    }

    /// The same, of a target that proves itself by another account.
    pub fn required_by(self, own: Self) -> Authentication {
        Authentication::Chap(Chap { mutual: Some(own.chap()), ..Chap::new(vec![self.chap()]) })
    }
}

/// Logs in with these keys (`"A=1 B=2"`); if there is an account, by CHAP, asking for the target's proof if `mutual`.
/// The last response's status is the error.
pub fn try_login(
    portal: SocketAddr,
    keys: &str,
    account: Option<Account>,
    mutual: bool,
) -> Result<Initiator, u16> {
    try_login_while(portal, keys, account, mutual, || ())
}

/// The same, with something that happens before the last request.
pub fn try_login_while(
    portal: SocketAddr,
    keys: &str,
    account: Option<Account>,
    mutual: bool,
    happens: impl FnOnce(),
) -> Result<Initiator, u16> {
    let stream = TcpStream::connect(portal).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut initiator = Initiator { stream, cmd_sn: 1, exp_stat_sn: 0, data_digest: false };
    let keys: String = keys.split(' ').map(|key| format!("{key}\0")).collect();
    let Some(account) = account else {
        let response = initiator.exchange(1 << 2, &keys);
        if status(&response) != 0 {
            return Err(status(&response));
        }
        happens();
        let response = initiator.exchange(0x80 | 1 << 2 | 3, "");
        return initiator.finished(&response);
    };
    let response = initiator.exchange(0, &format!("{keys}AuthMethod=CHAP\0"));
    if status(&response) != 0 {
        return Err(status(&response));
    }
    let response = initiator.exchange(0, "CHAP_A=5\0");
    if status(&response) != 0 {
        return Err(status(&response));
    }
    let proof = account.proof(&response);
    happens();
    let ours = if mutual { OUR_CHALLENGE } else { "" };
    let response = initiator.exchange(0x80 | 3, &format!("{proof}{ours}"));
    initiator.finished(&response)
}

/// A connection that logs in step by step, as far as it is told.
pub struct Untrusted {
    initiator: Initiator,
    challenge: Option<Pdu>,
}

impl Untrusted {
    /// Connects, from this address of the loopback network if there is one.
    pub fn connect(portal: SocketAddr, source: Option<IpAddr>) -> Self {
        let socket = Socket::new(Domain::for_address(portal), Type::STREAM, None).unwrap();
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
        }
        socket.connect(&portal.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            initiator: Initiator { stream, cmd_sn: 1, exp_stat_sn: 0, data_digest: false },
            challenge: None,
        }
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.initiator.stream.write_all(bytes).unwrap();
    }

    /// Goes as far as to the target's challenge.
    pub fn challenge(&mut self, keys: &str) {
        let keys: String = keys.split(' ').map(|key| format!("{key}\0")).collect();
        let response = self.initiator.exchange(0, &format!("{keys}AuthMethod=CHAP\0"));
        assert_eq!(status(&response), 0);
        self.challenge = Some(self.initiator.exchange(0, "CHAP_A=5\0"));
    }

    /// Answers the challenge, and does not wait for what comes of it.
    pub fn guess(&mut self, account: Account) {
        let proof = account.proof(self.challenge.as_ref().unwrap());
        self.initiator.send_login(0x80 | 3, proof.as_bytes());
    }

    /// Answers the challenge; the status that comes of it.
    pub fn prove(&mut self, account: Account) -> u16 {
        self.guess(account);
        status(&self.initiator.expect(LOGIN_RESPONSE))
    }

    /// Sends a Login request with these flags; the status of the answer, if one comes.
    pub fn exchange_status(&mut self, flags: u8, text: &[u8]) -> Option<u16> {
        let mut header = [0; 48];
        header[..2].copy_from_slice(&[0x43, flags]);
        header[5..8].copy_from_slice(&(text.len() as u32).to_be_bytes()[1..]);
        self.initiator.stream.write_all(&[&header, text].concat()).ok()?;
        self.initiator.try_receive().ok().map(|response| status(&response))
    }

    pub fn expect_end(&mut self) {
        self.initiator.expect_end();
    }
}

/// The values of SendTargets=All in a discovery session of this initiator.
pub fn discover(portal: SocketAddr, name: &str, account: Option<Account>) -> Result<Vec<String>, u16> {
    let keys = format!("InitiatorName={name} SessionType=Discovery");
    Ok(try_login(portal, &keys, account, false)?.send_targets())
}

impl Initiator {
    /// Sends a Login request with these flags, and takes the answer.
    fn exchange(&mut self, flags: u8, text: &str) -> Pdu {
        self.send_login(flags, text.as_bytes());
        self.expect(LOGIN_RESPONSE)
    }

    fn send_login(&mut self, flags: u8, text: &[u8]) {
        let mut header = [0; 48];
        header[0] = 0x43;
        header[1] = flags;
        header[8] = 0x80;
        self.send(header, text);
    }

    fn finished(self, response: &Pdu) -> Result<Self, u16> {
        match status(response) {
            0 => Ok(self),
            status => Err(status),
        }
    }

    /// What SendTargets=All tells.
    pub fn send_targets(&mut self) -> Vec<String> {
        let mut header = [0; 48];
        header[0] = 0x04;
        header[1] = 0x80;
        header[16..20].copy_from_slice(&77_u32.to_be_bytes());
        header[20..24].fill(0xff);
        self.send(header, b"SendTargets=All\0");
        self.cmd_sn += 1;
        pairs(&self.expect(0x24))
    }
}

fn status(response: &Pdu) -> u16 {
    u16::from_be_bytes([response.header[36], response.header[37]])
}

fn pairs(pdu: &Pdu) -> Vec<String> {
    let text = String::from_utf8(pdu.data.clone()).unwrap();
    text.split_terminator('\0').map(str::to_owned).collect()
}

fn value(response: &Pdu, key: &str) -> Option<String> {
    pairs(response).iter().find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.strip_prefix("0x").unwrap();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}
