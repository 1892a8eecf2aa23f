//! Policies: what operators ask of queues and exchanges by patterns of their names.
//!
//! Owns a vhost's policies, which of them applies to an object (of each kind the one with the
//! highest priority whose pattern is found in the name; of equals the first by name), and what a
//! definition may say. Rules of joining stand in `queue/rules.rs`.
//!
//! Invariants: policies of a kind are sorted by descending priority, then name; a policy is
//! immutable, so two objects under the same one share it. Changes are made under the vhost's
//! topology lock, and reach every object before that is released.

mod maker;

use std::sync::{Arc, PoisonError};

use maker::Reach;

use super::access::Identity;
use super::definitions::{DefinitionError, DefinitionKey, Record, read_arguments};
use super::events::fields;
use super::exchange::erlang_term;
use super::operate::OperateError;
use super::pattern::Pattern;
use super::queue::args::DURATION_MS_MAX;
use super::queue::rules::DeadLetterStrategy;
use super::queue::{Effects, Overflow, QueueArgs, QueueKind, Rules, Wishes};
use super::trigger::declared::TriggerType;
use super::vhost::Vhost;
use super::{Broker, Now};
use crate::protocol::table::{Table, Value};
use crate::store::{Batch, Durability, Lsn};

/// Who made a policy, and so which of two an object obeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PolicyKind {
    /// A user's policy.
    User,
    /// An operator policy: it narrows what users ask for.
    Operator,
}

/// Which objects a policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyTo {
    /// Queues and exchanges.
    All,
    /// Exchanges.
    Exchanges,
    /// Queues of every type.
    Queues,
    /// Classic queues.
    ClassicQueues,
    /// Quorum queues.
    QuorumQueues,
    /// Streams.
    Streams,
}

impl ApplyTo {
    const ALL: [Self; 6] = [
        Self::Queues,
        Self::ClassicQueues,
        Self::QuorumQueues,
        Self::Streams,
        Self::Exchanges,
        Self::All,
    ];

    /// As written in `apply-to`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Exchanges => "exchanges",
            Self::Queues => "queues",
            Self::ClassicQueues => "classic_queues",
            Self::QuorumQueues => "quorum_queues",
            Self::Streams => "streams",
        }
    }

    fn covers(self, object: Object) -> bool {
        match (self, object) {
            (Self::All, _)
            | (Self::Exchanges, Object::Exchange)
            | (Self::Queues, Object::Queue(_)) => true,
            (Self::ClassicQueues, Object::Queue(kind)) => kind == QueueKind::Classic,
            (Self::QuorumQueues, Object::Queue(kind)) => kind == QueueKind::Quorum,
            _ => false,
        }
    }
}

/// What a policy may apply to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Object {
    Exchange,
    Queue(QueueKind),
}

/// A policy as it is written down.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicySpec {
    /// Its name.
    pub name: String,
    /// A regular expression, searched for in names.
    pub pattern: String,
    /// Of several that match, the highest counts.
    pub priority: i64,
    /// Which objects it is for, such as "queues".
    pub apply_to: String,
    /// What it asks for.
    pub definition: Table,
}

/// Why a policy was not taken, as RabbitMQ words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Validation failed\n\n{0}\n")]
pub struct PolicyError(pub String);

/// A policy, understood.
#[derive(Debug)]
pub struct Policy {
    spec: PolicySpec,
    pattern: Pattern,
    apply_to: ApplyTo,
    wishes: Wishes,
    alternate_exchange: Option<Arc<str>>,
    reach: Reach,
}

impl Policy {
    /// Checks and understands a policy.
    ///
    /// # Errors
    /// When its pattern is no regular expression, `apply_to` is unknown, or a key of its definition
    /// is unknown or has a value that makes no sense.
    pub fn new(kind: PolicyKind, spec: PolicySpec) -> Result<Self, PolicyError> {
        let pattern = Pattern::new(&spec.pattern).map_err(|error| {
            let pattern = &spec.pattern;
            let reason = format!("pattern should be regular expression but is invalid: {error}");
            PolicyError(format!("{reason} ({pattern})"))
        })?;
        let apply_to = ApplyTo::ALL.into_iter().find(|kind| kind.name() == spec.apply_to);
        let apply_to = apply_to.ok_or_else(|| {
            let names = ApplyTo::ALL.map(|kind| format!("'{}'", kind.name())).join(", ");
            let given = &spec.apply_to;
            PolicyError(format!("apply-to '{given}' unrecognised; should be one of: {names}"))
        })?;
        if spec.definition.is_empty() {
            return Err(PolicyError("no policy provided".to_owned()));
        }
        let (mut wishes, mut alternate_exchange) = (Wishes::default(), None);
        let mut unknown = Vec::new();
        for (name, value) in spec.definition.iter() {
            let name = name.to_string_lossy();
            let Some(key) = KEYS.iter().find(|key| key.name == name && key.is_for(kind)) else {
                unknown.push(format!("{{<<\"{name}\">>,{}}}", erlang_term(value)));
                continue;
            };
            if !(key.take)(value, &mut wishes, &mut alternate_exchange) {
                return Err(PolicyError(format!("{} {}", erlang_term(value), key.refusal)));
            }
        }
        if !unknown.is_empty() {
            let unknown = unknown.join(",");
            return Err(PolicyError(format!("[{unknown}] are not recognised policy settings")));
        }
        let reach = Reach::default();
        Ok(Self { spec, pattern, apply_to, wishes, alternate_exchange, reach })
    }

    /// As it was written down.
    #[must_use]
    pub fn spec(&self) -> &PolicySpec {
        &self.spec
    }

    fn applies_to(&self, object: Object, name: &str) -> bool {
        self.apply_to.covers(object) && self.pattern.is_in(name)
    }

    /// Whether it has messages flow on from anywhere.
    fn leads_on(&self) -> bool {
        maker::LEADING.iter().any(|key| self.spec.definition.get(key).is_some())
    }

    /// Whether it asks that messages flow on from this.
    fn asks_on(&self, object: Object, name: &str) -> bool {
        let is_asked = match object {
            Object::Exchange => self.alternate_exchange.is_some(),
            Object::Queue(_) => {
                self.wishes.dead_letter_exchange.is_some()
                    || self.wishes.dead_letter_routing_key.is_some()
            }
        };
        is_asked && self.applies_to(object, name)
    }

    fn record(&self) -> Record {
        let mut definition = Vec::new();
        self.spec.definition.encode_body(&mut definition);
        let text = |text: &str| Value::LongStr(text.as_bytes().to_vec());
        let record = Record::default()
            .with("pattern", text(&self.spec.pattern))
            .with("priority", Value::I64(self.spec.priority))
            .with("apply_to", text(&self.spec.apply_to))
            .with("definition", Value::LongStr(definition));
        self.reach.keep(record)
    }

    pub(super) fn from_record(
        kind: PolicyKind,
        name: String,
        record: &Record,
    ) -> Result<Self, DefinitionError> {
        let spec = PolicySpec {
            name,
            pattern: record.text("pattern")?.to_owned(),
            priority: record.integer("priority")?,
            apply_to: record.text("apply_to")?.to_owned(),
            definition: read_arguments(record.bytes("definition")?)?,
        };
        let policy = Self::new(kind, spec).map_err(|error| DefinitionError(error.0))?;
        Ok(Self { reach: Reach::from_record(record)?, ..policy })
    }
}

/// A key that definitions may hold.
struct Key {
    name: &'static str,
    operators: bool,
    /// Notes what the value asks for; false when it makes no sense.
    take: fn(&Value, &mut Wishes, &mut Option<Arc<str>>) -> bool,
    /// What is said of a value that makes no sense.
    refusal: &'static str,
}

impl Key {
    fn is_for(&self, kind: PolicyKind) -> bool {
        kind == PolicyKind::User || self.operators
    }
}

const KEYS: &[Key] = &[
    Key {
        name: "alternate-exchange",
        operators: false,
        take: |value, _, alternate| put(alternate, value.as_str().map(Arc::from)),
        refusal: "is not a valid alternate exchange name",
    },
    Key {
        name: "dead-letter-exchange",
        operators: false,
        take: |value, wishes, _| {
            put(&mut wishes.dead_letter_exchange, value.as_str().map(Arc::from))
        },
        refusal: "is not a valid dead letter exchange name",
    },
    Key {
        name: "dead-letter-routing-key",
        operators: false,
        take: |value, wishes, _| {
            put(&mut wishes.dead_letter_routing_key, value.as_long_str().map(Arc::from))
        },
        refusal: "is not a valid dead letter routing key",
    },
    Key {
        name: "dead-letter-strategy",
        operators: false,
        take: |value, wishes, _| {
            let strategy = value.as_long_str().and_then(DeadLetterStrategy::from_name);
            put(&mut wishes.dead_letter_strategy, strategy)
        },
        refusal: "is not a valid dead letter strategy",
    },
    Key {
        name: "message-ttl",
        operators: true,
        take: |value, wishes, _| put(&mut wishes.message_ttl_ms, duration(value, 0)),
        refusal: "is not a valid message TTL",
    },
    Key {
        name: "expires",
        operators: true,
        take: |value, wishes, _| put(&mut wishes.expires_ms, duration(value, 1)),
        refusal: "is not a valid queue expiry",
    },
    Key {
        name: "max-length",
        operators: true,
        take: |value, wishes, _| put(&mut wishes.length_max, count(value)),
        refusal: "is not a valid maximum length",
    },
    Key {
        name: "max-length-bytes",
        operators: true,
        take: |value, wishes, _| put(&mut wishes.length_bytes_max, count(value)),
        refusal: "is not a valid maximum length in bytes",
    },
    Key {
        name: "overflow",
        operators: true,
        take: |value, wishes, _| {
            put(&mut wishes.overflow, value.as_long_str().and_then(Overflow::from_name))
        },
        refusal: "is not a valid overflow value",
    },
    Key {
        name: "delivery-limit",
        operators: true,
        take: |value, wishes, _| put(&mut wishes.delivery_limit, value.as_integer()),
        refusal: "is not a valid delivery limit",
    },
    Key {
        name: "consumer-timeout",
        operators: false,
        take: |value, wishes, _| put(&mut wishes.ack_ms_max, duration(value, 1)),
        refusal: "is not a valid consumer timeout",
    },
    Key {
        name: "durability",
        operators: true,
        take: |value, wishes, _| {
            put(&mut wishes.durability, value.as_long_str().and_then(Durability::from_name))
        },
        refusal: "is not a valid durability",
    },
    Key {
        name: "trigger-type",
        operators: false,
        take: |value, wishes, _| {
            put(&mut wishes.trigger.kind, value.as_long_str().and_then(TriggerType::from_name))
        },
        refusal: "is not a valid trigger type",
    },
    Key {
        name: "trigger-depth",
        operators: false,
        take: |value, wishes, _| {
            put(&mut wishes.trigger.depth, count(value).filter(|depth| *depth > 0))
        },
        refusal: "is not a valid trigger depth",
    },
    Key {
        name: "trigger-min-priority",
        operators: false,
        take: |value, wishes, _| {
            let priority = count(value).and_then(|n| u8::try_from(n).ok());
            put(&mut wishes.trigger.min_priority, priority)
        },
        refusal: "is not a valid priority",
    },
    Key {
        name: "trigger-max-wait",
        operators: false,
        take: |value, wishes, _| put(&mut wishes.trigger.max_wait_ms, duration(value, 1)),
        refusal: "is not a valid time to wait",
    },
    Key {
        name: "trigger-process",
        operators: false,
        take: |value, wishes, _| put(&mut wishes.trigger.process, value.as_str().map(Arc::from)),
        refusal: "is not a valid program name",
    },
    Key {
        name: "trigger-data",
        operators: false,
        take: |value, wishes, _| put(&mut wishes.trigger.data, value.as_str().map(Arc::from)),
        refusal: "is not a valid trigger data text",
    },
    Key {
        name: "initiation-exchange",
        operators: false,
        take: |value, wishes, _| {
            put(&mut wishes.trigger.initiation_exchange, value.as_str().map(Arc::from))
        },
        refusal: "is not a valid initiation exchange name",
    },
    // Taken and shown, without effect on one node.
    Key {
        name: "max-in-memory-length",
        operators: true,
        take: |value, _, _| count(value).is_some(),
        refusal: "is not a valid maximum memory in bytes",
    },
    Key {
        name: "max-in-memory-bytes",
        operators: true,
        take: |value, _, _| count(value).is_some(),
        refusal: "is not a valid maximum memory in bytes",
    },
    Key {
        name: "queue-mode",
        operators: false,
        take: |value, _, _| matches!(value.as_str(), Some("default" | "lazy")),
        refusal: "is not a valid queue-mode value",
    },
    Key {
        name: "queue-version",
        operators: true,
        take: |value, _, _| matches!(value.as_integer(), Some(1 | 2)),
        refusal: "is not a valid queue version",
    },
    Key {
        name: "queue-leader-locator",
        operators: false,
        take: |value, _, _| matches!(value.as_str(), Some("client-local" | "balanced")),
        refusal: "is not a valid queue leader locator value",
    },
    Key {
        name: "queue-master-locator",
        operators: false,
        take: |value, _, _| value.as_str().is_some(),
        refusal: "is not a valid queue leader locator value",
    },
    Key {
        name: "initial-cluster-size",
        operators: false,
        take: |value, _, _| value.as_integer().is_some_and(|n| n > 0),
        refusal: "is not a valid cluster size",
    },
    Key {
        name: "target-group-size",
        operators: true,
        take: |value, _, _| value.as_integer().is_some_and(|n| n > 0),
        refusal: "is not a valid target count value",
    },
];

/// Puts what was understood; false when nothing was.
fn put<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    *place = value;
    place.is_some()
}

fn count(value: &Value) -> Option<u64> {
    value.as_integer().and_then(|n| u64::try_from(n).ok())
}

fn duration(value: &Value, min: u64) -> Option<u64> {
    count(value).filter(|ms| (min..=DURATION_MS_MAX.unsigned_abs()).contains(ms))
}

/// The policies of a vhost.
#[derive(Debug, Default)]
pub(super) struct Policies {
    user: Vec<Arc<Policy>>,
    operator: Vec<Arc<Policy>>,
}

impl Policies {
    pub(super) fn of(&self, kind: PolicyKind) -> &[Arc<Policy>] {
        match kind {
            PolicyKind::User => &self.user,
            PolicyKind::Operator => &self.operator,
        }
    }

    fn of_mut(&mut self, kind: PolicyKind) -> &mut Vec<Arc<Policy>> {
        match kind {
            PolicyKind::User => &mut self.user,
            PolicyKind::Operator => &mut self.operator,
        }
    }

    /// Adds a policy in place of the one with its name, which it returns.
    pub(super) fn insert(&mut self, kind: PolicyKind, policy: Policy) -> Option<Arc<Policy>> {
        let replaced = self.remove(kind, &policy.spec.name);
        let policies = self.of_mut(kind);
        let order = |policy: &Policy| (-i128::from(policy.spec.priority), policy.spec.name.clone());
        let at = policies.partition_point(|other| order(other) < order(&policy));
        policies.insert(at, Arc::new(policy));
        replaced
    }

    /// Takes a policy away and returns it; `None` when there was none of this name.
    fn remove(&mut self, kind: PolicyKind, name: &str) -> Option<Arc<Policy>> {
        let policies = self.of_mut(kind);
        let at = policies.iter().position(|policy| policy.spec.name == name)?;
        Some(policies.remove(at))
    }

    /// What an object obeys.
    pub(super) fn applied_to(&self, object: Object, name: &str) -> AppliedPolicy {
        let first = |policies: &[Arc<Policy>]| {
            policies.iter().find(|policy| policy.applies_to(object, name)).cloned()
        };
        let user = first(&self.user);
        let leads_on = user.as_ref().is_some_and(|policy| policy.reach.has(object, name));
        AppliedPolicy { user, operator: first(&self.operator), leads_on }
    }
}

/// The policies that an object obeys: at most one of each kind.
#[derive(Debug, Clone, Default)]
pub struct AppliedPolicy {
    user: Option<Arc<Policy>>,
    operator: Option<Arc<Policy>>,
    /// Whether the user policy may lead messages out of the object.
    leads_on: bool,
}

impl AppliedPolicy {
    /// The rules of a queue that was declared with these arguments.
    #[must_use]
    pub fn rules(&self, args: &QueueArgs) -> Arc<Rules> {
        let none = Wishes::default();
        let declared = args.wishes.as_deref();
        if self.user.is_none() && self.operator.is_none() && declared.is_none() {
            return Rules::plain(args.kind);
        }
        let wishes = |policy: &Option<Arc<Policy>>| {
            policy.as_ref().map_or_else(|| none.clone(), |policy| policy.wishes.clone())
        };
        let mut user = wishes(&self.user);
        if !self.leads_on {
            user = Wishes { dead_letter_exchange: None, dead_letter_routing_key: None, ..user };
        }
        let policy = user.under(&wishes(&self.operator));
        Arc::new(Rules::of(args.kind, declared.unwrap_or(&none), &policy))
    }

    pub(super) fn alternate_exchange(&self) -> Option<&Arc<str>> {
        self.user.as_ref().filter(|_| self.leads_on)?.alternate_exchange.as_ref()
    }

    /// Whether it is the very same policies.
    pub(super) fn is(&self, other: &Self) -> bool {
        let same = |one: &Option<Arc<Policy>>, other: &Option<Arc<Policy>>| match (one, other) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        same(&self.user, &other.user) && same(&self.operator, &other.operator)
    }

    /// As operators see it.
    #[must_use]
    pub fn view(&self) -> AppliedPolicyView {
        let name =
            |policy: &Option<Arc<Policy>>| policy.as_ref().map(|policy| policy.spec.name.clone());
        let definition = |policy: &Option<Arc<Policy>>| {
            policy.as_ref().map(|policy| policy.spec.definition.clone()).unwrap_or_default()
        };
        let mut effective = definition(&self.user);
        if !self.leads_on {
            maker::LEADING.iter().for_each(|key| drop(effective.remove(key)));
        }
        for (key, value) in definition(&self.operator).iter() {
            let key = key.to_string_lossy();
            let joined = match (effective.get(&key), &*key) {
                (Some(Value::LongStr(_)) | None, _) => value.clone(),
                (Some(user), "delivery-limit") if user.as_integer() < Some(0) => value.clone(),
                (Some(user), "delivery-limit") if value.as_integer() < Some(0) => user.clone(),
                (Some(user), "target-group-size") if user.as_integer() > value.as_integer() => {
                    user.clone()
                }
                (Some(user), name)
                    if name != "target-group-size" && user.as_integer() < value.as_integer() =>
                {
                    user.clone()
                }
                _ => value.clone(),
            };
            effective.insert(&*key, joined);
        }
        AppliedPolicyView {
            policy: name(&self.user),
            operator_policy: name(&self.operator),
            definition: effective,
        }
    }
}

/// What an object obeys, as operators see it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AppliedPolicyView {
    /// The user policy's name.
    pub policy: Option<String>,
    /// The operator policy's name.
    pub operator_policy: Option<String>,
    /// What both ask for together.
    pub definition: Table,
}

/// What became of a policy that was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicySet {
    /// Whether it replaced one of the same name.
    pub replaced: bool,
    /// When that is durable.
    pub lsn: Lsn,
}

impl Broker {
    /// Sets a policy; every queue and exchange that it matches obeys it when this returns.
    ///
    /// # Errors
    /// When the policy makes no sense, or has messages flow where its maker has no right to have
    /// them flow; nothing is changed then.
    pub fn set_policy(
        &self,
        vhost: &Arc<Vhost>,
        kind: PolicyKind,
        spec: PolicySpec,
        maker: &Identity,
        now: Now,
    ) -> Result<PolicySet, OperateError> {
        let mut policy = Policy::new(kind, spec)?;
        policy.reach = self.check_maker(vhost, &policy, maker, now)?;
        let spec = policy.spec.clone();
        let key = policy_key(vhost, kind, &policy.spec.name);
        let actor = &*maker.user.name;
        let mut effects = Effects { actor: Some(actor.into()), ..Effects::default() };
        let change = vhost.change();
        maker::check_reach(vhost, &policy, actor)?;
        let batch = Batch { ops: vec![key.put(policy.record())], awaited: true };
        let lsn = self.define(vhost, batch);
        let replaced = vhost.write_policies().insert(kind, policy);
        apply_policies(vhost, change, now, &mut effects);
        let was = || replaced.as_deref().map(|policy| fields::policy(vhost, &policy.spec));
        let told = &mut self.told(&mut effects);
        told.tell_change("policy.set", was, || fields::policy(vhost, &spec));
        self.finish(&mut effects, now);
        Ok(PolicySet { replaced: replaced.is_some(), lsn })
    }

    /// Takes a policy away. `None` when there was none of this name, else when that is durable.
    pub fn clear_policy(
        &self,
        vhost: &Arc<Vhost>,
        kind: PolicyKind,
        name: &str,
        actor: &str,
        now: Now,
    ) -> Option<Lsn> {
        let mut effects = Effects { actor: Some(actor.into()), ..Effects::default() };
        let change = vhost.change();
        let removed = vhost.write_policies().remove(kind, name)?;
        let key = policy_key(vhost, kind, name);
        let lsn = self.define(vhost, Batch { ops: vec![key.delete()], awaited: true });
        apply_policies(vhost, change, now, &mut effects);
        let event = match kind {
            PolicyKind::User => "policy.cleared",
            PolicyKind::Operator => "operator.policy.cleared",
        };
        let was = || Some(fields::policy(vhost, &removed.spec));
        self.told(&mut effects).tell_change(event, was, || fields::name(vhost, name));
        self.finish(&mut effects, now);
        Some(lsn)
    }
}

fn policy_key(vhost: &Vhost, kind: PolicyKind, name: &str) -> DefinitionKey {
    DefinitionKey::Policy { vhost: vhost.name().to_string(), kind, name: name.to_owned() }
}

/// Gives every object of the vhost the policies that apply to it now.
fn apply_policies(
    vhost: &Vhost,
    mut change: super::vhost::TopologyChange<'_>,
    now: Now,
    effects: &mut Effects,
) {
    let policies = vhost.policies.read().unwrap_or_else(PoisonError::into_inner);
    for exchange in &vhost.exchanges {
        exchange.apply_policy(policies.applied_to(Object::Exchange, &exchange.spec.name));
    }
    for queue in &vhost.queues {
        let object = Object::Queue(queue.spec().args.kind);
        let policy = policies.applied_to(object, queue.name());
        if !policy.is(&queue.policy()) {
            queue.apply_policy(policy, now, effects);
            vhost.arm_declared(queue.value(), now, effects);
        }
    }
    // Routes know of alternate exchanges and of queues that refuse.
    change.note();
}
