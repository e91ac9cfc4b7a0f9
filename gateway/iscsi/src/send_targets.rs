//! SendTargets (RFC 7143 §4.3, appendix C): which targets exist, and through which portals.

use thiserror::Error;

use crate::directory::{Directory, TargetListing};
use crate::parameters::{Negotiated, SessionKind};
use crate::text::TextWriter;

/// A SendTargets value that asks for nothing we know. The request is answered by a Reject PDU and the session goes
/// on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("SendTargets has a value that is neither All nor a target's name")]
pub struct BadSendTargets;

/// Answers `SendTargets=value`: TargetName and TargetAddress of each target that the session's initiator may see.
///
/// `All` lists every target the initiator may see (in normal sessions too, where the RFC asks for less), a name that target, and an empty
/// value the session's own. A name that is not there gives an empty answer. Names compare in lower case (RFC 3722).
///
/// # Errors
/// The value is none of these.
pub fn answer_text(
    value: &str,
    session: &Negotiated,
    directory: &dyn Directory,
) -> Result<TextWriter, BadSendTargets> {
    let wanted = match (value, session.kind, &session.target_name) {
        ("All", _, _) => None,
        ("", SessionKind::Normal, Some(own)) => Some(own.as_str()),
        (name, _, _) if is_target_name(name) => Some(name),
        _ => return Err(BadSendTargets),
    };
    let mut answer = TextWriter::default();
    for listing in directory.targets(&session.initiator_name) {
        if wanted.is_none_or(|name| name.to_lowercase() == listing.name.to_lowercase()) {
            write_listing(&listing, &mut answer);
        }
    }
    Ok(answer)
}

/// The name types of RFC 7143 §4.2.7.
fn is_target_name(name: &str) -> bool {
    ["iqn.", "eui.", "naa."].iter().any(|kind| name.starts_with(kind))
}

fn write_listing(listing: &TargetListing, answer: &mut TextWriter) {
    answer.push("TargetName", &listing.name);
    for (address, portal_group_tag) in &listing.addresses {
        answer.push("TargetAddress", &format!("{address},{portal_group_tag}"));
    }
}
