//! A SCSI block device server (SPC-4, SBC-3) as pure functions.
