//! The difference of two configurations, for people: what is added (`+`), removed (`-`) and changed (`~`).
//!
//! Each configuration is described as sections of items; sections and items of the same name are compared.

use huntaway_config::{Cache, ChapAccount, ChapPair, Config, Digests, Initiator, Lun, Portal, Target};

use super::{Change, Sign};
use crate::node::loaded::Loaded;
use crate::node::portals::portal_name;

/// One thing with a name: the log, a portal, a target.
struct Section<'a> {
    name: String,
    items: Vec<Item<'a>>,
}

/// A part of it.
struct Item<'a> {
    name: String,
    /// What it is, property by property.
    properties: Vec<String>,
    /// Compared, never shown.
    secret: Option<&'a [u8]>,
}

/// All that differs.
pub(super) fn between(served: Option<&Loaded>, wanted: &Loaded) -> Vec<Change> {
    let (old, new) = (served.map(sections).unwrap_or_default(), sections(wanted));
    let mut changes = Vec::new();
    for section in old.iter().filter(|section| find(&new, &section.name).is_none()) {
        changes.extend(whole(Sign::Removed, section));
    }
    for section in &new {
        match find(&old, &section.name) {
            None => changes.extend(whole(Sign::Added, section)),
            Some(before) => changes.extend(differing(before, section)),
        }
    }
    changes
}

fn find<'a, 'b>(sections: &'b [Section<'a>], name: &str) -> Option<&'b Section<'a>> {
    sections.iter().find(|section| section.name == name)
}

fn whole(sign: Sign, section: &Section<'_>) -> Vec<Change> {
    let heading = Change { sign, depth: 0, text: section.name.clone() };
    let items = section.items.iter().map(|item| Change { sign, depth: 1, text: item.text() });
    std::iter::once(heading).chain(items).collect()
}

fn differing(old: &Section<'_>, new: &Section<'_>) -> Vec<Change> {
    let named = |items: &[Item<'_>], name: &str| items.iter().any(|item| item.name == name);
    let line = |sign, text| Change { sign, depth: 1, text };
    let mut lines = Vec::new();
    for item in old.items.iter().filter(|item| !named(&new.items, &item.name)) {
        lines.push(line(Sign::Removed, item.text()));
    }
    for item in &new.items {
        match old.items.iter().find(|before| before.name == item.name) {
            None => lines.push(line(Sign::Added, item.text())),
            Some(before) => lines.extend(item.difference(before).map(|text| line(Sign::Changed, text))),
        }
    }
    lines.extend(order(old, new).map(|text| line(Sign::Changed, text)));
    if lines.is_empty() {
        return lines;
    }
    lines.insert(0, Change { sign: Sign::Changed, depth: 0, text: new.name.clone() });
    lines
}

/// Of initiators the first that matches decides; everything else is described in an order of its own.
fn order(old: &Section<'_>, new: &Section<'_>) -> Option<String> {
    let common = |these: &Section<'_>, others: &Section<'_>| -> Vec<String> {
        let names = these.items.iter().map(|item| item.name.clone());
        names.filter(|name| others.items.iter().any(|other| other.name == *name)).collect()
    };
    let now = common(new, old);
    (common(old, new) != now).then(|| {
        let initiators: Vec<&str> = now.iter().filter_map(|name| name.strip_prefix("initiator ")).collect();
        format!("order of initiators: {}", initiators.join(", "))
    })
}

impl<'a> Item<'a> {
    fn new(name: impl Into<String>, properties: impl IntoIterator<Item = String>) -> Self {
        Self { name: name.into(), properties: properties.into_iter().collect(), secret: None }
    }

    fn text(&self) -> String {
        if self.properties.is_empty() {
            return self.name.clone();
        }
        format!("{}: {}", self.name, self.properties.join(", "))
    }

    /// How it differs from what it was.
    fn difference(&self, before: &Item<'_>) -> Option<String> {
        let mut differences = Vec::new();
        if self.properties.len() == before.properties.len() {
            let pairs = before.properties.iter().zip(&self.properties).filter(|(old, new)| old != new);
            differences.extend(pairs.map(|(old, new)| format!("{old} -> {new}")));
        } else {
            differences.push(format!("{} -> {}", before.properties.join(", "), self.properties.join(", ")));
        }
        if self.secret != before.secret {
            differences.push("another secret".into());
        }
        (!differences.is_empty()).then(|| format!("{}: {}", self.name, differences.join(", ")))
    }

    fn with_secret(mut self, account: Option<&ChapAccount>, loaded: &'a Loaded) -> Self {
        self.secret = account.and_then(|account| loaded.secret(account));
        self
    }
}

fn sections(loaded: &Loaded) -> Vec<Section<'_>> {
    let Config { node, targets, .. } = &loaded.config;
    let log = Section { name: "log".into(), items: vec![Item::new("level", [node.log.level.value.clone()])] };
    let mut discovery = Section { name: "discovery".into(), items: Vec::new() };
    discovery.items.extend(accounts(&node.discovery, loaded));
    let portals = node.portals.iter().map(portal);
    let targets = targets.iter().map(|target| self::target(target, loaded));
    let all = std::iter::once(log).chain(std::iter::once(discovery)).chain(portals).chain(targets);
    all.filter(|section| !section.items.is_empty()).collect()
}

fn portal(portal: &Portal) -> Section<'_> {
    let shown = portal.advertise.as_ref().map(|address| Item::new("advertise", [address.value.clone()]));
    let items = std::iter::once(Item::new("listen", [portal.listen.to_string()])).chain(shown);
    Section { name: format!("portal {}", portal_name(portal)), items: items.collect() }
}

fn target<'a>(target: &'a Target, loaded: &'a Loaded) -> Section<'a> {
    let portals = match &target.portals {
        None => "all".to_owned(),
        Some(names) => names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" "),
    };
    let digests = match target.digests {
        Digests::Allowed => "allowed",
        Digests::Required => "required",
        Digests::Off => "off",
    };
    let mut items = vec![Item::new("portals", [portals]), Item::new("digests", [digests.to_owned()])];
    items.extend(accounts(&target.chap, loaded));
    items.extend(target.initiators.iter().map(|initiator| initiator_item(initiator, loaded)));
    let mut luns: Vec<&Lun> = target.luns.iter().collect();
    luns.sort_by_key(|lun| lun.number.value);
    items.extend(luns.into_iter().map(lun));
    Section { name: format!("target {}", *target.iqn), items }
}

fn accounts<'a>(pair: &'a ChapPair, loaded: &'a Loaded) -> impl Iterator<Item = Item<'a>> {
    let named = [("chap", &pair.chap), ("mutual_chap", &pair.mutual_chap)];
    named.into_iter().filter_map(move |(name, account)| {
        let account = account.as_ref()?;
        Some(Item::new(name, [user(account)]).with_secret(Some(account), loaded))
    })
}

fn user(account: &ChapAccount) -> String {
    format!("user {}", account.user.value)
}

fn initiator_item<'a>(initiator: &'a Initiator, loaded: &'a Loaded) -> Item<'a> {
    let luns = match &initiator.luns {
        None => "all LUNs".to_owned(),
        Some(luns) => {
            let luns: Vec<String> = luns.iter().map(|lun| lun.to_string()).collect();
            format!("LUNs {}", luns.join(" "))
        }
    };
    let account = initiator.chap.as_ref();
    let chap = account.map_or("the target's chap".to_owned(), user);
    Item::new(format!("initiator {}", *initiator.name), [luns, chap]).with_secret(account, loaded)
}

fn lun(lun: &Lun) -> Item<'_> {
    let access = if lun.read_only { "read-only" } else { "read-write" };
    let cache = match lun.cache {
        Cache::Writeback => "write-back",
        Cache::Writethrough => "write-through",
    };
    let properties = [format!("VDI {}", *lun.vdi), access.to_owned(), cache.to_owned()];
    Item::new(format!("LUN {}", *lun.number), properties)
}
