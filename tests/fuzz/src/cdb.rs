//! CDBs with their parameter lists: whatever they say, the device server answers with no more than was asked for, and
//! hands out no extent beyond the logical unit.

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use huntaway_scsi::{
    Action, BlockOperation, Extent, LogicalUnit, LogicalUnitConfig, MAXIMUM_SENSE_LENGTH, ModeState, Plan,
    Resources, SanitizeMethod, Sense, SenseFormat, Step, UnitAttentions, limits, plan_without_logical_unit,
    provisioning_log, report_luns, request_sense,
};

/// No answer is longer than this, whatever is asked for: the longest is the list of all commands with timeouts.
const MAX_ANSWER_BYTES: usize = 4096;

/// A nexus' commands, one after another.
#[derive(Debug, Arbitrary)]
struct Input<'a> {
    unit: u8,
    commands: Vec<Command<'a>>,
}

#[derive(Debug, Arbitrary)]
struct Command<'a> {
    cdb: &'a [u8],
    offered: u32,
    list: &'a [u8],
}

/// Thin or thick, of small or large blocks, read-only or not.
static UNITS: LazyLock<Vec<LogicalUnit>> = LazyLock::new(|| (0..8).map(unit).collect());

fn unit(kind: u8) -> LogicalUnit {
    let config = LogicalUnitConfig {
        identifier: [0x5a; 16],
        serial: "x".repeat(limits::MAXIMUM_SERIAL_LENGTH),
        product: "x".repeat(limits::MAXIMUM_PRODUCT_LENGTH),
        blocks: 1 << 20,
        block_size: if kind & 1 == 0 { 512 } else { 4096 },
        physical_block_size: 4096,
        thin: kind & 2 != 0,
        read_only: kind & 4 != 0,
        write_cache: true,
        modes_are_fixed: false,
        soft_threshold_bytes: 64 << 20,
        target_name: "x".repeat(limits::MAXIMUM_TARGET_NAME_LENGTH),
        target_port_group: u16::MAX,
        relative_target_port: u16::MAX,
    };
    LogicalUnit::new(config).expect("every field is within its limits")
}

/// Takes the commands of one nexus.
pub fn run(bytes: &[u8]) {
    let mut unstructured = arbitrary::Unstructured::new(bytes);
    let Ok(input) = Input::arbitrary(&mut unstructured) else { return };
    let unit = &UNITS[usize::from(input.unit % 8)];
    let mut modes = unit.default_modes();
    let mut attentions = UnitAttentions::new();
    attentions.establish(Sense::power_on());
    for Command { cdb, offered, list } in input.commands.iter().take(16) {
        if let Some(sense) = attentions.intercept(cdb) {
            check_sense(&sense);
        }
        if let Err(sense) = plan_without_logical_unit(cdb) {
            check_sense(&sense);
        }
        match unit.plan(&modes, cdb) {
            Err(sense) => check_sense(&sense),
            Ok(plan) => carry_out(unit, &mut modes, plan, *offered, list),
        }
    }
}

fn carry_out(unit: &LogicalUnit, modes: &mut ModeState, mut plan: Plan, offered: u32, list: &[u8]) {
    assert!(u64::from(plan.data_out) <= limits::MAXIMUM_TRANSFER_BYTES);
    if let Err(sense) = unit.fit_data(&mut plan, offered) {
        return check_sense(&sense);
    }
    let action = match plan.step {
        Step::Now(action) => Ok(action),
        Step::AfterData(parameters) => {
            let wanted = plan.data_out as usize;
            unit.parse_parameters(modes, parameters, &list[..list.len().min(wanted)])
        }
    };
    match action {
        Ok(action) => check_action(unit, modes, action),
        Err(sense) => check_sense(&sense),
    }
}

fn check_sense(sense: &Sense) {
    for format in [SenseFormat::Fixed, SenseFormat::Descriptor] {
        assert!(sense.encode(format).len() <= MAXIMUM_SENSE_LENGTH);
    }
}

fn check_action(unit: &LogicalUnit, modes: &mut ModeState, action: Action) {
    match action {
        Action::Data(data) => assert!(data.len() <= MAX_ANSWER_BYTES),
        Action::Good => {}
        Action::Block(operation) => check_operation(unit, &operation),
        Action::LunInventory { select_report, allocation_length } => {
            let luns = report_luns(0..4, select_report, allocation_length);
            assert!(luns.len() <= allocation_length as usize);
        }
        Action::RequestSense { format, allocation_length } => {
            let sense = request_sense(Some(Sense::luns_changed()), format, allocation_length);
            assert!(sense.len() <= allocation_length as usize);
        }
        Action::SetModePages(new_modes) => *modes = new_modes,
        Action::ProvisioningLog { first_parameter, allocation_length } => {
            let resources = Resources { available_bytes: u64::MAX, used_bytes: 1 };
            let log = provisioning_log(resources, first_parameter, allocation_length);
            assert!(log.len() <= allocation_length as usize);
        }
        Action::Sanitize(request) => {
            if let SanitizeMethod::Overwrite { block, passes, .. } = request.method {
                assert_eq!(block.len(), unit.block_size() as usize);
                assert!((1..=31).contains(&passes));
            }
        }
        Action::ExitSanitizeFailure => {}
    }
}

fn check_operation(unit: &LogicalUnit, operation: &BlockOperation) {
    let bytes = |extent: &Extent| extent.blocks * u64::from(unit.block_size());
    let (extents, most_bytes) = match operation {
        BlockOperation::CompareAndWrite { extent, .. } => {
            assert!(extent.blocks <= limits::MAXIMUM_COMPARE_AND_WRITE_BLOCKS.into());
            (vec![*extent], limits::MAXIMUM_TRANSFER_BYTES)
        }
        BlockOperation::WriteAtomic { extent, .. } => {
            let (first, last) = (extent.lba * u64::from(unit.block_size()), bytes(extent).max(1) - 1);
            let boundary = limits::MAXIMUM_ATOMIC_BYTES;
            assert_eq!(first / boundary, (first + last) / boundary, "it crosses a boundary");
            (vec![*extent], limits::MAXIMUM_TRANSFER_BYTES)
        }
        BlockOperation::Read { extent, .. }
        | BlockOperation::Write { extent, .. }
        | BlockOperation::OrWrite { extent, .. }
        | BlockOperation::WriteAndVerify { extent }
        | BlockOperation::Verify { extent, .. } => (vec![*extent], limits::MAXIMUM_TRANSFER_BYTES),
        BlockOperation::WriteSame { extent, .. } => (vec![*extent], limits::MAXIMUM_WRITE_SAME_BYTES),
        BlockOperation::Unmap { extents, .. } => {
            assert!(extents.len() <= limits::MAXIMUM_UNMAP_DESCRIPTORS as usize);
            (extents.to_vec(), limits::MAXIMUM_UNMAP_BYTES)
        }
        BlockOperation::LbaStatus { extent, maximum_descriptors, .. } => {
            assert!((1..=limits::MAXIMUM_LBA_STATUS_DESCRIPTORS).contains(maximum_descriptors));
            (vec![*extent], u64::MAX)
        }
        BlockOperation::Flush { extent, .. } | BlockOperation::Prefetch { extent, .. } => {
            (vec![*extent], u64::MAX)
        }
    };
    assert!(extents.iter().map(bytes).sum::<u64>() <= most_bytes);
    assert!(extents.iter().all(|extent| extent.end() <= unit.blocks()));
}
