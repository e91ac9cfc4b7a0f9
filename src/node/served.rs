//! A configuration as the gateway wants it: targets, who may log in to them, and disks with their volumes.

use std::collections::BTreeMap;

use huntaway_config::{self as config, Cache, Digests, Initiator, Target};
use huntaway_gateway::{
    Authentication, Chap, ChapAccount, DigestPolicy, InitiatorConfig, Secret, Served, TargetConfig,
};
use huntaway_ledger::Vdi;

use super::loaded::Loaded;
use super::storage::Storage;

/// All that is to be served. `vdi` knows each VDI that a LUN names. Of one that has yet to become as small as the file says,
/// initiators see no more than they are to have: what lies beyond may go at any time. In a cluster no VDI becomes smaller. A thick one
/// is not there before all of its space is set aside, by whichever node.
pub(super) fn served(loaded: &Loaded, storage: &Storage, vdi: impl Fn(&str) -> Option<Vdi>) -> Served {
    let discovery = authentication(
        loaded,
        loaded.config.node.discovery.chap.as_ref(),
        loaded.config.node.discovery.mutual_chap.as_ref(),
    );
    let luns = loaded.config.targets.iter().flat_map(|target| &target.luns);
    let size = |lun: &config::Lun| lun.size_bytes.as_ref().map(|size| size.value);
    let sizes: BTreeMap<&str, u64> = luns.filter_map(|lun| Some((lun.vdi.as_str(), size(lun)?))).collect();
    let shown = |name: &str| {
        let vdi = vdi(name).filter(|vdi| vdi.provisioned)?;
        let shrinks_to = sizes.get(name).filter(|_| !storage.is_clustered());
        let size_bytes = shrinks_to.map_or(vdi.size_bytes, |size| vdi.size_bytes.min(*size));
        Some(Vdi { size_bytes, ..vdi })
    };
    let units = |target: &Target| {
        let unit = |lun: &config::Lun| {
            let write_cache = lun.cache == Cache::Writeback;
            Some(storage.unit(lun.number.value, &shown(&lun.vdi)?, lun.read_only, write_cache))
        };
        target.luns.iter().filter_map(unit).collect()
    };
    let target = |target: &Target| TargetConfig {
        name: target.iqn.value.clone(),
        portals: target.portals.as_ref().map(|names| names.iter().map(|name| name.value.clone()).collect()),
        initiators: target.initiators.iter().map(|entry| initiator(loaded, target, entry)).collect(),
        digests: match target.digests {
            Digests::Allowed => DigestPolicy::Allowed,
            Digests::Required => DigestPolicy::Required,
            Digests::Off => DigestPolicy::Off,
        },
        units: units(target),
    };
    Served { targets: loaded.config.targets.iter().map(target).collect(), discovery }
}

/// An initiator's own account comes before the target's; the target proves itself to all in the same way.
fn initiator(loaded: &Loaded, target: &Target, entry: &Initiator) -> InitiatorConfig {
    let account = entry.chap.as_ref().or(target.chap.chap.as_ref());
    InitiatorConfig {
        pattern: entry.name.value.clone(),
        luns: entry.luns.as_ref().map(|luns| luns.iter().map(|lun| lun.value).collect()),
        authentication: authentication(loaded, account, target.chap.mutual_chap.as_ref()),
    }
}

fn authentication(
    loaded: &Loaded,
    chap: Option<&config::ChapAccount>,
    mutual: Option<&config::ChapAccount>,
) -> Authentication {
    // without its secret, nobody could use an account: that lets nobody in
    let account = |account: &config::ChapAccount| {
        let secret = Secret::new(loaded.secret(account)?);
        Some(ChapAccount { user: account.user.value.clone(), secret })
    };
    match chap {
        None => Authentication::None,
        Some(chap) => Authentication::Chap(Chap {
            mutual: mutual.and_then(account),
            ..Chap::new(account(chap).into_iter().collect())
        }),
    }
}
