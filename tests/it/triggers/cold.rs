//! What triggers hand over of queues that are longer than their memory.

use std::collections::BTreeSet;

use leveret::broker::trigger::run::{Outcome, Verdict};
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Enough for a few dozen short messages in one queue.
const LITTLE: u64 = 20_000;

/// A world with little memory and the durable queue "q", declared like this.
fn world(memory: u64, declared: QueueDeclare) -> (World, Client) {
    let world = World::with_queue_memory(memory);
    world.only_in_process("it is played by the test");
    let client = world.client();
    client.declare(1, declared);
    (world, client)
}

fn paged_out(world: &World) -> u64 {
    let vhost = world.broker().vhost("/").unwrap();
    vhost.queue(b"q").unwrap().view().messages_paged_out
}

/// Publishes the numbers of a range; of every hundred the last has priority 5, the others none.
fn fill(client: &Client, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let priority = if number % 100 == 99 { 5 } else { 0 };
        send_with_priority(client, priority, &[&number.to_string()]);
    }
}

fn numbers(run: &Run) -> Vec<u32> {
    bodies(run).iter().map(|body| body.parse().unwrap()).collect()
}

fn after_a_restart(declared: QueueDeclare, condition: Json) {
    let (world, client) = world(1 << 20, declared);
    set(&world, condition, json!({"batch_max": 100}));
    for number in 0..39 {
        send_with_priority(&client, 7, &[&number.to_string()]);
    }
    let world = world.restarted(0);
    nothing_to_run(&world);
    send_with_priority(&world.client(), 7, &["39"]);
    let world = world.restarted(0);
    assert!(paged_out(&world) > 0, "not all of it is in memory");
    let run = must_take(&world);
    assert_eq!(numbers(&run), (0..40).collect::<Vec<_>>());
    assert_eq!(run.cause.ready, 40);
    nothing_to_run(&world);
    end(&world, &run, Verdict::Ack);
    nothing_to_run(&world);
    assert_eq!(world.restarted(0).client().depth(1, "q"), 0);
}

#[test]
fn after_a_restart_a_batch_is_whole() {
    after_a_restart(queue("q").durable(), json!({"type": "depth", "count": 40}));
}

#[test]
fn after_a_restart_a_batch_of_a_queue_with_priorities_is_whole() {
    let condition = json!({"type": "depth", "count": 40, "min_priority": 5});
    after_a_restart(queue("q").durable().arg("x-max-priority", 9), condition);
}

#[test]
fn after_a_restart_a_batch_of_a_priority_that_the_queue_does_not_order_by_is_whole() {
    let condition = json!({"type": "depth", "count": 40, "min_priority": 5});
    after_a_restart(queue("q").durable(), condition);
}

#[test]
fn a_batch_may_be_far_longer_than_what_a_queue_has_in_memory() {
    for declared in [queue("q").durable(), queue("q").durable().arg("x-max-priority", 9)] {
        let (world, client) = world(LITTLE, declared);
        (0..3_000).for_each(|number: u32| send(&client, &[&number.to_string()]));
        assert!(paged_out(&world) > 2_900);
        set(&world, json!({"type": "depth", "count": 3_000}), json!({"batch_max": 2_000}));
        let run = must_take(&world);
        assert_eq!(numbers(&run), (0..2_000).collect::<Vec<_>>());
        end(&world, &run, Verdict::Ack);
        let run = must_take(&world);
        assert_eq!(numbers(&run), (2_000..3_000).collect::<Vec<_>>());
        end(&world, &run, Verdict::Ack);
        nothing_to_run(&world);
        assert_eq!(client.depth(1, "q"), 0);
    }
}

#[test]
fn a_higher_priority_is_handed_over_before_a_lower_one_wherever_they_lie() {
    let (world, client) = world(LITTLE, queue("q").durable().arg("x-max-priority", 9));
    for number in 0..1_000 {
        let priority = u8::try_from(number % 10).unwrap();
        send_with_priority(&client, priority, &[&number.to_string()]);
    }
    assert!(paged_out(&world) > 900);
    let condition = json!({"type": "depth", "count": 300, "min_priority": 7});
    set(&world, condition, json!({"batch_max": 500}));
    let run = must_take(&world);
    let expected = [9, 8, 7].map(|priority| (0..100).map(move |at| at * 10 + priority));
    assert_eq!(numbers(&run), expected.into_iter().flatten().collect::<Vec<_>>());
    nothing_to_run(&world);
}

#[test]
fn what_a_selection_picks_is_found_in_the_midst_of_what_only_the_store_has() {
    let (world, client) = world(LITTLE, queue("q").durable());
    fill(&client, 0..3_000);
    assert!(paged_out(&world) > 2_900);
    let condition = json!({"type": "depth", "count": 30, "min_priority": 5});
    set(&world, condition, json!({"batch_max": 100}));
    let picked: Vec<u32> = (0..30).map(|at| at * 100 + 99).collect();
    let run = must_take(&world);
    assert_eq!(numbers(&run), picked);
    nothing_to_run(&world);
    let held = world.broker().paging().held_bytes();
    assert!(held <= LITTLE / 4, "{held} bytes: what lies between stays where it is");
    assert_eq!(client.depth(1, "q"), 2_970);
    // It is not taken for what is left, neither when that is read nor when it comes back.
    let half: Vec<String> = (0..1_485).map(|_| client.fetch(1, "q").text().to_owned()).collect();
    end(&world, &run, Verdict::Failed);
    world.advance(1_000);
    let again = must_take(&world);
    assert_eq!(numbers(&again), picked);
    outcome(&world, &again, Outcome::CouldNotStart { reason: "gone".to_owned() });
    assert_eq!(client.depth(1, "q"), 1_515);
    set(&world, json!({"type": "first"}), json!({"enabled": false}));
    let mut all: Vec<u32> = half.iter().map(|body| body.parse().unwrap()).collect();
    all.extend(client.drain(1, "q").iter().map(|body| body.parse::<u32>().unwrap()));
    all.sort_unstable();
    assert_eq!(all, (0..3_000).collect::<Vec<_>>(), "each once");
}

#[test]
fn a_purge_leaves_what_was_picked_from_the_midst() {
    let (world, client) = world(LITTLE, queue("q").durable());
    fill(&client, 0..1_000);
    let condition = json!({"type": "depth", "count": 10, "min_priority": 5});
    set(&world, condition, json!({"batch_max": 5}));
    let first = must_take(&world);
    client.ok(1, purge("q"));
    nothing_to_run(&world);
    assert_eq!(client.depth(1, "q"), 0);
    end(&world, &first, Verdict::Failed);
    let world = world.restarted(0);
    let client = world.client();
    assert_eq!(client.drain(1, "q"), ["99", "199", "299", "399", "499"]);
}

#[test]
fn a_run_waits_for_what_is_read_and_gives_it_back_if_it_is_not_to_begin() {
    let world = {
        let (world, client) = world(1 << 20, queue("q").durable());
        (0..40).for_each(|number: u32| send(&client, &[&number.to_string()]));
        world.restarted(0)
    };
    // A few are in memory.
    world.pump();
    world.hold_reads(true);
    set(&world, json!({"type": "depth", "count": 40}), json!({"batch_max": 100}));
    nothing_to_run(&world);
    let explained = explain(&world);
    assert!(explained.missing[0].starts_with("messages are being read: "), "{explained:?}");
    assert_eq!(state(&world), "armed");
    assert!((1..40).contains(&world.client().depth(1, "q")), "it has some");
    set(&world, json!({"type": "depth", "count": 40}), json!({"enabled": false}));
    assert_eq!(world.client().depth(1, "q"), 40);
    world.hold_reads(false);
    nothing_to_run(&world);
    set(&world, json!({"type": "depth", "count": 40}), json!({"batch_max": 100}));
    assert_eq!(numbers(&must_take(&world)), (0..40).collect::<Vec<_>>());
}

#[test]
fn what_a_consumer_takes_meanwhile_is_not_waited_for() {
    let world = {
        let (world, client) = world(1 << 20, queue("q").durable());
        (0..40).for_each(|number: u32| send(&client, &[&number.to_string()]));
        world.restarted(0)
    };
    // A few are in memory.
    world.pump();
    world.hold_reads(true);
    set(&world, json!({"type": "depth", "count": 40}), json!({"batch_max": 100}));
    nothing_to_run(&world);
    let consumer = world.client();
    consumer.ok(1, consume("q", "c").no_ack());
    world.hold_reads(false);
    let run = must_take(&world);
    let taken = consumer.all_messages(1).len();
    assert!(taken > 0 && run.messages.len() == 40 - taken, "{taken}");
}

#[derive(Debug, Clone)]
enum Step {
    Publish { high: bool },
    Take,
    End { at: usize, verdict: Verdict },
    Get { acks: bool },
    Purge,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let verdict = prop_oneof![
        4 => Just(Verdict::Ack),
        2 => Just(Verdict::Failed),
        1 => Just(Verdict::Reject),
    ];
    prop_oneof![
        12 => any::<bool>().prop_map(|high| Step::Publish { high }),
        4 => Just(Step::Take),
        4 => (any::<usize>(), verdict).prop_map(|(at, verdict)| Step::End { at, verdict }),
        3 => any::<bool>().prop_map(|acks| Step::Get { acks }),
        1 => Just(Step::Purge),
        1 => Just(Step::Restart),
    ]
}

/// A queue that a trigger picks from, and where each of its messages must be.
struct Picked {
    world: World,
    client: Client,
    next: u32,
    high: BTreeSet<u32>,
    waiting: BTreeSet<u32>,
    /// To be tried again.
    again: BTreeSet<u32>,
    runs: Vec<Run>,
}

impl Picked {
    fn new(declared: QueueDeclare) -> Self {
        let (world, client) = world(4_000, declared);
        let filter = json!({"type": "first", "filter": {"kind": "high"}});
        let with = json!({
            "batch_max": 3, "concurrency": 3, "retry_delay_ms": 1, "attempts_max": 1_000_000,
        });
        set(&world, filter, with);
        let (high, waiting, again) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        Self { world, client, next: 0, high, waiting, again, runs: Vec::new() }
    }

    fn play(mut self, step: &Step) -> Self {
        match step {
            Step::Publish { high } => {
                for _ in 0..5 {
                    let kind = if *high { "high" } else { "low" };
                    let body = self.next.to_string();
                    let properties = props().persistent().header("kind", kind);
                    self.client.send(1, publish("", "q", &body).with(properties));
                    self.waiting.insert(self.next);
                    if *high {
                        self.high.insert(self.next);
                    }
                    self.next += 1;
                }
            }
            Step::Take => {
                self.world.advance(1);
                let Some(run) = take(&self.world) else { return self };
                for number in numbers(&run) {
                    assert!(self.high.contains(&number), "{number} is not meant");
                    let is_known = self.waiting.remove(&number) || self.again.remove(&number);
                    assert!(is_known, "{number} was handed over before, or is done with");
                }
                self.runs.push(run);
            }
            Step::End { at, verdict } => {
                let Some(at) = at.checked_rem(self.runs.len()) else { return self };
                let run = self.runs.swap_remove(at);
                end(&self.world, &run, *verdict);
                if *verdict == Verdict::Failed {
                    self.again.extend(numbers(&run));
                }
            }
            Step::Get { acks } => {
                if self.client.depth(1, "q") == 0 {
                    return self;
                }
                let got = self.client.fetch(1, "q");
                let number = got.text().parse().unwrap();
                assert!(self.waiting.contains(&number), "{number} does not wait");
                if *acks {
                    self.waiting.remove(&number);
                    self.client.send(1, ack(got.delivery_tag));
                } else {
                    self.client.send(1, nack(got.delivery_tag, Then::Requeue));
                }
            }
            Step::Purge => {
                self.client.ok(1, purge("q"));
                self.waiting.clear();
            }
            Step::Restart => {
                self.world = self.world.restarted(0);
                self.client = self.world.client();
                self.waiting.append(&mut self.again);
                self.waiting.extend(self.runs.drain(..).flat_map(|run| numbers(&run)));
            }
        }
        assert_eq!(self.client.depth(1, "q") as usize, self.waiting.len());
        self
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn what_is_picked_is_neither_lost_nor_doubled_wherever_it_lies(
        quorum in any::<bool>(),
        steps in prop::collection::vec(step(), 0..90)
    ) {
        let declared = queue("q").durable();
        let declared = if quorum { declared.arg("x-queue-type", "quorum") } else { declared };
        let picked = steps.iter().fold(Picked::new(declared), Picked::play);
        let Picked { mut waiting, mut again, runs, world, .. } = picked.play(&Step::Restart);
        prop_assert!(again.is_empty() && runs.is_empty());
        waiting.append(&mut again);
        let mut left: Vec<u32> = world.client().drain(1, "q").iter()
            .map(|body| body.parse().unwrap())
            .collect();
        left.sort_unstable();
        prop_assert_eq!(left, waiting.into_iter().collect::<Vec<_>>());
    }
}
