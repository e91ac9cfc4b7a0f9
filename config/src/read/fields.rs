//! Mappings: their known keys, and what is wrong with the others.

use std::collections::HashMap;

use super::suggestion::suggestion;
use super::{Reader, SECTIONS, Section, kind, quoted};
use crate::Span;
use crate::tree::{Node, Value};

/// The known keys of a mapping, with their values.
pub(crate) struct Fields<'a> {
    section: Section,
    /// The mapping's first key: where something that is missing is reported.
    pub(crate) span: Span,
    values: HashMap<&'static str, &'a Node>,
    is_readable: bool,
    /// Known keys that are there, but misspelt.
    meant: Vec<&'static str>,
}

impl Fields<'_> {
    /// Whether the value of a key is a mapping with this key.
    pub(crate) fn has(&self, key: &str, inner: &str) -> bool {
        let Some(Value::Mapping(entries)) = self.values.get(key).map(|node| &node.value) else {
            return false;
        };
        entries.iter().any(|(key, _)| matches!(&key.value, Value::Scalar { text, .. } if text == inner))
    }
}

impl Reader {
    /// Takes a mapping apart. Notes if it is none, and keys that are unknown or there twice.
    pub(crate) fn fields<'a>(&mut self, node: &'a Node, section: Section) -> Fields<'a> {
        let (values, meant) = (HashMap::new(), Vec::new());
        let mut fields = Fields { section, span: node.span, values, is_readable: true, meant };
        let Value::Mapping(entries) = &node.value else {
            // An empty file lacks keys; an empty section is more likely a slip of indentation.
            fields.is_readable = section == Section::File && node.is_null();
            if !fields.is_readable {
                let cure = format!("write `key: value`; the keys are {}", listed(section.keys()));
                self.error(node.span, format!("{} is {}, not a mapping", section.title(), kind(node)), cure);
            }
            return fields;
        };
        if let Some((key, _)) = entries.first() {
            fields.span = key.span;
        }
        for (key, value) in entries {
            let Value::Scalar { text, .. } = &key.value else {
                self.error(key.span, "this key is not a word", "write `key: value`");
                continue;
            };
            let Some(&known) = section.keys().iter().find(|known| *known == text) else {
                fields.meant.extend(suggestion(text, section.keys()));
                self.error(key.span, format!("unknown key {}", quoted(text)), cure(text, section));
                continue;
            };
            if fields.values.insert(known, value).is_some() {
                let message = format!("`{known}` is here twice in {}", section.title());
                self.error(key.span, message, "take out one of the two");
            }
        }
        fields
    }

    /// Reads a key that may not be left out.
    pub(crate) fn required<T>(
        &mut self,
        fields: &Fields<'_>,
        key: &'static str,
        read: impl FnOnce(&mut Self, &Node) -> Option<T>,
    ) -> Option<T> {
        if !fields.values.contains_key(key) && !fields.meant.contains(&key) && fields.is_readable {
            let cure = format!("add `{}`", example_of(fields.section, key));
            self.error(fields.span, format!("{} has no `{key}`", fields.section.title()), cure);
        }
        self.optional(fields, key, read)
    }

    /// Reads a key that may be left out.
    pub(crate) fn optional<T>(
        &mut self,
        fields: &Fields<'_>,
        key: &'static str,
        read: impl FnOnce(&mut Self, &Node) -> Option<T>,
    ) -> Option<T> {
        debug_assert!(fields.section.keys().contains(&key), "{key} is a known key");
        let node = *fields.values.get(key)?;
        if node.is_null() && !matches!(key, "targets" | "luns") {
            let message = format!("`{key}` has no value");
            self.error(node.span, message, "write one after it, or take the key out");
            return None;
        }
        read(self, node)
    }
}

/// What to write instead of an unknown key.
fn cure(key: &str, section: Section) -> String {
    if section == Section::Chap && matches!(key, "secret" | "password") {
        return "write the secret into a file, and its path here: `secret_file: secrets/vm`".into();
    }
    if key == "<<" {
        return "YAML's merge key is not known here: write the keys out".into();
    }
    if let Some(known) = suggestion(key, section.keys()) {
        return format!("write `{known}`");
    }
    let elsewhere = SECTIONS.iter().find(|(other, _, keys)| *other != section && keys.contains(&key));
    match elsewhere {
        Some((_, title, _)) => format!(
            "`{key}` belongs into {title}: is the indentation right? The keys of {} are {}",
            section.title(),
            listed(section.keys())
        ),
        None => format!("the keys of {} are {}", section.title(), listed(section.keys())),
    }
}

fn listed(keys: &[&str]) -> String {
    keys.join(", ")
}

/// A required key as one would write it.
fn example_of(section: Section, key: &str) -> &'static str {
    match (section, key) {
        (Section::Node, "name") => "name: storage-1",
        (Section::Node, "data_directories") => "data_directories: [/srv/disk1]",
        (Section::Node, "portals") => "portals: [{listen: 192.0.2.10:3260}]",
        (Section::DataDirectory, _) => "path: /srv/disk1",
        (Section::Portal, _) => "listen: 192.0.2.10:3260",
        (Section::Ledger, "keeper") => "keeper: 192.0.2.9:3270",
        (Section::Ledger, _) => "key_file: secrets/cluster",
        (Section::Tls, "ca_file") => "ca_file: tls/ca.pem",
        (Section::Tls, "certificate_file") => "certificate_file: tls/storage-1.pem",
        (Section::Tls, _) => "private_key_file: tls/storage-1.key",
        (Section::Chap, "user") => "user: vm",
        (Section::Chap, _) => "secret_file: secrets/vm",
        (Section::Target, "iqn") => "iqn: iqn.2026-11.net.example:vm",
        (Section::Target, _) => "initiators: [iqn.1993-08.org.debian:*]",
        (Section::Initiator, _) => "name: iqn.1993-08.org.debian:*",
        (Section::Lun, "lun") => "lun: 0",
        (Section::Lun, _) => "vdi: root",
        _ => "node:",
    }
}
