//! What a running node cannot change.

use std::path::{Path, PathBuf};

use huntaway_config::{Config, Problem, Span};

/// Every line that asks for what only a restart can do. A disk may have been added while the node runs, of which `has_disk` tells.
pub(super) fn check(served: &Config, wanted: &Config, has_disk: &dyn Fn(&Path) -> bool) -> Vec<Problem> {
    let (old, new) = (&served.node, &wanted.node);
    let directories = |config: &Config| -> Vec<(PathBuf, Option<u32>)> {
        let directory = |directory: &huntaway_config::DataDirectory| {
            (directory.path.value.clone(), directory.weight.as_ref().map(|weight| weight.value))
        };
        config.node.data_directories.iter().map(directory).collect()
    };
    let (had, wants) = (directories(served), directories(wanted));
    // All that there were, in their order, and then those that were added.
    let are_others =
        !wants.starts_with(&had) || !wants[had.len()..].iter().all(|(directory, _)| has_disk(directory));
    let first_directory = new.data_directories.first().map_or(new.name.span, |first| first.path.span);
    let span_of = |span: Option<Span>| span.unwrap_or(new.name.span);
    let candidates = [
        ("node.name", old.name != new.name, new.name.span),
        ("node.zone", old.zone != new.zone, new.zone.span),
        (
            "node.state_directory",
            old.state_directory != new.state_directory,
            span_of(new.state_directory.as_ref().map(|at| at.span)),
        ),
        ("node.data_directories", are_others, first_directory),
        ("node.admin", old.admin != new.admin, span_of(new.admin.as_ref().map(|at| at.span))),
        (
            "node.control_socket",
            old.control_socket != new.control_socket,
            span_of(new.control_socket.as_ref().map(|at| at.span)),
        ),
        ("node.log.format", old.log.format != new.log.format, new.log.level.span),
        ("cluster.name", served.cluster.name != wanted.cluster.name, wanted.cluster.name.span),
        ("cluster.ledger", served.cluster.ledger != wanted.cluster.ledger, wanted.cluster.name.span),
        ("cluster.copies", served.cluster.copies != wanted.cluster.copies, wanted.cluster.copies.span),
        (
            "cluster.membership",
            served.cluster.membership != wanted.cluster.membership,
            wanted.cluster.name.span,
        ),
    ];
    let changed = candidates.into_iter().filter(|(_, changed, _)| *changed);
    changed.map(|(key, _, span)| problem(key, span)).collect()
}

fn problem(key: &str, span: Span) -> Problem {
    Problem::error(
        span,
        format!("`{key}` cannot change while the node runs"),
        "restart the node with this file (systemctl restart huntaway), or undo the change",
    )
}
