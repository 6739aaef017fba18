//! Writing an answer, honest or not.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::behaviour::Behaviour;
use super::bombs;

const PAUSE_OF_A_DRIP: Duration = Duration::from_millis(100);

const CHUNKED: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";

const LOGIN_PAGE: &str = "<!doctype html><html><head><title>Log in</title></head><body><form method=\"post\"><input name=\"user\">\
                          <input name=\"password\" type=\"password\"></form></body></html>";

/// What an answer consists of.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) behaviour: Behaviour,
    pub(super) document: Value,
}

impl Answer {
    /// Writes it as the answer to a request for that path.
    pub(super) async fn write(self, path: &str, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<()> {
        let body = self.document.to_string().into_bytes();
        let honest = response("200 OK", &[], &body);
        let header = &honest[..honest.len() - body.len()];
        let with_line = |line: String| response("200 OK", &[line], &body);
        match self.behaviour {
            Behaviour::Honest | Behaviour::Sequence(_) => stream.write_all(&honest).await,
            Behaviour::Headers(lines) => stream.write_all(&response("200 OK", &lines, &body)).await,
            Behaviour::Status(status) => stream.write_all(&response(&format!("{status} Status"), &[], b"")).await,
            Behaviour::HonestUnder(status) => stream.write_all(&response(&format!("{status} Status"), &[], &body)).await,
            Behaviour::Redirect(location) => stream.write_all(&redirect(302, &location)).await,
            Behaviour::RedirectWith(status, location) => stream.write_all(&redirect(status, &location)).await,
            Behaviour::RedirectLoop => stream.write_all(&redirect(302, path)).await,
            Behaviour::Body(body) => stream.write_all(&response("200 OK", &[], &body)).await,
            Behaviour::LoginPage => stream.write_all(&login_page()).await,
            Behaviour::Raw(bytes) => stream.write_all(&bytes).await,
            Behaviour::AnotherAnswer(unasked) => {
                stream.write_all(&kept_alive(&body)).await?;
                stream.write_all(&kept_alive(&unasked)).await
            }
            Behaviour::Late(delay) => {
                tokio::time::sleep(delay).await;
                stream.write_all(&honest).await
            }
            Behaviour::Stall => hold(stream).await,
            Behaviour::StallAfterHeader => {
                stream.write_all(header).await?;
                hold(stream).await
            }
            Behaviour::StallInBody => {
                stream.write_all(&honest[..honest.len() - body.len() / 2]).await?;
                hold(stream).await
            }
            Behaviour::Drip => drip(stream, &honest).await,
            Behaviour::DripBody => {
                stream.write_all(header).await?;
                drip(stream, &body).await
            }
            Behaviour::DripChunks => drip_chunks(stream, &body).await,
            Behaviour::EndlessHeader => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
                forever(stream, b"x-more: and more and more and more and more\r\n").await
            }
            Behaviour::LongHeader(length) => stream.write_all(&with_line(format!("x-long: {}", "a".repeat(length)))).await,
            Behaviour::ManyHeaders(count) => {
                let lines: Vec<String> = (0..count).map(|index| format!("x-{index}: and more")).collect();
                stream.write_all(&response("200 OK", &lines, &body)).await
            }
            Behaviour::EndlessInterim => forever(stream, b"HTTP/1.1 103 Early Hints\r\nlink: </>\r\n\r\n").await,
            Behaviour::EndlessBody => {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n{\"keys\":[")
                    .await?;
                forever(stream, b"{\"kty\":\"none\"},").await
            }
            Behaviour::EndlessChunks => {
                stream.write_all(CHUNKED).await?;
                forever(stream, b"1\r\n \r\n").await
            }
            Behaviour::EndlessChunkExtension => {
                stream.write_all(CHUNKED).await?;
                stream.write_all(b"1").await?;
                forever(stream, b";more=and-more").await
            }
            Behaviour::EndlessTrailers => {
                stream.write_all(CHUNKED).await?;
                stream.write_all(&chunk(&body)).await?;
                stream.write_all(b"0\r\n").await?;
                forever(stream, b"x-more: and more and more and more and more\r\n").await
            }
            Behaviour::GzipBomb => stream.write_all(&encoded("gzip", &bombs::gzip_bomb())).await,
            Behaviour::Gzip => stream.write_all(&encoded("gzip", &bombs::gzip(&body))).await,
            Behaviour::SaidToBeEncoded(encoding) => stream.write_all(&encoded(&encoding, &body)).await,
            Behaviour::ContentLength(length) => stream.write_all(&response_of_length("200 OK", &[], length, &body)).await,
            Behaviour::TwoContentLengths => stream.write_all(&with_line("content-length: 11".to_owned())).await,
            Behaviour::Truncated => stream.write_all(&honest[..honest.len() - body.len() / 2]).await,
            Behaviour::TruncatedChunks => {
                stream.write_all(CHUNKED).await?;
                stream.write_all(&chunk(&body[..body.len() / 2])).await
            }
            Behaviour::Close => Ok(()),
        }
    }
}

/// An answer with its length, after which the connection is closed.
pub(super) fn response(status: &str, header_lines: &[String], body: &[u8]) -> Vec<u8> {
    response_of_length(status, header_lines, body.len(), body)
}

fn response_of_length(status: &str, header_lines: &[String], length: usize, body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n");
    for line in header_lines {
        head.push_str(line);
        head.push_str("\r\n");
    }
    let mut response = format!("{head}content-length: {length}\r\n\r\n").into_bytes();
    response.extend_from_slice(body);
    response
}

fn redirect(status: u16, location: &str) -> Vec<u8> {
    response(&format!("{status} Elsewhere"), &[format!("location: {location}")], b"")
}

fn encoded(encoding: &str, body: &[u8]) -> Vec<u8> {
    response("200 OK", &[format!("content-encoding: {encoding}")], body)
}

fn login_page() -> Vec<u8> {
    let length = LOGIN_PAGE.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{LOGIN_PAGE}")
        .into_bytes()
}

/// An answer that promises to listen for further requests.
fn kept_alive(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Waits until the client gives up.
pub(super) async fn hold(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    while stream.read(&mut [0; 64]).await? > 0 {}
    Ok(())
}

/// Writes one byte every 100 ms.
pub(super) async fn drip(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte]).await?;
        stream.flush().await?;
        tokio::time::sleep(PAUSE_OF_A_DRIP).await;
    }
    Ok(())
}

async fn drip_chunks(stream: &mut (impl AsyncWrite + Unpin), body: &[u8]) -> std::io::Result<()> {
    stream.write_all(CHUNKED).await?;
    for byte in body {
        stream.write_all(&chunk(&[*byte])).await?;
        stream.flush().await?;
        tokio::time::sleep(PAUSE_OF_A_DRIP).await;
    }
    stream.write_all(b"0\r\n\r\n").await
}

/// Writes the same again until the client goes away.
async fn forever(stream: &mut (impl AsyncWrite + Unpin), line: &[u8]) -> std::io::Result<()> {
    let many = line.repeat(100);
    loop {
        stream.write_all(&many).await?;
    }
}
