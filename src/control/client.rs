//! The control socket as `huntaway apply` and `huntaway vdi` use it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::protocol::{
    DiskPlace, DiskStatus, Failure, NAME_HEADER, NewDisk, NewSize, NewVdi, PlanAnswer, Status, VdiStatus,
};
use crate::cluster::{
    Closed, ClusterStatus, Comparison, CopiesStatus, Explanation, Force, Forced, NewCopies, NewMember,
    NewPolicy, NewWeight, NodeStatus, ObjectPlace, PolicyStatus, Round,
};

/// Longest answer that is read, in bytes: the list of as many VDIs as there can be.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Time that answers may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// Of what the node knows.
    look: Duration,
    /// Of what the ledger is to have: the node itself waits for its keeper.
    record: Duration,
    /// Setting the space of a large thick VDI aside takes long, and so does opening all partitions by force.
    work: Duration,
}

const PATIENCE: Patience = Patience {
    look: Duration::from_secs(10),
    record: Duration::from_secs(15),
    work: Duration::from_secs(3600),
};

impl Patience {
    fn of(self, method: &str, path: &str) -> Duration {
        match method {
            "GET" => self.look,
            _ if is_work(path) => self.work,
            _ => self.record,
        }
    }
}

fn is_work(path: &str) -> bool {
    path.starts_with("/v1/vdis") || matches!(path, "/v1/plan" | "/v1/reload" | "/v1/cluster/force")
}

/// A node's control socket.
pub(crate) struct Client {
    socket: PathBuf,
    runtime: tokio::runtime::Runtime,
    patience: Patience,
}

impl CallError {
    /// The node has looked at what was asked for, and has changed nothing.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.is_client_error())
    }
}

/// What did not come of a call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The node says so.
    #[error("{report}")]
    Refused {
        /// The status of its answer.
        status: StatusCode,
        /// What it says.
        report: String,
    },
    /// There is no node.
    #[error("no node answers at {}: {reason} ({})", socket.display(), cure(reason))]
    NoNode {
        /// Where it should be.
        socket: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// Nothing came.
    #[error(
        "the node at {} has not answered within {} s: it hangs, or its machine has too much to do; see its log, and ask another \
         node how the cluster is{}", socket.display(), waited.as_millis().div_ceil(1000), doubt(*changes)
    )]
    Late {
        /// Where it is.
        socket: PathBuf,
        /// For so long.
        waited: Duration,
        /// Whether something was to be done: it may have been, or be done yet.
        changes: bool,
    },
    /// What it says makes no sense, or it did not say all of it. What was asked for may have been done.
    #[error("the node at {} did not answer as it should: {reason}", socket.display())]
    NoAnswer {
        /// Where it is.
        socket: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

fn doubt(changes: bool) -> &'static str {
    if changes { " (what was asked for may have been done, or be done yet)" } else { "" }
}

fn cure(reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::PermissionDenied => "be root, or the user that the node runs as",
        _ => "is it running? --config names its configuration, --socket its control socket",
    }
}

impl Client {
    /// Talks to the node whose socket this is.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn new(socket: &Path) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { socket: socket.to_owned(), runtime, patience: PATIENCE })
    }

    /// What another configuration, called `name` in reports, would change.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn plan(&self, name: &str, yaml: String) -> Result<PlanAnswer, CallError> {
        self.call("POST", "/v1/plan", Some(name), yaml)
    }

    /// Has the node read its configuration again.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn reload(&self) -> Result<PlanAnswer, CallError> {
        self.call("POST", "/v1/reload", None, String::new())
    }

    /// How the node is.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn status(&self) -> Result<Status, CallError> {
        self.call("GET", "/v1/status", None, String::new())
    }

    /// All VDIs.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn vdis(&self) -> Result<Vec<VdiStatus>, CallError> {
        self.call("GET", "/v1/vdis", None, String::new())
    }

    /// One VDI.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn vdi(&self, name: &str) -> Result<VdiStatus, CallError> {
        self.call("GET", &format!("/v1/vdis/{name}"), None, String::new())
    }

    /// Makes a VDI.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn create(&self, new: &NewVdi) -> Result<VdiStatus, CallError> {
        self.call("POST", "/v1/vdis", None, self.json(new)?)
    }

    /// Resizes a VDI.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn resize(&self, name: &str, size: &NewSize) -> Result<VdiStatus, CallError> {
        self.call("PATCH", &format!("/v1/vdis/{name}"), None, self.json(size)?)
    }

    /// Deletes a VDI.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn delete(&self, name: &str) -> Result<(), CallError> {
        let _: serde_json::Value = self.call("DELETE", &format!("/v1/vdis/{name}"), None, String::new())?;
        Ok(())
    }

    /// How the node's cluster is.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn cluster(&self) -> Result<ClusterStatus, CallError> {
        self.call("GET", "/v1/cluster", None, String::new())
    }

    /// Why it is so.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn explanation(&self) -> Result<Explanation, CallError> {
        self.call("GET", "/v1/cluster/explanation", None, String::new())
    }

    /// Partitions that stay closed.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn closed(&self) -> Result<Vec<Closed>, CallError> {
        self.call("GET", "/v1/cluster/closed", None, String::new())
    }

    /// Has partitions opened by force.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn force(&self, force: &Force) -> Result<Forced, CallError> {
        self.call("POST", "/v1/cluster/force", None, self.json(force)?)
    }

    /// Gives a node another weight.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn weigh(&self, node: &str, weight: NewWeight) -> Result<NodeStatus, CallError> {
        self.call("PATCH", &format!("/v1/cluster/nodes/{node}"), None, self.json(&weight)?)
    }

    /// Has all copies compared, goes on with that, or ends it.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn compare(&self, round: u64, is_over: bool) -> Result<Comparison, CallError> {
        self.call("POST", "/v1/cluster/comparison", None, self.json(&Round { round, is_over })?)
    }

    /// Has a node belong to the cluster.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn add(&self, new: &NewMember) -> Result<NodeStatus, CallError> {
        self.call("POST", "/v1/cluster/nodes", None, self.json(new)?)
    }

    /// Has a node belong to the cluster no more.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn remove(&self, node: &str) -> Result<(), CallError> {
        let _: serde_json::Value =
            self.call("DELETE", &format!("/v1/cluster/nodes/{node}"), None, String::new())?;
        Ok(())
    }

    /// Has the node take a disk into use.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn add_disk(&self, new: &NewDisk) -> Result<DiskStatus, CallError> {
        self.call("POST", "/v1/cluster/disk", None, self.json(new)?)
    }

    /// Has what a disk of the node has go to the others.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn remove_disk(&self, directory: PathBuf) -> Result<DiskStatus, CallError> {
        self.call("DELETE", "/v1/cluster/disk", None, self.json(&DiskPlace { directory })?)
    }

    /// Has what a disk of the node still has stay there.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn keep_disk(&self, directory: PathBuf) -> Result<DiskStatus, CallError> {
        self.call("PUT", "/v1/cluster/disk", None, self.json(&DiskPlace { directory })?)
    }

    /// Says how many copies there are to be.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn set_copies(&self, new: NewCopies) -> Result<CopiesStatus, CallError> {
        self.call("PATCH", "/v1/cluster", None, self.json(&new)?)
    }

    /// Says what recovery may take.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn pace_recovery(&self, new: NewPolicy) -> Result<PolicyStatus, CallError> {
        self.call("PATCH", "/v1/cluster/recovery", None, self.json(&new)?)
    }

    /// Where an object is.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn object(&self, vdi: &str, offset_bytes: u64) -> Result<ObjectPlace, CallError> {
        self.call("GET", &format!("/v1/objects/{vdi}/{offset_bytes}"), None, String::new())
    }

    /// How the node's cluster is, if it says so in time.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) fn cluster_within(&self, patience: Duration) -> Result<ClusterStatus, CallError> {
        self.call_within(patience.min(self.patience.look), "GET", "/v1/cluster", None, String::new())
    }

    fn json(&self, value: &impl Serialize) -> Result<String, CallError> {
        serde_json::to_string(value).map_err(|error| self.no_answer(&error))
    }

    fn no_answer(&self, reason: &dyn std::fmt::Display) -> CallError {
        CallError::NoAnswer { socket: self.socket.clone(), reason: reason.to_string() }
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        name: Option<&str>,
        body: String,
    ) -> Result<T, CallError> {
        if method != "GET" && is_work(path) {
            // Nobody waits for so long for one that hangs.
            self.answer(self.patience.look, "GET", "/v1/status", None, String::new())?;
        }
        self.call_within(self.patience.of(method, path), method, path, name, body)
    }

    fn call_within<T: DeserializeOwned>(
        &self,
        patience: Duration,
        method: &str,
        path: &str,
        name: Option<&str>,
        body: String,
    ) -> Result<T, CallError> {
        let (status, text) = self.answer(patience, method, path, name, body)?;
        if status.is_success() {
            return serde_json::from_slice(&text).map_err(|error| self.no_answer(&error));
        }
        match serde_json::from_slice::<Failure>(&text) {
            Ok(Failure { report }) => Err(CallError::Refused { status, report }),
            Err(_) => Err(self.no_answer(&status)),
        }
    }

    fn answer(
        &self,
        patience: Duration,
        method: &str,
        path: &str,
        name: Option<&str>,
        body: String,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let changes = method != "GET";
        self.runtime.block_on(async {
            let answered = tokio::time::timeout(patience, self.exchange(method, path, name, body)).await;
            let late = |_| CallError::Late { socket: self.socket.clone(), waited: patience, changes };
            answered.map_err(late)?
        })
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        name: Option<&str>,
        body: String,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|reason| CallError::NoNode { socket: self.socket.clone(), reason })?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.no_answer(&error))?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "node");
        if let Some(name) = name.filter(|name| name.bytes().all(|byte| (b' '..=b'~').contains(&byte))) {
            request = request.header(NAME_HEADER, name);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| self.no_answer(&error))?;
        let response = sender.send_request(request).await.map_err(|error| self.no_answer(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        Ok((status, body.map_err(|error| self.no_answer(&error))?.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn nobody_waits_long_for_a_node_that_hangs() {
        let scratch = tempfile::tempdir().unwrap();
        let socket = scratch.path().join("control.sock");
        let _hangs = UnixListener::bind(&socket).unwrap();
        let mut client = Client::new(&socket).unwrap();
        client.patience.look = Duration::from_millis(100);
        let new = NewSize { size_bytes: 1 << 30, allow_shrink: false };
        for late in [client.resize("root", &new).map(drop), client.vdis().map(drop)] {
            let late = late.unwrap_err();
            assert!(matches!(late, CallError::Late { changes: false, .. }), "{late}");
        }
        client.patience.record = Duration::from_millis(100);
        let late = client.weigh("node-1", NewWeight { weight: 1 }).unwrap_err().to_string();
        assert!(late.contains("may have been done"), "{late}");
    }

    #[test]
    fn work_is_waited_for() {
        let patience = |method, path| PATIENCE.of(method, path).as_secs();
        for work in ["/v1/vdis", "/v1/vdis/root", "/v1/reload", "/v1/cluster/force"] {
            assert_eq!(patience("POST", work), 3600, "{work}");
        }
        assert_eq!(patience("GET", "/v1/vdis/root"), 10);
        assert_eq!(patience("POST", "/v1/cluster/comparison"), 15);
    }
}
