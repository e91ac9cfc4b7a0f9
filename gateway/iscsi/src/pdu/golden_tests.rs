//! Golden bytes: each kind of PDU as the figures of RFC 7143 §11 draw it, built and parsed.

use super::*;
use crate::lun::Lun;

/// Twelve words, as in the RFC's figures.
fn words(text: &str) -> BasicHeader {
    let digits: Vec<u32> =
        text.split_whitespace().map(|word| u32::from_str_radix(word, 16).unwrap()).collect();
    let bytes: Vec<u8> = digits.iter().flat_map(|word| word.to_be_bytes()).collect();
    BasicHeader::from_bytes(bytes.try_into().unwrap())
}

macro_rules! assert_golden {
    ($type:ident $fields:tt, $words:literal) => {
        let pdu = $type $fields;
        assert_eq!(pdu.build(), words($words), "built");
        assert_eq!($type::parse(&words($words)), pdu, "parsed");
    };
}

const LUN_3: Lun = Lun::from_bytes([0, 3, 0, 0, 0, 0, 0, 0]);
const NUMBERS: SequenceNumbers =
    SequenceNumbers { stat_sn: 0x0a0b_0c0d, exp_cmd_sn: 0x1112_1314, max_cmd_sn: 0x2122_2324 };
const TAG: u32 = 0x7172_7374;

#[test]
fn nop_out_and_nop_in() {
    assert_golden!(
        NopOutPdu {
            immediate: true,
            lun: LUN_3,
            initiator_task_tag: TAG,
            target_transfer_tag: RESERVED_TAG,
            cmd_sn: 0x31,
            exp_stat_sn: 0x41,
        },
        "40800000 00000000 00030000 00000000 71727374 ffffffff 00000031 00000041 0 0 0 0"
    );
    assert_golden!(
        NopInPdu {
            lun: LUN_3,
            initiator_task_tag: RESERVED_TAG,
            target_transfer_tag: TAG,
            sequence: NUMBERS,
        },
        "20800000 00000000 00030000 00000000 ffffffff 71727374 0a0b0c0d 11121314 21222324 0 0 0"
    );
}

#[test]
fn scsi_command() {
    let cdb = [0x2a, 0, 0, 0, 0, 8, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xee];
    assert_golden!(
        ScsiCommandPdu {
            immediate: false,
            is_final: true,
            read: false,
            write: true,
            attribute: TaskAttribute::Simple,
            lun: LUN_3,
            initiator_task_tag: TAG,
            expected_data_transfer_length: 512,
            cmd_sn: 0x31,
            exp_stat_sn: 0x41,
            cdb,
        },
        "01a10000 00000000 00030000 00000000 71727374 00000200 00000031 00000041
        2a000000 00080000 01000000 000000ee"
    );
    assert_golden!(
        ScsiCommandPdu {
            immediate: true,
            is_final: false,
            read: true,
            write: false,
            attribute: TaskAttribute::HeadOfQueue,
            lun: LUN_3,
            initiator_task_tag: TAG,
            expected_data_transfer_length: 0,
            cmd_sn: 0x31,
            exp_stat_sn: 0x41,
            cdb: [0; 16],
        },
        "41430000 00000000 00030000 00000000 71727374 00000000 00000031 00000041 0 0 0 0"
    );
}

#[test]
fn scsi_response() {
    assert_golden!(
        ScsiResponsePdu {
            response: 0,
            status: ScsiStatus::CheckCondition,
            residual: Residual::Underflow(0x200),
            initiator_task_tag: TAG,
            sequence: NUMBERS,
            exp_data_sn: 5,
        },
        "21820002 00000000 0 0 71727374 00000000 0a0b0c0d 11121314 21222324 00000005 00000000 00000200"
    );
    assert_golden!(
        ScsiResponsePdu {
            response: 0,
            status: ScsiStatus::Good,
            residual: Residual::Overflow(1),
            initiator_task_tag: TAG,
            sequence: NUMBERS,
            exp_data_sn: 0,
        },
        "21840000 00000000 0 0 71727374 00000000 0a0b0c0d 11121314 21222324 00000000 00000000 00000001"
    );
}

#[test]
fn task_management() {
    assert_golden!(
        TaskManagementRequestPdu {
            immediate: true,
            function: TaskFunction::AbortTask,
            lun: LUN_3,
            initiator_task_tag: TAG,
            referenced_task_tag: 0x51,
            cmd_sn: 0x31,
            exp_stat_sn: 0x41,
            ref_cmd_sn: 0x30,
            exp_data_sn: 2,
        },
        "42810000 00000000 00030000 00000000 71727374 00000051 00000031 00000041 00000030 00000002 0 0"
    );
    assert_golden!(
        TaskManagementResponsePdu {
            response: TaskManagementResponse::FunctionUnsupported,
            initiator_task_tag: TAG,
            sequence: NUMBERS,
        },
        "22800500 00000000 0 0 71727374 00000000 0a0b0c0d 11121314 21222324 0 0 0"
    );
}

#[test]
fn data_out_data_in_and_r2t() {
    assert_golden!(
        DataOutPdu {
            is_final: true,
            lun: LUN_3,
            initiator_task_tag: TAG,
            target_transfer_tag: 0x61,
            exp_stat_sn: 0x41,
            data_sn: 3,
            buffer_offset: 0x4000,
        },
        "05800000 00000000 00030000 00000000 71727374 00000061 00000000 00000041
        00000000 00000003 00004000 00000000"
    );
    assert_golden!(
        DataInPdu {
            is_final: true,
            status: Some((ScsiStatus::Good, Residual::Underflow(0x10))),
            initiator_task_tag: TAG,
            sequence: NUMBERS,
            data_sn: 3,
            buffer_offset: 0x4000,
        },
        "25830000 00000000 0 0 71727374 ffffffff 0a0b0c0d 11121314 21222324 00000003 00004000 00000010"
    );
    assert_golden!(
        R2tPdu {
            lun: LUN_3,
            initiator_task_tag: TAG,
            target_transfer_tag: 0x61,
            sequence: NUMBERS,
            r2t_sn: 2,
            buffer_offset: 0x4000,
            desired_data_transfer_length: 0x8000,
        },
        "31800000 00000000 00030000 00000000 71727374 00000061 0a0b0c0d 11121314 21222324
        00000002 00004000 00008000"
    );
}

#[test]
fn asynchronous_messages() {
    assert_golden!(
        AsyncMessagePdu {
            lun: Lun::ZERO,
            event: AsyncEvent::LogoutRequested { seconds: 5 },
            sequence: NUMBERS,
        },
        "32800000 0 0 0 ffffffff 0 0a0b0c0d 11121314 21222324 01000000 00000005 0"
    );
    assert_golden!(
        AsyncMessagePdu {
            lun: Lun::ZERO,
            event: AsyncEvent::ConnectionDropped {
                connection_id: 1,
                time_to_wait_seconds: 2,
                time_to_retain_seconds: 3,
            },
            sequence: NUMBERS,
        },
        "32800000 0 0 0 ffffffff 0 0a0b0c0d 11121314 21222324 02000001 00020003 0"
    );
    assert_golden!(
        AsyncMessagePdu { lun: LUN_3, event: AsyncEvent::Scsi, sequence: NUMBERS },
        "32800000 00000000 00030000 00000000 ffffffff 0 0a0b0c0d 11121314 21222324 0 0 0"
    );
}

#[test]
fn text() {
    assert_golden!(
        TextRequestPdu {
            immediate: false,
            is_final: true,
            continues: false,
            lun: Lun::ZERO,
            initiator_task_tag: TAG,
            target_transfer_tag: RESERVED_TAG,
            cmd_sn: 0x31,
            exp_stat_sn: 0x41,
        },
        "04800000 0 0 0 71727374 ffffffff 00000031 00000041 0 0 0 0"
    );
    assert_golden!(
        TextResponsePdu {
            is_final: false,
            continues: true,
            lun: Lun::ZERO,
            initiator_task_tag: TAG,
            target_transfer_tag: 0x61,
            sequence: NUMBERS,
        },
        "24400000 0 0 0 71727374 00000061 0a0b0c0d 11121314 21222324 0 0 0"
    );
}

#[test]
fn login() {
    assert_golden!(
        LoginRequestPdu {
            transit: true,
            continues: false,
            current_stage: 1,
            next_stage: 3,
            version_max: 0,
            version_min: 0,
            isid: [0x80, 1, 2, 3, 4, 5],
            tsih: 0x0607,
            initiator_task_tag: TAG,
            connection_id: 9,
            cmd_sn: 0x31,
            exp_stat_sn: 0x41,
        },
        "43870000 0 80010203 04050607 71727374 00090000 00000031 00000041 0 0 0 0"
    );
    assert_golden!(
        LoginResponsePdu {
            transit: true,
            continues: false,
            current_stage: 1,
            next_stage: 3,
            isid: [0x80, 1, 2, 3, 4, 5],
            tsih: 0x0607,
            initiator_task_tag: TAG,
            sequence: NUMBERS,
            status: 0x0201,
        },
        "23870000 0 80010203 04050607 71727374 0 0a0b0c0d 11121314 21222324 02010000 0 0"
    );
}

#[test]
fn logout() {
    assert_golden!(
        LogoutRequestPdu {
            immediate: true,
            reason: LogoutReason::CloseConnection,
            initiator_task_tag: TAG,
            connection_id: 9,
            cmd_sn: 0x31,
            exp_stat_sn: 0x41,
        },
        "46810000 0 0 0 71727374 00090000 00000031 00000041 0 0 0 0"
    );
    assert_golden!(
        LogoutResponsePdu {
            response: LogoutResponse::RecoveryUnsupported,
            initiator_task_tag: TAG,
            sequence: NUMBERS,
            time_to_wait_seconds: 2,
        },
        "26800200 0 0 0 71727374 0 0a0b0c0d 11121314 21222324 0 00020000 0"
    );
}

#[test]
fn snack_and_reject() {
    assert_golden!(
        SnackPdu {
            kind: 1,
            lun: LUN_3,
            initiator_task_tag: TAG,
            target_transfer_tag: RESERVED_TAG,
            exp_stat_sn: 0x41,
            begin: 7,
            length: 2,
        },
        "10810000 00000000 00030000 00000000 71727374 ffffffff 00000000 00000041 0 0 00000007 00000002"
    );
    assert_golden!(
        RejectPdu { reason: RejectReason::DataDigestError, sequence: NUMBERS, data_sn: 0 },
        "3f800200 0 0 0 ffffffff 0 0a0b0c0d 11121314 21222324 0 0 0"
    );
}

#[test]
fn lengths_do_not_disturb_each_other() {
    let mut header = BasicHeader::new(Opcode::ScsiCommand, 0xff);
    header.set_data_segment_length(0x0001_0203);
    header.set_additional_header_words(7);
    assert_eq!(header.data_segment_length(), 0x0001_0203);
    assert_eq!(header.additional_header_bytes(), 28);
    assert_eq!(header.as_bytes()[4..8], [7, 1, 2, 3]);
}

#[test]
fn codes_survive_parsing_and_building() {
    for code in 0..0x40 {
        assert_eq!(Opcode::from_code(code).code(), code);
    }
    for status in 0..=255 {
        assert_eq!(ScsiStatus::from_code(status).code(), status);
    }
    for byte in 0..=255 {
        let header = BasicHeader::new(Opcode::NopOut, byte);
        assert_eq!(ScsiCommandPdu::parse(&header).build().flags(), byte & 0xe7);
        assert_eq!(TaskManagementRequestPdu::parse(&header).build().flags(), byte | 0x80);
        assert_eq!(LogoutRequestPdu::parse(&header).build().flags(), byte | 0x80);
    }
}

#[test]
fn residuals_are_exact() {
    assert_eq!(Residual::between(512, 512), Residual::None);
    assert_eq!(Residual::between(512, 0), Residual::Underflow(512));
    assert_eq!(Residual::between(512, 4096), Residual::Overflow(3584));
    assert_eq!(Residual::between(0, u64::MAX), Residual::Overflow(u32::MAX));
    assert_eq!(Residual::between(u32::MAX, 1), Residual::Underflow(u32::MAX - 1));
}
