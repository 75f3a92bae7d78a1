//! The guard behind rule 1 of the design: nothing outside is touched while a transaction is open.
//!
//! The store runs every transaction inside [`in_transaction`]; every driver method starts with [`check`].

use std::future::Future;

tokio::task_local! {
    static IN_TRANSACTION: ();
}

/// Runs `work` marked as holding an open transaction.
pub async fn in_transaction<F: Future>(work: F) -> F::Output {
    IN_TRANSACTION.scope((), work).await
}

/// Asserts that this task holds no open transaction. Always on.
///
/// # Panics
/// When it does: that is a mistake in our own code, found by any test that takes the path.
pub fn check(call: &str) {
    assert!(IN_TRANSACTION.try_with(|()| ()).is_err(), "{call} was called while a transaction was open");
}
