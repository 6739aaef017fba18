//! Errors as operators read them: the whole chain, in one line.

use std::error::Error;
use std::fmt;

/// Shows why an error came about: its causes, outermost first. Empty when there are none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Causes<'a>(pub(crate) &'a dyn Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut causes = std::iter::successors(self.0.source(), |&error| error.source());
        if let Some(first) = causes.next() {
            write!(f, "{first}")?;
        }
        causes.try_for_each(|cause| write!(f, ": {cause}"))
    }
}
