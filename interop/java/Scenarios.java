import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.AuthenticationFailureException;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.LongString;
import com.rabbitmq.client.MessageProperties;
import com.rabbitmq.client.Method;
import com.rabbitmq.client.Recoverable;
import com.rabbitmq.client.RecoveryListener;
import com.rabbitmq.client.Return;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Date;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/**
 * The interop scenarios through RabbitMQ's Java client.
 *
 * <p>Run by interop/run, which sets AMQP_URL and reads one line per scenario from standard output:
 * {@code ok NAME} or {@code FAIL NAME: why}. See interop/README.md for what each scenario has to
 * show.
 */
public final class Scenarios {
  private static final int WAIT_MS = 10_000;
  private static final String PREFIX = "interop.java." + ProcessHandle.current().pid();
  private static final byte[] NO_BODY = {};

  private interface Scenario {
    void play(Connection connection, Channel channel, String name) throws Exception;
  }

  public static void main(String[] arguments) throws Exception {
    boolean passed = true;
    if (arguments.length == 2 && arguments[0].equals("restart")) {
      String how = arguments[1];
      passed = run("restart-" + how, () -> restart(how));
    } else if (arguments.length == 1 && arguments[0].equals("tls")) {
      for (Map.Entry<String, Tls.Scenario> scenario : Tls.SCENARIOS.entrySet()) {
        String name = scenario.getKey();
        passed &= run(name, () -> {
          scenario.getValue().play(PREFIX + "." + name);
          return null;
        });
      }
    } else {
      Map<String, Scenario> scenarios = new LinkedHashMap<>();
      scenarios.put("connect", Scenarios::connect);
      scenarios.put("declare", Scenarios::declare);
      scenarios.put("confirm", Scenarios::confirm);
      scenarios.put("properties", Scenarios::properties);
      scenarios.put("sizes", Scenarios::sizes);
      scenarios.put("prefetch", Scenarios::prefetch);
      scenarios.put("requeue", Scenarios::requeue);
      scenarios.put("mandatory", Scenarios::mandatory);
      scenarios.put("rpc", Scenarios::rpc);
      scenarios.put("get", Scenarios::get);
      scenarios.put("exclusive", Scenarios::exclusive);
      scenarios.put("channel-error", Scenarios::channelError);
      scenarios.put("dead-letter", Scenarios::deadLetter);
      scenarios.put("cancel", Scenarios::cancel);
      scenarios.put("quorum", Scenarios::quorum);
      for (Map.Entry<String, Scenario> scenario : scenarios.entrySet()) {
        String name = scenario.getKey();
        passed &= run(name, () -> {
          try (Connection connection = factory().newConnection()) {
            scenario.getValue().play(connection, connection.createChannel(), PREFIX + "." + name);
          }
          return null;
        });
      }
    }
    // The client's threads are daemons or ended; a stuck one must not hold the runner up.
    System.exit(passed ? 0 : 1);
  }

  /** Plays one scenario and says whether it passed; any exception is its failure. */
  private static boolean run(String name, Callable<?> scenario) {
    try {
      scenario.call();
      System.out.println("ok " + name);
      return true;
    } catch (Exception | AssertionError problem) {
      System.out.println("FAIL " + name + ": " + String.valueOf(problem).replace('\n', ' '));
      problem.printStackTrace();
      return false;
    }
  }

  private static ConnectionFactory factory() throws Exception {
    ConnectionFactory factory = new ConnectionFactory();
    factory.setUri(System.getenv("AMQP_URL").replaceAll("/$", ""));
    return factory;
  }

  private static void require(boolean condition, String what) {
    if (!condition) {
      throw new AssertionError(what);
    }
  }

  private static void equal(String what, Object actual, Object expected) {
    require(Objects.equals(actual, expected), what + ": " + actual + " instead of " + expected);
  }

  /** The action must end in the broker's refusal with this code and a text that starts so. */
  private static void refused(int code, String text, Callable<?> action) throws Exception {
    try {
      action.call();
    } catch (IOException problem) {
      refused(code, text, (ShutdownSignalException) problem.getCause());
      return;
    }
    throw new AssertionError("not refused with " + code);
  }

  private static void refused(int code, String text, ShutdownSignalException signal) {
    Method reason = signal.getReason();
    if (reason instanceof AMQP.Channel.Close) {
      AMQP.Channel.Close close = (AMQP.Channel.Close) reason;
      equal("reply code", close.getReplyCode(), code);
      require(close.getReplyText().startsWith(text), "reply text " + close.getReplyText());
    } else {
      AMQP.Connection.Close close = (AMQP.Connection.Close) reason;
      equal("reply code", close.getReplyCode(), code);
      require(close.getReplyText().startsWith(text), "reply text " + close.getReplyText());
    }
  }

  private static void publish(Channel channel, String exchange, String key, String body)
      throws IOException {
    channel.basicPublish(exchange, key, null, body.getBytes());
  }

  private static GetResponse getOne(Channel channel, String queue, boolean autoAck)
      throws IOException {
    GetResponse response = channel.basicGet(queue, autoAck);
    require(response != null, "nothing in " + queue);
    return response;
  }

  private static String text(GetResponse response) {
    return new String(response.getBody());
  }

  /** Starts a consumer whose deliveries arrive in the returned queue. */
  private static BlockingQueue<Delivery> consume(
      Channel channel, String queue, boolean autoAck, String tag) throws IOException {
    BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();
    channel.basicConsume(
        queue, autoAck, tag, (consumer, delivery) -> deliveries.add(delivery), consumer -> {});
    return deliveries;
  }

  private static <T> T take(BlockingQueue<T> from, String what) throws InterruptedException {
    T value = from.poll(WAIT_MS, TimeUnit.MILLISECONDS);
    require(value != null, what + ": nothing within " + WAIT_MS + " ms");
    return value;
  }

  /** Server properties are RabbitMQ's; wrong credentials and vhosts are refused as it does. */
  private static void connect(Connection connection, Channel channel, String name)
      throws Exception {
    Map<String, Object> properties = connection.getServerProperties();
    equal("product", String.valueOf(properties.get("product")), "RabbitMQ");
    String[] version = String.valueOf(properties.get("version")).split("\\.");
    int major = Integer.parseInt(version[0]);
    require(major > 3 || major == 3 && Integer.parseInt(version[1]) >= 10,
        "version " + Arrays.toString(version));
    Map<?, ?> capabilities = (Map<?, ?>) properties.get("capabilities");
    for (String capability :
        ("publisher_confirms exchange_exchange_bindings basic.nack consumer_cancel_notify "
            + "connection.blocked consumer_priorities authentication_failure_close "
            + "per_consumer_qos direct_reply_to")
            .split(" ")) {
      equal(capability, capabilities.get(capability), true);
    }
    equal("channel max", connection.getChannelMax(), 2047);
    equal("frame max", connection.getFrameMax(), 131072);
    equal("heartbeat", connection.getHeartbeat(), 60);
    ConnectionFactory wrong = factory();
    wrong.setPassword("wrong");
    try {
      wrong.newConnection();
      throw new AssertionError("a wrong password was let in");
    } catch (AuthenticationFailureException refusal) {
      require(refusal.getMessage().startsWith(
                  "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN"),
          refusal.getMessage());
    }
    ConnectionFactory lost = factory();
    lost.setVirtualHost("no-such-vhost");
    refused(530, "NOT_ALLOWED - vhost no-such-vhost not found", lost::newConnection);
  }

  /** Exchanges, queues and bindings; the same again is fine, a different one is 406. */
  private static void declare(Connection connection, Channel channel, String name)
      throws Exception {
    Map<String, Object> arguments = Map.of("x-max-length", 5, "x-match", "kept");
    channel.exchangeDeclare(name, "headers", true);
    channel.exchangeDeclare(name, "headers", true);
    channel.queueDeclare(name, true, false, false, arguments);
    channel.queueDeclare(name, true, false, false, Map.of("x-max-length", 5L));
    channel.queueBind(name, name, "", Map.of("x-match", "all", "kind", "report", "pages", 3));
    Map<String, Object> headers =
        new HashMap<>(Map.of("kind", "report", "pages", 3L, "more", true));
    channel.basicPublish(
        name, "", new AMQP.BasicProperties.Builder().headers(headers).build(), "routed".getBytes());
    headers.put("pages", 4);
    channel.basicPublish(
        name, "", new AMQP.BasicProperties.Builder().headers(headers).build(), "not".getBytes());
    equal("routed", text(getOne(channel, name, true)), "routed");
    equal("a second message", channel.basicGet(name, true), null);
    equal("messages", channel.messageCount(name), 0L);
    equal("consumers", channel.consumerCount(name), 0L);
    refused(406,
        "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '" + name + "' in vhost '/': "
            + "received 'false' but current is 'true'",
        () -> channel.queueDeclare(name, false, false, false, arguments));
    Channel last = connection.createChannel();
    last.queueUnbind(name, name, "", Map.of("x-match", "all", "kind", "report", "pages", 3));
    last.queueDelete(name);
    last.exchangeDelete(name);
  }

  /** Each persistent message to a durable queue is confirmed, and all are there in order. */
  private static void confirm(Connection connection, Channel channel, String name)
      throws Exception {
    int count = 1000;
    channel.queueDeclare(name, true, false, false, null);
    publishConfirmed(channel, name, count);
    BlockingQueue<Delivery> deliveries = consume(channel, name, true, "");
    for (int number = 0; number < count; number++) {
      equal("body", new String(take(deliveries, "a delivery").getBody()), String.valueOf(number));
    }
    channel.queueDelete(name);
  }

  /** Sends the numbers below count as persistent messages and waits for every acknowledgement. */
  private static void publishConfirmed(Channel channel, String queue, int count) throws Exception {
    channel.confirmSelect();
    equal("next sequence number", channel.getNextPublishSeqNo(), 1L);
    for (int number = 0; number < count; number++) {
      channel.basicPublish(
          "", queue, MessageProperties.PERSISTENT_TEXT_PLAIN, String.valueOf(number).getBytes());
    }
    channel.waitForConfirmsOrDie(WAIT_MS);
  }

  /** Every property and every kind of header value arrives as it was sent. */
  private static void properties(Connection connection, Channel channel, String name)
      throws Exception {
    Map<String, Object> headers = new HashMap<>();
    headers.put("text", "grün");
    headers.put("byte", (byte) -8);
    headers.put("short", (short) -16);
    headers.put("int", -32);
    headers.put("long", -64L);
    headers.put("float", 1.5f);
    headers.put("double", 2.5);
    headers.put("bool", true);
    headers.put("void", null);
    headers.put("date", new Date(1_700_000_000_000L));
    headers.put("decimal", new java.math.BigDecimal("3.14"));
    headers.put("table", Map.of("list", List.of(1, Map.of("deep", false))));
    AMQP.BasicProperties sent = new AMQP.BasicProperties.Builder()
                                    .contentType("application/json")
                                    .contentEncoding("utf-8")
                                    .headers(headers)
                                    .deliveryMode(2)
                                    .priority(3)
                                    .correlationId("c-1")
                                    .replyTo("somewhere")
                                    .expiration("60000")
                                    .messageId("m-1")
                                    .timestamp(new Date(1_700_000_000_000L))
                                    .type("kind")
                                    .userId("guest")
                                    .appId("interop")
                                    .clusterId("old")
                                    .build();
    channel.queueDeclare(name, false, true, false, null);
    channel.basicPublish("", name, sent, "body".getBytes());
    GetResponse got = getOne(channel, name, true);
    equal("body", text(got), "body");
    Map<String, Object> received = new HashMap<>(got.getProps().getHeaders());
    // Strings come back in a class of their own.
    equal("text", String.valueOf((LongString) received.remove("text")), headers.remove("text"));
    equal("headers", received, headers);
    AMQP.BasicProperties plain = got.getProps().builder().headers(null).build();
    equal("properties", plain, sent.builder().headers(null).build());
  }

  /** Bodies from nothing to many frames arrive whole, also at the edges of a frame. */
  private static void sizes(Connection connection, Channel channel, String name) throws Exception {
    int whole = connection.getFrameMax() - 8;
    channel.queueDeclare(name, false, true, false, null);
    List<byte[]> bodies = new ArrayList<>();
    for (int size : new int[] {0, 1, whole - 1, whole, whole + 1, 2 * whole, 1_000_000}) {
      byte[] body = new byte[size];
      for (int index = 0; index < size; index++) {
        body[index] = (byte) (index % 251);
      }
      bodies.add(body);
      channel.basicPublish("", name, MessageProperties.PERSISTENT_BASIC, body);
    }
    BlockingQueue<Delivery> deliveries = consume(channel, name, true, "");
    for (byte[] body : bodies) {
      byte[] received = take(deliveries, "a delivery").getBody();
      require(Arrays.equals(received, body),
          received.length + " bytes are not the " + body.length + " sent");
    }
  }

  /** No more than the prefetch count is out at a time; an acknowledgement brings the next. */
  private static void prefetch(Connection connection, Channel channel, String name)
      throws Exception {
    channel.queueDeclare(name, false, true, false, null);
    for (int number = 0; number < 10; number++) {
      publish(channel, "", name, String.valueOf(number));
    }
    channel.basicQos(3);
    BlockingQueue<Delivery> deliveries = consume(channel, name, false, "mine");
    List<Delivery> received = new ArrayList<>();
    for (int[] step : new int[][] {{3, 0}, {4, 0}, {7, 3}, {10, 6}}) {
      while (received.size() < step[0]) {
        Delivery delivery = take(deliveries, "a delivery");
        equal("body", new String(delivery.getBody()), String.valueOf(received.size()));
        received.add(delivery);
      }
      // Counted on the same channel: whatever was sent before the answer has come.
      equal("still in the queue", channel.messageCount(name), 10L - step[0]);
      equal("more deliveries", deliveries.size(), 0);
      int next = step[0] == 3 ? 0 : step[0] - 1;
      channel.basicAck(received.get(next).getEnvelope().getDeliveryTag(), step[0] > 3);
    }
  }

  /** nack and reject with requeue bring a message back, marked; without, it is gone. */
  private static void requeue(Connection connection, Channel channel, String name)
      throws Exception {
    channel.queueDeclare(name, false, true, false, null);
    publish(channel, "", name, "again");
    publish(channel, "", name, "next");
    channel.basicNack(expect(channel, name, "again", false), false, true);
    channel.basicReject(expect(channel, name, "again", true), true);
    expect(channel, name, "again", true);
    channel.basicRecover(true);
    channel.basicNack(expect(channel, name, "again", true), false, false);
    expect(channel, name, "next", false);
    // Closing a channel gives back what it had not acknowledged.
    channel.close();
    Channel fresh = connection.createChannel();
    fresh.basicAck(expect(fresh, name, "next", true), false);
    equal("anything left", fresh.basicGet(name, true), null);
  }

  private static long expect(Channel channel, String queue, String body, boolean redelivered)
      throws IOException {
    GetResponse got = getOne(channel, queue, false);
    equal("body", text(got), body);
    equal("redelivered", got.getEnvelope().isRedeliver(), redelivered);
    return got.getEnvelope().getDeliveryTag();
  }

  /** A mandatory message without a queue comes back, before its confirm; a plain one is dropped. */
  private static void mandatory(Connection connection, Channel channel, String name)
      throws Exception {
    List<String> events = java.util.Collections.synchronizedList(new ArrayList<>());
    BlockingQueue<Return> returns = new LinkedBlockingQueue<>();
    channel.addReturnListener(back -> {
      events.add("return");
      returns.add(back);
    });
    channel.addConfirmListener(
        (tag, multiple) -> events.add("ack " + tag), (tag, multiple) -> events.add("nack"));
    channel.confirmSelect();
    channel.exchangeDeclare(name, "direct");
    publish(channel, name, "nowhere", "dropped");
    channel.waitForConfirmsOrDie(WAIT_MS);
    AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder().messageId("m").build();
    channel.basicPublish(name, "nowhere", true, properties, "returned".getBytes());
    channel.waitForConfirmsOrDie(WAIT_MS);
    Return back = take(returns, "the return");
    equal("code", back.getReplyCode(), 312);
    equal("text", back.getReplyText(), "NO_ROUTE");
    equal("from", back.getExchange() + "/" + back.getRoutingKey(), name + "/nowhere");
    equal("content", back.getProperties().getMessageId() + "/" + new String(back.getBody()),
        "m/returned");
    equal("events", events, List.of("ack 1", "return", "ack 2"));
    channel.exchangeDelete(name);
  }

  /** Requests and answers through direct reply-to, with the address rewritten on the way. */
  private static void rpc(Connection connection, Channel channel, String name) throws Exception {
    channel.queueDeclare(name, false, true, false, null);
    Channel server = connection.createChannel();
    BlockingQueue<Delivery> requests = consume(server, name, false, "");
    BlockingQueue<Delivery> replies = consume(channel, "amq.rabbitmq.reply-to", true, "");
    for (int number = 0; number < 5; number++) {
      AMQP.BasicProperties call = new AMQP.BasicProperties.Builder()
                                      .replyTo("amq.rabbitmq.reply-to")
                                      .correlationId(String.valueOf(number))
                                      .build();
      channel.basicPublish("", name, call, ("call " + number).getBytes());
      Delivery request = take(requests, "a request");
      String replyTo = request.getProperties().getReplyTo();
      require(replyTo.startsWith("amq.rabbitmq.reply-to."), "reply-to " + replyTo);
      AMQP.BasicProperties answer = new AMQP.BasicProperties.Builder()
                                        .correlationId(request.getProperties().getCorrelationId())
                                        .build();
      server.basicPublish(
          "", replyTo, answer, new String(request.getBody()).toUpperCase().getBytes());
      server.basicAck(request.getEnvelope().getDeliveryTag(), false);
      Delivery reply = take(replies, "a reply");
      equal("reply", reply.getProperties().getCorrelationId() + " " + new String(reply.getBody()),
          number + " CALL " + number);
    }
  }

  /** basic.get takes one message at a time, tells how many are left, and says when none is. */
  private static void get(Connection connection, Channel channel, String name) throws Exception {
    channel.queueDeclare(name, false, true, false, null);
    equal("empty", channel.basicGet(name, false), null);
    for (int number = 0; number < 3; number++) {
      publish(channel, "", name, String.valueOf(number));
    }
    for (int number = 0; number < 3; number++) {
      GetResponse got = getOne(channel, name, false);
      equal("body", text(got), String.valueOf(number));
      equal("left", got.getMessageCount(), 2 - number);
      channel.basicAck(got.getEnvelope().getDeliveryTag(), false);
    }
    equal("empty", channel.basicGet(name, false), null);
  }

  /** Exclusive queues are locked to others and end with their connection; "" asks for a name. */
  private static void exclusive(Connection connection, Channel channel, String name)
      throws Exception {
    Connection owner = factory().newConnection();
    Channel owned = owner.createChannel();
    String made = owned.queueDeclare().getQueue();
    require(made.startsWith("amq.gen-"), "the server named it " + made);
    owned.queueDeclare(name, false, true, false, null);
    refused(405,
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '" + name
            + "' in vhost '/'",
        () -> channel.queueDeclarePassive(name));
    owner.close();
    for (String gone : List.of(name, made)) {
      Channel fresh = connection.createChannel();
      refused(404, "NOT_FOUND - no queue '" + gone + "' in vhost '/'",
          () -> fresh.queueDeclarePassive(gone));
    }
  }

  /** An error ends its channel only: others and new ones go on. */
  private static void channelError(Connection connection, Channel channel, String name)
      throws Exception {
    Channel other = connection.createChannel();
    refused(404, "NOT_FOUND - no queue '" + name + "' in vhost '/'",
        () -> channel.queueDeclarePassive(name));
    require(!channel.isOpen() && connection.isOpen() && other.isOpen(),
        "more than the channel was closed");
    other.queueDeclare(name, false, true, false, null);
    Channel fresh = connection.createChannel(channel.getChannelNumber());
    equal("messages", fresh.queueDeclarePassive(name).getMessageCount(), 0);
    BlockingQueue<ShutdownSignalException> ends = new LinkedBlockingQueue<>();
    fresh.addShutdownListener(ends::add);
    fresh.basicAck(99, false);
    refused(406, "PRECONDITION_FAILED - unknown delivery tag 99", take(ends, "the channel's end"));
    require(other.isOpen(), "the other channel was closed");
  }

  /** Expired, rejected and overflowing messages reach the dead letter exchange with x-death. */
  private static void deadLetter(Connection connection, Channel channel, String name)
      throws Exception {
    channel.exchangeDeclare(name, "fanout");
    channel.queueDeclare(name + ".dead", false, true, false, null);
    channel.queueBind(name + ".dead", name, "");
    Map<String, Object> arguments = Map.of(
        "x-dead-letter-exchange", name, "x-dead-letter-routing-key", "late", "x-max-length", 1);
    channel.queueDeclare(name, false, true, false, arguments);
    publish(channel, "", name, "pushed out");
    publish(channel, "", name, "rejected");
    GetResponse rejected = getOne(channel, name, false);
    equal("first", text(rejected), "rejected");
    channel.basicReject(rejected.getEnvelope().getDeliveryTag(), false);
    AMQP.BasicProperties expiring = new AMQP.BasicProperties.Builder().expiration("20").build();
    channel.basicPublish("", name, expiring, "expired".getBytes());
    BlockingQueue<Delivery> deliveries = consume(channel, name + ".dead", true, "");
    for (String expected : List.of("pushed out maxlen", "rejected rejected", "expired expired")) {
      Delivery delivery = take(deliveries, "a dead letter");
      Map<String, Object> headers = delivery.getProperties().getHeaders();
      List<?> deaths = (List<?>) headers.get("x-death");
      equal("deaths", deaths.size(), 1);
      Map<?, ?> death = (Map<?, ?>) deaths.get(0);
      equal("death", new String(delivery.getBody()) + " " + death.get("reason"), expected);
      equal("queue", String.valueOf(death.get("queue")), name);
      equal("count", death.get("count"), 1L);
      equal("keys", String.valueOf(death.get("routing-keys")), "[" + name + "]");
      equal("key", delivery.getEnvelope().getRoutingKey(), "late");
      equal("expiration", delivery.getProperties().getExpiration(), null);
      equal("first death", String.valueOf(headers.get("x-first-death-queue")), name);
    }
    channel.exchangeDelete(name);
  }

  /** The client's cancel stops deliveries; the end of a queue cancels its consumers. */
  private static void cancel(Connection connection, Channel channel, String name) throws Exception {
    channel.queueDeclare(name, false, false, false, null);
    BlockingQueue<Delivery> deliveries = consume(channel, name, true, "first");
    channel.basicCancel("first");
    publish(channel, "", name, "kept");
    equal("kept", text(getOne(channel, name, true)), "kept");
    equal("deliveries after the cancel", deliveries.size(), 0);
    BlockingQueue<String> cancelled = new LinkedBlockingQueue<>();
    channel.basicConsume(name, true, "mine", (consumer, delivery) -> {}, cancelled::add);
    connection.createChannel().queueDelete(name);
    equal("cancelled", take(cancelled, "the cancellation"), "mine");
  }

  /** A queue declared as quorum holds messages and counts their deliveries. */
  private static void quorum(Connection connection, Channel channel, String name) throws Exception {
    channel.queueDeclare(name, true, false, false, Map.of("x-queue-type", "quorum"));
    publishConfirmed(channel, name, 1);
    BlockingQueue<Delivery> deliveries = consume(channel, name, false, "");
    Delivery first = take(deliveries, "a delivery");
    equal("redelivered", first.getEnvelope().isRedeliver(), false);
    channel.basicReject(first.getEnvelope().getDeliveryTag(), true);
    Delivery second = take(deliveries, "the second delivery");
    equal("body", new String(second.getBody()), "0");
    equal("redelivered", second.getEnvelope().isRedeliver(), true);
    equal("count", second.getProperties().getHeaders().get("x-delivery-count"), 1L);
    channel.basicAck(second.getEnvelope().getDeliveryTag(), false);
    channel.queueDelete(name);
  }

  /**
   * Confirmed messages survive a broker killed or stopped, in order, and the client's own recovery
   * brings back the connection, an exclusive queue with its binding, and the consumer on it.
   */
  private static Void restart(String how) throws Exception {
    int total = 200;
    int acknowledged = 20;
    int held = 10;
    String queue = PREFIX + ".restart";
    ConnectionFactory factory = factory();
    factory.setNetworkRecoveryInterval(200);
    Connection connection = factory.newConnection();
    CountDownLatch recovered = new CountDownLatch(1);
    BlockingQueue<ShutdownSignalException> ends = new LinkedBlockingQueue<>();
    connection.addShutdownListener(ends::add);
    ((Recoverable) connection).addRecoveryListener(new RecoveryListener() {
      @Override
      public void handleRecovery(Recoverable recoverable) {
        recovered.countDown();
      }

      @Override
      public void handleRecoveryStarted(Recoverable recoverable) {}
    });
    Channel topology = connection.createChannel();
    String temporary = topology.queueDeclare().getQueue();
    topology.queueBind(temporary, "amq.topic", PREFIX + ".#");
    BlockingQueue<Delivery> deliveries = consume(topology, temporary, true, "");

    Channel channel = connection.createChannel();
    channel.queueDeclare(queue, true, false, false, null);
    publishConfirmed(channel, queue, total);
    for (int number = 0; number < acknowledged + held; number++) {
      GetResponse got = getOne(channel, queue, false);
      if (number == acknowledged - 1) {
        // The gets that follow are answered after the queue has seen this.
        channel.basicAck(got.getEnvelope().getDeliveryTag(), true);
      }
    }
    System.out.println("ready");
    new BufferedReader(new InputStreamReader(System.in)).readLine();

    ShutdownSignalException end = take(ends, "the end of the connection");
    if (how.equals("term")) {
      refused(320, "CONNECTION_FORCED - broker forced connection closure", end);
    } else {
      require(!(end.getReason() instanceof AMQP.Connection.Close),
          "a killed broker said " + end.getReason());
    }
    require(recovered.await(WAIT_MS, TimeUnit.MILLISECONDS), "the client did not recover");
    channel.basicPublish("amq.topic", PREFIX + ".after", null, NO_BODY);
    equal("key", take(deliveries, "a delivery after recovery").getEnvelope().getRoutingKey(),
        PREFIX + ".after");

    long left = channel.messageCount(queue);
    // A kill may lose the acknowledgements, but no message that was not acknowledged.
    require(total - acknowledged <= left && left <= total, left + " messages left");
    require(how.equals("kill") || left == total - acknowledged, left + " left after a clean stop");
    for (long number = total - left; number < total; number++) {
      equal("body", text(getOne(channel, queue, true)), String.valueOf(number));
    }
    channel.queueDelete(queue);
    connection.close();
    return null;
  }
}
