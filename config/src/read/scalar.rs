//! Single values: text, numbers, sizes, booleans, words, paths, addresses.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::suggestion::suggestion;
use super::{Reader, kind, quoted};
use crate::At;
use crate::tree::{Node, Value};

/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// Longest path and longest text, in bytes.
const MAX_TEXT_BYTES: usize = 4095;

/// A VDI's size: a multiple of 4 KiB within these bounds.
const SIZE_STEP_BYTES: u64 = 4096;
const MIN_SIZE_BYTES: u64 = 1 << 20;
const MAX_SIZE_BYTES: u64 = 64 << 40;

impl Reader {
    /// Any text, quoted or not.
    pub(crate) fn text(&mut self, node: &Node) -> Option<At<String>> {
        let Value::Scalar { text, .. } = &node.value else {
            let message = format!("this is {}, not a single value", kind(node));
            self.error(node.span, message, "write one value here");
            return None;
        };
        if text.is_empty() {
            self.error(node.span, "this is empty", "write something between the quotes");
            return None;
        }
        if text.len() > MAX_TEXT_BYTES || text.contains(|character: char| character.is_control()) {
            let cure =
                format!("write one line of at most {MAX_TEXT_BYTES} bytes, without control characters");
            self.error(node.span, "this value has several lines, or is too long", cure);
            return None;
        }
        Some(At::new(text.clone(), node.span))
    }

    /// A name of a node, cluster, zone, portal or VDI.
    pub(crate) fn name(&mut self, node: &Node) -> Option<At<String>> {
        let text = self.text(node)?;
        let is_allowed =
            |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | ':' | '-');
        if text.len() > MAX_NAME_BYTES {
            let message = format!("this name has {} characters", text.len());
            self.error(node.span, message, format!("a name has 1 to {MAX_NAME_BYTES}"));
            return None;
        }
        if let Some(bad) = text.chars().find(|&character| !is_allowed(character)) {
            let message = format!("{bad:?} may not be in a name");
            self.error(node.span, message, "use letters, digits and . _ : -");
            return None;
        }
        Some(text)
    }

    /// A path of a file or directory.
    pub(crate) fn path(&mut self, node: &Node) -> Option<At<PathBuf>> {
        let text = self.text(node)?;
        if text.starts_with("~/") || text.contains('$') {
            let message = format!("{} is taken as it is: no shell replaces `~` or `$`", quoted(&text));
            self.error(node.span, message, "write the whole path");
            return None;
        }
        Some(At::new(PathBuf::from(text.value), node.span))
    }

    /// An address and a port to listen on.
    pub(crate) fn address(&mut self, node: &Node) -> Option<At<SocketAddr>> {
        let text = self.text(node)?;
        if let Ok(address) = text.parse() {
            return Some(At::new(address, node.span));
        }
        let with_port = |text: &str| format!("{text}:3260").parse::<SocketAddr>().ok();
        let port_missing = with_port(&text).or_else(|| with_port(&format!("[{}]", &*text)));
        let cure = match port_missing {
            Some(SocketAddr::V4(address)) => format!("add the port: {address}"),
            Some(SocketAddr::V6(address)) => format!("add the port: \"{address}\""),
            None => {
                "write an IP address and a port, such as 192.0.2.10:3260 or \"[2001:db8::1]:3260\"".into()
            }
        };
        self.error(node.span, format!("{} is not an address to listen on", quoted(&text)), cure);
        None
    }

    /// A host that others reach, with or without a port.
    pub(crate) fn host(&mut self, node: &Node) -> Option<At<String>> {
        let text = self.text(node)?;
        if text.parse::<SocketAddr>().is_ok_and(|address| address.port() != 0) || is_host(&text) {
            return Some(text);
        }
        let message = format!("{} is not an address that initiators can use", quoted(&text));
        let cure = "write HOST:PORT, such as storage-1.san:3260, 192.0.2.10:3260 or \"[2001:db8::1]:3260\"";
        self.error(node.span, message, cure);
        None
    }

    /// `true` or `false`, and nothing like `yes`.
    pub(crate) fn boolean(&mut self, node: &Node) -> Option<At<bool>> {
        let text = self.text(node)?;
        let value = match (&*text.value, is_plain(node)) {
            ("true", true) => true,
            ("false", true) => false,
            _ => {
                let message = format!("{} is neither true nor false", shown(node, &text));
                self.error(node.span, message, "write true or false, without quotes");
                return None;
            }
        };
        Some(At::new(value, node.span))
    }

    /// A whole number within `bounds`, in decimal digits.
    pub(crate) fn number(&mut self, node: &Node, what: &str, bounds: (u64, u64)) -> Option<At<u64>> {
        let text = self.text(node)?;
        let (least, most) = bounds;
        let is_number = is_plain(node) && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| is_number && (least..=most).contains(number));
        if number.is_none() {
            let message = format!("{} is not {what}", shown(node, &text));
            self.error(node.span, message, format!("write a number from {least} to {most}"));
        }
        Some(At::new(number?, node.span))
    }

    /// 512 or 4096.
    pub(crate) fn block_size(&mut self, node: &Node) -> Option<At<u32>> {
        let text = self.text(node)?;
        let size = match &*text.value {
            "512" => 512,
            "4096" => 4096,
            _ => {
                let message = format!("{} is not a block size", quoted(&text));
                self.error(node.span, message, "write 512 or 4096");
                return None;
            }
        };
        Some(At::new(size, node.span))
    }

    /// A VDI's size, in bytes or with a unit.
    pub(crate) fn size(&mut self, node: &Node) -> Option<At<u64>> {
        let text = self.text(node)?;
        let Some(bytes) = bytes(&text) else {
            let cure = match binary(&text) {
                Some(binary) => format!("write {binary}: sizes are multiples of 1024"),
                None => {
                    "write a whole number with KiB, MiB, GiB or TiB, such as 10GiB; 1.5TiB is 1536GiB".into()
                }
            };
            self.error(node.span, format!("{} is not a size", quoted(&text)), cure);
            return None;
        };
        if !(MIN_SIZE_BYTES..=MAX_SIZE_BYTES).contains(&bytes) {
            let message = format!("a disk cannot have {}", size_text(bytes));
            self.error(node.span, message, "write a size from 1MiB to 64TiB");
            return None;
        }
        if !bytes.is_multiple_of(SIZE_STEP_BYTES) {
            let message = format!("{bytes} bytes is not a multiple of 4 KiB");
            let above = bytes.next_multiple_of(SIZE_STEP_BYTES);
            self.error(node.span, message, format!("write {above}, or a size with a unit such as 10GiB"));
            return None;
        }
        Some(At::new(bytes, node.span))
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(&mut self, node: &Node, what: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(node)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let cure = match suggestion(&text, &known) {
            Some(word) => format!("write {word}"),
            None => match known.split_last() {
                Some((last, others)) if !others.is_empty() => {
                    format!("write {} or {last}", others.join(", "))
                }
                _ => format!("write {}", known.join("")),
            },
        };
        self.error(node.span, format!("{} is not {what}", quoted(&text)), cure);
        None
    }

    /// What is logged: levels, separated by commas, each for everything or for a part (`huntaway_gateway=debug`).
    pub(crate) fn log_level(&mut self, node: &Node) -> Option<At<String>> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        let text = self.text(node)?;
        let is_part = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte))
        };
        for directive in text.split(',').map(str::trim) {
            let (part, level) = directive.split_once('=').unwrap_or(("all", directive));
            if is_part(part) && LEVELS.contains(&level) {
                continue;
            }
            let cure = match suggestion(level, &LEVELS) {
                Some(known) if is_part(part) => format!("write {known}"),
                _ => "write error, warn, info, debug, trace or off, or such as info,huntaway_gateway=debug"
                    .into(),
            };
            self.error(node.span, format!("{} is not a log level", quoted(directive)), cure);
            return None;
        }
        Some(text)
    }
}

fn is_plain(node: &Node) -> bool {
    matches!(node.value, Value::Scalar { plain: true, .. })
}

/// A value that must not be in quotes, with them.
fn shown(node: &Node, text: &str) -> String {
    if is_plain(node) { quoted(text) } else { quoted(&format!("\"{text}\"")) }
}

/// A DNS name or an address, perhaps with a port.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, port),
        _ => (text, "3260"),
    };
    let is_address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_address = is_address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_name = host.len() <= 253 && host.split('.').all(is_label);
    (is_address || is_name) && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// A size in units of another kind (`10GB`, `10g`) in those that are known.
fn binary(text: &str) -> Option<String> {
    let (number, unit) = text.split_at(text.find(|character: char| !character.is_ascii_digit())?);
    let prefix = unit.trim_start().chars().next()?.to_ascii_uppercase();
    let is_known = "KMGT".contains(prefix) && unit.len() <= 4;
    (is_known && !number.is_empty()).then(|| format!("{number}{prefix}iB"))
}

/// A size as people write it.
pub(crate) fn size_text(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fits = units.iter().find(|(_, shift)| bytes >> shift > 0 && bytes.trailing_zeros() >= *shift);
    fits.map_or_else(|| format!("{bytes} bytes"), |(unit, shift)| format!("{}{unit}", bytes >> shift))
}

/// Bytes of a number with an optional unit KiB, MiB, GiB or TiB (or K, M, G, T).
fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start() {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}
