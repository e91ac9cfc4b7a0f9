//! What fits each for itself, but not together.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use crate::config::{ChapPair, Config, Lun, Node, Target};
use crate::read::{Reader, covers, quoted, size_text};
use crate::{At, Source, Span};

/// Notes everything in `config` that does not fit together.
pub(crate) fn config(config: &Config, reader: &mut Reader) {
    let lines = Lines::new(&config.source);
    data_directories(&config.node, reader);
    portals(&config.node, &lines, reader);
    chap(&config.node.discovery, reader);
    let mut iqns = HashMap::new();
    for target in &config.targets {
        if let Some(first) =
            iqns.insert(&target.iqn.value, target.iqn.span).filter(|_| !target.iqn.is_empty())
        {
            let message =
                format!("another target is {}, too (line {})", quoted(&target.iqn), lines.number(first));
            reader.error(target.iqn.span, message, "give each target a name of its own");
        }
        portals_of(target, &config.node, reader);
        luns(target, &lines, reader);
        initiators(target, &lines, reader);
        mutual(target, reader);
    }
    vdis(&config.targets, &lines, reader);
}

/// Finds lines by binary search: a file may have as many problems as lines.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn new(source: &Source) -> Self {
        let newlines = source.text.match_indices('\n').map(|(newline, _)| newline + 1);
        Self { starts: std::iter::once(0).chain(newlines).collect() }
    }

    /// The line of a place, from 1.
    fn number(&self, span: Span) -> usize {
        self.starts.partition_point(|start| *start <= span.start)
    }
}

fn data_directories(node: &Node, reader: &mut Reader) {
    let mut earlier: Vec<PathBuf> = Vec::new();
    for directory in &node.data_directories {
        let path = plain(&directory.path);
        let written = quoted(&directory.path.display().to_string());
        if let Some(other) = earlier.iter().find(|other| path.starts_with(other) || other.starts_with(&path))
        {
            let message = if *other == path {
                format!("{written} is here twice")
            } else {
                format!("{written} and {} are inside one another", quoted(&other.display().to_string()))
            };
            reader.error(
                directory.path.span,
                message,
                "name one directory for each disk, none inside another",
            );
        }
        earlier.push(path);
    }
}

/// A path without `.` and with what `..` takes back taken back, as far as that can be told from the text.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if plain.file_name().is_some() => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

fn portals(node: &Node, lines: &Lines, reader: &mut Reader) {
    let mut names = HashMap::new();
    for name in node.portals.iter().filter_map(|portal| portal.name.as_ref()) {
        if let Some(first) = names.insert(&name.value, name.span) {
            let message = format!("another portal is {}, too (line {})", quoted(name), lines.number(first));
            reader.error(name.span, message, "give each portal a name of its own");
        }
    }
    let mut earlier: Vec<(&At<SocketAddr>, &str)> = Vec::new();
    let listens = node.portals.iter().map(|portal| (&portal.listen, "a portal"));
    for (address, what) in listens.chain(node.admin.iter().map(|admin| (admin, "`admin`"))) {
        if let Some((other, other_what)) = earlier.iter().find(|(other, _)| overlap(address, other)) {
            let line = lines.number(other.span);
            let message = format!("{other_what} listens on {} already (line {line})", other.value);
            reader.error(address.span, message, "take another port or address");
        }
        earlier.push((address, what));
    }
}

/// Whether two sockets cannot listen on both at once. Port 0 is a different one each time.
pub fn overlap(one: &SocketAddr, other: &SocketAddr) -> bool {
    let all = one.ip().is_unspecified() || other.ip().is_unspecified();
    let same = one.ip() == other.ip() || (all && one.is_ipv4() == other.is_ipv4());
    same && one.port() == other.port() && one.port() != 0
}

fn portals_of(target: &Target, node: &Node, reader: &mut Reader) {
    let known: Vec<&At<String>> = node.portals.iter().filter_map(|portal| portal.name.as_ref()).collect();
    let mut seen = BTreeSet::new();
    for name in target.portals.iter().flatten() {
        if !seen.insert(&name.value) {
            reader.error(name.span, format!("{} is here twice", quoted(name)), "take out one of the two");
        }
        // A portal that could not be read may be the one that is meant.
        if !known.contains(&name) && !reader.has_portal_error() {
            let names: Vec<&str> = known.iter().map(|name| name.as_str()).collect();
            let cure = match &*names {
                [] => {
                    "give a portal of `node` this name with `name:`, or leave `portals` out here".to_owned()
                }
                _ => format!("the portals of `node` are {}", names.join(", ")),
            };
            reader.error(name.span, format!("there is no portal {}", quoted(name)), cure);
        }
    }
}

fn luns(target: &Target, lines: &Lines, reader: &mut Reader) {
    let mut numbers = HashMap::new();
    let mut vdis = HashMap::new();
    for lun in &target.luns {
        if let Some(first) = numbers.insert(lun.number.value, lun.number.span) {
            let message = format!("LUN {} is here twice (line {})", lun.number.value, lines.number(first));
            reader.error(lun.number.span, message, "give each LUN of a target a number of its own");
        }
        if let Some(first) = vdis.insert(&lun.vdi.value, lun.vdi.span) {
            let line = lines.number(first);
            let message = format!("{} is another LUN of this target, too (line {line})", quoted(&lun.vdi));
            reader.warning(lun.vdi.span, message, "initiators find one disk twice: take out one of the two");
        }
    }
}

fn initiators(target: &Target, lines: &Lines, reader: &mut Reader) {
    for (index, initiator) in target.initiators.iter().enumerate() {
        let name = &initiator.name;
        if let Some(first) = target.initiators[..index].iter().find(|earlier| covers(&earlier.name, name)) {
            let line = lines.number(first.name.span);
            let message =
                format!("no initiator comes to this entry: {} (line {line}) is first", quoted(&first.name));
            reader.warning(
                name.span,
                message,
                "the first entry that matches decides: move this one up, or take it out",
            );
        }
        let mut seen = BTreeSet::new();
        for number in initiator.luns.iter().flatten().filter(|number| !seen.insert(number.value)) {
            reader.error(
                number.span,
                format!("LUN {} is here twice", number.value),
                "take out one of the two",
            );
        }
    }
}

fn chap(pair: &ChapPair, reader: &mut Reader) {
    if let (Some(mutual), None) = (&pair.mutual_chap, &pair.chap) {
        let cure = "add `chap`: a target proves itself only to an initiator that does (RFC 7143 §12.1.3)";
        reader.error(mutual.user.span, "`mutual_chap` without `chap`", cure);
    }
    if let (Some(mutual), Some(chap)) = (&pair.mutual_chap, &pair.chap)
        && mutual.secret_file == chap.secret_file
        && !mutual.secret_file.as_os_str().is_empty()
    {
        same_secret(&mutual.secret_file, reader);
    }
}

fn same_secret(secret_file: &At<PathBuf>, reader: &mut Reader) {
    let message = "`chap` and `mutual_chap` have one secret";
    reader.error(secret_file.span, message, "give each direction a secret of its own (RFC 7143 §9.2.1)");
}

/// As [`chap`], for a target, whose initiators may have accounts of their own.
fn mutual(target: &Target, reader: &mut Reader) {
    let Some(mutual) = &target.chap.mutual_chap else {
        return;
    };
    if target.chap.chap.is_some() || target.initiators.is_empty() {
        chap(&target.chap, reader);
    }
    for initiator in &target.initiators {
        match target.chap_of(initiator) {
            None => {
                let message = "the target has `mutual_chap`, but this initiator no `chap`";
                let cure = "add `chap` here or to the target: a target proves itself only to an initiator that does \
                            (RFC 7143 §12.1.3)";
                reader.error(initiator.name.span, message, cure);
            }
            Some(account) if initiator.chap.is_some() && account.secret_file == mutual.secret_file => {
                same_secret(&account.secret_file, reader);
            }
            Some(_) => {}
        }
    }
}

/// How a VDI was used first.
struct Uses<'a> {
    first: &'a Lun,
    /// The first LUN that initiators may write to, its target, and who they are.
    writer: Option<(&'a Target, &'a Lun, BTreeSet<&'a str>)>,
    is_warned: bool,
}

/// A VDI may be a LUN of several targets, if they agree on it.
fn vdis(targets: &[Target], lines: &Lines, reader: &mut Reader) {
    let mut vdis: HashMap<&str, Uses<'_>> = HashMap::new();
    for (target, lun) in targets.iter().flat_map(|target| target.luns.iter().map(move |lun| (target, lun))) {
        let Some(uses) = vdis.get_mut(lun.vdi.as_str()) else {
            let writer = (!lun.read_only).then(|| (target, lun, who(target, lun)));
            vdis.insert(&lun.vdi, Uses { first: lun, writer, is_warned: false });
            continue;
        };
        same_property(uses.first, lun, lines, reader);
        if lun.read_only || uses.is_warned {
            continue;
        }
        let Some((other, other_lun, writers)) = &uses.writer else {
            uses.writer = Some((target, lun, who(target, lun)));
            continue;
        };
        if other.iqn != target.iqn && *writers != who(target, lun) {
            let (vdi, iqn, line) = (quoted(&lun.vdi), quoted(&other.iqn), lines.number(other_lun.vdi.span));
            let message = format!("other initiators may write to {vdi} through {iqn} (line {line})");
            let cure = "two that do not know of each other ruin a file system: give both targets the same \
                        `initiators`, or one of the LUNs `read_only: true`";
            reader.warning(lun.vdi.span, message, cure);
            uses.is_warned = true;
        }
    }
}

/// The patterns of those who may use `lun`.
fn who<'a>(target: &'a Target, lun: &Lun) -> BTreeSet<&'a str> {
    let may =
        |numbers: &Option<Vec<At<u16>>>| numbers.as_ref().is_none_or(|numbers| numbers.contains(&lun.number));
    let allowed = target.initiators.iter().filter(|initiator| may(&initiator.luns));
    allowed.map(|initiator| initiator.name.as_str()).collect()
}

/// Notes properties of one VDI that are written differently in two places.
fn same_property(first: &Lun, second: &Lun, lines: &Lines, reader: &mut Reader) {
    let mut compare = |key: &str, one: Option<(String, Span)>, other: Option<(String, Span)>| {
        if let (Some((one, one_span)), Some((other, span))) = (one, other)
            && one != other
        {
            let line = lines.number(one_span);
            let message =
                format!("`{key}` of {} is {other} here and {one} in line {line}", quoted(&second.vdi));
            reader.error(
                span,
                message,
                "a disk has one: write the same in both places, or leave it out in one",
            );
        }
    };
    compare("size", said(&first.size_bytes, size_text), said(&second.size_bytes, size_text));
    let text = |value: u32| value.to_string();
    compare("block_size", said(&first.block_size, text), said(&second.block_size, text));
    let (one, other) = (&first.physical_block_size, &second.physical_block_size);
    compare("physical_block_size", said(one, text), said(other, text));
    let text = |value: bool| value.to_string();
    compare("thin", said(&first.thin, text), said(&second.thin, text));
}

fn said<T: Copy>(value: &Option<At<T>>, text: impl Fn(T) -> String) -> Option<(String, Span)> {
    value.as_ref().map(|value| (text(value.value), value.span))
}
