//! Files that can be written from, without reading them first: their pages in the page cache, mapped into memory.
//!
//! Nothing in this process looks at mapped memory, only the kernel does when it is to write from there. A page that cannot
//! be had, since the disk fails or the file was cut, is an error of that write then (`EFAULT`), and not the end of the process.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::{Deref, Range};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::OnceLock;

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// An open file, which is mapped once it is written from.
#[derive(Debug)]
pub struct MappableFile {
    file: File,
    /// `None`: it cannot be mapped.
    mapping: OnceLock<Option<Mapping>>,
}

impl MappableFile {
    pub(super) fn new(file: File) -> Self {
        Self { file, mapping: OnceLock::new() }
    }

    /// `bytes` of the file, for the kernel to write from, if they are mapped. They must not change as long as the slice is
    /// there.
    pub(super) fn slice(&self, bytes: Range<u64>) -> Option<IoSlice<'_>> {
        self.mapping.get_or_init(|| Mapping::new(&self.file).ok()).as_ref()?.slice(bytes)
    }

    /// Gives back what of this process's memory is mapped to the file. It is mapped again as it is needed.
    pub(super) fn let_go(&self) {
        if let Some(Some(mapping)) = self.mapping.get() {
            mapping.let_go();
        }
    }
}

impl Deref for MappableFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

/// A file's bytes as they are in the page cache, from its beginning to where it ended when it was mapped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: it is an address and a length; what can be done with them does not depend on the thread.
unsafe impl Send for Mapping {}
// SAFETY: all that can be done with a shared mapping is to make slices of it, and to have its pages looked up again.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: &File) -> io::Result<Self> {
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let (none, read, shared) = (ptr::null_mut(), ProtFlags::READ, MapFlags::SHARED);
        // SAFETY: the kernel chooses an address where nothing is.
        let start = unsafe { rustix::mm::mmap(none, length, read, shared, file, 0)? };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, length })
    }

    fn slice(&self, bytes: Range<u64>) -> Option<IoSlice<'_>> {
        let (from, to) = (usize::try_from(bytes.start).ok()?, usize::try_from(bytes.end).ok()?);
        if from > to || to > self.length {
            return None;
        }
        // SAFETY: it lies within the mapping, which is there as long as `self` is. Whoever asks sees to it that the file's
        // bytes do not change meanwhile, and only the kernel reads them.
        Some(IoSlice::new(unsafe { slice::from_raw_parts(self.start.as_ptr().add(from), to - from) }))
    }

    fn let_go(&self) {
        let start = self.start.as_ptr().cast();
        // SAFETY: pages of a shared mapping are looked up in the file again, where they have not changed.
        let given_back = unsafe { rustix::mm::madvise(start, self.length, Advice::LinuxDontNeed) };
        debug_assert!(given_back.is_ok(), "a mapping's pages can be given back");
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: slices of it are gone, since they borrow it, and nothing else was ever mapped there.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
        debug_assert!(unmapped.is_ok(), "what was mapped can be unmapped");
    }
}
