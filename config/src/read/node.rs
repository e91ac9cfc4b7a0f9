//! The sections `node` and `cluster`.

use super::{Fields, Reader, Section, kind, or_nothing};
use crate::config::{
    ChapAccount, ChapPair, Cluster, DataDirectory, Ledger, Log, LogFormat, Membership, Node as NodeConfig,
    Portal, TlsFiles,
};
use crate::tree::{Node, Value};
use crate::{At, Span};

/// Most disks of a node.
const MAX_DATA_DIRECTORIES: usize = 64;

/// Most portals of a node.
pub(super) const MAX_PORTALS: usize = 64;

/// Longest CHAP user, in bytes (a text value of login has at most 255: RFC 7143 §6.1).
const MAX_USER_BYTES: usize = 255;

/// Longest path of a Unix socket, in bytes (unix(7): 108 with the final NUL).
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// What stands for a node that could not be read.
pub(super) fn nothing(span: Span) -> NodeConfig {
    NodeConfig {
        name: At::new(String::new(), span),
        zone: At::new(String::new(), span),
        state_directory: None,
        data_directories: Vec::new(),
        portals: Vec::new(),
        admin: None,
        control_socket: None,
        log: default_log(span),
        discovery: ChapPair::default(),
    }
}

/// The cluster of a file that names none.
pub(super) fn default_cluster(span: Span) -> Cluster {
    let (name, copies) = (default_cluster_name(span), At::new(1, span));
    Cluster { name, copies, membership: Membership::Local, ledger: None }
}

fn default_cluster_name(span: Span) -> At<String> {
    At::new(String::from("huntaway"), span)
}

fn default_log(span: Span) -> Log {
    Log { level: At::new(String::from("info"), span), format: LogFormat::Text }
}

impl Reader {
    pub(super) fn node(&mut self, node: &Node) -> Option<NodeConfig> {
        let fields = self.fields(node, Section::Node);
        let name = self.required(&fields, "name", Self::name);
        let zone = self.optional(&fields, "zone", Self::name);
        let directories = |reader: &mut Self, list: &Node| {
            let max = MAX_DATA_DIRECTORIES;
            let all = reader.list(list, max, "data_directories", Self::data_directory)?;
            reader.not_empty(list, "data_directories", "name at least one directory");
            Some(all)
        };
        let data_directories = if self.may_keep_no_data {
            self.optional(&fields, "data_directories", directories)
        } else {
            self.required(&fields, "data_directories", directories)
        };
        self.portals_incomplete = true;
        let portals = self.required(&fields, "portals", |reader, list| {
            let all = reader.list(list, MAX_PORTALS, "portals", Self::portal)?;
            reader.not_empty(list, "portals", "name at least one, such as `- listen: 192.0.2.10:3260`");
            reader.portals_incomplete = reader.has_error_in(list.span);
            Some(all)
        });
        Some(NodeConfig {
            name: or_nothing(name, fields.span),
            zone: zone.unwrap_or_else(|| At::new(String::from("default"), fields.span)),
            state_directory: self.optional(&fields, "state_directory", Self::path),
            data_directories: data_directories.unwrap_or_default(),
            portals: portals.unwrap_or_default(),
            admin: self.optional(&fields, "admin", Self::address),
            control_socket: self.optional(&fields, "control_socket", Self::socket_path),
            log: self.optional(&fields, "log", Self::log).unwrap_or_else(|| default_log(fields.span)),
            discovery: self.optional(&fields, "discovery", Self::discovery).unwrap_or_default(),
        })
    }

    fn not_empty(&mut self, list: &Node, what: &str, cure: &str) {
        if matches!(&list.value, Value::Sequence(items) if items.is_empty()) {
            self.error(list.span, format!("`{what}` is an empty list"), cure);
        }
    }

    fn data_directory(&mut self, node: &Node) -> Option<DataDirectory> {
        if !matches!(node.value, Value::Mapping(_)) {
            return Some(DataDirectory { path: self.path(node)?, weight: None });
        }
        let fields = self.fields(node, Section::DataDirectory);
        let path = self.required(&fields, "path", Self::path);
        let weight = self.optional(&fields, "weight", |reader, node| {
            let weight = reader.number(node, "a weight", (1, u64::from(u32::MAX)))?;
            Some(At::new(u32::try_from(weight.value).ok()?, weight.span))
        });
        Some(DataDirectory { path: path?, weight })
    }

    fn portal(&mut self, node: &Node) -> Option<Portal> {
        let fields = self.fields(node, Section::Portal);
        let name = self.optional(&fields, "name", Self::name);
        let listen = self.required(&fields, "listen", Self::address);
        let advertise = self.optional(&fields, "advertise", Self::host);
        Some(Portal { name, listen: listen?, advertise })
    }

    fn socket_path(&mut self, node: &Node) -> Option<At<std::path::PathBuf>> {
        let path = self.path(node)?;
        let length = path.as_os_str().len();
        if length > MAX_SOCKET_PATH_BYTES {
            let cure = format!(
                "a path of at most {MAX_SOCKET_PATH_BYTES} bytes, such as /run/huntaway/control.sock"
            );
            self.error(node.span, format!("a socket cannot have a path of {length} bytes"), cure);
        }
        Some(path)
    }

    fn log(&mut self, node: &Node) -> Option<Log> {
        let fields = self.fields(node, Section::Log);
        let level = self.optional(&fields, "level", Self::log_level);
        let format = self.optional(&fields, "format", |reader, node| {
            reader.word(node, "a log format", &[("text", LogFormat::Text), ("json", LogFormat::Json)])
        });
        let default = default_log(fields.span);
        Some(Log { level: level.unwrap_or(default.level), format: format.unwrap_or(default.format) })
    }

    fn discovery(&mut self, node: &Node) -> Option<ChapPair> {
        let fields = self.fields(node, Section::Discovery);
        Some(self.chap_pair(&fields))
    }

    /// `chap` and `mutual_chap` of a section that has both.
    pub(super) fn chap_pair(&mut self, fields: &Fields<'_>) -> ChapPair {
        ChapPair {
            chap: self.optional(fields, "chap", Self::chap_account),
            mutual_chap: self.optional(fields, "mutual_chap", Self::chap_account),
        }
    }

    pub(super) fn chap_account(&mut self, node: &Node) -> Option<ChapAccount> {
        if matches!(node.value, Value::Scalar { .. }) {
            let message = format!("a CHAP account is {}, not a user and a secret", kind(node));
            self.error(node.span, message, "write {user: vm, secret_file: secrets/vm}");
            return None;
        }
        let fields = self.fields(node, Section::Chap);
        let user = self.required(&fields, "user", |reader, node| {
            let user = reader.text(node)?;
            if user.len() > MAX_USER_BYTES {
                let message = format!("this CHAP user has {} bytes", user.len());
                reader.error(node.span, message, format!("a CHAP user has at most {MAX_USER_BYTES}"));
            }
            Some(user)
        });
        let secret_file = self.required(&fields, "secret_file", Self::path);
        // A broken account must not look like none: none would be one more mistake where one is needed.
        let user = or_nothing(user, fields.span);
        Some(ChapAccount { user, secret_file: or_nothing(secret_file, fields.span) })
    }

    pub(super) fn cluster(&mut self, node: &Node) -> Option<Cluster> {
        let fields = self.fields(node, Section::Cluster);
        let name = self.optional(&fields, "name", Self::name);
        let copies = self.optional(&fields, "copies", |reader, node| {
            let copies = reader.number(node, "a number of copies", (1, 255))?;
            if copies.value != 1 {
                reader.error(
                    node.span,
                    "this release keeps one copy of each block",
                    "write 1, or leave it out",
                );
            }
            Some(At::new(u8::try_from(copies.value).ok()?, copies.span))
        });
        let membership = self.optional(&fields, "membership", |reader, node| {
            reader.word(node, "a membership driver of this release", &[("local", Membership::Local)])
        });
        Some(Cluster {
            name: name.unwrap_or_else(|| default_cluster_name(fields.span)),
            copies: copies.unwrap_or_else(|| At::new(1, fields.span)),
            membership: membership.unwrap_or(Membership::Local),
            ledger: self.optional(&fields, "ledger", Self::ledger),
        })
    }

    fn ledger(&mut self, node: &Node) -> Option<Ledger> {
        let fields = self.fields(node, Section::Ledger);
        let keeper = self.required(&fields, "keeper", Self::address);
        let key_file = self.required(&fields, "key_file", Self::path);
        let tls = self.optional(&fields, "tls", Self::tls);
        Some(Ledger { keeper: keeper?, key_file: key_file?, tls })
    }

    fn tls(&mut self, node: &Node) -> Option<TlsFiles> {
        let fields = self.fields(node, Section::Tls);
        let ca_file = self.required(&fields, "ca_file", Self::path);
        let certificate_file = self.required(&fields, "certificate_file", Self::path);
        let private_key_file = self.required(&fields, "private_key_file", Self::path);
        Some(TlsFiles {
            ca_file: ca_file?,
            certificate_file: certificate_file?,
            private_key_file: private_key_file?,
        })
    }
}
