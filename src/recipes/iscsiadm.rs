//! The Linux kernel's initiator, by open-iscsi's `iscsiadm`: a script that logs a machine in, and may be run again.

use std::fmt::Write;

use super::{ChapRecipe, Recipe, SHORTEST_PATH_TIMEOUT_S, shell_word};

/// Seconds that commands wait for the only path to come back: open-iscsi's own default.
const ONLY_PATH_TIMEOUT_S: u16 = 120;

/// What `iscsiadm` answers when the session exists already (`ISCSI_ERR_SESS_EXISTS`, iscsiadm(8)).
const SESSION_EXISTS: u8 = 15;

/// A shell script.
pub(crate) fn iscsiadm(recipe: &Recipe) -> String {
    let portals: Vec<_> = recipe.portals.iter().map(|portal| shell_word(portal)).collect();
    let mut script = format!(
        "#!/bin/sh\n\
         # Logs this machine in to {target} (as root; package open-iscsi), now and at each boot.\n\
         # Its initiator name (/etc/iscsi/initiatorname.iscsi) has to match {allowed}.\n\
         set -eu\n{initiator}{secrets}\
         failed=\n\
         for portal in {portals}; do\n  \
         node() {{ iscsiadm -m node -T {word} -p \"$portal\" \"$@\"; }}\n  \
         node -o new >/dev/null\n",
        target = recipe.target,
        word = shell_word(&recipe.target),
        allowed = recipe.allowed.join(" or "),
        initiator = check_initiator(recipe),
        secrets = secret_files(recipe),
        portals = portals.join(" "),
    );
    for (name, value) in settings(recipe) {
        let _ = writeln!(script, "  node -o update -n '{name}' -v {value}");
    }
    let _ = write!(
        script,
        "  # {SESSION_EXISTS}: it is logged in already\n  \
         node --login || [ $? = {SESSION_EXISTS} ] || failed=\"$failed $portal\"\n\
         done\n\
         [ -z \"$failed\" ] || {{ echo \"not logged in through$failed\" >&2; exit 1; }}\n"
    );
    script
}

fn check_initiator(recipe: &Recipe) -> String {
    let Some(initiator) = &recipe.initiator else { return String::new() };
    let line = shell_word(&format!("InitiatorName={initiator}"));
    format!(
        "grep -qxF {line} /etc/iscsi/initiatorname.iscsi || {{\n  \
         echo \"/etc/iscsi/initiatorname.iscsi must say \"{line} >&2; exit 1\n\
         }}\n"
    )
}

/// The secrets' files are elsewhere on other machines.
fn secret_files(recipe: &Recipe) -> String {
    let variable = |name: &str, account: &Option<ChapRecipe>| {
        let file = account.as_ref()?.secret_file.display().to_string();
        Some(format!("[ -n \"${{{name}:-}}\" ] || {name}={}\n", shell_word(&file)))
    };
    let variables =
        [variable("SECRET_FILE", &recipe.chap), variable("TARGET_SECRET_FILE", &recipe.mutual_chap)];
    let variables: String = variables.into_iter().flatten().collect();
    if variables.is_empty() {
        return variables;
    }
    format!(
        "# Where the CHAP secrets are on this machine. While iscsiadm stores one, ps shows it: have no strangers here.\n\
         {variables}secret() {{ tr -d '\\r\\n' <\"$1\"; }}\n"
    )
}

/// Names, and values as the shell takes them.
fn settings(recipe: &Recipe) -> Vec<(&'static str, String)> {
    let mut settings = vec![("node.startup", "automatic".to_owned())];
    let timeout = if recipe.is_multipath() { SHORTEST_PATH_TIMEOUT_S } else { ONLY_PATH_TIMEOUT_S };
    settings.push(("node.session.timeo.replacement_timeout", timeout.to_string()));
    if recipe.digests_required {
        settings.push(("node.conn[0].iscsi.HeaderDigest", "CRC32C".into()));
        settings.push(("node.conn[0].iscsi.DataDigest", "CRC32C".into()));
    }
    if let Some(chap) = &recipe.chap {
        settings.push(("node.session.auth.authmethod", "CHAP".into()));
        settings.push(("node.session.auth.username", shell_word(&chap.user)));
        settings.push(("node.session.auth.password", "\"$(secret \"$SECRET_FILE\")\"".into()));
    }
    if let Some(chap) = &recipe.mutual_chap {
        settings.push(("node.session.auth.username_in", shell_word(&chap.user)));
        settings.push(("node.session.auth.password_in", "\"$(secret \"$TARGET_SECRET_FILE\")\"".into()));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::super::tests::{recipe, with_chap};
    use super::*;

    #[test]
    fn each_portal_is_made_known_set_and_logged_in_to() {
        let script = iscsiadm(&recipe());
        assert!(script.contains("for portal in '192.0.2.1:3260' '[2001:db8::1]:3261'; do\n"), "{script}");
        let places = ["-o new", "-o update", "--login"].map(|word| script.find(word).unwrap());
        assert!(places.is_sorted(), "{script}");
        assert!(!script.to_lowercase().contains("secret"), "{script}");
    }

    #[test]
    fn a_path_among_several_is_given_up_after_five_seconds_and_the_only_one_much_later() {
        let timeout = |script: &str, seconds: u16| {
            script.contains(&format!("-n 'node.session.timeo.replacement_timeout' -v {seconds}\n"))
        };
        assert!(timeout(&iscsiadm(&recipe()), 5));
        let one = Recipe { portals: vec!["192.0.2.1:3260".into()], ..recipe() };
        assert!(timeout(&iscsiadm(&one), 120));
    }

    #[test]
    fn secrets_are_read_from_their_files() {
        let script = iscsiadm(&with_chap());
        assert!(script.contains("SECRET_FILE='/etc/my secret'\n"), "{script}");
        assert!(script.contains("'node.session.auth.username' -v 'o'\\''brien'\n"), "{script}");
        assert!(script.contains("password' -v \"$(secret \"$SECRET_FILE\")\"\n"), "{script}");
        assert!(script.contains("password_in' -v \"$(secret \"$TARGET_SECRET_FILE\")\"\n"), "{script}");
    }

    #[test]
    fn an_initiator_that_needs_a_certain_name_is_told_so() {
        let named = Recipe { initiator: Some("iqn.2026-11.net.example:host".into()), ..recipe() };
        assert!(iscsiadm(&named).contains("grep -qxF 'InitiatorName=iqn.2026-11.net.example:host'"));
    }
}
