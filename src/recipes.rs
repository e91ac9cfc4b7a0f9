//! Lines to copy and paste: how initiators reach a target.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

/// What an initiator needs to know.
pub(crate) struct Recipe<'a> {
    /// The first portal.
    pub(crate) portal: SocketAddr,
    /// The target's IQN.
    pub(crate) target: &'a str,
    /// The first disk's LUN.
    pub(crate) lun: u16,
    /// Whether the target asks for CHAP, and what for.
    pub(crate) chap: Option<ChapRecipe<'a>>,
    /// `http://ADDR:PORT` of the admin address.
    pub(crate) admin: &'a str,
}

/// What an initiator must know to prove itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChapRecipe<'a> {
    /// The user's name.
    pub(crate) user: &'a str,
    /// The file whose only line is the secret.
    pub(crate) secret_file: &'a Path,
}

/// By what libvirt's secret is found: pools name the usage, `virsh secret-set-value` wants the UUID. That it is always the
/// same one lets the commands be repeated.
const SECRET_USAGE: &str = "huntaway";
const SECRET_UUID: &str = "6877746e-6177-4179-8000-000000003260";

impl Recipe<'_> {
    /// Commands for each kind of initiator, with headings.
    pub(crate) fn text(&self) -> String {
        let Self { portal, target, admin, .. } = self;
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
             libvirt:\n{}{}\n\
             Metrics and health:\n  \
             curl {admin}/metrics\n  \
             curl {admin}/readyz\n",
            self.iscsiadm_chap(),
            self.libvirt_secret(),
            self.libvirt_pool(),
        );
        text
    }

    fn url(&self) -> String {
        let login = self.chap.map(|chap| format!("{}%SECRET@", chap.user)).unwrap_or_default();
        format!("iscsi://{login}{}/{}/{}", self.portal, self.target, self.lun)
    }

    fn iscsiadm_chap(&self) -> String {
        let Some(ChapRecipe { user, .. }) = self.chap else { return String::new() };
        let update = format!("  iscsiadm -m node -T {} -p {} -o update", self.target, self.portal);
        format!(
            "{update} -n node.session.auth.authmethod -v CHAP\n\
             {update} -n node.session.auth.username -v {user}\n\
             {update} -n node.session.auth.password -v SECRET\n"
        )
    }

    /// libvirt keeps secrets apart from the pools that use them (libvirt.org/formatsecret.html, "Usage type iscsi"). The
    /// value goes through a pipe: others can see what a command is given as arguments, and virsh complains of it.
    fn libvirt_secret(&self) -> String {
        let Some(ChapRecipe { secret_file, .. }) = self.chap else { return String::new() };
        let file = shell_word(&secret_file.display().to_string());
        format!(
            "  virsh secret-define /dev/stdin <<'XML'\n  \
             <secret ephemeral='no' private='yes'><uuid>{SECRET_UUID}</uuid>\n    \
             <usage type='iscsi'><target>{SECRET_USAGE}</target></usage>\n  \
             </secret>\n  XML\n  \
             tr -d '\\r\\n' < {file} | base64 -w 0 | virsh secret-set-value {SECRET_UUID} --file /dev/stdin\n"
        )
    }

    fn libvirt_pool(&self) -> String {
        let auth = self.chap.map(|ChapRecipe { user, .. }| {
            let user = xml_attribute(user);
            format!("\n    <auth type='chap' username='{user}'><secret usage='{SECRET_USAGE}'/></auth>")
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

/// Text as one word of a shell.
fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Text between the quotes of an attribute.
fn xml_attribute(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(chap: Option<ChapRecipe<'_>>) -> String {
        let portal = SocketAddr::from(([127, 0, 0, 1], 3260));
        Recipe { portal, target: "iqn.test:a", lun: 0, chap, admin: "http://127.0.0.1:9326" }.text()
    }

    #[test]
    fn with_chap_libvirt_is_given_the_secret_before_the_pool() {
        let chap = ChapRecipe { user: "o'brien", secret_file: Path::new("my secret") };
        let text = recipe(Some(chap));
        let places =
            ["secret-define", "secret-set-value", "pool-create"].map(|word| text.find(word).unwrap());
        assert!(places.is_sorted(), "{text}");
        assert!(text.contains("<usage type='iscsi'><target>huntaway</target></usage>"), "{text}");
        assert!(text.contains("username='o&apos;brien'><secret usage='huntaway'/>"), "{text}");
        assert!(
            text.contains(r"tr -d '\r\n' < 'my secret' | base64 -w 0 | virsh secret-set-value"),
            "{text}"
        );
    }

    #[test]
    fn without_chap_nothing_is_said_of_secrets() {
        assert!(!recipe(None).to_lowercase().contains("secret"));
    }
}
