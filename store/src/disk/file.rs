//! The disk that is a directory of the real file system.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::fs::FallocateFlags;
use rustix::io::{Errno, ReadWriteFlags};
use smallvec::SmallVec;

use super::mapping::MappableFile;
use super::{Disk, Extent, Job, Open, Space, copy_through_memory};
use crate::locking::lock;

/// Most buffers handed to one system call (`IOV_MAX` on Linux).
const MAX_BUFFERS_PER_CALL: usize = 1024;

/// Most jobs that are carried out at the same time, unless the disk is memory. They wait for syncs, which the file system's
/// journal brings about together.
const JOBS_AT_ONCE: usize = 8;

/// The file systems that are memory, as statfs(2) names them: tmpfs and ramfs.
const MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// File systems on which a mapped file always shows what was written to it: ext4 (and ext2 and 3), XFS, Btrfs, F2FS and tmpfs.
/// Others mostly do as well, and some network file systems do not.
const COHERENT: [i64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];

/// What can be read without waiting for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AtHand {
    /// Everything, or whoever reads may as well wait.
    Everything,
    /// What is in the page cache.
    Cached,
    /// Nobody knows: the file system does not tell.
    Unknown,
}

/// A directory that holds a store's files.
#[derive(Debug, Clone)]
pub struct FileDisk {
    directory: PathBuf,
    /// Directories that were synced, of those that have no other between them and the disk's: these are few, and
    /// syncing their names must not fail because the process has too many files open.
    kept_open: Arc<Mutex<BTreeMap<String, Arc<File>>>>,
    at_hand: AtHand,
    /// Files may be written from their mappings.
    may_map: bool,
    /// Most jobs that are carried out at the same time.
    jobs_at_once: usize,
}

impl FileDisk {
    /// The disk kept in `directory`, which must exist, for somebody who may wait for it.
    ///
    /// # Errors
    /// `NotFound` when there is no such path, `NotADirectory` when it is something else.
    pub fn new(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        if !fs::metadata(&directory)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let file_system = rustix::fs::statfs(&directory)?.f_type;
        let may_map = COHERENT.contains(&file_system);
        // Where nothing is waited for, more threads only take the processor from who makes requests.
        let jobs_at_once = if MEMORY.contains(&file_system) { 1 } else { JOBS_AT_ONCE };
        Ok(Self { directory, kept_open: Arc::default(), at_hand: AtHand::Everything, may_map, jobs_at_once })
    }

    /// The same for somebody who asks first whether it would have to be waited for. `file` is one of its files, open for
    /// reading: it tells what the file system can say.
    ///
    /// # Errors
    /// The file system cannot be asked.
    pub(crate) fn asked_first(mut self, file: &File) -> io::Result<Self> {
        let is_memory = MEMORY.contains(&rustix::fs::fstatfs(file)?.f_type);
        self.at_hand = match read_cached(file, &mut [0], 0) {
            _ if is_memory => AtHand::Everything,
            Ok(_) | Err(Errno::AGAIN) => AtHand::Cached,
            Err(_) => AtHand::Unknown,
        };
        Ok(self)
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.directory.clone() } else { self.directory.join(path) }
    }
}

/// Reads what is in the page cache, at most up to the first byte that is not.
fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> rustix::io::Result<usize> {
    rustix::io::preadv2(file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT)
}

impl Disk for FileDisk {
    type File = MappableFile;

    fn open(&self, path: &str, how: Open) -> io::Result<Arc<MappableFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(how == Open::New);
        options.open(self.path(path)).map(|file| Arc::new(MappableFile::new(file)))
    }

    fn read_at(&self, file: &MappableFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn is_memory(&self) -> bool {
        self.at_hand == AtHand::Everything
    }

    fn read_at_hand(&self, file: &MappableFile, buffer: &mut [u8], offset: u64) -> bool {
        let count = match self.at_hand {
            AtHand::Everything => self.read_at(file, buffer, offset).ok(),
            AtHand::Cached => read_cached(file, buffer, offset).ok(),
            AtHand::Unknown => None,
        };
        count == Some(buffer.len())
    }

    fn write_at(&self, file: &MappableFile, parts: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        let mut buffers: SmallVec<[IoSlice<'_>; 8]> =
            parts.iter().copied().filter(|p| !p.is_empty()).collect();
        let mut rest = buffers.as_mut_slice();
        while !rest.is_empty() {
            let call = &rest[..rest.len().min(MAX_BUFFERS_PER_CALL)];
            match rustix::io::pwritev(&**file, call, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    offset += count as u64;
                    IoSlice::advance_slices(&mut rest, count);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn copy(&self, parts: &[Extent<MappableFile>], file: &MappableFile, offset: u64) -> io::Result<()> {
        let bytes = |part: &Extent<_>| part.offset..part.offset + part.length as u64;
        let slices = || parts.iter().map(|part| part.file.slice(bytes(part))).collect::<Option<Vec<_>>>();
        let mapped = if self.may_map { slices() } else { None };
        match mapped.map(|parts| self.write_at(file, &parts, offset)) {
            Some(Err(error)) if error.raw_os_error() == Some(Errno::FAULT.raw_os_error()) => {}
            Some(written) => return written,
            None => {}
        }
        copy_through_memory(self, parts, file, offset)
    }

    fn let_go(&self, file: &MappableFile) {
        file.let_go();
    }

    fn sync_data(&self, file: &MappableFile) -> io::Result<()> {
        file.sync_data()
    }

    fn length(&self, file: &MappableFile) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn set_length(&self, file: &MappableFile, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn allocate(&self, file: &MappableFile, offset: u64, length: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(&**file, FallocateFlags::empty(), offset, length)?)
    }

    fn punch_hole(&self, file: &MappableFile, offset: u64, length: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&**file, flags, offset, length)?)
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        match fs::create_dir(self.path(path)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result,
        }
    }

    /// Names that are not UTF-8 are not ours and left out.
    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(path))? {
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        if path.contains('/') {
            return File::open(self.path(path))?.sync_all();
        }
        let kept = lock(&self.kept_open).get(path).cloned();
        let directory = match kept {
            Some(directory) => directory,
            None => {
                let directory = Arc::new(File::open(self.path(path))?);
                lock(&self.kept_open).insert(path.to_owned(), Arc::clone(&directory));
                directory
            }
        };
        directory.sync_all()
    }

    fn space(&self) -> io::Result<Space> {
        let found = rustix::fs::statvfs(&self.directory)?;
        Ok(Space {
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }

    fn carry_out(&self, jobs: Vec<Job<'_>>) {
        let helpers = jobs.len().min(self.jobs_at_once).saturating_sub(1);
        let jobs = Mutex::new(jobs.into_iter());
        let next = || lock(&jobs).next();
        let work = || std::iter::from_fn(next).for_each(|job| job());
        thread::scope(|scope| {
            for _ in 0..helpers {
                // Without another thread it takes longer.
                drop(thread::Builder::new().name("apply-part".into()).spawn_scoped(scope, work));
            }
            work();
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    fn disk() -> (tempfile::TempDir, FileDisk) {
        let directory = tempfile::tempdir().unwrap();
        let disk = FileDisk::new(directory.path()).unwrap();
        (directory, disk)
    }

    #[test]
    fn parts_are_written_one_after_another_and_read_back() {
        let (_directory, disk) = disk();
        let file = disk.open("f", Open::New).unwrap();
        let parts: Vec<Vec<u8>> =
            (0..3000u32).map(|i| i.to_le_bytes()[..(i % 4) as usize].to_vec()).collect();
        let slices: Vec<_> = parts.iter().map(|p| IoSlice::new(p)).collect();
        disk.write_at(&file, &slices, 10).unwrap();
        let expected = parts.concat();
        let mut found = vec![0; expected.len() + 5];
        assert_eq!(disk.read_at(&file, &mut found, 10).unwrap(), expected.len());
        assert_eq!(found[..expected.len()], expected);
        assert_eq!(disk.length(&file).unwrap(), 10 + expected.len() as u64);
    }

    fn extent(file: &Arc<MappableFile>, offset: u64, length: usize) -> Extent<MappableFile> {
        Extent { file: file.clone(), offset, length }
    }

    #[test]
    fn parts_of_files_are_copied_as_they_are_by_then_mapped_or_not() {
        for may_map in [true, false] {
            let (_directory, mut disk) = disk();
            disk.may_map = may_map;
            copy_parts(&disk);
        }
    }

    fn copy_parts(disk: &FileDisk) {
        let [a, b, to] = ["a", "b", "to"].map(|name| disk.open(name, Open::New).unwrap());
        let bytes = |seed: u8, length: usize| (0..length).map(|i| (i % 251) as u8 ^ seed).collect::<Vec<_>>();
        let in_b = bytes(2, 9000);
        disk.write_at(&b, &[IoSlice::new(&in_b)], 0).unwrap();
        for round in 0..3_u64 {
            let in_a = bytes(round as u8 * 7, 100_000);
            disk.write_at(&a, &[IoSlice::new(&in_a)], 0).unwrap();
            disk.copy(&[extent(&a, 77, 70_000), extent(&b, 8999, 1), extent(&a, 0, 0)], &to, round).unwrap();
            let mut found = vec![0; 70_001];
            assert_eq!(disk.read_at(&to, &mut found, round).unwrap(), found.len());
            assert!(found == [&in_a[77..70_077], &in_b[8999..]].concat(), "round {round}");
            if round == 1 {
                disk.let_go(&a);
            }
            disk.write_at(&b, &[IoSlice::new(&in_b)], 9000 * (round + 1)).unwrap();
            disk.copy(&[extent(&b, 9000 * (round + 1), 9000)], &to, 200_000).unwrap();
            assert_eq!(disk.read_at(&to, &mut found, 200_000).unwrap(), 9000);
            assert_eq!(found[..9000], in_b);
        }
    }

    #[test]
    fn what_is_not_there_any_more_cannot_be_copied_and_is_an_error() {
        let (_directory, disk) = disk();
        let [from, to] = ["from", "to"].map(|name| disk.open(name, Open::New).unwrap());
        disk.set_length(&from, 1 << 20).unwrap();
        disk.copy(&[extent(&from, 0, 1 << 20)], &to, 0).unwrap();
        disk.set_length(&from, 8192).unwrap();
        let copied = disk.copy(&[extent(&from, 4096, 8192)], &to, 0);
        assert_eq!(copied.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        disk.copy(&[extent(&from, 4096, 4096)], &to, 0).unwrap();
    }

    #[test]
    fn holes_read_as_zeroes_and_allocation_keeps_content() {
        let (_directory, disk) = disk();
        let file = disk.open("f", Open::New).unwrap();
        disk.write_at(&file, &[IoSlice::new(&[7; 12288])], 0).unwrap();
        disk.punch_hole(&file, 4096, 4096).unwrap();
        disk.allocate(&file, 0, 16384).unwrap();
        let mut found = vec![1; 16384];
        assert_eq!(disk.read_at(&file, &mut found, 0).unwrap(), 16384);
        assert_eq!(found, [[7; 4096], [0; 4096], [7; 4096], [0; 4096]].concat());
    }

    #[test]
    fn jobs_are_carried_out_at_the_same_time() {
        let (_directory, mut disk) = disk();
        disk.jobs_at_once = 2;
        let (sender, receiver) = mpsc::channel();
        let receiver = Mutex::new(receiver);
        let heard = Mutex::new(false);
        let wait = || *lock(&heard) = lock(&receiver).recv_timeout(Duration::from_secs(20)).is_ok();
        disk.carry_out(vec![Box::new(wait), Box::new(move || sender.send(()).unwrap())]);
        assert!(heard.into_inner().unwrap(), "the first job waited for the second, which came after it");
    }

    #[test]
    fn every_job_is_carried_out_once() {
        let (_directory, disk) = disk();
        let done = Mutex::new(Vec::new());
        let job = |number: usize| -> Job<'_> {
            let done = &done;
            Box::new(move || lock(done).push(number))
        };
        disk.carry_out((0..100).map(job).collect());
        disk.carry_out(Vec::new());
        let mut done = done.into_inner().unwrap();
        done.sort_unstable();
        assert_eq!(done, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn names_can_be_made_listed_changed_and_removed() {
        let (_directory, disk) = disk();
        disk.create_dir("d").unwrap();
        disk.create_dir("d").unwrap();
        drop(disk.open("d/b", Open::New).unwrap());
        drop(disk.open("d/a", Open::New).unwrap());
        assert_eq!(disk.open("d/a", Open::New).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(disk.open("d/c", Open::Existing).unwrap_err().kind(), io::ErrorKind::NotFound);
        disk.rename("d/b", "d/c").unwrap();
        assert_eq!(disk.list("d").unwrap(), ["a", "c"]);
        disk.remove("d/a").unwrap();
        disk.sync_dir("d").unwrap();
        assert_eq!((disk.list("d").unwrap(), disk.list("").unwrap()), (vec!["c".into()], vec!["d".into()]));
        assert!(disk.space().unwrap().total_bytes > 0);
    }
}
