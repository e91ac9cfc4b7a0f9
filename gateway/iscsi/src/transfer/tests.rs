//! Write transfers, Data-Out by Data-Out.

use bytes::Bytes;
use proptest::prelude::{any, prop_assert_eq, proptest};

use super::*;
use crate::lun::Lun;
use crate::pdu::{BasicHeader, Opcode, TaskAttribute};

const LIMITS: TransferLimits = TransferLimits { max_burst_length: 1000, max_outstanding_r2t: 2 };
const COPIED: usize = 16;

fn command(length: u32, is_final: bool) -> ScsiCommandPdu {
    ScsiCommandPdu {
        immediate: false,
        is_final,
        read: false,
        write: true,
        attribute: TaskAttribute::Simple,
        lun: Lun::ZERO,
        initiator_task_tag: 1,
        expected_data_transfer_length: length,
        cmd_sn: 1,
        exp_stat_sn: 1,
        cdb: [0; 16],
    }
}

fn parameters() -> Parameters {
    Parameters { first_burst_length: 600, initial_r2t: false, immediate_data: true, ..Parameters::default() }
}

fn begin(length: u32, is_final: bool, immediate: usize) -> WriteTransfer {
    let frame = frame(bytes(0, immediate), true);
    WriteTransfer::begin(&command(length, is_final), &frame, &parameters(), COPIED)
}

/// The frame of these data, with their sums if they are intact.
fn frame(data: Vec<u8>, data_is_intact: bool) -> Frame {
    let pieces = data.chunks(PIECE_BYTES).filter(|_| data_is_intact);
    Frame {
        header: BasicHeader::new(Opcode::DataOut, 0),
        additional_header: Bytes::new(),
        piece_crcs: pieces.map(crc32c::crc32c).collect(),
        data: data.into(),
        data_is_intact,
    }
}

/// What belongs at this offset: no two nearby bytes are equal.
fn bytes(offset: usize, length: usize) -> Vec<u8> {
    (offset..offset + length).map(|at| (at % 251) as u8).collect()
}

/// A Data-Out at its place: tag, DataSN, offset, length, F.
fn send(transfer: &mut WriteTransfer, tag: u32, data_sn: u32, offset: u32, length: usize, is_final: bool) {
    let pdu = DataOutPdu {
        is_final,
        lun: Lun::ZERO,
        initiator_task_tag: 1,
        target_transfer_tag: tag,
        exp_stat_sn: 1,
        data_sn,
        buffer_offset: offset,
    };
    transfer.receive(&pdu, frame(bytes(offset as usize, length), true), COPIED);
}

fn assert_complete(transfer: &mut WriteTransfer, length: usize) {
    let payload = transfer.take_outcome().expect("complete").expect("intact");
    assert_eq!(payload.to_vec(), bytes(0, length));
    assert!(transfer.take_outcome().is_none(), "once");
}

fn assert_fails(transfer: &mut WriteTransfer, failure: DataFailure) {
    assert_eq!(transfer.take_outcome().expect("over").expect_err("failed"), failure);
}

#[test]
fn immediate_data_alone_completes() {
    let mut transfer = begin(512, true, 512);
    assert_eq!(transfer.complete_immediate_data().unwrap().to_vec(), bytes(0, 512));
    transfer.want(512);
    assert_eq!(transfer.solicit(9, &LIMITS), None);
    assert_complete(&mut transfer, 512);
}

#[test]
fn all_three_kinds_of_data_follow_each_other() {
    let mut transfer = begin(2600, false, 100);
    assert!(transfer.complete_immediate_data().is_none());
    transfer.want(2600);
    assert_eq!(transfer.solicit(9, &LIMITS), None, "not before the unsolicited data has ended");
    send(&mut transfer, RESERVED_TAG, 0, 100, 10, false);
    send(&mut transfer, RESERVED_TAG, 1, 110, 490, true);
    assert_eq!(transfer.solicit(10, &LIMITS), Some(Solicitation { offset: 600, length: 1000 }));
    assert_eq!(transfer.solicit(11, &LIMITS), Some(Solicitation { offset: 1600, length: 1000 }));
    assert_eq!(transfer.solicit(12, &LIMITS), None);
    send(&mut transfer, 10, 0, 600, 1000, true);
    assert!(transfer.take_outcome().is_none());
    for (data_sn, offset) in (1600..2600).step_by(10).enumerate() {
        send(&mut transfer, 11, data_sn as u32, offset, 10, offset == 2590);
    }
    assert_complete(&mut transfer, 2600);
}

#[test]
fn r2ts_outstanding_are_limited() {
    let mut transfer = begin(5000, true, 0);
    transfer.want(5000);
    assert!(transfer.solicit(1, &LIMITS).is_some() && transfer.solicit(2, &LIMITS).is_some());
    assert!(transfer.solicit(3, &LIMITS).is_none());
    send(&mut transfer, 1, 0, 0, 1000, true);
    assert_eq!(transfer.solicit(3, &LIMITS), Some(Solicitation { offset: 2000, length: 1000 }));
}

#[test]
fn less_than_sent_or_expected_may_be_wanted() {
    let mut transfer = begin(600, true, 600);
    transfer.want(100);
    assert_complete(&mut transfer, 100);
    let mut transfer = begin(600, true, 100);
    transfer.want(300);
    assert_eq!(transfer.solicit(1, &LIMITS), Some(Solicitation { offset: 100, length: 200 }));
    send(&mut transfer, 1, 0, 100, 200, true);
    assert_complete(&mut transfer, 300);
    let mut transfer = begin(200, true, 200);
    transfer.want(300);
    assert_complete(&mut transfer, 200);
}

#[test]
fn gaps_and_wrong_places_fail_when_the_burst_ends() {
    for (data_sn, offset) in [(1, 0), (0, 1), (0, 500), (u32::MAX, 0)] {
        let mut transfer = begin(1000, true, 0);
        transfer.want(1000);
        transfer.solicit(7, &LIMITS).unwrap();
        send(&mut transfer, 7, data_sn, offset, 500, false);
        assert!(transfer.take_outcome().is_none(), "the burst has not ended");
        send(&mut transfer, 7, 1, 500, 500, true);
        assert_fails(&mut transfer, DataFailure::ProtocolServiceCrc);
    }
}

#[test]
fn a_repeated_data_out_fails() {
    let mut transfer = begin(1000, true, 0);
    transfer.want(1000);
    transfer.solicit(7, &LIMITS).unwrap();
    send(&mut transfer, 7, 0, 0, 500, false);
    send(&mut transfer, 7, 0, 0, 500, false);
    send(&mut transfer, 7, 1, 500, 500, true);
    assert_fails(&mut transfer, DataFailure::ProtocolServiceCrc);
}

#[test]
fn damage_fails() {
    let damaged = frame(bytes(0, 512), false);
    let mut transfer = WriteTransfer::begin(&command(512, true), &damaged, &parameters(), COPIED);
    assert!(transfer.complete_immediate_data().is_none());
    transfer.want(512);
    assert_eq!(transfer.to_solicit(), 0);
    assert_fails(&mut transfer, DataFailure::ProtocolServiceCrc);
}

#[test]
fn too_much_and_too_little_fail() {
    for length in [999, 1001] {
        let mut transfer = begin(1500, true, 0);
        transfer.want(1000);
        transfer.solicit(7, &LIMITS).unwrap();
        send(&mut transfer, 7, 0, 0, length, true);
        assert_fails(&mut transfer, DataFailure::IncorrectAmount);
    }
    let mut unsolicited_too_short = begin(1000, false, 0);
    unsolicited_too_short.want(1000);
    send(&mut unsolicited_too_short, RESERVED_TAG, 0, 0, 599, true);
    assert_fails(&mut unsolicited_too_short, DataFailure::IncorrectAmount);
    let mut immediate_too_long = begin(1000, false, 601);
    immediate_too_long.want(1000);
    assert_fails(&mut immediate_too_long, DataFailure::IncorrectAmount);
}

#[test]
fn unsolicited_data_must_be_allowed() {
    let mut after_final = begin(1000, true, 100);
    send(&mut after_final, RESERVED_TAG, 0, 100, 100, true);
    after_final.want(1000);
    assert_fails(&mut after_final, DataFailure::UnexpectedUnsolicitedData);

    let no_immediate = Parameters { immediate_data: false, ..parameters() };
    let data = frame(bytes(0, 100), true);
    let mut transfer = WriteTransfer::begin(&command(100, true), &data, &no_immediate, COPIED);
    transfer.want(100);
    assert_fails(&mut transfer, DataFailure::UnexpectedUnsolicitedData);

    let initial_r2t = Parameters { initial_r2t: true, ..parameters() };
    let empty = frame(Vec::new(), true);
    let mut transfer = WriteTransfer::begin(&command(100, false), &empty, &initial_r2t, COPIED);
    transfer.want(100);
    assert!(transfer.take_outcome().is_none(), "what was announced is waited for");
    send(&mut transfer, RESERVED_TAG, 0, 0, 100, true);
    assert_fails(&mut transfer, DataFailure::UnexpectedUnsolicitedData);
}

#[test]
fn answers_to_r2ts_must_keep_their_order() {
    let mut transfer = begin(2000, true, 0);
    transfer.want(2000);
    transfer.solicit(1, &LIMITS).unwrap();
    transfer.solicit(2, &LIMITS).unwrap();
    send(&mut transfer, 2, 0, 1000, 1000, true);
    assert!(transfer.take_outcome().is_none());
    send(&mut transfer, 1, 0, 0, 1000, true);
    assert_fails(&mut transfer, DataFailure::ProtocolServiceCrc);
}

#[test]
fn small_payloads_do_not_pin_their_buffers() {
    let mut transfer = begin(1000, true, 0);
    transfer.want(1000);
    transfer.solicit(1, &LIMITS).unwrap();
    for at in 0..1000 {
        send(&mut transfer, 1, at, at, 1, at == 999);
    }
    let payload = transfer.take_outcome().unwrap().unwrap();
    assert_eq!(payload.segments().len(), 1);
    assert_eq!(payload.to_vec(), bytes(0, 1000));
}

#[test]
fn a_read_has_no_write_data() {
    let pdu = ScsiCommandPdu { write: false, read: true, ..command(512, true) };
    let stray = frame(b"stray".to_vec(), true);
    let mut transfer = WriteTransfer::begin(&pdu, &stray, &parameters(), COPIED);
    assert!(transfer.complete_immediate_data().is_none());
    transfer.want(512);
    assert_complete(&mut transfer, 0);
}

/// The CRCs of a payload that came in PDUs that end at `ends`; below `copied` bytes they are copied. A PDU whose number is
/// not in `summed` has none.
fn received_crcs(ends: &[usize], summed: impl Fn(usize) -> bool, copied: usize, wanted: usize) -> PieceCrcs {
    let length = *ends.last().unwrap();
    let nothing = frame(Vec::new(), true);
    let mut transfer = WriteTransfer::begin(&command(length as u32, true), &nothing, &parameters(), copied);
    transfer.want(length as u32);
    transfer.solicit(1, &TransferLimits { max_burst_length: 1 << 24, max_outstanding_r2t: 1 }).unwrap();
    let begins = [0].iter().chain(ends);
    for (data_sn, (from, to)) in begins.zip(ends).enumerate() {
        let pdu = DataOutPdu {
            is_final: data_sn == ends.len() - 1,
            lun: Lun::ZERO,
            initiator_task_tag: 1,
            target_transfer_tag: 1,
            exp_stat_sn: 1,
            data_sn: data_sn as u32,
            buffer_offset: *from as u32,
        };
        let mut frame = frame(bytes(*from, to - from), true);
        if !summed(data_sn) {
            frame.piece_crcs.clear();
        }
        transfer.receive(&pdu, frame, copied);
    }
    let payload = transfer.take_outcome().unwrap().unwrap().truncated(wanted);
    assert_eq!(payload.to_vec(), bytes(0, length.min(wanted)));
    PieceCrcs::from_slice(payload.piece_crcs())
}

fn expected_crcs(length: usize) -> PieceCrcs {
    bytes(0, length).chunks(PIECE_BYTES).map(crc32c::crc32c).collect()
}

#[test]
fn crcs_of_pdus_of_whole_pieces_are_those_of_the_payload() {
    for (ends, wanted) in [
        (&[1][..], 1),
        (&[4096], 4096),
        (&[4096, 12288, 12800], 12800),
        (&[4096, 12288, 20480], 20480),
        (&[20480], 8192),
    ] {
        for copied in [0, 5000, usize::MAX] {
            assert_eq!(received_crcs(ends, |_| true, copied, wanted), expected_crcs(wanted), "{ends:?}");
        }
    }
}

proptest! {
    #[test]
    fn a_crc_is_that_of_its_piece_or_not_known(
        lengths in proptest::collection::vec((0_usize..5, 0_usize..3, 0_usize..600), 1..6),
        summed in any::<u8>(),
        copied in 0_usize..10_000,
        wanted in 0_usize..40_000,
    ) {
        let length = |(pieces, is_odd, more)| pieces * PIECE_BYTES + if is_odd == 0 { more } else { 0 };
        let mut end = 0;
        let ends: Vec<usize> = lengths.into_iter().map(length).map(|length| { end += length; end }).collect();
        let is_summed = |number| summed & 1 == 0 || summed >> number & 1 == 1;
        if end > 0 {
            let found = received_crcs(&ends, is_summed, copied, wanted);
            let expected = expected_crcs(end.min(wanted));
            prop_assert_eq!(&found[..], &expected[..found.len()]);
        }
    }
}
