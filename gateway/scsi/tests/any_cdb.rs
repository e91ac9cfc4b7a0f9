//! Promise: no CDB and no parameter list, however wrong, makes the device server panic, answer with more than was
//! asked for, or hand out an extent beyond the logical unit.

use huntaway_scsi::{
    Action, BlockOperation, Extent, LogicalUnit, LogicalUnitConfig, MAXIMUM_SENSE_LENGTH, Sense, SenseFormat,
    Step, UnitAttentions, limits, plan_without_logical_unit,
};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof, proptest};
use proptest::sample::select;

/// No answer made here is longer than this: the longest is the list of all commands with timeouts.
const MAXIMUM_ANSWER_BYTES: usize = 4096;

fn unit(thin: bool, block_size: u32) -> LogicalUnit {
    LogicalUnit::new(LogicalUnitConfig {
        identifier: [0x5a; 16],
        serial: "x".repeat(limits::MAXIMUM_SERIAL_LENGTH),
        product: "x".repeat(limits::MAXIMUM_PRODUCT_LENGTH),
        blocks: 1 << 20,
        block_size,
        physical_block_size: 4096,
        thin,
        read_only: false,
        write_cache: true,
        modes_are_fixed: false,
        soft_threshold_bytes: u64::MAX,
        target_name: "x".repeat(limits::MAXIMUM_TARGET_NAME_LENGTH),
        target_port_group: u16::MAX,
        relative_target_port: u16::MAX,
    })
    .expect("every field is within its limits")
}

/// Bytes of which many are 0 or nearly so, as fields often have to be to get past the first check.
fn field_byte() -> impl Strategy<Value = u8> {
    prop_oneof![4 => select(vec![0u8]), 2 => 0..=32u8, 1 => any::<u8>()]
}

fn cdb() -> impl Strategy<Value = Vec<u8>> {
    let known = (0..=255u8)
        .filter(|opcode| (0..32).any(|action| huntaway_scsi::command_name(&[*opcode, action]).is_some()))
        .collect::<Vec<_>>();
    let opcode = prop_oneof![9 => select(known), 1 => any::<u8>()];
    let length = prop_oneof![6 => select(vec![16usize]), 1 => 0..260usize];
    (opcode, length).prop_flat_map(|(opcode, length)| {
        vec(field_byte(), length).prop_map(move |mut cdb| {
            if let Some(first) = cdb.first_mut() {
                *first = opcode;
            }
            cdb
        })
    })
}

fn check_sense(sense: &Sense) {
    for format in [SenseFormat::Fixed, SenseFormat::Descriptor] {
        assert!(sense.encode(format).len() <= MAXIMUM_SENSE_LENGTH);
    }
}

fn check_action(unit: &LogicalUnit, action: &Action) {
    match action {
        Action::Data(data) => assert!(data.len() <= MAXIMUM_ANSWER_BYTES),
        Action::Block(operation) => check_operation(unit, operation),
        _ => {}
    }
}

fn check_operation(unit: &LogicalUnit, operation: &BlockOperation) {
    let bytes = |extent: &Extent| extent.blocks * u64::from(unit.block_size());
    let extents = match operation {
        BlockOperation::CompareAndWrite { extent, .. } => {
            assert!(extent.blocks <= limits::MAXIMUM_COMPARE_AND_WRITE_BLOCKS.into());
            vec![*extent]
        }
        BlockOperation::WriteAtomic { extent, .. } => {
            assert!(bytes(extent) <= limits::MAXIMUM_ATOMIC_BYTES);
            vec![*extent]
        }
        BlockOperation::Read { extent, .. }
        | BlockOperation::Write { extent, .. }
        | BlockOperation::OrWrite { extent, .. }
        | BlockOperation::WriteAndVerify { extent }
        | BlockOperation::Verify { extent, .. } => {
            assert!(bytes(extent) <= limits::MAXIMUM_TRANSFER_BYTES);
            vec![*extent]
        }
        BlockOperation::WriteSame { extent, .. } => {
            assert!(bytes(extent) <= limits::MAXIMUM_WRITE_SAME_BYTES);
            vec![*extent]
        }
        BlockOperation::Unmap { extents, .. } => {
            assert!(extents.len() <= limits::MAXIMUM_UNMAP_DESCRIPTORS as usize);
            assert!(extents.iter().map(bytes).sum::<u64>() <= limits::MAXIMUM_UNMAP_BYTES);
            extents.to_vec()
        }
        BlockOperation::LbaStatus { extent, maximum_descriptors, .. } => {
            assert!((1..=limits::MAXIMUM_LBA_STATUS_DESCRIPTORS).contains(maximum_descriptors));
            vec![*extent]
        }
        BlockOperation::Flush { extent, .. } | BlockOperation::Prefetch { extent, .. } => vec![*extent],
    };
    assert!(extents.iter().all(|extent| extent.end() <= unit.blocks()));
}

proptest! {
    #[test]
    fn any_cdb_and_parameter_list_comes_to_something_within_limits(
        cdb in cdb(),
        list in vec(field_byte(), 0..500),
        thin in any::<bool>(),
        block_size in select(vec![512u32, 4096]),
        offered in any::<u32>(),
    ) {
        let unit = unit(thin, block_size);
        let modes = unit.default_modes();
        match unit.plan(&modes, &cdb) {
            Err(sense) => check_sense(&sense),
            Ok(mut plan) => {
                assert!(u64::from(plan.data_out) <= limits::MAXIMUM_TRANSFER_BYTES);
                let _ = unit.fit_data(&mut plan, offered);
                match plan.step {
                    Step::Now(action) => check_action(&unit, &action),
                    Step::AfterData(parameters) => match unit.parse_parameters(&modes, parameters, &list) {
                        Ok(action) => check_action(&unit, &action),
                        Err(sense) => check_sense(&sense),
                    },
                }
            }
        }
    }

    #[test]
    fn any_cdb_meets_unit_attentions_and_missing_logical_units(cdb in cdb()) {
        let mut attentions = UnitAttentions::new();
        attentions.establish(Sense::power_on());
        attentions.establish(Sense::luns_changed());
        let _ = attentions.intercept(&cdb);
        if let Err(sense) = plan_without_logical_unit(&cdb) {
            check_sense(&sense);
        }
    }
}
