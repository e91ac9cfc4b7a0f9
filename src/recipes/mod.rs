//! How initiators reach a target: texts to run or to paste, one kind of initiator a file.
//!
//! No secret is in them: they read its file, or leave its place empty.

mod csi_pv;
mod iscsiadm;
mod libvirt;
mod multipath;
mod qemu;

use std::path::PathBuf;

pub(crate) use csi_pv::csi_pv;
pub(crate) use iscsiadm::iscsiadm;
pub(crate) use libvirt::{PoolType, libvirt};
pub(crate) use multipath::multipath;
pub(crate) use qemu::qemu;

/// Shortest time in seconds after which a path may be given up: what a gateway still holds of a path that failed takes
/// effect before (ARCHITECTURE.md), so that nothing that is sent on another path is undone.
const SHORTEST_PATH_TIMEOUT_S: u16 = 5;

/// What initiators need to know.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    /// `HOST:PORT` of each portal, as initiators see them; at least one.
    pub(crate) portals: Vec<String>,
    /// The target's IQN.
    pub(crate) target: String,
    /// Its LUNs.
    pub(crate) luns: Vec<LunRecipe>,
    /// The name of the initiator, if it has to have a certain one.
    pub(crate) initiator: Option<String>,
    /// The names that may log in, `*` and `?` being wildcards.
    pub(crate) allowed: Vec<String>,
    /// How the initiator proves itself, if it must.
    pub(crate) chap: Option<ChapRecipe>,
    /// How the target proves itself to initiators that ask.
    pub(crate) mutual_chap: Option<ChapRecipe>,
    /// Whether only sessions with CRC32C digests are let in.
    pub(crate) digests_required: bool,
}

/// One LUN.
#[derive(Debug, Clone)]
pub(crate) struct LunRecipe {
    /// Its number.
    pub(crate) number: u16,
    /// The virtual disk's name.
    pub(crate) vdi: String,
    /// The size, where it is known.
    pub(crate) size_bytes: Option<u64>,
    /// Whether writes are refused.
    pub(crate) read_only: bool,
}

/// A CHAP account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChapRecipe {
    /// The user's name.
    pub(crate) user: String,
    /// The file whose only line is the secret.
    pub(crate) secret_file: PathBuf,
}

impl Recipe {
    /// Several paths lead to each disk.
    fn is_multipath(&self) -> bool {
        self.portals.len() > 1
    }

    /// A short name for the target: of letters, digits, `.` and `-`, in lower case.
    fn name(&self) -> String {
        let own = self.target.rsplit_once(':').map_or(&*self.target, |(_, own)| own);
        let plain =
            |c: char| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' };
        let name: String = own.chars().map(plain).collect();
        format!("huntaway-{}", name.trim_matches(['-', '.']))
    }
}

impl ChapRecipe {
    /// A command that prints the secret alone, without the line feed at the end of its file.
    fn command(&self) -> String {
        format!("tr -d '\\r\\n' <{}", shell_word(&self.secret_file.display().to_string()))
    }
}

/// What a person may paste into a terminal, with headings.
pub(crate) fn for_people(recipe: &Recipe, admin: &str) -> String {
    let lun = recipe.luns.first().map_or(0, |lun| lun.number);
    // an error would end the shell that it is pasted into
    let script = iscsiadm(recipe).replace("#!/bin/sh\n", "").replace("set -eu\n", "");
    format!(
        "\n# ---- Linux, as root (package open-iscsi)\n{}\n\
         # ---- QEMU (package qemu-block-extra): qemu-img info {}\n{}\n\
         # ---- libvirt\n{}\n\
         # ---- metrics and health\ncurl {admin}/metrics\ncurl {admin}/readyz\n",
        script,
        qemu::url(recipe, lun),
        qemu(recipe),
        libvirt(recipe, PoolType::IscsiDirect),
    )
}

/// Splits `HOST:PORT`; an IPv6 address loses its brackets.
fn host_and_port(portal: &str) -> (&str, &str) {
    let (host, port) = portal.rsplit_once(':').unwrap_or((portal, "3260"));
    (host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host), port)
}

/// Text as one word of a shell.
fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target with two portals and one disk.
    pub(super) fn recipe() -> Recipe {
        Recipe {
            portals: vec!["192.0.2.1:3260".into(), "[2001:db8::1]:3261".into()],
            target: "iqn.2026-11.net.example:vm".into(),
            luns: vec![LunRecipe {
                number: 0,
                vdi: "root".into(),
                size_bytes: Some(1 << 30),
                read_only: false,
            }],
            initiator: None,
            allowed: vec!["iqn.1993-08.org.debian:*".into()],
            chap: None,
            mutual_chap: None,
            digests_required: false,
        }
    }

    /// The same, with CHAP on both sides.
    pub(super) fn with_chap() -> Recipe {
        let account = |user: &str, file: &str| ChapRecipe { user: user.into(), secret_file: file.into() };
        Recipe {
            chap: Some(account("o'brien", "/etc/my secret")),
            mutual_chap: Some(account("target", "/etc/target")),
            ..recipe()
        }
    }

    #[test]
    fn names_are_plain() {
        let name = |target: &str| Recipe { target: target.into(), ..recipe() }.name();
        assert_eq!(name("iqn.2026-11.net.example:vm"), "huntaway-vm");
        assert_eq!(name("iqn.2026-11.net.example:a:Zoë_1."), "huntaway-zo--1");
        assert_eq!(name("naa.52004567BA64678D"), "huntaway-naa.52004567ba64678d");
    }

    #[test]
    fn portals_are_split_at_their_port() {
        assert_eq!(host_and_port("[2001:db8::1]:3261"), ("2001:db8::1", "3261"));
        assert_eq!(host_and_port("storage-1.san:3260"), ("storage-1.san", "3260"));
    }
}
