//! Whom backends and webhooks believe that they are who they say they are, by HTTPS.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Trusts those whose certificates are in the file, or those whom the system trusts.
///
/// # Errors
/// When the file holds no certificates.
pub fn trusting(cacertfile: Option<&Path>) -> Result<TlsConfig, String> {
    let roots = match cacertfile {
        Some(file) => certificates(file)?,
        None => system_roots(),
    };
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
        .build())
}

fn certificates(file: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let shown = |error: &dyn Display| format!("{}: {error}", file.display());
    let pem = std::fs::read(file).map_err(|error| shown(&error))?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| shown(&error))? {
            found.push(certificate);
        }
    }
    if found.is_empty() { Err(shown(&"there is no certificate in it")) } else { Ok(found) }
}

fn system_roots() -> Vec<Certificate<'static>> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!("certificates that the system trusts cannot be read: {error}");
    }
    found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect()
}
