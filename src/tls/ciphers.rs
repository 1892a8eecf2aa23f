//! The cipher suites there are, by the names that RabbitMQ's configuration and its API give them.

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CipherSuite, SupportedCipherSuite};

struct Suite {
    id: CipherSuite,
    /// As OpenSSL and `ssl_options.ciphers` call it.
    openssl: &'static str,
    /// As the standards call it.
    standard: &'static str,
    /// As the management API calls the key exchange and the cipher.
    shown: [&'static str; 2],
}

const fn suite(
    id: CipherSuite,
    openssl: &'static str,
    standard: &'static str,
    shown: [&'static str; 2],
) -> Suite {
    Suite { id, openssl, standard, shown }
}

#[rustfmt::skip]
const SUITES: &[Suite] = &[
    suite(CipherSuite::TLS13_AES_256_GCM_SHA384,
        "TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384", ["any", "aes_256_gcm"]),
    suite(CipherSuite::TLS13_AES_128_GCM_SHA256,
        "TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256", ["any", "aes_128_gcm"]),
    suite(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        "TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256",
        ["any", "chacha20_poly1305"]),
    suite(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        ["ecdhe_ecdsa", "aes_256_gcm"]),
    suite(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ["ecdhe_ecdsa", "aes_128_gcm"]),
    suite(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        ["ecdhe_ecdsa", "chacha20_poly1305"]),
    suite(CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        ["ecdhe_rsa", "aes_256_gcm"]),
    suite(CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        ["ecdhe_rsa", "aes_128_gcm"]),
    suite(CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-RSA-CHACHA20-POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        ["ecdhe_rsa", "chacha20_poly1305"]),
];

/// What encrypts, with the suites of these names; with all of them when none is named. A name of a
/// suite that is not there offers nothing.
pub(super) fn provider<'n>(names: impl Iterator<Item = &'n str>) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let mut names = names.peekable();
    if names.peek().is_none() {
        return provider;
    }
    let named = names.filter_map(|name| {
        let suite = SUITES.iter().find(|suite| suite.openssl == name || suite.standard == name)?;
        provider.cipher_suites.iter().find(|offered| offered.suite() == suite.id).copied()
    });
    provider.cipher_suites = named.collect();
    provider
}

/// The key exchange and the cipher of a suite, as the management API shows them.
pub(super) fn names(suite: Option<SupportedCipherSuite>) -> [&'static str; 2] {
    let id = suite.map(|suite| suite.suite());
    SUITES.iter().find(|suite| Some(suite.id) == id).map_or(["", ""], |suite| suite.shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_that_is_offered_has_its_names() {
        let all = provider(std::iter::empty());
        assert_eq!(all.cipher_suites.len(), SUITES.len());
        for suite in all.cipher_suites {
            assert_ne!(names(Some(suite)), ["", ""], "{suite:?}");
        }
    }

    #[test]
    fn named_suites_are_offered_in_their_order_and_no_others() {
        let names = ["ECDHE-RSA-AES128-GCM-SHA256", "AES256-SHA", "TLS_AES_256_GCM_SHA384"];
        let offered = provider(names.into_iter()).cipher_suites;
        let offered: Vec<CipherSuite> = offered.iter().map(SupportedCipherSuite::suite).collect();
        let (rsa, tls13) = (
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            CipherSuite::TLS13_AES_256_GCM_SHA384,
        );
        assert_eq!(offered, [rsa, tls13]);
    }
}
