//! iSCSI names (RFC 7143 §4.2.7): of targets, and as patterns of initiators.

use super::{Reader, quoted};
use crate::At;
use crate::tree::Node;

/// Longest iSCSI name, in bytes (RFC 7143 §4.2.7.1).
const MAX_ISCSI_NAME_BYTES: usize = 223;

/// What a name begins with.
const TYPES: [&str; 3] = ["iqn.", "eui.", "naa."];

/// A good name.
const EXAMPLE: &str = "write one such as iqn.2026-11.net.example:vm: iqn, a year and month, your domain backwards, a colon, \
                       and what you like";

impl Reader {
    /// The iSCSI name of a target.
    pub(crate) fn iscsi_name(&mut self, node: &Node) -> Option<At<String>> {
        let text = self.iscsi_characters(node, "")?;
        match syntax(&text) {
            Ok(()) => Some(text),
            Err(reason) => {
                self.error(node.span, format!("{} is not an iSCSI name: {reason}", quoted(&text)), EXAMPLE);
                None
            }
        }
    }

    /// The iSCSI name of an initiator, or a pattern with `*` and `?`.
    pub(crate) fn iscsi_pattern(&mut self, node: &Node) -> Option<At<String>> {
        let text = self.iscsi_characters(node, "*?")?;
        let Some(fixed) = text.find(['*', '?']) else {
            if let Err(reason) = syntax(&text) {
                let message = format!("{} is not an iSCSI name: {reason}", quoted(&text));
                let cure =
                    "write the initiator's name (/etc/iscsi/initiatorname.iscsi), or a pattern with * or ?";
                self.error(node.span, message, cure);
                return None;
            }
            return Some(text);
        };
        let begins = |kind: &&str| text[..fixed].starts_with(*kind) || kind.starts_with(&text[..fixed]);
        if !TYPES.iter().any(begins) {
            let message =
                format!("{} matches no initiator: names begin with iqn., eui. or naa.", quoted(&text));
            self.error(node.span, message, "write a pattern such as iqn.1993-08.org.debian:*");
            return None;
        }
        Some(text)
    }

    /// Text of the characters that iSCSI names have, and those of `more`.
    fn iscsi_characters(&mut self, node: &Node, more: &str) -> Option<At<String>> {
        let text = self.text(node)?;
        if text.len() > MAX_ISCSI_NAME_BYTES {
            let message = format!("this iSCSI name has {} bytes", text.len());
            self.error(node.span, message, format!("an iSCSI name has at most {MAX_ISCSI_NAME_BYTES}"));
            return None;
        }
        if text.contains(|character: char| character.is_ascii_uppercase()) {
            let message = format!("{} has capitals; iSCSI names are compared in lower case", quoted(&text));
            self.error(node.span, message, format!("write {}", quoted(&text.to_lowercase())));
            return None;
        }
        let is_allowed = |character: char| {
            character.is_ascii_alphanumeric()
                || matches!(character, '-' | '.' | ':')
                || more.contains(character)
        };
        if let Some(bad) = text.chars().find(|&character| !is_allowed(character)) {
            let cure = match more {
                "" => "use letters, digits and - . :",
                _ => "use letters, digits and - . :, and the wildcards * and ?",
            };
            self.error(node.span, format!("{bad:?} may not be in an iSCSI name"), cure);
            return None;
        }
        Some(text)
    }
}

/// Checks a whole name, of which the characters are right.
fn syntax(name: &str) -> Result<(), &'static str> {
    let is_hex = |digits: &str, lengths: &[usize]| {
        lengths.contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    if let Some(rest) = name.strip_prefix("iqn.") {
        qualified(rest)
    } else if let Some(digits) = name.strip_prefix("eui.") {
        is_hex(digits, &[16]).then_some(()).ok_or("after `eui.` come 16 hexadecimal digits")
    } else if let Some(digits) = name.strip_prefix("naa.") {
        is_hex(digits, &[16, 32]).then_some(()).ok_or("after `naa.` come 16 or 32 hexadecimal digits")
    } else {
        Err("it does not begin with `iqn.`, `eui.` or `naa.`")
    }
}

/// What follows `iqn.`: a month, a domain backwards, and optionally a colon and anything (RFC 7143 §4.2.7.4).
fn qualified(rest: &str) -> Result<(), &'static str> {
    let (authority, own) = rest.split_once(':').unwrap_or((rest, "any"));
    let (month, domain) = authority.split_once('.').unwrap_or((authority, ""));
    let is_number = |digits: &str, count| digits.len() == count && digits.bytes().all(|b| b.is_ascii_digit());
    let is_month = month.split_once('-').is_some_and(|(year, month)| {
        is_number(year, 4) && is_number(month, 2) && matches!(month.parse(), Ok(1..=12))
    });
    let is_label = |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
    if !is_month {
        Err("after `iqn.` comes a year and a month, such as 2026-11")
    } else if !domain.split('.').all(is_label) {
        Err("after the month comes a domain backwards, such as net.example")
    } else if own.is_empty() {
        Err("nothing follows the colon")
    } else {
        Ok(())
    }
}

/// Whether `pattern` matches every name that `other` matches. Wildcards are `*` (any text) and `?` (any character).
pub(crate) fn covers(pattern: &str, other: &str) -> bool {
    let (pattern, other) = (pattern.as_bytes(), other.as_bytes());
    let (mut at, mut other_at) = (0, 0);
    // Where to go on with a longer text for the last star.
    let mut retry = None;
    loop {
        let wanted = pattern.get(at).copied();
        match (wanted, other.get(other_at).copied()) {
            (Some(b'*'), _) => {
                retry = Some((at + 1, other_at));
                at += 1;
            }
            (None, None) => return true,
            (Some(wanted), Some(byte)) if wanted == byte || (wanted == b'?' && byte != b'*') => {
                at += 1;
                other_at += 1;
            }
            _ => match retry {
                Some((after_star, from)) if from < other.len() => {
                    retry = Some((after_star, from + 1));
                    (at, other_at) = (after_star, from + 1);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_types_of_names_are_told_apart() {
        for good in [
            "iqn.2026-11.net.example:vm",
            "iqn.1993-08.org.debian:01:abc",
            "iqn.2001-04.com.example",
            "eui.02004567a425678d",
            "naa.52004567ba64678d",
            "naa.62004567ba64678d0123456789abcdef",
        ] {
            assert_eq!(syntax(good), Ok(()), "{good}");
        }
        for bad in [
            "vm",
            "iqn.",
            "iqn.2026.net:vm",
            "iqn.2026-13.net:vm",
            "iqn.2026-00.net:vm",
            "iqn.2026-1.net:vm",
            "iqn.2026-11:vm",
            "iqn.2026-11.:vm",
            "iqn.2026-11.net..example:vm",
            "iqn.2026-11.-net:vm",
            "iqn.2026-11.net.example:",
            "eui.0200",
            "naa.5200",
            "eui.g2004567a425678d",
        ] {
            assert!(syntax(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pattern_covers_what_matches_only_with_it() {
        for (pattern, other) in [
            ("*", "*"),
            ("*", "iqn.a:?"),
            ("iqn.*", "iqn.a:*"),
            ("a?c", "abc"),
            ("a*c", "a?c"),
            ("*b*", "abbc"),
        ] {
            assert!(covers(pattern, other), "{pattern} {other}");
        }
        for (pattern, other) in
            [("a?c", "a*c"), ("iqn.a:*", "iqn.*"), ("a", "b"), ("a*", "*"), ("a", "aa"), ("?", "")]
        {
            assert!(!covers(pattern, other), "{pattern} {other}");
        }
    }
}
