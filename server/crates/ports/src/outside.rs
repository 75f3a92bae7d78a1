//! The guard behind a rule of the architecture: nothing outside is touched while a transaction is open.
//!
//! Every task that works on requests, jobs or reconciliation runs inside [`task`]; the store marks an open
//! transaction with [`enter`]; every driver method starts with [`check`]. Always on: it costs an atomic load.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

tokio::task_local! {
    static OPEN_TRANSACTIONS: Arc<AtomicU32>;
}

/// Runs a task's whole work such that its transactions are counted.
pub async fn task<F: Future>(work: F) -> F::Output {
    OPEN_TRANSACTIONS.scope(Arc::default(), work).await
}

/// Marks a transaction of this task as open until the guard is dropped.
///
/// # Panics
/// Outside of [`task`]: then nobody would notice a driver call inside the transaction.
#[must_use]
pub fn enter() -> OpenTransaction {
    let count = OPEN_TRANSACTIONS.try_with(Arc::clone).expect("transactions are opened inside outside::task");
    count.fetch_add(1, Ordering::Relaxed);
    OpenTransaction(count)
}

/// An open transaction of this task.
#[derive(Debug)]
pub struct OpenTransaction(Arc<AtomicU32>);

impl Drop for OpenTransaction {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Asserts that this task holds no open transaction.
///
/// # Panics
/// When it does: that is a mistake in our own code, found by any test that takes the path.
pub fn check(call: &str) {
    let open = OPEN_TRANSACTIONS.try_with(|count| count.load(Ordering::Relaxed)).unwrap_or(0);
    assert!(open == 0, "{call} was called while a transaction was open");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_inside_a_transaction_panics() {
        let inside = tokio::spawn(task(async {
            let _open = enter();
            check("Runtime::ensure");
        }));
        assert!(inside.await.is_err());
        let behind = tokio::spawn(task(async {
            drop(enter());
            check("Runtime::ensure");
        }));
        assert!(behind.await.is_ok());
    }
}
