//! What a token's scopes allow.
//!
//! Scopes come from the claim `scope`, from the claims that `additional_scopes_key` names, from a
//! requesting party token's permissions and from aliases. Those that begin with the prefix count:
//! `configure:`, `write:` and `read:` with a pattern for vhosts, one for names and perhaps one for
//! routing keys, and `tag:`. Who has any right somewhere in a vhost may enter it. Topic exchanges
//! let through only keys that a scope names.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::token::{Claims, Refused, words};
use super::wildcard::Wildcard;
use crate::broker::access::Right;
use crate::config::settings;

/// RabbitMQ's limit, too.
const SCOPES_MAX: usize = 2048;
/// Where a requesting party token (UMA) has them.
const REQUESTING_PARTY_PATH: &str = "authorization.permissions.scopes";
const TAG_PREFIX: &str = "tag:";

/// What a token's scopes allow.
#[derive(Debug)]
pub(super) struct Scopes {
    grants: Vec<Grant>,
    tags: Vec<String>,
}

#[derive(Debug)]
struct Grant {
    right: Right,
    vhost: Wildcard,
    name: Wildcard,
    key: Option<Wildcard>,
}

impl Scopes {
    /// Reads a token's scopes.
    pub(super) fn of(claims: &Claims, settings: &settings::OAuth2) -> Result<Self, Refused> {
        let own = own_scopes(claims, settings);
        if own.len() > SCOPES_MAX {
            return Err(Refused::Scopes);
        }
        let tags = own.iter().filter_map(|scope| scope.strip_prefix(TAG_PREFIX));
        Ok(Self {
            tags: tags.map(str::to_owned).collect(),
            grants: own.iter().filter_map(|scope| Grant::parse(scope, claims)).collect(),
        })
    }

    /// The user's tags.
    pub(super) fn tags(&self) -> &[String] {
        &self.tags
    }

    /// Whether any of them is about the vhost.
    pub(super) fn reach(&self, vhost: &str) -> bool {
        self.grants.iter().any(|grant| grant.vhost.matches(vhost, vhost))
    }

    /// Whether one gives this right on what is called this.
    pub(super) fn allow(&self, right: Right, vhost: &str, name: &str) -> bool {
        self.grants.iter().any(|grant| grant.allows(right, vhost, name))
    }

    /// Whether one gives this right on a topic exchange with this key.
    pub(super) fn allow_topic(&self, right: Right, vhost: &str, exchange: &str, key: &str) -> bool {
        self.grants.iter().any(|grant| {
            let takes_key = |pattern: &Wildcard| pattern.matches(key, vhost);
            grant.key.as_ref().is_some_and(takes_key) && grant.allows(right, vhost, exchange)
        })
    }
}

impl Grant {
    /// A scope without the prefix; `None` when it is about something else.
    fn parse(scope: &str, claims: &Claims) -> Option<Self> {
        let (right, patterns) = scope.split_once(':')?;
        let right = Right::ALL.into_iter().find(|it| it.name() == right)?;
        let mut patterns = patterns.split('/').map(|pattern| Wildcard::parse(pattern, claims));
        let (vhost, name) = (patterns.next()??, patterns.next()??);
        let key = match patterns.next() {
            Some(key) => Some(key?),
            None => None,
        };
        match patterns.next() {
            Some(_) => None,
            None => Some(Self { right, vhost, name, key }),
        }
    }

    fn allows(&self, right: Right, vhost: &str, name: &str) -> bool {
        self.right == right && self.vhost.matches(vhost, vhost) && self.name.matches(name, vhost)
    }
}

/// Those that begin with the prefix, without it.
fn own_scopes(claims: &Claims, settings: &settings::OAuth2) -> BTreeSet<String> {
    let id = settings.resource_server_id.as_str();
    let mut found = Vec::new();
    if let Some(scope) = claims.all().get("scope").filter(|scope| !scope.is_object()) {
        gather(scope, id, &mut found);
    }
    let additional = words(settings.additional_scopes_key.as_deref().unwrap_or_default());
    for path in additional.chain([REQUESTING_PARTY_PATH]) {
        let path: Vec<&str> = path.split('.').filter(|name| !name.is_empty()).collect();
        follow(claims.all(), &path, id, &mut found);
    }
    let given_prefix = settings.scope_prefix.clone();
    let prefix = given_prefix.unwrap_or_else(|| format!("{id}."));
    let own = |scope: &str| scope.strip_prefix(&prefix).map(str::to_owned);
    let mut scopes = BTreeSet::new();
    for scope in found {
        let meant = settings.scope_aliases.get(&scope).into_iter().flatten();
        scopes.extend(meant.filter_map(|scope| own(scope)));
        scopes.extend(own(&scope));
    }
    scopes
}

/// Gathers the scopes at the end of a path of names; lists on the way are gone through.
fn follow(from: &Map<String, Value>, path: &[&str], id: &str, found: &mut Vec<String>) {
    let Some((name, rest)) = path.split_first() else { return };
    match from.get(*name) {
        Some(value) if rest.is_empty() => gather(value, id, found),
        Some(Value::Object(map)) => follow(map, rest, id, found),
        Some(Value::Array(list)) => {
            for map in list.iter().filter_map(Value::as_object) {
                follow(map, rest, id, found);
            }
        }
        _ => {}
    }
}

/// Gathers the scopes in a value: words, a list, or a map in which those of this resource server
/// stand without its prefix.
fn gather(value: &Value, id: &str, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.extend(words(text).map(str::to_owned)),
        Value::Array(list) => {
            found.extend(list.iter().filter_map(Value::as_str).map(str::to_owned))
        }
        Value::Object(map) => {
            let mut unprefixed = Vec::new();
            if let Some(scopes) = map.get(id).filter(|scopes| !scopes.is_object()) {
                gather(scopes, id, &mut unprefixed);
            }
            found.extend(unprefixed.iter().map(|scope| format!("{id}.{scope}")));
        }
        _ => {}
    }
}
