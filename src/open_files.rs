//! Open files: how many the kernel allows this process, and who may have how many of them.
//!
//! Every connection takes one, and connections are made by whoever can reach a portal: without a limit of their own they
//! would take those that the store needs to work.

use huntaway_gateway::DEFAULT_MAX_CONNECTIONS;
use huntaway_store::StoreOptions;
use rustix::process::{Resource, getrlimit, setrlimit};

/// Fewest open files to start with.
const MIN_OPEN_FILES: usize = 256;

/// Open files for all that is neither a connection of an initiator nor an object: the write-ahead log, indexes, the
/// ledger, portals, the admin address and its 64 connections, the runtime's own.
const RESERVED_FILES: usize = 128;

/// Part of the open files that objects may take.
const OBJECTS_SHARE: usize = 4;

/// Who may have how many open files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenFiles {
    /// Connections of initiators.
    pub(crate) connections: usize,
    /// Object files of the store.
    pub(crate) objects: usize,
}

/// The process may have too few open files to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may have {limit} open files only, and needs at least {MIN_OPEN_FILES}: raise the hard limit \
     (`ulimit -Hn`, LimitNOFILE= of a systemd unit, --ulimit nofile= of a container)"
)]
pub(crate) struct TooFewOpenFiles {
    limit: usize,
}

impl OpenFiles {
    /// Takes as many open files as this process may have, and shares them out.
    ///
    /// # Errors
    /// When there are fewer than 256.
    pub(crate) fn take() -> Result<Self, TooFewOpenFiles> {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files stays as it is");
        }
        let limit = getrlimit(Resource::Nofile).current;
        let limit = limit.and_then(|limit| limit.try_into().ok()).unwrap_or(usize::MAX);
        let shares = Self::share(limit)?;
        tracing::debug!(limit, connections = shares.connections, objects = shares.objects, "open files");
        Ok(shares)
    }

    fn share(limit: usize) -> Result<Self, TooFewOpenFiles> {
        if limit < MIN_OPEN_FILES {
            return Err(TooFewOpenFiles { limit });
        }
        let objects = StoreOptions::default().open_objects.min(limit / OBJECTS_SHARE);
        let rest = limit - objects - RESERVED_FILES;
        Ok(Self { connections: rest.min(DEFAULT_MAX_CONNECTIONS), objects })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_the_store_what_it_needs() {
        let share = |limit| OpenFiles::share(limit).map(|files| (files.connections, files.objects));
        assert_eq!(share(255), Err(TooFewOpenFiles { limit: 255 }));
        assert_eq!(share(256), Ok((64, 64)));
        assert_eq!(share(1024), Ok((640, 256)));
        assert_eq!(share(4096), Ok((2944, 1024)));
        assert_eq!(share(1 << 20), Ok((12_000, 1024)));
        assert_eq!(share(usize::MAX), Ok((12_000, 1024)));
    }
}
