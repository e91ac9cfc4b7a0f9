//! A volume over a store that remembers what it is asked, and of whose partitions one is broken.

use std::sync::Mutex;

use huntaway_wire::{ObjectRequest, Peer, Pepoch, Request};

use super::*;

/// Operations by object, in the order in which they came.
#[derive(Default)]
struct Asked {
    operations: Mutex<Vec<(u32, Operation)>>,
    broken: Option<u32>,
}

impl Asked {
    /// What it was asked, in words that can be compared.
    fn told(&self) -> String {
        format!("{:?}", self.operations.lock().unwrap())
    }
}

impl Peer for Asked {
    fn submit(&self, request: Request) -> Submission {
        let Request::Object(ObjectRequest { oid, operation, .. }) = request else {
            return Submission::Done(Ok(Reply::Done));
        };
        self.operations.lock().unwrap().push((oid.index(), operation.clone()));
        Submission::Done(match operation {
            _ if self.broken == Some(oid.index()) => Err(Broken::DamagedObject { oid }.into()),
            Operation::Map { range } => Ok(Reply::Map(
                [MappedRun {
                    first_block: range.offset() / BLOCK_SIZE_BYTES,
                    blocks: range.length() / BLOCK_SIZE_BYTES,
                    provisioning: Provisioning::Mapped,
                }]
                .into_iter()
                .collect(),
            )),
            _ => Ok(Reply::Done),
        })
    }
}

const OBJECT: u64 = OBJECT_SIZE_BYTES as u64;

fn volume(size_bytes: u64, broken: Option<u32>) -> (Arc<Asked>, Volume) {
    let asked = Arc::new(Asked { broken, ..Asked::default() });
    let router = Arc::new(Router::to_one(Arc::clone(&asked) as Arc<dyn Peer>, |_| Pepoch(1)));
    let vid = Vid::new(1).unwrap();
    (asked, Volume::new(vid, vid, size_bytes, router))
}

fn discard(offset: u32) -> Operation {
    let range = ByteRange::new(offset, OBJECT_SIZE_BYTES - offset).unwrap();
    Operation::Discard { range, durability: Durability::Stable }
}

const REMOVE: Operation = Operation::Remove { durability: Durability::Stable };

#[tokio::test]
async fn removal_discards_the_tail_of_one_object_and_removes_those_beyond() {
    for (from_bytes, expected) in [
        (0, vec![(0, REMOVE), (1, REMOVE), (2, REMOVE)]),
        (512, vec![(0, discard(512)), (1, REMOVE), (2, REMOVE)]),
        (2 * OBJECT, vec![(2, REMOVE)]),
        (2 * OBJECT + 4096, vec![(2, discard(4096))]),
        (3 * OBJECT, vec![]),
        (9 * OBJECT, vec![]),
    ] {
        // The last object is cleared to its end, not only to that of the volume.
        let (asked, volume) = volume(2 * OBJECT + 8192, None);
        volume.remove(from_bytes).await.unwrap();
        assert_eq!(asked.told(), format!("{expected:?}"), "from {from_bytes}");
    }
}

#[tokio::test]
async fn space_is_set_aside_from_the_object_in_which_it_begins() {
    let (asked, volume) = volume(3 * OBJECT, None);
    volume.reserve(OBJECT + 4096).await.unwrap();
    let expected = [(1, Operation::Reserve), (2, Operation::Reserve)];
    assert_eq!(asked.told(), format!("{expected:?}"));
}

#[tokio::test]
async fn an_object_that_cannot_be_removed_is_an_error_and_ends_it() {
    let (asked, volume) = volume(5 * OBJECT, Some(1));
    assert!(volume.remove(0).await.is_err());
    assert_eq!(asked.operations.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_map_ends_where_a_store_cannot_tell() {
    let (_, volume) = volume(4 * OBJECT, Some(2));
    let map = volume.map(0, 4 * OBJECT, 8).await.unwrap();
    let expected = MappedBytes { offset: 0, length: 2 * OBJECT, provisioning: Provisioning::Mapped };
    assert_eq!(map, [expected]);
    assert!(volume.map(2 * OBJECT, OBJECT, 8).await.is_err());
}
