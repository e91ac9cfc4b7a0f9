//! A view: the logical units one initiator finds behind a target, and what it must be told when that changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use huntaway_scsi::Sense;

use crate::unit::Unit;

/// The units an initiator sees, by LUN. Immutable: a change is another view.
#[derive(Default)]
pub(crate) struct View {
    units: BTreeMap<u16, Arc<Unit>>,
}

/// What an initiator is to be told about one LUN of its new view.
pub(crate) struct News {
    pub(crate) lun: u16,
    /// Another disk is there: what waited to be told of the one before is void.
    pub(crate) is_other_disk: bool,
    /// In this order.
    pub(crate) attentions: Vec<Sense>,
}

impl View {
    pub(crate) fn new(units: BTreeMap<u16, Arc<Unit>>) -> Self {
        Self { units }
    }

    pub(crate) fn unit(&self, lun: u16) -> Option<&Arc<Unit>> {
        self.units.get(&lun)
    }

    /// The LUNs in ascending order.
    pub(crate) fn luns(&self) -> impl Iterator<Item = u16> {
        self.units.keys().copied()
    }

    /// What to tell an initiator that has seen `old` until now. Other LUNs, or other disks behind them, concern every LUN:
    /// REPORTED LUNS DATA HAS CHANGED (SPC-4 §6.33).
    pub(crate) fn news_since(&self, old: &Self) -> Vec<News> {
        let mut news: Vec<News> = self.units.iter().map(|(lun, unit)| news(*lun, unit, old)).collect();
        if !self.luns().eq(old.luns()) || news.iter().any(|news| news.is_other_disk) {
            news.iter_mut().for_each(|news| news.attentions.push(Sense::luns_changed()));
        }
        news
    }
}

fn news(lun: u16, unit: &Arc<Unit>, old: &View) -> News {
    let nothing = News { lun, is_other_disk: false, attentions: Vec::new() };
    match old.unit(lun) {
        None => nothing,
        Some(before) if Arc::ptr_eq(before, unit) => nothing,
        Some(before) if before.description.is_same_disk(&unit.description) => {
            News { attentions: unit.description.attentions_since(&before.description), ..nothing }
        }
        Some(_) => News { is_other_disk: true, attentions: vec![Sense::inquiry_changed()], ..nothing },
    }
}
