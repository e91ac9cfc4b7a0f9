//! What a configuration asks of VDIs: to be made, to grow, to shrink; never to be deleted.

use std::collections::BTreeMap;

use huntaway_config::{At, Config, Lun, Problem, Span};
use huntaway_ledger::{Name, Vdi, VdiOptions};

use super::{Change, Current, Sign, size};

/// Bytes of a logical block of a new VDI of which nothing else is said.
pub(crate) const DEFAULT_BLOCK_SIZE_BYTES: u32 = 512;

/// Bytes of a physical block of a new VDI of which nothing else is said.
pub(crate) const DEFAULT_PHYSICAL_BLOCK_SIZE_BYTES: u32 = 4096;

/// Why VDIs of clusters stay as large as they are, and what to do instead.
pub(crate) const NEVER_SMALLER: &str = "a VDI of a cluster never becomes smaller, for other nodes may serve all of it; to \
                                        have less, make a smaller VDI and copy what is to stay";

/// One thing to be done with one VDI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VdiStep {
    /// Make it.
    Create {
        /// Its name.
        name: Name,
        /// What it is to be.
        options: VdiOptions,
    },
    /// Set the rest of a thick one's space aside: that was interrupted.
    Provision {
        /// The VDI.
        vdi: Vdi,
    },
    /// Make it larger.
    Grow {
        /// The VDI as it is.
        vdi: Vdi,
        /// Its new size.
        size_bytes: u64,
    },
    /// Make it smaller: what lies beyond the new end is lost.
    Shrink {
        /// The VDI as it is.
        vdi: Vdi,
        /// Its new size.
        size_bytes: u64,
    },
}

/// All that the LUNs of a configuration say of one VDI.
#[derive(Default)]
struct Asked<'a> {
    size_bytes: Option<&'a At<u64>>,
    block_size: Option<&'a At<u32>>,
    physical_block_size: Option<&'a At<u32>>,
    thin: Option<&'a At<bool>>,
    allow_shrink: bool,
    /// The first LUN that names it.
    name: Option<&'a At<String>>,
}

/// What becomes of the VDIs.
#[derive(Default)]
pub(super) struct Steps {
    /// In an order that takes space only after everything else was found to be right.
    pub(super) steps: Vec<VdiStep>,
    /// What cannot be done.
    pub(super) problems: Vec<Problem>,
    /// What cannot be done only because a disk is missing.
    pub(super) waiting: Vec<Problem>,
    /// What is left as it is, which may not be meant.
    pub(super) warnings: Vec<Problem>,
}

/// What is to be done.
pub(super) fn steps(config: &Config, current: Current<'_>) -> Steps {
    let mut found = Steps::default();
    let mut free_bytes = current.free_bytes;
    for asked in asked(config) {
        let Some(name) = asked.name else { continue };
        let problems = found.problems.len();
        let step = match current.state.vdi(name) {
            Some(vdi) => existing(&asked, vdi, current.is_clustered, &mut found),
            None if current.existed.contains(name.as_str()) => {
                found.warnings.push(stays_deleted(name));
                None
            }
            None => new(&asked, name, &mut found.problems),
        };
        let Some(step) = step.filter(|_| found.problems.len() == problems) else { continue };
        let span = asked.size_bytes.map_or(name.span, |size| size.span);
        if let Some(disk) = current.missing_disk.filter(|_| step.concerns_all_disks()) {
            found.waiting.push(missing_disk(span, name, disk));
            continue;
        }
        let needed_bytes = step.space_bytes();
        if needed_bytes > free_bytes {
            found.problems.push(no_space(span, name, needed_bytes, free_bytes));
            continue;
        }
        free_bytes -= needed_bytes;
        found.steps.push(step);
    }
    found
}

/// How the steps are shown.
pub(super) fn changes(steps: &[VdiStep]) -> Vec<Change> {
    let line = |sign, text| Change { sign, depth: 0, text };
    let kind = |thin: bool| if thin { "thin" } else { "thick" };
    let change = |step: &VdiStep| match step {
        VdiStep::Create { name, options } => line(
            Sign::Added,
            format!(
                "VDI {name}: {}, {}, blocks of {} bytes",
                size(options.size_bytes),
                kind(options.thin),
                options.block_size
            ),
        ),
        VdiStep::Provision { vdi } => {
            line(Sign::Changed, format!("VDI {}: set the rest of its space aside", vdi.name))
        }
        VdiStep::Grow { vdi, size_bytes } | VdiStep::Shrink { vdi, size_bytes } => line(
            Sign::Changed,
            format!("VDI {}: {} -> {}", vdi.name, size(vdi.size_bytes), size(*size_bytes)),
        ),
    };
    steps.iter().map(change).collect()
}

impl VdiStep {
    /// Space that it needs at once.
    fn space_bytes(&self) -> u64 {
        match self {
            Self::Create { options, .. } if !options.thin => options.size_bytes,
            Self::Grow { vdi, size_bytes } if !vdi.thin && vdi.growing_to_bytes != Some(*size_bytes) => {
                size_bytes.saturating_sub(vdi.size_bytes)
            }
            // what an interrupted step has taken already is not known: it is tried
            _ => 0,
        }
    }

    /// Whether it would be done in part only while a disk is missing.
    fn concerns_all_disks(&self) -> bool {
        match self {
            Self::Create { options, .. } => !options.thin,
            Self::Grow { vdi, .. } => !vdi.thin,
            Self::Provision { .. } | Self::Shrink { .. } => true,
        }
    }
}

/// The VDIs that the LUNs name, in the order of the file.
fn asked(config: &Config) -> Vec<Asked<'_>> {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut all: Vec<Asked<'_>> = Vec::new();
    for lun in config.targets.iter().flat_map(|target| &target.luns) {
        let place = *places.entry(&lun.vdi).or_insert_with(|| {
            all.push(Asked { name: Some(&lun.vdi), ..Asked::default() });
            all.len() - 1
        });
        if let Some(asked) = all.get_mut(place) {
            asked.join(lun);
        }
    }
    all
}

impl<'a> Asked<'a> {
    /// Whatever two LUNs say of one VDI is the same: that was checked with the file.
    fn join(&mut self, lun: &'a Lun) {
        self.size_bytes = self.size_bytes.or(lun.size_bytes.as_ref());
        self.block_size = self.block_size.or(lun.block_size.as_ref());
        self.physical_block_size = self.physical_block_size.or(lun.physical_block_size.as_ref());
        self.thin = self.thin.or(lun.thin.as_ref());
        self.allow_shrink |= lun.allow_shrink;
    }
}

fn new(asked: &Asked<'_>, name: &At<String>, problems: &mut Vec<Problem>) -> Option<VdiStep> {
    let mut refuse = |span: Span, message: String, cure: &str| {
        problems.push(Problem::error(span, message, cure));
        None
    };
    let Some(size_bytes) = asked.size_bytes else {
        return refuse(
            name.span,
            format!("there is no VDI `{}` yet, and the file does not say how large it is to be", **name),
            "add `size`, such as `size: 10GiB`, or write the name of a VDI that exists (`huntaway vdi list`)",
        );
    };
    let block_size = asked.block_size.map_or(DEFAULT_BLOCK_SIZE_BYTES, |at| at.value);
    let options = VdiOptions {
        size_bytes: size_bytes.value,
        block_size,
        physical_block_size: asked
            .physical_block_size
            .map_or(DEFAULT_PHYSICAL_BLOCK_SIZE_BYTES.max(block_size), |at| at.value),
        thin: asked.thin.is_none_or(|at| at.value),
    };
    if let Err(error) = options.check() {
        return refuse(size_bytes.span, format!("VDI `{}` cannot be made: {error}", **name), "correct it");
    }
    match Name::new(name.as_str()) {
        Ok(name) => Some(VdiStep::Create { name, options }),
        Err(error) => {
            refuse(name.span, format!("`{}` cannot be the name of a VDI: {error}", **name), "rename it")
        }
    }
}

fn existing(asked: &Asked<'_>, vdi: &Vdi, is_clustered: bool, found: &mut Steps) -> Option<VdiStep> {
    let problems = &mut found.problems;
    fixed("block_size", asked.block_size, vdi.block_size, vdi, problems);
    fixed("physical_block_size", asked.physical_block_size, vdi.physical_block_size, vdi, problems);
    fixed("thin", asked.thin, vdi.thin, vdi, problems);
    let Some(size_bytes) = asked.size_bytes else { return provision(vdi) };
    let wanted = size_bytes.value;
    match wanted.cmp(&vdi.size_bytes) {
        std::cmp::Ordering::Equal => provision(vdi),
        std::cmp::Ordering::Greater => Some(VdiStep::Grow { vdi: vdi.clone(), size_bytes: wanted }),
        // Others may serve all of it. A file that was not written anew is no reason to keep a node's copies from them either.
        std::cmp::Ordering::Less if is_clustered => {
            found.warnings.push(stays_larger(size_bytes.span, vdi, wanted));
            provision(vdi)
        }
        std::cmp::Ordering::Less if asked.allow_shrink => {
            Some(VdiStep::Shrink { vdi: vdi.clone(), size_bytes: wanted })
        }
        std::cmp::Ordering::Less => {
            let is = size(vdi.size_bytes);
            problems.push(Problem::error(
                size_bytes.span,
                format!("VDI `{}` is larger: {is}; all data beyond {} would be lost", vdi.name, size(wanted)),
                format!("write `size: {is}`, or add `allow_shrink: true` if that data may go"),
            ));
            None
        }
    }
}

fn stays_deleted(name: &At<String>) -> Problem {
    Problem::warning(
        name.span,
        format!("VDI `{}` was deleted since this was read, and is not made again by itself", **name),
        "take its LUN out of the file; or `huntaway apply` it again, and an empty VDI of that name is made",
    )
}

fn stays_larger(span: Span, vdi: &Vdi, wanted: u64) -> Problem {
    let is = size(vdi.size_bytes);
    Problem::warning(
        span,
        format!("VDI `{}` has {is}, and is served with that, not with {}", vdi.name, size(wanted)),
        format!("write `size: {is}`: {NEVER_SMALLER}"),
    )
}

fn provision(vdi: &Vdi) -> Option<VdiStep> {
    (!vdi.provisioned).then(|| VdiStep::Provision { vdi: vdi.clone() })
}

/// What a VDI keeps for as long as it exists.
fn fixed<T: PartialEq + std::fmt::Display>(
    key: &str,
    asked: Option<&At<T>>,
    is: T,
    vdi: &Vdi,
    problems: &mut Vec<Problem>,
) {
    if let Some(asked) = asked.filter(|asked| asked.value != is) {
        problems.push(Problem::error(
            asked.span,
            format!("VDI `{}` was made with {key} {is}, which cannot change", vdi.name),
            format!("write `{key}: {is}` or leave it out, or name another VDI"),
        ));
    }
}

fn no_space(span: Span, name: &str, needed_bytes: u64, free_bytes: u64) -> Problem {
    Problem::error(
        span,
        format!(
            "thick VDI `{name}` takes {} MiB of space, but {} MiB are free",
            needed_bytes.div_ceil(1 << 20),
            free_bytes >> 20
        ),
        "free space, write a smaller size, or `thin: true` for a new VDI",
    )
}

fn missing_disk(span: Span, name: &str, disk: &str) -> Problem {
    Problem::error(
        span,
        format!(
            "VDI `{name}` cannot be changed: disk {disk} has failed or is missing, and holds a part of it"
        ),
        "bring that disk back and restart the node first, or leave the VDI as it is",
    )
}
