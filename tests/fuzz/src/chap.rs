//! CHAP: of all that can be sent as proof, exactly the response to the challenge by the account's secret is one, in
//! every way of writing it; and the target proves itself to those who ask, but not to its own challenge.

use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use iscsi_target::chap::{Chap, ChapAccount, ChapAlgorithm, Secret};
use iscsi_target::login::{Login, LoginReply, LoginRequest, LoginStep};
use iscsi_target::text::{TextLimits, decode, decode_number};
use iscsi_target::{
    Admission, Authentication, DigestPolicy, Directory, Limits, LoginStatus, RefusalReason, TargetListing,
};
use md5::Digest;

const USER: &str = "0xalice";
const SECRET: &[u8] = b"of the initiator";
const OWN_SECRET: &[u8] = b"of the target, its own";

/// What an initiator does.
#[derive(Debug, Arbitrary)]
struct Input<'a> {
    mutual: bool,
    algorithms: Vec<Algorithm<'a>>,
    user: Option<&'a str>,
    proof: Proof<'a>,
    challenge: Challenge<'a>,
    further: Option<&'a [u8]>,
}

#[derive(Debug, Arbitrary)]
enum Algorithm<'a> {
    Known(u8),
    Number(u8),
    Raw(&'a str),
}

#[derive(Debug, Arbitrary)]
enum Proof<'a> {
    Right(Writing),
    /// Right but for these bits.
    Flipped {
        byte: u8,
        bits: u8,
        writing: Writing,
    },
    /// As if the secret were this.
    OtherSecret(&'a [u8], Writing),
    /// The target's own answer to its challenge.
    OwnSecret(Writing),
    Bytes(&'a [u8], Writing),
    Raw(&'a str),
    Missing,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Writing {
    Hexadecimal,
    UpperCase,
    Base64,
    Base64WithoutPadding,
}

#[derive(Debug, Arbitrary)]
enum Challenge<'a> {
    None,
    Bytes {
        identifier: u8,
        bytes: &'a [u8],
    },
    /// The target's own.
    Reflected {
        identifier: u8,
    },
    Raw {
        identifier: &'a str,
        challenge: &'a str,
    },
    Half {
        identifier: u8,
    },
}

struct OneTarget(Chap);

impl Directory for OneTarget {
    fn targets(&self, _initiator: &str) -> Vec<TargetListing> {
        Vec::new()
    }

    fn admit(&self, _initiator: &str, _target: Option<&str>) -> Result<Admission, RefusalReason> {
        let authentication = Authentication::Chap(self.0.clone());
        Ok(Admission { authentication, digests: DigestPolicy::Allowed })
    }
}

fn entropy(bytes: &mut [u8]) {
    for (byte, value) in bytes.iter_mut().zip(0x10..) {
        *byte = value;
    }
}

fn response(algorithm: u8, identifier: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
    let text = [&[identifier], secret, challenge].concat();
    match algorithm {
        5 => md5::Md5::digest(text).to_vec(),
        6 => sha1::Sha1::digest(text).to_vec(),
        7 => sha2::Sha256::digest(text).to_vec(),
        _ => sha3::Sha3_256::digest(text).to_vec(),
    }
}

/// Takes one login with CHAP.
pub fn run(bytes: &[u8]) {
    let mut unstructured = Unstructured::new(bytes);
    let Ok(input) = Input::arbitrary(&mut unstructured) else { return };
    let account = |user: &str, secret| ChapAccount { user: user.into(), secret: Secret::new(secret) };
    let mutual = input.mutual.then(|| account("target", OWN_SECRET));
    let chap =
        Chap { mutual, ..Chap::new(vec![account("other", b"another's secret"), account(USER, SECRET)]) };
    let mut login = Login::new(1, Arc::new(OneTarget(chap)), entropy, &Limits::default());
    let first = "InitiatorName=iqn.2026-11.test:me\0TargetName=iqn.2026-11.test:disk\0AuthMethod=CHAP\0";
    let LoginStep::Reply(_) = step(&mut login, first.as_bytes(), false) else { panic!("CHAP is agreed on") };

    let offered: Vec<String> = input.algorithms.iter().map(offer).collect();
    let offered = offered.join(",");
    let chosen = first_known(&offered);
    let challenged = step(&mut login, format!("CHAP_A={offered}\0").as_bytes(), false);
    let reply = match (challenged, chosen) {
        (LoginStep::Reply(reply), Some(_)) => reply,
        (LoginStep::Refuse { reply, .. }, None) => return refused(&reply),
        (LoginStep::Refuse { reply, .. }, Some(_)) if offered.contains('\0') || offered.len() > 2000 => {
            return refused(&reply);
        }
        (other, chosen) => panic!("{other:?} to {offered:?}, of which {chosen:?} is known"),
    };
    let challenge = Challenged::of(&reply);
    assert_eq!(Some(challenge.algorithm), chosen, "the initiator's order decides");
    prove(&mut login, &input, &challenge);
}

fn offer(algorithm: &Algorithm<'_>) -> String {
    match algorithm {
        Algorithm::Known(number) => ChapAlgorithm::ALL[usize::from(number % 4)].number().to_string(),
        Algorithm::Number(number) => number.to_string(),
        Algorithm::Raw(text) => (*text).to_owned(),
    }
}

/// Of the algorithms offered the first that there is. The value ends at the first zero byte.
fn first_known(offered: &str) -> Option<u8> {
    let value = offered.split('\0').next().unwrap_or_default();
    let known = |number: u64| ChapAlgorithm::ALL.iter().find(|known| u64::from(known.number()) == number);
    value.split(',').find_map(|text| decode_number(text).and_then(known)).map(|known| known.number())
}

fn step(login: &mut Login, data: &[u8], transit: bool) -> LoginStep {
    login.step(&LoginRequest {
        transit,
        cont: false,
        csg: 0,
        nsg: 3,
        version_max: 0,
        version_min: 0,
        isid: [0x80; 6],
        tsih: 0,
        initiator_task_tag: 1,
        cid: 0,
        cmd_sn: 1,
        exp_stat_sn: 0,
        data,
    })
}

/// Every refusal looks the same, unless the text could not be read.
fn refused(reply: &LoginReply) {
    assert!(matches!(reply.status, LoginStatus::AuthenticationFailure | LoginStatus::InitiatorError));
    assert!(reply.data.is_empty());
}

/// The target's challenge.
struct Challenged {
    algorithm: u8,
    identifier: u8,
    bytes: Vec<u8>,
}

impl Challenged {
    fn of(reply: &LoginReply) -> Self {
        let limits = TextLimits { text_bytes: 1 << 16, pairs: 1000 };
        let pairs = decode(&reply.data, &limits).expect("an answer is text");
        let value = |key: &str| pairs.iter().find(|pair| pair.key == key).expect("a whole challenge").value;
        let number = |key: &str| value(key).parse().expect("a small number");
        let digits = value("CHAP_C").strip_prefix("0x").expect("hexadecimal").as_bytes();
        let bytes = digits.chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).expect("digits");
            u8::from_str_radix(pair, 16).expect("digits")
        });
        Self { algorithm: number("CHAP_A"), identifier: number("CHAP_I"), bytes: bytes.collect() }
    }

    fn response(&self, secret: &[u8]) -> Vec<u8> {
        response(self.algorithm, self.identifier, secret, &self.bytes)
    }
}

fn prove(login: &mut Login, input: &Input<'_>, challenge: &Challenged) {
    let user = input.user.unwrap_or(USER);
    let right = challenge.response(SECRET);
    let proof = match &input.proof {
        Proof::Right(writing) => Some(writing.write(&right)),
        Proof::Flipped { byte, bits, writing } => {
            let mut bytes = right.clone();
            let at = usize::from(*byte) % bytes.len();
            bytes[at] ^= bits;
            Some(writing.write(&bytes))
        }
        Proof::OtherSecret(secret, writing) => Some(writing.write(&challenge.response(secret))),
        Proof::OwnSecret(writing) => Some(writing.write(&challenge.response(OWN_SECRET))),
        Proof::Bytes(bytes, writing) => Some(writing.write(bytes)),
        Proof::Raw(text) => Some((*text).to_owned()),
        Proof::Missing => None,
    };
    let is_right = match &input.proof {
        Proof::Right(_) => true,
        Proof::Flipped { bits, .. } => *bits == 0,
        Proof::OtherSecret(secret, _) => *secret == SECRET,
        Proof::OwnSecret(_) | Proof::Missing => false,
        Proof::Bytes(bytes, _) => *bytes == right,
        Proof::Raw(text) => [Writing::Hexadecimal, Writing::UpperCase, Writing::Base64]
            .iter()
            .any(|writing| text.eq_ignore_ascii_case(&writing.write(&right))),
    };
    let (theirs, asks) = counter_challenge(&input.challenge, challenge);
    let mut text = format!("CHAP_N={user}\0");
    text += &proof.map_or_else(String::new, |proof| format!("CHAP_R={proof}\0"));
    let mut text = [text.as_bytes(), theirs.as_bytes()].concat();
    text.extend_from_slice(input.further.unwrap_or_default());
    match step(login, &text, true) {
        LoginStep::Finished { reply, session } => {
            assert!(is_right && session.user.as_deref() == Some(USER), "{input:?}");
            let expected = asks
                .as_ref()
                .map(|(identifier, bytes)| response(challenge.algorithm, *identifier, OWN_SECRET, bytes));
            check_own_proof(&reply, expected);
        }
        LoginStep::Refuse { reply, .. } => {
            let must_pass = is_right && user == USER && input.further.is_none();
            let asks_in_vain = matches!(input.challenge, Challenge::None) || (input.mutual && asks.is_some());
            assert!(!(must_pass && asks_in_vain), "a right proof was refused: {input:?}");
            refused(&reply);
        }
        LoginStep::Reply(_) => panic!("a proof is right or wrong: {input:?}"),
    }
}

/// What the initiator sends to have the target prove itself, and what a target can answer, if it can.
fn counter_challenge(challenge: &Challenge<'_>, ours: &Challenged) -> (String, Option<(u8, Vec<u8>)>) {
    let hexadecimal = |bytes: &[u8]| Writing::Hexadecimal.write(bytes);
    match challenge {
        Challenge::None => (String::new(), None),
        Challenge::Bytes { identifier, bytes } => {
            let can_be = (1..=1024).contains(&bytes.len()) && *bytes != ours.bytes;
            let text = format!("CHAP_I={identifier}\0CHAP_C={}\0", hexadecimal(bytes));
            (text, can_be.then(|| (*identifier, bytes.to_vec())))
        }
        Challenge::Reflected { identifier } => {
            (format!("CHAP_I={identifier}\0CHAP_C={}\0", hexadecimal(&ours.bytes)), None)
        }
        Challenge::Raw { identifier, challenge } => {
            (format!("CHAP_I={identifier}\0CHAP_C={challenge}\0"), None)
        }
        Challenge::Half { identifier } => (format!("CHAP_I={identifier}\0"), None),
    }
}

fn check_own_proof(reply: &LoginReply, expected: Option<Vec<u8>>) {
    let limits = TextLimits { text_bytes: 1 << 16, pairs: 1000 };
    let pairs = decode(&reply.data, &limits).expect("an answer is text");
    let proof = pairs.iter().find(|pair| pair.key == "CHAP_R").map(|pair| pair.value);
    if let Some(expected) = expected {
        assert_eq!(proof, Some(&*Writing::Hexadecimal.write(&expected)));
    }
}

impl Writing {
    fn write(self, bytes: &[u8]) -> String {
        let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Self::Hexadecimal => format!("0x{hexadecimal}"),
            Self::UpperCase => format!("0X{}", hexadecimal.to_uppercase()),
            Self::Base64 => format!("0b{}", base64(bytes, true)),
            Self::Base64WithoutPadding => format!("0B{}", base64(bytes, false)),
        }
    }
}

fn base64(bytes: &[u8], padding: bool) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let number =
            group.iter().chain([&0, &0]).take(3).fold(0, |number, byte| number << 8 | usize::from(*byte));
        for place in 0..4 {
            match place <= group.len() {
                true => text.push(char::from(DIGITS[number >> (18 - 6 * place) & 63])),
                false if padding => text.push('='),
                false => {}
            }
        }
    }
    text
}
