//! The beginning of a pepoch: the primary learns what is in doubt anywhere, and sees to it that everyone has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use huntaway_wire::Version;

use crate::configuration::SetChange;
use crate::message::Body;
use crate::planted::PlantedBug;
use crate::process::{LEASE_US, Moment, Process, SILENCE_US};
use crate::record::Record;
use crate::resend::Resend;
use crate::site::Site;

/// A primary that does not serve yet.
#[derive(Debug)]
pub(crate) struct Opening {
    members: Vec<Process>,
    /// When each of the others was heard last.
    heard: BTreeMap<Process, Moment>,
    /// When they were asked first for what they are asked for now.
    asked: Moment,
    gathered: Vec<Process>,
    /// A write is in doubt if any replica says so: its gateway, or a read, may have seen it.
    records: BTreeMap<Version, Arc<Record>>,
    /// Those that do not have it all yet, once it is known what all is.
    lacking: Option<Vec<Process>>,
    /// Of what these are to have, which may be much.
    resend: Resend,
}

impl Opening {
    pub(crate) fn new(site: &Site) -> Self {
        let mut members = site.configuration.in_sync.clone();
        if site.has(PlantedBug::DoubtfulOpensAlone) && site.configuration.is_all_doubtful() {
            members.retain(|member| *member == site.me);
        }
        let (gathered, records) = (Vec::new(), BTreeMap::new());
        let resend = Resend::new(site.now);
        let others = members.iter().filter(|member| **member != site.me);
        let heard = others.map(|member| (*member, site.now)).collect();
        Self { members, heard, asked: site.now, gathered, records, lacking: None, resend }
    }

    /// Whether every in-sync replica has everything.
    pub(crate) fn is_whole(&self) -> bool {
        self.lacking.as_ref().is_some_and(Vec::is_empty)
    }

    pub(crate) fn tick(&mut self, site: &mut Site) {
        for (member, heard) in &self.heard {
            let is_missed = is_missed(site, *heard);
            let settled = Version::NEVER;
            let (sent, wants_room) = (site.now, false);
            site.send(*member, Body::Beacon { sent, settled, attempt: 0, is_missed, wants_room });
        }
        let configuration = site.configuration.clone();
        if !configuration.is_all_doubtful() && !configuration.doubtful.is_empty() {
            // They learn again what they lost, from those who have it.
            let doubtful = |process: &&Process| configuration.doubtful.contains(&process.node);
            configuration.in_sync.iter().filter(doubtful).for_each(|process| {
                site.propose(SetChange::Drop(*process));
            });
            return;
        }
        // This replica gave its word to the last primary, like any other.
        if !self.gathered.contains(&site.me) && !site.is_bound_against(site.me) {
            let records: Vec<_> = site.doubt.records().cloned().collect();
            self.gathered_from(site, site.me, records);
        }
        let waits_for: Vec<Process> = match &self.lacking {
            None => self.members.iter().filter(|member| !self.gathered.contains(member)).copied().collect(),
            Some(lacking) => lacking.clone(),
        };
        let me = site.me;
        let is_due = self.resend.is_due(site.now);
        for member in waits_for.into_iter().filter(|member| *member != me) {
            if self.lacking.is_none() {
                site.send(member, Body::Gather);
            } else if is_due {
                site.send(member, self.to_roll_forward());
            }
            if self.is_late(site, member) {
                site.propose(SetChange::Drop(member));
            }
        }
    }

    /// Whether a member left something unanswered for too long. Those of whom nothing is heard any more may miss this primary as
    /// well, and have their time for that.
    fn is_late(&self, site: &Site, member: Process) -> bool {
        let heard = self.heard.get(&member).copied().filter(|heard| is_missed(site, *heard));
        site.waited_us(heard.unwrap_or(self.asked)) > SILENCE_US
    }

    fn to_roll_forward(&self) -> Body {
        Body::RollForward { records: self.records.values().cloned().collect() }
    }

    pub(crate) fn receive(&mut self, site: &mut Site, from: Process, body: Body) {
        self.heard.entry(from).and_modify(|heard| *heard = site.now);
        match body {
            Body::Gathered { records } if records.iter().all(|record| record.is_sound()) => {
                self.gathered_from(site, from, records);
            }
            Body::RolledForward => self.rolled_forward(from),
            _ => {}
        }
    }

    fn gathered_from(&mut self, site: &mut Site, from: Process, records: Vec<Arc<Record>>) {
        if self.lacking.is_some() || !self.members.contains(&from) || self.gathered.contains(&from) {
            return;
        }
        self.gathered.push(from);
        if !site.has(PlantedBug::NoRollForward) || from == site.me {
            self.records.extend(records.into_iter().map(|record| (record.version, record)));
        }
        let enough = if site.has(PlantedBug::RollForwardOverMajority) {
            self.members.len() / 2 + 1
        } else {
            self.members.len()
        };
        if self.gathered.len() < enough || !self.gathered.contains(&site.me) {
            return;
        }
        self.lacking = Some(self.members.clone());
        (self.asked, self.resend) = (site.now, Resend::new(site.now));
        let records: Vec<_> = self.records.values().cloned().collect();
        site.roll_forward(&records);
        let me = site.me;
        for member in self.members.iter().filter(|member| **member != me) {
            site.send(*member, self.to_roll_forward());
        }
    }

    /// `member` has everything on stable storage.
    pub(crate) fn rolled_forward(&mut self, member: Process) {
        if let Some(lacking) = &mut self.lacking {
            lacking.retain(|process| *process != member);
        }
    }
}

/// Whether it is told that it is not heard.
fn is_missed(site: &Site, heard: Moment) -> bool {
    site.waited_us(heard) > LEASE_US
}
