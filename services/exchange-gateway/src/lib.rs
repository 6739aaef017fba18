//! See `start`.
