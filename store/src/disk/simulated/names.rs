//! The directories of a simulated disk: the names as readers see them, and those on stable storage.

use std::collections::BTreeMap;
use std::io;

use super::SeededRandom;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Directory(u64),
    File(u64),
}

/// One change of a directory; happens whole or not at all.
type Change = Vec<(String, Option<Node>)>;

#[derive(Debug, Clone, Default)]
struct Directory {
    now: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    /// Changes since the last sync, in order.
    pending: Vec<Change>,
}

impl Directory {
    fn change(&mut self, change: Change) {
        apply(&mut self.now, &change);
        self.pending.push(change);
    }
}

/// All directories, by number; the disk's own is 0.
#[derive(Debug, Clone)]
pub(super) struct Names {
    directories: BTreeMap<u64, Directory>,
    next: u64,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { directories: BTreeMap::from([(0, Directory::default())]), next: 1 }
    }

    pub(super) fn find(&self, path: &str) -> io::Result<Node> {
        path.split('/').filter(|name| !name.is_empty()).try_fold(Node::Directory(0), |node, name| {
            let found = match node {
                Node::Directory(number) => self.directories.get(&number).and_then(|d| d.now.get(name)),
                Node::File(_) => return Err(io::ErrorKind::NotADirectory.into()),
            };
            found.copied().ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    /// Gives something new a name; returns its number. `make` says what it is.
    pub(super) fn create(&mut self, path: &str, make: fn(u64) -> Node) -> io::Result<u64> {
        let number = self.next;
        let (directory, name) = self.parent(path)?;
        if directory.now.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node = make(number);
        directory.change(vec![(name.into(), Some(node))]);
        if let Node::Directory(number) = node {
            self.directories.insert(number, Directory::default());
        }
        self.next += 1;
        Ok(number)
    }

    pub(super) fn list(&self, path: &str) -> io::Result<Vec<String>> {
        Ok(self.directory(path)?.now.keys().cloned().collect())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let node = self.find(from)?;
        let same_directory = split(from).0 == split(to).0;
        let (directory, name) = self.parent(to)?;
        let mut change = vec![(name.into(), Some(node))];
        if same_directory {
            change.push((split(from).1.into(), None));
            change.rotate_left(1);
            directory.change(change);
            return Ok(());
        }
        directory.change(change);
        let (directory, name) = self.parent(from)?;
        directory.change(vec![(name.into(), None)]);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &str) -> io::Result<()> {
        if let Node::Directory(_) = self.find(path)? {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let (directory, name) = self.parent(path)?;
        directory.change(vec![(name.into(), None)]);
        Ok(())
    }

    pub(super) fn sync(&mut self, path: &str) -> io::Result<()> {
        let directory = self.directory_mut(path)?;
        directory.durable = directory.now.clone();
        directory.pending.clear();
        Ok(())
    }

    /// What is there after a power loss: each change since the last sync happened or did not. At least `newest` of 100 did;
    /// when it is 0, none did.
    pub(super) fn lose_power(&mut self, random: &mut SeededRandom, newest: u64) {
        for directory in self.directories.values_mut() {
            for change in std::mem::take(&mut directory.pending) {
                if newest > 0 && (random.chance(newest, 100) || random.chance(1, 2)) {
                    apply(&mut directory.durable, &change);
                }
            }
            directory.now = directory.durable.clone();
        }
    }

    /// The paths of all files and their numbers, in order.
    pub(super) fn paths(&self) -> Vec<(String, u64)> {
        let mut paths = Vec::new();
        self.add_paths("", 0, &mut paths);
        paths
    }

    fn add_paths(&self, path: &str, number: u64, paths: &mut Vec<(String, u64)>) {
        for (name, node) in self.directories.get(&number).into_iter().flat_map(|directory| &directory.now) {
            let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            match node {
                Node::File(number) => paths.push((path, *number)),
                Node::Directory(number) => self.add_paths(&path, *number, paths),
            }
        }
    }

    /// Numbers of the files that have a name.
    pub(super) fn files(&self) -> impl Iterator<Item = u64> {
        self.directories.values().flat_map(|directory| directory.now.values()).filter_map(file)
    }

    /// Numbers of the files that have a name, or may have one after a power loss.
    pub(super) fn possible_files(&self) -> impl Iterator<Item = u64> {
        let durable =
            self.directories.values().flat_map(|directory| directory.durable.values()).filter_map(file);
        let pending = self.directories.values().flat_map(|directory| directory.pending.iter().flatten());
        self.files().chain(durable).chain(pending.filter_map(|(_, node)| node.as_ref().and_then(file)))
    }

    fn directory(&self, path: &str) -> io::Result<&Directory> {
        match self.find(path)? {
            Node::Directory(number) => {
                self.directories.get(&number).ok_or_else(|| io::ErrorKind::NotFound.into())
            }
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn directory_mut(&mut self, path: &str) -> io::Result<&mut Directory> {
        match self.find(path)? {
            Node::Directory(number) => {
                self.directories.get_mut(&number).ok_or_else(|| io::ErrorKind::NotFound.into())
            }
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn parent<'a>(&mut self, path: &'a str) -> io::Result<(&mut Directory, &'a str)> {
        let (directory, name) = split(path);
        Ok((self.directory_mut(directory)?, name))
    }
}

fn file(node: &Node) -> Option<u64> {
    match node {
        Node::File(number) => Some(*number),
        Node::Directory(_) => None,
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn apply(names: &mut BTreeMap<String, Node>, change: &Change) {
    for (name, node) in change {
        match node {
            Some(node) => names.insert(name.clone(), *node),
            None => names.remove(name),
        };
    }
}
