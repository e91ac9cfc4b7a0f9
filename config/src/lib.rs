//! The configuration of a node: read from YAML, checked, and explained to whoever wrote it.
