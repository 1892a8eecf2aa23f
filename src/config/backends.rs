//! Who is asked who someone is and what they may do, and their keys: RabbitMQ's `auth_backends.*`,
//! `auth_http.*`, `auth_cache.*` and `auth_oauth2.*`. Whether the files they name can be used is
//! found out when they are read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::keys::{Assignment, Draft, Key, NAME_BYTES_MAX, TEXT_BYTES_MAX, key, path, pattern};
use super::settings::Auth;
use super::value::{self, Reason};

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuthBackend {
    /// The node's own records.
    #[default]
    Internal,
    /// A web service.
    Http,
    /// Whoever signs tokens.
    OAuth2,
}

impl AuthBackend {
    /// Their names in the configuration.
    pub const WORDS: [(&'static str, Self); 6] = [
        ("internal", Self::Internal),
        ("rabbit_auth_backend_internal", Self::Internal),
        ("http", Self::Http),
        ("rabbit_auth_backend_http", Self::Http),
        ("oauth2", Self::OAuth2),
        ("rabbit_auth_backend_oauth2", Self::OAuth2),
    ];
}

/// Who is asked who someone is, and who what they may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackendPair {
    /// Who they are.
    pub authn: AuthBackend,
    /// What they may do; the same one if `None`.
    pub authz: Option<AuthBackend>,
}

/// How a form is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpMethod {
    /// In the body.
    Post,
    /// In the query.
    Get,
}

/// A web service that knows users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAuth {
    /// How it is asked.
    pub method: HttpMethod,
    /// Where it is asked who someone is.
    pub user_path: String,
    /// Where it is asked who may enter a vhost.
    pub vhost_path: String,
    /// Where it is asked who may use an exchange or a queue.
    pub resource_path: String,
    /// Where it is asked who may use a routing key.
    pub topic_path: String,
    /// How long an answer may take.
    pub request_timeout_ms: u64,
    /// How long connecting may take.
    pub connection_timeout_ms: u64,
    /// The certificates of those whom it may be vouched for by; `None`: the usual ones.
    pub cacertfile: Option<PathBuf>,
    /// How long an answer holds.
    pub answers_hold_ms: u64,
}

impl Default for HttpAuth {
    /// RabbitMQ's, but for how long answers hold.
    fn default() -> Self {
        let path = |of: &str| format!("http://localhost:8000/auth/{of}");
        Self {
            method: HttpMethod::Get,
            user_path: path("user"),
            vhost_path: path("vhost"),
            resource_path: path("resource"),
            topic_path: path("topic"),
            request_timeout_ms: 15_000,
            connection_timeout_ms: 15_000,
            cacertfile: None,
            answers_hold_ms: 5_000,
        }
    }
}

/// Which tokens are taken, and what they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuth2 {
    /// What tokens call this broker.
    pub resource_server_id: String,
    /// What the scopes that count begin with; `None`: the resource server's id and a dot.
    pub scope_prefix: Option<String>,
    /// Paths of claims with more scopes, with spaces between.
    pub additional_scopes_key: Option<String>,
    /// Scopes that stand for others.
    pub scope_aliases: BTreeMap<String, Vec<String>>,
    /// Whether a token must name this broker as its audience.
    pub verify_aud: bool,
    /// Whether a token must end.
    pub require_exp: bool,
    /// Claims that name the user, before `sub` and `client_id`.
    pub preferred_username_claims: Vec<String>,
    /// The key of tokens that name none.
    pub default_key: Option<String>,
    /// Files with public keys in PEM, by the keys' ids.
    pub signing_keys: BTreeMap<String, PathBuf>,
    /// Where a set of keys is fetched.
    pub jwks_uri: Option<String>,
    /// A file with a set of keys, instead.
    pub jwks_file: Option<PathBuf>,
    /// Who vouches for where keys are fetched; `None`: whom the system trusts.
    pub cacertfile: Option<PathBuf>,
    /// Signature algorithms that are taken; empty: all with public keys.
    pub algorithms: Vec<String>,
}

impl OAuth2 {
    /// Signature algorithms there are.
    pub const ALGORITHMS: [&'static str; 12] = [
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256",
        "HS384", "HS512",
    ];
}

impl Default for OAuth2 {
    fn default() -> Self {
        Self {
            resource_server_id: String::new(),
            scope_prefix: None,
            additional_scopes_key: None,
            scope_aliases: BTreeMap::new(),
            verify_aud: true,
            require_exp: true,
            preferred_username_claims: Vec::new(),
            default_key: None,
            signing_keys: BTreeMap::new(),
            jwks_uri: None,
            jwks_file: None,
            cacertfile: None,
            algorithms: Vec::new(),
        }
    }
}

/// What is said of backends in several lines.
#[derive(Debug, Default)]
pub(super) struct BackendsDraft {
    pairs: BTreeMap<u64, PartialPair>,
    /// What stands for which scopes, by the index they share.
    aliases: BTreeMap<String, PartialAlias>,
    username_claims: BTreeMap<String, String>,
    algorithms: BTreeMap<String, String>,
}

/// A pair of backends whose halves may be named apart.
#[derive(Debug, Default)]
struct PartialPair {
    authn: Option<AuthBackend>,
    authz: Option<AuthBackend>,
}

impl PartialPair {
    /// Whoever is named alone does both.
    fn whole(self) -> BackendPair {
        let Self { authn, authz } = self;
        BackendPair { authn: authn.or(authz).unwrap_or_default(), authz }
    }
}

/// A scope and those it stands for, which are named apart.
#[derive(Debug, Default)]
struct PartialAlias {
    alias: Option<String>,
    scopes: Option<Vec<String>>,
}

impl BackendsDraft {
    /// The pair of this number.
    fn pair(&mut self, assigned: &Assignment<'_>) -> Result<&mut PartialPair, Reason> {
        let number = value::integer(&assigned.name(), 1..=1_000)?;
        Ok(self.pairs.entry(number).or_default())
    }

    fn alias(&mut self, assigned: &Assignment<'_>) -> &mut PartialAlias {
        self.aliases.entry(assigned.name()).or_default()
    }

    /// Completes the settings, once every source has been applied.
    pub(super) fn finish(self, settings: &mut Auth) {
        if !self.pairs.is_empty() {
            settings.backends = self.pairs.into_values().map(PartialPair::whole).collect();
        }
        let whole = |it: PartialAlias| it.alias.zip(it.scopes);
        settings.oauth2.scope_aliases.extend(self.aliases.into_values().filter_map(whole));
        settings.oauth2.preferred_username_claims = self.username_claims.into_values().collect();
        settings.oauth2.algorithms = self.algorithms.into_values().collect();
    }
}

/// The keys of backends.
pub(super) const KEYS: &[Key] = &[
    key("auth_backends.$num", |d, a| {
        d.backends.pair(a)?.authn = Some(value::word(a.value, &AuthBackend::WORDS)?);
        Ok(())
    }),
    key("auth_backends.$num.authn", |d, a| {
        d.backends.pair(a)?.authn = Some(value::word(a.value, &AuthBackend::WORDS)?);
        Ok(())
    }),
    key("auth_backends.$num.authz", |d, a| {
        d.backends.pair(a)?.authz = Some(value::word(a.value, &AuthBackend::WORDS)?);
        Ok(())
    }),
    key("auth_http.http_method", |d, a| {
        let methods = [("get", HttpMethod::Get), ("post", HttpMethod::Post)];
        d.settings.auth.http.method = value::word(a.value, &methods)?;
        Ok(())
    }),
    key("auth_http.user_path", |d, a| {
        d.settings.auth.http.user_path = url(a.value)?;
        Ok(())
    }),
    key("auth_http.vhost_path", |d, a| {
        d.settings.auth.http.vhost_path = url(a.value)?;
        Ok(())
    }),
    key("auth_http.resource_path", |d, a| {
        d.settings.auth.http.resource_path = url(a.value)?;
        Ok(())
    }),
    key("auth_http.topic_path", |d, a| {
        d.settings.auth.http.topic_path = url(a.value)?;
        Ok(())
    }),
    key("auth_http.request_timeout", |d, a| {
        d.settings.auth.http.request_timeout_ms = value::integer(a.value, 1..=600_000)?;
        Ok(())
    }),
    key("auth_http.connection_timeout", |d, a| {
        d.settings.auth.http.connection_timeout_ms = value::integer(a.value, 1..=600_000)?;
        Ok(())
    }),
    key("auth_http.ssl_options.cacertfile", |d, a| {
        d.settings.auth.http.cacertfile = Some(path(a.value)?);
        Ok(())
    }),
    key("auth_cache.cache_ttl", |d, a| {
        d.settings.auth.http.answers_hold_ms = value::integer(a.value, 1..=86_400_000)?;
        Ok(())
    }),
    // OAuth 2.
    key("auth_oauth2.resource_server_id", |d, a| {
        d.settings.auth.oauth2.resource_server_id = value::text(a.value, NAME_BYTES_MAX)?;
        Ok(())
    }),
    key("auth_oauth2.scope_prefix", |d, a| {
        // May be empty: then every scope counts.
        d.settings.auth.oauth2.scope_prefix = Some(pattern(a.value)?);
        Ok(())
    }),
    key("auth_oauth2.additional_scopes_key", |d, a| {
        let paths = value::text(a.value, TEXT_BYTES_MAX)?;
        d.settings.auth.oauth2.additional_scopes_key = Some(paths);
        Ok(())
    }),
    key("auth_oauth2.scope_aliases.$alias", |d, a| {
        d.settings.auth.oauth2.scope_aliases.insert(a.name(), words(a.value)?);
        Ok(())
    }),
    key("auth_oauth2.scope_aliases.$index.alias", |d, a| {
        d.backends.alias(a).alias = Some(value::text(a.value, TEXT_BYTES_MAX)?);
        Ok(())
    }),
    key("auth_oauth2.scope_aliases.$index.scope", |d, a| {
        d.backends.alias(a).scopes = Some(words(a.value)?);
        Ok(())
    }),
    key("auth_oauth2.verify_aud", |d, a| {
        d.settings.auth.oauth2.verify_aud = value::boolean(a.value)?;
        Ok(())
    }),
    key("auth_oauth2.require_exp", |d, a| {
        d.settings.auth.oauth2.require_exp = value::boolean(a.value)?;
        Ok(())
    }),
    key("auth_oauth2.preferred_username_claims.$num", |d, a| {
        d.backends.username_claims.insert(a.name(), value::text(a.value, TEXT_BYTES_MAX)?);
        Ok(())
    }),
    key("auth_oauth2.default_key", |d, a| {
        d.settings.auth.oauth2.default_key = Some(value::text(a.value, TEXT_BYTES_MAX)?);
        Ok(())
    }),
    key("auth_oauth2.signing_keys.$kid", |d, a| {
        d.settings.auth.oauth2.signing_keys.insert(a.name(), path(a.value)?);
        Ok(())
    }),
    key("auth_oauth2.jwks_uri", set_jwks_uri),
    key("auth_oauth2.jwks_url", set_jwks_uri),
    key("leveret.auth_oauth2.jwks_file", |d, a| {
        d.settings.auth.oauth2.jwks_file = Some(path(a.value)?);
        Ok(())
    }),
    key("auth_oauth2.https.cacertfile", |d, a| {
        d.settings.auth.oauth2.cacertfile = Some(path(a.value)?);
        Ok(())
    }),
    key("auth_oauth2.https.verify", |_, a| value::word(a.value, &[("verify_peer", ())])),
    key("auth_oauth2.https.peer_verification", |_, a| value::word(a.value, &[("verify_peer", ())])),
    key("auth_oauth2.algorithms.$num", |d, a| {
        let names = OAuth2::ALGORITHMS.map(|name| (name, name));
        let name = value::word(a.value, &names)?;
        d.backends.algorithms.insert(a.name(), name.to_owned());
        Ok(())
    }),
];

fn set_jwks_uri(draft: &mut Draft, assignment: &Assignment<'_>) -> Result<(), Reason> {
    let uri = value::text(assignment.value, TEXT_BYTES_MAX)?;
    if !uri.starts_with("https://") {
        return Err(format!("expected an address that begins with https://, found '{uri}'"));
    }
    draft.settings.auth.oauth2.jwks_uri = Some(uri);
    Ok(())
}

fn url(text: &str) -> Result<String, Reason> {
    match text.starts_with("http://") || text.starts_with("https://") {
        true => value::text(text, TEXT_BYTES_MAX),
        false => Err(format!("expected an address that begins with http:// or https://: {text}")),
    }
}

fn words(text: &str) -> Result<Vec<String>, Reason> {
    let text = value::text(text, TEXT_BYTES_MAX)?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}
