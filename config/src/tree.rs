//! The tree of a YAML text, each node with its place. What the values mean is the reader's business, so `no` stays the
//! text `no`. Not here: tags (refused), several documents (refused), merge keys (a key like any other).

use std::collections::HashMap;

use serde_saphyr::granit_parser::{self, ErrorKind, Event, Parser, ScalarStyle, ScanError};

use crate::{Problem, Span};

/// Most nodes that a file has, each use of an alias counted in full.
const MAX_NODES: usize = 200_000;

/// How deep lists and mappings may be nested.
const MAX_DEPTH: usize = 32;

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) span: Span,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Text, a number, a boolean or nothing; the latter three are `plain`, without quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Node>),
    /// Keys in the order of the file, duplicates included.
    Mapping(Vec<(Node, Node)>),
}

impl Node {
    /// Whether it is there, but says nothing.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(&**text, "" | "~" | "null"))
    }
}

/// Reads the one document of `text`. An empty one is null.
///
/// # Errors
/// The first thing that is not YAML, or that a configuration does not need.
pub(crate) fn read(text: &str) -> Result<Node, Problem> {
    let options = granit_parser::options! {
        emit_comments: false,
        disallow_directives: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| not_yaml(text, &error))?;
        let place = |marker: granit_parser::Marker| marker.byte_offset().unwrap_or(text.len());
        let place = |span: granit_parser::Span| Span { start: place(span.start), end: place(span.end) };
        builder.take(event, place(span), place(span.tag_span().unwrap_or(span)))?;
    }
    let nothing = Value::Scalar { text: String::new(), plain: true };
    Ok(builder.root.unwrap_or(Node { value: nothing, span: Span::default() }))
}

/// A node with what bounds its use as an alias.
#[derive(Clone)]
struct Measured {
    node: Node,
    nodes: usize,
    depth: usize,
}

/// A list or mapping whose end has not been seen.
struct Open {
    is_mapping: bool,
    anchor: usize,
    span: Span,
    /// Of a mapping, keys and values by turns.
    items: Vec<Node>,
    nodes: usize,
    depth: usize,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Measured>,
    root: Option<Node>,
    nodes: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span, tag: Span) -> Result<(), Problem> {
        match event {
            Event::DocumentStart(..) if self.root.is_some() => Err(Problem::error(
                span,
                "a second document begins here",
                "a configuration is one document: take out `---` and what follows, or join the two",
            )),
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, _, Some(_))
            | Event::MappingStart(_, _, Some(_)) => Err(Problem::error(
                tag,
                "tags have no meaning here",
                "take out the word that begins with `!`",
            )),
            Event::Scalar(text, style, anchor, None) => {
                let value = Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                self.put(Measured { node: Node { value, span }, nodes: 1, depth: 1 }, anchor)
            }
            Event::SequenceStart(_, anchor, None) => self.begin(false, anchor, span),
            Event::MappingStart(_, anchor, None) => self.begin(true, anchor, span),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.repeat(anchor, span),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, is_mapping: bool, anchor: usize, span: Span) -> Result<(), Problem> {
        self.open.push(Open { is_mapping, anchor, span, items: Vec::new(), nodes: 1, depth: 1 });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Some(Open { is_mapping, anchor, mut span, items, nodes, depth }) = self.open.pop() else {
            return Ok(());
        };
        if let Some(last) = items.last() {
            span.end = span.end.max(last.span.end);
        }
        let value = if is_mapping { Value::Mapping(pairs(items)) } else { Value::Sequence(items) };
        self.put(Measured { node: Node { value, span }, nodes, depth }, anchor)
    }

    fn repeat(&mut self, anchor: usize, span: Span) -> Result<(), Problem> {
        let Some(original) = self.anchors.get(&anchor) else {
            return Err(Problem::error(
                span,
                "this stands for a value that it is part of",
                "write the value out",
            ));
        };
        self.nodes += original.nodes;
        if self.nodes > MAX_NODES || original.depth + self.open.len() > MAX_DEPTH {
            return Err(too_much(span));
        }
        let mut copy = original.clone();
        copy.node.span = span;
        self.put(copy, 0)
    }

    /// Puts a complete node where it belongs. Anchor 0 is none.
    fn put(&mut self, measured: Measured, anchor: usize) -> Result<(), Problem> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(too_much(measured.node.span));
        }
        if anchor != 0 {
            self.nodes += measured.nodes;
            self.anchors.insert(anchor, measured.clone());
        }
        match self.open.last_mut() {
            Some(parent) => {
                parent.nodes += measured.nodes;
                parent.depth = parent.depth.max(measured.depth + 1);
                parent.items.push(measured.node);
            }
            None => self.root = Some(measured.node),
        }
        Ok(())
    }
}

fn pairs(items: Vec<Node>) -> Vec<(Node, Node)> {
    let mut items = items.into_iter();
    let mut pairs = Vec::new();
    while let (Some(key), Some(mut value)) = (items.next(), items.next()) {
        // Nothing has no place of its own: what is missing is missing at its key.
        if value.is_null() && value.span.start >= value.span.end {
            value.span = key.span;
        }
        pairs.push((key, value));
    }
    pairs
}

fn too_much(span: Span) -> Problem {
    let cure =
        format!("a file has at most {MAX_NODES} values (aliases counted in full), nested {MAX_DEPTH} deep");
    Problem::error(span, "this file says too much", cure)
}

fn not_yaml(text: &str, error: &ScanError) -> Problem {
    let start = error.marker().byte_offset().unwrap_or(text.len()).min(text.len());
    let start = text.floor_char_boundary(start);
    let end = text.ceil_char_boundary(start + 1);
    let message = format!("this is not YAML: {}", error.info());
    Problem::error(Span { start, end }, message, cure(text, start, error))
}

/// What to do about the mistakes that are made again and again.
fn cure(text: &str, place: usize, error: &ScanError) -> String {
    let line_start = text[..place].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let has_bare_star = ["- *", ": *", "[*", ", *"].iter().any(|star| line.contains(star));
    if line.split_once(": [").is_some_and(|(_, rest)| rest.contains("]:")) {
        "put an address with brackets in quotes: \"[2001:db8::1]:3260\"".into()
    } else if has_bare_star {
        "put what begins with a star in quotes, such as \"*\": without them it is an alias of a YAML anchor"
            .into()
    } else if line.trim_start_matches(' ').starts_with('\t') {
        "indent with spaces: YAML does not allow tabs".into()
    } else if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
        format!("lists and mappings may be nested {MAX_DEPTH} deep")
    } else if error.info().contains("mapping values") {
        "indent keys of one mapping alike; a value that has `: ` inside, or a colon at its end, needs quotes"
            .into()
    } else {
        "look for an indentation, a quote or a bracket that does not fit, here or just above".into()
    }
}
