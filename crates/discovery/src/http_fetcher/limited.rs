//! A connection on which only so much can come.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most bytes that one connection brings: those of the wire, whatever they are. A document of 100 KiB, its head, TLS and a
/// chain of certificates are well below it.
///
/// Much of what a server can send is read and thrown away by the layers above (interim answers, extensions of chunks, empty
/// records of TLS), so that none of their limits ever sees it. It is also the most that can be worked off at a stretch, without a
/// timer or anybody else having their turn (SECURITY 41, 72).
pub(super) const MAX_BYTES: usize = 256 * 1024;

/// More came over a connection than any honest answer takes.
#[derive(Debug, thiserror::Error)]
#[error("more than 256 KiB came over the connection")]
struct TooMuch;

/// A stream that fails with the read that exceeds [`MAX_BYTES`].
#[derive(Debug)]
pub(super) struct Limited<S> {
    stream: S,
    left: usize,
}

impl<S> Limited<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, left: MAX_BYTES }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Limited<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        let come = buffer.filled().len() - before;
        let Some(left) = this.left.checked_sub(come) else {
            buffer.set_filled(before);
            // Whoever reads on gets no further.
            this.left = 0;
            return Poll::Ready(Err(io::Error::other(TooMuch)));
        };
        this.left = left;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Limited<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn s41_the_limit_is_reached_but_not_exceeded() {
        for (length, is_read) in [(MAX_BYTES, true), (MAX_BYTES + 1, false)] {
            let bytes = vec![7; length];
            let (mut stream, mut read) = (Limited::new(bytes.as_slice()), Vec::new());
            assert_eq!(stream.read_to_end(&mut read).await.is_ok(), is_read, "{length}");
            assert!(read.len() <= MAX_BYTES);
        }
    }

    #[tokio::test]
    async fn s41_who_reads_on_gets_no_further() {
        let mut stream = Limited::new(tokio::io::repeat(7));
        let mut buffer = vec![0; MAX_BYTES + 1];
        for _ in 0..3 {
            assert!(stream.read(&mut buffer).await.is_err());
        }
        assert!(stream.read(&mut buffer[..1]).await.is_err());
    }
}
