/*
 * The interop scenarios through rabbitmq-c, the C client that many languages wrap.
 *
 * Run by interop/run, which sets AMQP_URL and reads one line per scenario from standard output:
 * `ok NAME` or `FAIL NAME: why`. See interop/README.md for what each scenario has to show.
 *
 * A failed check jumps back to the scenario's runner, so that scenarios read as straight lines;
 * a scenario's connection is then dropped, not reused.
 */
#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum { WAIT_SECONDS = 10, FRAME_MAX = 131072 };

typedef amqp_connection_state_t connection_t;

static jmp_buf failed;
static char why[512];

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
  va_list values;
  va_start(values, format);
  vsnprintf(why, sizeof why, format, values);
  va_end(values);
  longjmp(failed, 1);
}

#define require(condition, ...)          \
  do {                                   \
    if (!(condition)) fail(__VA_ARGS__); \
  } while (0)

static void equal(const char *what, long actual, long expected) {
  require(actual == expected, "%s: %ld instead of %ld", what, actual, expected);
}

static void same(const char *what, amqp_bytes_t actual, const char *expected) {
  require(actual.len == strlen(expected) && memcmp(actual.bytes, expected, actual.len) == 0,
          "%s: '%.*s' instead of '%s'", what, (int)actual.len, (char *)actual.bytes, expected);
}

static amqp_bytes_t bytes(const char *text) { return amqp_cstring_bytes(text); }

/* --- replies ------------------------------------------------------------------------------- */

/* The reply code and text of a close that the broker sent instead of an answer; 0 if it did not. */
static int close_code(amqp_rpc_reply_t reply, amqp_bytes_t *text) {
  *text = amqp_empty_bytes;
  if (reply.reply_type != AMQP_RESPONSE_SERVER_EXCEPTION) return 0;
  if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
    amqp_channel_close_t *close = reply.reply.decoded;
    *text = close->reply_text;
    return close->reply_code;
  }
  if (reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
    amqp_connection_close_t *close = reply.reply.decoded;
    *text = close->reply_text;
    return close->reply_code;
  }
  return 0;
}

static void check_reply(amqp_rpc_reply_t reply) {
  amqp_bytes_t text;
  int code = close_code(reply, &text);
  require(code == 0, "refused: %.*s", (int)text.len, (char *)text.bytes);
  require(reply.reply_type == AMQP_RESPONSE_NORMAL, "%s",
          reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION
              ? amqp_error_string2(reply.library_error)
              : "no reply");
}

static void check(connection_t connection) { check_reply(amqp_get_rpc_reply(connection)); }

/* Demands the broker's refusal with this code and a text that starts so. */
static void refused(int code, const char *text, amqp_rpc_reply_t reply) {
  amqp_bytes_t seen;
  equal("reply code", close_code(reply, &seen), code);
  require(seen.len >= strlen(text) && memcmp(seen.bytes, text, strlen(text)) == 0,
          "reply text '%.*s'", (int)seen.len, (char *)seen.bytes);
}

/* --- connections --------------------------------------------------------------------------- */

static amqp_rpc_reply_t login(connection_t connection, const char *vhost, const char *password) {
  char url[256];
  struct amqp_connection_info info;
  snprintf(url, sizeof url, "%s", getenv("AMQP_URL"));
  require(amqp_parse_url(url, &info) == AMQP_STATUS_OK, "bad AMQP_URL");
  amqp_socket_t *socket = amqp_tcp_socket_new(connection);
  require(socket && amqp_socket_open(socket, info.host, info.port) == AMQP_STATUS_OK,
          "no connection to %s:%d", info.host, info.port);
  /* The library's own client properties do not ask to be told of cancelled consumers. */
  amqp_table_entry_t notify = {amqp_cstring_bytes("consumer_cancel_notify"),
                               {AMQP_FIELD_KIND_BOOLEAN, {.boolean = 1}}};
  amqp_table_entry_t capabilities = {
      amqp_cstring_bytes("capabilities"),
      {AMQP_FIELD_KIND_TABLE, {.table = {.num_entries = 1, .entries = &notify}}}};
  amqp_table_t properties = {.num_entries = 1, .entries = &capabilities};
  return amqp_login_with_properties(connection, vhost ? vhost : info.vhost, 2047, FRAME_MAX, 60,
                                    &properties, AMQP_SASL_METHOD_PLAIN, info.user,
                                    password ? password : info.password);
}

static void open_channel(connection_t connection, amqp_channel_t channel) {
  amqp_channel_open(connection, channel);
  check(connection);
}

static connection_t connect_broker(void) {
  connection_t connection = amqp_new_connection();
  check_reply(login(connection, NULL, NULL));
  open_channel(connection, 1);
  return connection;
}

static void disconnect(connection_t connection) {
  amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
  amqp_destroy_connection(connection);
}

/* After the broker closed a channel: agrees, which the library leaves to us, and opens it anew. */
static void reopen_channel(connection_t connection, amqp_channel_t channel) {
  amqp_channel_close_ok_t agreed = {0};
  equal("close-ok", amqp_send_method(connection, channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &agreed),
        AMQP_STATUS_OK);
  open_channel(connection, channel);
}

/* --- operations on channel 1 --------------------------------------------------------------- */

static amqp_table_t table(int count, amqp_table_entry_t *entries) {
  return (amqp_table_t){.num_entries = count, .entries = entries};
}

static amqp_table_entry_t text_entry(const char *key, const char *value) {
  return (amqp_table_entry_t){bytes(key), {AMQP_FIELD_KIND_UTF8, {.bytes = bytes(value)}}};
}

static amqp_table_entry_t int_entry(const char *key, int32_t value) {
  return (amqp_table_entry_t){bytes(key), {AMQP_FIELD_KIND_I32, {.i32 = value}}};
}

enum queue_kind { EXCLUSIVE, DURABLE, PLAIN, PASSIVE };

static amqp_queue_declare_ok_t *try_declare(connection_t connection, amqp_channel_t channel,
                                            const char *name, enum queue_kind kind,
                                            amqp_table_t arguments) {
  return amqp_queue_declare(connection, channel, bytes(name), kind == PASSIVE, kind == DURABLE,
                            kind == EXCLUSIVE, 0, arguments);
}

static amqp_queue_declare_ok_t *declare_queue(connection_t connection, const char *name,
                                              enum queue_kind kind, amqp_table_t arguments) {
  amqp_queue_declare_ok_t *ok = try_declare(connection, 1, name, kind, arguments);
  check(connection);
  return ok;
}

static long ready(connection_t connection, const char *name) {
  return declare_queue(connection, name, PASSIVE, amqp_empty_table)->message_count;
}

static void publish_bytes(connection_t connection, const char *exchange, const char *key,
                          amqp_bytes_t body, bool mandatory, amqp_basic_properties_t *properties) {
  equal("publish",
        amqp_basic_publish(connection, 1, bytes(exchange), bytes(key), mandatory, 0, properties,
                           body),
        AMQP_STATUS_OK);
}

static void publish(connection_t connection, const char *exchange, const char *key,
                    const char *body) {
  publish_bytes(connection, exchange, key, bytes(body), false, NULL);
}

/* The next frame must be this method on channel 1. */
static void *await_method(connection_t connection, amqp_method_number_t method) {
  struct timeval limit = {.tv_sec = WAIT_SECONDS};
  amqp_frame_t frame;
  amqp_maybe_release_buffers(connection);
  int status = amqp_simple_wait_frame_noblock(connection, &frame, &limit);
  require(status == AMQP_STATUS_OK, "waiting for %s: %s", amqp_method_name(method),
          amqp_error_string2(status));
  require(
      frame.frame_type == AMQP_FRAME_METHOD && frame.payload.method.id == method,
      "%s instead of %s",
      frame.frame_type == AMQP_FRAME_METHOD ? amqp_method_name(frame.payload.method.id) : "content",
      amqp_method_name(method));
  return frame.payload.method.decoded;
}

static void confirm_select(connection_t connection) {
  amqp_confirm_select(connection, 1);
  check(connection);
}

/* Sends the numbers below count as persistent messages and waits for every acknowledgement. */
static void publish_confirmed(connection_t connection, const char *queue, int count) {
  amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
                                        .delivery_mode = 2};
  bool seen[1001] = {false};
  int open = count;
  confirm_select(connection);
  for (int number = 0; number < count; number++) {
    char body[16];
    snprintf(body, sizeof body, "%d", number);
    publish_bytes(connection, "", queue, bytes(body), false, &properties);
  }
  while (open > 0) {
    amqp_basic_ack_t *ack = await_method(connection, AMQP_BASIC_ACK_METHOD);
    require(ack->delivery_tag >= 1 && ack->delivery_tag <= (uint64_t)count, "ack of %lu",
            (unsigned long)ack->delivery_tag);
    for (uint64_t tag = ack->multiple ? 1 : ack->delivery_tag; tag <= ack->delivery_tag; tag++) {
      if (!seen[tag]) open--;
      seen[tag] = true;
    }
  }
}

static void consume(connection_t connection, const char *queue, const char *tag, bool no_ack) {
  amqp_basic_consume(connection, 1, bytes(queue), bytes(tag), 0, no_ack, 0, amqp_empty_table);
  check(connection);
}

/* The next delivery to any consumer; the caller destroys the envelope. */
static amqp_envelope_t next_delivery(connection_t connection) {
  struct timeval limit = {.tv_sec = WAIT_SECONDS};
  amqp_envelope_t envelope;
  amqp_maybe_release_buffers(connection);
  check_reply(amqp_consume_message(connection, &envelope, &limit, 0));
  return envelope;
}

static void expect_delivery(connection_t connection, const char *body) {
  amqp_envelope_t envelope = next_delivery(connection);
  same("delivered", envelope.message.body, body);
  amqp_destroy_envelope(&envelope);
}

/* basic.get for a message that has to be there; checks its body and mark, returns its tag. */
static uint64_t expect_get(connection_t connection, const char *queue, const char *body,
                           bool redelivered, bool no_ack, long left) {
  amqp_message_t message;
  amqp_maybe_release_buffers(connection);
  amqp_rpc_reply_t reply = amqp_basic_get(connection, 1, bytes(queue), no_ack);
  check_reply(reply);
  equal("method", reply.reply.id, AMQP_BASIC_GET_OK_METHOD);
  amqp_basic_get_ok_t ok = *(amqp_basic_get_ok_t *)reply.reply.decoded;
  check_reply(amqp_read_message(connection, 1, &message, 0));
  same("body", message.body, body);
  amqp_destroy_message(&message);
  equal("redelivered", ok.redelivered, redelivered);
  if (left >= 0) equal("left", ok.message_count, left);
  return ok.delivery_tag;
}

static void expect_empty(connection_t connection, const char *queue) {
  amqp_rpc_reply_t reply = amqp_basic_get(connection, 1, bytes(queue), 1);
  check_reply(reply);
  equal("method", reply.reply.id, AMQP_BASIC_GET_EMPTY_METHOD);
}

static const amqp_field_value_t *find(const amqp_table_t *in, const char *key) {
  for (int index = 0; index < in->num_entries; index++) {
    amqp_bytes_t name = in->entries[index].key;
    if (name.len == strlen(key) && memcmp(name.bytes, key, name.len) == 0)
      return &in->entries[index].value;
  }
  fail("no %s", key);
}

/* --- scenarios ----------------------------------------------------------------------------- */

/* Server properties are RabbitMQ's; wrong credentials and vhosts are refused as it does. */
static void scenario_connect(connection_t connection, const char *name) {
  (void)name;
  amqp_table_t *properties = amqp_get_server_properties(connection);
  same("product", find(properties, "product")->value.bytes, "RabbitMQ");
  const amqp_table_t *capabilities = &find(properties, "capabilities")->value.table;
  const char *wanted[] = {
      "publisher_confirms",     "exchange_exchange_bindings",   "basic.nack",
      "consumer_cancel_notify", "connection.blocked",           "consumer_priorities",
      "per_consumer_qos",       "authentication_failure_close", "direct_reply_to"};
  for (size_t index = 0; index < sizeof wanted / sizeof *wanted; index++)
    equal(wanted[index], find(capabilities, wanted[index])->value.boolean, 1);
  equal("channel max", amqp_get_channel_max(connection), 2047);
  equal("frame max", amqp_get_frame_max(connection), FRAME_MAX);
  equal("heartbeat", amqp_get_heartbeat(connection), 60);
  connection_t wrong = amqp_new_connection();
  refused(403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN",
          login(wrong, NULL, "wrong"));
  amqp_destroy_connection(wrong);
  connection_t lost = amqp_new_connection();
  refused(530, "NOT_ALLOWED - vhost no-such-vhost not found", login(lost, "no-such-vhost", NULL));
  amqp_destroy_connection(lost);
}

/* Exchanges, queues and bindings; the same again is fine, a different one is 406. */
static void scenario_declare(connection_t connection, const char *name) {
  amqp_table_entry_t five = int_entry("x-max-length", 5), six = int_entry("x-max-length", 6);
  for (int times = 0; times < 2; times++) {
    amqp_exchange_declare(connection, 1, bytes(name), bytes("topic"), 0, 1, 0, 0, amqp_empty_table);
    check(connection);
    declare_queue(connection, name, DURABLE, table(1, &five));
  }
  amqp_queue_bind(connection, 1, bytes(name), bytes(name), bytes("a.#"), amqp_empty_table);
  check(connection);
  publish(connection, name, "a.b.c", "routed");
  publish(connection, name, "b.a", "not routed");
  expect_get(connection, name, "routed", false, true, 0);
  expect_empty(connection, name);
  char text[512];
  snprintf(text, sizeof text,
           "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '%s' in vhost '/': "
           "received '6' but current is '5'",
           name);
  try_declare(connection, 1, name, DURABLE, table(1, &six));
  refused(406, text, amqp_get_rpc_reply(connection));
  reopen_channel(connection, 1);
  amqp_queue_unbind(connection, 1, bytes(name), bytes(name), bytes("a.#"), amqp_empty_table);
  check(connection);
  amqp_queue_delete(connection, 1, bytes(name), 0, 0);
  check(connection);
  amqp_exchange_delete(connection, 1, bytes(name), 1);
  check(connection);
}

/* Each persistent message to a durable queue is confirmed, and all are there in order. */
static void scenario_confirm(connection_t connection, const char *name) {
  declare_queue(connection, name, DURABLE, amqp_empty_table);
  publish_confirmed(connection, name, 1000);
  consume(connection, name, "", true);
  for (int number = 0; number < 1000; number++) {
    char body[16];
    snprintf(body, sizeof body, "%d", number);
    expect_delivery(connection, body);
  }
  amqp_queue_delete(connection, 1, bytes(name), 0, 0);
  check(connection);
}

/* Every property and several kinds of header value arrive as they were sent. */
static void scenario_properties(connection_t connection, const char *name) {
  amqp_table_entry_t headers[] = {int_entry("int", -32),
                                  text_entry("text", "gr\xc3\xbcn"),
                                  {bytes("u8"), {AMQP_FIELD_KIND_U8, {.u8 = 8}}},
                                  {bytes("void"), {AMQP_FIELD_KIND_VOID, {.i64 = 0}}}};
  amqp_basic_properties_t sent = {
      ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG |
                AMQP_BASIC_HEADERS_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_PRIORITY_FLAG |
                AMQP_BASIC_CORRELATION_ID_FLAG | AMQP_BASIC_REPLY_TO_FLAG |
                AMQP_BASIC_EXPIRATION_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG |
                AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_TYPE_FLAG | AMQP_BASIC_USER_ID_FLAG |
                AMQP_BASIC_APP_ID_FLAG | AMQP_BASIC_CLUSTER_ID_FLAG,
      .content_type = bytes("application/json"),
      .content_encoding = bytes("utf-8"),
      .headers = table(4, headers),
      .delivery_mode = 2,
      .priority = 3,
      .correlation_id = bytes("c-1"),
      .reply_to = bytes("somewhere"),
      .expiration = bytes("60000"),
      .message_id = bytes("m-1"),
      .timestamp = 1700000000,
      .type = bytes("kind"),
      .user_id = bytes("guest"),
      .app_id = bytes("interop"),
      .cluster_id = bytes("old")};
  declare_queue(connection, name, EXCLUSIVE, amqp_empty_table);
  publish_bytes(connection, "", name, bytes("body"), false, &sent);
  consume(connection, name, "", true);
  amqp_envelope_t envelope = next_delivery(connection);
  amqp_basic_properties_t *got = &envelope.message.properties;
  same("body", envelope.message.body, "body");
  equal("flags", got->_flags, sent._flags);
  same("content type", got->content_type, "application/json");
  same("content encoding", got->content_encoding, "utf-8");
  equal("delivery mode", got->delivery_mode, 2);
  equal("priority", got->priority, 3);
  same("correlation id", got->correlation_id, "c-1");
  same("reply to", got->reply_to, "somewhere");
  same("expiration", got->expiration, "60000");
  same("message id", got->message_id, "m-1");
  equal("timestamp", (long)got->timestamp, 1700000000);
  same("type", got->type, "kind");
  same("user id", got->user_id, "guest");
  same("app id", got->app_id, "interop");
  same("cluster id", got->cluster_id, "old");
  equal("headers", got->headers.num_entries, 4);
  equal("int", find(&got->headers, "int")->value.i32, -32);
  same("text", find(&got->headers, "text")->value.bytes, "gr\xc3\xbcn");
  equal("u8", find(&got->headers, "u8")->value.u8, 8);
  equal("void", find(&got->headers, "void")->kind, AMQP_FIELD_KIND_VOID);
  amqp_destroy_envelope(&envelope);
}

/* Bodies from nothing to many frames arrive whole, also at the edges of a frame. */
static void scenario_sizes(connection_t connection, const char *name) {
  const size_t whole = FRAME_MAX - 8;
  const size_t sizes[] = {0, 1, whole - 1, whole, whole + 1, 2 * whole, 1000000};
  static unsigned char body[1000000];
  for (size_t index = 0; index < sizeof body; index++) body[index] = index % 251;
  declare_queue(connection, name, EXCLUSIVE, amqp_empty_table);
  consume(connection, name, "", true);
  for (size_t index = 0; index < sizeof sizes / sizeof *sizes; index++) {
    publish_bytes(connection, "", name, (amqp_bytes_t){sizes[index], body}, false, NULL);
    amqp_envelope_t envelope = next_delivery(connection);
    equal("size", envelope.message.body.len, sizes[index]);
    require(sizes[index] == 0 || memcmp(envelope.message.body.bytes, body, sizes[index]) == 0,
            "a body of %zu bytes was changed on its way", sizes[index]);
    amqp_destroy_envelope(&envelope);
  }
}

/* No more than the prefetch count is out at a time; an acknowledgement brings the next. */
static void scenario_prefetch(connection_t connection, const char *name) {
  declare_queue(connection, name, EXCLUSIVE, amqp_empty_table);
  for (int number = 0; number < 10; number++)
    publish(connection, "", name, (char[]){(char)('0' + number), 0});
  amqp_basic_qos(connection, 1, 0, 3, 0);
  check(connection);
  consume(connection, name, "", false);
  const int steps[][3] = {{3, 1, false}, {4, 4, true}, {7, 7, true}, {10, 10, true}};
  int received = 0;
  for (int step = 0; step < 4; step++) {
    for (; received < steps[step][0]; received++)
      expect_delivery(connection, (char[]){(char)('0' + received), 0});
    equal("still in the queue", ready(connection, name), 10 - received);
    /* Whatever was sent before that answer is here by now. */
    equal("more deliveries", amqp_frames_enqueued(connection), 0);
    equal("ack", amqp_basic_ack(connection, 1, steps[step][1], steps[step][2]), AMQP_STATUS_OK);
  }
}

/* nack and reject with requeue bring a message back, marked; without, it is gone. */
static void scenario_requeue(connection_t connection, const char *name) {
  declare_queue(connection, name, EXCLUSIVE, amqp_empty_table);
  publish(connection, "", name, "again");
  publish(connection, "", name, "next");
  amqp_basic_nack(connection, 1, expect_get(connection, name, "again", false, false, 1), 0, 1);
  amqp_basic_reject(connection, 1, expect_get(connection, name, "again", true, false, 1), 1);
  amqp_basic_nack(connection, 1, expect_get(connection, name, "again", true, false, 1), 0, 0);
  expect_get(connection, name, "next", false, false, 0);
  /* Closing a channel gives back what it had not acknowledged. */
  check_reply(amqp_channel_close(connection, 1, AMQP_REPLY_SUCCESS));
  open_channel(connection, 1);
  amqp_basic_ack(connection, 1, expect_get(connection, name, "next", true, false, 0), 0);
  expect_empty(connection, name);
}

/* A mandatory message without a queue comes back, before its confirm; a plain one is dropped. */
static void scenario_mandatory(connection_t connection, const char *name) {
  amqp_basic_properties_t properties = {._flags = AMQP_BASIC_MESSAGE_ID_FLAG,
                                        .message_id = bytes("m")};
  confirm_select(connection);
  publish(connection, "amq.direct", name, "dropped");
  amqp_basic_ack_t *ack = await_method(connection, AMQP_BASIC_ACK_METHOD);
  equal("first ack", (long)ack->delivery_tag, 1);
  publish_bytes(connection, "amq.direct", name, bytes("returned"), true, &properties);
  amqp_basic_return_t *back = await_method(connection, AMQP_BASIC_RETURN_METHOD);
  equal("code", back->reply_code, 312);
  same("text", back->reply_text, "NO_ROUTE");
  same("exchange", back->exchange, "amq.direct");
  same("key", back->routing_key, name);
  amqp_message_t message;
  check_reply(amqp_read_message(connection, 1, &message, 0));
  same("body", message.body, "returned");
  same("message id", message.properties.message_id, "m");
  amqp_destroy_message(&message);
  ack = await_method(connection, AMQP_BASIC_ACK_METHOD);
  equal("second ack", (long)ack->delivery_tag, 2);
}

/* Requests and answers through direct reply-to, with the address rewritten on the way. */
static void scenario_rpc(connection_t connection, const char *name) {
  connection_t server = connect_broker();
  declare_queue(server, name, EXCLUSIVE, amqp_empty_table);
  consume(server, name, "", true);
  consume(connection, "amq.rabbitmq.reply-to", "", true);
  amqp_basic_properties_t call = {
      ._flags = AMQP_BASIC_REPLY_TO_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG,
      .reply_to = bytes("amq.rabbitmq.reply-to"),
      .correlation_id = bytes("7")};
  publish_bytes(connection, "", name, bytes("ping"), false, &call);
  amqp_envelope_t request = next_delivery(server);
  same("request", request.message.body, "ping");
  amqp_bytes_t address = request.message.properties.reply_to;
  const char *prefix = "amq.rabbitmq.reply-to.";
  require(address.len > strlen(prefix) && memcmp(address.bytes, prefix, strlen(prefix)) == 0,
          "reply-to %.*s", (int)address.len, (char *)address.bytes);
  amqp_basic_properties_t answer = {._flags = AMQP_BASIC_CORRELATION_ID_FLAG,
                                    .correlation_id = request.message.properties.correlation_id};
  equal("publish", amqp_basic_publish(server, 1, bytes(""), address, 0, 0, &answer, bytes("pong")),
        AMQP_STATUS_OK);
  amqp_envelope_t reply = next_delivery(connection);
  same("reply", reply.message.body, "pong");
  same("correlation id", reply.message.properties.correlation_id, "7");
  amqp_destroy_envelope(&request);
  amqp_destroy_envelope(&reply);
  disconnect(server);
}

/* basic.get takes one message at a time, tells how many are left, and says when none is. */
static void scenario_get(connection_t connection, const char *name) {
  declare_queue(connection, name, EXCLUSIVE, amqp_empty_table);
  expect_empty(connection, name);
  publish(connection, "", name, "0");
  publish(connection, "", name, "1");
  amqp_basic_ack(connection, 1, expect_get(connection, name, "0", false, false, 1), 0);
  expect_get(connection, name, "1", false, true, 0);
  expect_empty(connection, name);
}

/* Exclusive queues are locked to others and end with their connection; "" asks for a name. */
static void scenario_exclusive(connection_t connection, const char *name) {
  char made[256], text[512];
  connection_t owner = connect_broker();
  amqp_bytes_t queue = declare_queue(owner, "", EXCLUSIVE, amqp_empty_table)->queue;
  snprintf(made, sizeof made, "%.*s", (int)queue.len, (char *)queue.bytes);
  require(strncmp(made, "amq.gen-", 8) == 0, "the server named it %s", made);
  declare_queue(owner, name, EXCLUSIVE, amqp_empty_table);
  snprintf(text, sizeof text,
           "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '%s'", name);
  try_declare(connection, 1, name, EXCLUSIVE, amqp_empty_table);
  refused(405, text, amqp_get_rpc_reply(connection));
  disconnect(owner);
  const char *gone[] = {name, made};
  for (int index = 0; index < 2; index++) {
    reopen_channel(connection, 1);
    snprintf(text, sizeof text, "NOT_FOUND - no queue '%s' in vhost '/'", gone[index]);
    try_declare(connection, 1, gone[index], PASSIVE, amqp_empty_table);
    refused(404, text, amqp_get_rpc_reply(connection));
  }
}

/* An error ends its channel only: others and new ones go on. */
static void scenario_channel_error(connection_t connection, const char *name) {
  char text[512];
  open_channel(connection, 2);
  snprintf(text, sizeof text, "NOT_FOUND - no queue '%s' in vhost '/'", name);
  try_declare(connection, 2, name, PASSIVE, amqp_empty_table);
  refused(404, text, amqp_get_rpc_reply(connection));
  declare_queue(connection, name, EXCLUSIVE, amqp_empty_table);
  reopen_channel(connection, 2);
  try_declare(connection, 2, name, PASSIVE, amqp_empty_table);
  check(connection);
  amqp_basic_ack(connection, 2, 99, 0);
  try_declare(connection, 2, name, PASSIVE, amqp_empty_table);
  refused(406, "PRECONDITION_FAILED - unknown delivery tag 99", amqp_get_rpc_reply(connection));
  equal("messages", ready(connection, name), 0);
}

/* Rejected messages reach the dead letter exchange with x-death. */
static void scenario_dead_letter(connection_t connection, const char *name) {
  char dead[256];
  snprintf(dead, sizeof dead, "%s.dead", name);
  declare_queue(connection, dead, EXCLUSIVE, amqp_empty_table);
  amqp_table_entry_t arguments[] = {text_entry("x-dead-letter-exchange", ""),
                                    text_entry("x-dead-letter-routing-key", dead)};
  declare_queue(connection, name, EXCLUSIVE, table(2, arguments));
  publish(connection, "", name, "rejected");
  uint64_t tag = expect_get(connection, name, "rejected", false, false, 0);
  amqp_basic_reject(connection, 1, tag, 0);
  consume(connection, dead, "", true);
  amqp_envelope_t envelope = next_delivery(connection);
  same("body", envelope.message.body, "rejected");
  const amqp_field_value_t *deaths = find(&envelope.message.properties.headers, "x-death");
  equal("deaths", deaths->value.array.num_entries, 1);
  const amqp_table_t *death = &deaths->value.array.entries[0].value.table;
  same("reason", find(death, "reason")->value.bytes, "rejected");
  same("queue", find(death, "queue")->value.bytes, name);
  equal("count", (long)find(death, "count")->value.i64, 1);
  amqp_destroy_envelope(&envelope);
}

/* The client's cancel stops deliveries; the end of a queue cancels its consumers. */
static void scenario_cancel(connection_t connection, const char *name) {
  declare_queue(connection, name, PLAIN, amqp_empty_table);
  consume(connection, name, "first", true);
  amqp_basic_cancel(connection, 1, bytes("first"));
  check(connection);
  publish(connection, "", name, "kept");
  expect_get(connection, name, "kept", false, true, 0);
  consume(connection, name, "mine", true);
  connection_t other = connect_broker();
  amqp_queue_delete(other, 1, bytes(name), 0, 0);
  check(other);
  amqp_basic_cancel_t *cancelled = await_method(connection, AMQP_BASIC_CANCEL_METHOD);
  same("cancelled", cancelled->consumer_tag, "mine");
  disconnect(other);
}

/* A queue declared as quorum holds messages and counts their deliveries. */
static void scenario_quorum(connection_t connection, const char *name) {
  amqp_table_entry_t quorum = text_entry("x-queue-type", "quorum");
  declare_queue(connection, name, DURABLE, table(1, &quorum));
  publish_confirmed(connection, name, 1);
  consume(connection, name, "", false);
  amqp_envelope_t first = next_delivery(connection);
  equal("redelivered", first.redelivered, 0);
  amqp_basic_reject(connection, 1, first.delivery_tag, 1);
  amqp_destroy_envelope(&first);
  amqp_envelope_t second = next_delivery(connection);
  same("body", second.message.body, "0");
  equal("redelivered", second.redelivered, 1);
  equal("count", (long)find(&second.message.properties.headers, "x-delivery-count")->value.i64, 1);
  amqp_basic_ack(connection, 1, second.delivery_tag, 0);
  amqp_destroy_envelope(&second);
  amqp_queue_delete(connection, 1, bytes(name), 0, 0);
  check(connection);
}

/* Confirmed messages survive a broker killed or stopped, in order, for a client that sees its
 * connection end and connects again. */
static void restart(const char *how, const char *name) {
  const int total = 200, acknowledged = 20, held = 10;
  bool killed = strcmp(how, "kill") == 0;
  char body[16], line[16];
  connection_t connection = connect_broker();
  declare_queue(connection, name, DURABLE, amqp_empty_table);
  publish_confirmed(connection, name, total);
  for (int number = 0; number < acknowledged + held; number++) {
    snprintf(body, sizeof body, "%d", number);
    uint64_t tag = expect_get(connection, name, body, false, false, -1);
    /* The gets that follow are answered after the queue has seen this. */
    if (number == acknowledged - 1) amqp_basic_ack(connection, 1, tag, 1);
  }
  puts("ready");
  require(fgets(line, sizeof line, stdin), "no word from the runner");

  struct timeval limit = {.tv_sec = WAIT_SECONDS};
  amqp_frame_t frame;
  int status = amqp_simple_wait_frame_noblock(connection, &frame, &limit);
  if (killed) {
    require(status != AMQP_STATUS_OK && status != AMQP_STATUS_TIMEOUT, "a killed broker is there");
  } else {
    equal("status", status, AMQP_STATUS_OK);
    equal("method", frame.payload.method.id, AMQP_CONNECTION_CLOSE_METHOD);
    amqp_connection_close_t *close = frame.payload.method.decoded;
    equal("reply code", close->reply_code, 320);
  }
  amqp_destroy_connection(connection);
  connection = connect_broker();
  long left = ready(connection, name);
  /* A kill may lose the acknowledgements, but no message that was not acknowledged. */
  require(total - acknowledged <= left && left <= total, "%ld messages left", left);
  require(killed || left == total - acknowledged, "%ld left after a clean stop", left);
  consume(connection, name, "", true);
  for (long number = total - left; number < total; number++) {
    snprintf(body, sizeof body, "%ld", number);
    expect_delivery(connection, body);
  }
  amqp_queue_delete(connection, 1, bytes(name), 0, 0);
  check(connection);
  disconnect(connection);
}

/* --- the runner ---------------------------------------------------------------------------- */

static const struct {
  const char *name;
  void (*play)(connection_t connection, const char *name);
} scenarios[] = {
    {"connect", scenario_connect},
    {"declare", scenario_declare},
    {"confirm", scenario_confirm},
    {"properties", scenario_properties},
    {"sizes", scenario_sizes},
    {"prefetch", scenario_prefetch},
    {"requeue", scenario_requeue},
    {"mandatory", scenario_mandatory},
    {"rpc", scenario_rpc},
    {"get", scenario_get},
    {"exclusive", scenario_exclusive},
    {"channel-error", scenario_channel_error},
    {"dead-letter", scenario_dead_letter},
    {"cancel", scenario_cancel},
    {"quorum", scenario_quorum},
};

int main(int count, char **arguments) {
  volatile int failures = 0;
  char name[128];
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (count == 3 && strcmp(arguments[1], "restart") == 0) {
    snprintf(name, sizeof name, "interop.c.%d.restart", (int)getpid());
    if (setjmp(failed) == 0) {
      restart(arguments[2], name);
      printf("ok restart-%s\n", arguments[2]);
      return 0;
    }
    printf("FAIL restart-%s: %s\n", arguments[2], why);
    return 1;
  }
  for (volatile size_t index = 0; index < sizeof scenarios / sizeof *scenarios; index++) {
    snprintf(name, sizeof name, "interop.c.%d.%s", (int)getpid(), scenarios[index].name);
    if (setjmp(failed) == 0) {
      connection_t connection = connect_broker();
      scenarios[index].play(connection, name);
      disconnect(connection);
      printf("ok %s\n", scenarios[index].name);
    } else {
      printf("FAIL %s: %s\n", scenarios[index].name, why);
      failures++;
    }
  }
  return failures ? 1 : 0;
}
