//! One page of a list, from `page_size` and `page_token` to `next_page_token`.
//!
//! Lists are ordered by when their elements were made, and by id among those made at once; a page token holds the [`Position`] of
//! the last element of the page before.

use std::fmt::Display;
use std::str::FromStr;

use countersign_domain::values::reason::Reason;
use countersign_domain::values::time::Timestamp;
use countersign_domain::values::violation::Violations;
use countersign_proto::status::Refusal;

use crate::page_token::PageTokens;

/// The size of a page when the request says 0.
pub const DEFAULT_SIZE: u64 = 100;
/// The largest page. Who asks for more gets this much.
pub const MAX_SIZE: u64 = 1_000;
/// About as many bytes are on a page of large elements: clients read messages of at most 4 MiB unless told otherwise.
pub const MAX_BYTES: usize = 2 * 1024 * 1024;

/// Where an element stands in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position<I> {
    /// When the element was made, to the microsecond.
    pub created_at: Timestamp,
    /// Its id, which decides among elements made at once.
    pub id: I,
}

/// A page that was asked for: of which list, how long, and after what.
#[derive(Debug)]
pub struct PageRequest<'a, I> {
    tokens: &'a PageTokens,
    list: &'a [&'a [u8]],
    size: u64,
    after: Option<Position<I>>,
}

/// Notes what is wrong with a `page_size`, for who tells of everything wrong with a request at once.
pub fn check_size(page_size: i32, violations: &mut Violations) {
    if page_size < 0 {
        violations.add("page_size", "must not be negative");
    }
}

impl<'a, I: FromStr + Display> PageRequest<'a, I> {
    /// Reads `page_size` and `page_token`. `list` says which list: method, workspace, and whatever filters it; a token of another
    /// list is refused (SECURITY 73).
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a negative size; `PAGE_TOKEN_INVALID`, also for an authentic token whose position cannot be read,
    /// such as one of another version: to begin again in silence would have clients go round for ever.
    pub fn read(tokens: &'a PageTokens, list: &'a [&'a [u8]], page_size: i32, page_token: &str) -> Result<Self, Refusal> {
        let mut violations = Violations::new();
        check_size(page_size, &mut violations);
        violations.into_result(()).map_err(Refusal::invalid)?;
        let size = match u64::try_from(page_size) {
            Ok(0) | Err(_) => DEFAULT_SIZE,
            Ok(size) => size.min(MAX_SIZE),
        };
        let after = if page_token.is_empty() {
            None
        } else {
            let position = read_cursor(&tokens.open(list, page_token)?);
            Some(position.ok_or_else(|| Refusal::new(Reason::PageTokenInvalid, "the page token cannot be read"))?)
        };
        Ok(Self { tokens, list, size, after })
    }

    /// The last element of the page before; `None` on the first page.
    pub fn after(&self) -> Option<&Position<I>> {
        self.after.as_ref()
    }

    /// How many elements to ask the store for: one more than the page holds, which tells whether there is another page.
    pub fn limit(&self) -> u64 {
        self.size.saturating_add(1)
    }

    /// Cuts what the store returned to the page, and makes the token of the next; empty on the last page.
    pub fn finish<T>(&self, elements: &mut Vec<T>, position: impl Fn(&T) -> Position<I>) -> String {
        self.cut(elements, self.size(), position)
    }

    /// Like [`finish`](Self::finish), for elements that may be large: the page ends at [`MAX_BYTES`], though never before its
    /// first element. `bytes` says how long an element is on the wire.
    pub fn finish_large<T>(
        &self,
        elements: &mut Vec<T>,
        bytes: impl Fn(&T) -> usize,
        position: impl Fn(&T) -> Position<I>,
    ) -> String {
        let mut total = 0_usize;
        let fitting = elements.iter().take_while(|element| {
            total = total.saturating_add(bytes(element));
            total <= MAX_BYTES
        });
        let fitting = fitting.count().max(1);
        self.cut(elements, self.size().min(fitting), position)
    }

    /// The token of the page that begins after this position, for whoever reads past elements that he does not give.
    pub fn token_after(&self, position: &Position<I>) -> String {
        self.tokens.issue(self.list, &cursor(position))
    }

    /// How many elements the page may hold.
    pub fn size(&self) -> usize {
        usize::try_from(self.size).unwrap_or(usize::MAX)
    }

    fn cut<T>(&self, elements: &mut Vec<T>, size: usize, position: impl Fn(&T) -> Position<I>) -> String {
        if elements.len() <= size {
            return String::new();
        }
        elements.truncate(size);
        elements.last().map(|last| self.token_after(&position(last))).unwrap_or_default()
    }
}

fn cursor<I: Display>(position: &Position<I>) -> Vec<u8> {
    format!("{} {}", position.created_at.as_microsecond(), position.id).into_bytes()
}

fn read_cursor<I: FromStr>(cursor: &[u8]) -> Option<Position<I>> {
    let (micros, id) = std::str::from_utf8(cursor).ok()?.split_once(' ')?;
    Some(Position { created_at: Timestamp::from_microsecond(micros.parse().ok()?).ok()?, id: id.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use countersign_jose::secret::DeploymentSecret;

    use super::*;
    use crate::page_token::PURPOSE;

    const LIST: &[&[u8]] = &[b"ListIssuers", b"ws_a"];

    fn tokens() -> PageTokens {
        PageTokens::new(DeploymentSecret::from_bytes(&[1; 32]).unwrap().derive(PURPOSE))
    }

    fn at(id: u32) -> Position<u32> {
        Position { created_at: Timestamp::from_microsecond(-5).unwrap(), id }
    }

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let tokens = tokens();
        let all = [1, 2, 3, 4, 5];
        let (mut seen, mut page_token) = (Vec::new(), String::new());
        loop {
            let page = PageRequest::<u32>::read(&tokens, LIST, 2, &page_token).unwrap();
            let after = page.after().map_or(0, |position| position.id);
            let limit = usize::try_from(page.limit()).unwrap();
            let mut elements: Vec<u32> = all.into_iter().filter(|&id| id > after).take(limit).collect();
            page_token = page.finish(&mut elements, |&id| at(id));
            assert!(elements.len() <= 2);
            seen.extend(elements);
            if page_token.is_empty() {
                break;
            }
            assert_eq!(PageRequest::read(&tokens, LIST, 2, &page_token).unwrap().after(), seen.last().map(|&id| at(id)).as_ref());
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn a_page_of_large_elements_ends_early_but_never_before_its_first() {
        let tokens = tokens();
        let page = PageRequest::<u32>::read(&tokens, LIST, 4, "").unwrap();
        let bytes = |&element: &u32| usize::try_from(element).unwrap();
        let half = u32::try_from(MAX_BYTES / 2).unwrap();
        for (mut elements, fit) in [
            (vec![half, half, 1], 2),
            (vec![half, half + 1, 1], 1),
            (vec![half * 3, 1], 1),
            (vec![half, half], 2),
            (vec![1; 5], 4),
        ] {
            let all = elements.len();
            let page_token = page.finish_large(&mut elements, bytes, |&id| at(id));
            assert_eq!((elements.len(), page_token.is_empty()), (fit, fit == all), "{elements:?}");
        }
    }

    #[test]
    fn an_unreadable_position_is_refused() {
        let tokens = tokens();
        for cursor in ["", "5", "x 5", "5 x", "99999999999999999999 5", "5  5", "\u{e9} 5"] {
            let token = tokens.issue(LIST, cursor.as_bytes());
            let refusal = PageRequest::<u32>::read(&tokens, LIST, 2, &token).unwrap_err();
            assert_eq!(refusal.reason(), Reason::PageTokenInvalid, "{cursor:?}");
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let tokens = tokens();
        for (asked, limit) in [(0, 101), (1, 2), (1_000, 1_001), (i32::MAX, 1_001)] {
            assert_eq!(PageRequest::<u32>::read(&tokens, LIST, asked, "").unwrap().limit(), limit, "{asked}");
        }
        let refusal = PageRequest::<u32>::read(&tokens, LIST, -1, "").unwrap_err();
        assert_eq!(refusal.reason(), Reason::InvalidRequest);
    }
}
