//! Pages of lists, as the store knows them.

use countersign_runtime::page_request;
use countersign_store::trust::{Page, PageKey};

/// A page that was asked for.
pub(crate) type PageRequest<'a> = page_request::PageRequest<'a, String>;
/// Where an element stands in a list.
pub(crate) type Position = page_request::Position<String>;

/// What to ask the store for.
pub(crate) fn query(page: &PageRequest<'_>) -> Page {
    let after = page.after().map(|last| PageKey { created_at: last.created_at, id: last.id.clone() });
    Page { after, limit: page.limit() }
}
