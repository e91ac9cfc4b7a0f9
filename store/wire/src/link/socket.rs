//! The two directions of a connection: as the network has it, or under TLS.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::io::{self, IoSlice};
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::TlsStream;

use super::prepare;
use crate::tls::{Certificate, Tls};

/// What comes.
#[derive(Debug)]
pub enum Reader {
    /// As it is.
    Plain(OwnedReadHalf),
    /// Under TLS.
    Tls(ReadHalf<TlsStream<TcpStream>>),
}

/// What goes. It has to be flushed.
#[derive(Debug)]
pub enum Writer {
    /// As it is.
    Plain(OwnedWriteHalf),
    /// Under TLS.
    Tls(WriteHalf<TlsStream<TcpStream>>),
}

/// Both directions.
pub type Ends = (Reader, Writer);

/// Calls whoever has that name there.
///
/// # Errors
/// [`io::Error`]: the network's, or one that [`Untrusted::of`](crate::tls::Untrusted::of) explains.
pub async fn call(address: SocketAddr, tls: Option<(&Tls, &str)>) -> io::Result<Ends> {
    let stream = TcpStream::connect(address).await?;
    prepare(&stream)?;
    Ok(match tls {
        None => plain(stream),
        Some((tls, name)) => secured(tls.call(stream, name).await?),
    })
}

/// Takes whoever called, and with TLS what that one showed: for whom it is has to be looked at.
///
/// # Errors
/// [`io::Error`]: the network's, or one that [`Untrusted::of`](crate::tls::Untrusted::of) explains.
pub async fn answer(stream: TcpStream, tls: Option<&Tls>) -> io::Result<(Ends, Option<Certificate>)> {
    prepare(&stream)?;
    let Some(tls) = tls else { return Ok((plain(stream), None)) };
    let (stream, shown) = tls.called(stream).await?;
    Ok((secured(stream), Some(shown)))
}

fn plain(stream: TcpStream) -> Ends {
    let (reader, writer) = stream.into_split();
    (Reader::Plain(reader), Writer::Plain(writer))
}

fn secured(stream: TlsStream<TcpStream>) -> Ends {
    let (reader, writer) = split(stream);
    (Reader::Tls(reader), Writer::Tls(writer))
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(reader) => Pin::new(reader).poll_read(context, into),
            Self::Tls(reader) => match Pin::new(reader).poll_read(context, into) {
                // Whoever dies says no farewell, and frames show whether they are whole.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(()))
                }
                read => read,
            },
        }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(writer) => Pin::new(writer).poll_write(context, bytes),
            Self::Tls(writer) => Pin::new(writer).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(writer) => Pin::new(writer).poll_write_vectored(context, slices),
            Self::Tls(writer) => Pin::new(writer).poll_write_vectored(context, slices),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(writer) => Pin::new(writer).poll_flush(context),
            Self::Tls(writer) => Pin::new(writer).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(writer) => Pin::new(writer).poll_shutdown(context),
            Self::Tls(writer) => Pin::new(writer).poll_shutdown(context),
        }
    }
}
