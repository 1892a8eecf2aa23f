//! TLS as a listener needs it: certificates and keys from files, which clients are let in, and what
//! a handshake has agreed on, as operators see it. Everything above the sockets; the bytes are the
//! edge's.
//!
//! Invariants: what is current always works, since material that cannot be used is never put in its
//! place; a connection keeps what it was accepted with; no error names a secret.

mod certificate;
mod ciphers;
mod clients;
mod material;

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::{ServerConfig, ServerConnection};

use crate::broker::views::TlsView;
use crate::config::settings::{CertificateLogin, TlsOptions};
pub use material::{Dates, TlsError};
use material::{Material, Stamps};

/// A listener's TLS: its options, and the material that was last read from the files they name.
#[derive(Debug)]
pub struct ListenerTls {
    /// What its keys start with, such as `ssl_options`.
    prefix: &'static str,
    login: CertificateLogin,
    current: RwLock<Current>,
    /// What the files were last time, when they were not what is current.
    changing: Mutex<Option<Stamps>>,
}

#[derive(Debug)]
struct Current {
    options: TlsOptions,
    /// The files that were read last, for better or worse.
    stamps: Stamps,
    material: Material,
}

impl ListenerTls {
    /// Reads the files that the options name. `prefix` is what the options' keys start with.
    ///
    /// # Errors
    /// When the material is incomplete, unreadable or does not fit together.
    pub fn open(
        prefix: &'static str,
        options: TlsOptions,
        login: CertificateLogin,
    ) -> Result<Self, TlsError> {
        let stamps = Stamps::of(&options);
        let material = Material::read(prefix, &options)?;
        let current = RwLock::new(Current { options, stamps, material });
        Ok(Self { prefix, login, current, changing: Mutex::default() })
    }

    /// What the options' keys start with.
    #[must_use]
    pub fn prefix(&self) -> &'static str {
        self.prefix
    }

    /// What a connection that is accepted now is to use.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current.material.config)
    }

    /// The certificates in use and when they end: the listener's, then those of authorities.
    #[must_use]
    pub fn dates(&self) -> [Vec<Dates>; 2] {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        [current.material.own.clone(), current.material.authorities.clone()]
    }

    /// The files that the options name.
    #[must_use]
    pub fn options(&self) -> TlsOptions {
        self.current.read().unwrap_or_else(PoisonError::into_inner).options.clone()
    }

    /// Reads the files that these options name. Connections there are keep what they have.
    ///
    /// # Errors
    /// When the new material cannot be used, or its certificate is not valid at `now_s` (Unix
    /// time): then what is current stays.
    pub fn reload(&self, options: TlsOptions, now_s: u64) -> Result<(), TlsError> {
        let stamps = Stamps::of(&options);
        let read = Material::read(self.prefix, &options).and_then(|material| {
            material.check_dates(self.prefix, &options, now_s)?;
            Ok(material)
        });
        *self.changing.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(material) => {
                *current = Current { options, stamps, material };
                Ok(())
            }
            Err(error) => {
                current.stamps = stamps;
                Err(error)
            }
        }
    }

    /// Reads the files anew if they have changed, and have stayed the same since the last call:
    /// certificate and key are two files, and a new pair is not written in one step. `None` when
    /// nothing was to be done.
    pub fn reload_if_changed(&self, now_s: u64) -> Option<Result<(), TlsError>> {
        let (options, known) = {
            let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
            (current.options.clone(), current.stamps.clone())
        };
        let stamps = Stamps::of(&options);
        {
            let mut changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            if stamps == known {
                *changing = None;
                return None;
            }
            if changing.as_ref() != Some(&stamps) {
                *changing = Some(stamps);
                return None;
            }
        }
        Some(self.reload(options, now_s))
    }

    /// What a handshake has agreed on.
    #[must_use]
    pub fn view(&self, connection: &ServerConnection) -> TlsView {
        let [key_exchange, cipher] = ciphers::names(connection.negotiated_cipher_suite());
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        TlsView {
            protocol: match connection.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "tlsv1.3",
                _ => "tlsv1.2",
            },
            key_exchange,
            cipher,
            // Every suite there is authenticates as it encrypts.
            hash: "aead",
            certificate: shown.map(|shown| certificate::view(shown, &self.login)),
        }
    }
}
