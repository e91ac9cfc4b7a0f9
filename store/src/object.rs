//! Object files: the 4 MiB pieces of virtual disks as they lie on disk (`store/FORMAT.md`, "Object file").

mod cache;
mod file;
mod header;
mod table;

pub(crate) use cache::ObjectCache;
pub(crate) use file::{Change, LoadError, ObjectFile, ObjectPath, data_offset, entry_offset, read_file};
pub(crate) use header::{FILE_BYTES, Header, NEW_OBJECT_BYTES};
pub(crate) use table::Entry;
#[cfg(feature = "fuzzing")]
pub(crate) use table::Table;
