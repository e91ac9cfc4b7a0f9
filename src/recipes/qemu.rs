//! QEMU's own initiator: options for its block layer, and the URL that its tools take.

use std::fmt::Write;

use super::{ChapRecipe, Recipe};

/// Lines of options, one group a LUN, with comments. QEMU uses one portal: the first.
pub(crate) fn qemu(recipe: &Recipe) -> String {
    let mut text = String::new();
    if let Some(chap) = &recipe.chap {
        let _ = write!(
            text,
            "# QEMU takes the secret's whole file, which must not end in a line feed:\n\
             #   (umask 077; {} >/run/{name}.secret)\n\
             # Tools that are given the URL take the secret from the environment:\n\
             #   export LIBISCSI_CHAP_USERNAME={} LIBISCSI_CHAP_PASSWORD=\"$({})\"\n\
             -object secret,id={name},file=/run/{name}.secret\n\n",
            chap.command(),
            super::shell_word(&chap.user),
            chap.command(),
            name = recipe.name(),
        );
    }
    for lun in &recipe.luns {
        let node = format!("{}-lun{}", recipe.name(), lun.number);
        let read_only = if lun.read_only { ",read-only=on" } else { "" };
        let _ = write!(
            text,
            "# LUN {number}, virtual disk {vdi}: {url}\n\
             -blockdev {options},node-name={node},cache.direct=on,discard=unmap{read_only}\n\
             -device virtio-blk-pci,drive={node}\n\n",
            number = lun.number,
            vdi = lun.vdi,
            url = url(recipe, lun.number),
            options = options(recipe, lun.number),
        );
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// `iscsi://HOST:PORT/IQN/LUN`, without a secret.
pub(super) fn url(recipe: &Recipe, lun: u16) -> String {
    format!("iscsi://{}/{}/{lun}", first_portal(recipe), recipe.target)
}

/// What `-blockdev`, and `--image-opts` of qemu-img and qemu-io, want to know.
fn options(recipe: &Recipe, lun: u16) -> String {
    let value = |text: &str| text.replace(',', ",,");
    let mut options = format!(
        "driver=iscsi,transport=tcp,portal={},target={},lun={lun}",
        value(first_portal(recipe)),
        value(&recipe.target)
    );
    if let Some(ChapRecipe { user, .. }) = &recipe.chap {
        let _ = write!(options, ",user={},password-secret={}", value(user), recipe.name());
    }
    if let Some(initiator) = &recipe.initiator {
        let _ = write!(options, ",initiator-name={}", value(initiator));
    }
    if recipe.digests_required {
        options.push_str(",header-digest=crc32c");
    }
    options
}

fn first_portal(recipe: &Recipe) -> &str {
    recipe.portals.first().map_or("", |portal| portal)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{recipe, with_chap};
    use super::*;

    #[test]
    fn without_chap_there_is_no_secret() {
        let text = qemu(&recipe());
        assert!(!text.to_lowercase().contains("secret"), "{text}");
        assert!(text.starts_with(
            "# LUN 0, virtual disk root: iscsi://192.0.2.1:3260/iqn.2026-11.net.example:vm/0\n\
             -blockdev driver=iscsi,transport=tcp,portal=192.0.2.1:3260,target=iqn.2026-11.net.example:vm,lun=0,"
        ));
    }

    #[test]
    fn with_chap_the_secret_is_an_object() {
        let text = qemu(&with_chap());
        assert!(text.contains("\n-object secret,id=huntaway-vm,file=/run/huntaway-vm.secret\n"), "{text}");
        assert!(text.contains(",user=o'brien,password-secret=huntaway-vm,"), "{text}");
    }

    #[test]
    fn commas_are_doubled() {
        let named = Recipe { initiator: Some("iqn.2026-11.net.example:a,b".into()), ..recipe() };
        assert!(qemu(&named).contains(",initiator-name=iqn.2026-11.net.example:a,,b,"));
    }
}
