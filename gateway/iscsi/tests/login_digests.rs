//! Digests as the target's policy has them (RFC 7143 §13.1), whatever the initiator prefers.

mod login_support;

use iscsi_target::DigestPolicy;
use iscsi_target::login::RefusalReason;
use login_support::{INITIATOR, NORMAL, TARGET, finished, login_with_digests, pairs, refusal, replied, say};

/// What is answered to an offer of both digests, and whether they are agreed on.
fn agreed(policy: DigestPolicy, offer: &str) -> (String, bool, bool) {
    let mut login = login_with_digests(policy);
    let keys = format!("{NORMAL} HeaderDigest={offer} DataDigest={offer}");
    let (reply, session) = finished(say(&mut login, 1, Some(3), &keys));
    let answer = pairs(&reply.data);
    let value = answer.split("HeaderDigest=").nth(1).and_then(|rest| rest.split(' ').next());
    let value = value.expect("HeaderDigest is answered");
    (value.to_owned(), session.parameters.header_digest, session.parameters.data_digest)
}

#[test]
fn the_initiator_prefers_unless_the_target_insists() {
    for (policy, offer, answer) in [
        (DigestPolicy::Allowed, "CRC32C,None", "CRC32C"),
        (DigestPolicy::Allowed, "None,CRC32C", "None"),
        (DigestPolicy::Required, "None,CRC32C", "CRC32C"),
        (DigestPolicy::Off, "CRC32C,None", "None"),
        (DigestPolicy::Off, "CRC32C", "Reject"),
    ] {
        let has_digests = answer == "CRC32C";
        assert_eq!(agreed(policy, offer), (answer.into(), has_digests, has_digests), "{policy:?} {offer}");
    }
}

#[test]
fn required_digests_that_are_not_offered_end_the_login_and_the_report_names_both_sides() {
    for keys in ["HeaderDigest=None", "HeaderDigest=CRC32C", "DataDigest=CRC32C", "InitialR2T=Yes"] {
        let mut login = login_with_digests(DigestPolicy::Required);
        let refused = refusal(say(&mut login, 1, Some(3), &format!("{NORMAL} {keys}")));
        assert_eq!(refused.reason, RefusalReason::DigestsRequired, "{keys}");
        assert_eq!(refused.reason.status() as u16, 0x0200);
        assert_eq!(
            (refused.initiator.as_deref(), refused.target.as_deref()),
            (Some(INITIATOR), Some(TARGET))
        );
    }
}

#[test]
fn required_digests_may_be_offered_one_request_after_the_other_but_not_skipped() {
    let mut login = login_with_digests(DigestPolicy::Required);
    replied(say(&mut login, 1, None, &format!("{NORMAL} HeaderDigest=CRC32C")));
    let (_, session) = finished(say(&mut login, 1, Some(3), "DataDigest=CRC32C"));
    assert!(session.parameters.header_digest && session.parameters.data_digest);
    let mut login = login_with_digests(DigestPolicy::Required);
    let refused = refusal(say(&mut login, 0, Some(3), &format!("{NORMAL} AuthMethod=None")));
    assert_eq!(refused.reason, RefusalReason::DigestsRequired);
}
