//! What it takes to get from what is served to what a configuration says. Pure: nothing is changed here.

mod changes;
mod restart;
mod vdi_steps;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use huntaway_config::{Problem, Report};
use huntaway_ledger::State;

pub(crate) use vdi_steps::{
    DEFAULT_BLOCK_SIZE_BYTES, DEFAULT_PHYSICAL_BLOCK_SIZE_BYTES, NEVER_SMALLER, VdiStep,
};

use super::loaded::Loaded;
use super::portals;

/// The line of a plan that mends what the one before it left.
const UNFINISHED: &str = "a change that was interrupted: what is left of it is put right";

/// Where a plan begins.
#[derive(Clone, Copy)]
pub(crate) struct Current<'a> {
    /// The configuration in force; none while the node starts.
    pub(crate) served: Option<&'a Loaded>,
    /// The VDIs that exist.
    pub(crate) state: &'a State,
    /// Space that new thick disks may take, in bytes.
    pub(crate) free_bytes: u64,
    /// A disk that has failed or is missing.
    pub(crate) missing_disk: Option<&'a str>,
    /// An earlier plan was not carried out to its end: not all is as the configuration in force says.
    pub(crate) is_unfinished: bool,
    /// Other processes serve the same VDIs.
    pub(crate) is_clustered: bool,
    /// Whether one of the node's disks is in that directory.
    pub(crate) has_disk: &'a dyn Fn(&Path) -> bool,
    /// Names of VDIs that there were since the configuration was new, or asked for: one that is gone was deleted, and is not made.
    pub(crate) existed: &'a BTreeSet<String>,
}

impl Current<'_> {
    /// A node of several that starts keeps copies for others, whatever is wrong with one of its LUNs.
    fn starts_regardless(&self) -> bool {
        self.is_clustered && self.served.is_none()
    }
}

/// The way to a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What is to be done with VDIs, in this order.
    pub(crate) vdis: Vec<VdiStep>,
    /// All that will be different.
    changes: Vec<Change>,
    /// What cannot be done now: before a disk is back, or before somebody mends it.
    postponed: Vec<Problem>,
    /// What is left as it is, which may not be meant.
    warnings: Vec<Problem>,
    /// What cannot be done when it is tried is postponed, too.
    pub(crate) goes_on: bool,
}

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    sign: Sign,
    /// 0: a thing; 1: a part of the thing above it.
    depth: usize,
    text: String,
}

/// What becomes of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It is new.
    Added,
    /// It goes.
    Removed,
    /// It stays, and differs.
    Changed,
}

impl Plan {
    /// Whether something must wait.
    pub(crate) fn is_partial(&self) -> bool {
        !self.postponed.is_empty()
    }

    /// What must wait, with its places in the configuration that was planned for.
    pub(crate) fn postponed(&self, wanted: &Loaded) -> Option<Report> {
        self.is_partial().then(|| Report::new(Arc::clone(&wanted.config.source), self.postponed.clone()))
    }

    /// What may not be meant, in the configuration that was planned for.
    pub(crate) fn warnings(&self, wanted: &Loaded) -> Report {
        let warnings = wanted.warnings.problems().iter().chain(&self.warnings).cloned().collect();
        Report::new(Arc::clone(&wanted.config.source), warnings)
    }

    /// Nothing is to be done.
    pub(crate) fn is_empty(&self) -> bool {
        self.vdis.is_empty() && self.changes.is_empty()
    }

    /// How many lines it has.
    pub(crate) fn len(&self) -> usize {
        self.changes.len()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no changes");
        }
        for (index, Change { sign, depth, text }) in self.changes.iter().enumerate() {
            let sign = match sign {
                Sign::Added => '+',
                Sign::Removed => '-',
                Sign::Changed => '~',
            };
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{sign} {:indent$}{text}", "", indent = depth * 2)?;
        }
        Ok(())
    }
}

/// Plans the way from `current` to `wanted`.
///
/// # Errors
/// Every line of the configuration that this node cannot follow, or not without a restart.
pub(crate) fn plan(current: Current<'_>, wanted: &Loaded) -> Result<Plan, Report> {
    let mut problems: Vec<Problem> = Vec::new();
    if let Some(served) = current.served {
        problems.extend(restart::check(&served.config, &wanted.config, current.has_disk));
    }
    problems.extend(portals::check_count(&wanted.config));
    let found = vdi_steps::steps(&wanted.config, current);
    let vdi_steps::Steps { steps: vdis, waiting, warnings, .. } = found;
    let mut postponed = Vec::new();
    let goes_on = current.starts_regardless();
    // a node that starts without one of its disks serves what it can
    if current.served.is_none() { &mut postponed } else { &mut problems }.extend(waiting);
    if goes_on { &mut postponed } else { &mut problems }.extend(found.problems);
    if !problems.is_empty() {
        return Err(Report::new(Arc::clone(&wanted.config.source), problems));
    }
    let mut changes = vdi_steps::changes(&vdis);
    changes.extend(changes::between(current.served, wanted));
    if current.is_unfinished {
        changes.push(Change { sign: Sign::Changed, depth: 0, text: UNFINISHED.into() });
    }
    Ok(Plan { vdis, changes, postponed, warnings, goes_on })
}

/// A size for people: in the largest unit that it is a whole number of.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = UNITS.iter().find(|(_, shift)| bytes != 0 && bytes.is_multiple_of(1 << shift));
    match unit {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use huntaway_ledger::{Cluster, EpochRecord, Incarnation, Member, MemberState, Name, Record, VdiOptions};
    use huntaway_wire::{Epoch, NodeId, Vid};

    use super::*;

    const NODE: &str = "\
node:
  name: one
  data_directories: [disk]
  portals: [{name: a, listen: 127.0.0.1:3260}, {name: b, listen: 127.0.0.1:3261}]
cluster: {name: test}
";
    const GIB: u64 = 1 << 30;

    fn loaded(text: &str) -> Loaded {
        Loaded::of("huntaway.yaml", text, Path::new("/nonexistent")).unwrap_or_else(|error| panic!("{error}"))
    }

    /// One target `iqn.2026-11.net.example:t` with these properties.
    fn target(properties: &str) -> Loaded {
        loaded(&format!("{NODE}targets:\n  - {{iqn: \"iqn.2026-11.net.example:t\", {properties}}}\n"))
    }

    /// A target with these LUNs.
    fn luns(luns: &str) -> Loaded {
        target(&format!("initiators: [\"iqn.2026-11.net.example:i\"], luns: [{luns}]"))
    }

    /// A ledger with the thin VDI `thin` and the thick VDI `thick`, of 1 GiB each.
    fn state() -> State {
        let name = |text: &str| Name::new(text).unwrap();
        let node = NodeId([1; 16]);
        let mut state = State::default();
        let epoch = EpochRecord {
            number: Epoch(1),
            cluster: Cluster { uuid: [2; 16], name: name("test") },
            members: vec![Member {
                node,
                name: name("one"),
                incarnation: Incarnation(0),
                addresses: Vec::new(),
                zone: name("default"),
                weight: 1,
                state: MemberState::Up,
            }],
            voters: vec![node],
        };
        state.apply(&Record::Epoch(epoch)).unwrap();
        for (number, thin) in [(1, true), (2, false)] {
            let vid = Vid::new(number).unwrap();
            let options = VdiOptions { size_bytes: GIB, block_size: 512, physical_block_size: 4096, thin };
            let name = name(if thin { "thin" } else { "thick" });
            state.apply(&Record::CreateVdi { vid, name, uuid: [0; 16], options }).unwrap();
            if !thin {
                state.apply(&Record::ProvisionedVdi { vid }).unwrap();
            }
        }
        state
    }

    fn current<'a>(served: Option<&'a Loaded>, state: &'a State) -> Current<'a> {
        Current {
            served,
            state,
            free_bytes: 4 * GIB,
            missing_disk: None,
            is_unfinished: false,
            is_clustered: false,
            has_disk: &|_| false,
            existed: const { &BTreeSet::new() },
        }
    }

    fn planned(served: Option<&Loaded>, wanted: &Loaded) -> Result<Plan, Report> {
        plan(current(served, &state()), wanted)
    }

    /// The plan's lines, without the name of the target.
    fn lines(old: &Loaded, new: &Loaded) -> Vec<String> {
        let text = planned(Some(old), new).unwrap_or_else(|report| panic!("{report}")).to_string();
        text.lines().map(|line| line.replace("iqn.2026-11.net.example:", "")).collect()
    }

    fn refusal(wanted: &Loaded) -> String {
        planned(None, wanted).unwrap_err().to_string()
    }

    #[test]
    fn what_is_the_same_changes_nothing() {
        let config = luns("{lun: 0, vdi: thin, size: 1GiB}, {lun: 1, vdi: thick}");
        let again = luns("{lun: 1, vdi: thick, size: 1GiB}, {lun: 0, vdi: thin}");
        assert_eq!(lines(&config, &again), ["no changes"]);
        assert!(planned(Some(&config), &again).unwrap().is_empty());
    }

    #[test]
    fn luns_and_their_vdis_are_shown() {
        let old = luns("{lun: 0, vdi: thin}, {lun: 1, vdi: thick}");
        for (new, expected) in [
            ("{lun: 0, vdi: thin}", vec!["~ target t", "-   LUN 1: VDI thick, read-write, write-back"]),
            (
                "{lun: 0, vdi: thin, read_only: true}, {lun: 1, vdi: thick, cache: writethrough}",
                vec![
                    "~ target t",
                    "~   LUN 0: read-write -> read-only",
                    "~   LUN 1: write-back -> write-through",
                ],
            ),
            (
                "{lun: 0, vdi: thin, size: 3GiB}, {lun: 1, vdi: thick, size: 512MiB, allow_shrink: true}",
                vec!["~ VDI thin: 1GiB -> 3GiB", "~ VDI thick: 1GiB -> 512MiB"],
            ),
            (
                "{lun: 0, vdi: new, size: 10GiB, block_size: 4096}, {lun: 1, vdi: thick}",
                vec![
                    "+ VDI new: 10GiB, thin, blocks of 4096 bytes",
                    "~ target t",
                    "~   LUN 0: VDI thin -> VDI new",
                ],
            ),
        ] {
            assert_eq!(lines(&old, &luns(new)), expected);
        }
    }

    #[test]
    fn who_may_log_in_is_shown() {
        let old = target("initiators: [\"iqn.2026-11.net.example:a\", \"iqn.2026-11.net.example:b\"]");
        for (new, expected) in [
            (
                "initiators: [\"iqn.2026-11.net.example:b\", \"iqn.2026-11.net.example:a\"]",
                vec!["~ target t", "~   order of initiators: b, a"],
            ),
            (
                "digests: required, portals: [a], initiators: [\"iqn.2026-11.net.example:b\"]",
                vec![
                    "~ target t",
                    "-   initiator a: all LUNs, the target's chap",
                    "~   portals: all -> a",
                    "~   digests: allowed -> required",
                ],
            ),
        ] {
            assert_eq!(lines(&old, &target(new)), expected);
        }
    }

    #[test]
    fn targets_portals_and_the_log_are_shown() {
        let none = loaded(NODE);
        let new = NODE.replace("3261}", "3262}").replace("name: one", "name: one\n  log: {level: debug}");
        assert_eq!(
            lines(&none, &loaded(&new)),
            [
                "~ log",
                "~   level: info -> debug",
                "~ portal b",
                "~   listen: 127.0.0.1:3261 -> 127.0.0.1:3262"
            ]
        );
        let one = target("initiators: []");
        assert_eq!(lines(&none, &one), ["+ target t", "+   portals: all", "+   digests: allowed"]);
        assert_eq!(lines(&one, &none), ["- target t", "-   portals: all", "-   digests: allowed"]);
    }

    #[test]
    fn what_cannot_be_followed_is_told_with_its_place_all_at_once() {
        let wrong = luns(
            "{lun: 0, vdi: thin, block_size: 4096, physical_block_size: 4096}, {lun: 1, vdi: thick, size: 512MiB}, \
             {lun: 2, vdi: nothing}, {lun: 3, vdi: much, size: 5GiB, thin: false}",
        );
        let report = refusal(&wrong);
        for reason in [
            "VDI `thin` was made with block_size 512, which cannot change",
            "VDI `thick` is larger: 1GiB; all data beyond 512MiB would be lost",
            "there is no VDI `nothing` yet",
            "thick VDI `much` takes 5120 MiB of space, but 4096 MiB are free",
            "huntaway.yaml:7:",
            "4 errors",
        ] {
            assert!(report.contains(reason), "{reason} is not in:\n{report}");
        }
    }

    #[test]
    fn thick_vdis_must_fit_together() {
        let three = |size: &str| {
            luns(&format!(
                "{{lun: 0, vdi: a, size: {size}, thin: false}}, {{lun: 1, vdi: b, size: 2GiB, thin: false}}"
            ))
        };
        assert!(planned(None, &three("2GiB")).is_ok());
        assert!(
            refusal(&three("3GiB")).contains("thick VDI `b` takes 2048 MiB of space, but 1024 MiB are free")
        );
        let grown = luns("{lun: 0, vdi: thick, size: 6GiB}");
        assert!(refusal(&grown).contains("takes 5120 MiB"));
    }

    #[test]
    fn a_growth_that_goes_on_has_its_space_already() {
        let mut state = state();
        let vid = Vid::new(2).unwrap();
        state.apply(&Record::GrowVdi { vid, size_bytes: 6 * GIB }).unwrap();
        let grown = |size: &str| luns(&format!("{{lun: 0, vdi: thick, size: {size}}}"));
        let current = Current { free_bytes: 0, ..current(None, &state) };
        assert!(plan(current, &grown("6GiB")).is_ok());
        assert!(plan(current, &grown("7GiB")).unwrap_err().to_string().contains("takes 6144 MiB"));
    }

    #[test]
    fn without_all_disks_only_what_needs_one_of_them_is_done() {
        let state = state();
        let current = Current { missing_disk: Some("/srv/disk2"), ..current(None, &state) };
        for allowed in
            ["{lun: 0, vdi: thin, size: 3GiB}, {lun: 1, vdi: thick}", "{lun: 0, vdi: new, size: 1GiB}"]
        {
            assert!(plan(current, &luns(allowed)).is_ok());
        }
        for (refused, vdi) in [
            ("{lun: 0, vdi: thin, size: 512MiB, allow_shrink: true}", "thin"),
            ("{lun: 0, vdi: thick, size: 2GiB}", "thick"),
            ("{lun: 0, vdi: new, size: 1GiB, thin: false}", "new"),
        ] {
            let wanted = luns(refused);
            let reason = format!("VDI `{vdi}` cannot be changed: disk /srv/disk2 has failed or is missing");
            let served = luns("{lun: 0, vdi: thin}");
            let report = plan(Current { served: Some(&served), ..current }, &wanted).unwrap_err().to_string();
            assert!(report.contains(&reason), "{report}");
            // at a start, that waits, and nothing else
            let started = plan(current, &wanted).unwrap();
            let report = started.postponed(&wanted).unwrap().to_string();
            assert!(started.vdis.is_empty() && report.contains(&reason), "{report}");
        }
    }

    #[test]
    fn in_a_cluster_a_smaller_size_is_a_warning_and_nothing_shrinks() {
        let state = state();
        let served = luns("{lun: 0, vdi: thin}");
        for served in [None, Some(&served)] {
            let current = Current { is_clustered: true, ..current(served, &state) };
            for shrinks in ["", ", allow_shrink: true"] {
                let wanted = luns(&format!("{{lun: 0, vdi: thin, size: 512MiB{shrinks}}}"));
                let plan = plan(current, &wanted).unwrap();
                assert_eq!((&*plan.vdis, plan.is_partial()), (&[][..], false));
                let told = plan.warnings(&wanted).to_string();
                for word in ["huntaway.yaml:7:", "is served with that, not with 512MiB", "`size: 1GiB`"] {
                    assert!(told.contains(word), "{word} is not in:\n{told}");
                }
            }
        }
    }

    #[test]
    fn a_node_of_a_cluster_starts_whatever_is_wrong_with_a_lun() {
        let state = state();
        let wanted = luns(
            "{lun: 0, vdi: thin, block_size: 4096, physical_block_size: 4096}, {lun: 1, vdi: nothing}, \
             {lun: 2, vdi: much, size: 5GiB, thin: false}, {lun: 3, vdi: new, size: 1GiB}",
        );
        let current = |served| Current { is_clustered: true, ..current(served, &state) };
        let started = plan(current(None), &wanted).unwrap();
        assert!(matches!(&*started.vdis, [VdiStep::Create { name, .. }] if name.as_str() == "new"));
        let report = started.postponed(&wanted).unwrap().to_string();
        for reason in ["made with block_size 512", "there is no VDI `nothing` yet", "thick VDI `much`"] {
            assert!(report.contains(reason), "{reason} is not in:\n{report}");
        }
        // once it serves, the file is followed as a whole or not at all
        assert_eq!(plan(current(Some(&wanted)), &wanted).unwrap_err().problems().len(), 3);
    }

    #[test]
    fn nothing_to_change_after_an_interruption_is_something_to_do() {
        let same = loaded(NODE);
        let state = state();
        let current = Current { is_unfinished: true, ..current(Some(&same), &state) };
        assert_eq!(plan(current, &same).unwrap().to_string(), format!("~ {UNFINISHED}"));
        assert!(planned(Some(&same), &same).unwrap().is_empty());
    }

    #[test]
    fn what_was_deleted_since_the_file_was_read_is_not_made_again() {
        let state = state();
        let existed = ["spare", "thin"].map(String::from).into();
        let wanted =
            luns("{lun: 0, vdi: spare, size: 1GiB}, {lun: 1, vdi: thin}, {lun: 2, vdi: new, size: 1GiB}");
        let plan = plan(Current { existed: &existed, ..current(None, &state) }, &wanted).unwrap();
        assert!(matches!(&*plan.vdis, [VdiStep::Create { name, .. }] if name.as_str() == "new"));
        let told = plan.warnings(&wanted).to_string();
        assert!(told.contains("huntaway.yaml:7:") && told.contains("VDI `spare` was deleted"), "{told}");
    }

    #[test]
    fn what_needs_a_restart_is_refused() {
        let old = loaded(NODE);
        for (from, to, key) in [
            ("name: one", "name: two", "node.name"),
            ("name: one", "name: one\n  zone: z", "node.zone"),
            ("[disk]", "[disk, more]", "node.data_directories"),
            ("[disk]", "[disk]\n  state_directory: s", "node.state_directory"),
            ("[disk]", "[disk]\n  admin: 127.0.0.1:1", "node.admin"),
            ("[disk]", "[disk]\n  control_socket: c", "node.control_socket"),
            ("{name: test}", "{name: other}", "cluster.name"),
            ("name: one", "name: one\n  log: {format: json}", "node.log.format"),
        ] {
            let report = planned(Some(&old), &loaded(&NODE.replace(from, to))).unwrap_err().to_string();
            assert!(report.contains(&format!("`{key}` cannot change while the node runs")), "{report}");
        }
    }

    #[test]
    fn a_disk_that_was_added_while_the_node_runs_may_be_named_and_none_may_be_left_out() {
        let (one, two) = (loaded(NODE), loaded(&NODE.replace("[disk]", "[disk, more]")));
        let state = state();
        let change = |served, wanted| {
            let has_disk = |directory: &Path| directory.ends_with("more");
            plan(Current { has_disk: &has_disk, ..current(Some(served), &state) }, wanted)
        };
        assert!(change(&one, &two).unwrap().is_empty());
        assert!(change(&two, &one).is_err());
        assert!(change(&one, &loaded(&NODE.replace("[disk]", "[disk, more, other]"))).is_err());
    }

    #[test]
    fn sizes_are_whole_numbers_of_the_largest_unit() {
        assert_eq!(
            [0, 512, 4096, 1 << 20, 1536 << 20, 2 << 40].map(size),
            ["0", "512", "4KiB", "1MiB", "1536MiB", "2TiB"]
        );
    }
}
