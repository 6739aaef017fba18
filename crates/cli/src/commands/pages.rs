//! Lists that come in pages.

use std::future::Future;

use tonic::Status;

/// How many items to ask for at once: the most a service gives.
pub(crate) const PAGE_SIZE: i32 = 1000;

/// Asks for page after page until there is no next one. `page` takes a page token and gives the items and the next token.
///
/// # Errors
/// The first refusal.
pub(crate) async fn all<T, F>(mut page: impl FnMut(String) -> F) -> Result<Vec<T>, Status>
where
    F: Future<Output = Result<(Vec<T>, String), Status>>,
{
    let mut items = Vec::new();
    let mut token = String::new();
    loop {
        let (more, next) = page(token).await?;
        items.extend(more);
        if next.is_empty() {
            return Ok(items);
        }
        token = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pages_are_read_to_the_last() {
        let items = all(|token: String| async move {
            let page: u8 = token.parse().unwrap_or(0);
            let next = if page < 2 { (page + 1).to_string() } else { String::new() };
            Ok((vec![page], next))
        })
        .await
        .unwrap();
        assert_eq!(items, [0, 1, 2]);
    }

    #[tokio::test]
    async fn a_refusal_ends_the_list() {
        let result = all(|token: String| async move {
            if token.is_empty() { Ok((vec![1], "next".to_owned())) } else { Err(Status::unavailable("")) }
        })
        .await;
        assert!(result.is_err());
    }
}
