//! The reader: from a tree to a configuration. It notes what it cannot use and goes on, with something harmless in its
//! place, so that one run finds every mistake. What it returns is fit for use only if it noted no error.

mod fields;
mod iscsi_name;
mod keys;
mod node;
mod scalar;
mod suggestion;
mod target;

use std::sync::Arc;

use crate::config::Config;
use crate::tree::{Node, Value};
use crate::{At, Problem, Severity, Source, Span, check};

use fields::Fields;
pub(crate) use iscsi_name::covers;
pub(crate) use keys::{SECTIONS, Section};
pub(crate) use scalar::size_text;

/// What was noted so far.
#[derive(Default)]
pub(crate) struct Reader {
    problems: Vec<Problem>,
    /// The portals that were read are not all that were written.
    portals_incomplete: bool,
    /// Others keep the data, perhaps: see [`Config`]'s `data_directories`.
    may_keep_no_data: bool,
}

/// Reads a whole file, and checks what of it can be checked together.
pub(crate) fn config(source: &Arc<Source>, tree: &Node) -> (Config, Vec<Problem>) {
    let mut reader = Reader::default();
    let fields = reader.fields(tree, Section::File);
    reader.portals_incomplete = true;
    reader.may_keep_no_data = fields.has("cluster", "ledger");
    let node = reader.required(&fields, "node", Reader::node).unwrap_or_else(|| node::nothing(tree.span));
    let cluster = reader.optional(&fields, "cluster", Reader::cluster);
    let cluster = cluster.unwrap_or_else(|| node::default_cluster(tree.span));
    let targets = reader.optional(&fields, "targets", |reader, list| {
        reader.list(list, target::MAX_TARGETS, "targets", |reader, item| Some(reader.target(item)))
    });
    let config = Config { source: Arc::clone(source), node, cluster, targets: targets.unwrap_or_default() };
    check::config(&config, &mut reader);
    (config, reader.problems)
}

impl Reader {
    /// Notes something that must be mended.
    pub(crate) fn error(&mut self, span: Span, message: impl Into<String>, cure: impl Into<String>) {
        self.problems.push(Problem::error(span, message, cure));
    }

    /// Notes something that is probably not meant.
    pub(crate) fn warning(&mut self, span: Span, message: impl Into<String>, cure: impl Into<String>) {
        self.problems.push(Problem::warning(span, message, cure));
    }

    /// Whether an error was noted inside `span`: then what was read there is not all that is written there.
    pub(crate) fn has_error_in(&self, span: Span) -> bool {
        let inside = |problem: &Problem| span.start <= problem.span.start && problem.span.start < span.end;
        self.problems.iter().any(|problem| problem.severity == Severity::Error && inside(problem))
    }

    /// Whether the portals that were read are not all that were written.
    pub(crate) fn has_portal_error(&self) -> bool {
        self.portals_incomplete
    }

    /// Reads each item of a list of at most `max`, called `what`. An item that cannot be read is left out.
    fn list<T>(
        &mut self,
        node: &Node,
        max: usize,
        what: &str,
        mut item: impl FnMut(&mut Self, &Node) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Value::Sequence(items) = &node.value else {
            if matches!(what, "targets" | "luns") && node.is_null() {
                return Some(Vec::new());
            }
            let cure = format!("write each item of `{what}` on a line of its own that begins with `- `");
            self.error(node.span, format!("`{what}` is {}, not a list", kind(node)), cure);
            return None;
        };
        if let Some(beyond) = items.get(max) {
            let cure = format!("leave {max}");
            self.error(beyond.span, format!("there are {} {what}, more than {max}", items.len()), cure);
        }
        Some(items.iter().take(max).filter_map(|node| item(self, node)).collect())
    }
}

/// What a node is, in a sentence.
fn kind(node: &Node) -> &'static str {
    match &node.value {
        _ if node.is_null() => "empty",
        Value::Scalar { .. } => "a single value",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping",
    }
}

/// Text of a file as part of a message: in one line, and not too long.
pub(crate) fn quoted(text: &str) -> String {
    const MAX_CHARACTERS: usize = 80;
    let mut shown: String = text.chars().take(MAX_CHARACTERS).flat_map(char::escape_debug).collect();
    shown = shown.replace("\\\"", "\"").replace("\\'", "'");
    if text.chars().nth(MAX_CHARACTERS).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// Something harmless in the place of a value that could not be read.
fn or_nothing<T: Default>(value: Option<At<T>>, span: Span) -> At<T> {
    value.unwrap_or_else(|| At::new(T::default(), span))
}
