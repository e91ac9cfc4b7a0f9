//! Order, versions and block locks of a partition's replica, without I/O.
