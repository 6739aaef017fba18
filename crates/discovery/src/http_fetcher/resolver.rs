//! From names to addresses that may be dialled.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use tower::Service;

use crate::address::{self, AddressRules};
use crate::fetch::Reach;

/// Finds the addresses of a name.
#[async_trait]
pub(super) trait Lookup: Send + Sync + fmt::Debug {
    async fn lookup(&self, name: &str) -> io::Result<Vec<SocketAddr>>;
}

/// As the system does.
#[derive(Debug)]
pub(super) struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.collect())
    }
}

/// The name leads nowhere.
#[derive(Debug, thiserror::Error)]
#[error("the name cannot be resolved")]
pub(crate) struct UnknownHost(#[source] io::Error);

/// Resolves names and refuses those with an address that may not be dialled. What it returns is what is dialled, so a name that
/// changes its answer between check and use gains nothing (SECURITY 39).
#[derive(Debug, Clone)]
pub(super) struct GuardedResolver {
    pub(super) rules: Arc<AddressRules>,
    pub(super) lookup: Arc<dyn Lookup>,
    /// Where it notes whether it leads to the public internet.
    pub(super) reach: Arc<Reach>,
}

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { rules, lookup, reach } = self.clone();
        Box::pin(async move {
            let addresses = lookup.lookup(name.as_str()).await.map_err(UnknownHost)?;
            let ips: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
            rules.check_all(&ips)?;
            if ips.iter().copied().all(address::is_public_address) {
                reach.note_public();
            }
            Ok(addresses.into_iter())
        })
    }
}
