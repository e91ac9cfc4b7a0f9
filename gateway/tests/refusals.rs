//! Who is refused at login learns a status; the log gets one line with the reason, the metrics a count, and nobody a secret.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex};

use huntaway_gateway::{DigestPolicy, InitiatorConfig, Served, TargetConfig};
use support::{Account, TARGET, TestGateway, anyone, initiator, served, target, try_login, wait_for};
use tracing_subscriber::fmt::MakeWriter;

const ALICE: Account = Account("alice", "correct-horse-battery");
const WRONG: Account = Account("alice", "planted-wrong-secret");
const BOB: Account = Account("bob", "planted-bobs-secret");
const OWN: Account = Account("disk", "staple-of-the-target");

/// What no line may contain.
const SECRETS: [&str; 4] = [ALICE.1, WRONG.1, BOB.1, OWN.1];

/// Everything that is logged by this test binary, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(log.clone())
        .with_ansi(false)
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    log
});

/// The lines about this initiator.
fn lines(name: &str) -> Vec<String> {
    let text = String::from_utf8(LOG.0.lock().unwrap().clone()).unwrap();
    let about = format!("initiator=\"{name}\"");
    text.lines().filter(|line| line.contains(&about)).map(str::to_owned).collect()
}

/// Who logs in how, and what becomes of that.
struct Case {
    name: &'static str,
    target: &'static str,
    /// Further keys.
    keys: &'static str,
    account: Option<Account>,
    mutual: bool,
    status: u16,
    result: &'static str,
    reason: &'static str,
}

const PLAIN: Case = Case {
    name: "",
    target: TARGET,
    keys: "",
    account: None,
    mutual: false,
    status: 0x0201,
    result: "authentication_failed",
    reason: "",
};

const ELSEWHERE: &str = "iqn.2026-11.test.huntaway:elsewhere";
const MUTUAL: &str = "iqn.2026-11.test.huntaway:mutual";
const DIGESTED: &str = "iqn.2026-11.test.huntaway:digested";
const OPEN: &str = "iqn.2026-11.test.huntaway:open";

fn cases() -> Vec<Case> {
    let name = |name| Case { name, ..PLAIN };
    vec![
        Case { account: Some(WRONG), reason: "wrong secret", ..name("iqn.2026-11.test:wrong") },
        Case { account: Some(BOB), reason: "unknown user", ..name("iqn.2026-11.test:unknown") },
        Case { reason: "CHAP not offered", ..name("iqn.2026-11.test:none") },
        Case {
            account: Some(ALICE),
            mutual: true,
            reason: "mutual CHAP is asked for, but not configured",
            ..name("iqn.2026-11.test:mutual")
        },
        Case {
            target: MUTUAL,
            account: Some(Account("alice", OWN.1)),
            mutual: true,
            reason: "wrong secret",
            ..name("iqn.2026-11.test:mutual-wrong")
        },
        Case {
            target: OPEN,
            account: Some(ALICE),
            reason: "the initiator insists on authentication, but none is configured",
            ..name("iqn.2026-11.test:insists")
        },
        Case {
            account: Some(ALICE),
            status: 0x0202,
            result: "forbidden",
            reason: "no ACL entry matches the initiator",
            ..name("iqn.2026-11.stranger:x")
        },
        Case {
            target: "iqn.2026-11.test.huntaway:nothing",
            status: 0x0203,
            result: "not_found",
            reason: "no such target",
            ..name("iqn.2026-11.test:lost")
        },
        Case {
            target: ELSEWHERE,
            status: 0x0203,
            result: "not_found",
            reason: "the target is not served through this portal",
            ..name("iqn.2026-11.test:elsewhere")
        },
        Case {
            target: DIGESTED,
            keys: " HeaderDigest=None DataDigest=CRC32C,None",
            status: 0x0200,
            result: "invalid",
            reason: "digests are required, but not offered",
            ..name("iqn.2026-11.test:bare")
        },
        Case {
            target: DIGESTED,
            keys: " HeaderDigest=CRC32C",
            status: 0x0200,
            result: "invalid",
            reason: "digests are required, but not offered",
            ..name("iqn.2026-11.test:half")
        },
    ]
}

fn everything() -> Served {
    let with = |name: &str, initiators: Vec<InitiatorConfig>| TargetConfig {
        name: name.into(),
        ..target(initiators, Vec::new())
    };
    let alice = InitiatorConfig { authentication: ALICE.required(), ..initiator("iqn.2026-11.test:*") };
    let proved = InitiatorConfig { authentication: ALICE.required_by(OWN), ..anyone() };
    let mut elsewhere = with(ELSEWHERE, vec![anyone()]);
    elsewhere.portals = Some(vec!["another".into()]);
    let mut digested = with(DIGESTED, vec![anyone()]);
    digested.digests = DigestPolicy::Required;
    let targets = vec![
        with(TARGET, vec![alice]),
        with(MUTUAL, vec![proved]),
        with(OPEN, vec![anyone()]),
        elsewhere,
        digested,
    ];
    served(targets)
}

#[test]
fn every_refusal_has_its_status_its_count_and_one_line() {
    let gateway = TestGateway::empty();
    LazyLock::force(&LOG);
    gateway.update(everything()).unwrap();
    for case in cases() {
        let Case { name, target, keys, account, mutual, status, result, reason } = case;
        let count = || gateway.counter("huntaway_gateway_logins_total", ("result", result)).unwrap_or(0.0);
        let before = count();
        let login = format!("InitiatorName={name} TargetName={target}{keys}");
        let refused = try_login(gateway.portal, &login, account, mutual).err();
        assert_eq!(refused, Some(status), "{name}");
        assert_eq!(count(), before + 1.0, "{name}");
        wait_for("the line", || !lines(name).is_empty());
        let lines = lines(name);
        assert_eq!(lines.len(), 1, "{lines:#?}");
        for part in [reason, target, "login refused", "peer=127.0.0.1:"] {
            assert!(lines[0].contains(part), "{part} is not in {}", lines[0]);
        }
    }
    let login = format!("InitiatorName=iqn.2026-11.test:right TargetName={TARGET}");
    drop(try_login(gateway.portal, &login, Some(ALICE), false).unwrap());
    let login = format!("InitiatorName=iqn.2026-11.test:right TargetName={MUTUAL}");
    drop(try_login(gateway.portal, &login, Some(ALICE), true).unwrap());
    drop(gateway);
    let text = String::from_utf8(LOG.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("session started"), "lines are captured at all");
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} is in the log");
    }
}
