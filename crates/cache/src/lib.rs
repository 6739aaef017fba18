//! What gateways share to save work: the replay cache and the key set cache, in Redis or in an embedded twin for one process.
//!
//! Nothing here is an authority, and everything can be lost at any time (SECURITY 49): a miss costs a request or a transaction, never a
//! decision. Start at [`redis_link`] for how Redis can be away without anybody waiting for it.

pub mod key_set_cache;
pub mod redis_link;
pub mod replay;
