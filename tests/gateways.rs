//! Gateways without data serve what the nodes keep: through nodes that die, and their own deaths.

mod support;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use huntaway_judge::Random;
use rustix::process::Signal;
use serde_json::Value;
use support::cluster::Nodes;
use support::demo::huntaway;
use support::http::get;
use support::initiator::Login;
use support::multipath::{Multipath, OBJECT_BLOCKS, OBJECTS, Seen, judge, work_during};
use support::script::{Running, Script};
use support::wait;

/// Time for small things.
const LIMIT: Duration = Duration::from_secs(30);
/// What is done to all gateways at once is done by then.
const RESET_LIMIT: Duration = Duration::from_secs(5);

/// A gateway of a demo.
struct Gateway {
    running: Running,
    portal: String,
    admin: String,
}

impl Gateway {
    /// Starts one that serves what the demo's first node does.
    fn start(nodes: &Nodes, directory: &Path, name: &str) -> Self {
        let own = directory.join(name);
        fs::create_dir_all(&own).expect("the directory can be made");
        let config = own.join("huntaway.yaml");
        let of_node = fs::read_to_string(nodes.directory(1).join("huntaway.yaml")).expect("a node has one");
        let (_, rest) = of_node.split_once("cluster:").expect("it names its cluster");
        let key = nodes.demo().directory().join("cluster.key");
        let rest = rest.replace("../cluster.key", &key.display().to_string());
        let node = format!(
            "node:\n  name: {name}\n  portals: [{{listen: \"127.0.0.1:0\"}}]\n  admin: \"127.0.0.1:0\"\n"
        );
        fs::write(&config, format!("{node}cluster:{rest}")).expect("the directory is writable");
        let args = ["gateway", "--json", "--config", &config.display().to_string()];
        let running = Script::program(huntaway().get_program()).args(args).start();
        let ready = || {
            let output = running.output();
            let line = output.lines().find(|line| line.starts_with("{\"portals\""))?;
            let ready: Value = serde_json::from_str(line).ok()?;
            Some((ready["portals"][0].as_str()?.to_owned(), ready["admin"].as_str()?.to_owned()))
        };
        let Some((portal, admin)) = wait::try_until(LIMIT, ready) else {
            panic!("gateway {name} does not serve:\n{}", running.output())
        };
        Self { running, portal, admin }
    }

    fn readiness(&self) -> (u16, String) {
        let answer = get(&format!("{}/readyz", self.admin));
        (answer.status, answer.body)
    }

    fn kill(&self) {
        self.running.signal_group(Signal::KILL);
    }
}

fn initiator(nodes: &Nodes, number: u64, portals: &[&str], began: Instant) -> Multipath {
    let portals: Vec<String> = portals.iter().map(|portal| (*portal).to_owned()).collect();
    Multipath::new(number, nodes.demo().target(), &portals, Random::new(number), began)
}

#[test]
fn a_gateway_without_data_serves_what_the_nodes_keep() {
    let scratch = tempfile::tempdir().unwrap();
    let mut nodes = Nodes::start(3, &scratch.path().join("data"));
    nodes.until_healthy();
    let began = Instant::now();
    let mut seen: Vec<Seen> = Vec::new();
    let one = Gateway::start(&nodes, scratch.path(), "one");
    let two = Gateway::start(&nodes, scratch.path(), "two");

    // What is written through it is read through each node.
    let mut writer = initiator(&nodes, 1, &[&one.portal], began);
    (0..OBJECTS).for_each(|object| writer.write(object * OBJECT_BLOCKS, 3));
    seen.push(writer.seen);
    for (number, node) in [(2, 1), (3, 2), (4, 3)] {
        let mut reader = initiator(&nodes, number, &[nodes.portal(node)], began);
        reader.read_all();
        seen.push(reader.seen);
    }
    judge(&seen);

    // A reset through it is answered when all stores know of it, and a flush when all have synced.
    let target = Some(nodes.demo().target());
    let name = "iqn.2026-11.dev.huntaway:resets";
    let login = Login { portal: &one.portal, initiator: name, target, account: None, mutual: None };
    let mut session = login.log_in().unwrap();
    let before = Instant::now();
    assert_eq!(session.reset(0), 0, "{}", one.running.output());
    assert!(before.elapsed() < RESET_LIMIT, "{:?}", before.elapsed());
    session.limit(LIMIT);
    let flush = [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let flushed = wait::try_until(LIMIT, || session.tell(0, &flush, &[]).ok());
    assert!(flushed.is_some(), "{}", one.running.output());
    // Other gateways would not know of it, and go on writing. Nothing is erased: readers see that later.
    let sanitize = [0x48, 0x82, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(session.tell(0, &sanitize, &[]), Err((4, 0x44, 0)), "{}", one.running.output());
    assert!(one.running.output().contains("other gateways would go on writing"), "{}", one.running.output());
    drop(session);

    // A node dies and comes back; then one of two gateways dies, and its successor takes up where it was.
    let mut at_work: Vec<Multipath> =
        (5..9).map(|number| initiator(&nodes, number, &[&one.portal, &two.portal], began)).collect();
    let mut again = None;
    work_during(&mut at_work, || {
        thread::sleep(Duration::from_millis(500));
        nodes.kill(&[2]);
        thread::sleep(Duration::from_millis(1500));
        nodes.have("start", 2);
        one.kill();
        thread::sleep(Duration::from_millis(1500));
        again = Some(Gateway::start(&nodes, scratch.path(), "one"));
        nodes.until_healthy();
    });
    let done: Vec<u64> = at_work.iter().map(|initiator| initiator.ends.done).collect();
    println!("{done:?} commands were done");
    seen.extend(at_work.into_iter().map(|initiator| initiator.seen));
    let again = again.expect("it was started");
    for (number, portal) in [(9, &*again.portal), (10, &*two.portal), (11, nodes.portal(3))] {
        let mut reader = initiator(&nodes, number, &[portal], began);
        reader.read_all();
        seen.push(reader.seen);
    }
    judge(&seen);
    drop((again, two));
    let copies = nodes.copies();
    nodes.stop();
    nodes.compare(&copies);
}

/// To all processes of a demo: nodes, and who keeps their ledger.
fn signal(nodes: &Nodes, signal: Signal) {
    nodes.demo().signal(signal);
    nodes.numbers().for_each(|node| assert!(nodes.signal(node, signal), "node {node} runs"));
}

/// A cluster all of which stands still is to a gateway one that it is cut off from.
#[test]
fn a_gateway_that_lost_its_cluster_sends_its_initiators_away_until_it_is_there_again() {
    const TEST_UNIT_READY: [u8; 6] = [0; 6];
    const WRITE: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    const PORT_UNAVAILABLE: (u8, u8, u8) = (2, 4, 0x0c);
    const SERVICE_UNAVAILABLE: u16 = 0x0301;
    let scratch = tempfile::tempdir().unwrap();
    let nodes = Nodes::start(3, &scratch.path().join("data"));
    nodes.until_healthy();
    let gateway = Gateway::start(&nodes, scratch.path(), "one");
    let (initiator, target) = ("iqn.2026-11.dev.huntaway:cut-off", Some(nodes.demo().target()));
    let login = Login { portal: &gateway.portal, initiator, target, account: None, mutual: None };
    let [mut writer, mut checker] = [(); 2].map(|()| {
        let mut session = login.log_in().unwrap();
        session.limit(LIMIT);
        wait::until("unit attentions to end", LIMIT, || session.tell(0, &TEST_UNIT_READY, &[]).ok());
        session
    });
    let block = |byte| vec![byte; 4096];
    assert_eq!(writer.tell(0, &WRITE, &block(1)), Ok(()));
    assert_eq!(gateway.readiness().0, 200);

    signal(&nodes, Signal::STOP);
    let checked = thread::spawn(move || {
        // A multipath daemon's path checker does that.
        let fails =
            || Some(checker.try_tell(0, &TEST_UNIT_READY, &[])).filter(|end| !matches!(end, Ok(Ok(()))));
        wait::until("the path to be told to be of no use", LIMIT, fails)
    });
    let written = writer.try_tell(0, &WRITE, &block(2)).expect("what was asked for is answered first");
    assert_eq!(written, Err(PORT_UNAVAILABLE), "{}", gateway.running.output());
    let checked = checked.join().expect("it does not panic").expect("it is answered");
    assert_eq!(checked, Err(PORT_UNAVAILABLE), "{}", gateway.running.output());
    wait::until("the session to be closed", LIMIT, || writer.try_tell(0, &TEST_UNIT_READY, &[]).err());
    assert_eq!(login.log_in().err(), Some(SERVICE_UNAVAILABLE), "{}", gateway.running.output());
    assert_eq!(gateway.readiness(), (503, "the cluster cannot be reached: see the log\n".to_owned()));

    signal(&nodes, Signal::CONT);
    wait::until("the cluster to be there again", LIMIT, || {
        Some(gateway.readiness()).filter(|(at, _)| *at == 200)
    });
    let mut reader = login.log_in().expect("it lets initiators in");
    let read = wait::until("it to be read", LIMIT, || reader.ask(0, &READ, 4096).ok());
    assert!([block(1), block(2)].contains(&read), "{:?}", &read[..8]);
}

#[test]
fn a_gateway_is_told_what_it_lacks_and_gives_way_to_another_of_its_name() {
    let scratch = tempfile::tempdir().unwrap();
    let nodes = Nodes::start(3, &scratch.path().join("data"));
    let mut first = Gateway::start(&nodes, scratch.path(), "one");
    let second = Gateway::start(&nodes, scratch.path(), "one-again");
    let config = scratch.path().join("one-again/huntaway.yaml");
    let text = fs::read_to_string(&config).unwrap();
    drop(second);

    // Another process of a name ends the first one, whose requests stores would refuse.
    let same = scratch.path().join("same");
    fs::create_dir(&same).unwrap();
    fs::write(same.join("huntaway.yaml"), text.replace("name: one-again", "name: one")).unwrap();
    let config = same.join("huntaway.yaml").display().to_string();
    let second = Script::program(huntaway().get_program()).args(["gateway", "--config", &config]).start();
    let status = first.running.wait(LIMIT);
    assert!(
        status.is_some_and(|status| !status.success()),
        "{}\n{}",
        first.running.output(),
        second.output()
    );
    assert!(first.running.output().contains("another gateway of this name"), "{}", first.running.output());
    drop(second);

    for (wrong, word) in [
        (text.replace("name: one-again", "name: node-1"), "a node is called node-1"),
        (text.replace("  portals:", "  data_directories: [disk]\n  portals:"), "huntaway node"),
        (text.replace("  name: demo", "  name: other"), "not of `other`"),
    ] {
        fs::write(&config, wrong).unwrap();
        let refused =
            Script::program(huntaway().get_program()).args(["gateway", "--config", &config]).finish();
        assert!(refused.status.is_some_and(|status| !status.success()), "{}", refused.output);
        assert!(refused.output.contains(word), "{word} is not in {}", refused.output);
    }
    fs::write(&config, &text).unwrap();
    let refused = Script::program(huntaway().get_program()).args(["node", "--config", &config]).finish();
    assert!(refused.output.contains("huntaway gateway"), "{}", refused.output);
}
