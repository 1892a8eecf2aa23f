//! What scopes allow, and where they come from.

use leveret::broker::access::{Resource, Right};
use serde_json::json;

use super::*;

const VHOSTS: [&str; 5] = ["/", "foo", "*", "foo/bar", "юникод"];
const NAMES: [&str; 5] = ["foo", "foo/bar", "*", "*/*", "юникод"];

/// Someone with these scopes, which need no prefix.
fn someone(scopes: &[&str]) -> Outsider {
    let settings =
        settings::OAuth2 { scope_prefix: Some(String::new()), ..trusting(Issuer::usual()) };
    seen(&settings, &Issuer::usual().sign(&claims(scopes))).unwrap()
}

/// The rights that someone has on what is called this, queue or exchange.
fn rights(of: &Outsider, vhost: &str, name: &str) -> Vec<Right> {
    let may = |right, resource| of.authority.allows(right, vhost, resource);
    let both = |right: &Right| {
        let on_queue = may(*right, Resource::Queue(name));
        assert_eq!(on_queue, may(*right, Resource::Exchange(name)), "{vhost} {name}");
        on_queue
    };
    Right::ALL.into_iter().filter(both).collect()
}

#[test]
fn stars_are_for_everything() {
    for right in Right::ALL {
        for pattern in ["*/*", "*/*/*"] {
            let someone = someone(&[&format!("{}:{pattern}", right.name())]);
            for vhost in VHOSTS {
                assert!(someone.authority.may_enter(vhost, None), "{vhost}");
                for name in NAMES {
                    assert_eq!(rights(&someone, vhost, name), [right], "{vhost} {name}");
                }
            }
        }
    }
}

#[test]
fn a_vhost_is_named_in_the_first_part() {
    let someone = someone(&[
        "write:foo/*",
        "read:foo%2Fbar%2F%2A%2F/*/*",
        "configure:юник*/x",
        "tag:management",
    ]);
    for name in NAMES {
        assert_eq!(rights(&someone, "foo", name), [Right::Write]);
        assert_eq!(rights(&someone, "foo/bar/*/", name), [Right::Read]);
        assert_eq!(rights(&someone, "foo/bar/x/", name), []);
        assert_eq!(rights(&someone, "юникод", name), []);
    }
    for (vhost, reached) in
        [("foo", true), ("foo/bar/*/", true), ("юникод", true), ("/", false), ("foo/bar", false)]
    {
        assert_eq!(someone.authority.may_enter(vhost, None), reached, "{vhost}");
    }
}

#[test]
fn a_name_is_the_second_part() {
    let someone = someone(&["write:*/bar%2A%2Fbaz", "read:*/bar%2A%2Fbaz/*", "read:*/app-*"]);
    for vhost in VHOSTS {
        assert_eq!(rights(&someone, vhost, "bar*/baz"), [Right::Write, Right::Read]);
        assert_eq!(rights(&someone, vhost, "barX/baz"), []);
        assert_eq!(rights(&someone, vhost, "app-1"), [Right::Read]);
        assert_eq!(rights(&someone, vhost, "my-app-1"), []);
        for name in NAMES {
            assert_eq!(rights(&someone, vhost, name), [], "{name}");
        }
    }
}

#[test]
fn a_routing_key_is_the_third_part() {
    let may = |scope: &str, right, vhost: &str, exchange: &str, key: &str| {
        someone(&[scope]).authority.allows_topic(right, vhost, exchange, key)
    };
    for right in [Right::Read, Right::Write] {
        let reads = right == Right::Read;
        assert_eq!(may("read:*/*/*", right, "/", "x", "a.b"), reads);
        assert_eq!(may("read:vhost/*/*", right, "vhost", "x", "a.b"), reads);
        assert_eq!(may("read:*/exchange/*", right, "/", "exchange", "a.b"), reads);
        assert_eq!(may("read:*/*/rout", right, "/", "x", "rout"), reads);
        for key in ["rout", "norout", "sprout"] {
            assert_eq!(may("read:*/*/*rout", right, "/", "x", key), reads);
        }
    }
    assert!(!may("read:vhost/*/*", Right::Read, "/", "x", "a.b"));
    assert!(!may("read:*/exchange/*", Right::Read, "/", "x", "a.b"));
    assert!(!may("read:*/*/rout", Right::Read, "/", "x", "a.b"));
    assert!(!may("read:*/*", Right::Read, "/", "x", "a.b"));
    assert!(!may("read:*/*", Right::Read, "/", "x", ""));
}

#[test]
fn variables_stand_for_the_vhost_and_for_claims() {
    let may =
        |scope: &str, vhost: &str, name: &str| !rights(&someone(&[scope]), vhost, name).is_empty();
    assert!(may("read:{vhost}/{sub}-*", "my-vhost", "app-1"));
    assert!(may("read:{vhost}/*", "/", "x"));
    assert!(!may("read:my-vhost/{sub}-*", "my-vhost", "other-1"));
    assert!(!may("read:{sub}/*", "my-vhost", "x"));
    assert!(may("read:*/{vhost}", "foo/bar", "foo/bar"));
    assert!(!may("read:*/{vhost}", "*", "anything"));
}

#[test]
fn scopes_that_are_none_give_nothing() {
    for scope in [
        "",
        "read",
        "read:",
        "read:*",
        "read:*/*/*/*",
        "read:*/%",
        "read:%zz/*",
        "read:{vhost/*",
        "READ:*/*",
        "delete:*/*",
        " read:*/*",
        "rabbitmq.read:*/*",
    ] {
        let someone = someone(&[scope]);
        assert!(!someone.authority.may_enter("/", None), "{scope}");
        assert_eq!(rights(&someone, "/", "x"), [], "{scope}");
    }
    assert!(!someone(&["tag:administrator"]).authority.may_enter("/", None));
}

#[test]
fn only_scopes_with_the_prefix_count() {
    let reads = |prefix: Option<&str>, scope: Value| {
        let scope_prefix = prefix.map(str::to_owned);
        let settings = settings::OAuth2 { scope_prefix, ..trusting(Issuer::usual()) };
        let token = Issuer::usual().sign(&claims_with(json!({ "scope": scope })));
        rights(&seen(&settings, &token).unwrap(), "/", "q") == [Right::Read]
    };
    assert!(reads(None, json!(["openid", "rabbitmq.read:*/*"])));
    assert!(reads(None, json!("openid  rabbitmq.read:*/*")));
    assert!(!reads(None, json!(["read:*/*", "rabbit.read:*/*", "x.rabbitmq.read:*/*"])));
    assert!(reads(Some("api://"), json!("api://read:*/*")));
    assert!(!reads(Some("api://"), json!("rabbitmq.read:*/*")));
    assert!(reads(Some(""), json!("read:*/*")));
}

#[test]
fn scopes_may_stand_elsewhere_in_a_token() {
    let settings = settings::OAuth2 {
        additional_scopes_key: Some("roles realm.access.roles".into()),
        ..trusting(Issuer::usual())
    };
    let has = |others: Value| {
        let token = Issuer::usual().sign(&claims_with(others));
        rights(&seen(&settings, &token).unwrap(), "/", "q")
    };
    let (read, write) = ("rabbitmq.read:*/*", "rabbitmq.write:*/*");
    assert_eq!(has(json!({ "scope": null, "roles": [read] })), [Right::Read]);
    assert_eq!(has(json!({ "scope": null, "roles": "x rabbitmq.read:*/*" })), [Right::Read]);
    assert_eq!(has(json!({ "scope": [write], "roles": [read] })), [Right::Write, Right::Read]);
    let own = json!({ "rabbitmq": ["read:*/*"], "other": ["write:*/*"] });
    assert_eq!(has(json!({ "scope": null, "roles": own })), [Right::Read]);
    let own = json!({ "rabbitmq": "read:*/* write:*/q" });
    assert_eq!(has(json!({ "scope": null, "roles": own })), [Right::Write, Right::Read]);
    let access = json!([{ "roles": [read] }, 7, { "roles": write }, { "role": "none" }]);
    let realm = json!({ "access": access });
    assert_eq!(has(json!({ "scope": null, "realm": realm })), [Right::Write, Right::Read]);
    // What an authorisation server for user-managed access gives.
    let permissions = json!([{ "scopes": [read], "rsname": "q" }, { "scopes": [write] }]);
    let authorization = json!({ "permissions": permissions });
    assert_eq!(
        has(json!({ "scope": null, "authorization": authorization })),
        [Right::Write, Right::Read]
    );
    for junk in [json!(7), json!(null), json!({ "rabbitmq": { "rabbitmq": [read] } }), json!([[]])]
    {
        assert_eq!(has(json!({ "scope": [write], "roles": junk })), [Right::Write]);
    }
}

#[test]
fn an_alias_stands_for_scopes() {
    let aliases = [
        ("admin".into(), vec!["rabbitmq.tag:administrator".into(), "rabbitmq.read:*/*".into()]),
        // No alias of an alias, and the prefix must be there.
        ("loop".into(), vec!["admin".into(), "write:*/*".into()]),
    ];
    let settings = settings::OAuth2 { scope_aliases: aliases.into(), ..trusting(Issuer::usual()) };
    let token = |scopes: &[&str]| Issuer::usual().sign(&claims(scopes));
    let admin = seen(&settings, &token(&["admin", "rabbitmq.write:*/w"])).unwrap();
    assert_eq!(admin.tags, ["administrator"]);
    assert_eq!(rights(&admin, "/", "w"), [Right::Write, Right::Read]);
    let other = seen(&settings, &token(&["loop", "rabbitmq.admin"])).unwrap();
    assert_eq!(rights(&other, "/", "w"), []);
}
