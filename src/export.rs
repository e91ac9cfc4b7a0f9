//! `huntaway export`: what initiators need to reach a target, from the configuration file alone.

use std::error::Error;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf, absolute};
use std::process::ExitCode;

use huntaway_config::{ChapAccount, Config, Digests, Initiator, Lun, Portal, Target, parse};
use wildmatch::WildMatch;

use crate::node::{directory_of, read_text};
use crate::node_address::DEFAULT_CONFIG;
use crate::recipes::{self, ChapRecipe, LunRecipe, PoolType, Recipe};

/// Arguments of `huntaway export`.
#[derive(clap::Args)]
pub(crate) struct ExportArgs {
    /// What is to use the target
    #[arg(value_enum)]
    consumer: Consumer,

    /// The target's name
    target: String,

    /// The node's configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,

    /// Who will log in: decides the CHAP user and the LUNs, if the target's initiators differ in them
    #[arg(long, value_name = "NAME")]
    initiator: Option<String>,

    /// A portal's name, or HOST:PORT as the initiator sees it; may be repeated [default: all of the target's]
    #[arg(long, value_name = "PORTAL")]
    portal: Vec<String>,

    /// Only this LUN [default: all]
    #[arg(long, value_name = "NUMBER")]
    lun: Option<u16>,

    /// The kind of libvirt's pool [default: iscsi-direct]
    #[arg(long = "type", value_enum, value_name = "POOL")]
    pool: Option<PoolType>,
}

/// For whom there is a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Consumer {
    /// A script for the Linux kernel's initiator
    Iscsiadm,
    /// Commands for virsh: a secret and a storage pool
    Libvirt,
    /// Options and URLs for QEMU's own initiator
    Qemu,
    /// A file for /etc/multipath/conf.d
    Multipath,
    /// Kubernetes manifests: a PersistentVolume for each LUN, and their Secret
    CsiPv,
}

/// What cannot be exported.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum ExportError {
    #[error("{file} has no target {target}; {existing}")]
    NoTarget { file: String, target: String, existing: String },
    #[error("{target} has no LUN {lun} for this initiator; {existing}")]
    NoLun { target: String, lun: u16, existing: String },
    #[error("{initiator} may not log in to {target}: no entry of its initiators matches")]
    NotAllowed { initiator: String, target: String },
    #[error("the initiators of {target} have different CHAP users or LUNs: say which with --initiator NAME")]
    WhichInitiator { target: String },
    #[error(
        "the portal {listen} has no address that others could use: write `advertise: HOST:PORT` in the file, or give \
         --portal HOST:PORT"
    )]
    NoAddress { listen: String },
    #[error(
        "{portal} is neither a portal's name nor HOST:PORT, such as 192.0.2.1:3260 or [2001:db8::1]:3260"
    )]
    NoPortal { portal: String },
    #[error("--type is for libvirt's pools only")]
    TypeWithoutPool,
}

/// Prints the recipe.
pub(crate) fn run(args: &ExportArgs) -> Result<ExitCode, Box<dyn Error>> {
    let file = args.config.display().to_string();
    let config = parse(&file, &read_text(&args.config)?)?.config;
    let recipe = recipe(args, &config, directory_of(&absolute(&args.config)?))?;
    if args.pool.is_some() && args.consumer != Consumer::Libvirt {
        return Err(ExportError::TypeWithoutPool.into());
    }
    let text = match args.consumer {
        Consumer::Iscsiadm => recipes::iscsiadm(&recipe),
        Consumer::Libvirt => recipes::libvirt(&recipe, args.pool.unwrap_or(PoolType::IscsiDirect)),
        Consumer::Qemu => recipes::qemu(&recipe),
        Consumer::Multipath => recipes::multipath(&recipe),
        Consumer::CsiPv => recipes::csi_pv(&recipe)?,
    };
    stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// What `config`, whose relative paths begin at `base`, says of the target.
fn recipe(args: &ExportArgs, config: &Config, base: &Path) -> Result<Recipe, ExportError> {
    let target = find_target(config, &args.target)?;
    let access = access(target, args.initiator.as_deref())?;
    let account = |account: &ChapAccount| ChapRecipe {
        user: account.user.value.clone(),
        secret_file: base.join(&account.secret_file.value),
    };
    Ok(Recipe {
        portals: portals(config, target, &args.portal)?,
        target: target.iqn.value.clone(),
        luns: luns(target, &access, args.lun)?,
        initiator: access.initiator,
        allowed: target.initiators.iter().map(|initiator| initiator.name.value.clone()).collect(),
        mutual_chap: access.chap.and(target.chap.mutual_chap.as_ref()).map(account),
        chap: access.chap.map(account),
        digests_required: target.digests == Digests::Required,
    })
}

fn find_target<'a>(config: &'a Config, name: &str) -> Result<&'a Target, ExportError> {
    let same = |target: &&Target| target.iqn.value.eq_ignore_ascii_case(name);
    config.targets.iter().find(same).ok_or_else(|| ExportError::NoTarget {
        file: config.source.name.clone(),
        target: name.to_owned(),
        existing: existing(config.targets.iter().map(|target| &target.iqn.value)),
    })
}

/// `there are A, B`, or that there are none.
fn existing(names: impl IntoIterator<Item = impl ToString>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| name.to_string()).collect();
    if names.is_empty() { "there are none".into() } else { format!("there are {}", names.join(", ")) }
}

/// What some initiator may do, and how it proves itself.
#[derive(PartialEq)]
struct Access<'a> {
    chap: Option<&'a ChapAccount>,
    luns: Option<Vec<u16>>,
    initiator: Option<String>,
}

impl<'a> Access<'a> {
    fn of(target: &'a Target, entry: &'a Initiator) -> Self {
        let luns = entry.luns.as_ref().map(|luns| luns.iter().map(|lun| lun.value).collect());
        Self { chap: target.chap_of(entry), luns, initiator: None }
    }
}

/// The first entry that matches decides. Without a name, it does not matter who logs in if all may do the same.
fn access<'a>(target: &'a Target, initiator: Option<&str>) -> Result<Access<'a>, ExportError> {
    let name = || target.iqn.value.clone();
    if let Some(initiator) = initiator {
        let initiator = initiator.to_lowercase();
        let entry = target.initiators.iter().find(|entry| WildMatch::new(&entry.name).matches(&initiator));
        let entry =
            entry.ok_or_else(|| ExportError::NotAllowed { initiator: initiator.clone(), target: name() })?;
        return Ok(Access { initiator: Some(initiator), ..Access::of(target, entry) });
    }
    let mut entries = target.initiators.iter().map(|entry| Access::of(target, entry));
    let first = entries.next().ok_or_else(|| ExportError::WhichInitiator { target: name() })?;
    if entries.any(|other| other != first) {
        return Err(ExportError::WhichInitiator { target: name() });
    }
    let only = match &*target.initiators {
        [only] if !only.name.value.contains(['*', '?']) => Some(only.name.value.clone()),
        _ => None,
    };
    Ok(Access { initiator: only, ..first })
}

fn luns(target: &Target, access: &Access<'_>, wanted: Option<u16>) -> Result<Vec<LunRecipe>, ExportError> {
    let visible = |lun: &&Lun| access.luns.as_ref().is_none_or(|luns| luns.contains(&lun.number.value));
    let visible: Vec<_> = target.luns.iter().filter(visible).collect();
    let chosen: Vec<_> =
        visible.iter().filter(|lun| wanted.is_none_or(|wanted| wanted == lun.number.value)).collect();
    if let Some(lun) = wanted.filter(|_| chosen.is_empty()) {
        let existing = existing(visible.iter().map(|lun| lun.number.value));
        return Err(ExportError::NoLun { target: target.iqn.value.clone(), lun, existing });
    }
    let lun = |lun: &&&Lun| LunRecipe {
        number: lun.number.value,
        vdi: lun.vdi.value.clone(),
        size_bytes: lun.size_bytes.as_ref().map(|size| size.value),
        read_only: lun.read_only,
    };
    Ok(chosen.iter().map(lun).collect())
}

fn portals(config: &Config, target: &Target, wanted: &[String]) -> Result<Vec<String>, ExportError> {
    let named = |name: &str| {
        let same = |portal: &&Portal| portal.name.as_ref().is_some_and(|own| own.value == name);
        config.node.portals.iter().find(same)
    };
    if !wanted.is_empty() {
        let address = |portal: &String| match named(portal) {
            Some(portal) => address(portal),
            None => parse_address(portal),
        };
        return wanted.iter().map(address).collect();
    }
    match &target.portals {
        Some(names) => names.iter().filter_map(|name| named(&name.value)).map(address).collect(),
        None => config.node.portals.iter().map(address).collect(),
    }
}

/// As initiators see it. What is advertised without a port has the one that is listened on.
fn address(portal: &Portal) -> Result<String, ExportError> {
    let listen = portal.listen.value;
    let unusable = || ExportError::NoAddress { listen: listen.to_string() };
    match portal.advertise.as_deref() {
        Some(advertised) if parse_address(advertised).is_ok() => Ok(advertised.clone()),
        _ if listen.port() == 0 => Err(unusable()),
        Some(host) => Ok(format!("{host}:{}", listen.port())),
        None if listen.ip().is_unspecified() => Err(unusable()),
        None => Ok(listen.to_string()),
    }
}

fn parse_address(portal: &str) -> Result<String, ExportError> {
    let valid = portal.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let host_is_valid = if bracketed { true } else { !host.is_empty() && host.chars().all(plain) };
        host_is_valid && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if valid { Ok(portal.to_owned()) } else { Err(ExportError::NoPortal { portal: portal.to_owned() }) }
}
