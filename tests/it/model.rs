//! One queue, a few clients and whatever they happen to do, against a model too simple to be wrong.
//!
//! The model knows where each message is: ready, held by a client, or done with. It does not know
//! who will get which message; it learns that from what the clients see, and checks that it was
//! allowed: oldest first, nobody above their prefetch, nothing twice without saying so, nothing
//! lost, nobody kept waiting who could be served.

use std::collections::BTreeMap;

use leveret::protocol::method::Method;
use proptest::prelude::*;

use crate::support::*;

const CLIENTS: usize = 3;

/// Something that happens. Clients are numbered; `which` picks one of a client's deliveries.
#[derive(Debug, Clone)]
enum Action {
    Publish { client: usize, messages: usize },
    Consume { client: usize, prefetch: u16, no_ack: bool },
    Cancel { client: usize },
    Get { client: usize, no_ack: bool },
    Ack { client: usize, which: usize, multiple: bool },
    Nack { client: usize, which: usize, multiple: bool, then: Then },
    Reject { client: usize, which: usize, then: Then },
    Recover { client: usize },
    Purge { client: usize },
    Reopen { client: usize },
    Vanish { client: usize },
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    let client = || 0..CLIENTS;
    let then = || prop_oneof![Just(Then::Requeue), Just(Then::Discard)];
    let prefetch = prop_oneof![Just(0_u16), Just(1), Just(2), Just(5)];
    prop_oneof![
        8 => (client(), 1..6_usize)
            .prop_map(|(client, messages)| Action::Publish { client, messages }),
        4 => (client(), prefetch, prop::bool::weighted(0.2)).prop_map(
            |(client, prefetch, no_ack)| Action::Consume { client, prefetch, no_ack }
        ),
        2 => client().prop_map(|client| Action::Cancel { client }),
        3 => (client(), any::<bool>()).prop_map(|(client, no_ack)| Action::Get { client, no_ack }),
        6 => (client(), 0..10_usize, any::<bool>())
            .prop_map(|(client, which, multiple)| Action::Ack { client, which, multiple }),
        4 => (client(), 0..10_usize, any::<bool>(), then()).prop_map(
            |(client, which, multiple, then)| Action::Nack { client, which, multiple, then }
        ),
        2 => (client(), 0..10_usize, then())
            .prop_map(|(client, which, then)| Action::Reject { client, which, then }),
        1 => client().prop_map(|client| Action::Recover { client }),
        1 => client().prop_map(|client| Action::Purge { client }),
        1 => client().prop_map(|client| Action::Reopen { client }),
        1 => client().prop_map(|client| Action::Vanish { client }),
        1 => Just(Action::Restart),
    ]
}

/// What is known about whether a message was delivered before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Never,
    Before,
    /// A restart forgets whether it was.
    Perhaps,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Ready,
    Held,
    Done,
}

#[derive(Debug, Clone, Copy)]
struct Message {
    place: Place,
    seen: Seen,
}

struct Consumer {
    prefetch: u16,
    no_ack: bool,
}

/// A client and what the model knows of it.
struct Participant {
    client: Client,
    consumer: Option<Consumer>,
    /// By delivery tag: the message, and whether the consumer (or a get) brought it.
    held: BTreeMap<u64, (usize, bool)>,
}

impl Participant {
    fn new(world: &World) -> Self {
        Self { client: world.client(), consumer: None, held: BTreeMap::new() }
    }

    /// The delivery that `which` picks, and those up to it if they are meant too.
    fn picked(&self, which: usize, multiple: bool) -> Option<(u64, Vec<u64>)> {
        let at = which.checked_rem(self.held.len())?;
        let tag = *self.held.keys().nth(at)?;
        let tags = self.held.range(..=tag).map(|(tag, _)| *tag);
        Some((tag, if multiple { tags.collect() } else { vec![tag] }))
    }

    fn held_by_consumer(&self) -> usize {
        self.held.values().filter(|(_, by_consumer)| *by_consumer).count()
    }
}

struct Run {
    world: Option<World>,
    participants: Vec<Participant>,
    /// By number: the order in which they were published.
    messages: Vec<Message>,
}

impl Run {
    fn new(queue_memory_bytes: u64) -> Self {
        let world = World::with_queue_memory(queue_memory_bytes);
        let participants: Vec<_> = (0..CLIENTS).map(|_| Participant::new(&world)).collect();
        participants[0].client.declare(1, queue("q").durable());
        Self { world: Some(world), participants, messages: Vec::new() }
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Publish { client, messages } => self.publish(client, messages),
            Action::Consume { client, prefetch: limit, no_ack } => {
                let participant = &mut self.participants[client];
                if participant.consumer.is_none() {
                    participant.consumer = Some(Consumer { prefetch: limit, no_ack });
                    participant.client.ok(1, prefetch(limit));
                    let request = consume("q", "c");
                    participant.client.send(1, if no_ack { request.no_ack() } else { request });
                }
            }
            Action::Cancel { client } => {
                self.participants[client].consumer = None;
                self.participants[client].client.send(1, cancel("c"));
                for (_, by_consumer) in self.participants[client].held.values_mut() {
                    *by_consumer = false;
                }
            }
            Action::Get { client, no_ack } => {
                let request = if no_ack { get("q").no_ack() } else { get("q") };
                self.participants[client].client.send(1, request);
                return self.look(Some((client, no_ack)));
            }
            Action::Ack { client, which, multiple } => {
                if let Some((tag, tags)) = self.participants[client].picked(which, multiple) {
                    self.settle(client, &tags, Then::Discard);
                    let request = if multiple { ack_up_to(tag) } else { ack(tag) };
                    self.participants[client].client.send(1, request);
                }
            }
            Action::Nack { client, which, multiple, then } => {
                if let Some((tag, tags)) = self.participants[client].picked(which, multiple) {
                    self.settle(client, &tags, then);
                    let request = if multiple { nack_up_to(tag, then) } else { nack(tag, then) };
                    self.participants[client].client.send(1, request);
                }
            }
            Action::Reject { client, which, then } => {
                if let Some((tag, tags)) = self.participants[client].picked(which, false) {
                    self.settle(client, &tags, then);
                    self.participants[client].client.send(1, reject(tag, then));
                }
            }
            Action::Recover { client } => {
                self.give_back_all(client);
                self.participants[client].client.send(1, recover());
            }
            Action::Purge { client } => {
                let ready = self.messages.iter_mut().filter(|it| it.place == Place::Ready);
                ready.for_each(|message| message.place = Place::Done);
                self.participants[client].client.send(1, purge("q"));
            }
            Action::Reopen { client } => {
                self.give_back_all(client);
                self.participants[client].consumer = None;
                let open = Method::ChannelOpen(Default::default());
                self.participants[client].client.send_at_once(1, &[&close_channel(), &open]);
            }
            Action::Vanish { client } => {
                self.give_back_all(client);
                self.participants[client].client.vanish();
                self.participants[client] = Participant::new(self.world.as_ref().unwrap());
            }
            Action::Restart => self.restart(),
        }
        self.look(None);
    }

    fn publish(&mut self, client: usize, messages: usize) {
        let first = self.messages.len();
        let requests: Vec<Publish> = (first..first + messages)
            .map(|number| publish("", "q", number.to_string()).with(props().persistent()))
            .collect();
        let message = Message { place: Place::Ready, seen: Seen::Never };
        self.messages.resize(first + messages, message);
        let requests: Vec<&dyn Request> = requests.iter().map(|it| it as &dyn Request).collect();
        self.participants[client].client.send_at_once(1, &requests);
    }

    fn settle(&mut self, client: usize, tags: &[u64], then: Then) {
        for tag in tags {
            let (number, _) = self.participants[client].held.remove(tag).unwrap();
            self.messages[number].place =
                if then == Then::Requeue { Place::Ready } else { Place::Done };
        }
    }

    fn give_back_all(&mut self, client: usize) {
        let tags: Vec<u64> = self.participants[client].held.keys().copied().collect();
        self.settle(client, &tags, Then::Requeue);
    }

    fn restart(&mut self) {
        for client in 0..CLIENTS {
            self.give_back_all(client);
        }
        for message in self.messages.iter_mut().filter(|it| it.seen == Seen::Never) {
            message.seen = Seen::Perhaps;
        }
        let world = self.world.take().unwrap().restarted(1_000);
        self.participants = (0..CLIENTS).map(|_| Participant::new(&world)).collect();
        self.world = Some(world);
    }

    /// Takes note of what everyone sees, and checks it.
    fn look(&mut self, get: Option<(usize, bool)>) {
        let mut delivered = Vec::new();
        for client in 0..CLIENTS {
            let mut last = None;
            while let Some(received) = self.participants[client].client.next(1) {
                let Some(content) = received.content() else {
                    let (_, method) = received.method().id();
                    let refused = matches!(received.method(), Method::ChannelClose(_));
                    assert!(!refused && method != 0, "{:?}", received.method());
                    continue;
                };
                let by_consumer = !content.consumer_tag.is_empty();
                let number = self.deliver(client, &content, by_consumer, get);
                if by_consumer {
                    assert!(last < Some(number), "a consumer sees the oldest first");
                    last = Some(number);
                }
                delivered.push(number);
            }
        }
        let ready: Vec<usize> = self.numbers(Place::Ready);
        if let (Some(newest), Some(oldest)) = (delivered.iter().max(), ready.first()) {
            assert!(newest < oldest, "{newest} was delivered before {oldest}");
        }
        self.check(&ready);
    }

    fn deliver(
        &mut self,
        client: usize,
        content: &Content,
        by_consumer: bool,
        get: Option<(usize, bool)>,
    ) -> usize {
        let number: usize = content.text().parse().unwrap();
        let message = &mut self.messages[number];
        assert_eq!(message.place, Place::Ready, "message {number} was not there to be delivered");
        match message.seen {
            Seen::Never => assert!(!content.redelivered, "{number} was never delivered before"),
            Seen::Before => assert!(content.redelivered, "{number} was delivered before"),
            Seen::Perhaps => {}
        }
        message.seen = Seen::Before;
        let participant = &mut self.participants[client];
        let no_ack = match (by_consumer, &participant.consumer, get) {
            (true, Some(consumer), _) => consumer.no_ack,
            (false, _, Some((fetcher, no_ack))) if fetcher == client => no_ack,
            _ => panic!("client {client} did not ask for {number}"),
        };
        if no_ack {
            message.place = Place::Done;
        } else {
            message.place = Place::Held;
            let before = participant.held.insert(content.delivery_tag, (number, by_consumer));
            assert_eq!(before, None, "delivery tags are never used again");
        }
        number
    }

    /// What must be true whenever everything has come to rest.
    fn check(&self, ready: &[usize]) {
        for (client, participant) in self.participants.iter().enumerate() {
            let Some(consumer) = &participant.consumer else { continue };
            let held = participant.held_by_consumer();
            let is_full =
                !consumer.no_ack && consumer.prefetch > 0 && held >= usize::from(consumer.prefetch);
            if consumer.prefetch > 0 && !consumer.no_ack {
                assert!(held <= usize::from(consumer.prefetch), "client {client} holds {held}");
            }
            assert!(ready.is_empty() || is_full, "client {client} waits while {ready:?} are ready");
        }
        let broker = self.world.as_ref().unwrap().broker();
        let view = broker.vhost("/").unwrap().queue(b"q").unwrap().view();
        let held = self.numbers(Place::Held);
        assert_eq!(view.messages_ready, ready.len() as u64);
        assert_eq!(view.messages_unacked, held.len() as u64);
        assert_eq!(view.messages_persistent, (ready.len() + held.len()) as u64);
        let bytes = |numbers: &[usize]| -> u64 {
            numbers.iter().map(|number| number.to_string().len() as u64).sum()
        };
        assert_eq!((view.bytes_ready, view.bytes_unacked), (bytes(ready), bytes(&held)));
        let consumers = self.participants.iter().filter(|it| it.consumer.is_some()).count();
        assert_eq!(view.consumers.len(), consumers);
    }

    fn numbers(&self, place: Place) -> Vec<usize> {
        let numbered = self.messages.iter().enumerate();
        numbered.filter(|(_, it)| it.place == place).map(|(number, _)| number).collect()
    }

    /// Everyone leaves: what was ready or held is all there, in order.
    fn finish(mut self) {
        for client in 0..CLIENTS {
            self.act(&Action::Cancel { client });
        }
        for client in 0..CLIENTS {
            self.act(&Action::Vanish { client });
        }
        let left: Vec<String> = self.numbers(Place::Ready).iter().map(usize::to_string).collect();
        assert_eq!(self.participants[0].client.drain(1, "q"), left);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_clients_do_messages_are_delivered_in_order_and_never_lost(
        actions in prop::collection::vec(action(), 1..80),
        // Everything in memory; a few messages; hardly one.
        queue_memory_bytes in prop_oneof![Just(1 << 20), Just(4_000_u64), Just(1_000)],
    ) {
        let mut run = Run::new(queue_memory_bytes);
        for action in &actions {
            run.act(action);
        }
        run.finish();
    }
}
