//! A small file system of its own, and what fills it.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// A tmpfs that is unmounted when it is dropped, unless something is wrong.
pub(crate) struct FileSystem(PathBuf);

impl FileSystem {
    /// Mounts it at a new directory, with options such as `size=448m`. `None`: this machine does not allow it.
    ///
    /// # Panics
    /// If the directory cannot be made.
    pub(crate) fn mount(directory: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(directory).expect("the scratch directory is writable");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "huntaway-test"]).arg(directory);
        let mounted = mount.status().is_ok_and(|status| status.success());
        mounted.then(|| Self(directory.to_owned()))
    }

    /// Fills it up. There is room again when what is returned is dropped.
    ///
    /// # Panics
    /// If something else goes wrong.
    pub(crate) fn fill(&self) -> Filler {
        let path = self.0.join("filler");
        let mut file = File::create(&path).expect("a file");
        let filler = Filler(path);
        let full = loop {
            if let Err(error) = file.write_all(&[1; 64 << 10]) {
                break error;
            }
        };
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        filler
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        }
    }
}

/// What takes all the room.
pub(crate) struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
