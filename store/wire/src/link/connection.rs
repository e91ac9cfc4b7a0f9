//! One connection, once hellos were exchanged: both directions, until one of them ends.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::coop::consume_budget;
use tokio::time::timeout;

use super::{Cut, Ends, HELLO_DEADLINE, Inbox, Outbox, PROGRESS_DEADLINE, Reader, Writer};
use crate::Process;
use crate::frame::{Decoder, Frame, Outgoing};

/// Pieces that are written together.
const MOST_SLICES: usize = 64;

/// What is read counts by this against the turn that a task has, which is 128 such things.
const TURN_BYTES: usize = 64 << 10;

/// Both directions, and what came of a frame that is not whole.
pub(super) struct Socket {
    reader: Reader,
    writer: Writer,
    decoder: Decoder,
}

impl Socket {
    pub(super) fn new((reader, writer): Ends) -> Self {
        Self { reader, writer, decoder: Decoder::default() }
    }

    /// From here on come frames of this version.
    pub(super) fn agreed(&mut self, version: u8) {
        self.decoder.agreed(version);
    }

    /// The next frame.
    pub(super) async fn next_frame(&mut self) -> Result<Frame, Cut> {
        next_frame(&mut self.reader, &mut self.decoder).await
    }

    /// Sends one frame.
    pub(super) async fn write_frame(&mut self, frame: Outgoing) -> Result<(), Cut> {
        write(&mut self.writer, &mut VecDeque::from([frame.head])).await
    }

    /// Sends what waits and takes in what comes, until that ends.
    pub(super) async fn run(&mut self, peer: Process, outbox: &Outbox, inbox: &dyn Inbox) -> Cut {
        let Self { reader, writer, decoder } = self;
        tokio::select! {
            cut = receive(reader, decoder, peer, outbox, inbox) => cut,
            cut = send(writer, outbox) => cut,
        }
        .map_or_else(|cut| cut, |never| match never {})
    }

    /// Nothing more is sent. Were it closed with something unread, the other side might never read what was.
    pub(super) async fn end(&mut self) {
        let _ = self.writer.shutdown().await;
        self.decoder = Decoder::default();
        let _ = timeout(HELLO_DEADLINE, self.next_frame()).await;
    }
}

/// What does not end but by an error.
pub(super) enum Never {}

async fn receive(
    reader: &mut Reader,
    decoder: &mut Decoder,
    peer: Process,
    outbox: &Outbox,
    inbox: &dyn Inbox,
) -> Result<Never, Cut> {
    loop {
        let frame = next_frame(reader, decoder).await?;
        inbox.take(peer, frame, outbox)?;
    }
}

/// The next frame. It may be long until it begins, not until it ends.
async fn next_frame(reader: &mut Reader, decoder: &mut Decoder) -> Result<Frame, Cut> {
    loop {
        if let Some(frame) = decoder.next_frame()? {
            return Ok(frame);
        }
        let read = if decoder.waiting() == 0 {
            read(reader, decoder).await
        } else {
            timeout(PROGRESS_DEADLINE, read(reader, decoder)).await.map_err(|_| Cut::NO_PROGRESS)?
        };
        match read {
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

/// What there is. No room is made before something comes, if that can be known.
async fn read(reader: &mut Reader, decoder: &mut Decoder) -> io::Result<usize> {
    match reader {
        Reader::Plain(stream) => {
            stream.readable().await?;
            stream.try_read_buf(decoder.room())
        }
        reader => reader.read_buf(decoder.room()).await,
    }
}

async fn send(writer: &mut Writer, outbox: &Outbox) -> Result<Never, Cut> {
    let mut batch = VecDeque::new();
    loop {
        outbox.take(&mut batch).await;
        write(writer, &mut batch).await?;
    }
}

async fn write(writer: &mut Writer, batch: &mut VecDeque<Bytes>) -> Result<(), Cut> {
    while !batch.is_empty() {
        let mut slices = [IoSlice::new(&[]); MOST_SLICES];
        let pieces = slices.iter_mut().zip(batch.iter()).map(|(slice, piece)| *slice = IoSlice::new(piece));
        let pieces = pieces.count();
        consume_budget().await;
        match writer {
            Writer::Plain(stream) => match stream.try_write_vectored(&slices[..pieces]) {
                Ok(written) => advance(batch, written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    in_time(stream.writable()).await?;
                }
                Err(error) => return Err(error.into()),
            },
            Writer::Tls(stream) => advance(batch, in_time(stream.write_vectored(&slices[..pieces])).await?),
        }
    }
    match writer {
        Writer::Plain(_) => Ok(()),
        Writer::Tls(stream) => in_time(stream.flush()).await,
    }
}

/// What is to be sent goes on.
async fn in_time<T>(sent: impl Future<Output = io::Result<T>>) -> Result<T, Cut> {
    Ok(timeout(PROGRESS_DEADLINE, sent).await.map_err(|_| Cut::NOT_READ)??)
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
