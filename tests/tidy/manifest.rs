//! The little of a `Cargo.toml` that the rules need: one `key = value` a line, in sections.

use std::path::{Path, PathBuf};

use crate::tree;

/// One crate's manifest.
pub(crate) struct Manifest {
    /// Relative to the repository.
    pub(crate) path: PathBuf,
    /// The package's name.
    pub(crate) name: String,
    /// (line, section, key, value); a section's own line has an empty key.
    entries: Vec<(usize, String, String, String)>,
}

impl Manifest {
    fn read(path: PathBuf) -> Self {
        let text = tree::read(&path);
        let mut section = String::new();
        let mut entries = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name.to_owned();
                entries.push((index + 1, section.clone(), String::new(), String::new()));
            } else if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
                entries.push((index + 1, section.clone(), key.trim().to_owned(), value.trim().to_owned()));
            }
        }
        let mut manifest = Self { path, name: String::new(), entries };
        manifest.name = manifest.value("package", "name").unwrap_or_default();
        manifest
    }

    /// A text value, without its quotes.
    pub(crate) fn value(&self, section: &str, key: &str) -> Option<String> {
        let entry = self.entries.iter().find(|(_, s, k, _)| s == section && k == key)?;
        Some(entry.3.trim_matches('"').to_owned())
    }

    /// Names of the crates it is built with (not those of its tests), with their lines.
    pub(crate) fn dependencies(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (line, section, key, _) in &self.entries {
            let (section, table) = match section.rsplit_once("dependencies.") {
                Some((before, name)) => (format!("{before}dependencies"), Some(name)),
                None => (section.clone(), None),
            };
            let built_with = section.ends_with("dependencies") && !section.ends_with("dev-dependencies");
            let name = table.filter(|_| key.is_empty()).unwrap_or(if table.is_none() { key } else { "" });
            let name = name.split('.').next().unwrap_or_default();
            if built_with && section != "workspace.dependencies" && !name.is_empty() {
                found.push((*line, name.to_owned()));
            }
        }
        found
    }
}

/// The manifests of all crates.
pub(crate) fn all() -> Vec<Manifest> {
    let manifest = |path: &PathBuf| path.file_name() == Some("Cargo.toml".as_ref());
    tree::files("Cargo.toml").into_iter().filter(manifest).map(Manifest::read).collect()
}

/// The manifest of the crate in `dir`, relative to the repository.
pub(crate) fn of(dir: &str) -> Manifest {
    Manifest::read(Path::new(dir).join("Cargo.toml"))
}
