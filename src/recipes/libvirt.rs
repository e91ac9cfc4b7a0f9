//! libvirt's storage pools: commands for `virsh` that define the secret and the pool, and may be run again.

use super::{ChapRecipe, Recipe, host_and_port, shell_word};

/// Who logs in for a pool (libvirt.org/storage.html).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PoolType {
    /// libvirt itself, in user space
    IscsiDirect,
    /// The Linux kernel, by iscsiadm: the host has the disks as /dev/disk/by-path
    Iscsi,
}

/// Which name an iscsi-direct pool logs in with if none is given: there it must have one.
const DEFAULT_INITIATOR: &str = "iqn.2026-11.dev.huntaway:client";

/// A shell script.
pub(crate) fn libvirt(recipe: &Recipe, pool: PoolType) -> String {
    let name = recipe.name();
    format!(
        "{secret}virsh pool-define /dev/stdin <<'XML'\n{xml}XML\n\
         virsh pool-autostart {name}\n\
         virsh pool-list --name | grep -q '^{name} *$' || virsh pool-start {name}\n",
        secret = secret(recipe),
        xml = pool_xml(recipe, pool),
    )
}

/// libvirt keeps secrets apart from the pools that use them (libvirt.org/formatsecret.html, "Usage type iscsi"). The value
/// goes through a pipe: others can see what a command is given as arguments, and virsh complains of it.
fn secret(recipe: &Recipe) -> String {
    let Some(ChapRecipe { secret_file, .. }) = &recipe.chap else { return String::new() };
    let usage = usage(recipe);
    let uuid = uuid(&usage);
    let mutual = match recipe.mutual_chap {
        Some(_) => "# libvirt cannot ask the target to prove itself (mutual CHAP).\n",
        None => "",
    };
    format!(
        "{mutual}virsh secret-define /dev/stdin <<'XML'\n\
         <secret ephemeral='no' private='yes'><uuid>{uuid}</uuid>\n  \
         <usage type='iscsi'><target>{}</target></usage>\n\
         </secret>\nXML\n\
         tr -d '\\r\\n' <{} | base64 -w 0 | virsh secret-set-value {uuid} --file /dev/stdin\n",
        xml_text(&usage),
        shell_word(&secret_file.display().to_string())
    )
}

/// libvirt uses one portal: the first.
fn pool_xml(recipe: &Recipe, pool: PoolType) -> String {
    let (host, port) = host_and_port(recipe.portals.first().map_or("", |portal| portal));
    let auth = recipe.chap.as_ref().map(|ChapRecipe { user, .. }| {
        let usage = xml_text(&usage(recipe));
        format!("    <auth type='chap' username='{}'><secret usage='{usage}'/></auth>\n", xml_text(user))
    });
    let (kind, initiator, target) = match pool {
        PoolType::IscsiDirect => {
            ("iscsi-direct", Some(recipe.initiator.as_deref().unwrap_or(DEFAULT_INITIATOR)), "")
        }
        PoolType::Iscsi => {
            ("iscsi", recipe.initiator.as_deref(), "  <target><path>/dev/disk/by-path</path></target>\n")
        }
    };
    let initiator =
        initiator.map(|name| format!("    <initiator><iqn name='{}'/></initiator>\n", xml_text(name)));
    format!(
        "<pool type='{kind}'>\n  \
         <name>{name}</name>\n  \
         <uuid>{uuid}</uuid>\n  \
         <source>\n    \
         <host name='{host}' port='{port}'/>\n    \
         <device path='{device}'/>\n{auth}{initiator}  \
         </source>\n{target}\
         </pool>\n",
        name = recipe.name(),
        // with the same one it may be defined again
        uuid = uuid(&recipe.target),
        host = xml_text(host),
        device = xml_text(&recipe.target),
        auth = auth.unwrap_or_default(),
        initiator = initiator.unwrap_or_default(),
    )
}

/// By what pools find the secret: one user of one target has one.
fn usage(recipe: &Recipe) -> String {
    let user = recipe.chap.as_ref().map_or("", |chap| &chap.user);
    format!("{}/{user}", recipe.target)
}

/// `virsh secret-set-value` wants a UUID. That a text always has the same one lets the commands be repeated: its 128-bit
/// FNV-1a, as a UUID of version 8 (RFC 9562 §5.8).
fn uuid(text: &str) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    const FIXED: u128 = 0xf << 76 | 0xc << 60;
    const VERSION_AND_VARIANT: u128 = 0x8 << 76 | 0x8 << 60;
    let hash = text.bytes().fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    let digits = format!("{:032x}", hash & !FIXED | VERSION_AND_VARIANT);
    let part = |range: std::ops::Range<usize>| digits.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

/// Text in an element or between the quotes of an attribute.
fn xml_text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&apos;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{recipe, with_chap};
    use super::*;

    #[test]
    fn the_secret_is_given_before_the_pool() {
        let text = libvirt(&with_chap(), PoolType::IscsiDirect);
        let places =
            ["secret-define", "secret-set-value", "pool-define"].map(|word| text.find(word).unwrap());
        assert!(places.is_sorted(), "{text}");
        let usage = "iqn.2026-11.net.example:vm/o&apos;brien";
        assert!(text.contains(&format!("<usage type='iscsi'><target>{usage}</target></usage>")), "{text}");
        assert!(text.contains(&format!("username='o&apos;brien'><secret usage='{usage}'/>")), "{text}");
        assert!(
            text.contains(r"tr -d '\r\n' <'/etc/my secret' | base64 -w 0 | virsh secret-set-value"),
            "{text}"
        );
    }

    #[test]
    fn without_chap_nothing_is_said_of_secrets() {
        assert!(!libvirt(&recipe(), PoolType::IscsiDirect).to_lowercase().contains("secret"));
    }

    #[test]
    fn a_pool_of_the_kernel_has_a_path_and_only_a_direct_one_must_have_a_name() {
        let kernel = libvirt(&recipe(), PoolType::Iscsi);
        assert!(kernel.contains("<pool type='iscsi'>") && !kernel.contains("<initiator>"), "{kernel}");
        assert!(kernel.contains("<target><path>/dev/disk/by-path</path></target>"), "{kernel}");
        let direct = libvirt(&recipe(), PoolType::IscsiDirect);
        assert!(direct.contains("<initiator><iqn name='iqn.2026-11.dev.huntaway:client'/>"), "{direct}");
        let named = Recipe { initiator: Some("iqn.2026-11.net.example:host".into()), ..recipe() };
        for pool in [PoolType::Iscsi, PoolType::IscsiDirect] {
            assert!(libvirt(&named, pool).contains("<iqn name='iqn.2026-11.net.example:host'/>"));
        }
    }

    #[test]
    fn a_text_always_has_the_same_uuid() {
        let uuid = uuid("iqn.2026-11.net.example:vm/alice");
        assert_eq!(uuid.len(), 36);
        assert_eq!(uuid.as_bytes()[14], b'8', "{uuid}");
        assert!(b"89ab".contains(&uuid.as_bytes()[19]), "{uuid}");
        assert_eq!(uuid, super::uuid("iqn.2026-11.net.example:vm/alice"));
        assert_ne!(uuid, super::uuid("iqn.2026-11.net.example:vm/alicf"));
    }
}
