//! The S3 server as tests see it: a client like any other.

use std::sync::Arc;

use anyhow::{Context, Result};
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

/// An object of the bucket.
#[derive(Clone, Debug)]
pub struct StoredObject {
    /// Key.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// Server-side encryption that was asked for, where the server tells.
    pub encryption: Option<String>,
    /// Tags as in the header, where the server tells.
    pub tags: Option<String>,
}

/// Where the server is and how to enter.
#[derive(Clone)]
pub struct S3Access {
    /// Endpoint as pods see it.
    pub endpoint: String,
    /// Endpoint as the tests see it.
    pub endpoint_here: String,
    /// Bucket.
    pub bucket: String,
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
}

impl S3Access {
    fn store(&self) -> Result<Arc<dyn ObjectStore>> {
        let store = AmazonS3Builder::new()
            .with_endpoint(&self.endpoint_here)
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_bucket_name(&self.bucket)
            .with_access_key_id(&self.access_key)
            .with_secret_access_key(&self.secret_key)
            .build()
            .context("the test's own S3 client cannot be made")?;
        Ok(Arc::new(store))
    }

    /// Every object of the bucket.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list(&self) -> Result<Vec<StoredObject>> {
        let listed: Vec<_> = self.store()?.list(None).try_collect().await?;
        Ok(listed
            .into_iter()
            .map(|o| StoredObject { key: o.location.to_string(), size: o.size, encryption: None, tags: None })
            .collect())
    }

    /// An object's bytes.
    ///
    /// # Errors
    /// When there is none.
    pub async fn read(&self, key: &str) -> Result<Vec<u8>> {
        Ok(self.store()?.get(&Path::parse(key)?).await?.bytes().await?.to_vec())
    }

    /// Replaces an object.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn write(&self, key: &str, bytes: Vec<u8>) -> Result<()> {
        self.store()?.put(&Path::parse(key)?, bytes.into()).await?;
        Ok(())
    }

    /// Removes an object.
    ///
    /// # Errors
    /// When the store refuses.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.store()?.delete(&Path::parse(key)?).await?;
        Ok(())
    }
}
