//! Certificates and keys, from the files that a listener's options name to what rustls works with.
//!
//! An error names the key of the configuration and the file, and what is wrong; never what is in a
//! key or a password.

use std::fmt::{self, Display, Formatter};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use webpki::EndEntityCert;
use x509_cert::der::DateTime;

use super::clients::ClientVerifier;
use super::{certificate, ciphers};
use crate::config::settings::{TlsIdentity, TlsOptions, TlsVersion};
use crate::secret::Secret;

/// Far more than any chain of certificates.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// What `openssl` writes before a key that it has encrypted in its old way.
const OLD_ENCRYPTION: &str = "Proc-Type: 4,ENCRYPTED";
const CONVERT: &str = "is encrypted in OpenSSL's old form: `openssl pkcs8 -topk8` converts it";
const WRONG_PASSWORD: &str =
    "cannot be decrypted: the password is wrong, or the key not encrypted by PBES2 with AES";
const ENCRYPTED_KEY: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";

/// Why a listener's TLS material cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsError {
    /// The key of the configuration.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Display for TlsError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

impl std::error::Error for TlsError {}

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dates {
    /// Seconds of Unix time.
    pub not_before_s: u64,
    /// Seconds of Unix time.
    pub not_after_s: u64,
}

impl Dates {
    /// The end, as RabbitMQ's API writes it.
    #[must_use]
    pub fn end(&self) -> String {
        let end = DateTime::from_unix_duration(Duration::from_secs(self.not_after_s));
        end.map_or_else(
            |_| String::new(),
            |it| {
                let (date, time) = ((it.year(), it.month(), it.day()), (it.hour(), it.minutes()));
                format!(
                    "{}-{:02}-{:02} {}:{:02}:{:02}",
                    date.0,
                    date.1,
                    date.2,
                    time.0,
                    time.1,
                    it.seconds()
                )
            },
        )
    }
}

/// What was read.
#[derive(Debug)]
pub(super) struct Material {
    pub(super) config: Arc<ServerConfig>,
    /// The listener's certificate and what came with it.
    pub(super) own: Vec<Dates>,
    /// Whose signature clients' certificates must bear.
    pub(super) authorities: Vec<Dates>,
}

/// What tells whether files have changed; none for one that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamps(Vec<Option<Stamp>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamps {
    pub(super) fn of(options: &TlsOptions) -> Self {
        let identities = options.identities();
        let files = identities.flat_map(|it| [&it.certfile, &it.keyfile]);
        let stamp = |path: &PathBuf| {
            let file = std::fs::metadata(path).ok()?;
            let modified = (file.mtime(), file.mtime_nsec());
            Some(Stamp { device: file.dev(), inode: file.ino(), bytes: file.len(), modified })
        };
        let files = files.chain([&options.cacertfile]).flatten();
        Self(files.map(stamp).collect())
    }
}

/// Reads one listener's files.
struct Reader<'r> {
    prefix: &'r str,
    options: &'r TlsOptions,
    provider: Arc<CryptoProvider>,
}

impl Material {
    pub(super) fn read(prefix: &str, options: &TlsOptions) -> Result<Self, TlsError> {
        let names = options.ciphers.values().map(String::as_str);
        let provider = Arc::new(ciphers::provider(names));
        let reader = Reader { prefix, options, provider };
        reader.check_ciphers()?;
        let identity = reader.identity(&options.identity, "")?;
        let own = dates(&identity.cert);
        let mut others = Vec::new();
        for (name, other) in &options.certificates {
            let identity = reader.identity(other, &format!("certificates.{name}."))?;
            others.push(Arc::new(identity));
        }
        let (verifier, authorities) = reader.clients()?;
        let wrong = |error: rustls::Error| reader.error("versions", error.to_string());
        let versions = reader.versions();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&reader.provider))
            .with_protocol_versions(&versions)
            .map_err(wrong)?;
        let with_clients = verifier.is_some();
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::new(verifier)),
            None => builder.with_no_client_auth(),
        };
        let identities = Identities { default: Arc::new(identity), others };
        let mut config = builder.with_cert_resolver(Arc::new(identities));
        config.ignore_client_order = options.honor_cipher_order;
        if with_clients {
            // A resumed session would outlive the certificate that it was begun with.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self { config: Arc::new(config), own, authorities })
    }

    /// Whether the listener's certificate is valid now.
    pub(super) fn check_dates(
        &self,
        prefix: &str,
        options: &TlsOptions,
        now_s: u64,
    ) -> Result<(), TlsError> {
        let wrong = match self.own.first() {
            Some(dates) if dates.not_after_s < now_s => "has expired",
            Some(dates) if dates.not_before_s > now_s => "is not valid yet",
            _ => return Ok(()),
        };
        let file = options.identity.certfile.as_deref().unwrap_or_else(|| Path::new(""));
        let reason = format!("the certificate in {} {wrong}", file.display());
        Err(TlsError { key: format!("{prefix}.certfile"), reason })
    }
}

impl Reader<'_> {
    fn error(&self, option: &str, reason: impl Into<String>) -> TlsError {
        TlsError { key: format!("{}.{option}", self.prefix), reason: reason.into() }
    }

    fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let named: Vec<TlsVersion> = self.options.versions.values().copied().collect();
        let mut versions = Vec::new();
        for (version, supported) in
            [(TlsVersion::V13, &rustls::version::TLS13), (TlsVersion::V12, &rustls::version::TLS12)]
        {
            if named.is_empty() || named.contains(&version) {
                versions.push(supported);
            }
        }
        versions
    }

    fn check_ciphers(&self) -> Result<(), TlsError> {
        let versions = self.versions();
        let usable = |version: &&SupportedProtocolVersion| {
            let suites = &self.provider.cipher_suites;
            suites.iter().any(|suite| suite.version().version == version.version)
        };
        if versions.iter().any(usable) {
            return Ok(());
        }
        let reason = "none of these cipher suites is there for the protocol versions in use";
        Err(self.error("ciphers", reason))
    }

    /// A certificate with its chain, and its key. `under` is where the options stand.
    fn identity(&self, identity: &TlsIdentity, under: &str) -> Result<CertifiedKey, TlsError> {
        let option = |name: &str| format!("{under}{name}");
        let missing = |name: &str| self.error(&option(name), "a TLS listener needs it");
        let certfile = identity.certfile.as_ref().ok_or_else(|| missing("certfile"))?;
        let keyfile = identity.keyfile.as_ref().ok_or_else(|| missing("keyfile"))?;
        let chain = self.certificates(&option("certfile"), certfile)?;
        let text = self.file(&option("keyfile"), keyfile)?;
        let text = String::from_utf8_lossy(&text);
        let key = private_key(&text, identity.password.as_ref()).map_err(|wrong| {
            let (name, reason) = match wrong {
                KeyError::NoPassword => ("password", "is encrypted; it needs this password"),
                KeyError::WrongPassword => ("password", WRONG_PASSWORD),
                KeyError::OldEncryption => ("keyfile", CONVERT),
                KeyError::NoKey => ("keyfile", "is not there, or not of a known kind"),
            };
            let reason = format!("the key in {} {reason}", keyfile.display());
            self.error(&option(name), reason)
        })?;
        CertifiedKey::from_der(chain, key, &self.provider).map_err(|error| {
            let (key, certificate) = (keyfile.display(), certfile.display());
            let reason = match error {
                rustls::Error::InconsistentKeys(_) => {
                    format!("the key in {key} does not belong to the certificate in {certificate}")
                }
                other => format!("the key in {key} cannot be used: {other}"),
            };
            self.error(&option("keyfile"), reason)
        })
    }

    /// Who vouches for clients, if anyone has to.
    fn clients(&self) -> Result<(Option<ClientVerifier>, Vec<Dates>), TlsError> {
        let options = self.options;
        if !options.verify_peer {
            if options.fail_if_no_peer_cert {
                let reason = format!("it needs {}.verify = verify_peer", self.prefix);
                return Err(self.error("fail_if_no_peer_cert", reason));
            }
            return Ok((None, Vec::new()));
        }
        let none = || self.error("cacertfile", "verify_peer needs the certificates of authorities");
        let path = options.cacertfile.as_ref().ok_or_else(none)?;
        let authorities = self.certificates("cacertfile", path)?;
        let dates = dates(&authorities);
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(|error| {
                let reason = format!("{} holds one that cannot be used: {error}", path.display());
                self.error("cacertfile", reason)
            })?;
        }
        let (depth, is_required) = (options.depth, options.fail_if_no_peer_cert);
        let verifier = ClientVerifier::new(roots, &self.provider, depth, is_required);
        let verifier = verifier.map_err(|error| self.error("cacertfile", error.to_string()))?;
        Ok((Some(verifier), dates))
    }

    fn certificates(
        &self,
        option: &str,
        path: &Path,
    ) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let text = self.file(option, path)?;
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        match read {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            _ => Err(self.error(option, format!("no certificate in {}", path.display()))),
        }
    }

    fn file(&self, option: &str, path: &Path) -> Result<Vec<u8>, TlsError> {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
        match read {
            Ok(_) => Ok(bytes),
            Err(error) => {
                Err(self.error(option, format!("cannot read {}: {error}", path.display())))
            }
        }
    }
}

/// Why there is no private key.
#[derive(Debug, PartialEq, Eq)]
enum KeyError {
    NoKey,
    NoPassword,
    WrongPassword,
    OldEncryption,
}

fn private_key(text: &str, password: Option<&Secret>) -> Result<PrivateKeyDer<'static>, KeyError> {
    if text.contains(OLD_ENCRYPTION) {
        return Err(KeyError::OldEncryption);
    }
    let Some(at) = text.find(ENCRYPTED_KEY) else {
        return PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| KeyError::NoKey);
    };
    let password = password.ok_or(KeyError::NoPassword)?;
    let (_, encrypted) =
        pkcs8::SecretDocument::from_pem(text[at..].trim_end()).map_err(|_| KeyError::NoKey)?;
    let encrypted = pkcs8::EncryptedPrivateKeyInfoRef::try_from(encrypted.as_bytes())
        .map_err(|_| KeyError::NoKey)?;
    let key = encrypted.decrypt(password.expose()).map_err(|_| KeyError::WrongPassword)?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
}

fn dates(certificates: &[CertificateDer<'_>]) -> Vec<Dates> {
    let dates = certificates.iter().filter_map(certificate::validity);
    dates.map(|(not_before_s, not_after_s)| Dates { not_before_s, not_after_s }).collect()
}

/// A listener's certificates.
#[derive(Debug)]
struct Identities {
    /// For whoever names no host, or one that no other certificate is for.
    default: Arc<CertifiedKey>,
    others: Vec<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = host.and_then(|host| self.others.iter().find(|other| is_for(other, &host)));
        Some(Arc::clone(named.unwrap_or(&self.default)))
    }
}

fn is_for(identity: &CertifiedKey, host: &ServerName<'_>) -> bool {
    let certificate = identity.end_entity_cert().ok();
    let certificate = certificate.and_then(|it| EndEntityCert::try_from(it).ok());
    certificate.is_some_and(|it| it.verify_is_valid_for_subject_name(host).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `openssl genpkey -algorithm ed25519 | openssl pkcs8 -topk8 -v2 aes-256-cbc -passout ...`
    const ENCRYPTED: &str = include_str!("encrypted_key.pem");

    #[test]
    fn an_encrypted_key_needs_its_password() {
        let with = |password: &str| private_key(ENCRYPTED, Some(&Secret::from(password)));
        assert!(with("a test's secret").is_ok());
        assert_eq!(with("another").err(), Some(KeyError::WrongPassword));
        assert_eq!(private_key(ENCRYPTED, None).err(), Some(KeyError::NoPassword));
    }

    #[test]
    fn what_is_no_key_that_can_be_read_says_why() {
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n";
        assert_eq!(private_key(old, None).err(), Some(KeyError::OldEncryption));
        for text in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(private_key(text, None).err(), Some(KeyError::NoKey), "{text}");
        }
    }
}
