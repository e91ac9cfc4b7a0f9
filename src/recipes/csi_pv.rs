//! Kubernetes: a PersistentVolume for each LUN, which kubelet's own iSCSI support logs in to.

use std::fmt::Write;

use super::{ChapRecipe, LunRecipe, Recipe};

/// A PersistentVolume must say how large it is.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the size of LUN {lun} is not in the file, and a PersistentVolume must have one: write `size` there")]
pub(crate) struct UnknownSize {
    /// The LUN.
    pub(crate) lun: u16,
}

/// YAML documents: the secret's manifest, with an empty place for it, and the volumes.
///
/// # Errors
/// When the size of a LUN is not known.
pub(crate) fn csi_pv(recipe: &Recipe) -> Result<String, UnknownSize> {
    let mut documents = Vec::new();
    documents.extend(recipe.chap.as_ref().map(|chap| secret(recipe, chap)));
    for lun in &recipe.luns {
        documents.push(volume(recipe, lun)?);
    }
    Ok(documents.join("---\n"))
}

fn secret(recipe: &Recipe, chap: &ChapRecipe) -> String {
    let name = recipe.name();
    let mut text = format!(
        "# Put the secret in, or make it from its file and leave this document out:\n\
         #   {command} | kubectl create secret generic {name} --type kubernetes.io/iscsi-chap \\\n\
         #     --from-literal=node.session.auth.username={user} --from-file=node.session.auth.password=/dev/stdin\n\
         apiVersion: v1\n\
         kind: Secret\n\
         metadata:\n  name: {name}\n  namespace: default\n\
         type: kubernetes.io/iscsi-chap\n\
         stringData:\n  \
         node.session.auth.username: {user_text}\n  \
         node.session.auth.password: \"\"\n",
        command = chap.command(),
        user = super::shell_word(&chap.user),
        user_text = yaml_text(&chap.user),
    );
    if let Some(mutual) = &recipe.mutual_chap {
        let _ = write!(
            text,
            "  node.session.auth.username_in: {}\n  node.session.auth.password_in: \"\"\n",
            yaml_text(&mutual.user)
        );
    }
    text
}

fn volume(recipe: &Recipe, lun: &LunRecipe) -> Result<String, UnknownSize> {
    let size_bytes = lun.size_bytes.ok_or(UnknownSize { lun: lun.number })?;
    let (first, others) =
        recipe.portals.split_first().map_or(("", &[][..]), |(first, others)| (first, others));
    let access = if lun.read_only { "ReadOnlyMany" } else { "ReadWriteOnce" };
    let mut text = format!(
        "# LUN {number}, virtual disk {vdi}\n\
         apiVersion: v1\n\
         kind: PersistentVolume\n\
         metadata:\n  name: {name}-lun{number}\n\
         spec:\n  \
         capacity:\n    storage: {size_bytes}\n  \
         accessModes:\n    - {access}\n  \
         persistentVolumeReclaimPolicy: Retain\n  \
         storageClassName: \"\"\n  \
         iscsi:\n    \
         targetPortal: {first}\n    \
         iqn: {target}\n    \
         lun: {number}\n    \
         fsType: ext4\n    \
         readOnly: {read_only}\n",
        number = lun.number,
        vdi = lun.vdi,
        name = recipe.name(),
        first = yaml_text(first),
        target = yaml_text(&recipe.target),
        read_only = lun.read_only,
    );
    if !others.is_empty() {
        text.push_str("    portals:\n");
        others.iter().for_each(|portal| {
            let _ = writeln!(text, "      - {}", yaml_text(portal));
        });
    }
    if let Some(initiator) = &recipe.initiator {
        let _ = writeln!(text, "    initiatorName: {}", yaml_text(initiator));
    }
    if recipe.chap.is_some() {
        let name = recipe.name();
        let _ = write!(
            text,
            "    chapAuthSession: true\n    secretRef:\n      name: {name}\n      namespace: default\n"
        );
    }
    Ok(text)
}

/// Text between the double quotes of YAML, which takes the escapes of JSON.
fn yaml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{recipe, with_chap};
    use super::*;

    #[test]
    fn a_volume_has_all_portals_and_its_size() {
        let text = csi_pv(&recipe()).unwrap();
        for line in [
            "  name: huntaway-vm-lun0",
            "    storage: 1073741824",
            "    targetPortal: \"192.0.2.1:3260\"",
            "      - \"[2001:db8::1]:3261\"",
            "    lun: 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
        assert!(!text.to_lowercase().contains("secret"), "{text}");
    }

    #[test]
    fn the_place_of_a_secret_stays_empty() {
        let text = csi_pv(&with_chap()).unwrap();
        assert!(text.contains("node.session.auth.password: \"\"\n"), "{text}");
        assert!(text.contains("node.session.auth.password_in: \"\"\n"), "{text}");
        assert!(text.contains("secretRef:\n      name: huntaway-vm\n"), "{text}");
    }

    #[test]
    fn a_volume_without_a_size_is_refused() {
        let mut unknown = recipe();
        unknown.luns[0].size_bytes = None;
        assert_eq!(csi_pv(&unknown), Err(UnknownSize { lun: 0 }));
    }
}
