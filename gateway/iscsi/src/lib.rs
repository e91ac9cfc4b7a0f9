//! An iSCSI target's protocol (RFC 7143) without I/O.
