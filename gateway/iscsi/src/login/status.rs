//! Login status: class and detail of a Login Response (RFC 7143 §11.13.5).

/// The outcome of a login request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum LoginStatus {
    /// The login goes on, or is complete.
    Success = 0x0000,
    /// The target has moved for now.
    TargetMovedTemporarily = 0x0101,
    /// The target has moved for good.
    TargetMovedPermanently = 0x0102,
    /// The initiator did something wrong that no other status names.
    InitiatorError = 0x0200,
    /// The initiator could not be authenticated, or did not try.
    AuthenticationFailure = 0x0201,
    /// This initiator may not use the target.
    AuthorizationFailure = 0x0202,
    /// No such target.
    NotFound = 0x0203,
    /// The target was removed for good.
    TargetRemoved = 0x0204,
    /// No protocol version in common.
    UnsupportedVersion = 0x0205,
    /// The session has all its connections.
    TooManyConnections = 0x0206,
    /// A mandatory key is missing.
    MissingParameter = 0x0207,
    /// This connection cannot be part of the session.
    CannotIncludeInSession = 0x0208,
    /// The session type is not known.
    SessionTypeNotSupported = 0x0209,
    /// No session has this handle.
    SessionDoesNotExist = 0x020a,
    /// A request that has no place in the login phase.
    InvalidDuringLogin = 0x020b,
    /// The target has a fault of its own.
    TargetError = 0x0300,
    /// The target does not serve now; try again later.
    ServiceUnavailable = 0x0301,
    /// The target is out of sessions, connections or memory.
    OutOfResources = 0x0302,
}

impl LoginStatus {
    /// The status class: 0 success, 1 redirection, 2 initiator error, 3 target error.
    #[must_use]
    pub const fn class(self) -> u8 {
        (self as u16).to_be_bytes()[0]
    }

    /// The detail within the class.
    #[must_use]
    pub const fn detail(self) -> u8 {
        (self as u16).to_be_bytes()[1]
    }
}
