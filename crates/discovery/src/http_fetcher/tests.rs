use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::net::TcpListener;

use super::*;
use crate::address::RefusedAddress;

/// Answers each look-up with the next of some lists of addresses.
#[derive(Debug)]
struct Rebinding(Mutex<VecDeque<Vec<&'static str>>>);

#[async_trait]
impl Lookup for Rebinding {
    async fn lookup(&self, _: &str) -> io::Result<Vec<SocketAddr>> {
        let addresses = self.0.lock().unwrap().pop_front().expect("no more look-ups than foreseen");
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect())
    }
}

fn fetcher(answers: &[&[&'static str]]) -> (HttpFetcher, Arc<Rebinding>) {
    let answers = answers.iter().map(|answer| answer.to_vec()).collect();
    let lookup = Arc::new(Rebinding(Mutex::new(answers)));
    let fetcher = HttpFetcher::with_lookup(AddressRules::default(), None, Arc::clone(&lookup) as Arc<dyn Lookup>).unwrap();
    (fetcher, lookup)
}

async fn fetch(fetcher: &HttpFetcher, port: u16) -> FetchError {
    let url = format!("https://rebinding.example:{port}/keys");
    fetcher.fetch(Wanted { url: &url, stored: Stored::Acceptable, authorities: None, reach: &Arc::default() }).await.unwrap_err()
}

/// Whether the address was refused, as against dialled in vain.
fn was_refused(error: &FetchError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<RefusedAddress>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[tokio::test]
async fn s39_a_name_that_changes_its_answer_is_never_dialled_at_the_bad_address() {
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = trap.local_addr().unwrap().port();
    // Good once would do for whoever checks first and resolves again for the connection. Here one look-up serves for both, so the
    // second answer, a bad one, belongs to the second request.
    let (fetcher, lookup) =
        fetcher(&[&["192.0.2.1", "127.0.0.1"], &["127.0.0.1"], &["::ffff:127.0.0.1"], &["64:ff9b::7f00:1"], &[]]);
    while !lookup.0.lock().unwrap().is_empty() {
        assert!(was_refused(&fetch(&fetcher, port).await));
    }
    let accepted = tokio::time::timeout(Duration::from_millis(100), trap.accept()).await;
    assert!(accepted.is_err(), "somebody connected");
}

#[tokio::test]
async fn s39_every_request_is_checked_anew() {
    let (fetcher, lookup) = fetcher(&[&["10.0.0.1"], &["169.254.169.254"]]);
    for left in [1, 0] {
        assert!(was_refused(&fetch(&fetcher, 8443).await));
        assert_eq!(lookup.0.lock().unwrap().len(), left);
    }
}
