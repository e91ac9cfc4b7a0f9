//! `huntaway demo kill|pause|start N` and `huntaway demo add`: asks the demo that runs in the directory, on a socket of its own.

use std::error::Error;
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::time::{sleep, timeout};

/// Longest that is asked or answered, in bytes.
const MAX_BYTES: u64 = 4096;

/// How long it is waited for what is asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// What can happen to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
pub(crate) enum Action {
    /// Kill a node's process: it has no time to say anything to anybody
    Kill(Node),
    /// Stop a node's process in its tracks, as a machine does that hangs
    Pause(Node),
    /// Start a node that was killed, or let one go on that is paused
    Start(Node),
    /// Add a node, and start it: it gets its share of the data
    Add,
}

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub(crate) struct Node {
    /// The node's number, from 1
    pub(super) node: u8,
}

impl Action {
    /// The node, if there is one already.
    pub(super) fn node(self) -> Option<u8> {
        match self {
            Self::Kill(node) | Self::Pause(node) | Self::Start(node) => Some(node.node),
            Self::Add => None,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text.trim() == "add" {
            return Some(Self::Add);
        }
        let (word, node) = text.trim().split_once(' ')?;
        let node = Node { node: node.parse().ok()? };
        match word {
            "kill" => Some(Self::Kill(node)),
            "pause" => Some(Self::Pause(node)),
            "start" => Some(Self::Start(node)),
            _ => None,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Kill(_) => "kill",
            Self::Pause(_) => "pause",
            Self::Start(_) => "start",
            Self::Add => "add",
        };
        match self.node() {
            Some(node) => write!(f, "{word} {node}"),
            None => f.write_str(word),
        }
    }
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("demo.sock")
}

/// Has the demo that runs in the directory do it, and prints what it says.
pub(super) fn ask(dir: &Path, action: Action) -> Result<ExitCode, Box<dyn Error>> {
    let place = socket(dir);
    let mut stream = UnixStream::connect(&place).map_err(|error| {
        format!(
            "no demo of several nodes runs in {}: start one by huntaway demo --nodes 3 ({error})",
            dir.display()
        )
    })?;
    writeln!(stream, "{action}")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.take(MAX_BYTES).read_to_string(&mut answer)?;
    match answer.strip_prefix("ok: ") {
        Some(done) => {
            println!("{}", done.trim_end());
            Ok(ExitCode::SUCCESS)
        }
        None => Err(answer.trim_end().to_owned().into()),
    }
}

/// Takes what is asked for, one after another.
pub(super) struct Control(UnixListener);

impl Control {
    /// In the directory of a demo that runs: nobody else has a socket there that is in use.
    pub(super) fn listen(dir: &Path) -> Result<Self, Box<dyn Error>> {
        let place = socket(dir);
        // The ledger's lock says that no other demo runs here.
        let _ = std::fs::remove_file(&place);
        let listener = UnixListener::bind(&place);
        Ok(Self(listener.map_err(|error| format!("cannot listen on {}: {error}", place.display()))?))
    }

    /// The next one, and where to answer. Whoever asks for what there is not is told so.
    pub(super) async fn next(&self) -> (Action, Asker) {
        loop {
            let Ok((mut stream, _)) = self.0.accept().await else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let mut text = String::new();
            let asked = (&mut stream).take(MAX_BYTES);
            // Whoever says nothing keeps nobody waiting.
            let is_asked =
                timeout(PATIENCE, { asked }.read_to_string(&mut text)).await.is_ok_and(|read| read.is_ok());
            let asker = Asker(stream);
            match Action::parse(&text).filter(|_| is_asked) {
                Some(action) => return (action, asker),
                None => asker.answer(&Err("that is no such command".into())).await,
            }
        }
    }
}

/// Who waits for an answer.
pub(super) struct Asker(tokio::net::UnixStream);

impl Asker {
    pub(super) async fn answer(mut self, done: &Result<String, String>) {
        let text = match done {
            Ok(done) => format!("ok: {done}\n"),
            Err(error) => format!("{error}\n"),
        };
        // Whoever does not wait for it does without.
        let _ = self.0.write_all(text.as_bytes()).await;
    }
}
