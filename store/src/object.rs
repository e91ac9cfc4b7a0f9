//! Object files: the 4 MiB pieces of virtual disks as they lie on disk (`store/FORMAT.md`, "Object file").

mod cache;
mod file;
mod header;
mod table;

pub(crate) use cache::ObjectCache;
pub(crate) use file::{Change, LoadError, ObjectFile, ObjectPath};
pub(crate) use header::{DATA_OFFSET_BYTES, FILE_BYTES, Header};
pub(crate) use table::Entry;
