//! Who may log in to a node, what they see there, and that nobody else learns a secret.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

#[path = "access/planted.rs"]
mod planted;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use support::demo::write_secret;
use support::initiator::{Account, Initiator, Login};
use support::needs::{Need, available};
use support::node::{NODE, Node, refused_start};
use support::script::{Outcome, Script};
use support::wait;

/// Time for small things.
const LIMIT: Duration = Duration::from_secs(30);
const LIBISCSI: &[Need] = &[Need::Program("iscsi-ls"), Need::Program("iscsi-inq")];

const VM: &str = "iqn.2026-11.net.example:vm";
/// A target that proves itself.
const PROVED: &str = "iqn.2026-11.net.example:proved";
/// A target that asks for no proof.
const OPEN: &str = "iqn.2026-11.net.example:open";
const TARGETS: [&str; 3] = [VM, PROVED, OPEN];

/// An initiator with an entry of its own in [`VM`]: an account and LUN 1.
const ANNA: &str = "iqn.2026-11.test:anna";
const GUEST: &str = "iqn.2026-11.test:guest";
const STRANGER: &str = "iqn.2026-11.elsewhere:stranger";

const VM_ACCOUNT: Account = Account("vm", "quince-jam-of-the-vm");
const ANNA_ACCOUNT: Account = Account("anna", "medlar-jelly-of-anna");
const OWN_SECRET: &str = "sloe-gin-of-the-target";
const FINDER_ACCOUNT: Account = Account("finder", "rowan-syrup-to-discover");
const WRONG_SECRET: &str = "bitter-almond-liqueur";
const SECRETS: [&str; 5] = [VM_ACCOUNT.1, ANNA_ACCOUNT.1, OWN_SECRET, FINDER_ACCOUNT.1, WRONG_SECRET];

const TARGETS_YAML: &str = r#"targets:
  - iqn: iqn.2026-11.net.example:vm
    initiators:
      - {name: "iqn.2026-11.test:anna", luns: [1], chap: {user: anna, secret_file: secrets/anna}}
      - "iqn.2026-11.test:*"
    chap: {user: vm, secret_file: secrets/vm}
    luns:
      - {lun: 0, vdi: zero, size: 4MiB}
      - {lun: 1, vdi: one, size: 4MiB}
      - {lun: 2, vdi: two, size: 4MiB}
  - iqn: iqn.2026-11.net.example:proved
    initiators: ["iqn.2026-11.test:*"]
    chap: {user: vm, secret_file: secrets/vm}
    mutual_chap: {user: disks, secret_file: secrets/own}
    luns: [{lun: 0, vdi: proved, size: 4MiB}]
  - iqn: iqn.2026-11.net.example:open
    initiators: ["iqn.2026-11.test:*"]
    luns: [{lun: 0, vdi: open, size: 4MiB}]
"#;

/// What may be expected of a login that is refused.
struct Refusal {
    login: Login<'static>,
    status: u16,
    result: &'static str,
    reason: &'static str,
}

/// A guest with the account of [`VM`].
const GUEST_LOGIN: Login<'static> =
    Login { portal: "", initiator: GUEST, target: Some(VM), account: Some(VM_ACCOUNT), mutual: None };

fn configuration() -> String {
    format!("{NODE}{TARGETS_YAML}")
}

/// The same, with CHAP for discovery.
fn with_discovery_chap() -> String {
    let discovery = "  discovery: {chap: {user: finder, secret_file: secrets/finder}}\ncluster:";
    configuration().replacen("cluster:", discovery, 1)
}

fn write_secrets(directory: &Path) {
    let secrets = directory.join("secrets");
    fs::create_dir(&secrets).unwrap();
    let files =
        [("vm", VM_ACCOUNT.1), ("anna", ANNA_ACCOUNT.1), ("own", OWN_SECRET), ("finder", FINDER_ACCOUNT.1)];
    for (name, secret) in files {
        write_secret(&secrets.join(name), &format!("{secret}\n"));
    }
}

/// A node with this configuration and the secret files that it names.
fn start(directory: &Path, config: &str) -> Node {
    write_secrets(directory);
    Node::start_in(directory, config)
}

fn log_in(node: &Node, login: Login<'_>) -> Result<Initiator, u16> {
    Login { portal: node.portal(), ..login }.log_in()
}

fn is_refused(node: &Node, login: Login<'_>) -> Option<u16> {
    log_in(node, login).err()
}

/// Logins with this result so far.
fn logins(node: &Node, result: &str) -> f64 {
    node.metric(&format!("huntaway_gateway_logins_total{{result=\"{result}\"}}")).unwrap_or(0.0)
}

/// What is logged about logins of this initiator that are refused.
fn refusals(node: &Node, initiator: &str) -> Vec<String> {
    let log = node.log();
    let of_it = |line: &&str| line.contains(initiator) && line.contains("refused");
    log.lines().filter(of_it).map(str::to_owned).collect()
}

fn assert_no_secret(text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} is in:\n{text}");
    }
}

fn cases() -> Vec<Refusal> {
    let named = |initiator| Login { initiator, ..GUEST_LOGIN };
    let unproved = |login, reason| Refusal { login, status: 0x0201, result: "authentication_failed", reason };
    let wrong = Some(Account(VM_ACCOUNT.0, WRONG_SECRET));
    vec![
        unproved(Login { account: wrong, ..named("iqn.2026-11.test:wrong") }, "wrong secret"),
        unproved(
            Login { account: Some(Account("nobody", VM_ACCOUNT.1)), ..named("iqn.2026-11.test:unknown") },
            "unknown user",
        ),
        unproved(Login { account: None, ..named("iqn.2026-11.test:none") }, "CHAP not offered"),
        unproved(
            Login { mutual: Some(OWN_SECRET), ..named("iqn.2026-11.test:mutual") },
            "mutual CHAP is asked for, but not configured",
        ),
        unproved(
            Login {
                target: Some(PROVED),
                account: Some(Account(VM_ACCOUNT.0, OWN_SECRET)),
                ..named("iqn.2026-11.test:reversed")
            },
            "wrong secret",
        ),
        unproved(
            Login { target: Some(OPEN), ..named("iqn.2026-11.test:insists") },
            "the initiator insists on authentication, but none is configured",
        ),
        unproved(Login { target: None, account: wrong, ..named("iqn.2026-11.test:curious") }, "unknown user"),
        unproved(
            Login { target: None, account: None, ..named("iqn.2026-11.test:finds") },
            "CHAP not offered",
        ),
        Refusal {
            login: named(STRANGER),
            status: 0x0202,
            result: "forbidden",
            reason: "no ACL entry matches the initiator",
        },
        Refusal {
            login: Login { target: Some("iqn.2026-11.net.example:none"), ..named("iqn.2026-11.test:lost") },
            status: 0x0203,
            result: "not_found",
            reason: "no such target",
        },
    ]
}

#[test]
fn a_refused_login_has_its_status_its_count_and_one_line_without_a_secret() {
    let scratch = tempfile::tempdir().unwrap();
    let node = start(scratch.path(), &with_discovery_chap());
    for Refusal { login, status, result, reason } in cases() {
        let name = login.initiator;
        let before = logins(&node, result);
        assert_eq!(is_refused(&node, login), Some(status), "{name}");
        assert_eq!(logins(&node, result), before + 1.0, "{name}");
        let lines =
            wait::until("the line", LIMIT, || Some(refusals(&node, name)).filter(|lines| !lines.is_empty()));
        assert_eq!(lines.len(), 1, "{lines:#?}");
        for part in [reason, login.target.unwrap_or(""), "login refused", "peer=127.0.0.1:"] {
            assert!(lines[0].contains(part), "{part} is not in {}", lines[0]);
        }
        assert_eq!(node.log().matches(name).count(), 1, "{name} is told of once:\n{}", node.log());
    }
    assert_eq!(logins(&node, "success"), 0.0);
    for login in [
        GUEST_LOGIN,
        Login { target: Some(PROVED), mutual: Some(OWN_SECRET), ..GUEST_LOGIN },
        Login { target: Some(OPEN), account: None, ..GUEST_LOGIN },
        Login { target: None, account: Some(FINDER_ACCOUNT), ..GUEST_LOGIN },
    ] {
        assert_eq!(is_refused(&node, login), None, "{login:?}");
    }
    assert_eq!(logins(&node, "success"), 4.0);
    assert_no_secret(&node.log());
    assert_no_secret(&node.metrics());
}

/// `iscsi-inq` of LUN 0 with this name and these variables, which say the accounts.
fn inquiry(node: &Node, target: &str, name: &str, variables: &[(&str, &str)]) -> Outcome {
    let script = Script::program("iscsi-inq").args(["-i", name, &node.url(target, 0)]).limit(LIMIT);
    variables.iter().fold(script, |script, (name, value)| script.env(name, value)).finish()
}

#[test]
fn libiscsi_is_refused_with_the_same_status() {
    if !available(LIBISCSI) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let node = start(scratch.path(), &configuration());
    let chap = |Account(user, secret): Account| {
        vec![("LIBISCSI_CHAP_USERNAME", user), ("LIBISCSI_CHAP_PASSWORD", secret)]
    };
    let target_chap =
        [("LIBISCSI_CHAP_TARGET_USERNAME", "disks"), ("LIBISCSI_CHAP_TARGET_PASSWORD", OWN_SECRET)];
    let mutual = [chap(VM_ACCOUNT), target_chap.to_vec()].concat();
    for (target, name, variables) in
        [(VM, GUEST, chap(VM_ACCOUNT)), (PROVED, GUEST, mutual.clone()), (OPEN, GUEST, Vec::new())]
    {
        let Outcome { status, output } = inquiry(&node, target, name, &variables);
        assert!(status.is_some_and(|status| status.success()), "{target}: {output}");
    }
    for (target, name, variables, status, result) in [
        (VM, GUEST, chap(Account("vm", WRONG_SECRET)), 0x0201, "authentication_failed"),
        (VM, GUEST, chap(Account("nobody", VM_ACCOUNT.1)), 0x0201, "authentication_failed"),
        (VM, GUEST, Vec::new(), 0x0201, "authentication_failed"),
        (VM, GUEST, mutual, 0x0201, "authentication_failed"),
        (VM, STRANGER, chap(VM_ACCOUNT), 0x0202, "forbidden"),
    ] {
        let before = logins(&node, result);
        let Outcome { status: ended, output } = inquiry(&node, target, name, &variables);
        assert!(ended.is_some_and(|ended| !ended.success()), "{output}");
        assert!(output.contains(&format!("({status})")), "{status} is not in {output}");
        assert_eq!(logins(&node, result), before + 1.0, "{output}");
    }
    assert_no_secret(&node.log());
}

#[test]
fn who_matches_no_entry_sees_no_target() {
    let scratch = tempfile::tempdir().unwrap();
    let node = start(scratch.path(), &configuration());
    let targets = |initiator| {
        let login = Login { initiator, target: None, account: None, ..GUEST_LOGIN };
        let mut names = log_in(&node, login).unwrap().targets();
        names.sort_unstable();
        names
    };
    let mut all = TARGETS;
    all.sort_unstable();
    assert_eq!(targets(GUEST), all);
    assert_eq!(targets(STRANGER), [""; 0]);
    for target in TARGETS {
        let login = Login { initiator: STRANGER, target: Some(target), ..GUEST_LOGIN };
        assert_eq!(is_refused(&node, login), Some(0x0202), "{target}");
    }
    if available(LIBISCSI) {
        let portal = format!("iscsi://{}", node.portal());
        let listed =
            |name: &str| Script::program("iscsi-ls").args(["-i", name, &portal]).limit(LIMIT).finish().output;
        assert!(TARGETS.iter().all(|target| listed(GUEST).contains(target)), "{}", listed(GUEST));
        assert!(!listed(STRANGER).contains("iqn."), "{}", listed(STRANGER));
    }
}

#[test]
fn each_initiator_has_its_own_luns_and_its_own_account() {
    let scratch = tempfile::tempdir().unwrap();
    let node = start(scratch.path(), &configuration());
    let anna = Login { initiator: ANNA, account: Some(ANNA_ACCOUNT), ..GUEST_LOGIN };
    assert_eq!(is_refused(&node, Login { account: Some(VM_ACCOUNT), ..anna }), Some(0x0201));
    assert_eq!(is_refused(&node, Login { account: Some(ANNA_ACCOUNT), ..GUEST_LOGIN }), Some(0x0201));
    assert_eq!(is_refused(&node, Login { account: None, ..anna }), Some(0x0201));

    let mut guest = log_in(&node, GUEST_LOGIN).unwrap();
    assert_eq!(guest.luns(), [0, 1, 2]);
    let mut anna = log_in(&node, anna).unwrap();
    assert_eq!(anna.luns(), [1]);
    assert_eq!(anna.read(1), Ok(()));
    assert_eq!(anna.peripheral(1), 0);
    for lun in [0, 2, 3] {
        assert_eq!(anna.read(lun), Err((5, 0x25, 0)), "LUN {lun}");
        // SPC-4 §6.4.2: there is no device here, nor can there be one
        assert_eq!(anna.peripheral(lun), 0x7f, "LUN {lun}");
    }
}

#[test]
fn a_rotated_secret_is_for_new_logins() {
    let scratch = tempfile::tempdir().unwrap();
    let node = start(scratch.path(), &configuration());
    let mut old = log_in(&node, GUEST_LOGIN).unwrap();
    assert_eq!(old.read(0), Ok(()));

    const NEW_ACCOUNT: Account = Account("vm", "damson-cheese-of-the-vm");
    let (good, _) = node.reloads();
    write_secret(&scratch.path().join("secrets/vm"), NEW_ACCOUNT.1);
    wait::until("the new secret", LIMIT, || (node.reloads().0 > good).then_some(()));
    assert_eq!(old.read(0), Ok(()), "a session that is there goes on");
    assert_eq!(is_refused(&node, GUEST_LOGIN), Some(0x0201));
    let mut new = log_in(&node, Login { account: Some(NEW_ACCOUNT), ..GUEST_LOGIN }).unwrap();
    assert_eq!((new.read(0), old.read(0)), (Ok(()), Ok(())));
    assert!(node.log().contains("another secret"), "{}", node.log());
    assert!(!node.log().contains(NEW_ACCOUNT.1));
}

#[test]
fn a_secret_file_that_others_may_read_is_refused_and_the_old_secret_stays_in_force() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("secrets/vm");
    write_secrets(scratch.path());
    for mode in [0o604, 0o644, 0o620, 0o601] {
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let error = refused_start(scratch.path(), &configuration());
        assert!(error.contains(&format!("has mode {mode:04o}")) && error.contains("chmod 6"), "{error}");
        assert_no_secret(&error);
    }
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let node = Node::start_on(scratch.path());
    let (good, bad) = node.reloads();

    // one step, so that no look at the files falls between
    let new = scratch.path().join("new");
    fs::write(&new, format!("{WRONG_SECRET}\n")).unwrap();
    fs::set_permissions(&new, Permissions::from_mode(0o644)).unwrap();
    fs::rename(&new, &file).unwrap();
    wait::until("the refusal", LIMIT, || (node.reloads().1 > bad).then_some(()));
    assert_eq!(node.reloads().0, good);
    assert_eq!(node.metric("huntaway_config_last_reload_successful"), Some(0.0));
    assert!(node.log().contains("has mode 0644"), "{}", node.log());
    let wrong = Login { account: Some(Account("vm", WRONG_SECRET)), ..GUEST_LOGIN };
    assert_eq!(is_refused(&node, GUEST_LOGIN), None, "the old one is in force");
    assert_eq!(is_refused(&node, wrong), Some(0x0201));

    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    wait::until("the other secret", LIMIT, || (node.reloads().0 > good).then_some(()));
    assert_eq!(is_refused(&node, wrong), None);
    assert_eq!(is_refused(&node, GUEST_LOGIN), Some(0x0201));
    assert_no_secret(&node.log());
}
