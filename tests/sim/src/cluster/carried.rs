//! What travels becomes the bytes that it is on a network, and is made of them again: so what the wire forgets is missing here.

use huntaway_replica::{Body, Completion, Message, Record};
use huntaway_wire::Partition;
use huntaway_wire::frame::{Decoder, Framed, Outgoing, VERSION};
use std::sync::Arc;

use super::{Broken, Bug, Cluster};

/// So many of a hundred runs have messages carried like this.
pub(super) const CARRIED_PERCENT: u64 = 20;

impl Cluster {
    /// What arrives.
    pub(super) fn carried<T: Framed>(&mut self, partition: Partition, sent: T) -> T {
        if !self.habits.is_carried {
            return sent;
        }
        match through_bytes(partition, &sent) {
            Some((to, arrived)) if to == partition => arrived,
            _ => {
                self.broken = Some(Broken::NotCarried { partition: partition.value() });
                sent
            }
        }
    }

    /// A message that arrives, unless the wire is to forget something of it.
    pub(super) fn carried_message(&mut self, partition: Partition, message: Message) -> Message {
        let mut message = self.carried(partition, message);
        if self.bug == Some(Bug::ResultNotCarried)
            && let Body::Forward { record, .. } = &mut message.body
            && record.completion != Completion::Done
        {
            *record = Arc::new(Record { completion: Completion::Done, ..Record::clone(record) });
        }
        message
    }
}

fn through_bytes<T: Framed>(partition: Partition, sent: &T) -> Option<(Partition, T)> {
    let frame = Outgoing::new(partition, sent).ok()?;
    let mut decoder = Decoder::default();
    decoder.agreed(VERSION);
    decoder.feed(&frame.head);
    frame.payload.iter().for_each(|piece| decoder.feed(piece));
    let frame = decoder.next_frame().ok()??;
    frame.open().ok().filter(|_| decoder.waiting() == 0)
}
