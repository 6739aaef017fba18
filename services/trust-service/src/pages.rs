//! Pages of lists.

use countersign_domain::time::Timestamp;
use countersign_proto::status::Refusal;
use countersign_runtime::page_token::PageTokens;
use countersign_store::trust::{Page, PageKey};

const DEFAULT_SIZE: u64 = 100;
const MAX_SIZE: u64 = 1_000;

/// A page that was asked for: of which list, how long, and after what.
pub(crate) struct PageRequest<'a> {
    tokens: &'a PageTokens,
    list: &'a [&'a [u8]],
    size: u64,
    after: Option<PageKey>,
}

impl<'a> PageRequest<'a> {
    /// Reads `page_size` and `page_token`. `list` says which list: method, workspace, and whatever filters it; a token of another
    /// list is refused (SECURITY 73).
    pub(crate) fn read(tokens: &'a PageTokens, list: &'a [&'a [u8]], page_size: i32, page_token: &str) -> Result<Self, Refusal> {
        let size = u64::try_from(page_size).map_err(|_| Refusal::invalid_field("page_size", "must not be negative"))?;
        let size = if size == 0 { DEFAULT_SIZE } else { size.min(MAX_SIZE) };
        let after = if page_token.is_empty() {
            None
        } else {
            // Only we can make an authentic token, so one that cannot be read is a fault of ours.
            Some(read_cursor(&tokens.open(list, page_token)?).ok_or_else(Refusal::internal)?)
        };
        Ok(Self { tokens, list, size, after })
    }

    /// What to ask the store for: one element more than the page holds, which tells whether there is another page.
    pub(crate) fn query(&self) -> Page {
        Page { after: self.after.clone(), limit: self.size + 1 }
    }

    /// Cuts what the store returned to the page, and makes the token of the next; empty on the last page.
    pub(crate) fn finish<T>(&self, elements: &mut Vec<T>, key: impl Fn(&T) -> PageKey) -> String {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        if elements.len() <= size {
            return String::new();
        }
        elements.truncate(size);
        elements.last().map(|last| self.tokens.issue(self.list, &cursor(&key(last)))).unwrap_or_default()
    }
}

fn cursor(key: &PageKey) -> Vec<u8> {
    let mut cursor = key.created_at.as_microsecond().to_be_bytes().to_vec();
    cursor.extend_from_slice(key.id.as_bytes());
    cursor
}

fn read_cursor(cursor: &[u8]) -> Option<PageKey> {
    let (time, id) = cursor.split_first_chunk()?;
    let created_at = Timestamp::from_microsecond(i64::from_be_bytes(*time)).ok()?;
    Some(PageKey { created_at, id: String::from_utf8(id.to_vec()).ok()? })
}
