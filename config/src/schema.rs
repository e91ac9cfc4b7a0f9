//! The JSON Schema of the file, for editors. The types here are only its description: what is wrong with a file is found by
//! the reader, which says it better. A test holds the keys of the two against each other.
#![allow(dead_code, reason = "these types are described, never made")]

use schemars::{JsonSchema, schema_for};
use serde_json::Value;

/// The JSON Schema of a configuration file, indented. Editors use it where the file's first line is
/// `# yaml-language-server: $schema=huntaway.schema.json`.
pub fn schema() -> String {
    let mut schema = schema_for!(File).to_value();
    without_null(&mut schema);
    format!("{schema:#}\n")
}

/// Takes `null` from what a value may be: a key that may be left out may not be left empty.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = &**types {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
                choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
                if let [Value::Object(only)] = &**choices {
                    let only = only.clone();
                    object.remove("anyOf");
                    object.extend(only.into_iter().filter(|(key, _)| key != "description"));
                }
            }
            object.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// The configuration of a Huntaway node.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "Huntaway configuration")]
struct File {
    /// This machine.
    node: Node,
    /// What the nodes of a cluster have in common.
    cluster: Option<Cluster>,
    /// What initiators log in to.
    #[schemars(length(max = 1024))]
    targets: Option<Vec<Target>>,
}

/// This machine.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Node {
    /// Its name, unique in the cluster.
    name: Name,
    /// What fails together with it, such as a rack. Default: default.
    zone: Option<Name>,
    /// Where the ledger is. Default: the first data directory.
    state_directory: Option<String>,
    /// One directory for each disk. Only a gateway that keeps no data has none: `huntaway gateway`, with `cluster: ledger`.
    #[schemars(length(min = 1, max = 64))]
    data_directories: Option<Vec<PathOrDataDirectory>>,
    /// Where initiators log in.
    #[schemars(length(min = 1, max = 64))]
    portals: Vec<Portal>,
    /// Address and port of /metrics, /healthz and /readyz.
    admin: Option<String>,
    /// The socket of `huntaway apply` and `huntaway vdi`. Default: control.sock in the state directory.
    control_socket: Option<String>,
    /// What is logged, and how.
    log: Option<Log>,
    /// CHAP of discovery sessions.
    discovery: Option<Discovery>,
}

/// Letters, digits and . _ : -
#[derive(JsonSchema)]
#[schemars(transparent)]
struct Name(#[schemars(regex(pattern = "^[A-Za-z0-9._:-]{1,255}$"))] String);

/// A directory on a disk of its own.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum PathOrDataDirectory {
    Path(String),
    DataDirectory(DataDirectory),
}

/// A directory on a disk of its own, with a weight.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct DataDirectory {
    /// The directory.
    path: String,
    /// Its share of the data in proportion to the others'. Default: its size in GiB when first used.
    #[schemars(range(min = 1))]
    weight: Option<u32>,
}

/// An address on which initiators log in.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Portal {
    /// What targets call it.
    name: Option<Name>,
    /// IP address and port, such as 192.0.2.10:3260 or "[2001:db8::1]:3260".
    listen: String,
    /// What discovery shows instead, such as storage-1.san:3260.
    advertise: Option<String>,
}

/// What is logged, and how.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Log {
    /// Such as info, or info,huntaway_gateway=debug. Default: info.
    level: Option<String>,
    /// How a line looks. Default: text.
    format: Option<LogFormat>,
}

/// How a log line looks.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum LogFormat {
    Text,
    Json,
}

/// CHAP of discovery sessions.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Discovery {
    /// What the initiator proves.
    chap: Option<Chap>,
    /// What the target proves. Needs `chap`.
    mutual_chap: Option<Chap>,
}

/// What the nodes of a cluster have in common.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Cluster {
    /// Its name. Default: huntaway.
    name: Option<Name>,
    /// How many copies of each block are kept. This release: 1.
    #[schemars(range(min = 1, max = 1))]
    copies: Option<u8>,
    /// What agrees on the ledger. Default: local.
    membership: Option<Membership>,
    /// Who keeps the ledger of several nodes. Default: this node, alone.
    ledger: Option<Ledger>,
}

/// Who keeps the ledger of several nodes: see `huntaway keeper`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Ledger {
    /// Where it listens.
    keeper: String,
    /// The cluster's key: a file with 64 hexadecimal digits, which others may not read.
    key_file: String,
    /// TLS between all processes of the cluster, which then all have it. Default: none.
    tls: Option<Tls>,
}

/// Files in PEM.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Tls {
    /// The certificates of the cluster's CA.
    ca_file: String,
    /// The certificate of this node or gateway, whose name is one of its subjectAltNames; then those between it and the CA's.
    certificate_file: String,
    /// Its key, which others may not read.
    private_key_file: String,
}

/// What agrees on the ledger.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Membership {
    Local,
}

/// A CHAP account.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Chap {
    /// The user's name.
    #[schemars(length(min = 1, max = 255))]
    user: String,
    /// A file with one line of 12 to 255 bytes, which others may not read (mode 0600 or 0640).
    secret_file: String,
}

/// What initiators log in to.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Target {
    /// Its iSCSI name, such as iqn.2026-11.net.example:vm.
    #[schemars(regex(pattern = r"^(iqn\.|eui\.|naa\.)[a-z0-9.:-]+$"), length(max = 223))]
    iqn: String,
    /// Names of the portals that serve it. Default: all.
    #[schemars(length(min = 1, max = 64))]
    portals: Option<Vec<Name>>,
    /// Who may log in; the first that matches decides.
    #[schemars(length(max = 256))]
    initiators: Vec<PatternOrInitiator>,
    /// What initiators prove that have no account of their own.
    chap: Option<Chap>,
    /// What the target proves. Needs `chap`.
    mutual_chap: Option<Chap>,
    /// Header and data digests. Default: allowed.
    digests: Option<Digests>,
    /// The disks.
    #[schemars(length(max = 256))]
    luns: Option<Vec<Lun>>,
}

/// Who may log in.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum PatternOrInitiator {
    Pattern(Pattern),
    Initiator(Initiator),
}

/// An iSCSI name in which * stands for any text and ? for any character.
#[derive(JsonSchema)]
#[schemars(transparent)]
struct Pattern(#[schemars(regex(pattern = "^[a-z0-9.:*?-]{1,223}$"))] String);

/// Who may log in, and to what.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Initiator {
    /// Its iSCSI name, or a pattern.
    name: Pattern,
    /// The LUNs that it may use. Default: all.
    #[schemars(inner(range(max = 255)))]
    luns: Option<Vec<u16>>,
    /// What it proves. Default: the target's.
    chap: Option<Chap>,
}

/// Header and data digests.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Digests {
    Allowed,
    Required,
    Off,
}

/// A disk.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Lun {
    /// Its number.
    #[schemars(range(max = 255))]
    lun: u16,
    /// The virtual disk's name. It is created when first used.
    vdi: Name,
    /// Such as 10GiB. May be left out if the disk exists; a larger one makes it grow.
    size: Option<Size>,
    /// Of a new disk; default: 512.
    block_size: Option<BlockSize>,
    /// Of a new disk; default: 4096.
    physical_block_size: Option<BlockSize>,
    /// Whether space is taken only as blocks are written. Of a new disk; default: true.
    thin: Option<bool>,
    /// Whether initiators may only read. Default: false.
    read_only: Option<bool>,
    /// When a write is acknowledged. Default: writeback.
    cache: Option<Cache>,
    /// Whether a smaller size cuts off the end of the disk; it never does in a cluster. Default: false.
    allow_shrink: Option<bool>,
}

/// A number of bytes, or one with KiB, MiB, GiB or TiB.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Size {
    Bytes(#[schemars(range(min = 1_048_576_u64, max = 70_368_744_177_664_u64))] u64),
    WithUnit(#[schemars(regex(pattern = "^[0-9]+ *([KMGT](iB)?|B)?$"))] String),
}

/// 512 or 4096.
#[derive(JsonSchema)]
#[schemars(extend("enum" = [512, 4096]), transparent)]
struct BlockSize(u32);

/// When a write is acknowledged.
#[derive(JsonSchema)]
#[schemars(rename_all = "snake_case")]
enum Cache {
    Writeback,
    Writethrough,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::read::SECTIONS;

    fn keys_of(schema: &Value) -> BTreeSet<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        let types = schema["$defs"].as_object().unwrap().values();
        for kind in types.chain([schema]) {
            if let Some(properties) = kind.get("properties") {
                found.insert(properties.as_object().unwrap().keys().cloned().collect());
                assert_eq!(kind["additionalProperties"], false, "{kind:#}");
            }
        }
        found
    }

    #[test]
    fn the_reader_and_the_schema_know_the_same_keys() {
        let schema: Value = serde_json::from_str(&schema()).unwrap();
        let known: BTreeSet<BTreeSet<String>> =
            SECTIONS.iter().map(|(_, _, keys)| keys.iter().map(|key| (*key).to_owned()).collect()).collect();
        assert_eq!(keys_of(&schema), known);
    }

    #[test]
    fn nothing_may_be_null() {
        assert!(!schema().contains("\"null\""), "{}", schema());
    }
}
