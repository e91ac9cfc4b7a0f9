//! Whether files have changed since they were last read, told by what the kernel says of them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A file that was written so shortly before it was looked at may be written again without looking different: file
/// systems count time in ticks, or in seconds.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

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

    /// Whether they must be read again.
    pub(super) fn may_have_changed(&self) -> bool {
        self.unsettled || self.files.iter().any(|(file, look)| Look::at(file) != *look)
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
        assert!(!seen.may_have_changed());
        fs::write(path("one"), "longer").unwrap();
        assert!(seen.may_have_changed());

        let seen = look();
        symlink(path("two"), path("next")).unwrap();
        fs::rename(path("next"), &link).unwrap();
        assert!(seen.may_have_changed());

        let seen = look();
        fs::remove_file(path("two")).unwrap();
        assert!(seen.may_have_changed());
        let seen = look();
        assert!(!seen.may_have_changed());
        fs::write(path("two"), "2").unwrap();
        assert!(seen.may_have_changed());
    }

    #[test]
    fn what_was_just_written_is_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut seen = FilesSeen::default();
        seen.look_at([file.path()]);
        assert!(seen.may_have_changed());
        assert!(!look(file.path()).may_have_changed());
    }
}
