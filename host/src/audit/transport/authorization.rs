//! What is shown to a server that takes records: the value of the header `authorization`, which stands in a private file and is read
//! anew each time, so that it can be replaced while the host runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aral_audit::sink::TransportError;
use aral_contract::failure::chain;
use aral_runtime::files;
use reqwest::header::HeaderValue;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Longest file with the value of a header, in bytes.
const AUTHORIZATION_BYTES_MAX: u64 = 8 << 10;

/// The file. It may lie on a mount that hangs, and one thread sends everything: another one waits for the file, and only one.
#[derive(Debug)]
pub(super) struct Authorization {
    path: PathBuf,
    reading: Arc<Semaphore>,
    timeout: Duration,
}

impl Authorization {
    /// `timeout` is for reading it once.
    pub(super) fn new(path: PathBuf, timeout: Duration) -> Self {
        Self {
            path,
            reading: Arc::new(Semaphore::new(1)),
            timeout,
        }
    }

    /// For whoever may wait for a disk.
    pub(super) fn read_now(&self) -> Result<HeaderValue, TransportError> {
        read(&self.path)
    }

    /// For whoever may not.
    pub(super) async fn read(&self) -> Result<HeaderValue, TransportError> {
        self.read_by(read).await
    }

    async fn read_by(
        &self,
        read: impl FnOnce(&Path) -> Result<HeaderValue, TransportError> + Send + 'static,
    ) -> Result<HeaderValue, TransportError> {
        let (path, reading) = (self.path.clone(), Arc::clone(&self.reading));
        let value = async move {
            let turn = reading.acquire_owned().await.map_err(|error| error.to_string())?;
            let read = move || {
                let value = read(&path);
                drop(turn);
                value
            };
            spawn_blocking(read).await.map_err(|error| error.to_string())
        };
        match tokio::time::timeout(self.timeout, value).await {
            Ok(value) => value.map_err(TransportError)?,
            Err(_) => Err(TransportError(format!(
                "`{}` could not be read within {} ms: does its disk answer?",
                self.path.display(),
                self.timeout.as_millis()
            ))),
        }
    }
}

fn read(path: &Path) -> Result<HeaderValue, TransportError> {
    let value = files::read_private(path, AUTHORIZATION_BYTES_MAX).map_err(|error| TransportError(chain(&error)))?;
    let mut value = HeaderValue::from_bytes(value.trim_ascii())
        .map_err(|_| TransportError(format!("`{}` holds no value of a header", path.display())))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex, mpsc};

    use super::*;

    #[tokio::test]
    async fn a_file_that_hangs_takes_one_thread_and_the_time_of_who_asks_and_is_read_once_it_does_not() {
        let authorization = Authorization::new("auth".into(), Duration::from_millis(100));
        let (answers, mount) = mpsc::channel::<()>();
        let (mount, begun) = (Arc::new(Mutex::new(mount)), Arc::new(AtomicUsize::new(0)));
        let read = || {
            let (mount, begun) = (Arc::clone(&mount), Arc::clone(&begun));
            authorization.read_by(move |_| {
                begun.fetch_add(1, Ordering::AcqRel);
                let _answered = mount.lock().unwrap().recv();
                Ok(HeaderValue::from_static("ApiKey abc"))
            })
        };
        for _ in 0..3 {
            let refused = read().await.unwrap_err().to_string();
            assert!(refused.contains("`auth` could not be read within 100 ms"), "{refused}");
        }
        assert_eq!(begun.load(Ordering::Acquire), 1);
        drop(answers);
        let mut last = read().await;
        for _ in 0..100 {
            if last.is_ok() {
                break;
            }
            last = read().await;
        }
        assert_eq!(last.unwrap(), "ApiKey abc");
    }
}
