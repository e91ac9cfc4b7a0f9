//! CHAP in the login phase (RFC 7143 §12.1.3, §9.2.1), against responses computed by another implementation
//! (Python's hashlib).

mod login_support;

use iscsi_target::chap::{Chap, ChapAccount, ChapAlgorithm, Secret};
use iscsi_target::directory::Authentication;
use iscsi_target::login::{Login, LoginStatus};
use login_support::{
    NORMAL, TARGET_SECRET, chap, finished, login, mutual_chap, pairs, refused, replied, say,
};

/// One algorithm's exchange.
struct Vector {
    number: u8,
    /// Our challenge, of counting bytes; its identifier is 16.
    challenge: &'static str,
    /// alice's response in hexadecimal and in base64.
    response: &'static str,
    response_base64: &'static str,
    /// The initiator's challenge, with identifier 200, and our response.
    theirs: &'static str,
    ours: &'static str,
    /// The response of somebody whose secret is that of the target.
    reflected: &'static str,
}

const VECTORS: [Vector; 4] = [
    Vector {
        number: 5,
        challenge: "0x101112131415161718191a1b1c1d1e1f",
        response: "0x3ceffa4c3b5a8df80d8f5e3379690f7b",
        response_base64: "0bPO/6TDtajfgNj14zeWkPew==",
        theirs: "0x808182838485868788898a8b8c8d8e8f",
        ours: "0x9961fbac7b7431d6846f084dcd052f15",
        reflected: "0xd14ca70ba290350bc0fd9a27c91a634e",
    },
    Vector {
        number: 6,
        challenge: "0x101112131415161718191a1b1c1d1e1f20212223",
        response: "0x77bcbe0f337d7a82a92315d9ed24651e19d709ee",
        response_base64: "0bd7y+DzN9eoKpIxXZ7SRlHhnXCe4=",
        theirs: "0x808182838485868788898a8b8c8d8e8f90919293",
        ours: "0x39eb96eb93b2c4abd1fbf85b2846a02f2d5863e8",
        reflected: "0xa82e0031b21c629a17019eb9d0e33ba211868012",
    },
    Vector {
        number: 7,
        challenge: "0x101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f",
        response: "0x51673d9c6a83ce5a7bbe402d2dded1ca9af571b588d7f13f94973294cd62c2a9",
        response_base64: "0bUWc9nGqDzlp7vkAtLd7Rypr1cbWI1/E/lJcylM1iwqk=",
        theirs: "0x808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
        ours: "0x80a04f028b67fedf059313560d7628712e66f1ae56f96b26f5abe0be57d31cb4",
        reflected: "0x9ec008e9d5501c0cc3c00a01055a2af8fd5b69b553374094d8e7caceba8bc3b6",
    },
    Vector {
        number: 8,
        challenge: "0x101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f",
        response: "0xc7b2086253d2acffd9ea6a0274e248442017e8572243aae7a2db0ffc88fcf9ef",
        response_base64: "0bx7IIYlPSrP/Z6moCdOJIRCAX6FciQ6rnotsP/Ij8+e8=",
        theirs: "0x808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
        ours: "0xfe158222297141dc719cd7182c5eec06023cfb9248d00def1149b1c9d71b3e2c",
        reflected: "0x53e3d6fc464ea7cbd1e6e9be3cdc822ec6e42314d2796dacd40dbaf7fd4aff97",
    },
];

/// alice's answer to the MD5 challenge.
const ALICE: &str = "CHAP_N=alice CHAP_R=0x3ceffa4c3b5a8df80d8f5e3379690f7b";

/// A login that waits for CHAP_A.
fn agreed(chap: Chap) -> Login {
    let mut login = login(Authentication::Chap(chap));
    let reply = replied(say(&mut login, 0, Some(1), &format!("{NORMAL} AuthMethod=CHAP,None")));
    assert_eq!(pairs(&reply.data), "TargetPortalGroupTag=7 AuthMethod=CHAP");
    assert!(!reply.transit, "the stage is not over");
    login
}

/// A login that waits for the answer to the challenge of this algorithm.
fn challenged(chap: Chap, number: u8) -> Login {
    let mut login = agreed(chap);
    let reply = replied(say(&mut login, 0, Some(1), &format!("CHAP_A={number}")));
    let vector = VECTORS.iter().find(|vector| vector.number == number).expect("a vector for every algorithm");
    assert_eq!(pairs(&reply.data), format!("CHAP_A={number} CHAP_I=16 CHAP_C={}", vector.challenge));
    assert!(!reply.transit);
    login
}

#[test]
fn every_algorithm_proves_the_initiator() {
    for vector in &VECTORS {
        for response in [vector.response, vector.response_base64, &vector.response.to_uppercase()] {
            let mut login = challenged(chap(), vector.number);
            let reply = replied(say(&mut login, 0, Some(1), &format!("CHAP_N=alice CHAP_R={response}")));
            assert!(reply.transit && reply.data.is_empty(), "{reply:?}");
            let (_, session) = finished(say(&mut login, 1, Some(3), ""));
            assert_eq!(session.user.as_deref(), Some("alice"));
        }
    }
}

#[test]
fn every_algorithm_proves_the_target_too() {
    for vector in &VECTORS {
        let mut login = challenged(mutual_chap(), vector.number);
        let Vector { response, theirs, ours, .. } = vector;
        let answer = format!("CHAP_N=alice CHAP_R={response} CHAP_I=200 CHAP_C={theirs}");
        let reply = replied(say(&mut login, 0, Some(1), &answer));
        assert_eq!(pairs(&reply.data), format!("CHAP_N=disk CHAP_R={ours}"));
        assert!(reply.transit);
    }
}

#[test]
fn a_target_with_an_account_of_its_own_need_not_be_asked_for_it() {
    let mut login = challenged(mutual_chap(), 5);
    let reply = replied(say(&mut login, 0, Some(1), ALICE));
    assert!(reply.transit && reply.data.is_empty());
}

#[test]
fn the_first_known_algorithm_of_the_initiators_list_is_taken() {
    for (offered, taken) in [("5,6,7,8", 5), ("8,7,6,5", 8), ("56,99,7,5", 7), ("0x6", 6), ("x,,5", 5)] {
        let mut login = agreed(chap());
        let reply = replied(say(&mut login, 0, None, &format!("CHAP_A={offered}")));
        assert!(pairs(&reply.data).starts_with(&format!("CHAP_A={taken} ")), "{offered}");
    }
}

#[test]
fn algorithms_can_be_forbidden() {
    let strong = Chap { algorithms: vec![ChapAlgorithm::Sha256, ChapAlgorithm::Sha3_256], ..chap() };
    let mut login = agreed(strong.clone());
    let reply = replied(say(&mut login, 0, None, "CHAP_A=5,8,7"));
    assert!(pairs(&reply.data).starts_with("CHAP_A=8 "));
    assert_eq!(refused(say(&mut agreed(strong), 0, None, "CHAP_A=5,6")), LoginStatus::AuthenticationFailure);
}

#[test]
fn method_and_algorithm_may_come_together() {
    let mut login = login(Authentication::Chap(chap()));
    let reply = replied(say(&mut login, 0, None, &format!("{NORMAL} AuthMethod=CHAP CHAP_A=5")));
    assert!(pairs(&reply.data).starts_with("TargetPortalGroupTag=7 AuthMethod=CHAP CHAP_A=5 "));
    assert!(replied(say(&mut login, 0, Some(1), ALICE)).transit);
}

#[test]
fn a_list_without_a_known_algorithm_is_refused() {
    for offered in ["", "56", "0", "5x", "-5", "None", "261", "18446744073709551621"] {
        let step = say(&mut agreed(chap()), 0, None, &format!("CHAP_A={offered}"));
        assert_eq!(refused(step), LoginStatus::AuthenticationFailure, "{offered}");
    }
}

#[test]
fn wrong_answers_are_all_refused_alike() {
    let wrong_secret = "CHAP_N=alice CHAP_R=0x00effa4c3b5a8df80d8f5e3379690f7b";
    let long_name = format!("CHAP_N={} CHAP_R=0x00", "a".repeat(256));
    let oversize = format!("CHAP_N=alice CHAP_R=0b{}", "A".repeat(1368));
    for answer in [
        wrong_secret,
        "CHAP_N=bob CHAP_R=0x3ceffa4c3b5a8df80d8f5e3379690f7b",
        // Right for an empty secret, which unknown users do not have.
        "CHAP_N=bob CHAP_R=0x2bb9497d42307a43ecb240705e9678ee",
        "CHAP_N=Alice CHAP_R=0x3ceffa4c3b5a8df80d8f5e3379690f7b",
        "CHAP_N= CHAP_R=0x3ceffa4c3b5a8df80d8f5e3379690f7b",
        "CHAP_N=alice CHAP_R=0x3ceffa4c3b5a8df80d8f5e3379690f",
        "CHAP_N=alice CHAP_R=0x3ceffa4c3b5a8df80d8f5e3379690f7b00",
        "CHAP_N=alice CHAP_R=0bb3ZlcnNpemUKPO/6TDtajfgNj14zeWkPew==",
        "CHAP_N=alice CHAP_R=3ceffa4c3b5a8df80d8f5e3379690f7b",
        "CHAP_N=alice CHAP_R=0x",
        "CHAP_N=alice CHAP_R=",
        "CHAP_N=alice",
        "CHAP_R=0x3ceffa4c3b5a8df80d8f5e3379690f7b",
        "CHAP_A=5",
        &long_name,
        &oversize,
    ] {
        let mut login = challenged(chap(), 5);
        // CHAP_A once more is a repeated key, not a wrong answer.
        let status = if answer.starts_with("CHAP_A") {
            LoginStatus::InitiatorError
        } else {
            LoginStatus::AuthenticationFailure
        };
        assert_eq!(refused(say(&mut login, 0, Some(1), answer)), status, "{answer}");
    }
}

#[test]
fn steps_out_of_order_are_refused() {
    assert_eq!(refused(say(&mut agreed(chap()), 0, Some(1), ALICE)), LoginStatus::AuthenticationFailure);
    let early = format!("CHAP_A=5 {ALICE}");
    assert_eq!(refused(say(&mut agreed(chap()), 0, Some(1), &early)), LoginStatus::AuthenticationFailure);
}

#[test]
fn the_stage_does_not_end_before_the_exchange() {
    let mut login = agreed(chap());
    assert!(!replied(say(&mut login, 0, Some(1), "")).transit);
    assert!(!replied(say(&mut login, 0, Some(3), "CHAP_A=5")).transit);
    assert!(!replied(say(&mut login, 0, Some(3), "")).transit);
    assert_eq!(
        refused(say(&mut login, 1, Some(3), "")),
        LoginStatus::InitiatorError,
        "no transition was agreed"
    );
}

#[test]
fn mutual_authentication_needs_an_account() {
    let answer = format!("{ALICE} CHAP_I=200 CHAP_C=0x808182838485868788898a8b8c8d8e8f");
    let step = say(&mut challenged(chap(), 5), 0, Some(1), &answer);
    assert_eq!(refused(step), LoginStatus::AuthenticationFailure);
}

#[test]
fn malformed_challenges_are_refused() {
    let oversize = format!("CHAP_I=1 CHAP_C=0b{}", "A".repeat(1368));
    for challenge in [
        "CHAP_I=200",
        "CHAP_C=0x8081",
        "CHAP_I=256 CHAP_C=0x8081",
        "CHAP_I=x CHAP_C=0x8081",
        "CHAP_I=1 CHAP_C=8081",
        "CHAP_I=1 CHAP_C=0x",
        &oversize,
    ] {
        let step = say(&mut challenged(mutual_chap(), 5), 0, Some(1), &format!("{ALICE} {challenge}"));
        assert_eq!(refused(step), LoginStatus::AuthenticationFailure, "{challenge}");
    }
}

#[test]
fn the_longest_challenge_is_answered() {
    for challenge in [format!("0x{}", "ab".repeat(1024)), format!("0b{}==", "A".repeat(1366))] {
        let answer = format!("{ALICE} CHAP_I=0xff CHAP_C={challenge}");
        assert!(replied(say(&mut challenged(mutual_chap(), 5), 0, Some(1), &answer)).transit);
    }
}

#[test]
fn our_own_challenge_is_not_answered() {
    for vector in &VECTORS {
        let Vector { response, challenge, .. } = vector;
        for identifier in [16, 17] {
            let answer = format!("CHAP_N=alice CHAP_R={response} CHAP_I={identifier} CHAP_C={challenge}");
            let step = say(&mut challenged(mutual_chap(), vector.number), 0, Some(1), &answer);
            assert_eq!(refused(step), LoginStatus::AuthenticationFailure);
        }
    }
}

#[test]
fn one_secret_for_both_directions_is_refused() {
    for vector in &VECTORS {
        let shared = ChapAccount { user: "alice".into(), secret: Secret::new(TARGET_SECRET) };
        let chap = Chap { accounts: vec![shared], ..mutual_chap() };
        let answer = format!("CHAP_N=alice CHAP_R={}", vector.reflected);
        let step = say(&mut challenged(chap.clone(), vector.number), 0, Some(1), &answer);
        assert_eq!(refused(step), LoginStatus::AuthenticationFailure);
        // It is the right secret: without mutual CHAP it would do.
        let one_way = Chap { mutual: None, ..chap };
        assert!(replied(say(&mut challenged(one_way, vector.number), 0, Some(1), &answer)).transit);
    }
}

#[test]
fn names_that_look_like_numbers_are_text() {
    for name in ["0xalice", "0Xff", "0bYWxpY2U=", "0BZm9v", "5", "Reject"] {
        let account = ChapAccount { user: name.into(), secret: Secret::new(login_support::SECRET) };
        let mut login = challenged(Chap::new(vec![account]), 5);
        let answer = format!("CHAP_N={name} CHAP_R={}", VECTORS[0].response);
        assert!(replied(say(&mut login, 0, Some(1), &answer)).transit, "{name}");
    }
}

#[test]
fn each_account_has_its_own_secret() {
    let bob = ChapAccount { user: "bob".into(), secret: Secret::new(b"another secret of bob") };
    let mut both = chap();
    both.accounts.insert(0, bob);
    assert!(replied(say(&mut challenged(both.clone(), 5), 0, Some(1), ALICE)).transit);
    let as_bob = ALICE.replace("alice", "bob");
    let step = say(&mut challenged(both, 5), 0, Some(1), &as_bob);
    assert_eq!(refused(step), LoginStatus::AuthenticationFailure);
}

#[test]
fn discovery_sessions_authenticate_too() {
    let mut login = login(Authentication::Chap(chap()));
    replied(say(&mut login, 0, None, &format!("{} AuthMethod=CHAP", login_support::DISCOVERY)));
    replied(say(&mut login, 0, None, "CHAP_A=5"));
    let (_, session) = finished(say(&mut login, 0, Some(3), ALICE));
    assert_eq!(session.user.as_deref(), Some("alice"));
}
