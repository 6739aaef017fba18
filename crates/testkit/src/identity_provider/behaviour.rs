//! What a document, or the connection it comes over, does instead of what it should.

use std::time::Duration;

/// How a document is served.
#[derive(Debug, Clone, Default)]
pub enum Behaviour {
    /// As it should be.
    #[default]
    Honest,
    /// Honest, with these further header lines, for example `cache-control: max-age=60`, `age: 4000000000` or
    /// `set-cookie: session=1`.
    Headers(Vec<String>),
    /// This status and an empty body.
    Status(u16),
    /// The honest body under this status.
    HonestUnder(u16),
    /// A redirect to this location.
    Redirect(String),
    /// A redirect with this status to this location.
    RedirectWith(u16, String),
    /// A redirect to the very URL that was asked for.
    RedirectLoop,
    /// This body, as JSON with status 200.
    Body(Vec<u8>),
    /// The page on which somebody should log in first, with status 200.
    LoginPage,
    /// These bytes in place of an HTTP answer.
    Raw(Vec<u8>),
    /// The honest answer and, unasked, another one behind it on the same connection, with this body.
    AnotherAnswer(Vec<u8>),
    /// As it should be, after that long.
    Late(Duration),
    /// Nothing, with the connection left open.
    Stall,
    /// The header, then nothing.
    StallAfterHeader,
    /// Half of the body, then nothing.
    StallInBody,
    /// The honest answer, one byte every 100 ms.
    Drip,
    /// The header at once, and the honest body at one byte every 100 ms.
    DripBody,
    /// The honest body in chunks of one byte, one every 100 ms, so that each looks like progress.
    DripChunks,
    /// Header lines without end.
    EndlessHeader,
    /// The honest answer with one header line of this many bytes.
    LongHeader(usize),
    /// The honest answer with this many more header lines.
    ManyHeaders(usize),
    /// Interim answers, `103 Early Hints`, without end.
    EndlessInterim,
    /// A body without end.
    EndlessBody,
    /// A body of chunks without end.
    EndlessChunks,
    /// One chunk whose extension has no end.
    EndlessChunkExtension,
    /// The honest body, then trailers without end.
    EndlessTrailers,
    /// A few kilobytes that gzip blows up to 100 MiB.
    GzipBomb,
    /// The honest body in gzip.
    Gzip,
    /// The honest body as it is, said to be in this encoding.
    SaidToBeEncoded(String),
    /// The honest body under a length that is not its own.
    ContentLength(usize),
    /// The honest body under its own length and, in a second header line, another one.
    TwoContentLengths,
    /// Half of what the length announces, then the end of the connection.
    Truncated,
    /// Half of the body as a chunk, then the end of the connection without the last chunk.
    TruncatedChunks,
    /// The end of the connection before any answer.
    Close,
    /// One after the other, each for one request; the last of them for all that follow.
    Sequence(Vec<Behaviour>),
}

impl Behaviour {
    /// What the next request gets.
    pub(super) fn next(&mut self) -> Self {
        match self {
            Self::Sequence(behaviours) if behaviours.len() > 1 => behaviours.remove(0).next(),
            Self::Sequence(behaviours) => behaviours.first_mut().map_or(Self::Honest, Self::next),
            other => other.clone(),
        }
    }
}

/// What happens on a new connection, before any request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConnectionBehaviour {
    /// Handshake, if there is one, and requests.
    #[default]
    Honest,
    /// It is accepted, and nothing is ever said.
    Stall,
    /// It is closed at once.
    Close,
    /// What the server says, the handshake included, comes at one byte every 100 ms.
    Drip,
    /// An answer in plain HTTP, whatever the client speaks.
    PlainHttp,
}
