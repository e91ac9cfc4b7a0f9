//! Who may see and use what, by the access control lists, and what becomes of sessions when those change.

mod support;

use huntaway_gateway::{Authentication, DigestPolicy, InitiatorConfig, Served, TargetConfig};
use support::{
    ASYNC_MESSAGE, Account, Initiator, LOGICAL_UNIT_RESET, SCSI_RESPONSE, TARGET, TARGET_COLD_RESET,
    TARGET_WARM_RESET, TASK_MANAGEMENT_RESPONSE, TestGateway, anyone, discover, initiator, served, target,
    try_login, try_login_while, wait_for,
};

const A: &str = "iqn.2026-11.test:a";
const B: &str = "iqn.2026-11.test:b";

const OLD: Account = Account("alice", "the-old-secret-of-alice");
const NEW: Account = Account("alice", "the-new-secret-of-alice");

fn try_plain(gateway: &TestGateway, name: &str, target: &str, keys: &str) -> Result<Initiator, u16> {
    try_login(gateway.portal, &format!("InitiatorName={name} TargetName={target}{keys}"), None, false)
}

/// `B` sees LUN 1 only, everybody else everything.
fn b_sees_one(gateway: &TestGateway) -> Served {
    let one = InitiatorConfig { luns: Some(vec![1]), ..initiator(B) };
    served(vec![target(vec![one, anyone()], vec![gateway.unit(0), gateway.unit(1)])])
}

/// A session of `B`, told of its nexus at LUN 1.
fn login_b(gateway: &TestGateway) -> Initiator {
    let mut b = try_plain(gateway, B, TARGET, "").expect("a session");
    assert_eq!(b.test_unit(1, 1), Err((6, 0x29, 0)));
    b
}

#[test]
fn each_initiator_sees_its_own_luns() {
    let gateway = TestGateway::empty();
    gateway.update(b_sees_one(&gateway)).unwrap();
    let mut a = Initiator::login(gateway.portal, A);
    let mut b = login_b(&gateway);
    assert_eq!(a.luns(1), [0, 1]);
    assert_eq!(b.luns(1), [1]);
    assert_eq!(b.test_unit(2, 0), Err((5, 0x25, 0)));
    b.write(3, 0, 7, true);
    assert_eq!(b.expect(SCSI_RESPONSE).sense(), (5, 0x25, 0));
    assert!(gateway.peer.writes().is_empty());
}

#[test]
fn another_set_of_luns_is_told_to_that_initiator_only() {
    let gateway = TestGateway::empty();
    gateway.update(b_sees_one(&gateway)).unwrap();
    let mut a = Initiator::login(gateway.portal, A);
    let mut b = login_b(&gateway);
    gateway.update(served(vec![target(vec![anyone()], vec![gateway.unit(0), gateway.unit(1)])])).unwrap();
    assert_eq!(b.test_unit(1, 1), Err((6, 0x3f, 0x0e)));
    assert_eq!(b.luns(2), [0, 1]);
    assert_eq!(a.test_unit(3, 0), Ok(()));
}

#[test]
fn resets_reach_no_lun_that_the_initiator_does_not_see() {
    let gateway = TestGateway::empty();
    gateway.update(b_sees_one(&gateway)).unwrap();
    let mut a = Initiator::login(gateway.portal, A);
    assert_eq!(a.test_unit(1, 1), Err((6, 0x29, 0)));
    let mut b = login_b(&gateway);
    gateway.peer.hold();
    a.write(2, 0, 7, true);
    wait_for("the write", || gateway.peer.waiting() == 1);
    b.manage_unit(3, LOGICAL_UNIT_RESET, u32::MAX, 0);
    assert_eq!(b.expect(TASK_MANAGEMENT_RESPONSE).header[2], 2, "no such LUN");
    b.manage(4, TARGET_WARM_RESET, u32::MAX);
    assert_eq!(b.expect(TASK_MANAGEMENT_RESPONSE).header[2], 0, "does not wait for LUN 0");
    gateway.peer.release();
    assert_eq!(a.expect(SCSI_RESPONSE).header[3], 0, "the write ends well");
    assert_eq!(a.test_unit(5, 0), Ok(()));
    assert_eq!(a.test_unit(6, 1), Err((6, 0x29, 2)));
}

#[test]
fn a_cold_reset_closes_no_session_that_sees_none_of_the_luns() {
    let gateway = TestGateway::empty();
    let zero = InitiatorConfig { luns: Some(vec![0]), ..initiator(A) };
    let one = InitiatorConfig { luns: Some(vec![1]), ..initiator(B) };
    gateway.update(served(vec![target(vec![zero, one], vec![gateway.unit(0), gateway.unit(1)])])).unwrap();
    let mut a = Initiator::login(gateway.portal, A);
    let mut b = login_b(&gateway);
    b.manage(1, TARGET_COLD_RESET, u32::MAX);
    assert_eq!(b.expect(TASK_MANAGEMENT_RESPONSE).header[2], 0);
    b.expect_end();
    assert_eq!(a.test_unit(1, 0), Ok(()));
}

#[test]
fn a_revoked_initiator_is_asked_to_leave_and_closed_and_others_stay() {
    let gateway = TestGateway::start(1);
    let mut a = Initiator::login(gateway.portal, A);
    let mut b = Initiator::login(gateway.portal, B);
    gateway.update(served(vec![target(vec![initiator(B)], vec![gateway.unit(0)])])).unwrap();
    let message = a.expect(ASYNC_MESSAGE);
    assert_eq!((message.header[36], message.header[43]), (1, 3), "logout, within 3 seconds");
    assert_eq!(a.test_unit(1, 0), Err((5, 0x25, 0)), "it sees nothing any more");
    assert_eq!(try_plain(&gateway, A, TARGET, "").err(), Some(0x0202));
    a.expect_end();
    assert_eq!(b.test_unit(1, 0), Ok(()));
    // Its connection is closed before its session is forgotten.
    wait_for("the session of B to be the only one", || {
        let sessions = gateway.gateway().sessions();
        sessions.into_iter().map(|session| session.initiator).eq([B])
    });
}

#[test]
fn a_removed_target_takes_its_sessions_with_it() {
    let gateway = TestGateway::start(1);
    let mut a = Initiator::login(gateway.portal, A);
    gateway.update(served(Vec::new())).unwrap();
    a.expect(ASYNC_MESSAGE);
    assert_eq!(try_plain(&gateway, A, TARGET, "").err(), Some(0x0203));
    a.logout(1);
    wait_for("the session to end", || gateway.gateway().sessions().is_empty());
    gateway.update(gateway.disks(1)).unwrap();
    Initiator::login(gateway.portal, A);
}

#[test]
fn a_new_secret_is_asked_of_new_logins_and_old_sessions_stay() {
    let gateway = TestGateway::empty();
    let with = |account: Account| {
        let alice = InitiatorConfig { authentication: account.required(), ..anyone() };
        served(vec![target(vec![alice], vec![gateway.unit(0)])])
    };
    let login = |name: &str, account| {
        let keys = format!("InitiatorName={name} TargetName={TARGET}");
        try_login(gateway.portal, &keys, Some(account), false)
    };
    gateway.update(with(OLD)).unwrap();
    let mut old = login(A, OLD).unwrap();
    assert_eq!(old.test_unit(1, 0), Err((6, 0x29, 0)));
    gateway.update(with(NEW)).unwrap();
    assert_eq!(login(B, OLD).err(), Some(0x0201));
    assert!(login(B, NEW).is_ok());
    assert_eq!(old.test_unit(2, 0), Ok(()));
}

#[test]
fn the_first_matching_entry_decides_in_any_case_of_letters() {
    let gateway = TestGateway::empty();
    let strict = InitiatorConfig { authentication: NEW.required(), ..initiator("iqn.2026-11.test:a") };
    let disk = target(vec![strict, initiator("iqn.2026-11.test:?")], vec![gateway.unit(0)]);
    gateway.update(served(vec![disk])).unwrap();
    assert_eq!(try_plain(&gateway, "iqn.2026-11.TEST:A", TARGET, "").err(), Some(0x0201));
    assert!(try_plain(&gateway, "iqn.2026-11.TEST:B", &TARGET.to_uppercase(), "").is_ok());
    assert_eq!(try_plain(&gateway, "iqn.2026-11.test:bb", TARGET, "").err(), Some(0x0202));
}

#[test]
fn discovery_shows_only_what_the_initiator_may_use() {
    let gateway = TestGateway::empty();
    let named = |name: &str, pattern: &str| TargetConfig {
        name: format!("{TARGET}.{name}"),
        ..target(vec![initiator(pattern)], Vec::new())
    };
    gateway.update(served(vec![named("a", A), named("b", B), named("all", "*")])).unwrap();
    let names = |found: Vec<String>| -> Vec<String> {
        found.iter().filter_map(|pair| pair.strip_prefix("TargetName=").map(str::to_owned)).collect()
    };
    let shown = |name: &str| names(discover(gateway.portal, name, None).unwrap());
    assert_eq!(shown(A), [format!("{TARGET}.a"), format!("{TARGET}.all")]);
    assert_eq!(shown("iqn.2026-11.test:c"), [format!("{TARGET}.all")]);
    let mut session = try_plain(&gateway, A, &format!("{TARGET}.all"), "").unwrap();
    assert_eq!(names(session.send_targets()), [format!("{TARGET}.a"), format!("{TARGET}.all")]);
    gateway.update(served(vec![named("all", "*")])).unwrap();
    assert_eq!(names(session.send_targets()), [format!("{TARGET}.all")], "as of now");
}

#[test]
fn discovery_can_ask_for_chap() {
    let gateway = TestGateway::start(1);
    let closed = Served { discovery: NEW.required(), ..gateway.disks(1) };
    gateway.update(closed).unwrap();
    assert_eq!(discover(gateway.portal, A, None).err(), Some(0x0201));
    assert_eq!(discover(gateway.portal, A, Some(OLD)).err(), Some(0x0201));
    assert_eq!(discover(gateway.portal, A, Some(NEW)).unwrap()[0], format!("TargetName={TARGET}"));
    Initiator::login(gateway.portal, A);
}

#[test]
fn digests_are_as_the_target_says() {
    let gateway = TestGateway::empty();
    let serve = |digests| {
        let disk = TargetConfig { digests, ..target(vec![anyone()], vec![gateway.unit(0)]) };
        gateway.update(served(vec![disk])).unwrap();
    };
    const BOTH: &str = " HeaderDigest=CRC32C,None DataDigest=CRC32C,None";
    serve(DigestPolicy::Off);
    let mut plain = try_plain(&gateway, A, TARGET, BOTH).unwrap();
    assert_eq!(plain.test_unit(1, 0), Err((6, 0x29, 0)), "PDUs have no digests");
    serve(DigestPolicy::Required);
    assert_eq!(plain.test_unit(2, 0), Ok(()), "the session goes on");
    assert_eq!(try_plain(&gateway, B, TARGET, "").err(), Some(0x0200));
    assert_eq!(try_plain(&gateway, B, TARGET, " HeaderDigest=None DataDigest=None").err(), Some(0x0200));
    assert!(try_plain(&gateway, B, TARGET, BOTH).is_ok());
    serve(DigestPolicy::Allowed);
    assert!(try_plain(&gateway, B, TARGET, "").is_ok());
}

#[test]
fn authentication_that_becomes_required_leaves_sessions_alone() {
    let gateway = TestGateway::start(1);
    let mut a = Initiator::login(gateway.portal, A);
    let closed = InitiatorConfig { authentication: NEW.required(), ..anyone() };
    gateway.update(served(vec![target(vec![closed], vec![gateway.unit(0)])])).unwrap();
    assert_eq!(a.test_unit(1, 0), Ok(()));
    assert_eq!(try_plain(&gateway, B, TARGET, "").err(), Some(0x0201));
    assert!(matches!(anyone().authentication, Authentication::None));
}

#[test]
fn a_login_under_terms_that_changed_meanwhile_may_try_again() {
    const TRY_AGAIN: Option<u16> = Some(0x0301);
    let gateway = TestGateway::empty();
    let serve = |authentication: Option<Account>, digests| {
        let authentication = authentication.map_or(Authentication::None, Account::required);
        let entry = InitiatorConfig { authentication: authentication.clone(), ..anyone() };
        let disk = TargetConfig { digests, ..target(vec![entry], vec![gateway.unit(0)]) };
        gateway.update(Served { targets: vec![disk], discovery: authentication }).unwrap();
    };
    let normal = format!("InitiatorName={A} TargetName={TARGET}");
    let discovery = format!("InitiatorName={A} SessionType=Discovery");
    for (before, after, keys, refused) in [
        (None, Some(NEW), &normal, TRY_AGAIN),
        (Some(OLD), Some(NEW), &normal, TRY_AGAIN),
        (None, Some(NEW), &discovery, TRY_AGAIN),
        (Some(OLD), Some(NEW), &discovery, TRY_AGAIN),
        (Some(OLD), Some(OLD), &normal, None),
    ] {
        serve(before, DigestPolicy::Allowed);
        let update = || serve(after, DigestPolicy::Allowed);
        let result = try_login_while(gateway.portal, keys, before, false, update);
        assert_eq!(result.err(), refused, "{before:?} {after:?} {keys}");
    }
    serve(None, DigestPolicy::Allowed);
    let update = || serve(None, DigestPolicy::Required);
    assert_eq!(try_login_while(gateway.portal, &normal, None, false, update).err(), TRY_AGAIN);
}
