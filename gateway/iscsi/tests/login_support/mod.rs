//! What the login tests share: a directory with one target, an initiator that speaks in key=value lists, and
//! entropy that counts.

#![allow(dead_code, reason = "each test file uses its own part of this module")]

use std::sync::Arc;

use iscsi_target::Limits;
use iscsi_target::chap::{Chap, ChapAccount, Secret};
use iscsi_target::directory::{Admission, Authentication, DigestPolicy, Directory, TargetListing};
use iscsi_target::login::{
    Login, LoginRefusal, LoginReply, LoginRequest, LoginStatus, LoginStep, RefusalReason,
};
use iscsi_target::parameters::Negotiated;

pub(crate) const INITIATOR: &str = "iqn.2026-11.test:initiator";
pub(crate) const TARGET: &str = "iqn.2026-11.test:disk";
pub(crate) const OTHER_TARGET: &str = "iqn.2026-11.test:other";
pub(crate) const PORTAL_GROUP_TAG: u16 = 7;

/// The keys a normal session's first request must have.
pub(crate) const NORMAL: &str = "InitiatorName=iqn.2026-11.test:initiator TargetName=iqn.2026-11.test:disk";
/// The same for a discovery session.
pub(crate) const DISCOVERY: &str = "InitiatorName=iqn.2026-11.test:initiator SessionType=Discovery";

pub(crate) const USER: &str = "alice";
pub(crate) const SECRET: &[u8] = b"correct horse battery";
pub(crate) const TARGET_USER: &str = "disk";
pub(crate) const TARGET_SECRET: &[u8] = b"staple of the target";

/// Bytes that count up from 0x10 in every call, so that challenges are known.
pub(crate) fn counting_entropy(bytes: &mut [u8]) {
    for (byte, value) in bytes.iter_mut().zip(0x10..) {
        *byte = value;
    }
}

/// Two targets, admitted to as told.
pub(crate) struct TestDirectory(pub(crate) Authentication, pub(crate) DigestPolicy);

impl Directory for TestDirectory {
    fn targets(&self, _initiator: &str) -> Vec<TargetListing> {
        let address = |port: u16| (format!("10.0.0.1:{port}"), PORTAL_GROUP_TAG);
        let name = TARGET.to_owned();
        let first = TargetListing { name, addresses: vec![address(3260), ("[2001:db8::1]:3260".into(), 8)] };
        vec![first, TargetListing { name: OTHER_TARGET.to_owned(), addresses: vec![address(3261)] }]
    }

    fn admit(&self, initiator: &str, target: Option<&str>) -> Result<Admission, RefusalReason> {
        if initiator.ends_with("stranger") {
            return Err(RefusalReason::NotAllowed);
        }
        match target {
            None | Some(TARGET | OTHER_TARGET) => {
                Ok(Admission { authentication: self.0.clone(), digests: self.1 })
            }
            Some(_) => Err(RefusalReason::NoSuchTarget),
        }
    }
}

/// One account, one-way.
pub(crate) fn chap() -> Chap {
    Chap::new(vec![ChapAccount { user: USER.into(), secret: Secret::new(SECRET) }])
}

/// The same with an account of the target's own.
pub(crate) fn mutual_chap() -> Chap {
    let own = ChapAccount { user: TARGET_USER.into(), secret: Secret::new(TARGET_SECRET) };
    Chap { mutual: Some(own), ..chap() }
}

/// A login phase without authentication.
pub(crate) fn open_login() -> Login {
    login(Authentication::None)
}

pub(crate) fn login(authentication: Authentication) -> Login {
    login_within(authentication, &Limits::default())
}

pub(crate) fn login_within(authentication: Authentication, limits: &Limits) -> Login {
    let directory = TestDirectory(authentication, DigestPolicy::Allowed);
    Login::new(PORTAL_GROUP_TAG, Arc::new(directory), counting_entropy, limits)
}

/// A login phase without authentication, with this policy of digests.
pub(crate) fn login_with_digests(digests: DigestPolicy) -> Login {
    let directory = TestDirectory(Authentication::None, digests);
    Login::new(PORTAL_GROUP_TAG, Arc::new(directory), counting_entropy, &Limits::default())
}

/// `"a=1 b=2"` as text of a PDU.
pub(crate) fn text(pairs: &str) -> Vec<u8> {
    pairs
        .split(' ')
        .filter(|pair| !pair.is_empty())
        .flat_map(|pair| [pair.as_bytes(), &[0]].concat())
        .collect()
}

/// Text of a PDU as `"a=1 b=2"`.
pub(crate) fn pairs(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text).replace('\0', " ");
    text.trim_end().to_owned()
}

/// A Login request of a new session in stage `csg`, which asks for stage `nsg` if there is one.
pub(crate) fn request(csg: u8, nsg: Option<u8>, data: &[u8]) -> LoginRequest<'_> {
    LoginRequest {
        transit: nsg.is_some(),
        cont: false,
        csg,
        nsg: nsg.unwrap_or(0),
        version_max: 0,
        version_min: 0,
        isid: [0x40, 0, 1, 0x37, 0, 0],
        tsih: 0,
        initiator_task_tag: 1,
        cid: 0,
        cmd_sn: 1,
        exp_stat_sn: 0,
        data,
    }
}

/// Sends `"a=1 b=2"` in stage `csg`.
pub(crate) fn say(login: &mut Login, csg: u8, nsg: Option<u8>, pairs: &str) -> LoginStep {
    login.step(&request(csg, nsg, &text(pairs)))
}

/// The reply of a step that neither finished nor failed.
pub(crate) fn replied(step: LoginStep) -> LoginReply {
    match step {
        LoginStep::Reply(reply) => reply,
        other => panic!("expected a reply, got {other:?}"),
    }
}

/// The session of a step that finished the login.
pub(crate) fn finished(step: LoginStep) -> (LoginReply, Negotiated) {
    match step {
        LoginStep::Finished { reply, session } => (reply, session),
        other => panic!("expected the end of the login, got {other:?}"),
    }
}

/// The status of a step that refused the login.
pub(crate) fn refused(step: LoginStep) -> LoginStatus {
    refusal(step).reason.status()
}

/// All that a step tells that refused the login.
pub(crate) fn refusal(step: LoginStep) -> LoginRefusal {
    match step {
        LoginStep::Refuse { reply, refusal } => {
            assert!(!reply.transit && !reply.cont && reply.data.is_empty(), "{reply:?}");
            assert_eq!(reply.status, refusal.reason.status());
            refusal
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}
