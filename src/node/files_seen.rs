//! Whether files have changed since they were last read, told by what the kernel says of them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A file that was written so shortly before it was looked at may be written again without looking different: file
/// systems count time in ticks, or in seconds.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Looks after which files are read though they differ each time: somebody touches them again and again.
const MAX_LOOKS: u32 = 10;

/// Files as they were when they were looked at. Symbolic links are followed, so that one that is swapped is a change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FilesSeen {
    files: Vec<(PathBuf, Option<Look>)>,
    unsettled: bool,
}

/// What the kernel says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    device: u64,
    inode: u64,
    bytes: u64,
    mode: u32,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FilesSeen {
    /// Looks at files, before they are read.
    pub(super) fn look_at<'a>(&mut self, files: impl IntoIterator<Item = &'a Path>) {
        self.look_at_when(files, SystemTime::now());
    }

    fn look_at_when<'a>(&mut self, files: impl IntoIterator<Item = &'a Path>, now: SystemTime) {
        for file in files {
            let look = Look::at(file);
            self.unsettled |= look.is_some_and(|look| !look.is_settled(now));
            self.files.push((file.to_owned(), look));
        }
    }

    /// The same files, as they are now.
    fn again(&self) -> Self {
        let files = self.files.iter().map(|(file, _)| (file.clone(), Look::at(file)));
        Self { files: files.collect(), unsettled: self.unsettled }
    }
}

/// Files that are read again when they change.
#[derive(Debug, Clone)]
pub(crate) struct FilesFollowed {
    /// As they were when they were read.
    read: FilesSeen,
    /// As they were at the last look.
    last: FilesSeen,
    /// How many looks in a row found them being written.
    looks: u32,
}

/// What a look at files that are followed tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// They are as they were read.
    None,
    /// They differ from what was read, and from what they were at the look before: somebody may be writing them.
    BeingWritten,
    /// They may differ from what was read, and are left alone: they are to be read.
    Changed,
}

impl FilesFollowed {
    /// Follows files that were read.
    pub(super) fn new(read: FilesSeen) -> Self {
        Self { last: read.clone(), read, looks: 0 }
    }

    /// Looks at them.
    pub(super) fn look(&mut self) -> News {
        let now = self.read.again();
        let is_left_alone = now == self.last;
        let is_as_read = now == self.read;
        self.last = now;
        if is_as_read && !self.read.unsettled {
            self.looks = 0;
            News::None
        } else if is_left_alone || self.looks == MAX_LOOKS {
            News::Changed
        } else {
            self.looks += 1;
            News::BeingWritten
        }
    }
}

impl Look {
    fn at(file: &Path) -> Option<Self> {
        let found = fs::metadata(file).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.size(),
            mode: found.mode(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::from_secs(self.changed.0.try_into().unwrap_or(0));
        // a clock that was set back must not keep it unsettled
        changed > now || now - changed > SETTLED_AFTER
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A look at a file long after it was written.
    fn look(file: &Path) -> FilesSeen {
        let mut seen = FilesSeen::default();
        seen.look_at_when([file], SystemTime::now() + Duration::from_secs(60));
        seen
    }

    /// Whether `seen` looks different by now, twice in the same way.
    fn has_changed(seen: &FilesSeen) -> bool {
        let mut followed = FilesFollowed::new(seen.clone());
        match followed.look() {
            News::None => false,
            News::BeingWritten => followed.look() == News::Changed,
            News::Changed => panic!("one look is not enough"),
        }
    }

    #[test]
    fn contents_swaps_disappearance_and_return_are_changes() {
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        fs::write(path("one"), "1").unwrap();
        fs::write(path("two"), "2").unwrap();
        symlink(path("one"), path("link")).unwrap();
        let link = path("link");
        let look = || look(&link);

        let seen = look();
        assert!(!has_changed(&seen));
        fs::write(path("one"), "longer").unwrap();
        assert!(has_changed(&seen));

        let seen = look();
        symlink(path("two"), path("next")).unwrap();
        fs::rename(path("next"), &link).unwrap();
        assert!(has_changed(&seen));

        let seen = look();
        fs::remove_file(path("two")).unwrap();
        assert!(has_changed(&seen));
        let seen = look();
        assert!(!has_changed(&seen));
        fs::write(path("two"), "2").unwrap();
        assert!(has_changed(&seen));
    }

    #[test]
    fn what_was_just_written_is_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut seen = FilesSeen::default();
        seen.look_at([file.path()]);
        assert_eq!(FilesFollowed::new(seen).look(), News::Changed);
        assert_eq!(FilesFollowed::new(look(file.path())).look(), News::None);
    }

    #[test]
    fn what_is_touched_for_ever_is_read_in_the_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut followed = FilesFollowed::new(look(file.path()));
        let touched = (1..=MAX_LOOKS + 1).map(|length| {
            fs::write(file.path(), vec![b'#'; length as usize]).unwrap();
            followed.look()
        });
        let news: Vec<_> = touched.collect();
        assert_eq!(news.iter().filter(|news| **news == News::BeingWritten).count(), MAX_LOOKS as usize);
        assert_eq!(news.last(), Some(&News::Changed));
    }

    #[test]
    fn what_is_being_written_is_left_until_it_is_left_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut followed = FilesFollowed::new(look(file.path()));
        let write = |text: &str| fs::write(file.path(), text).unwrap();
        write("half");
        assert_eq!(followed.look(), News::BeingWritten);
        write("half, and more");
        assert_eq!(followed.look(), News::BeingWritten);
        assert_eq!(followed.look(), News::Changed);
        // until it is read
        assert_eq!(followed.look(), News::Changed);
        write("once more");
        assert_eq!(followed.look(), News::BeingWritten);
    }
}
