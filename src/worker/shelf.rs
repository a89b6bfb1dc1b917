//! Object storage: scripts are fetched from it, logs are put there.

use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::{Path, PathPart};
use object_store::{Error, ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};

use crate::wire::Assignment;

/// A script is a text that somebody wrote; what is larger is something else.
const LARGEST_SCRIPT: usize = 16 * 1024 * 1024;

/// A folder, or a bucket where the program was built with the feature `s3`.
pub struct Shelf {
    store: Arc<dyn ObjectStore>,
    /// What the names of objects may begin with, and is not a part of them: `s3://bucket/`.
    address: String,
    /// Where the store is a folder.
    folder: Option<PathBuf>,
}

/// Why there is no script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Trying again changes nothing.
    ForGood(String),
    /// The store does not answer.
    ForNow(String),
}

impl Shelf {
    /// A folder that is there, or `s3://bucket/prefix`, of which the rest (region, endpoint, credentials) comes from the
    /// usual variables `AWS_…`.
    pub fn open(address: &str) -> Result<Shelf, String> {
        if address.starts_with("s3://") {
            return bucket(address);
        }
        let folder = address.strip_prefix("file://").unwrap_or(address);
        if !std::path::Path::new(folder).is_dir() {
            return Err(format!(
                "the folder `{folder}` is not there; make it, or name another"
            ));
        }
        let store = LocalFileSystem::new_with_prefix(folder)
            .map_err(|error| format!("the folder `{folder}` cannot be used: {error}"))?;
        Ok(Shelf {
            store: Arc::new(store),
            address: format!("file://{folder}/"),
            folder: Some(PathBuf::from(folder)),
        })
    }

    /// The script that a plugin names: its path in the store, and after `#sha256=` what it must come to.
    pub async fn script(&self, artefact: &str) -> Result<Vec<u8>, Missing> {
        let (name, sum) = match artefact.split_once('#') {
            None => (artefact, None),
            Some((name, rest)) => match rest.strip_prefix("sha256=") {
                Some(sum) => (name, Some(sum)),
                None => {
                    let what = format!(
                        "artefact `{artefact}`: after `#` stands `sha256=` and the checksum in hex"
                    );
                    return Err(Missing::ForGood(what));
                }
            },
        };
        let path = self.path(name)?;
        let script = self.read(&path).await?;
        if let Some(sum) = sum {
            let found = hex(&Sha256::digest(&script));
            if !found.eq_ignore_ascii_case(sum) {
                return Err(Missing::ForGood(format!(
                    "artefact `{name}` has the checksum {found}, not {sum}: it is not the one that was declared"
                )));
            }
        }
        Ok(script)
    }

    fn path(&self, name: &str) -> Result<Path, Missing> {
        let inside = name.strip_prefix(&self.address).unwrap_or(name);
        if inside.contains("://") {
            return Err(Missing::ForGood(format!(
                "artefact `{name}` is not in the store of this worker, which is {}",
                self.address
            )));
        }
        Path::parse(inside).map_err(|error| {
            Missing::ForGood(format!("artefact `{name}` is no path in a store: {error}"))
        })
    }

    async fn read(&self, path: &Path) -> Result<Vec<u8>, Missing> {
        let gone = || self.folder.as_ref().is_some_and(|folder| !folder.is_dir());
        let missing = |error: Error| match error {
            // A disk that is not mounted has no scripts, and says nothing about them.
            Error::NotFound { .. } if gone() => {
                Missing::ForNow(format!("the store {} is gone", self.address))
            }
            Error::NotFound { .. } => Missing::ForGood(format!(
                "artefact `{path}` is not in the store {}; upload it",
                self.address
            )),
            Error::InvalidPath { .. } | Error::NotSupported { .. } => {
                Missing::ForGood(format!("artefact `{path}` cannot be read: {error}"))
            }
            error => Missing::ForNow(format!("the store {}: {error}", self.address)),
        };
        let found = self.store.get(path).await.map_err(missing)?;
        let mut parts = found.into_stream();
        let mut script = Vec::new();
        while let Some(part) = parts.next().await {
            script.extend_from_slice(&part.map_err(missing)?);
            if script.len() > LARGEST_SCRIPT {
                return Err(Missing::ForGood(format!(
                    "artefact `{path}` is larger than the {LARGEST_SCRIPT} bytes of a script"
                )));
            }
        }
        Ok(script)
    }

    /// Puts the log of an attempt where `log_path` says; answers with that.
    pub async fn put_log(&self, task: &Assignment, log: Vec<u8>) -> Result<String, String> {
        let path = log_path(task);
        match self.store.put(&path, log.into()).await {
            Ok(_) => Ok(path.to_string()),
            Err(error) => Err(format!("the store {}: {error}", self.address)),
        }
    }
}

/// `logs/<organisation>/<task id>/<attempt>.log`. What a path must not hold is written with percent signs.
fn log_path(task: &Assignment) -> Path {
    Path::from_iter([
        PathPart::from("logs"),
        PathPart::from(task.organization.as_str()),
        PathPart::from(task.id.as_str()),
        PathPart::from(format!("{}.log", task.attempt)),
    ])
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(feature = "s3")]
fn bucket(address: &str) -> Result<Shelf, String> {
    use object_store::aws::AmazonS3Builder;
    use object_store::prefix::PrefixStore;

    let wrong = |error: Error| format!("the store {address}: {error}");
    // The client takes whichever provider the process has.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let store = AmazonS3Builder::from_env()
        .with_url(address)
        .build()
        .map_err(wrong)?;
    let within = address
        .trim_start_matches("s3://")
        .split_once('/')
        .map_or("", |(_, prefix)| prefix);
    let prefix = Path::parse(within).map_err(|error| format!("the store {address}: {error}"))?;
    Ok(Shelf {
        store: Arc::new(PrefixStore::new(store, prefix)),
        address: format!("{}/", address.trim_end_matches('/')),
        folder: None,
    })
}

#[cfg(not(feature = "s3"))]
fn bucket(address: &str) -> Result<Shelf, String> {
    Err(format!(
        "this program was built without buckets, so `{address}` cannot be read; build it with `--features s3`, or name a folder"
    ))
}
