//! The section `targets`.

use super::{Reader, Section, or_nothing};
use crate::At;
use crate::config::{Cache, Digests, Initiator, Lun, Target};
use crate::tree::{Node, Value};

/// Most targets of a node.
pub(super) const MAX_TARGETS: usize = 1024;

/// Most entries of a target's `initiators`.
const MAX_INITIATORS: usize = 256;

/// Most LUNs of a target; also the first number that none can have.
const MAX_LUNS: usize = 256;

impl Reader {
    pub(super) fn target(&mut self, node: &Node) -> Target {
        let fields = self.fields(node, Section::Target);
        let iqn = self.required(&fields, "iqn", Self::iscsi_name);
        let portals = self.optional(&fields, "portals", |reader, list| {
            let portals = reader.list(list, super::node::MAX_PORTALS, "portals", Self::name)?;
            if matches!(&list.value, Value::Sequence(items) if items.is_empty()) {
                let cure = "leave `portals` out to serve the target through all of them";
                reader.error(list.span, "this target has no portal", cure);
            }
            Some(portals)
        });
        let chap = self.chap_pair(&fields);
        let digests = self.optional(&fields, "digests", |reader, node| {
            let words =
                [("allowed", Digests::Allowed), ("required", Digests::Required), ("off", Digests::Off)];
            reader.word(node, "a choice of digests", &words)
        });
        let mut luns_span = fields.span;
        let luns = self.optional(&fields, "luns", |reader, list| {
            luns_span = list.span;
            reader.list(list, MAX_LUNS, "luns", Self::lun)
        });
        let initiators = self.required(&fields, "initiators", |reader, list| {
            let all = reader.list(list, MAX_INITIATORS, "initiators", Self::initiator)?;
            if matches!(&list.value, Value::Sequence(items) if items.is_empty()) {
                let cure = "name who may: `- iqn.1993-08.org.debian:*`, or `- \"*\"` for anybody";
                reader.warning(list.span, "nobody may log in to this target", cure);
            }
            Some(all)
        });
        let target = Target {
            iqn: or_nothing(iqn, fields.span),
            portals,
            initiators: initiators.unwrap_or_default(),
            chap,
            digests: digests.unwrap_or(Digests::Allowed),
            luns: luns.unwrap_or_default(),
        };
        if !self.has_error_in(luns_span) {
            self.lun_sets(&target);
        }
        target
    }

    fn initiator(&mut self, node: &Node) -> Option<Initiator> {
        if !matches!(node.value, Value::Mapping(_)) {
            return Some(Initiator { name: self.iscsi_pattern(node)?, luns: None, chap: None });
        }
        let fields = self.fields(node, Section::Initiator);
        let name = self.required(&fields, "name", Self::iscsi_pattern);
        let luns = self
            .optional(&fields, "luns", |reader, list| reader.list(list, MAX_LUNS, "luns", Self::lun_number));
        let chap = self.optional(&fields, "chap", Self::chap_account);
        Some(Initiator { name: name?, luns, chap })
    }

    fn lun_number(&mut self, node: &Node) -> Option<At<u16>> {
        let number = self.number(node, "a LUN", (0, MAX_LUNS as u64 - 1))?;
        Some(At::new(u16::try_from(number.value).ok()?, number.span))
    }

    /// Notes LUNs that an initiator may use, but that do not exist.
    fn lun_sets(&mut self, target: &Target) {
        for initiator in &target.initiators {
            for number in initiator.luns.iter().flatten() {
                if !target.luns.iter().any(|lun| lun.number == *number) {
                    let message = format!("this target has no LUN {}", number.value);
                    self.error(number.span, message, "add it to the target's `luns`, or take it out here");
                }
            }
        }
    }

    fn lun(&mut self, node: &Node) -> Option<Lun> {
        let fields = self.fields(node, Section::Lun);
        let number = self.required(&fields, "lun", Self::lun_number);
        let vdi = self.required(&fields, "vdi", Self::name);
        let block_size = self.optional(&fields, "block_size", Self::block_size);
        let physical_block_size = self.optional(&fields, "physical_block_size", Self::block_size);
        if let (Some(block_size), Some(physical)) = (&block_size, &physical_block_size)
            && physical.value < block_size.value
        {
            let message = "the physical blocks are smaller than the blocks";
            self.error(physical.span, message, format!("write {}, or leave it out", block_size.value));
        }
        let cache = self.optional(&fields, "cache", |reader, node| {
            let words = [("writeback", Cache::Writeback), ("writethrough", Cache::Writethrough)];
            reader.word(node, "a kind of cache", &words)
        });
        let size_bytes = self.optional(&fields, "size", Self::size);
        let thin = self.optional(&fields, "thin", Self::boolean);
        let read_only = self.optional(&fields, "read_only", Self::boolean);
        let allow_shrink = self.optional(&fields, "allow_shrink", Self::boolean);
        Some(Lun {
            number: number?,
            vdi: vdi?,
            size_bytes,
            block_size,
            physical_block_size,
            thin,
            read_only: read_only.is_some_and(|value| value.value),
            cache: cache.unwrap_or(Cache::Writeback),
            allow_shrink: allow_shrink.is_some_and(|value| value.value),
        })
    }
}
