//! The promises of [`LogStore`] and [`OutputStore`], kept by the fake and by the files.

use std::sync::Arc;

use paas_logs::{FileLogStore, FileOutputStore};
use paas_ports::contract::log_store::LogBench;
use paas_ports::fake::log_store::{FakeLogStore, FakeLogWorld, FakeOutputStore};
use paas_ports::{LogStore, OutputStore};

#[derive(Default)]
struct FakeBench(Arc<FakeLogWorld>);

impl LogBench for FakeBench {
    async fn new() -> Self {
        Self::default()
    }

    fn logs(&self) -> Arc<dyn LogStore> {
        Arc::new(FakeLogStore(self.0.clone()))
    }

    fn outputs(&self) -> Arc<dyn OutputStore> {
        Arc::new(FakeOutputStore(self.0.clone()))
    }

    async fn restart(&mut self) {}
}

struct FileBench {
    dir: tempfile::TempDir,
    logs: Arc<FileLogStore>,
    outputs: Arc<FileOutputStore>,
}

impl FileBench {
    fn open(dir: tempfile::TempDir) -> Self {
        let logs = Arc::new(FileLogStore::open(dir.path().join("logs")).expect("open"));
        let outputs = Arc::new(FileOutputStore::open(dir.path().join("outputs")).expect("open"));
        Self { dir, logs, outputs }
    }
}

impl LogBench for FileBench {
    async fn new() -> Self {
        Self::open(tempfile::tempdir().expect("a folder"))
    }

    fn logs(&self) -> Arc<dyn LogStore> {
        self.logs.clone()
    }

    fn outputs(&self) -> Arc<dyn OutputStore> {
        self.outputs.clone()
    }

    /// Nothing is closed or flushed: the stores' last state is what is in the files.
    async fn restart(&mut self) {
        let path = self.dir.path();
        self.logs = Arc::new(FileLogStore::open(path.join("logs")).expect("open"));
        self.outputs = Arc::new(FileOutputStore::open(path.join("outputs")).expect("open"));
    }
}

mod fake {
    use super::FakeBench;
    paas_ports::log_store_contract!(FakeBench);
}

mod file {
    use super::FileBench;
    paas_ports::log_store_contract!(FileBench);
}
