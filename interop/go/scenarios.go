package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var scenarios = []struct {
	name string
	play func(connection *amqp.Connection, channel *amqp.Channel, name string)
}{
	{"connect", connectScenario},
	{"declare", declare},
	{"confirm", confirm},
	{"properties", properties},
	{"sizes", sizes},
	{"prefetch", prefetch},
	{"requeue", requeue},
	{"mandatory", mandatory},
	{"rpc", rpc},
	{"get", get},
	{"exclusive", exclusive},
	{"channel-error", channelError},
	{"dead-letter", deadLetter},
	{"cancel", cancel},
	{"quorum", quorum},
}

var background = context.Background()

func publish(channel *amqp.Channel, exchange, key string, message amqp.Publishing) {
	check(channel.PublishWithContext(background, exchange, key, false, false, message))
}

func text(body string) amqp.Publishing { return amqp.Publishing{Body: []byte(body)} }

// publishConfirmed sends the numbers below count as persistent messages and waits until the broker
// has acknowledged every one of them.
func publishConfirmed(channel *amqp.Channel, queue string, count int) {
	check(channel.Confirm(false))
	pending := make([]*amqp.DeferredConfirmation, count)
	for number := range pending {
		message := amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(fmt.Sprint(number))}
		pending[number] = must(channel.PublishWithDeferredConfirmWithContext(
			background, "", queue, false, false, message))
	}
	deadline, cancel := context.WithTimeout(background, wait)
	defer cancel()
	for number, confirmation := range pending {
		equal("delivery tag", confirmation.DeliveryTag, uint64(number+1))
		require(must(confirmation.WaitContext(deadline)), "message %d was not acknowledged", number)
	}
}

// getOne is basic.get for a message that has to be there.
func getOne(channel *amqp.Channel, queue string, autoAck bool) amqp.Delivery {
	delivery, found, err := channel.Get(queue, autoAck)
	check(err)
	require(found, "nothing in %s", queue)
	return delivery
}

func exclusiveQueue(channel *amqp.Channel, name string, arguments amqp.Table) {
	must(channel.QueueDeclare(name, false, false, true, false, arguments))
}

// Server properties are RabbitMQ's; wrong credentials and vhosts are refused as it does.
func connectScenario(connection *amqp.Connection, _ *amqp.Channel, _ string) {
	equal("product", connection.Properties["product"], "RabbitMQ")
	var major, minor int
	_, err := fmt.Sscanf(connection.Properties["version"].(string), "%d.%d", &major, &minor)
	check(err)
	require(major > 3 || major == 3 && minor >= 10, "version %d.%d", major, minor)
	capabilities, _ := connection.Properties["capabilities"].(amqp.Table)
	for _, capability := range strings.Fields(
		"publisher_confirms exchange_exchange_bindings basic.nack consumer_cancel_notify " +
			"connection.blocked consumer_priorities authentication_failure_close " +
			"per_consumer_qos direct_reply_to") {
		equal(capability, capabilities[capability], true)
	}
	equal("channel max", connection.Config.ChannelMax, uint16(2047))
	equal("frame size", connection.Config.FrameSize, 131072)
	equal("locales", connection.Locales, []string{"en_US"})
	wrong := must(amqp.ParseURI(url))
	wrong.Password = "wrong"
	_, err = amqp.Dial(wrong.String())
	require(errors.Is(err, amqp.ErrCredentials), "a wrong password met: %v", err)
	wrong = must(amqp.ParseURI(url))
	wrong.Vhost = "no-such-vhost"
	_, err = amqp.Dial(wrong.String())
	refused(530, "NOT_ALLOWED - vhost no-such-vhost not found", err)
}

// Exchanges, queues and bindings; the same again is fine, a different one is 406.
func declare(connection *amqp.Connection, channel *amqp.Channel, name string) {
	arguments := amqp.Table{"x-max-length": int32(5)}
	check(channel.ExchangeDeclare(name, "topic", true, false, false, false, nil))
	check(channel.ExchangeDeclare(name, "topic", true, false, false, false, nil))
	must(channel.QueueDeclare(name, true, false, false, false, arguments))
	check(channel.QueueBind(name, "a.*.c", name, false, nil))
	publish(channel, name, "a.b.c", text("routed"))
	publish(channel, name, "a.b.d", text("not routed"))
	equal("routed", string(getOne(channel, name, true).Body), "routed")
	_, found, err := channel.Get(name, true)
	check(err)
	equal("a second message", found, false)
	// The same number in a wider integer type is the same argument.
	must(channel.QueueDeclare(name, true, false, false, false, amqp.Table{"x-max-length": int64(5)}))

	check(channel.ExchangeDeclare(name+".up", "fanout", false, true, false, false, nil))
	check(channel.ExchangeBind(name, "", name+".up", false, nil))
	publish(channel, name+".up", "a.x.c", text("through two exchanges"))
	equal("routed", string(getOne(channel, name, true).Body), "through two exchanges")
	check(channel.ExchangeUnbind(name, "", name+".up", false, nil))
	refused(404, "NOT_FOUND - no exchange '"+name+".up' in vhost '/'",
		channel.ExchangeDeclarePassive(name+".up", "fanout", false, true, false, false, nil))

	channel = must(connection.Channel())
	arguments["x-max-length"] = int32(6)
	_, err = channel.QueueDeclare(name, true, false, false, false, arguments)
	refused(406, "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '"+name+
		"' in vhost '/': received '6' but current is '5'", err)
	channel = must(connection.Channel())
	check(channel.QueueUnbind(name, "a.*.c", name, nil))
	must(channel.QueueDelete(name, false, false, false))
	check(channel.ExchangeDelete(name, false, false))
}

// Each persistent message to a durable queue is confirmed, and all are there in order.
func confirm(_ *amqp.Connection, channel *amqp.Channel, name string) {
	const count = 1000
	must(channel.QueueDeclare(name, true, false, false, false, nil))
	publishConfirmed(channel, name, count)
	deliveries := must(channel.Consume(name, "", true, false, false, false, nil))
	for number := 0; number < count; number++ {
		equal("body", string(receive(deliveries, "a delivery").Body), fmt.Sprint(number))
	}
	must(channel.QueueDelete(name, false, false, false))
}

// Every property and every kind of header value arrives as it was sent.
func properties(_ *amqp.Connection, channel *amqp.Channel, name string) {
	sent := amqp.Publishing{
		Headers: amqp.Table{
			"bool": true, "void": nil, "text": "grün", "bytes": []byte{0, 255},
			"int8": int8(-8), "int16": int16(-16), "int32": int32(-32), "int64": int64(-64),
			"uint8": byte(8), "float32": float32(1.5), "float64": 2.5,
			"time": time.Unix(1700000000, 0), "decimal": amqp.Decimal{Scale: 2, Value: 314},
			"table": amqp.Table{"list": []any{"a", int32(1), amqp.Table{"deep": false}}},
		},
		ContentType: "application/json", ContentEncoding: "utf-8", DeliveryMode: amqp.Persistent,
		Priority: 3, CorrelationId: "c-1", ReplyTo: "somewhere", Expiration: "60000",
		MessageId: "m-1", Timestamp: time.Unix(1700000000, 0), Type: "kind", UserId: "guest",
		AppId: "interop", Body: []byte("body"),
	}
	exclusiveQueue(channel, name, nil)
	publish(channel, "", name, sent)
	got := getOne(channel, name, true)
	received := amqp.Publishing{
		Headers: got.Headers, ContentType: got.ContentType, ContentEncoding: got.ContentEncoding,
		DeliveryMode: got.DeliveryMode, Priority: got.Priority, CorrelationId: got.CorrelationId,
		ReplyTo: got.ReplyTo, Expiration: got.Expiration, MessageId: got.MessageId,
		Timestamp: got.Timestamp, Type: got.Type, UserId: got.UserId, AppId: got.AppId,
		Body: got.Body,
	}
	for key, value := range sent.Headers {
		equal("header "+key, received.Headers[key], value)
	}
	equal("message", received, sent)
	equal("routing key", got.RoutingKey, name)
}

// Bodies from nothing to many frames arrive whole, also at the edges of a frame.
func sizes(connection *amqp.Connection, channel *amqp.Channel, name string) {
	whole := connection.Config.FrameSize - 8
	exclusiveQueue(channel, name, nil)
	var bodies [][]byte
	for _, size := range []int{0, 1, whole - 1, whole, whole + 1, 2 * whole, 1_000_000} {
		body := make([]byte, size)
		for index := range body {
			body[index] = byte(index % 251)
		}
		bodies = append(bodies, body)
		publish(channel, "", name, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: body})
	}
	deliveries := must(channel.Consume(name, "", true, true, false, false, nil))
	for _, body := range bodies {
		received := receive(deliveries, "a delivery").Body
		equal("size", len(received), len(body))
		require(bytes.Equal(received, body), "a body of %d bytes was changed on its way", len(body))
	}
}

// No more than the prefetch count is out at a time; an acknowledgement brings the next.
func prefetch(_ *amqp.Connection, channel *amqp.Channel, name string) {
	exclusiveQueue(channel, name, nil)
	for number := 0; number < 10; number++ {
		publish(channel, "", name, text(fmt.Sprint(number)))
	}
	check(channel.Qos(3, 0, false))
	deliveries := must(channel.Consume(name, "mine", false, false, false, false, nil))
	var received []amqp.Delivery
	waitFor := func(count int) {
		for len(received) < count {
			delivery := receive(deliveries, "a delivery")
			equal("body", string(delivery.Body), fmt.Sprint(len(received)))
			equal("tag", delivery.DeliveryTag, uint64(len(received)+1))
			equal("consumer", delivery.ConsumerTag, "mine")
			received = append(received, delivery)
		}
		// Counted on the same channel: whatever was sent before the answer has come.
		left := must(channel.QueueDeclarePassive(name, false, false, true, false, nil)).Messages
		equal("still in the queue", left, 10-count)
		equal("more deliveries", len(deliveries), 0)
	}
	waitFor(3)
	check(received[0].Ack(false))
	waitFor(4)
	check(received[3].Ack(true))
	waitFor(7)
	check(received[6].Ack(true))
	waitFor(10)
}

// nack and reject with requeue bring a message back, marked; without, it is gone.
func requeue(connection *amqp.Connection, channel *amqp.Channel, name string) {
	exclusiveQueue(channel, name, nil)
	publish(channel, "", name, text("again"))
	publish(channel, "", name, text("next"))
	expect := func(body string, redelivered bool) amqp.Delivery {
		delivery := getOne(channel, name, false)
		equal("body", string(delivery.Body), body)
		equal("redelivered", delivery.Redelivered, redelivered)
		return delivery
	}
	check(expect("again", false).Nack(false, true))
	check(expect("again", true).Reject(true))
	check(expect("again", true).Nack(false, false))
	expect("next", false)
	// Closing a channel gives back what it had not acknowledged.
	check(channel.Close())
	channel = must(connection.Channel())
	check(expect("next", true).Ack(false))
	_, found, err := channel.Get(name, false)
	check(err)
	equal("anything left", found, false)
}

// A mandatory message without a queue comes back, before its confirm; a plain one is dropped.
func mandatory(_ *amqp.Connection, channel *amqp.Channel, name string) {
	check(channel.Confirm(false))
	returns := channel.NotifyReturn(make(chan amqp.Return, 1))
	check(channel.ExchangeDeclare(name, "direct", false, false, false, false, nil))
	send := func(mandatory bool, body string) {
		message := amqp.Publishing{MessageId: "m", Body: []byte(body)}
		confirmation := must(channel.PublishWithDeferredConfirmWithContext(
			background, name, "nowhere", mandatory, false, message))
		deadline, cancel := context.WithTimeout(background, wait)
		defer cancel()
		require(must(confirmation.WaitContext(deadline)), "%s was not acknowledged", body)
	}
	send(false, "dropped")
	equal("returns", len(returns), 0)
	send(true, "returned")
	// The return was sent before the confirm, so it is here by now.
	equal("returns", len(returns), 1)
	back := <-returns
	equal("code", back.ReplyCode, uint16(312))
	equal("text", back.ReplyText, "NO_ROUTE")
	equal("from", back.Exchange+"/"+back.RoutingKey, name+"/nowhere")
	equal("content", back.MessageId+"/"+string(back.Body), "m/returned")
	check(channel.ExchangeDelete(name, false, false))
}

// Requests and answers through direct reply-to, with the address rewritten on the way.
func rpc(connection *amqp.Connection, channel *amqp.Channel, name string) {
	exclusiveQueue(channel, name, nil)
	server := must(connection.Channel())
	requests := must(server.Consume(name, "", false, false, false, false, nil))
	replies := must(channel.Consume("amq.rabbitmq.reply-to", "", true, false, false, false, nil))
	for number := 0; number < 5; number++ {
		call := text(fmt.Sprintf("call %d", number))
		call.ReplyTo, call.CorrelationId = "amq.rabbitmq.reply-to", fmt.Sprint(number)
		publish(channel, "", name, call)
		request := receive(requests, "a request")
		rewritten := strings.HasPrefix(request.ReplyTo, "amq.rabbitmq.reply-to.")
		require(rewritten, "reply-to %s", request.ReplyTo)
		answer := text(strings.ToUpper(string(request.Body)))
		answer.CorrelationId = request.CorrelationId
		publish(server, "", request.ReplyTo, answer)
		check(request.Ack(false))
		reply := receive(replies, "a reply")
		equal("id", reply.CorrelationId, fmt.Sprint(number))
		equal("reply", string(reply.Body), fmt.Sprintf("CALL %d", number))
	}
}

// basic.get takes one message at a time, tells how many are left, and says when none is.
func get(_ *amqp.Connection, channel *amqp.Channel, name string) {
	exclusiveQueue(channel, name, nil)
	empty := func() {
		_, found, err := channel.Get(name, false)
		check(err)
		equal("anything there", found, false)
	}
	empty()
	for number := 0; number < 3; number++ {
		publish(channel, "", name, text(fmt.Sprint(number)))
	}
	for number := 0; number < 3; number++ {
		delivery := getOne(channel, name, false)
		equal("body", string(delivery.Body), fmt.Sprint(number))
		equal("left", delivery.MessageCount, uint32(2-number))
		equal("redelivered", delivery.Redelivered, false)
		check(delivery.Ack(false))
	}
	empty()
}

// Exclusive queues are locked to others and end with their connection; "" asks for a name.
func exclusive(connection *amqp.Connection, channel *amqp.Channel, name string) {
	owner := connect()
	owned := must(owner.Channel())
	made := must(owned.QueueDeclare("", false, false, true, false, nil)).Name
	require(strings.HasPrefix(made, "amq.gen-"), "the server named it %s", made)
	exclusiveQueue(owned, name, nil)
	_, err := channel.Consume(name, "", true, false, false, false, nil)
	refused(405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '"+name+
		"' in vhost '/'", err)
	check(owner.Close())
	for _, gone := range []string{name, made} {
		_, err = must(connection.Channel()).QueueDeclarePassive(gone, false, false, true, false, nil)
		refused(404, "NOT_FOUND - no queue '"+gone+"' in vhost '/'", err)
	}
}

// An error ends its channel only: others and new ones go on.
func channelError(connection *amqp.Connection, channel *amqp.Channel, name string) {
	other := must(connection.Channel())
	_, err := channel.QueueDeclarePassive(name, false, false, false, false, nil)
	refused(404, "NOT_FOUND - no queue '"+name+"' in vhost '/'", err)
	require(channel.IsClosed(), "the channel is open")
	require(!connection.IsClosed() && !other.IsClosed(), "more than the channel was closed")
	exclusiveQueue(other, name, nil)
	fresh := must(connection.Channel())
	must(fresh.QueueDeclarePassive(name, false, false, true, false, nil))
	closed := fresh.NotifyClose(make(chan *amqp.Error, 1))
	check(fresh.Ack(99, false))
	refused(406, "PRECONDITION_FAILED - unknown delivery tag 99", receive(closed, "the channel's end"))
	require(!other.IsClosed(), "the other channel was closed")
}

// Expired, rejected and overflowing messages reach the dead letter exchange with x-death.
func deadLetter(_ *amqp.Connection, channel *amqp.Channel, name string) {
	check(channel.ExchangeDeclare(name, "fanout", false, false, false, false, nil))
	exclusiveQueue(channel, name+".dead", nil)
	check(channel.QueueBind(name+".dead", "", name, false, nil))
	exclusiveQueue(channel, name, amqp.Table{
		"x-dead-letter-exchange": name, "x-dead-letter-routing-key": "late", "x-max-length": int32(1),
	})
	publish(channel, "", name, text("pushed out"))
	publish(channel, "", name, text("rejected"))
	rejected := getOne(channel, name, false)
	equal("first", string(rejected.Body), "rejected")
	check(rejected.Reject(false))
	expiring := text("expired")
	expiring.Expiration = "20"
	publish(channel, "", name, expiring)
	deliveries := must(channel.Consume(name+".dead", "", true, false, false, false, nil))
	for _, expected := range []string{"pushed out maxlen", "rejected rejected", "expired expired"} {
		delivery := receive(deliveries, "a dead letter")
		deaths, _ := delivery.Headers["x-death"].([]any)
		equal("deaths", len(deaths), 1)
		death, _ := deaths[0].(amqp.Table)
		equal("death", fmt.Sprintf("%s %s", delivery.Body, death["reason"]), expected)
		equal("queue", death["queue"], any(name))
		equal("exchange", death["exchange"], any(""))
		equal("count", death["count"], any(int64(1)))
		equal("keys", death["routing-keys"], any([]any{name}))
		equal("key", delivery.RoutingKey, "late")
		equal("expiration", delivery.Expiration, "")
		equal("first death", delivery.Headers["x-first-death-queue"], any(name))
	}
	check(channel.ExchangeDelete(name, false, false))
}

// The client's cancel stops deliveries; the end of a queue cancels its consumers.
func cancel(connection *amqp.Connection, channel *amqp.Channel, name string) {
	must(channel.QueueDeclare(name, false, false, false, false, nil))
	deliveries := must(channel.Consume(name, "first", true, false, false, false, nil))
	check(channel.Cancel("first", false))
	publish(channel, "", name, text("kept"))
	for delivery := range deliveries { // closed by the cancel
		fail("delivered after the cancel: %s", delivery.Body)
	}
	equal("kept", string(getOne(channel, name, true).Body), "kept")
	cancelled := channel.NotifyCancel(make(chan string, 1))
	must(channel.Consume(name, "mine", true, false, false, false, nil))
	must(must(connection.Channel()).QueueDelete(name, false, false, false))
	equal("cancelled", receive(cancelled, "the cancellation"), "mine")
}

// A queue declared as quorum holds messages and counts their deliveries.
func quorum(_ *amqp.Connection, channel *amqp.Channel, name string) {
	must(channel.QueueDeclare(name, true, false, false, false, amqp.Table{"x-queue-type": "quorum"}))
	publishConfirmed(channel, name, 1)
	deliveries := must(channel.Consume(name, "", false, false, false, false, nil))
	first := receive(deliveries, "a delivery")
	equal("count", first.Headers["x-delivery-count"], nil)
	equal("redelivered", first.Redelivered, false)
	check(first.Reject(true))
	second := receive(deliveries, "the second delivery")
	equal("body", string(second.Body), "0")
	equal("redelivered", second.Redelivered, true)
	equal("count", second.Headers["x-delivery-count"], any(int64(1)))
	check(second.Ack(false))
	must(channel.QueueDelete(name, false, false, false))
}
