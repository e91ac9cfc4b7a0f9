//! Write data that a store keeps as it was received pins the buffers it is in: these are not much larger.

mod support;

use bytes::{Bytes, BytesMut};
use support::{Initiator, SCSI_RESPONSE, TARGET, TestGateway, try_login};

/// The smallest pieces that a store keeps as they came.
const KEPT_BYTES: usize = 64 << 10;

/// The largest pieces that there are.
const LARGEST_BYTES: usize = 256 << 10;

/// How many times their own size they may pin, beside [`HEADER_BYTES`].
const MOST: usize = 4;

/// What comes with the data of the largest PDU, and the header that is read with it.
const HEADER_BYTES: usize = 128;

/// More than any buffer has.
const BUFFER_BITS: u32 = 24;

/// Random numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

fn log_in(gateway: &TestGateway) -> Initiator {
    let keys = format!(
        "InitiatorName=iqn.2026-11.test:a SessionType=Normal TargetName={TARGET} InitialR2T=No \
         ImmediateData=Yes FirstBurstLength=262144"
    );
    let mut initiator = try_login(gateway.portal, &keys, None, false).expect("the login is let in");
    initiator.command(0xffff, 0, &[0; 6], 0, None);
    initiator.expect(SCSI_RESPONSE);
    initiator
}

/// A write of so many blocks of 512 bytes that brings its data with it.
fn write(initiator: &mut Initiator, blocks: usize) -> Vec<u8> {
    let [high, low] = (blocks as u16).to_be_bytes();
    let data = vec![7; blocks * 512];
    initiator.command_bytes(1, 0, &[0x2a, 0, 0, 0, 0, 0, 0, high, low, 0], data.len() as u32, Some(&data))
}

fn expect_answers(initiator: &mut Initiator, count: usize) {
    for _ in 0..count {
        assert_eq!(initiator.expect(SCSI_RESPONSE).header[3], 0);
    }
}

/// Writes that are not kept, small ones or not, and among them some that are. What is sent at a time ends anywhere.
fn write_all_sizes(gateway: &TestGateway, random: &mut Random) {
    let mut initiator = log_in(gateway);
    for _ in 0..16 {
        let most = [8, 16, 120][random.below(3)];
        let before = 1 + random.below(60);
        let mut blocks = || if random.below(40) == 0 { LARGEST_BYTES / 512 } else { 1 + random.below(most) };
        let mut bytes: Vec<u8> = (0..before).flat_map(|_| write(&mut initiator, blocks())).collect();
        let mut last = write(&mut initiator, blocks());
        let rest = last.split_off(random.below(last.len()));
        bytes.extend(last);
        initiator.send_bytes(&bytes);
        expect_answers(&mut initiator, before);
        let kept = write(&mut initiator, KEPT_BYTES / 512);
        initiator.send_bytes(&[rest, kept].concat());
        expect_answers(&mut initiator, 2);
    }
}

/// Bytes of the whole buffer that this is a part of; nobody else has one. It is from now on all of it.
fn whole(part: &mut BytesMut) -> usize {
    part.clear();
    let add = |bytes: usize, bit: u32| {
        let more = bytes | 1_usize << bit;
        if part.try_reclaim(more) { more } else { bytes }
    };
    (0..BUFFER_BITS).rev().fold(0, add)
}

#[test]
fn a_large_piece_pins_no_more_than_four_times_its_size() {
    for seed in 0..3 {
        let mut gateway = TestGateway::start(1);
        gateway.peer.keep_pieces_of(KEPT_BYTES);
        write_all_sizes(&gateway, &mut Random(seed));
        let stopping = gateway.take();
        gateway.runtime.block_on(stopping.shut_down());

        let pieces = gateway.peer.take_pieces();
        let places: Vec<(usize, usize)> =
            pieces.iter().map(|piece| (piece.as_ptr().addr(), piece.len())).collect();
        // Of several pieces of a buffer it is the last one's to take.
        let mut buffers: Vec<BytesMut> =
            pieces.into_iter().map(Bytes::try_into_mut).filter_map(Result::ok).collect();
        assert!(!buffers.is_empty());
        for buffer in &mut buffers {
            let bytes = whole(buffer);
            let begin = buffer.as_ptr().addr();
            let is_within = |place: &&(usize, usize)| (begin..begin + bytes).contains(&place.0);
            let kept: usize = places.iter().filter(is_within).map(|(_, length)| length).sum();
            assert!(bytes <= MOST * kept + HEADER_BYTES, "{bytes} bytes for {kept}, seed {seed}");
        }
    }
}
