//! Where random bytes come from. This crate draws none itself: the caller hands in a source, so that a
//! simulation can hand in a seeded one.

/// Fills the whole slice with unpredictable bytes.
///
/// CHAP challenges are drawn from it (RFC 7143 §12.1.3): outside tests it must be a cryptographically secure
/// source, such as the operating system's.
pub type Entropy = fn(&mut [u8]);
