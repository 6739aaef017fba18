//! A client for plain HTTP, with limits: health checks, and the HTTP half of `countersign dev`.

use std::time::Duration;

use bytes::Bytes;
use countersign_runtime::disclosure;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

/// The largest body that is read.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// Not `http://host…`.
    #[error("must be a URL of the form http://host:port/path")]
    Url,
    /// There is no answer, or it is not HTTP.
    #[error("cannot reach {}", disclosure::url(url))]
    Request {
        /// What was asked for.
        url: String,
        /// Why not.
        #[source]
        source: hyper_util::client::legacy::Error,
    },
    /// The answer's body broke off or is too long.
    #[error("cannot read the answer of {}", disclosure::url(url))]
    Body {
        /// What was asked for.
        url: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The time is up.
    #[error("no answer from {} within {} s", disclosure::url(url), limit.as_secs())]
    TimedOut {
        /// What was asked for.
        url: String,
        /// How long it was waited for.
        limit: Duration,
    },
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Asks for a document.
///
/// # Errors
/// There is no answer within the limit. An answer with a bad status is an answer.
pub(crate) async fn get(url: &str, limit: Duration) -> Result<Answer, HttpError> {
    send(Method::GET, url, None, limit).await
}

/// Sends a form.
///
/// # Errors
/// Like [`get`].
pub(crate) async fn post_form(url: &str, form: &[(&str, &str)], limit: Duration) -> Result<Answer, HttpError> {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    send(Method::POST, url, Some(body), limit).await
}

async fn send(method: Method, url: &str, form: Option<String>, limit: Duration) -> Result<Answer, HttpError> {
    let wrong = || HttpError::Url;
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    if uri.scheme_str() != Some("http") || uri.host().is_none() {
        return Err(wrong());
    }
    let mut request = Request::builder().method(method).uri(uri);
    if form.is_some() {
        request = request.header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    let request = request.body(Full::new(Bytes::from(form.unwrap_or_default()))).map_err(|_| wrong())?;
    let answered = tokio::time::timeout(limit, answer(url, request)).await;
    answered.unwrap_or_else(|_| Err(HttpError::TimedOut { url: url.to_owned(), limit }))
}

async fn answer(url: &str, request: Request<Full<Bytes>>) -> Result<Answer, HttpError> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = client.request(request).await.map_err(|source| HttpError::Request { url: url.to_owned(), source })?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_BODY_BYTES)
        .collect()
        .await
        .map_err(|source| HttpError::Body { url: url.to_owned(), source })?;
    Ok(Answer { status, body: body.to_bytes() })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A server that answers one connection with these bytes; gives its address and what it received.
    async fn server(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/path", listener.local_addr().unwrap());
        let received = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = vec![0; 4096];
            let length = stream.read(&mut buffer).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        });
        (url, received)
    }

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_form_is_encoded_and_the_answer_read() {
        let (url, received) = server("HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno").await;
        let answer = post_form(&url, &[("grant_type", "urn:a b"), ("subject_token", "x.y+z")], LIMIT).await.unwrap();
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::BAD_REQUEST, &b"no"[..]));
        assert!(received.await.unwrap().ends_with("grant_type=urn%3Aa+b&subject_token=x.y%2Bz"));
    }

    #[tokio::test]
    async fn only_plain_http_is_spoken() {
        for url in ["https://localhost", "localhost:1", "", "/readyz"] {
            assert!(matches!(get(url, LIMIT).await, Err(HttpError::Url)), "{url}");
        }
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_given_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let result = get(&url, Duration::from_millis(20)).await;
        assert!(matches!(result, Err(HttpError::TimedOut { .. })), "{result:?}");
    }
}
