//! One connection, once hellos were exchanged: both directions, until one of them ends.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;
use tokio::time::timeout;

use super::{Cut, Inbox, Outbox, PROGRESS_DEADLINE};
use crate::Process;
use crate::frame::{Decoder, Frame, Outgoing};

/// Pieces that are written together.
const MOST_SLICES: usize = 64;

/// What is read counts by this against the turn that a task has, which is 128 such things.
const TURN_BYTES: usize = 64 << 10;

/// Sends what waits and takes in what comes, until that ends.
pub(super) async fn run(
    stream: &TcpStream,
    decoder: &mut Decoder,
    peer: Process,
    outbox: &Outbox,
    inbox: &dyn Inbox,
) -> Cut {
    tokio::select! {
        cut = receive(stream, decoder, peer, outbox, inbox) => cut,
        cut = send(stream, outbox) => cut,
    }
    .map_or_else(|cut| cut, |never| match never {})
}

/// What does not end but by an error.
pub(super) enum Never {}

async fn receive(
    stream: &TcpStream,
    decoder: &mut Decoder,
    peer: Process,
    outbox: &Outbox,
    inbox: &dyn Inbox,
) -> Result<Never, Cut> {
    loop {
        let frame = next_frame(stream, decoder).await?;
        inbox.take(peer, frame, outbox)?;
    }
}

/// The next frame. It may be long until it begins, not until it ends.
pub(super) async fn next_frame(stream: &TcpStream, decoder: &mut Decoder) -> Result<Frame, Cut> {
    loop {
        if let Some(frame) = decoder.next_frame()? {
            return Ok(frame);
        }
        if decoder.waiting() == 0 {
            stream.readable().await?;
        } else {
            timeout(PROGRESS_DEADLINE, stream.readable()).await.map_err(|_| Cut::NO_PROGRESS)??;
        }
        match stream.try_read_buf(decoder.room()) {
            Ok(0) => return Err(Cut::Closed),
            // A socket that always has something is no reason to keep a thread from everything else.
            Ok(read) => {
                for _ in 0..=read / TURN_BYTES {
                    consume_budget().await;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn send(stream: &TcpStream, outbox: &Outbox) -> Result<Never, Cut> {
    let mut batch = VecDeque::new();
    loop {
        outbox.take(&mut batch).await;
        write(stream, &mut batch).await?;
    }
}

/// Sends one frame.
pub(super) async fn write_frame(stream: &TcpStream, frame: Outgoing) -> Result<(), Cut> {
    write(stream, &mut VecDeque::from([frame.head])).await
}

async fn write(stream: &TcpStream, batch: &mut VecDeque<Bytes>) -> Result<(), Cut> {
    while !batch.is_empty() {
        let mut slices = [IoSlice::new(&[]); MOST_SLICES];
        let pieces = slices.iter_mut().zip(batch.iter()).map(|(slice, piece)| *slice = IoSlice::new(piece));
        let pieces = pieces.count();
        consume_budget().await;
        match stream.try_write_vectored(&slices[..pieces]) {
            Ok(written) => advance(batch, written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                timeout(PROGRESS_DEADLINE, stream.writable()).await.map_err(|_| Cut::NOT_READ)??;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn advance(batch: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(piece) = batch.front_mut() {
        if written < piece.len() {
            return piece.advance(written);
        }
        written -= piece.len();
        batch.pop_front();
    }
}
