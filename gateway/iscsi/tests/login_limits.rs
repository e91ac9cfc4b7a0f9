//! What an unauthenticated peer can make a login hold or do is bounded, and nothing it sends makes it panic.

mod login_support;

use iscsi_target::Limits;
use iscsi_target::directory::Authentication;
use iscsi_target::login::{LoginRequest, LoginStatus, LoginStep};
use iscsi_target::text::{TextLimits, decode};
use login_support::{NORMAL, login, login_within, mutual_chap, refused, replied, request, say, text};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::test_runner::RngSeed;

#[test]
fn requests_are_counted() {
    let limits = Limits { login_exchanges: 5, ..Limits::default() };
    let mut login = login_within(Authentication::None, &limits);
    for offer in [NORMAL, "", "", "", ""] {
        replied(say(&mut login, 0, None, offer));
    }
    assert_eq!(refused(say(&mut login, 0, None, "")), LoginStatus::InitiatorError);
}

#[test]
fn text_to_be_continued_is_bounded() {
    let limits = Limits { login_text: 1000, ..Limits::default() };
    let mut login = login_within(Authentication::None, &limits);
    let part = [b'a'; 400];
    for _ in 0..2 {
        replied(login.step(&LoginRequest { cont: true, ..request(0, None, &part) }));
    }
    assert_eq!(login.held_bytes(), 800);
    let step = login.step(&LoginRequest { cont: true, ..request(0, None, &part) });
    assert_eq!(refused(step), LoginStatus::InitiatorError);
    assert_eq!(login.held_bytes(), 0);
}

#[test]
fn keys_and_values_are_bounded() {
    let long_key = format!("{NORMAL} {}=1", "k".repeat(64));
    let long_value = format!("{NORMAL} X-a={}", "v".repeat(2051));
    let many = format!("{NORMAL} {}", (0..255).map(|n| format!("X-{n}=1")).collect::<Vec<_>>().join(" "));
    for offer in [long_key, long_value, many] {
        let step = say(&mut login(Authentication::None), 0, None, &offer);
        assert_eq!(refused(step), LoginStatus::InitiatorError);
    }
    let just = format!("{NORMAL} {}=1 X-a={}", "k".repeat(63), "v".repeat(2050));
    replied(say(&mut login(Authentication::None), 0, None, &just));
}

/// Pairs an initiator might send, many of them wrong.
fn any_pair() -> impl Strategy<Value = Vec<u8>> {
    let keys = [
        "InitiatorName",
        "TargetName",
        "SessionType",
        "InitiatorAlias",
        "AuthMethod",
        "CHAP_A",
        "CHAP_C",
        "CHAP_I",
        "CHAP_N",
        "CHAP_R",
        "HeaderDigest",
        "MaxRecvDataSegmentLength",
        "MaxBurstLength",
        "FirstBurstLength",
        "InitialR2T",
        "ImmediateData",
        "TaskReporting",
        "OFMarkInt",
        "SendTargets",
        "X-a",
        "Unknown",
    ];
    let values = prop_oneof![
        proptest::sample::select(vec![
            "Yes",
            "No",
            "None",
            "CHAP",
            "CHAP,None",
            "5",
            "5,6,7,8",
            "0x10",
            "0x",
            "0b",
            "0bAA==",
            "0xé",
            "alice",
            "iqn.2026-11.test:disk",
            "Normal",
            "Discovery",
            "Reject",
            "CRC32C,None",
            "65536",
            "All",
            ",",
            "",
            "0x3ceffa4c3b5a8df80d8f5e3379690f7b",
        ])
        .prop_map(|value| value.as_bytes().to_vec()),
        vec(any::<u8>(), 0..40),
    ];
    (proptest::sample::select(keys.to_vec()), values)
        .prop_map(|(key, value)| [key.as_bytes(), b"=", &value, &[0]].concat())
}

/// Text of a PDU: a proper beginning or not, then pairs, then perhaps noise.
fn any_text() -> impl Strategy<Value = Vec<u8>> {
    let beginning = prop_oneof![
        Just(text(NORMAL)),
        Just(text(&format!("{NORMAL} AuthMethod=CHAP"))),
        Just(text("CHAP_A=5")),
        Just(Vec::new())
    ];
    (beginning, vec(any_pair(), 0..6), vec(any::<u8>(), 0..20), any::<bool>()).prop_map(
        |(beginning, pairs, noise, noisy)| {
            let noise = if noisy { noise } else { Vec::new() };
            [beginning, pairs.concat(), noise].concat()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        rng_seed: RngSeed::Fixed(7143),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_sequence_of_requests_panics_or_holds_too_much(
        requests in vec((any_text(), 0_u8..4, 0_u8..4, any::<bool>(), any::<bool>()), 1..12),
        authenticated in any::<bool>(),
    ) {
        let limits = Limits { login_text: 2048, text_keys: 16, login_exchanges: 10, ..Limits::default() };
        let authentication =
            if authenticated { Authentication::Chap(mutual_chap()) } else { Authentication::None };
        let mut login = login_within(authentication, &limits);
        let mut over = false;
        for (count, (data, csg, nsg, transit, cont)) in requests.iter().enumerate() {
            // Mostly the stages that exist, so that logins get somewhere.
            let request = LoginRequest { transit: *transit, cont: *cont, nsg: *nsg, ..request(csg / 2, None, data) };
            let step = login.step(&request);
            // Each pair is answered by at most its key and a word; the security exchange adds less than 200 bytes.
            assert!(login.held_bytes() <= limits.login_text + limits.text_keys * 78 + 400);
            match step {
                LoginStep::Refuse { reply, .. } => {
                    assert_ne!(reply.status, LoginStatus::Success);
                    over = true;
                }
                LoginStep::Finished { session, .. } => {
                    assert!(!over && count < 10);
                    assert_eq!(session.user.is_some(), authenticated);
                    assert!(session.parameters.first_burst_length <= session.parameters.max_burst_length);
                    over = true;
                }
                LoginStep::Reply(reply) => {
                    assert!(!over && count < 10);
                    assert!(reply.data.len() <= 8192);
                    assert!(!reply.transit || *transit);
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_the_codec_panic(bytes in vec(any::<u8>(), 0..300)) {
        let limits = TextLimits { text_bytes: 256, pairs: 8 };
        if let Ok(pairs) = decode(&bytes, &limits) {
            assert!(bytes.len() <= 256 && pairs.len() <= 8);
        }
    }
}
