//! Secrets that are planted in every place there is for them are looked for in all that the program says: as they are, in
//! hexadecimal, in base64, and as the list of numbers that debug output makes of bytes.

use std::fmt::Write;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::support::demo::{lun, write_secret};
use crate::support::http::get;
use crate::support::initiator::{Account, Login};
use crate::support::node::{NODE, Node};
use crate::support::script::{Outcome, Script};
use crate::support::wait;

const LIMIT: Duration = Duration::from_secs(60);
const HUNTAWAY: &str = env!("CARGO_BIN_EXE_huntaway");
const TARGET: &str = "iqn.2026-11.net.example:vm";
const ANNA: &str = "iqn.2026-11.test:anna";
const GUEST: &str = "iqn.2026-11.test:guest";

const GUEST_ACCOUNT: Account = Account("vm", "Wolfram-Kelp-Oboe-77");
const ANNA_ACCOUNT: Account = Account("anna", "Yttrium-Fern-Lute-31");
const OWN_SECRET: &str = "Bismuth-Moss-Fife-58";
const FINDER_ACCOUNT: Account = Account("finder", "Gallium-Reed-Harp-92");
const FINDER_OWN_SECRET: &str = "Iridium-Palm-Drum-46";
const ROTATED_SECRET: &str = "Thorium-Sage-Horn-13";
/// Of files that are refused, or written where no secret belongs.
const REFUSED_SECRET: &str = "Hafnium-Dill-Gong-65";
const SECRETS: [&str; 7] = [
    GUEST_ACCOUNT.1,
    ANNA_ACCOUNT.1,
    OWN_SECRET,
    FINDER_ACCOUNT.1,
    FINDER_OWN_SECRET,
    ROTATED_SECRET,
    REFUSED_SECRET,
];

/// So much of a secret, at either end, is a secret too.
const PART_BYTES: usize = 10;

const TARGETS_YAML: &str = r#"
targets:
  - iqn: iqn.2026-11.net.example:vm
    initiators:
      - {name: "iqn.2026-11.test:anna", luns: [1], chap: {user: anna, secret_file: secrets/anna}}
      - "iqn.2026-11.test:*"
    chap: {user: vm, secret_file: secrets/vm}
    mutual_chap: {user: disks, secret_file: secrets/own}
    luns:
      - {lun: 0, vdi: zero, size: 4MiB}
      - {lun: 1, vdi: one, size: 4MiB}
"#;

/// All that was said, by whom.
#[derive(Default)]
struct Said(Vec<(String, String)>);

impl Said {
    fn text(&mut self, by: &str, text: impl Into<String>) {
        self.0.push((by.to_owned(), text.into()));
    }

    /// What a command of the program says, and whether it ends well.
    fn command(&mut self, args: &[&str]) -> bool {
        let script = Script::program(HUNTAWAY).args(args).env("HUNTAWAY_LOG", "trace");
        let Outcome { status, output } = script.limit(LIMIT).finish();
        let status = status.unwrap_or_else(|| panic!("{args:?} does not end:\n{output}"));
        self.text(&format!("huntaway {}", args.join(" ")), output);
        status.success()
    }

    fn assert_no_secret(&self) {
        for (by, text) in &self.0 {
            for needle in SECRETS.iter().flat_map(|secret| forms(secret)) {
                assert!(!text.contains(&needle), "{by} says {needle}:\n{text}");
            }
        }
    }
}

/// How the beginning and the end of a secret may look.
fn forms(secret: &str) -> Vec<String> {
    let ends = [&secret[..PART_BYTES], &secret[secret.len() - PART_BYTES..]];
    ends.into_iter()
        .flat_map(|part| {
            let hexadecimal = numbers(part, "", |byte| format!("{byte:02x}"));
            let mut forms = vec![
                part.to_owned(),
                part.to_lowercase(),
                hexadecimal.to_uppercase(),
                hexadecimal,
                numbers(part, ", ", |byte| byte.to_string()),
                numbers(part, " ", |byte| format!("{byte:02x}")),
            ];
            // it depends on what stands before it, and its ends on what stands around it
            forms.extend((0..3).map(|before| {
                let encoded = base64(&[&vec![b' '; before], part.as_bytes()].concat());
                encoded[[0, 2, 3][before]..].to_owned()
            }));
            forms
        })
        .collect()
}

fn numbers(text: &str, separator: &str, number: impl Fn(u8) -> String) -> String {
    text.bytes().map(number).collect::<Vec<_>>().join(separator)
}

/// Base64 of the bytes, without the last character if that depends on what follows (RFC 4648 §4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: String = bytes.iter().fold(String::new(), |mut bits, byte| {
        let _ = write!(bits, "{byte:08b}");
        bits
    });
    let whole = bits.as_bytes().chunks_exact(6);
    whole
        .map(|six| six.iter().fold(0, |value, bit| value * 2 + usize::from(bit - b'0')))
        .map(|value| char::from(ALPHABET[value]))
        .collect()
}

#[test]
fn what_is_looked_for_would_be_found() {
    let found = |text: &str| {
        let mut said = Said::default();
        said.text("a test", text);
        std::panic::catch_unwind(|| said.assert_no_secret()).is_err()
    };
    for text in [
        "chap: Wolfram-Kelp-Oboe-77",
        "576f6c6672616d2d4b656c702d4f626f652d3737",
        "Secret([87, 111, 108, 102, 114, 97, 109, 45, 75, 101, 108, 112])",
        "V29sZnJhbS1LZWxwLU9ib2UtNzc=",
        "IFdvbGZyYW0tS2VscC1PYm9lLTc3",
        "ICBXb2xmcmFtLUtlbHAtT2JvZS03Nw==",
    ] {
        assert!(found(text), "{text}");
    }
    assert!(!found("secret_file: secrets/vm"));
}

fn configuration(format: &str) -> String {
    let node = format!(
        "  log: {{level: trace, format: {format}}}\n  discovery:\n    \
         chap: {{user: finder, secret_file: secrets/finder}}\n    \
         mutual_chap: {{user: disks, secret_file: secrets/finder-own}}\ncluster:"
    );
    NODE.replacen("cluster:", &node, 1) + TARGETS_YAML
}

fn plant(directory: &Path) {
    let secrets = directory.join("secrets");
    fs::create_dir(&secrets).unwrap();
    for (name, secret) in [
        ("vm", GUEST_ACCOUNT.1),
        ("anna", ANNA_ACCOUNT.1),
        ("own", OWN_SECRET),
        ("finder", FINDER_ACCOUNT.1),
        ("finder-own", FINDER_OWN_SECRET),
        ("rotated", ROTATED_SECRET),
        ("two-lines", &format!("{REFUSED_SECRET}\n{REFUSED_SECRET}")),
        ("too-long", &REFUSED_SECRET.repeat(20)),
        ("too-short", &REFUSED_SECRET[..11]),
        ("open", REFUSED_SECRET),
    ] {
        write_secret(&secrets.join(name), &format!("{secret}\n"));
    }
    fs::set_permissions(secrets.join("open"), Permissions::from_mode(0o644)).unwrap();
}

/// Configurations that are wrong near a secret, or by one.
fn bad_configurations(good: &str) -> Vec<String> {
    let account = "chap: {user: vm, secret_file: secrets/vm}";
    let with = |chap: &str| good.replacen(account, chap, 1);
    let files = ["two-lines", "too-long", "too-short", "open"];
    let mut bad: Vec<_> =
        files.map(|file| with(&format!("chap: {{user: vm, secret_file: secrets/{file}}}"))).into();
    bad.extend([
        with(&format!("chap: {{user: vm, secret: {REFUSED_SECRET}}}")),
        with(&format!("chap: {{user: vm, password: \"{REFUSED_SECRET}\"}}")),
        with(&format!("chap: {{secret: {REFUSED_SECRET}, usr: vm}}")),
        with(&format!("chap:\n      user: vm\n      secret: {REFUSED_SECRET}")),
        with(&format!("chap: {{user: vm, secret: {REFUSED_SECRET}")),
        good.replacen("secrets/own", "secrets/vm", 1),
    ]);
    bad
}

/// Sessions of everybody, well and badly.
fn log_in(node: &Node, guest: Account) {
    let login = Login {
        portal: node.portal(),
        initiator: GUEST,
        target: Some(TARGET),
        account: Some(guest),
        mutual: Some(OWN_SECRET),
    };
    assert_eq!(login.log_in().unwrap().luns(), [0, 1]);
    let anna = Login { initiator: ANNA, account: Some(ANNA_ACCOUNT), ..login };
    assert_eq!(anna.log_in().unwrap().read(1), Ok(()));
    let finder =
        Login { target: None, account: Some(FINDER_ACCOUNT), mutual: Some(FINDER_OWN_SECRET), ..login };
    assert_eq!(finder.log_in().unwrap().targets(), [TARGET]);
    for wrong in [
        Login { account: Some(Account("vm", ANNA_ACCOUNT.1)), ..login },
        Login { account: Some(Account("nobody", guest.1)), ..login },
        Login { account: None, ..login },
        Login { account: Some(Account("vm", OWN_SECRET)), ..login },
        Login { initiator: "iqn.2026-11.elsewhere:x", ..login },
        Login { account: Some(guest), ..finder },
    ] {
        assert!(wrong.log_in().is_err());
    }
}

fn ask(node: &Node, said: &mut Said, good: &str) {
    for path in ["/metrics", "/healthz", "/readyz", "/v1/status"] {
        said.text(path, format!("{:?}", get(&format!("{}{path}", node.admin()))));
    }
    for path in ["/v1/status", "/v1/vdis", "/v1/vdis/one", "/v1/nothing"] {
        said.text(path, node.control(&format!("GET {path}"), ""));
    }
    for config in bad_configurations(good).iter().chain([&good.to_owned()]) {
        said.text("/v1/plan", node.control("POST /v1/plan", config));
    }
    said.text("/v1/reload", node.control("POST /v1/reload", ""));
    let config = node.config().display().to_string();
    for args in [&["list"][..], &["show", "one"], &["show", "none"]] {
        for form in ["table", "json"] {
            said.command(&[&["vdi"], args, &["-o", form, "--config", &config]].concat());
        }
    }
    for consumer in ["iscsiadm", "libvirt", "qemu", "multipath", "csi-pv"] {
        for initiator in [ANNA, GUEST] {
            let args = [
                "export",
                consumer,
                TARGET,
                "--initiator",
                initiator,
                "--portal",
                "192.0.2.1:3260",
                "--config",
                &config,
            ];
            assert!(said.command(&args), "{:?}", said.0.last());
        }
    }
    assert!(said.command(&["config", "check", &config]));
}

/// A plan with another secret, bad files, then the other secret for good.
fn rotate(node: &Node, said: &mut Said, good: &str) {
    let config = node.config().display().to_string();
    let next = node.directory().join("next.yaml");
    let file = next.display().to_string();
    for bad in bad_configurations(good) {
        fs::write(&next, &bad).unwrap();
        assert!(!said.command(&["config", "check", &file]), "{bad}");
        assert!(!said.command(&["apply", "--diff", "-f", &file, "--config", &config]), "{bad}");
        node.reload_refused(&bad);
        said.text("/v1/reload", node.control("POST /v1/reload", ""));
    }
    node.reload(good);
    fs::write(&next, good.replace("secrets/vm", "secrets/rotated")).unwrap();
    assert!(said.command(&["apply", "--diff", "-f", &file, "--config", &config]));
    let diff = &said.0[said.0.len() - 1].1;
    assert!(diff.contains("another secret"), "{diff}");
    assert!(said.command(&["apply", "-f", &file, "--config", &config]));
    log_in(node, Account("vm", ROTATED_SECRET));
}

fn node_says_no_secret(format: &str) {
    let scratch = tempfile::tempdir().unwrap();
    plant(scratch.path());
    let good = configuration(format);
    let mut said = Said::default();
    fs::write(scratch.path().join("huntaway.yaml"), &good).unwrap();
    let mut node = Node::start_with(scratch.path(), &[("HUNTAWAY_LOG", "trace"), ("RUST_BACKTRACE", "1")]);
    said.text("huntaway node --json", format!("{:?}", node.ready));
    log_in(&node, GUEST_ACCOUNT);
    ask(&node, &mut said, &good);
    rotate(&node, &mut said, &good);
    assert!(node.stop().success(), "{}", node.log());
    let log = node.log();
    assert!(log.contains("TRACE") && log.contains("login refused"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(log.contains("\"level\":"), format == "json", "{log}");
    said.text("the node's log", log);
    said.assert_no_secret();
}

#[test]
fn a_node_that_logs_text_says_no_secret() {
    node_says_no_secret("text");
}

#[test]
fn a_node_that_logs_json_says_no_secret() {
    node_says_no_secret("json");
}

#[test]
fn a_node_that_does_not_start_says_no_secret() {
    let scratch = tempfile::tempdir().unwrap();
    plant(scratch.path());
    let mut said = Said::default();
    let config = scratch.path().join("huntaway.yaml");
    for bad in bad_configurations(&configuration("text")) {
        fs::write(&config, &bad).unwrap();
        assert!(!said.command(&["node", "--json", "--config", config.to_str().unwrap()]), "{bad}");
    }
    said.assert_no_secret();
}

#[test]
fn a_demo_says_no_secret() {
    let scratch = tempfile::tempdir().unwrap();
    plant(scratch.path());
    let file = |name: &str| scratch.path().join("secrets").join(name).display().to_string();
    let mut said = Said::default();
    for json in [&[][..], &["--json"]] {
        let data = scratch.path().join("data").display().to_string();
        let mut demo = Script::program(HUNTAWAY)
            .args(["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--dir", &data])
            .args(lun("size=4MiB"))
            .args(["--chap", &format!("vm:{}", file("vm")), "--mutual-chap", &format!("d:{}", file("own"))])
            .args(json)
            .env("HUNTAWAY_LOG", "trace")
            .start();
        let portal = wait::until("the demo", LIMIT, || portal(&demo.output()));
        let login = Login {
            portal: &portal,
            initiator: GUEST,
            target: Some("iqn.2026-11.dev.huntaway:demo"),
            account: Some(GUEST_ACCOUNT),
            mutual: Some(OWN_SECRET),
        };
        assert_eq!(login.log_in().unwrap().luns(), [0]);
        assert!(Login { account: Some(Account("vm", OWN_SECRET)), ..login }.log_in().is_err());
        // it is told to stop at once
        demo.wait(Duration::ZERO);
        let output = demo.output();
        assert!(output.contains("TRACE") && !output.contains("panicked"), "{output}");
        said.text("huntaway demo", output);
    }
    for name in ["two-lines", "too-long", "open"] {
        let data = file("data");
        assert!(!said.command(&["demo", "--dir", &data, "--chap", &format!("vm:{}", file(name))]));
    }
    said.assert_no_secret();
}

/// What a demo says that its portal is, once it has said all.
fn portal(output: &str) -> Option<String> {
    let before = if output.contains("Ctrl-C stops it") { "iscsi://" } else { "{\"portals\":[\"" };
    let (_, rest) = output.split_once(before)?;
    let (portal, _) = rest.split_once(['/', '"'])?;
    Some(portal.to_owned())
}
