//! The interop scenarios through lapin, a Rust client that shares no code with the broker.
//!
//! Run by `interop/run`, which sets `AMQP_URL` and reads one line per scenario from standard
//! output: `ok NAME` or `FAIL NAME: why`. See `interop/README.md` for what each scenario has to
//! show.

mod check;
mod scenarios;

use std::io::BufRead;

use lapin::options::{BasicAckOptions, BasicGetOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;

use check::{Outcome, WAIT, equal, is_refusal, require};
use scenarios::{collect, connect, persistent, prefix, publish_confirmed};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let passed = match arguments.as_slice() {
        [verb, how] if verb == "restart" => {
            report(&format!("restart-{how}"), restart(how == "kill").await)
        }
        _ => all_scenarios().await,
    };
    std::process::exit(i32::from(!passed));
}

/// Plays every scenario on a connection of its own and says whether all passed.
async fn all_scenarios() -> bool {
    macro_rules! play {
        ($($title:literal $function:ident),* $(,)?) => {{
            let mut passed = true;
            $(passed &= report($title, {
                let name = format!("{}.{}", prefix(), $title);
                match connect().await {
                    Ok(connection) => {
                        let outcome = match connection.create_channel().await {
                            Ok(channel) => {
                                scenarios::$function(&connection, &channel, &name).await
                            }
                            Err(error) => Err(error.into()),
                        };
                        // What a scenario left open must not reach the next one.
                        let _ = connection.close(200, "done".into()).await;
                        outcome
                    }
                    Err(error) => Err(error),
                }
            });)*
            passed
        }};
    }
    play! {
        "connect" connect_scenario,
        "declare" declare,
        "confirm" confirm,
        "properties" properties,
        "sizes" sizes,
        "prefetch" prefetch,
        "requeue" requeue,
        "mandatory" mandatory,
        "rpc" rpc,
        "get" get,
        "exclusive" exclusive,
        "channel-error" channel_error,
        "dead-letter" dead_letter,
        "cancel" cancel,
        "quorum" quorum,
    }
}

/// Prints a scenario's line and says whether it passed.
fn report(name: &str, outcome: Outcome) -> bool {
    match outcome {
        Ok(()) => println!("ok {name}"),
        Err(ref why) => println!("FAIL {name}: {}", why.to_string().replace('\n', " ")),
    }
    outcome.is_ok()
}

/// Confirmed messages survive a broker killed or stopped, in order, for a client that sees its
/// connection end and connects again.
async fn restart(killed: bool) -> Outcome {
    let (total, acknowledged, held) = (200, 20, 10);
    let queue = format!("{}.restart", prefix());
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await?;
    publish_confirmed(&channel, &queue, total, persistent()).await?;
    for number in 1..=acknowledged + held {
        let taken = channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await?;
        let taken = taken.ok_or("the queue is empty too early")?;
        if number == acknowledged {
            // The gets that follow are answered after the queue has seen this.
            taken.delivery.ack(BasicAckOptions { multiple: true }).await?;
        }
    }
    println!("ready");
    tokio::task::spawn_blocking(|| std::io::stdin().lock().read_line(&mut String::new())).await??;

    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let lost = channel.queue_declare(queue.as_str().into(), passive, FieldTable::default()).await;
    let lost = lost.err().ok_or("the connection outlived the broker")?;
    // The library tells of the broker's last words only in the first error that it returns.
    require(!killed || !is_refusal(&lost, 320), "a killed broker cannot say good-bye")?;
    let connection = tokio::time::timeout(WAIT, connect()).await??;
    let channel = connection.create_channel().await?;
    let declared =
        channel.queue_declare(queue.as_str().into(), passive, FieldTable::default()).await?;
    let left = usize::try_from(declared.message_count())?;
    // A kill may lose the acknowledgements, but no message that was not acknowledged.
    require((total - acknowledged..=total).contains(&left), &format!("{left} messages left"))?;
    require(killed || left == total - acknowledged, &format!("{left} left after a clean stop"))?;
    let bodies = collect(&channel, &queue, left).await?;
    let expected: Vec<String> = (total - left..total).map(|number| number.to_string()).collect();
    equal("bodies", &bodies, &expected)?;
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
    connection.close(200, "done".into()).await?;
    Ok(())
}
