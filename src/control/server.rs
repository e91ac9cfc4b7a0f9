//! The control socket as the node has it: made, guarded, served.

use std::convert::Infallible;
use std::error::Error;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use super::routes::answer;
use crate::node::{Engine, Storage};

/// Longest path of a Unix socket, in bytes (unix(7)).
const MAX_PATH_BYTES: usize = 107;

/// Connections served at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 16;

/// Connections the kernel may hold that were not accepted yet.
const LISTEN_BACKLOG: i32 = 16;

/// Time in which a request's head has to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an accept that failed (out of file descriptors) waits before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The socket, which goes from the file system when this is dropped.
pub(crate) struct ControlSocket {
    listener: UnixListener,
    _file: SocketFile,
}

/// Its place in the file system.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // gone already: somebody else was faster
        drop(fs::remove_file(&self.0));
    }
}

impl ControlSocket {
    /// Makes the socket at `path`, in place of one that a process left behind. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Whatever is in the way, and what to do.
    pub(crate) fn listen(path: &Path) -> Result<Self, Box<dyn Error>> {
        let place = path.display();
        let length_bytes = path.as_os_str().len();
        if length_bytes > MAX_PATH_BYTES {
            return Err(format!(
                "the control socket {place} has a path of {length_bytes} bytes, the system takes {MAX_PATH_BYTES}: \
                 write a shorter one as node.control_socket, such as /run/huntaway/control.sock"
            )
            .into());
        }
        let cannot = |error: &io::Error| {
            let cure = "its directory must exist, and belong to the user that the node runs as";
            format!("cannot make the control socket {place}: {error} ({cure})")
        };
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(|error| cannot(&error))?;
        let bound = SockAddr::unix(path).and_then(|address| socket.bind(&address));
        bound.map_err(|error| cannot(&error))?;
        let file = SocketFile(path.to_owned());
        // nobody can connect before it listens, and then only its owner and root
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(|error| cannot(&error))?;
        socket.set_nonblocking(true).map_err(|error| cannot(&error))?;
        socket.listen(LISTEN_BACKLOG).map_err(|error| cannot(&error))?;
        let listener = UnixListener::from_std(socket.into()).map_err(|error| cannot(&error))?;
        Ok(Self { listener, _file: file })
    }

    /// Serves requests to `engine` until the task is dropped. While it is not there, they are told to come back, unless the
    /// storage is all that they want.
    pub(crate) async fn serve(self, engine: Arc<OnceLock<Arc<Engine>>>, storage: Arc<Storage>) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let permit = Arc::clone(&permits).acquire_owned().await;
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (engine, storage) = (Arc::clone(&engine), Arc::clone(&storage));
                    tokio::spawn(async move {
                        let _permit = permit;
                        serve_connection(engine, storage, stream).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "control socket: cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// A connection is for one request.
async fn serve_connection(engine: Arc<OnceLock<Arc<Engine>>>, storage: Arc<Storage>, stream: UnixStream) {
    let service = service_fn(|request| {
        let (engine, storage) = (engine.get().cloned(), Arc::clone(&storage));
        async move { Ok::<_, Infallible>(answer(engine, storage, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "control connection ended");
    }
}

/// Removes what a process that was killed left behind, and nothing else.
fn remove_stale(path: &Path) -> Result<(), Box<dyn Error>> {
    let place = path.display();
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|error| format!("cannot look at {place}: {error}"))?,
    };
    if !found.file_type().is_socket() {
        return Err(format!(
            "{place} is in the way of the control socket and is something else: move it, or write another path as \
             node.control_socket"
        )
        .into());
    }
    match BlockingStream::connect(path) {
        Ok(_) => Err(format!(
            "another process answers at the control socket {place}: does a node run already? Give each its own \
             node.control_socket"
        )
        .into()),
        Err(_) => fs::remove_file(path)
            .map_err(|error| format!("cannot remove the control socket left at {place}: {error}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> String {
        ControlSocket::listen(path).map(|_| ()).unwrap_err().to_string()
    }

    #[tokio::test]
    async fn only_its_owner_may_use_it_and_it_goes_with_the_node() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("control.sock");
        let socket = ControlSocket::listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(refusal(&path).contains("does a node run already"));
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_a_killed_process_left_behind_is_replaced_and_nothing_else_is() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(ControlSocket::listen(&path).unwrap());

        fs::write(&path, "somebody's notes").unwrap();
        assert!(refusal(&path).contains("is something else"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's notes");
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_refused_with_the_cure() {
        let error = refusal(&Path::new("/tmp").join("x".repeat(120)));
        assert!(error.contains("125 bytes") && error.contains("node.control_socket"), "{error}");
    }
}
