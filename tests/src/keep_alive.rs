//! Form posts on a connection that is kept, without a client library between the clock and the bytes.

use std::io::{Error, ErrorKind, Result};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How long a connection is kept that nobody uses. Servers close idle ones, which would look like a request that was lost.
const KEEP: Duration = Duration::from_secs(1);

/// A kept connection to a loopback port. It is made with the first request, and again after it broke or was idle.
#[derive(Debug)]
pub struct Connection {
    port: u16,
    stream: Option<(TcpStream, Instant)>,
    buffer: Vec<u8>,
}

/// The status and body of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The document.
    pub body: Vec<u8>,
}

impl Answer {
    /// The name of the reason of a refusal.
    pub fn reason(&self) -> Option<String> {
        let body: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        Some(body["error_reason"].as_str()?.to_owned())
    }
}

impl Connection {
    /// To that port.
    pub fn to(port: u16) -> Self {
        Self { port, stream: None, buffer: Vec::new() }
    }

    /// Sends a form and waits for the answer. Nothing is sent twice: after an error it is unknown whether it arrived.
    pub async fn post_form(&mut self, path: &str, form: &str) -> Result<Answer> {
        let mut stream = match self.stream.take() {
            Some((stream, used)) if used.elapsed() < KEEP => stream,
            _ => self.connect().await?,
        };
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost:{}\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n",
            self.port,
            form.len()
        );
        self.buffer.clear();
        self.buffer.extend_from_slice(head.as_bytes());
        self.buffer.extend_from_slice(form.as_bytes());
        stream.write_all(&self.buffer).await?;
        let answer = read_answer(&mut stream, &mut self.buffer).await?;
        // Without an error the connection is at the start of the next answer.
        self.stream = Some((stream, Instant::now()));
        Ok(answer)
    }

    async fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Answer> {
    buffer.clear();
    let head_length = loop {
        if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    };
    let (status, length) = read_head(&buffer[..head_length]).ok_or_else(|| Error::from(ErrorKind::InvalidData))?;
    while buffer.len() < head_length + length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Answer { status, body: buffer[head_length..].to_vec() })
}

/// Status and length of the body.
fn read_head(head: &[u8]) -> Option<(u16, usize)> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })?;
    Some((status, length))
}
