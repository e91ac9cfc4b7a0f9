//! The keys of each section. A test holds them against the schema.

/// A kind of mapping in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    File,
    Node,
    DataDirectory,
    Portal,
    Log,
    Discovery,
    Cluster,
    Ledger,
    Tls,
    Chap,
    Target,
    Initiator,
    Lun,
}

/// Each section with what people call it and its keys, in the order in which one would write them.
pub(crate) const SECTIONS: [(Section, &str, &[&str]); 13] = [
    (Section::File, "the file", &["node", "cluster", "targets"]),
    (
        Section::Node,
        "`node`",
        &[
            "name",
            "zone",
            "state_directory",
            "data_directories",
            "portals",
            "admin",
            "control_socket",
            "log",
            "discovery",
        ],
    ),
    (Section::DataDirectory, "an entry of `data_directories`", &["path", "weight"]),
    (Section::Portal, "an entry of `node: portals`", &["name", "listen", "advertise"]),
    (Section::Log, "`log`", &["level", "format"]),
    (Section::Discovery, "`discovery`", &["chap", "mutual_chap"]),
    (Section::Cluster, "`cluster`", &["name", "copies", "membership", "ledger"]),
    (Section::Ledger, "`cluster: ledger`", &["keeper", "key_file", "tls"]),
    (Section::Tls, "`cluster: ledger: tls`", &["ca_file", "certificate_file", "private_key_file"]),
    (Section::Chap, "a CHAP account", &["user", "secret_file"]),
    (
        Section::Target,
        "an entry of `targets`",
        &["iqn", "portals", "initiators", "chap", "mutual_chap", "digests", "luns"],
    ),
    (Section::Initiator, "an entry of `initiators`", &["name", "luns", "chap"]),
    (
        Section::Lun,
        "an entry of `luns`",
        &[
            "lun",
            "vdi",
            "size",
            "block_size",
            "physical_block_size",
            "thin",
            "read_only",
            "cache",
            "allow_shrink",
        ],
    ),
];

impl Section {
    /// What people call it.
    pub(crate) fn title(self) -> &'static str {
        self.row().1
    }

    /// Its keys.
    pub(crate) fn keys(self) -> &'static [&'static str] {
        self.row().2
    }

    fn row(self) -> (Section, &'static str, &'static [&'static str]) {
        SECTIONS[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_section_has_its_own_row() {
        for (index, (section, ..)) in SECTIONS.iter().enumerate() {
            assert_eq!(*section as usize, index);
        }
    }
}
