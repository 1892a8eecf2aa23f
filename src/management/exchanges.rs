//! `/api/exchanges`.

use serde_json::{Value as Json, json};

use super::reply::{Refusal, Reply};
use super::request::Request;
use super::value;
use crate::broker::views::ExchangeView;

/// `GET /api/exchanges` and `/api/exchanges/{vhost}`.
pub(super) fn list(request: &Request) -> Result<Reply, Refusal> {
    let mut exchanges = request.collect(|inspect, vhost| inspect.exchanges(vhost))?;
    exchanges.sort_by(|a, b| (&a.vhost, &a.name).cmp(&(&b.vhost, &b.name)));
    Ok(Reply::list(exchanges.iter().map(one)))
}

/// `GET /api/exchanges/{vhost}/{exchange}`.
pub(super) fn show(request: &Request) -> Result<Reply, Refusal> {
    let (vhost, name) = (request.name("vhost"), request.exchange("exchange"));
    let exchange = request.inspect().exchange(vhost, name).ok_or_else(Refusal::not_found)?;
    let mut shown = one(&exchange);
    shown["incoming"] = json!([]);
    shown["outgoing"] = json!([]);
    Ok(Reply::Document(shown))
}

fn one(exchange: &ExchangeView) -> Json {
    let mut shown = json!({
        "name": exchange.name,
        "vhost": exchange.vhost,
        "type": exchange.kind,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": value::table(&exchange.arguments),
        "policy": exchange.policy.policy,
    });
    if let Some(waiting) = exchange.messages_delayed {
        shown["messages_delayed"] = json!(waiting);
    }
    shown
}
