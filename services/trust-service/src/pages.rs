//! Pages of lists, as the store knows them.

use countersign_runtime::page_request;
use countersign_store::trust::{Page, PageKey};
use prost::Message;

/// A page that was asked for.
pub(crate) type PageRequest<'a> = page_request::PageRequest<'a, String>;
/// Where an element stands in a list.
pub(crate) type Position = page_request::Position<String>;

/// What to ask the store for.
pub(crate) fn query(page: &PageRequest<'_>) -> Page {
    let after = page.after().map(|last| PageKey { created_at: last.created_at, id: last.id.clone() });
    Page { after, limit: page.limit() }
}

/// The page as the wire has it, and the token of the next. A page of large elements ends early.
pub(crate) fn finish<'e, T, W>(page: &PageRequest<'_>, elements: &'e [T], position: impl Fn(&T) -> Position) -> (Vec<W>, String)
where
    W: Message + From<&'e T>,
{
    let mut written: Vec<_> = elements.iter().map(|element| (position(element), W::from(element))).collect();
    let next = page.finish_large(&mut written, |(_, element)| element.encoded_len(), |(position, _)| position.clone());
    (written.into_iter().map(|(_, element)| element).collect(), next)
}
