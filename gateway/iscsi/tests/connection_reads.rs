//! Input data: Data-In PDUs, collapsed status and residuals.

mod initiator;

use initiator::{Initiator, pattern};
use iscsi_target::pdu::{DataInPdu, Opcode, Residual};
use iscsi_target::{ScsiResponse, ScsiStatus};

/// Receives all Data-Ins of a task, the last with the status; checks numbers, places and sizes.
fn receive_data(initiator: &mut Initiator, segment: usize, burst: usize) -> (Vec<u8>, Residual) {
    let mut data = Vec::new();
    for data_sn in 0.. {
        let frame = initiator.receive_opcode(Opcode::DataIn);
        let pdu = DataInPdu::parse(&frame.header);
        assert_eq!((pdu.data_sn, pdu.buffer_offset as usize), (data_sn, data.len()));
        assert!(!frame.data.is_empty() && frame.data.len() <= segment);
        assert!(data.len() % burst + frame.data.len() <= burst, "a PDU belongs to one burst");
        data.extend_from_slice(&frame.data);
        let burst_ends = data.len().is_multiple_of(burst) || pdu.status.is_some();
        assert_eq!(pdu.is_final, burst_ends, "F");
        if let Some((status, residual)) = pdu.status {
            assert_eq!(status, ScsiStatus::Good);
            return (data, residual);
        }
    }
    unreachable!("a DataSN is below 2^32")
}

#[test]
fn data_is_cut_by_segment_and_burst_length() {
    for digests in ["None", "CRC32C"] {
        for length in [1, 511, 512, 513, 1024, 1536, 1537, 5000] {
            let mut initiator = Initiator::log_in(&format!(
                "HeaderDigest={digests} DataDigest={digests} MaxRecvDataSegmentLength=512 MaxBurstLength=1200"
            ));
            let command = initiator.read(length);
            assert!(command.read && !command.write && command.data.is_none());
            initiator.give_data(command.task, u64::from(length));
            let (data, residual) = receive_data(&mut initiator, 512, 1200);
            assert_eq!(data, pattern(0, length as usize));
            assert_eq!(residual, Residual::None);
            initiator.assert_alive();
        }
    }
}

#[test]
fn residuals_are_exact_and_what_fits_is_delivered() {
    let mut initiator = Initiator::log_in("");
    for (expected, offered, delivered, residual) in [
        (512, 512, 512, Residual::None),
        (512, 36, 36, Residual::Underflow(476)),
        (10, 36, 10, Residual::Overflow(26)),
        (512, 513, 512, Residual::Overflow(1)),
        (1, u64::from(u32::MAX) + 1, 1, Residual::Overflow(u32::MAX)),
    ] {
        let command = initiator.read(expected);
        initiator.give_data(command.task, offered);
        let (data, found) = receive_data(&mut initiator, 8192, 262_144);
        assert_eq!((data, found), (pattern(0, delivered), residual));
    }
    for (expected, offered, residual) in
        [(0, 0, Residual::None), (0, 36, Residual::Overflow(36)), (512, 0, Residual::Underflow(512))]
    {
        let command = initiator.read(expected);
        initiator.give_data(command.task, offered);
        let (response, sense) = initiator.receive_response();
        assert_eq!((response.status, response.residual), (ScsiStatus::Good, residual));
        assert_eq!(response.exp_data_sn, 0);
        assert!(sense.is_empty());
    }
}

#[test]
fn sense_follows_the_data_in_a_response_of_its_own() {
    let mut initiator = Initiator::log_in("DataDigest=CRC32C");
    let command = initiator.read(1000);
    let mut data_in = initiator.target.data_in(command.task, 600);
    data_in.next_segment().expect("an area").fill(0xaa);
    assert!(data_in.next_segment().is_none());
    data_in.finish(ScsiResponse::check_condition(&[0x70, 0, 3]));
    let frame = initiator.receive_opcode(Opcode::DataIn);
    let pdu = DataInPdu::parse(&frame.header);
    assert!(pdu.is_final && pdu.status.is_none());
    assert_eq!(frame.data, [0xaa; 600].as_slice());
    let (response, sense) = initiator.receive_response();
    assert_eq!(response.status, ScsiStatus::CheckCondition);
    assert_eq!((response.residual, response.exp_data_sn), (Residual::Underflow(400), 1));
    assert_eq!(sense, [0, 3, 0x70, 0, 3], "behind its length");
}

#[test]
fn areas_not_filled_are_zeroes_and_never_old_data() {
    let mut initiator = Initiator::log_in("");
    let first = initiator.read(4096);
    initiator.give_data(first.task, 4096);
    receive_data(&mut initiator, 8192, 262_144);
    let second = initiator.read(4096);
    initiator.target.data_in(second.task, 4096).finish(ScsiResponse::good());
    let (data, _) = receive_data(&mut initiator, 8192, 262_144);
    assert_eq!(data, [0; 4096]);
}

#[test]
fn an_abandoned_layout_leaves_no_trace() {
    let mut initiator = Initiator::log_in("");
    let command = initiator.read(4096);
    initiator.ping(b"before");
    initiator.assert_no_event();
    let before = initiator.target.output().to_vec();
    initiator.target.data_in(command.task, 4096).abandon();
    drop(initiator.target.data_in(command.task, 4096));
    assert_eq!(initiator.target.output().to_vec(), before);
    initiator.receive_opcode(Opcode::NopIn);
    initiator.target.respond(command.task, ScsiResponse::check_condition(&[0x70]));
    let (response, _) = initiator.receive_response();
    assert_eq!(response.residual, Residual::Underflow(4096));
}

#[test]
fn tasks_that_are_no_more_get_no_answer() {
    let mut initiator = Initiator::log_in("");
    let command = initiator.read(4096);
    initiator.target.abort(command.task);
    let mut data_in = initiator.target.data_in(command.task, 4096);
    assert!(data_in.is_empty() && data_in.next_segment().is_none());
    data_in.finish(ScsiResponse::good());
    initiator.target.respond(command.task, ScsiResponse::good());
    initiator.target.request_data(command.task, 512);
    initiator.assert_alive();
}

#[test]
fn the_digest_is_made_from_the_crcs_that_are_told() {
    for (keys, has_digests) in [("DataDigest=CRC32C", true), ("", false)] {
        for length in [1, 2, 511, 512, 1023, 5000] {
            let mut initiator = Initiator::log_in(&format!("{keys} MaxRecvDataSegmentLength=512"));
            let command = initiator.read(length);
            let mut data_in = initiator.target.data_in(command.task, u64::from(length));
            assert_eq!(data_in.has_digests(), has_digests);
            // Nothing to tell it of yet.
            data_in.set_crc(1);
            for number in 0.. {
                let Some(area) = data_in.next_segment() else { break };
                let at = number * 512;
                area.copy_from_slice(&pattern(at, area.len()));
                let crc = crc32c::crc32c(area);
                if number % 3 != 1 {
                    data_in.set_crc(crc);
                }
            }
            data_in.finish(ScsiResponse::good());
            let (data, _) = receive_data(&mut initiator, 512, 262_144);
            assert_eq!(data, pattern(0, length as usize));
            initiator.assert_alive();
        }
    }
}

#[test]
#[should_panic(expected = "data digest")]
fn data_that_is_not_what_its_crc_says_does_not_pass_for_sound() {
    let mut initiator = Initiator::log_in("DataDigest=CRC32C");
    let command = initiator.read(4096);
    let mut data_in = initiator.target.data_in(command.task, 4096);
    let area = data_in.next_segment().expect("an area");
    area.fill(7);
    let crc = crc32c::crc32c(area);
    area[100] ^= 1;
    data_in.set_crc(crc);
    data_in.finish(ScsiResponse::good());
    initiator.receive();
}

#[test]
fn a_long_cdb_arrives_whole() {
    let mut initiator = Initiator::log_in("HeaderDigest=CRC32C");
    let mut header = initiator.command(true, false, 0).build();
    header.set_additional_header_words(5);
    let additional = [&[0, 17, 1, 0][..], &[0xab; 16]].concat();
    let mut bytes = [&header.as_bytes()[..], &additional].concat();
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    initiator.target.input().extend_from_slice(&bytes);
    let command = initiator.command_event();
    assert_eq!(command.cdb.len(), 32);
    assert_eq!(command.cdb[16..], [0xab; 16]);
}
