//! A node tells the service manager that started it how it is: ready, alive, reloading, stopping (sd_notify(3)).

mod support;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::demo::huntaway;
use support::node::make;

/// Time for what is to happen.
const LIMIT: Duration = Duration::from_secs(30);
const WATCHDOG: Duration = Duration::from_millis(600);

/// What a manager hears.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket can be made");
        socket.set_read_timeout(Some(LIMIT)).expect("a time limit can be set");
        Self { socket }
    }

    fn message(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).expect("the node says something in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// The next message with this line.
    fn wait_for(&self, line: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let message = self.message();
            if message.lines().any(|it| it == line) {
                return message;
            }
            assert!(Instant::now() < deadline, "the node never said {line}");
        }
    }
}

/// Killed when dropped.
struct Node(Child);

impl Node {
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("a child can be signalled");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn configuration(level: &str) -> String {
    format!(
        "node:\n  name: a\n  data_directories: [data]\n  portals: [{{listen: '127.0.0.1:0'}}]\n  log: {{level: {level}}}\n\
         cluster: {{name: lab}}\ntargets: []\n"
    )
}

fn start(command: &mut Command, config: &Path, socket: &Path) -> Node {
    make(config).expect("a node can be made");
    let child = command
        .args(["node", "--config"])
        .arg(config)
        .env("NOTIFY_SOCKET", socket)
        .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Node(child.expect("huntaway can be started"))
}

#[test]
fn a_node_tells_when_it_is_ready_alive_reloading_and_stopping() {
    let directory = tempfile::tempdir().unwrap();
    let (config, socket) = (directory.path().join("huntaway.yaml"), directory.path().join("notify"));
    fs::write(&config, configuration("info")).unwrap();
    let manager = Manager::listen(&socket);
    let mut node = start(&mut huntaway(), &config, &socket);

    let ready = manager.wait_for("READY=1");
    assert!(ready.lines().any(|line| line.starts_with("STATUS=") && line.len() > "STATUS=".len()), "{ready}");

    manager.wait_for("WATCHDOG=1");
    let start = Instant::now();
    for _ in 0..4 {
        manager.wait_for("WATCHDOG=1");
    }
    assert!(start.elapsed() < WATCHDOG * 4, "too late: 4 signs of life took {:?}", start.elapsed());

    fs::write(&config, configuration("debug")).unwrap();
    node.signal(Signal::HUP);
    // a reload that is over at once may be told by its end alone
    manager.wait_for("READY=1");

    node.signal(Signal::TERM);
    manager.wait_for("STOPPING=1");
    assert!(node.0.wait().unwrap().success());
}
