//! The options of TLS listeners: RabbitMQ's `ssl_options.*`, and the same under `management.ssl`
//! and `prometheus.ssl`. Whether the files they name can be used is found out when they are read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::keys::{Assignment, Draft, Key, key, path, secret, secret_key};
use super::value::{self, Reason};
use crate::secret::Secret;

/// A version of the protocol. There are no others: older ones are broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsIdentity {
    /// PEM: the certificate, then those that lead to an authority.
    pub certfile: Option<PathBuf>,
    /// PEM: its private key.
    pub keyfile: Option<PathBuf>,
    /// What the key is encrypted with.
    pub password: Option<Secret>,
}

/// What a TLS listener shows and asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// Shown to clients.
    pub identity: TlsIdentity,
    /// Shown instead to clients that ask for a host which one of them is for.
    pub certificates: BTreeMap<String, TlsIdentity>,
    /// PEM: the authorities whose clients are let in.
    pub cacertfile: Option<PathBuf>,
    /// Whether clients are asked for a certificate.
    pub verify_peer: bool,
    /// Whether they must show one.
    pub fail_if_no_peer_cert: bool,
    /// Certificates between a client's and an authority's at most.
    pub depth: u8,
    /// Versions by the name after `versions.`; none is all.
    pub versions: BTreeMap<String, TlsVersion>,
    /// Cipher suites by the name after `ciphers.`; none is all.
    pub ciphers: BTreeMap<String, String>,
    /// Whether the server's order of cipher suites counts, not the client's.
    pub honor_cipher_order: bool,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            identity: TlsIdentity::default(),
            certificates: BTreeMap::new(),
            cacertfile: None,
            verify_peer: false,
            fail_if_no_peer_cert: false,
            depth: 10,
            versions: BTreeMap::new(),
            ciphers: BTreeMap::new(),
            honor_cipher_order: false,
        }
    }
}

impl TlsOptions {
    /// Every certificate that is shown to some client.
    pub fn identities(&self) -> impl Iterator<Item = &TlsIdentity> {
        std::iter::once(&self.identity).chain(self.certificates.values())
    }
}

/// Where in a client's certificate the user stands whom EXTERNAL logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CertificateLogin {
    /// Which part it is.
    pub from: LoginFrom,
    /// Of alternative names, which kind.
    pub san_type: AlternativeName,
    /// Of those, which one, counted from 0.
    pub san_index: usize,
}

/// A part of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoginFrom {
    /// The whole subject, such as `CN=app,O=Example`.
    #[default]
    DistinguishedName,
    /// The subject's common name.
    CommonName,
    /// A subject alternative name.
    SubjectAlternativeName,
}

/// A kind of subject alternative names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AlternativeName {
    /// A host.
    #[default]
    Dns,
    /// An IP address.
    Ip,
    /// An email address.
    Email,
    /// A URI.
    Uri,
    /// Any other, as text.
    OtherName,
}

/// The keys of one listener's options. `$options` is where in a draft they go.
macro_rules! keys {
    ($prefix:literal, $options:path) => {
        &[
            key(concat!($prefix, ".certfile"), |d, a| {
                $options(d).identity.certfile = Some(path(a.value)?);
                Ok(())
            }),
            key(concat!($prefix, ".keyfile"), |d, a| {
                $options(d).identity.keyfile = Some(path(a.value)?);
                Ok(())
            }),
            secret_key(concat!($prefix, ".password"), |d, a| {
                $options(d).identity.password = Some(secret(a.value)?);
                Ok(())
            }),
            key(concat!($prefix, ".certificates.$name.certfile"), |d, a| {
                other($options(d), a).certfile = Some(path(a.value)?);
                Ok(())
            }),
            key(concat!($prefix, ".certificates.$name.keyfile"), |d, a| {
                other($options(d), a).keyfile = Some(path(a.value)?);
                Ok(())
            }),
            secret_key(concat!($prefix, ".certificates.$name.password"), |d, a| {
                other($options(d), a).password = Some(secret(a.value)?);
                Ok(())
            }),
            key(concat!($prefix, ".cacertfile"), |d, a| {
                $options(d).cacertfile = Some(path(a.value)?);
                Ok(())
            }),
            key(concat!($prefix, ".verify"), |d, a| {
                let words = [("verify_peer", true), ("verify_none", false)];
                $options(d).verify_peer = value::word(a.value, &words)?;
                Ok(())
            }),
            key(concat!($prefix, ".fail_if_no_peer_cert"), |d, a| {
                $options(d).fail_if_no_peer_cert = value::boolean(a.value)?;
                Ok(())
            }),
            key(concat!($prefix, ".depth"), |d, a| {
                $options(d).depth = value::number(a.value, 0..=255)?;
                Ok(())
            }),
            key(concat!($prefix, ".versions.$version"), |d, a| {
                $options(d).versions.insert(a.name(), version(a.value)?);
                Ok(())
            }),
            key(concat!($prefix, ".ciphers.$cipher"), |d, a| {
                $options(d).ciphers.insert(in_order(&a.name()), value::text(a.value, 255)?);
                Ok(())
            }),
            key(concat!($prefix, ".honor_cipher_order"), |d, a| {
                $options(d).honor_cipher_order = value::boolean(a.value)?;
                Ok(())
            }),
            key(concat!($prefix, ".crl_check"), |_, a| {
                value::word(a.value, &[("false", ())]).map_err(|reason| {
                    format!("lists of revoked certificates are not available: {reason}")
                })
            }),
        ]
    };
}

/// The keys of every listener's options.
pub(super) const KEYS: [&[Key]; 3] = [
    keys!("ssl_options", Draft::amqp_tls),
    keys!("management.ssl", Draft::management_tls),
    keys!("prometheus.ssl", Draft::prometheus_tls),
];

fn other<'d>(options: &'d mut TlsOptions, assignment: &Assignment<'_>) -> &'d mut TlsIdentity {
    options.certificates.entry(assignment.name()).or_default()
}

fn version(text: &str) -> Result<TlsVersion, Reason> {
    match text {
        "tlsv1.2" => Ok(TlsVersion::V12),
        "tlsv1.3" => Ok(TlsVersion::V13),
        "tlsv1" | "tlsv1.1" | "sslv3" => {
            Err(format!("{text} is not safe and not available; take tlsv1.2 or tlsv1.3"))
        }
        _ => Err(format!("expected tlsv1.2 or tlsv1.3, found '{text}'")),
    }
}

/// A name that sorts as its number does: the first cipher is the preferred one.
fn in_order(name: &str) -> String {
    name.parse::<u32>().map_or_else(|_| name.to_owned(), |number| format!("{number:010}"))
}
