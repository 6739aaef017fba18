//! `POST /oauth2/token` (RFC 8693) as a client sees it.

use std::sync::LazyLock;

use reqwest::header::HeaderMap;
use serde_json::Value;

/// The grant type of RFC 8693.
pub const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The token type of a JWT whose meaning is not told.
pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The JSON document.
    pub body: Value,
}

impl Answer {
    /// The access token.
    pub fn access_token(&self) -> String {
        self.body["access_token"].as_str().unwrap_or_else(|| panic!("refused: {}", self.body)).to_owned()
    }

    /// The name of the reason, `None` when a token was given.
    pub fn reason(&self) -> Option<&str> {
        if self.status == 200 { None } else { self.body["error_reason"].as_str() }
    }
}

/// Exchanges a token at a gateway. `more`: further parameters.
pub async fn exchange(gateway: &str, subject_token: &str, more: &[(&str, &str)]) -> Answer {
    post_form(gateway, form(subject_token, more), &[]).await
}

/// The form with which a token is exchanged. `more`: further parameters.
pub fn form(subject_token: &str, more: &[(&str, &str)]) -> String {
    let parameters = [("grant_type", TOKEN_EXCHANGE), ("subject_token", subject_token), ("subject_token_type", JWT)];
    encode(&[&parameters, more].concat())
}

/// Sends these form parameters to a gateway's token endpoint.
pub async fn post(gateway: &str, parameters: &[(&str, &str)]) -> Answer {
    post_form(gateway, encode(parameters), &[]).await
}

/// Exchanges a token at a gateway, with these headers.
pub async fn exchange_with_headers(gateway: &str, subject_token: &str, headers: &[(&str, &str)]) -> Answer {
    post_form(gateway, form(subject_token, &[]), headers).await
}

fn encode(parameters: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

async fn post_form(gateway: &str, body: String, headers: &[(&str, &str)]) -> Answer {
    let request = client().post(format!("{gateway}/oauth2/token"));
    let mut request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.expect("the gateway answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.expect("the answer is text");
    let body = serde_json::from_str(&text).unwrap_or_else(|error| panic!("status {status}, {error}: {text}"));
    Answer { status, headers, body }
}

/// A public JSON document.
pub async fn document(url: &str) -> Value {
    let response = client().get(url).send().await.unwrap_or_else(|error| panic!("{url}: {error}"));
    assert_eq!(response.status().as_u16(), 200, "{url}");
    let text = response.text().await.expect("the document is text");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{url}: {error}: {text}"))
}

/// One client for all tests, as making one reads the system's certificates. Each test has a runtime of its own, which a
/// connection does not outlive, so none is kept.
fn client() -> &'static reqwest::Client {
    static CLIENT: LazyLock<reqwest::Client> =
        LazyLock::new(|| reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy().build().expect("a client can be made"));
    &CLIENT
}
