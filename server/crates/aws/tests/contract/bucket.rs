//! The installation's bucket: what goes in comes out, small and large, and two installations never meet in it.

use futures_util::TryStreamExt as _;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use paas_aws::Aws;
use paas_aws::bucket::bucket;
use paas_domain::InstallId;
use tokio::io::AsyncWriteExt as _;

use crate::support;

#[tokio::test]
async fn objects_come_back_as_they_went() {
    let aws = support::account(&InstallId::random()).await;
    support::make_bucket(&aws).await;
    let store = bucket(&aws).expect("a bucket");
    // In three parts, as sources and packs are sent.
    let mut large = vec![0; 20 << 20];
    getrandom::fill(&mut large).expect("random bytes");
    let mut writer = BufWriter::with_capacity(store.clone(), Path::from("packs/a/large"), 8 << 20);
    writer.write_all(&large).await.expect("written");
    writer.shutdown().await.expect("closed");
    store.put(&Path::from("packs/a/empty"), Vec::new().into()).await.expect("put");
    let found = store.get(&Path::from("packs/a/large")).await.expect("there").bytes().await.expect("bytes");
    assert!(found == large, "{} bytes", found.len());
    let missing = store.get(&Path::from("packs/a/none")).await.expect_err("not there");
    assert!(matches!(missing, object_store::Error::NotFound { .. }), "{missing}");

    let foundation = aws.foundation.clone();
    let other = Aws::new(support::options(), foundation, InstallId::random()).await;
    assert!(keys(&*bucket(&other).expect("a bucket")).await.is_empty());
    assert_eq!(keys(&*store).await, ["packs/a/empty", "packs/a/large"]);
    for key in keys(&*store).await {
        store.delete(&Path::from(key)).await.expect("deleted");
    }
    assert!(keys(&*store).await.is_empty());
}

async fn keys(store: &dyn ObjectStore) -> Vec<String> {
    let objects: Vec<_> = store.list(None).try_collect().await.expect("a list");
    let mut keys: Vec<_> = objects.into_iter().map(|object| object.location.to_string()).collect();
    keys.sort();
    keys
}
