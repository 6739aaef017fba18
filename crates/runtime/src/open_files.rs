//! How many files and connections the process can have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::concurrency::Share;

/// Descriptors that are kept for everything but connections: databases, peers, issuers, files.
const RESERVED: usize = 128;

/// Raises the limit to the highest that the process can give itself. What it starts with is often 1,024, for the sake of programs
/// that use `select`.
pub(crate) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// Bounds a number of connections by what the process can have open.
pub(crate) fn within(share: Share) -> Share {
    let open = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok());
    open.map_or(share, |open| bounded(share, open))
}

fn bounded(Share { total, per_peer }: Share, open_files: usize) -> Share {
    // At least a few: a process that accepts nothing is of no use.
    let most = (open_files.saturating_sub(RESERVED) / 4 * 3).max(16);
    Share { total: total.min(most), per_peer: per_peer.min(most) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s85_connections_leave_descriptors_for_everything_else() {
        let share = Share { total: 4096, per_peer: 1024 };
        assert_eq!(bounded(share, 1 << 20), share);
        assert_eq!(bounded(share, 1024), Share { total: 672, per_peer: 672 });
        assert_eq!(bounded(share, 256), Share { total: 96, per_peer: 96 });
        assert_eq!(bounded(share, 64), Share { total: 16, per_peer: 16 });
    }
}
