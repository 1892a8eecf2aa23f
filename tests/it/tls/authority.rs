//! Authorities and the certificates that they sign, made for one test each.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use leveret::config::settings::{TlsIdentity, TlsOptions};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Who signs certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, and those that lead from it to the one at the top.
    chain: Vec<rcgen::Certificate>,
}

/// A certificate with its chain, and its key.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) chain_pem: String,
    pub(super) key_pem: String,
    key: Vec<u8>,
}

impl Authority {
    /// One that nobody vouches for.
    pub(super) fn new(name: &str) -> Self {
        let (params, key) = authority_params(name);
        let own = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), chain: vec![own] }
    }

    /// One that this one vouches for.
    pub(super) fn deputy(&self, name: &str) -> Self {
        let (params, key) = authority_params(name);
        let own = params.signed_by(&key, &self.issuer).unwrap();
        let chain = [own].into_iter().chain(self.chain.iter().cloned()).collect();
        Self { issuer: Issuer::new(params, key), chain }
    }

    /// A certificate for a server that is called so.
    pub(super) fn server(&self, host: &str) -> Identity {
        self.sign(CertificateParams::new(vec![host.to_owned()]).unwrap(), "server")
    }

    /// A certificate for a client whose common name is this.
    pub(super) fn client(&self, name: &str) -> Identity {
        self.client_with(name, |_| ())
    }

    /// The same, changed before it is signed.
    pub(super) fn client_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        self.sign(params, name)
    }

    fn sign(&self, mut params: CertificateParams, name: &str) -> Identity {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Hasen");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, &self.issuer).unwrap();
        // Whoever trusts the top need not be shown it.
        let chain: Vec<_> = [&own].into_iter().chain(&self.chain[..self.chain.len() - 1]).collect();
        Identity {
            chain: chain.iter().map(|it| it.der().clone()).collect(),
            chain_pem: chain.iter().map(|it| it.pem()).collect(),
            key_pem: key.serialize_pem(),
            key: key.serialize_der(),
        }
    }

    /// The certificate at the top, as a file holds it.
    pub(super) fn pem(&self) -> String {
        self.chain.last().unwrap().pem()
    }

    /// What a client of TLS 1.2 and 1.3 that trusts this authority brings along.
    pub(super) fn trusting(&self, own: Option<&Identity>) -> Arc<ClientConfig> {
        self.trusting_by(own, true)
    }

    /// The same of TLS 1.2 alone.
    pub(super) fn trusting_by_tls12(&self, own: Option<&Identity>) -> Arc<ClientConfig> {
        self.trusting_by(own, false)
    }

    fn trusting_by(&self, own: Option<&Identity>, with_tls13: bool) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.chain.last().unwrap().der().clone()).unwrap();
        let versions: &[_] = if with_tls13 { &[&TLS13, &TLS12] } else { &[&TLS12] };
        let builder = ClientConfig::builder_with_protocol_versions(versions);
        let builder = builder.with_root_certificates(roots);
        Arc::new(match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::try_from(own.key.clone()).unwrap();
                builder.with_client_auth_cert(own.chain.clone(), key).unwrap()
            }
        })
    }
}

fn authority_params(name: &str) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params, KeyPair::generate().unwrap())
}

impl Identity {
    /// Writes both files, over those of another.
    pub(super) fn write(&self, dir: &Path, name: &str) -> TlsIdentity {
        let file = |ending: &str, text: &str| -> Option<PathBuf> {
            let path = dir.join(format!("{name}.{ending}"));
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        TlsIdentity {
            certfile: file("pem", &self.chain_pem),
            keyfile: file("key", &self.key_pem),
            password: None,
        }
    }
}

/// Options that show this certificate, with the authority's beside it.
pub(super) fn options(dir: &Path, identity: &Identity, authority: &Authority) -> TlsOptions {
    let cacertfile = dir.join("ca.pem");
    std::fs::write(&cacertfile, authority.pem()).unwrap();
    TlsOptions {
        identity: identity.write(dir, "server"),
        cacertfile: Some(cacertfile),
        ..TlsOptions::default()
    }
}

/// The same, for clients that must show a certificate.
pub(super) fn mutual(dir: &Path, identity: &Identity, authority: &Authority) -> TlsOptions {
    let options = options(dir, identity, authority);
    TlsOptions { verify_peer: true, fail_if_no_peer_cert: true, ..options }
}

/// A server's name, as clients ask for it.
pub(super) fn host(name: &str) -> ServerName<'static> {
    name.to_owned().try_into().unwrap()
}
