//! What can go wrong with a request.

use std::error::Error;
use std::io;

use crate::server::NoServer;

/// Why there is no answer. The URL is left out: what an operator needs of it is logged beside this.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("nobody can be asked")]
    Server(#[from] NoServer),
    #[error("the request cannot be written")]
    Unwritable(#[from] http::Error),
    #[error("the server cannot be dialled")]
    Dial(#[source] Box<dyn Error + Send + Sync>),
    #[error("the proxy leads nowhere")]
    Tunnel(#[source] Box<dyn Error + Send + Sync>),
    #[error("there is no TLS with the server")]
    Tls(#[source] io::Error),
    #[error("no connection within 2 s")]
    NotConnected,
    #[error("no answer within 5 s")]
    TimedOut,
    #[error("the server does not speak HTTP as it should")]
    Exchange(#[from] hyper::Error),
    #[error("the answer is not in the encoding that it names")]
    Encoding(#[source] io::Error),
}
