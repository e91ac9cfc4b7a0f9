//! Nodes, gateways and the keeper of their ledger under TLS, with certificates that were made as the README says: what one of them
//! is told the others show, and whoever lacks a certificate, or has another one's, is told why.

mod support;

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use support::demo::huntaway;
use support::initiator::{Initiator, Login};
use support::kept::{configuration, free_addresses, has_key, keeper, status};
use support::needs::{Need, available};
use support::script::{Running, Script};
use support::wait;

/// Time for what a cluster does by itself.
const LIMIT: Duration = Duration::from_secs(60);
const GATEWAY: &str = "gateway-1";

/// Makes a CA, and certificates for all, in a new directory.
fn certificates(directory: &Path) {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("there is one");
    let blocks = readme.split("```sh\n").filter_map(|block| block.split_once("```"));
    let (block, _) = blocks.into_iter().find(|(block, _)| block.contains("openssl")).expect("it says how");
    let block = block.replace("storage-3", GATEWAY);
    fs::create_dir(directory).expect("the directory is new");
    let directory = directory.display();
    Script::program("bash").args(["-c", &format!("set -e; cd {directory}; {block}")]).run();
}

/// Writes the configuration of `name` in a directory of its own.
fn configure(directory: &Path, name: &str, keeper: SocketAddr, tls: &str) -> String {
    let own = directory.join(name);
    fs::create_dir_all(&own).expect("the directory can be made");
    let config = own.join("huntaway.yaml");
    let mut text = configuration(name, keeper).replace("key_file: ../key", &format!("key_file: ../key{tls}"));
    if name == GATEWAY {
        text = text.replace("  data_directories: [disk]\n", "");
    }
    fs::write(&config, text).expect("the directory is writable");
    config.display().to_string()
}

fn tls(files: &str, shown: &str) -> String {
    format!(
        ", tls: {{ca_file: ../{files}/ca.pem, certificate_file: ../{files}/{shown}.pem, \
         private_key_file: ../{files}/{shown}.key}}"
    )
}

fn start(command: &str, config: &str) -> Running {
    Script::program(huntaway().get_program()).args([command, "--json", "--config", config]).start()
}

/// A session through the portal of a process that is to serve.
fn session(running: &Running, what: &str) -> Initiator {
    let portal = wait::until(what, LIMIT, || {
        let output = running.output();
        let (_, rest) = output.split_once("{\"portals\":[\"")?;
        Some(rest.split_once('"')?.0.to_owned())
    });
    let (initiator, target) = ("iqn.2026-11.net.example:i", Some("iqn.2026-11.net.example:vm"));
    let login = Login { portal: &portal, initiator, target, account: None, mutual: None };
    let mut session = login.log_in().expect("it may log in");
    session.limit(LIMIT);
    // It is told first that it is new here.
    let _ = session.read(0);
    session
}

#[test]
fn what_a_gateway_is_told_the_nodes_have_and_strangers_have_no_part_in_it() {
    if !available(&[Need::Program("openssl")]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path();
    certificates(&directory.join("tls"));
    certificates(&directory.join("other"));
    let [listen, a, b] = free_addresses();
    let file = |name: &str| directory.join("tls").join(name).display().to_string();
    let members = ["--new", "lab", "--node", &format!("storage-1={a}"), "--node", &format!("storage-2={b}")];
    let (ca, certificate, key) = (file("ca.pem"), file("keeper.pem"), file("keeper.key"));
    let files =
        ["--tls-ca-file", &ca, "--tls-certificate-file", &certificate, "--tls-private-key-file", &key];
    let keeper = keeper(
        directory,
        listen,
        &[&members[..], &files].concat().into_iter().map(str::to_owned).collect::<Vec<_>>(),
    );
    has_key(directory);

    strangers_are_told_why_not(directory, listen, &keeper);
    let nodes = ["storage-1", "storage-2"]
        .map(|name| start("node", &configure(directory, name, listen, &tls("tls", name))));
    let is_well = || status(directory, "storage-1").filter(|status| status["health"] == "ok");
    wait::until("both nodes to serve", LIMIT, is_well);
    let mut stranger = TcpStream::connect(a).expect("a node listens");
    stranger.write_all(&[0; 64]).expect("it is taken");
    wait::until("the node's complaint", LIMIT, || {
        nodes[0].output().contains("what comes is not TLS").then_some(())
    });
    let gateway = start("gateway", &configure(directory, GATEWAY, listen, &tls("tls", GATEWAY)));
    let mut through = session(&gateway, "the gateway to serve");
    // 32 MiB of 512 bytes each: a block of each of the eight objects, whose copies lead on either node.
    let cdb = |operation: u8, object: u32| {
        let [a, b, c, d] = (object * 8192).to_be_bytes();
        [operation, 0, a, b, c, d, 0, 0, 8, 0]
    };
    for object in 0..8 {
        through.tell(0, &cdb(0x2a, object), &[object as u8 + 1; 4096]).expect("it is written");
    }
    for node in &nodes {
        let mut session = session(node, "a node to serve");
        for object in 0..8 {
            let read = session.ask(0, &cdb(0x28, object), 4096).expect("it is read");
            assert!(read == [object as u8 + 1; 4096], "object {object}");
        }
    }
}

/// Before those come whose places these are.
fn strangers_are_told_why_not(directory: &Path, listen: SocketAddr, keeper: &Running) {
    // One shows nothing, one is of another CA.
    let config = configure(directory, "storage-1", listen, "");
    let stranger = start("node", &config);
    wait::until("the keeper's complaint", LIMIT, || {
        keeper.output().contains("what comes is not TLS").then_some(())
    });
    drop(stranger);
    let config = configure(directory, "storage-1", listen, &tls("other", "storage-1"));
    let stranger = start("node", &config);
    wait::until("its complaint", LIMIT, || stranger.output().contains("of no CA in `ca_file`").then_some(()));
    drop(stranger);
    // One that shows another one's is told so at once, and where.
    let config = configure(directory, "storage-1", listen, &tls("tls", "storage-2"));
    for command in [["node", "--config", &config], ["config", "check", &config]] {
        let refused = Script::program(huntaway().get_program()).args(command).finish();
        assert!(refused.status.is_some_and(|status| !status.success()), "{}", refused.output);
        for words in
            ["huntaway.yaml:8:", "storage-2.pem", "not valid for name \"storage-1\"", "subjectAltName"]
        {
            assert!(refused.output.contains(words), "{words} is not in {}", refused.output);
        }
    }
}
