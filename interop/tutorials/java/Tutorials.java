import com.rabbitmq.client.AMQP.BasicProperties;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.DeliverCallback;
import com.rabbitmq.client.MessageProperties;
import java.io.IOException;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentNavigableMap;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.LinkedBlockingQueue;

/**
 * RabbitMQ's seven tutorials with the Java client: each program of them is one subcommand.
 *
 * <p>Use: {@code AMQP_URL=amqp://guest:guest@localhost java -cp ... Tutorials send}. Receiving
 * programs print {@code waiting} once they are ready and then run until they are stopped.
 */
public final class Tutorials {
  private static final Map<String, Object> QUORUM = Map.of("x-queue-type", "quorum");

  public static void main(String[] arguments) throws Exception {
    ConnectionFactory factory = new ConnectionFactory();
    factory.setUri(System.getenv("AMQP_URL"));
    Connection connection = factory.newConnection();
    Channel channel = connection.createChannel();
    List<String> rest = Arrays.asList(arguments).subList(1, arguments.length);
    boolean stays = true;
    switch (arguments[0]) {
      case "receive" -> receive(channel);
      case "worker" -> worker(channel);
      case "receive_logs" -> subscribe(channel, "logs", "fanout", List.of(""));
      case "receive_logs_direct" -> subscribe(channel, "direct_logs", "direct", rest);
      case "receive_logs_topic" -> subscribe(channel, "topic_logs", "topic", rest);
      case "rpc_server" -> rpcServer(channel);
      default -> {
        stays = false;
        runOnce(arguments[0], channel, rest);
      }
    }
    if (stays) {
      say("waiting");
    } else {
      connection.close();
    }
  }

  private static void runOnce(String program, Channel channel, List<String> rest) throws Exception {
    switch (program) {
      case "send" -> send(channel);
      case "new_task" -> newTask(channel, String.join(" ", rest));
      case "emit_log" -> emit(channel, "logs", "fanout", "", rest);
      case "emit_log_direct" ->
          emit(channel, "direct_logs", "direct", rest.get(0), rest.subList(1, rest.size()));
      case "emit_log_topic" ->
          emit(channel, "topic_logs", "topic", rest.get(0), rest.subList(1, rest.size()));
      case "rpc_client" -> rpcClient(channel, rest.get(0));
      case "publisher_confirms" -> publisherConfirms(channel);
      default -> throw new IllegalArgumentException("no program " + program);
    }
  }

  private static void say(String line) {
    System.out.println(line);
  }

  // 1. Hello World: one queue between two programs.

  private static void send(Channel channel) throws IOException {
    channel.queueDeclare("hello", true, false, false, QUORUM);
    channel.basicPublish("", "hello", null, "Hello World!".getBytes());
    say("sent Hello World!");
  }

  private static void receive(Channel channel) throws IOException {
    channel.queueDeclare("hello", true, false, false, QUORUM);
    DeliverCallback print = (tag, delivery) -> say("received " + new String(delivery.getBody()));
    channel.basicConsume("hello", true, print, tag -> {});
  }

  // 2. Work queues: tasks shared by workers, none lost when a worker dies.

  private static void newTask(Channel channel, String task) throws IOException {
    channel.queueDeclare("task_queue", true, false, false, QUORUM);
    channel.basicPublish(
        "", "task_queue", MessageProperties.PERSISTENT_TEXT_PLAIN, task.getBytes());
    say("sent " + task);
  }

  private static void worker(Channel channel) throws IOException {
    channel.queueDeclare("task_queue", true, false, false, QUORUM);
    // One task at a time: a busy worker is passed over.
    channel.basicQos(1);
    DeliverCallback work =
        (tag, delivery) -> {
          String task = new String(delivery.getBody());
          say("received " + task);
          try {
            Thread.sleep(100 * task.chars().filter(character -> character == '.').count());
          } catch (InterruptedException stop) {
            Thread.currentThread().interrupt();
            return;
          }
          say("done " + task);
          channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
        };
    channel.basicConsume("task_queue", false, work, tag -> {});
  }

  // 3 to 5. Publish/subscribe, routing and topics: exchanges and temporary queues.

  private static void emit(
      Channel channel, String exchange, String kind, String key, List<String> words)
      throws IOException {
    String message = String.join(" ", words);
    channel.exchangeDeclare(exchange, kind);
    channel.basicPublish(exchange, key, null, message.getBytes());
    say("sent " + message);
  }

  private static void subscribe(Channel channel, String exchange, String kind, List<String> keys)
      throws IOException {
    channel.exchangeDeclare(exchange, kind);
    String queue = channel.queueDeclare().getQueue();
    for (String key : keys) {
      channel.queueBind(queue, exchange, key);
    }
    DeliverCallback print =
        (tag, delivery) ->
            say(
                String.format(
                    "received [%s] %s",
                    delivery.getEnvelope().getRoutingKey(), new String(delivery.getBody())));
    channel.basicConsume(queue, true, print, tag -> {});
  }

  // 6. RPC: a reply queue of the client's own, answers told apart by correlation id.

  private static int fibonacci(int number) {
    return number < 2 ? number : fibonacci(number - 1) + fibonacci(number - 2);
  }

  private static void rpcServer(Channel channel) throws IOException {
    channel.queueDeclare("rpc_queue", true, false, false, QUORUM);
    channel.basicQos(1);
    DeliverCallback answer =
        (tag, delivery) -> {
          String number = new String(delivery.getBody());
          BasicProperties request = delivery.getProperties();
          BasicProperties reply =
              new BasicProperties.Builder().correlationId(request.getCorrelationId()).build();
          String result = String.valueOf(fibonacci(Integer.parseInt(number)));
          channel.basicPublish("", request.getReplyTo(), reply, result.getBytes());
          channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
          say("answered " + number);
        };
    channel.basicConsume("rpc_queue", false, answer, tag -> {});
  }

  private static void rpcClient(Channel channel, String number) throws Exception {
    String queue = channel.queueDeclare().getQueue();
    String id = UUID.randomUUID().toString();
    BlockingQueue<String> replies = new LinkedBlockingQueue<>();
    DeliverCallback keep =
        (tag, delivery) -> {
          if (id.equals(delivery.getProperties().getCorrelationId())) {
            replies.add(new String(delivery.getBody()));
          }
        };
    channel.basicConsume(queue, true, keep, tag -> {});
    BasicProperties request =
        new BasicProperties.Builder().correlationId(id).replyTo(queue).build();
    channel.basicPublish("", "rpc_queue", request, number.getBytes());
    say("got " + replies.take());
  }

  // 7. Publisher confirms, handled as they come in.

  private static void publisherConfirms(Channel channel) throws Exception {
    String queue = channel.queueDeclare().getQueue();
    ConcurrentNavigableMap<Long, String> outstanding = new ConcurrentSkipListMap<>();
    channel.confirmSelect();
    channel.addConfirmListener(
        (number, multiple) -> {
          if (multiple) {
            outstanding.headMap(number, true).clear();
          } else {
            outstanding.remove(number);
          }
        },
        (number, multiple) -> say("refused " + number));
    for (int number = 0; number < 50; number++) {
      outstanding.put(channel.getNextPublishSeqNo(), String.valueOf(number));
      channel.basicPublish("", queue, null, String.valueOf(number).getBytes());
    }
    long deadline = System.nanoTime() + 10_000_000_000L;
    while (!outstanding.isEmpty() && System.nanoTime() < deadline) {
      Thread.sleep(5);
    }
    say("confirmed " + (outstanding.isEmpty() ? channel.messageCount(queue) : 0));
  }
}
