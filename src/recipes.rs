//! Lines to copy and paste: how initiators reach a target.

use std::fmt::Write;
use std::net::SocketAddr;

/// What an initiator needs to know.
pub(crate) struct Recipe<'a> {
    /// The first portal.
    pub(crate) portal: SocketAddr,
    /// The target's IQN.
    pub(crate) target: &'a str,
    /// The first disk's LUN.
    pub(crate) lun: u16,
    /// Whether the target asks for CHAP, and the user's name.
    pub(crate) chap_user: Option<&'a str>,
    /// `http://ADDR:PORT` of the admin address.
    pub(crate) admin: &'a str,
}

impl Recipe<'_> {
    /// Commands for each kind of initiator, with headings.
    pub(crate) fn text(&self) -> String {
        let Self { portal, target, lun, admin, .. } = self;
        let url = self.url();
        let mut text = String::new();
        let _ = write!(
            text,
            "\nLinux (as root, package open-iscsi):\n  \
             iscsiadm -m discovery -t sendtargets -p {portal}\n{}  \
             iscsiadm -m node -T {target} -p {portal} --login\n\n\
             QEMU (package qemu-block-extra):\n  \
             qemu-img info {url}\n  \
             qemu-system-x86_64 -drive file={url},format=raw,if=virtio,cache=none\n\n\
             libvirt:\n{}\n\
             Metrics and health:\n  \
             curl {admin}/metrics\n  \
             curl {admin}/readyz\n",
            self.iscsiadm_chap(),
            self.libvirt_pool(),
        );
        debug_assert!(*lun < 256);
        text
    }

    fn url(&self) -> String {
        let login = self.chap_user.map(|user| format!("{user}%SECRET@")).unwrap_or_default();
        format!("iscsi://{login}{}/{}/{}", self.portal, self.target, self.lun)
    }

    fn iscsiadm_chap(&self) -> String {
        let Some(user) = self.chap_user else { return String::new() };
        let update = format!("  iscsiadm -m node -T {} -p {} -o update", self.target, self.portal);
        format!(
            "{update} -n node.session.auth.authmethod -v CHAP\n\
             {update} -n node.session.auth.username -v {user}\n\
             {update} -n node.session.auth.password -v SECRET\n"
        )
    }

    fn libvirt_pool(&self) -> String {
        let auth = self.chap_user.map(|user| {
            format!("\n    <auth type='chap' username='{user}'><secret usage='huntaway'/></auth>")
        });
        format!(
            "  virsh pool-create /dev/stdin <<'XML'\n  \
             <pool type='iscsi-direct'><name>huntaway</name>\n    \
             <source><host name='{}' port='{}'/><device path='{}'/>{}\n    \
             <initiator><iqn name='iqn.2026-11.dev.huntaway:client'/></initiator></source>\n  \
             </pool>\n  XML\n",
            self.portal.ip(),
            self.portal.port(),
            self.target,
            auth.unwrap_or_default(),
        )
    }
}
