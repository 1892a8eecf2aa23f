import com.rabbitmq.client.ShutdownSignalException;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.springframework.amqp.AmqpRejectAndDontRequeueException;
import org.springframework.amqp.core.AcknowledgeMode;
import org.springframework.amqp.core.AnonymousQueue;
import org.springframework.amqp.core.BindingBuilder;
import org.springframework.amqp.core.DirectExchange;
import org.springframework.amqp.core.FanoutExchange;
import org.springframework.amqp.core.HeadersExchange;
import org.springframework.amqp.core.Message;
import org.springframework.amqp.core.MessageBuilder;
import org.springframework.amqp.core.MessageListener;
import org.springframework.amqp.core.Queue;
import org.springframework.amqp.core.QueueBuilder;
import org.springframework.amqp.core.QueueInformation;
import org.springframework.amqp.core.TopicExchange;
import org.springframework.amqp.rabbit.config.RetryInterceptorBuilder;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory.ConfirmType;
import org.springframework.amqp.rabbit.connection.CorrelationData;
import org.springframework.amqp.rabbit.core.RabbitAdmin;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.listener.AbstractMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.DirectMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.SimpleMessageListenerContainer;
import org.springframework.amqp.rabbit.listener.adapter.MessageListenerAdapter;
import org.springframework.amqp.rabbit.listener.api.ChannelAwareMessageListener;
import org.springframework.amqp.rabbit.retry.RepublishMessageRecoverer;
import org.springframework.amqp.rabbit.transaction.RabbitTransactionManager;
import org.springframework.transaction.support.TransactionTemplate;

/**
 * What a user of Spring AMQP relies on, with plain objects instead of an application context. Run
 * by apps/spring-amqp/run.
 */
public final class Driver {
  private static CachingConnectionFactory connections;
  private static RabbitAdmin admin;
  private static RabbitTemplate template;

  public static void main(String[] names) throws Exception {
    connections = factory(ConfirmType.CORRELATED);
    admin = new RabbitAdmin(connections);
    admin.setRedeclareManualDeclarations(true);
    admin.afterPropertiesSet();
    template = new RabbitTemplate(connections);
    template.setMandatory(true);

    Checks checks = new Checks();
    checks.add("admin", Driver::admin);
    checks.add("confirms", Driver::confirms);
    checks.add("simple-confirms", Driver::simpleConfirms);
    checks.add("returns", Driver::returns);
    checks.add("simple-container",
        () -> receivesAll(new SimpleMessageListenerContainer(connections)));
    checks.add("direct-container",
        () -> receivesAll(new DirectMessageListenerContainer(connections)));
    checks.add("retry-and-republish", Driver::retryAndRepublish);
    checks.add("dead-letters", Driver::deadLetters);
    checks.add("delayed-retries", Driver::delayedRetries);
    checks.add("requests", Driver::requests);
    checks.add("reply-container", Driver::replyContainer);
    checks.add("receive", Driver::receive);
    checks.add("manual-acknowledgement", Driver::manualAcknowledgement);
    checks.add("batched-acknowledgement", Driver::batchedAcknowledgement);
    checks.add("transactions", Driver::transactions);
    checks.add("transacted-container", Driver::transactedContainer);
    checks.add("quorum", Driver::quorum);
    checks.add("anonymous-queue", Driver::anonymousQueue);
    checks.add("queue-deleted", Driver::queueDeleted);
    checks.add("broker-restart", Driver::brokerRestart);
    boolean passed = checks.play(names);
    System.out.flush();
    Runtime.getRuntime().halt(passed ? 0 : 1);
  }

  private static CachingConnectionFactory factory(ConfirmType confirms) {
    CachingConnectionFactory factory =
        new CachingConnectionFactory(URI.create(System.getenv("AMQP_URL")));
    factory.setPublisherConfirmType(confirms);
    factory.setPublisherReturns(true);
    factory.setRequestedHeartBeat(5);
    return factory;
  }

  private static String text(Message message) {
    return new String(message.getBody(), StandardCharsets.UTF_8);
  }

  private static String declare(Queue queue) {
    return admin.declareQueue(queue);
  }

  private static long ready(String queue) {
    QueueInformation found = admin.getQueueInfo(queue);
    return found == null ? -1 : found.getMessageCount();
  }

  /** Starts a container on one queue; the caller stops it. */
  private static <T extends AbstractMessageListenerContainer> T start(
      T container, String queue, MessageListener listener) {
    container.setQueueNames(queue);
    container.setMessageListener(listener);
    container.setAmqpAdmin(admin);
    container.setRecoveryInterval(200);
    container.setShutdownTimeout(2000);
    container.afterPropertiesSet();
    container.start();
    return container;
  }

  private static void admin() throws Exception {
    declare(QueueBuilder.durable("spring.admin").maxLength(100).build());
    admin.declareExchange(new TopicExchange("spring.topic"));
    admin.declareExchange(new DirectExchange("spring.direct"));
    admin.declareExchange(new FanoutExchange("spring.fanout"));
    admin.declareExchange(new HeadersExchange("spring.headers"));
    Queue queue = new Queue("spring.admin");
    admin.declareBinding(
        BindingBuilder.bind(queue).to(new TopicExchange("spring.topic")).with("a.#"));
    admin.declareBinding(
        BindingBuilder.bind(new FanoutExchange("spring.fanout"))
            .to(new TopicExchange("spring.topic")).with("b.*"));
    admin.declareBinding(BindingBuilder.bind(queue).to(new FanoutExchange("spring.fanout")));
    admin.declareBinding(
        BindingBuilder.bind(queue).to(new HeadersExchange("spring.headers"))
            .whereAll(Map.of("x", 1)).match());
    template.convertAndSend("spring.topic", "a.b.c", "one");
    template.convertAndSend("spring.topic", "b.c", "two");
    template.convertAndSend("spring.headers", "", "three", message -> {
      message.getMessageProperties().setHeader("x", 1);
      return message;
    });
    Checks.eventually("three messages", () -> ready("spring.admin") == 3);
    Checks.equal("consumers", admin.getQueueInfo("spring.admin").getConsumerCount(), 0);
    Checks.equal("purged", admin.purgeQueue("spring.admin"), 3);
    ShutdownSignalException refusal = Checks.refused(
        ShutdownSignalException.class,
        () -> declare(QueueBuilder.durable("spring.admin").maxLength(5).build()));
    Checks.require(
        refusal.getMessage().contains("inequivalent arg 'x-max-length' for queue 'spring.admin'"),
        refusal.getMessage());
    Checks.require(admin.deleteQueue("spring.admin"), "not deleted");
    Checks.require(admin.getQueueInfo("spring.admin") == null, "still there");
    Checks.require(admin.deleteExchange("spring.headers"), "exchange not deleted");
  }

  private static void confirms() throws Exception {
    declare(new Queue("spring.confirms"));
    List<CorrelationData> all = new ArrayList<>();
    for (int number = 0; number < 500; number++) {
      CorrelationData correlation = new CorrelationData(String.valueOf(number));
      template.convertAndSend("", "spring.confirms", "text " + number, correlation);
      all.add(correlation);
    }
    for (CorrelationData correlation : all) {
      CorrelationData.Confirm confirm =
          correlation.getFuture().get(Checks.WAIT_MS, TimeUnit.MILLISECONDS);
      Checks.require(confirm.ack(), correlation.getId() + " was refused: " + confirm.reason());
    }
    Checks.equal("messages", ready("spring.confirms"), 500L);
    // A full queue that rejects what is published answers with nack.
    declare(
        QueueBuilder.durable("spring.full").maxLength(1)
            .overflow(QueueBuilder.Overflow.rejectPublish).build());
    List<Boolean> answers = new ArrayList<>();
    for (int number = 0; number < 3; number++) {
      CorrelationData correlation = new CorrelationData();
      template.convertAndSend("", "spring.full", "text", correlation);
      answers.add(correlation.getFuture().get(Checks.WAIT_MS, TimeUnit.MILLISECONDS).ack());
    }
    Checks.equal("answers", answers, List.of(true, false, false));
  }

  private static void simpleConfirms() throws Exception {
    CachingConnectionFactory simple = factory(ConfirmType.SIMPLE);
    try {
      declare(new Queue("spring.simple-confirms"));
      AtomicInteger acknowledged = new AtomicInteger();
      new RabbitTemplate(simple).invoke(
          operations -> {
            for (int number = 0; number < 100; number++) {
              operations.convertAndSend("spring.simple-confirms", "text");
            }
            operations.waitForConfirmsOrDie(Checks.WAIT_MS);
            return null;
          },
          (tag, multiple) -> acknowledged.incrementAndGet(),
          (tag, multiple) -> acknowledged.addAndGet(-1000));
      Checks.require(acknowledged.get() > 0, "acknowledgements: " + acknowledged);
      Checks.equal("messages", ready("spring.simple-confirms"), 100L);
    } finally {
      simple.destroy();
    }
  }

  private static void returns() throws Exception {
    // Returned before it is confirmed, so that the future knows.
    CorrelationData correlation = new CorrelationData("returned");
    template.convertAndSend("spring.direct", "nowhere", "text", correlation);
    Checks.require(
        correlation.getFuture().get(Checks.WAIT_MS, TimeUnit.MILLISECONDS).ack(), "not confirmed");
    Checks.equal("reply code", correlation.getReturned().getReplyCode(), 312);
    Checks.equal("reply text", correlation.getReturned().getReplyText(), "NO_ROUTE");
    Checks.equal("routing key", correlation.getReturned().getRoutingKey(), "nowhere");
    // To an exchange that does not exist: the channel is closed, the confirm fails. Its reason is
    // the broker's or the template's, whichever hears first of the other.
    CorrelationData lost = new CorrelationData("lost");
    template.convertAndSend("spring.missing", "nowhere", "text", lost);
    CorrelationData.Confirm confirm = lost.getFuture().get(Checks.WAIT_MS, TimeUnit.MILLISECONDS);
    Checks.require(!confirm.ack(), "confirmed");
  }

  private static void receivesAll(AbstractMessageListenerContainer container) throws Exception {
    String name = "spring." + container.getClass().getSimpleName();
    declare(new Queue(name));
    Set<String> threads = Collections.synchronizedSet(new HashSet<>());
    BlockingQueue<Message> got = new LinkedBlockingQueue<>();
    container.setPrefetchCount(10);
    if (container instanceof SimpleMessageListenerContainer simple) {
      simple.setConcurrentConsumers(3);
    } else if (container instanceof DirectMessageListenerContainer direct) {
      direct.setConsumersPerQueue(3);
    }
    start(container, name, message -> {
      threads.add(Thread.currentThread().getName());
      got.add(message);
    });
    Checks.eventually("three consumers", () -> admin.getQueueInfo(name).getConsumerCount() == 3);
    Set<String> bodies = new HashSet<>();
    for (int number = 0; number < 300; number++) {
      template.convertAndSend(name, "text " + number);
    }
    for (int number = 0; number < 300; number++) {
      bodies.add(text(Checks.take(got, "message " + number)));
    }
    Checks.equal("distinct", bodies.size(), 300);
    Checks.require(threads.size() > 1, "one consumer got all");
    container.stop();
    Checks.eventually("no consumers", () -> admin.getQueueInfo(name).getConsumerCount() == 0);
    Checks.equal("left", ready(name), 0L);
  }

  private static void retryAndRepublish() throws Exception {
    declare(new Queue("spring.retry"));
    declare(new Queue("spring.errors"));
    AtomicInteger attempts = new AtomicInteger();
    SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(connections);
    container.setAdviceChain(
        RetryInterceptorBuilder.stateless().maxRetries(2).backOffOptions(50, 2.0, 1000)
            .recoverer(
                new RepublishMessageRecoverer(template, "", "spring.errors")
                    .includeStackTrace(true))
            .build());
    start(container, "spring.retry", message -> {
      attempts.incrementAndGet();
      throw new IllegalStateException("as asked");
    });
    template.convertAndSend("spring.retry", "poison");
    Message error = template.receive("spring.errors", Checks.WAIT_MS);
    Checks.require(error != null, "no message in spring.errors");
    Map<String, Object> headers = error.getMessageProperties().getHeaders();
    Checks.equal("attempts", attempts.get(), 3);
    Checks.equal("body", text(error), "poison");
    Checks.require(
        String.valueOf(headers.get("x-exception-message")).contains("as asked"), "" + headers);
    Checks.require(
        String.valueOf(headers.get("x-exception-stacktrace")).contains("IllegalStateException"),
        "no stack trace");
    Checks.equal("routing key", headers.get("x-original-routingKey"), "spring.retry");
    container.stop();
    Checks.equal("left", ready("spring.retry"), 0L);
  }

  private static void deadLetters() throws Exception {
    declare(new Queue("spring.dead"));
    declare(
        QueueBuilder.durable("spring.rejecting").deadLetterExchange("")
            .deadLetterRoutingKey("spring.dead").build());
    DirectMessageListenerContainer container = new DirectMessageListenerContainer(connections);
    container.setDefaultRequeueRejected(false);
    start(container, "spring.rejecting", message -> {
      throw new AmqpRejectAndDontRequeueException("as asked");
    });
    template.convertAndSend("spring.rejecting", "poison");
    Message dead = template.receive("spring.dead", Checks.WAIT_MS);
    Checks.require(dead != null, "no dead letter");
    Map<String, ?> death = dead.getMessageProperties().getXDeathHeader().get(0);
    Checks.equal("reason", death.get("reason"), "rejected");
    Checks.equal("queue", death.get("queue"), "spring.rejecting");
    Checks.equal("count", death.get("count"), 1L);
    container.stop();
  }

  private static void delayedRetries() throws Exception {
    // The usual pair: rejected to a queue that gives back when the time to live is over.
    declare(
        QueueBuilder.durable("spring.work").deadLetterExchange("")
            .deadLetterRoutingKey("spring.wait").build());
    declare(
        QueueBuilder.durable("spring.wait").ttl(400).deadLetterExchange("")
            .deadLetterRoutingKey("spring.work").build());
    declare(new Queue("spring.parking"));
    List<Long> counts = Collections.synchronizedList(new ArrayList<>());
    SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(connections);
    start(container, "spring.work", message -> {
      List<Map<String, ?>> deaths = message.getMessageProperties().getXDeathHeader();
      long count = deaths == null ? 0 : deaths.stream()
          .filter(death -> "spring.work".equals(death.get("queue")))
          .mapToLong(death -> (Long) death.get("count")).findFirst().orElse(0);
      counts.add(count);
      if (count >= 3) {
        template.send("spring.parking", message);
        return;
      }
      throw new AmqpRejectAndDontRequeueException("attempt " + count);
    });
    long start = System.currentTimeMillis();
    template.convertAndSend("spring.work", "poison");
    Message parked = template.receive("spring.parking", Checks.WAIT_MS);
    Checks.require(parked != null, "no message in spring.parking");
    Checks.equal("counts", counts, List.of(0L, 1L, 2L, 3L));
    long took = System.currentTimeMillis() - start;
    Checks.require(1200 <= took && took < 8000, "took " + took + " ms");
    Checks.equal("first death", parked.getMessageProperties().getHeader("x-first-death-queue"),
        "spring.work");
    container.stop();
  }

  /** Answers requests in upper case; a missing reply is a failure of the caller. */
  public static final class Upper {
    /** The listener adapter's method. */
    public String handleMessage(String text) {
      return text.toUpperCase();
    }
  }

  private static void requests() throws Exception {
    declare(new Queue("spring.requests"));
    DirectMessageListenerContainer service =
        start(new DirectMessageListenerContainer(connections), "spring.requests",
            new MessageListenerAdapter(new Upper()));
    RabbitTemplate client = new RabbitTemplate(connections);
    client.setReplyTimeout(Checks.WAIT_MS);
    // First through the template's own direct container for replies, then on its own channel.
    for (boolean container : new boolean[] {true, false}) {
      client.setUseDirectReplyToContainer(container);
      ExecutorService pool = Executors.newFixedThreadPool(8);
      List<Future<Object>> replies = new ArrayList<>();
      for (int number = 0; number < 100; number++) {
        String text = "text " + number;
        replies.add(
            pool.submit(() -> client.convertSendAndReceive("", "spring.requests", text)));
      }
      for (int number = 0; number < 100; number++) {
        Checks.equal("reply", replies.get(number).get(), "TEXT " + number);
      }
      pool.shutdown();
    }
    // Without direct reply-to: a temporary queue for each request.
    client.setUseTemporaryReplyQueues(true);
    Checks.equal("reply", client.convertSendAndReceive("", "spring.requests", "again"), "AGAIN");
    client.stop();
    service.stop();
  }

  private static void replyContainer() throws Exception {
    // A fixed queue for replies, with a container that gives them to the template.
    declare(new Queue("spring.service"));
    declare(new Queue("spring.replies"));
    SimpleMessageListenerContainer service =
        start(new SimpleMessageListenerContainer(connections), "spring.service",
            new MessageListenerAdapter(new Upper()));
    RabbitTemplate client = new RabbitTemplate(connections);
    client.setReplyAddress("spring.replies");
    client.setReplyTimeout(Checks.WAIT_MS);
    SimpleMessageListenerContainer replies =
        start(new SimpleMessageListenerContainer(connections), "spring.replies", client);
    Checks.equal("reply", client.convertSendAndReceive("", "spring.service", "text"), "TEXT");
    replies.stop();
    service.stop();
  }

  private static void receive() {
    declare(new Queue("spring.receive"));
    Checks.require(template.receive("spring.receive") == null, "a message out of nowhere");
    Checks.require(template.receive("spring.receive", 200) == null, "a message out of nowhere");
    template.convertAndSend("spring.receive", "one");
    template.convertAndSend("spring.receive", "two");
    Checks.equal("got", template.receiveAndConvert("spring.receive", Checks.WAIT_MS), "one");
    Checks.equal("got", template.receiveAndConvert("spring.receive", Checks.WAIT_MS), "two");
    // receiveAndReply answers to the message's reply-to.
    declare(new Queue("spring.answers"));
    template.send("spring.receive",
        MessageBuilder.withBody("text".getBytes(StandardCharsets.UTF_8))
            .setContentType("text/plain").setReplyTo("spring.answers").setPriority(3)
            .setHeader("number", 42).setCorrelationId("c").build());
    RabbitTemplate replying = new RabbitTemplate(connections);
    replying.setReceiveTimeout(Checks.WAIT_MS);
    Checks.require(
        replying.<String, String>receiveAndReply("spring.receive", String::toUpperCase),
        "nothing received");
    Message answer = template.receive("spring.answers", Checks.WAIT_MS);
    Checks.equal("answer", text(answer), "TEXT");
    Checks.equal("correlation", answer.getMessageProperties().getCorrelationId(), "c");
  }

  private static void manualAcknowledgement() throws Exception {
    declare(new Queue("spring.manual"));
    BlockingQueue<Boolean> redelivered = new LinkedBlockingQueue<>();
    SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(connections);
    container.setAcknowledgeMode(AcknowledgeMode.MANUAL);
    ChannelAwareMessageListener listener = (message, channel) -> {
      long tag = message.getMessageProperties().getDeliveryTag();
      boolean again = message.getMessageProperties().isRedelivered();
      redelivered.add(again);
      if (again) {
        channel.basicAck(tag, false);
      } else {
        channel.basicNack(tag, false, true);
      }
    };
    start(container, "spring.manual", listener);
    template.convertAndSend("spring.manual", "text");
    Checks.equal("first", Checks.take(redelivered, "a delivery"), false);
    Checks.equal("second", Checks.take(redelivered, "another"), true);
    container.stop();
    Checks.equal("left", ready("spring.manual"), 0L);
  }

  private static void batchedAcknowledgement() throws Exception {
    declare(new Queue("spring.batched"));
    BlockingQueue<Message> got = new LinkedBlockingQueue<>();
    DirectMessageListenerContainer container = new DirectMessageListenerContainer(connections);
    container.setMessagesPerAck(10);
    container.setAckTimeout(200);
    container.setPrefetchCount(20);
    start(container, "spring.batched", got::add);
    for (int number = 0; number < 25; number++) {
      template.convertAndSend("spring.batched", "text " + number);
    }
    // In any order: a template that waits for confirms publishes on several channels.
    Set<String> bodies = new HashSet<>();
    for (int number = 0; number < 25; number++) {
      bodies.add(text(Checks.take(got, "message " + number)));
    }
    Checks.equal("distinct", bodies.size(), 25);
    // The last five are acknowledged when their time has come, or with the end of the container.
    container.stop();
    Thread.sleep(200);
    Checks.equal("left", ready("spring.batched"), 0L);
  }

  private static void transactions() {
    CachingConnectionFactory plain = factory(ConfirmType.NONE);
    try {
      declare(new Queue("spring.tx"));
      RabbitTemplate transacted = new RabbitTemplate(plain);
      transacted.setChannelTransacted(true);
      TransactionTemplate transaction =
          new TransactionTemplate(new RabbitTransactionManager(plain));
      transaction.executeWithoutResult(status -> {
        transacted.convertAndSend("spring.tx", "one");
        transacted.convertAndSend("spring.tx", "two");
        Checks.equal("before the commit", ready("spring.tx"), 0L);
      });
      Checks.equal("committed", ready("spring.tx"), 2L);
      transaction.executeWithoutResult(status -> {
        transacted.convertAndSend("spring.tx", "three");
        Checks.equal("taken", transacted.receiveAndConvert("spring.tx"), "one");
        status.setRollbackOnly();
      });
      // What was taken is given back by the roll-back, what was published is gone.
      Checks.equal("rolled back", ready("spring.tx"), 2L);
      Checks.equal("first", template.receiveAndConvert("spring.tx"), "one");
    } finally {
      plain.destroy();
    }
  }

  private static void transactedContainer() throws Exception {
    CachingConnectionFactory plain = factory(ConfirmType.NONE);
    declare(new Queue("spring.tx-in"));
    declare(new Queue("spring.tx-out"));
    RabbitTemplate transacted = new RabbitTemplate(plain);
    transacted.setChannelTransacted(true);
    AtomicInteger attempts = new AtomicInteger();
    SimpleMessageListenerContainer container = new SimpleMessageListenerContainer(plain);
    container.setChannelTransacted(true);
    container.setTransactionManager(new RabbitTransactionManager(plain));
    start(container, "spring.tx-in", message -> {
      transacted.convertAndSend("spring.tx-out", "attempt " + attempts.incrementAndGet());
      if (attempts.get() < 3) {
        throw new IllegalStateException("as asked");
      }
    });
    template.convertAndSend("spring.tx-in", "text");
    Message out = template.receive("spring.tx-out", Checks.WAIT_MS);
    Checks.require(out != null, "nothing came out");
    Checks.equal("the committed one", text(out), "attempt 3");
    container.stop();
    Checks.equal("in", ready("spring.tx-in"), 0L);
    Checks.equal("out", ready("spring.tx-out"), 0L);
    plain.destroy();
  }

  private static void quorum() throws Exception {
    declare(new Queue("spring.quorum-dead"));
    declare(
        QueueBuilder.durable("spring.quorum").quorum().deliveryLimit(3).deadLetterExchange("")
            .deadLetterRoutingKey("spring.quorum-dead")
            .leaderLocator(QueueBuilder.LeaderLocator.clientLocal).build());
    List<Object> counts = Collections.synchronizedList(new ArrayList<>());
    DirectMessageListenerContainer container = new DirectMessageListenerContainer(connections);
    start(container, "spring.quorum", message -> {
      Object count = message.getMessageProperties().getHeader("x-delivery-count");
      counts.add(count == null ? 0L : count);
      throw new IllegalStateException("as asked");
    });
    template.convertAndSend("spring.quorum", "poison");
    Message dead = template.receive("spring.quorum-dead", Checks.WAIT_MS);
    Checks.require(dead != null, "no dead letter");
    Checks.equal("counts", counts, List.of(0L, 1L, 2L, 3L));
    Checks.equal("reason",
        dead.getMessageProperties().getXDeathHeader().get(0).get("reason"), "delivery_limit");
    container.stop();
  }

  private static void anonymousQueue() throws Exception {
    // Exclusive, auto-delete, named by the client: one for each instance of a service.
    Queue queue = new AnonymousQueue();
    declare(queue);
    admin.declareBinding(BindingBuilder.bind(queue).to(new FanoutExchange("spring.fanout")));
    BlockingQueue<Message> got = new LinkedBlockingQueue<>();
    SimpleMessageListenerContainer container =
        start(new SimpleMessageListenerContainer(connections), queue.getName(), got::add);
    template.convertAndSend("spring.fanout", "", "news");
    Checks.equal("got", text(Checks.take(got, "the news")), "news");
    container.stop();
    Checks.eventually("it is gone", () -> admin.getQueueInfo(queue.getName()) == null);
  }

  private static void queueDeleted() throws Exception {
    // The container is told that its consumer is cancelled, and comes back when the queue does.
    for (AbstractMessageListenerContainer container : List.of(
        new SimpleMessageListenerContainer(connections),
        new DirectMessageListenerContainer(connections))) {
      String name = "spring.deleted." + container.getClass().getSimpleName();
      declare(new Queue(name));
      if (container instanceof SimpleMessageListenerContainer simple) {
        simple.setMissingQueuesFatal(false);
        simple.setRetryDeclarationInterval(200);
        simple.setFailedDeclarationRetryInterval(200);
      } else if (container instanceof DirectMessageListenerContainer direct) {
        direct.setMonitorInterval(200);
        direct.setFailedDeclarationRetryInterval(200);
      }
      BlockingQueue<Message> got = new LinkedBlockingQueue<>();
      start(container, name, got::add);
      Checks.eventually("a consumer", () -> admin.getQueueInfo(name).getConsumerCount() == 1);
      admin.deleteQueue(name);
      Thread.sleep(500);
      declare(new Queue(name));
      template.convertAndSend(name, "again");
      Checks.equal("got", text(Checks.take(got, "a message in " + name)), "again");
      container.stop();
    }
  }

  private static void brokerRestart() throws Exception {
    declare(new Queue("spring.restart-simple"));
    declare(new Queue("spring.restart-direct"));
    BlockingQueue<Message> got = new LinkedBlockingQueue<>();
    Collection<AbstractMessageListenerContainer> containers = List.of(
        start(new SimpleMessageListenerContainer(connections), "spring.restart-simple", got::add),
        start(new DirectMessageListenerContainer(connections), "spring.restart-direct", got::add));
    for (String how : List.of("term", "kill")) {
      Checks.restartBroker(how);
      for (String queue : List.of("spring.restart-simple", "spring.restart-direct")) {
        Checks.eventually("published to " + queue, () -> {
          CorrelationData correlation = new CorrelationData();
          try {
            template.convertAndSend("", queue, how + " " + queue, correlation);
            return correlation.getFuture().get(Checks.WAIT_MS, TimeUnit.MILLISECONDS).ack();
          } catch (org.springframework.amqp.AmqpException refused) {
            return false;
          }
        });
      }
      // A kill may lose acknowledgements, so that earlier messages come again.
      Set<String> missing = new HashSet<>(
          Set.of(how + " spring.restart-simple", how + " spring.restart-direct"));
      while (!missing.isEmpty()) {
        missing.remove(text(Checks.take(got, "messages after " + how + ": " + missing)));
      }
    }
    for (AbstractMessageListenerContainer container : containers) {
      container.stop();
    }
  }
}
