//! Limits on what one owner can have, checked inside the transaction that adds to it.

use sea_orm::sea_query::Expr;
use sea_orm::{DatabaseTransaction, DbErr, EntityTrait, QuerySelect as _, Select};

/// Returns whether `held` matches at least `most` rows.
///
/// The answer holds until the commit only under a lock that every writer of these rows takes.
pub(crate) async fn is_reached<E: EntityTrait>(
    transaction: &DatabaseTransaction,
    held: Select<E>,
    most: u64,
) -> Result<bool, DbErr> {
    let Some(before_last) = most.checked_sub(1) else { return Ok(true) };
    // No row beyond the quota is read.
    let last = held.select_only().expr(Expr::val(1)).offset(before_last).limit(1).into_tuple::<i32>();
    Ok(last.one(transaction).await?.is_some())
}
