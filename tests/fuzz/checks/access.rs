//! What operators write about users: patterns and password hashes.

use std::hint::black_box;

use leveret::broker::access::{Hashing, PasswordHash, Permission, Right, TopicPermission};
use leveret::broker::policy::{Policy, PolicyKind, PolicySpec};
use leveret::protocol::table::Table;

use super::input::{Input, text};

/// A pattern is refused or searched for, in bounded time either way; what stands for a user or a
/// vhost in it stands for nothing else.
pub fn pattern(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (user, vhost, name) = (text(input.short()), text(input.short()), text(input.short()));
    let pattern = text(input.rest());
    let spec = PolicySpec {
        name: name.clone(),
        pattern: pattern.clone(),
        priority: 0,
        apply_to: "all".to_owned(),
        definition: Table::new().with("max-length", 1i32),
    };
    let policy = Policy::new(PolicyKind::User, spec);
    let permission = Permission::new([&pattern, "", &pattern]);
    // No pattern at all is a permission's own word for nothing.
    assert!(policy.is_ok() == permission.is_ok() || pattern.is_empty(), "{pattern:?}");
    if let Ok(permission) = permission {
        assert_eq!(permission.texts(), [&pattern, "", &pattern]);
        let found = permission.allows(Right::Read, &name);
        assert_eq!(found, permission.allows(Right::Configure, &name));
        assert_eq!(permission.allows(Right::Write, &name), name.is_empty());
    }
    if let Ok(topic) = TopicPermission::new(&user, &vhost, &pattern, "^{username}.{vhost}$") {
        black_box(topic.allows(Right::Write, &name));
        for key in [format!("{user}.{vhost}"), format!("{user}x{vhost}")] {
            assert!(topic.allows(Right::Read, &key), "{key:?}");
        }
        let stranger = format!("{user}{vhost}");
        assert!(!topic.allows(Right::Read, &stranger), "{stranger:?}");
    }
}

/// A hash is refused or kept as it is, and nobody's password is no password.
pub fn password(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let hashing = input.pick(&Hashing::ALL);
    let password = input.short();
    let written = text(input.rest());
    if let Ok(hash) = PasswordHash::from_base64(hashing, &written) {
        let again = PasswordHash::from_base64(hashing, &hash.to_base64());
        assert_eq!(again.as_ref(), Ok(&hash), "{written:?}");
        // argon2id takes its time by intent: what it may cost is `from_base64`'s to judge.
        if !hashing.is_slow() {
            let is_empty = hash == PasswordHash::none(hashing);
            assert!(!(is_empty && hash.is_of(password)), "no password is nobody's");
            black_box(hash.is_of(password));
        }
    }
    if !hashing.is_slow() {
        let hash = PasswordHash::new(hashing, password, |salt| salt.fill(7));
        assert!(hash.is_of(password));
        assert!(!hash.is_of(&[password, b"x"].concat()));
        let read = PasswordHash::from_base64(hashing, &hash.to_base64());
        assert_eq!(read, Ok(hash));
    }
}
