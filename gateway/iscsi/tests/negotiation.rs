//! Every login key, offer by offer (RFC 7143 §12, §13): what the target answers, and which parameters differ from
//! the RFC's defaults afterwards.

mod login_support;

use iscsi_target::login::{Login, LoginStatus};
use iscsi_target::parameters::{Parameters, SessionKind, TaskReporting};
use login_support::{DISCOVERY, NORMAL, finished, open_login, pairs, refused, replied, say};

/// What the initiator offers, what the target answers, and what is agreed other than by default.
type Row = (&'static str, &'static str, &'static str);

/// Offers in the operational stage of a normal session.
const NORMAL_SESSION: &[Row] = &[
    // Nothing offered: all defaults.
    ("", "", ""),
    // HeaderDigest and DataDigest (§13.1): the first of the initiator's list that we know.
    ("HeaderDigest=None", "HeaderDigest=None", ""),
    ("HeaderDigest=CRC32C", "HeaderDigest=CRC32C", "header_digest=true"),
    ("HeaderDigest=CRC32C,None", "HeaderDigest=CRC32C", "header_digest=true"),
    ("HeaderDigest=None,CRC32C", "HeaderDigest=None", ""),
    ("HeaderDigest=X-com.example,CRC32C", "HeaderDigest=CRC32C", "header_digest=true"),
    ("HeaderDigest=SHA1", "HeaderDigest=Reject", ""),
    ("HeaderDigest=", "HeaderDigest=Reject", ""),
    ("HeaderDigest=crc32c", "HeaderDigest=Reject", ""),
    ("DataDigest=CRC32C", "DataDigest=CRC32C", "data_digest=true"),
    ("DataDigest=None,CRC32C", "DataDigest=None", ""),
    ("DataDigest=CRC32C,None", "DataDigest=CRC32C", "data_digest=true"),
    ("DataDigest=CRC64,None", "DataDigest=None", ""),
    ("DataDigest=CRC32,CRC64", "DataDigest=Reject", ""),
    ("HeaderDigest=None DataDigest=CRC32C", "HeaderDigest=None DataDigest=CRC32C", "data_digest=true"),
    // MaxConnections (§13.2): minimum, 1 to 65535; we have one.
    ("MaxConnections=1", "MaxConnections=1", ""),
    ("MaxConnections=8", "MaxConnections=1", ""),
    ("MaxConnections=65535", "MaxConnections=1", ""),
    ("MaxConnections=0", "MaxConnections=Reject", ""),
    ("MaxConnections=65536", "MaxConnections=Reject", ""),
    // InitialR2T (§13.10): Yes if either side says so; we do not.
    ("InitialR2T=Yes", "InitialR2T=Yes", ""),
    ("InitialR2T=No", "InitialR2T=No", "initial_r2t=false"),
    ("InitialR2T=no", "InitialR2T=Reject", ""),
    ("InitialR2T=", "InitialR2T=Reject", ""),
    // ImmediateData (§13.11): Yes if both say so; we do.
    ("ImmediateData=Yes", "ImmediateData=Yes", ""),
    ("ImmediateData=No", "ImmediateData=No", "immediate_data=false"),
    ("ImmediateData=1", "ImmediateData=Reject", ""),
    // MaxRecvDataSegmentLength (§13.12): each side declares its own; no answer. 512 to 2^24-1.
    ("MaxRecvDataSegmentLength=512", "", "initiator_max_recv_data_segment_length=512"),
    ("MaxRecvDataSegmentLength=8192", "", ""),
    ("MaxRecvDataSegmentLength=0x40000", "", "initiator_max_recv_data_segment_length=262144"),
    ("MaxRecvDataSegmentLength=16777215", "", "initiator_max_recv_data_segment_length=16777215"),
    // MaxBurstLength (§13.13): minimum, 512 to 2^24-1; ours is 1 MiB.
    ("MaxBurstLength=512", "MaxBurstLength=512", "first_burst_length=512 max_burst_length=512"),
    ("MaxBurstLength=262144", "MaxBurstLength=262144", ""),
    ("MaxBurstLength=0X80000", "MaxBurstLength=524288", "max_burst_length=524288"),
    ("MaxBurstLength=1048576", "MaxBurstLength=1048576", "max_burst_length=1048576"),
    ("MaxBurstLength=16776192", "MaxBurstLength=1048576", "max_burst_length=1048576"),
    ("MaxBurstLength=16777215", "MaxBurstLength=1048576", "max_burst_length=1048576"),
    ("MaxBurstLength=511", "MaxBurstLength=Reject", ""),
    ("MaxBurstLength=16777216", "MaxBurstLength=Reject", ""),
    ("MaxBurstLength=-512", "MaxBurstLength=Reject", ""),
    ("MaxBurstLength=+512", "MaxBurstLength=Reject", ""),
    ("MaxBurstLength=0512", "MaxBurstLength=Reject", ""),
    ("MaxBurstLength=512k", "MaxBurstLength=Reject", ""),
    ("MaxBurstLength=0x", "MaxBurstLength=Reject", ""),
    ("MaxBurstLength=18446744073709552128", "MaxBurstLength=Reject", ""),
    ("MaxBurstLength=4294967808", "MaxBurstLength=Reject", ""),
    // FirstBurstLength (§13.14): minimum; never above MaxBurstLength; irrelevant without unsolicited data.
    ("FirstBurstLength=65536", "FirstBurstLength=65536", ""),
    ("FirstBurstLength=512", "FirstBurstLength=512", "first_burst_length=512"),
    ("FirstBurstLength=1048576", "FirstBurstLength=262144", "first_burst_length=262144"),
    ("FirstBurstLength=16777215", "FirstBurstLength=262144", "first_burst_length=262144"),
    ("FirstBurstLength=511", "FirstBurstLength=Reject", ""),
    (
        "FirstBurstLength=131072 MaxBurstLength=65536",
        "MaxBurstLength=65536 FirstBurstLength=65536",
        "max_burst_length=65536",
    ),
    (
        "MaxBurstLength=1048576 FirstBurstLength=1048576",
        "MaxBurstLength=1048576 FirstBurstLength=262144",
        "first_burst_length=262144 max_burst_length=1048576",
    ),
    (
        "InitialR2T=Yes ImmediateData=No FirstBurstLength=8192",
        "InitialR2T=Yes ImmediateData=No FirstBurstLength=Irrelevant",
        "immediate_data=false",
    ),
    (
        "FirstBurstLength=8192 ImmediateData=No InitialR2T=Yes",
        "ImmediateData=No InitialR2T=Yes FirstBurstLength=Irrelevant",
        "immediate_data=false",
    ),
    (
        "InitialR2T=No ImmediateData=No FirstBurstLength=8192",
        "InitialR2T=No ImmediateData=No FirstBurstLength=8192",
        "first_burst_length=8192 immediate_data=false initial_r2t=false",
    ),
    // DefaultTime2Wait (§13.15): maximum, 0 to 3600; ours is 2.
    ("DefaultTime2Wait=0", "DefaultTime2Wait=2", ""),
    ("DefaultTime2Wait=2", "DefaultTime2Wait=2", ""),
    ("DefaultTime2Wait=3600", "DefaultTime2Wait=3600", "default_time2wait=3600"),
    ("DefaultTime2Wait=3601", "DefaultTime2Wait=Reject", ""),
    // DefaultTime2Retain (§13.16): minimum, 0 to 3600; we retain nothing.
    ("DefaultTime2Retain=0", "DefaultTime2Retain=0", "default_time2retain=0"),
    ("DefaultTime2Retain=20", "DefaultTime2Retain=0", "default_time2retain=0"),
    ("DefaultTime2Retain=9999", "DefaultTime2Retain=Reject", ""),
    // MaxOutstandingR2T (§13.17): minimum, 1 to 65535; ours is 8.
    ("MaxOutstandingR2T=1", "MaxOutstandingR2T=1", ""),
    ("MaxOutstandingR2T=4", "MaxOutstandingR2T=4", "max_outstanding_r2t=4"),
    ("MaxOutstandingR2T=65535", "MaxOutstandingR2T=8", "max_outstanding_r2t=8"),
    ("MaxOutstandingR2T=0", "MaxOutstandingR2T=Reject", ""),
    // DataPDUInOrder and DataSequenceInOrder (§13.18, §13.19): Yes if either side says so; we do.
    ("DataPDUInOrder=Yes", "DataPDUInOrder=Yes", ""),
    ("DataPDUInOrder=No", "DataPDUInOrder=Yes", ""),
    ("DataPDUInOrder=Maybe", "DataPDUInOrder=Reject", ""),
    ("DataSequenceInOrder=Yes", "DataSequenceInOrder=Yes", ""),
    ("DataSequenceInOrder=No", "DataSequenceInOrder=Yes", ""),
    // ErrorRecoveryLevel (§13.20): minimum, 0 to 2; ours is 0.
    ("ErrorRecoveryLevel=0", "ErrorRecoveryLevel=0", ""),
    ("ErrorRecoveryLevel=2", "ErrorRecoveryLevel=0", ""),
    ("ErrorRecoveryLevel=3", "ErrorRecoveryLevel=Reject", ""),
    // SessionType (§13.21) and InitiatorAlias (§13.7) are declared; no answer.
    ("SessionType=Normal", "", ""),
    ("InitiatorAlias=the-one-in-the-corner", "", ""),
    // TaskReporting (§13.23): the first of the list that we know.
    ("TaskReporting=RFC3720", "TaskReporting=RFC3720", ""),
    ("TaskReporting=FastAbort,ResponseFence", "TaskReporting=ResponseFence", "task_reporting=ResponseFence"),
    ("TaskReporting=FastAbort,RFC3720", "TaskReporting=RFC3720", ""),
    ("TaskReporting=FastAbort", "TaskReporting=Reject", ""),
    // iSCSIProtocolLevel (§13.24): minimum, 0 to 31; ours is 1.
    ("iSCSIProtocolLevel=0", "iSCSIProtocolLevel=0", "protocol_level=0"),
    ("iSCSIProtocolLevel=1", "iSCSIProtocolLevel=1", ""),
    ("iSCSIProtocolLevel=2", "iSCSIProtocolLevel=1", ""),
    ("iSCSIProtocolLevel=32", "iSCSIProtocolLevel=Reject", ""),
    // Markers (§13.25) are obsolete, but known.
    ("IFMarker=No", "IFMarker=No", ""),
    ("IFMarker=Yes", "IFMarker=No", ""),
    ("OFMarker=Yes", "OFMarker=No", ""),
    ("OFMarkInt=2048~8192", "OFMarkInt=Reject", ""),
    ("IFMarkInt=2048~8192", "IFMarkInt=Reject", ""),
    // Unknown keys and extensions (§6.1, §13.22); names are case-sensitive.
    ("X-com.example.speed=ludicrous", "X-com.example.speed=NotUnderstood", ""),
    ("X#Obsolete=1", "X#Obsolete=NotUnderstood", ""),
    ("Colour=blue", "Colour=NotUnderstood", ""),
    ("Colour=", "Colour=NotUnderstood", ""),
    ("Colour=a=b", "Colour=NotUnderstood", ""),
    ("headerdigest=None", "headerdigest=NotUnderstood", ""),
    ("RDMAExtensions=Yes", "RDMAExtensions=NotUnderstood", ""),
    // NodeArchitecture (§13.26) is declared; no answer.
    ("X#NodeArchitecture=Linux/6.1,amd64", "", ""),
    // Keys that only targets send, or that have another time.
    ("TargetAlias=mine", "TargetAlias=Reject", ""),
    ("TargetAddress=10.0.0.1:3260,1", "TargetAddress=Reject", ""),
    ("TargetPortalGroupTag=1", "TargetPortalGroupTag=Reject", ""),
    ("SendTargets=All", "SendTargets=Reject", ""),
    ("AuthMethod=None", "AuthMethod=Reject", ""),
    ("CHAP_A=5", "CHAP_A=Reject", ""),
    // Answers to what we declared are not answered again.
    ("MaxRecvDataSegmentLength=NotUnderstood", "", ""),
    ("TargetPortalGroupTag=NotUnderstood", "", ""),
    ("MaxConnections=Irrelevant MaxConnections=2", "MaxConnections=1", ""),
    // What open-iscsi and libiscsi send by default.
    (
        "HeaderDigest=None DataDigest=None DefaultTime2Wait=2 DefaultTime2Retain=0 IFMarker=No OFMarker=No \
         ErrorRecoveryLevel=0 InitialR2T=No ImmediateData=Yes MaxBurstLength=16776192 FirstBurstLength=262144 \
         MaxOutstandingR2T=1 MaxConnections=1 DataPDUInOrder=Yes DataSequenceInOrder=Yes \
         MaxRecvDataSegmentLength=262144",
        "HeaderDigest=None DataDigest=None DefaultTime2Wait=2 DefaultTime2Retain=0 IFMarker=No OFMarker=No \
         ErrorRecoveryLevel=0 InitialR2T=No ImmediateData=Yes MaxBurstLength=1048576 MaxOutstandingR2T=1 \
         MaxConnections=1 DataPDUInOrder=Yes DataSequenceInOrder=Yes FirstBurstLength=262144",
        "default_time2retain=0 first_burst_length=262144 initial_r2t=false \
         initiator_max_recv_data_segment_length=262144 max_burst_length=1048576",
    ),
];

/// Offers in the operational stage of a discovery session.
const DISCOVERY_SESSION: &[Row] = &[
    ("HeaderDigest=CRC32C,None", "HeaderDigest=CRC32C", "header_digest=true"),
    ("DataDigest=None", "DataDigest=None", ""),
    ("MaxRecvDataSegmentLength=32768", "", "initiator_max_recv_data_segment_length=32768"),
    ("DefaultTime2Wait=5", "DefaultTime2Wait=5", "default_time2wait=5"),
    ("DefaultTime2Retain=5", "DefaultTime2Retain=0", "default_time2retain=0"),
    ("ErrorRecoveryLevel=1", "ErrorRecoveryLevel=0", ""),
    ("IFMarker=Yes", "IFMarker=No", ""),
    ("MaxConnections=2", "MaxConnections=Irrelevant", ""),
    ("InitialR2T=No", "InitialR2T=Irrelevant", ""),
    ("ImmediateData=No", "ImmediateData=Irrelevant", ""),
    ("MaxBurstLength=65536", "MaxBurstLength=Irrelevant", ""),
    ("FirstBurstLength=65536", "FirstBurstLength=Irrelevant", ""),
    ("MaxOutstandingR2T=2", "MaxOutstandingR2T=Irrelevant", ""),
    ("DataPDUInOrder=Yes", "DataPDUInOrder=Irrelevant", ""),
    ("DataSequenceInOrder=Yes", "DataSequenceInOrder=Irrelevant", ""),
    ("TaskReporting=RFC3720", "TaskReporting=Irrelevant", ""),
    ("iSCSIProtocolLevel=2", "iSCSIProtocolLevel=Irrelevant", ""),
    ("MaxConnections=0", "MaxConnections=Irrelevant", ""),
    ("SendTargets=All", "SendTargets=Reject", ""),
];

/// Offers in the security stage of a normal session without authentication.
const SECURITY_STAGE: &[Row] = &[
    ("AuthMethod=None", "AuthMethod=None", ""),
    ("AuthMethod=CHAP,None", "AuthMethod=None", ""),
    ("AuthMethod=KRB5,SRP,None,CHAP", "AuthMethod=None", ""),
    ("MaxRecvDataSegmentLength=65536", "", "initiator_max_recv_data_segment_length=65536"),
    ("InitiatorAlias=x", "", ""),
    ("HeaderDigest=CRC32C", "HeaderDigest=Reject", ""),
    ("MaxBurstLength=65536", "MaxBurstLength=Reject", ""),
    ("Colour=blue", "Colour=NotUnderstood", ""),
];

/// Messages that end the login with status 0200.
const ERRORS: &[&str] = &[
    "HeaderDigest=None HeaderDigest=None",
    "MaxBurstLength=65536 MaxBurstLength=65536",
    "InitiatorAlias=a InitiatorAlias=b",
    "SessionType=Normal SessionType=Normal",
    "TargetName=iqn.2026-11.test:other",
    "MaxRecvDataSegmentLength=8192 MaxRecvDataSegmentLength=8192",
    "MaxRecvDataSegmentLength=511",
    "MaxRecvDataSegmentLength=16777216",
    "MaxRecvDataSegmentLength=much",
    "NoEqualsSign",
    "=value",
    "Spaced\tKey=1",
];

#[test]
fn the_table_has_enough_rows() {
    assert!(NORMAL_SESSION.len() + DISCOVERY_SESSION.len() + SECURITY_STAGE.len() >= 80);
}

#[test]
fn normal_sessions_negotiate_by_the_table() {
    for row in NORMAL_SESSION {
        let prefix = "TargetPortalGroupTag=7";
        check(row, finished(say(&mut open_login(), 1, Some(3), &format!("{NORMAL} {}", row.0))), prefix);
    }
}

#[test]
fn discovery_sessions_negotiate_by_the_table() {
    for row in DISCOVERY_SESSION {
        check(row, finished(say(&mut open_login(), 1, Some(3), &format!("{DISCOVERY} {}", row.0))), "");
    }
}

/// Compares answers and agreement of a login that took one request.
fn check(
    (offer, answer, agreed): &Row,
    (reply, session): (iscsi_target::login::LoginReply, iscsi_target::parameters::Negotiated),
    prefix: &str,
) {
    let segment_length = if session.kind == SessionKind::Discovery { 65_536 } else { 262_144 };
    let expected = format!("{prefix} {answer} MaxRecvDataSegmentLength={segment_length}");
    let expected = expected.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(pairs(&reply.data), expected, "answer to {offer:?}");
    assert_eq!(session.parameters.target_max_recv_data_segment_length, segment_length);
    assert_eq!(difference(&session.parameters), *agreed, "agreed after {offer:?}");
}

#[test]
fn the_security_stage_negotiates_by_the_table() {
    for (offer, answer, agreed) in SECURITY_STAGE {
        let mut login = open_login();
        let reply = replied(say(&mut login, 0, Some(1), &format!("{NORMAL} {offer}")));
        assert!(reply.transit && reply.nsg == 1, "{offer}");
        assert_eq!(pairs(&reply.data), format!("TargetPortalGroupTag=7 {answer}").trim_end(), "{offer}");
        let (reply, session) = finished(say(&mut login, 1, Some(3), ""));
        assert_eq!(pairs(&reply.data), "MaxRecvDataSegmentLength=262144");
        assert_eq!(difference(&session.parameters), *agreed, "agreed after {offer:?}");
    }
}

#[test]
fn a_key_refused_in_the_security_stage_may_be_offered_in_time() {
    let mut login = open_login();
    replied(say(&mut login, 0, Some(1), &format!("{NORMAL} HeaderDigest=CRC32C")));
    let (reply, session) = finished(say(&mut login, 1, Some(3), "HeaderDigest=CRC32C"));
    assert_eq!(pairs(&reply.data), "HeaderDigest=CRC32C MaxRecvDataSegmentLength=262144");
    assert!(session.parameters.header_digest);
}

#[test]
fn repeated_and_malformed_keys_end_the_login() {
    for offer in ERRORS {
        let step = say(&mut open_login(), 1, Some(3), &format!("{NORMAL} {offer}"));
        assert_eq!(refused(step), LoginStatus::InitiatorError, "{offer}");
    }
}

#[test]
fn a_key_repeated_in_a_later_request_ends_the_login() {
    let mut login = operational(&format!("{NORMAL} MaxBurstLength=65536"));
    assert_eq!(refused(say(&mut login, 1, Some(3), "MaxBurstLength=65536")), LoginStatus::InitiatorError);
}

#[test]
fn leading_keys_belong_in_the_first_request() {
    for late in ["SessionType=Discovery", "InitiatorName=iqn.other", "TargetName=iqn.2026-11.test:other"] {
        let mut login = operational(NORMAL);
        assert_eq!(refused(say(&mut login, 1, Some(3), late)), LoginStatus::InitiatorError, "{late}");
    }
}

#[test]
fn first_burst_stays_within_a_burst_agreed_later() {
    let mut login = operational(&format!("{NORMAL} FirstBurstLength=262144"));
    let (_, session) = finished(say(&mut login, 1, Some(3), "MaxBurstLength=65536"));
    assert_eq!(session.parameters.first_burst_length, 65_536);
    assert_eq!(session.parameters.max_burst_length, 65_536);
}

#[test]
fn the_target_declares_its_segment_length_once() {
    let mut login = open_login();
    let reply = replied(say(&mut login, 1, None, NORMAL));
    assert_eq!(pairs(&reply.data), "TargetPortalGroupTag=7 MaxRecvDataSegmentLength=262144");
    let (reply, _) = finished(say(&mut login, 1, Some(3), "ErrorRecoveryLevel=0"));
    assert_eq!(pairs(&reply.data), "ErrorRecoveryLevel=0");
}

#[test]
fn aliases_are_kept() {
    let offer = format!("{NORMAL} InitiatorAlias=the-one-in-the-corner");
    let (_, session) = finished(say(&mut open_login(), 1, Some(3), &offer));
    assert_eq!(session.initiator_alias.as_deref(), Some("the-one-in-the-corner"));
    let offer = format!("{NORMAL} InitiatorAlias={}", "x".repeat(256));
    assert_eq!(refused(say(&mut open_login(), 1, Some(3), &offer)), LoginStatus::InitiatorError);
}

/// A login that stays in the operational stage after its first request.
fn operational(first: &str) -> Login {
    let mut login = open_login();
    let reply = replied(say(&mut login, 1, None, first));
    assert!(!reply.transit);
    login
}

/// The parameters that are not the RFC's defaults, by name, except the segment length we declare ourselves.
fn difference(agreed: &Parameters) -> String {
    let default = Parameters::default();
    let mut names = Vec::new();
    macro_rules! compare {
        ($($name:ident)*) => {
            $(if agreed.$name != default.$name {
                names.push(format!("{}={:?}", stringify!($name), agreed.$name));
            })*
        };
    }
    compare!(data_digest data_pdu_in_order data_sequence_in_order default_time2retain default_time2wait
        error_recovery_level first_burst_length header_digest immediate_data initial_r2t
        initiator_max_recv_data_segment_length max_burst_length max_connections max_outstanding_r2t
        protocol_level task_reporting);
    assert_eq!(default.task_reporting, TaskReporting::Rfc3720);
    names.join(" ")
}
