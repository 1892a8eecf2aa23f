//! Watches the files of certificates and keys: who renews one need not tell the broker.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::clock::Clock;
use crate::tls::{ListenerTls, TlsError};

/// How often the files are looked at. What has changed is read when it has not changed any more
/// by the next time.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Has certificates read again when their files have changed. Never ends.
pub async fn watch_certificates(listeners: Vec<Arc<ListenerTls>>, clock: Clock) {
    loop {
        sleep(LOOK_EVERY).await;
        for listener in &listeners {
            let looked = Arc::clone(listener);
            let now_s = clock.now().unix_ms / 1000;
            // A file system may take its time.
            let looked = tokio::task::spawn_blocking(move || looked.reload_if_changed(now_s));
            if let Ok(Some(reloaded)) = looked.await {
                note_reload(listener.prefix(), &reloaded);
            }
        }
    }
}

/// Says in the log what came of reading certificates again.
pub fn note_reload(prefix: &str, reloaded: &Result<(), TlsError>) {
    match reloaded {
        Ok(()) => tracing::info!("{prefix}: new connections get the certificate that was read now"),
        Err(error) => tracing::error!("the old certificate stays in use: {error}"),
    }
}
