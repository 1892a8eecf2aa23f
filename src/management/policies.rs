//! `/api/policies` and `/api/operator-policies`.

use serde_json::{Map, Value as Json, json};

use super::reply::{Refusal, Reply};
use super::request::Request;
use super::value;
use crate::broker::inspect::PolicyView;
use crate::broker::operate::OperateError;
use crate::broker::policy::{PolicyKind, PolicySpec};

/// `GET /api/policies` and `/api/policies/{vhost}`.
pub(super) fn list(request: &Request) -> Result<Reply, Refusal> {
    listed(request, PolicyKind::User)
}

/// `GET /api/operator-policies` and `/api/operator-policies/{vhost}`.
pub(super) fn list_operator(request: &Request) -> Result<Reply, Refusal> {
    listed(request, PolicyKind::Operator)
}

/// `GET /api/policies/{vhost}/{name}`.
pub(super) fn show(request: &Request) -> Result<Reply, Refusal> {
    shown(request, PolicyKind::User)
}

/// `GET /api/operator-policies/{vhost}/{name}`.
pub(super) fn show_operator(request: &Request) -> Result<Reply, Refusal> {
    shown(request, PolicyKind::Operator)
}

/// `PUT /api/policies/{vhost}/{name}`.
pub(super) fn put(request: &Request) -> Result<Reply, Refusal> {
    set(request, PolicyKind::User)
}

/// `PUT /api/operator-policies/{vhost}/{name}`.
pub(super) fn put_operator(request: &Request) -> Result<Reply, Refusal> {
    set(request, PolicyKind::Operator)
}

/// `DELETE /api/policies/{vhost}/{name}`.
pub(super) fn delete(request: &Request) -> Result<Reply, Refusal> {
    cleared(request, PolicyKind::User)
}

/// `DELETE /api/operator-policies/{vhost}/{name}`.
pub(super) fn delete_operator(request: &Request) -> Result<Reply, Refusal> {
    cleared(request, PolicyKind::Operator)
}

fn listed(request: &Request, kind: PolicyKind) -> Result<Reply, Refusal> {
    let mut policies = request.collect(|_, vhost| request.operate().policies(kind, vhost))?;
    policies.sort_by(|a, b| (&a.vhost, &a.spec.name).cmp(&(&b.vhost, &b.spec.name)));
    Ok(Reply::list(policies.iter().map(one)))
}

fn shown(request: &Request, kind: PolicyKind) -> Result<Reply, Refusal> {
    let name = request.name("policy");
    let policies = request.operate().policies(kind, Some(request.name("vhost")));
    let found = policies.iter().find(|policy| policy.spec.name == name);
    Ok(Reply::Document(one(found.ok_or_else(Refusal::not_found)?)))
}

fn set(request: &Request, kind: PolicyKind) -> Result<Reply, Refusal> {
    request.required(&["pattern", "definition"])?;
    let spec = parse(request.name("policy"), &request.document()?)?;
    let (vhost, maker) = (request.name("vhost"), request.caller()?.identity());
    let set = request.operate().set_policy(kind, vhost, spec, maker, request.now());
    Ok(set.map_err(refusal)?.into())
}

fn cleared(request: &Request, kind: PolicyKind) -> Result<Reply, Refusal> {
    let (vhost, name) = (request.name("vhost"), request.name("policy"));
    let actor = request.caller()?.name();
    let cleared = request.operate().clear_policy(kind, vhost, name, actor, request.now());
    if cleared.map_err(refusal)? { Ok(Reply::Done) } else { Err(Refusal::not_found()) }
}

fn refusal(error: OperateError) -> Refusal {
    match error {
        OperateError::NoVhost(_) => Refusal::not_found(),
        error @ (OperateError::Policy(_) | OperateError::Trigger(_)) => {
            Refusal::bad_request(error.to_string())
        }
        OperateError::Refused(refusal) => Refusal::not_authorised(&refusal.text),
        OperateError::TooManyVhosts(_) | OperateError::Store(_) => Refusal::internal(),
    }
}

/// Reads what RabbitMQ's API takes; other fields are ignored, as there.
fn parse(name: &str, body: &Map<String, Json>) -> Result<PolicySpec, Refusal> {
    let invalid = |field: &str, wanted: &str, value: &Json| {
        let reason = format!("{field} should be {wanted} but was {value}");
        Refusal::bad_request(format!("Validation failed\n\n{reason}\n"))
    };
    let text = |field: &str, default: &str| match body.get(field) {
        None => Ok(default.to_owned()),
        Some(Json::String(text)) => Ok(text.clone()),
        Some(other) => Err(invalid(field, "a binary", other)),
    };
    let priority = match body.get("priority") {
        None => 0,
        Some(value) => {
            value.as_i64().ok_or_else(|| invalid("priority", "a whole number", value))?
        }
    };
    let definition = body.get("definition").unwrap_or(&Json::Null);
    let definition = definition
        .as_object()
        .ok_or_else(|| invalid("definition", "a dictionary", definition))
        .and_then(|fields| {
            value::to_table(fields).ok_or_else(|| {
                let reason = "definition is too large or nested too deeply";
                Refusal::bad_request(format!("Validation failed\n\n{reason}\n"))
            })
        })?;
    Ok(PolicySpec {
        name: name.to_owned(),
        pattern: text("pattern", "")?,
        priority,
        apply_to: text("apply-to", "all")?,
        definition,
    })
}

fn one(policy: &PolicyView) -> Json {
    json!({
        "vhost": policy.vhost,
        "name": policy.spec.name,
        "pattern": policy.spec.pattern,
        "apply-to": policy.spec.apply_to,
        "definition": value::table(&policy.spec.definition),
        "priority": policy.spec.priority,
    })
}
