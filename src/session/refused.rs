//! Refusals that someone who keeps an audit wants to know of: no right to it, or a limit reached.
//! What a client merely gets wrong is nobody's business but its own.

use crate::broker::Broker;
use crate::broker::limits::Limit;
use crate::broker::queue::Effects;
use crate::protocol::refusal::Refusal;
use crate::protocol::reply_code::ReplyCode;
use crate::protocol::table::Table;

/// Codes that say: not you, or not so many.
const CODES: [ReplyCode; 3] =
    [ReplyCode::ACCESS_REFUSED, ReplyCode::RESOURCE_LOCKED, ReplyCode::NOT_ALLOWED];
/// Told as a login that failed.
const LOGIN: &str = "connection.login-refused";

/// Tells of a refusal if it is one of those.
pub(super) fn tell(broker: &Broker, effects: &mut Effects, refusal: &Refusal) {
    let is_audited = CODES.contains(&refusal.code) || Limit::of_refusal(refusal.id).is_some();
    if is_audited && refusal.id != LOGIN {
        broker.told(effects).aside("access.refused", || {
            Table::new().with("refusal", refusal.id).with("text", &*refusal.text)
        });
    }
}
