//! What goes wrong with bytes that were stored well: they rot, land in another place, or an earlier state of them returns.

use std::sync::Mutex;

use super::content::{Content, SECTOR_BYTES};
use super::faults::Faults;
use super::names::Node;
use super::{SeededRandom, SimulatedDisk, State};

/// Most sectors that go astray together.
const MAX_SECTORS_ASTRAY: u64 = 8;

/// A file as it was at one moment, to be put back later.
#[derive(Debug, Clone)]
pub struct FileImage {
    path: String,
    content: Content,
}

impl FileImage {
    /// The file's path.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// A write that the disk put somewhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misdirected {
    /// The file that lacks it, which has there what was there before.
    pub from: String,
    /// Where it is missing, in bytes.
    pub from_offset: u64,
    /// The file that was overwritten; `None`: the write was lost altogether.
    pub to: Option<String>,
    /// Where, in bytes.
    pub to_offset: u64,
}

/// A write that is to go astray.
#[derive(Debug)]
pub(super) struct Astray {
    syncs_left: u64,
    random: SeededRandom,
}

impl SimulatedDisk {
    /// The paths of all files, in order.
    pub fn files(&self) -> Vec<String> {
        self.lock().names.paths().into_iter().map(|(path, _)| path).collect()
    }

    /// Where (in bytes) the pages of 4096 bytes begin that a file has bytes in, in order.
    pub fn stored_pages(&self, path: &str) -> Vec<u64> {
        self.lock().look(path, Content::stored_pages).unwrap_or_default()
    }

    /// Changes one bit (0 to 7) of a stored byte. False, and nothing is changed, if nothing is stored there, or if it was
    /// written since the last sync: memory does not rot.
    pub fn flip(&self, path: &str, offset: u64, bit: u32) -> bool {
        self.lock().look(path, |content| content.flip(offset, bit)).unwrap_or(false)
    }

    /// From now on reads of the page of 4096 bytes at `offset` fail (EIO), until something is written there. False if there is no
    /// file of that name.
    pub fn spoil(&self, path: &str, offset: u64) -> bool {
        self.lock().look(path, |content| content.spoil(offset)).is_some()
    }

    /// The file as it is now.
    pub fn image(&self, path: &str) -> Option<FileImage> {
        let content = self.lock().look(path, |content| content.clone())?;
        Some(FileImage { path: path.into(), content })
    }

    /// Gives a file an earlier state back, on stable storage. False if there is no file of that name.
    pub fn put_back(&self, image: &FileImage) -> bool {
        self.lock().look(&image.path, |content| content.return_to(&image.content)).is_some()
    }

    /// Another disk that is as this one would be if its process died now.
    pub fn copy(&self) -> Self {
        let state = self.lock();
        let copy = State {
            names: state.names.clone(),
            files: state.files.clone(),
            faults: Faults::default(),
            astray: None,
            misdirected: None,
            cold: state.cold.clone(),
            life: state.life + 1,
            total_pages: state.total_pages,
        };
        Self { state: Mutex::new(copy) }
    }

    /// Lets something that a file's sync should put on stable storage go to another place instead: of the sync that many
    /// syncs from now, or of the first after it that has something to write.
    pub fn misdirect_after(&self, syncs: u64, seed: u64) {
        self.lock().astray = Some(Astray { syncs_left: syncs, random: SeededRandom::new(seed) });
    }

    /// The last write that went astray.
    pub fn misdirected(&self) -> Option<Misdirected> {
        self.lock().misdirected.clone()
    }
}

impl State {
    fn look<T>(&mut self, path: &str, look: impl FnOnce(&mut Content) -> T) -> Option<T> {
        match self.names.find(path).ok()? {
            Node::File(number) => self.files.get_mut(&number).map(look),
            Node::Directory(_) => None,
        }
    }

    /// Called when a file is about to be synced: perhaps one of its writes goes astray.
    pub(super) fn let_go_astray(&mut self, number: u64) {
        let Some(astray) = &mut self.astray else { return };
        astray.syncs_left = astray.syncs_left.saturating_sub(1);
        let Some(content) = self.files.get_mut(&number).filter(|_| astray.syncs_left == 0) else { return };
        let most = 1 + astray.random.below(MAX_SECTORS_ASTRAY);
        let Some((first, sectors)) = content.lose_written(&mut astray.random, most) else { return };
        let mut random = astray.random.clone();
        self.astray = None;
        let paths = self.names.paths();
        let from = paths.iter().find(|(_, found)| *found == number).map(|(path, _)| path.clone());
        // As often within the file as in any other.
        let others: Vec<_> = paths.into_iter().filter(|(_, found)| *found != number).collect();
        let target = match others.get(random.below(others.len() as u64 * 2) as usize) {
            Some((path, number)) => Some((path.clone(), *number)),
            None => from.clone().map(|path| (path, number)),
        };
        let landed = target.and_then(|(path, number)| {
            let content = self.files.get_mut(&number)?;
            Some((path, content.receive(&mut random, &sectors, first)?))
        });
        let byte = |sector: u64| sector * SECTOR_BYTES as u64;
        self.misdirected = Some(Misdirected {
            from: from.unwrap_or_default(),
            from_offset: byte(first),
            to_offset: landed.as_ref().map_or(0, |(_, sector)| byte(*sector)),
            to: landed.map(|(path, _)| path),
        });
    }
}
