//! One suite of promises per port; every driver passes the same one.
//!
//! A suite is a set of async functions over a *bench*: a trait that makes a driver and the world around it.
//! `tests/tests/contract/` (for AWS its crate's `tests/contract/`) instantiates each suite for each driver, one test per promise.

pub mod builder;
pub mod ingress;
pub mod log_store;
pub mod registry;
pub mod runtime;
pub mod secrets;

/// Makes one `#[tokio::test]` per promise of a suite. The bench is cleared away also when a promise is broken.
#[macro_export]
macro_rules! contract_tests {
    ($suite:ident, $bench_trait:ident, $bench:ty, [$($promise:ident),* $(,)?]) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            use $crate::contract::$suite::$bench_trait as _;
            let bench = std::sync::Arc::new(<$bench>::start().await);
            let kept = std::sync::Arc::clone(&bench);
            let result = tokio::spawn(async move { $crate::contract::$suite::$promise(&*kept).await }).await;
            bench.finish().await;
            if let Err(broken) = result {
                std::panic::resume_unwind(broken.into_panic());
            }
        }
    )*};
}
