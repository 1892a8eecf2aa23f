//! `/api/triggers`.

use serde_json::{Map, Value as Json, json};

use super::reply::{Refusal, Reply};
use super::request::Request;
use crate::broker::operate::OperateError;
use crate::broker::trigger::declared::DECLARED;
use crate::broker::trigger::json::Reader;
use crate::broker::trigger::spec::TriggerSpec;
use crate::broker::trigger::tally::{Result as RunResult, RunView, Suppressed};
use crate::broker::trigger::views::{ConditionView, Explanation, TriggerView};

/// `GET /api/triggers` and `/api/triggers/{vhost}`.
pub(super) fn list(request: &Request) -> Result<Reply, Refusal> {
    let now = request.now();
    let mut triggers = request.collect(|_, vhost| request.triggers().triggers(vhost, now))?;
    triggers.sort_by(|a, b| {
        let key = |view: &TriggerView| (view.trigger.vhost.clone(), view.trigger.name.clone());
        key(a).cmp(&key(b))
    });
    Ok(Reply::list(triggers.iter().map(one)))
}

/// `GET /api/triggers/{vhost}/{trigger}`.
pub(super) fn show(request: &Request) -> Result<Reply, Refusal> {
    Ok(Reply::Document(one(&explained(request)?.view)))
}

/// `PUT /api/triggers/{vhost}/{trigger}`.
pub(super) fn put(request: &Request) -> Result<Reply, Refusal> {
    let body = Json::Object(request.document()?);
    let spec =
        TriggerSpec::from_json(&body).map_err(|error| Refusal::bad_request(error.to_string()))?;
    let (vhost, name) = own_name(request)?;
    let maker = request.caller()?.identity();
    let set = request.triggers().set_trigger(vhost, name, spec, maker, request.now());
    Ok(set.map_err(refusal)?.into())
}

/// `DELETE /api/triggers/{vhost}/{trigger}`.
pub(super) fn delete(request: &Request) -> Result<Reply, Refusal> {
    let (vhost, name) = own_name(request)?;
    let actor = request.caller()?.name();
    done(request.triggers().delete_trigger(vhost, name, actor, request.now()))
}

/// `PUT /api/triggers/{vhost}/{trigger}/enable`.
pub(super) fn enable(request: &Request) -> Result<Reply, Refusal> {
    switch(request, true)
}

/// `PUT /api/triggers/{vhost}/{trigger}/disable`.
pub(super) fn disable(request: &Request) -> Result<Reply, Refusal> {
    switch(request, false)
}

/// `GET /api/triggers/{vhost}/{trigger}/explain`.
pub(super) fn explain(request: &Request) -> Result<Reply, Refusal> {
    let Explanation { view, queue, holds, conditions, missing } = explained(request)?;
    let queue = queue.map(|queue| {
        json!({
            "messages_ready": queue.ready,
            "messages_unacknowledged": queue.unacknowledged,
            "consumers": queue.consumers,
            "running": queue.running,
            "retries": queue.retries,
        })
    });
    Ok(Reply::Document(json!({
        "vhost": &*view.trigger.vhost,
        "name": &*view.trigger.name,
        "queue": &*view.trigger.spec.queue,
        "state": view.state,
        "reason": view.reason,
        "holds": holds,
        "conditions": conditions.iter().map(condition).collect::<Vec<_>>(),
        "missing": missing,
        "facts": queue,
    })))
}

/// `GET /api/triggers/{vhost}/{trigger}/runs`.
pub(super) fn runs(request: &Request) -> Result<Reply, Refusal> {
    let (vhost, name) = (request.name("vhost"), request.name("trigger"));
    let runs = request.triggers().trigger_runs(vhost, name).ok_or_else(Refusal::not_found)?;
    Ok(Reply::list(runs.iter().map(run)))
}

/// The trigger's vhost and name, unless it is a queue's own: that changes with the queue.
fn own_name(request: &Request) -> Result<(&str, &str), Refusal> {
    let (vhost, name) = (request.name("vhost"), request.name("trigger"));
    if name.starts_with(DECLARED) {
        let reason = "belongs to its queue: change the queue's arguments, or the policy";
        return Err(Refusal::bad_request(format!("trigger '{name}' {reason}")));
    }
    Ok((vhost, name))
}

fn explained(request: &Request) -> Result<Explanation, Refusal> {
    let (vhost, name) = (request.name("vhost"), request.name("trigger"));
    let explained = request.triggers().explain_trigger(vhost, name, request.now());
    explained.ok_or_else(Refusal::not_found)
}

fn switch(request: &Request, enabled: bool) -> Result<Reply, Refusal> {
    let (vhost, name) = own_name(request)?;
    let maker = request.caller()?.identity();
    done(request.triggers().enable_trigger(vhost, name, enabled, maker, request.now()))
}

fn done(was_there: Result<bool, OperateError>) -> Result<Reply, Refusal> {
    if was_there.map_err(refusal)? { Ok(Reply::Done) } else { Err(Refusal::not_found()) }
}

fn refusal(error: OperateError) -> Refusal {
    match error {
        OperateError::NoVhost(_) => Refusal::not_found(),
        OperateError::Refused(refusal) => Refusal::not_authorised(&refusal.text),
        error @ (OperateError::Policy(_) | OperateError::Trigger(_)) => {
            Refusal::bad_request(error.to_string())
        }
        OperateError::TooManyVhosts(_) | OperateError::Store(_) => Refusal::internal(),
    }
}

fn one(view: &TriggerView) -> Json {
    let mut all = view.trigger.spec.to_json(Reader::Anyone);
    let counts = &view.counts;
    let by_name = |names: &mut dyn Iterator<Item = (&'static str, u64)>| {
        names.map(|(name, count)| (name.to_owned(), count.into())).collect::<Map<_, _>>()
    };
    let names = Suppressed::ALL.iter().map(|why| why.name());
    let suppressed = by_name(&mut names.zip(counts.suppressed));
    let names = RunResult::ALL.iter().map(|result| result.name());
    let runs = by_name(&mut names.zip(counts.runs));
    let fired_ms = Some(counts.last_fired_ms).filter(|ms| *ms > 0);
    all["vhost"] = view.trigger.vhost.as_ref().into();
    all["name"] = view.trigger.name.as_ref().into();
    all["status"] = json!({
        "state": view.state,
        "reason": view.reason,
        "evaluated": counts.evaluated,
        "fired": counts.fired,
        "last_fired_ms": fired_ms,
        "running": counts.running,
        "suppressed": suppressed,
        "runs": runs,
    });
    all
}

fn condition(view: &ConditionView) -> Json {
    json!({
        "condition": view.condition,
        "depth": view.depth,
        "holds": view.holds,
        "present": view.present,
        "oldest_age_ms": view.oldest_age_ms,
        "missing": view.missing,
        "holds_from_ms": view.holds_from_ms,
    })
}

fn run(run: &RunView) -> Json {
    json!({
        "id": run.id,
        "started_ms": run.started_ms,
        "took_ms": run.took_ms,
        "cause": run.cause,
        "messages": run.messages,
        "settled": run.settled,
        "attempt": run.attempt,
        "result": run.result,
        "exit": run.exit,
        "stderr_tail": run.stderr_tail,
    })
}
