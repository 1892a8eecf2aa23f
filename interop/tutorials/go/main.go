// RabbitMQ's seven tutorials with amqp091-go: each program of them is one subcommand.
//
// Use: AMQP_URL=amqp://guest:guest@localhost tutorials send
// Receiving programs print `waiting` once they are ready and then run until they are stopped.
package main

import (
	"context"
	"fmt"
	"log"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var programs = map[string]func(channel *amqp.Channel, arguments []string){
	"send": send, "receive": receive,
	"new_task": newTask, "worker": worker,
	"emit_log": emitLog, "receive_logs": receiveLogs,
	"emit_log_direct": emitLogDirect, "receive_logs_direct": receiveLogsDirect,
	"emit_log_topic": emitLogTopic, "receive_logs_topic": receiveLogsTopic,
	"rpc_server": rpcServer, "rpc_client": rpcClient,
	"publisher_confirms": publisherConfirms,
}

func main() {
	if len(os.Args) < 2 || programs[os.Args[1]] == nil {
		log.Fatal("usage: tutorials PROGRAM [ARGUMENT...]")
	}
	connection := must(amqp.Dial(os.Getenv("AMQP_URL")))
	defer connection.Close()
	programs[os.Args[1]](must(connection.Channel()), os.Args[2:])
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func quorumQueue(channel *amqp.Channel, name string) {
	must(channel.QueueDeclare(name, true, false, false, false, amqp.Table{"x-queue-type": "quorum"}))
}

func temporaryQueue(channel *amqp.Channel) string {
	return must(channel.QueueDeclare("", false, false, true, false, nil)).Name
}

func publish(channel *amqp.Channel, exchange, key string, message amqp.Publishing) {
	limit, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	check(channel.PublishWithContext(limit, exchange, key, false, false, message))
}

// 1. Hello World: one queue between two programs.

func send(channel *amqp.Channel, _ []string) {
	quorumQueue(channel, "hello")
	publish(channel, "", "hello", amqp.Publishing{Body: []byte("Hello World!")})
	fmt.Println("sent Hello World!")
}

func receive(channel *amqp.Channel, _ []string) {
	quorumQueue(channel, "hello")
	deliveries := must(channel.Consume("hello", "", true, false, false, false, nil))
	fmt.Println("waiting")
	for delivery := range deliveries {
		fmt.Printf("received %s\n", delivery.Body)
	}
}

// 2. Work queues: tasks shared by workers, none lost when a worker dies.

func newTask(channel *amqp.Channel, words []string) {
	task := strings.Join(words, " ")
	quorumQueue(channel, "task_queue")
	message := amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(task)}
	publish(channel, "", "task_queue", message)
	fmt.Println("sent", task)
}

func worker(channel *amqp.Channel, _ []string) {
	quorumQueue(channel, "task_queue")
	// One task at a time: a busy worker is passed over.
	check(channel.Qos(1, 0, false))
	tasks := must(channel.Consume("task_queue", "", false, false, false, false, nil))
	fmt.Println("waiting")
	for task := range tasks {
		fmt.Printf("received %s\n", task.Body)
		time.Sleep(time.Duration(strings.Count(string(task.Body), ".")) * 100 * time.Millisecond)
		fmt.Printf("done %s\n", task.Body)
		check(task.Ack(false))
	}
}

// 3 to 5. Publish/subscribe, routing and topics: exchanges and temporary queues.

func emit(channel *amqp.Channel, exchange, kind, key string, words []string) {
	message := strings.Join(words, " ")
	check(channel.ExchangeDeclare(exchange, kind, false, false, false, false, nil))
	publish(channel, exchange, key, amqp.Publishing{Body: []byte(message)})
	fmt.Println("sent", message)
}

func subscribe(channel *amqp.Channel, exchange, kind string, keys []string) {
	check(channel.ExchangeDeclare(exchange, kind, false, false, false, false, nil))
	queue := temporaryQueue(channel)
	for _, key := range keys {
		check(channel.QueueBind(queue, key, exchange, false, nil))
	}
	deliveries := must(channel.Consume(queue, "", true, false, false, false, nil))
	fmt.Println("waiting")
	for delivery := range deliveries {
		fmt.Printf("received [%s] %s\n", delivery.RoutingKey, delivery.Body)
	}
}

func emitLog(channel *amqp.Channel, words []string) {
	emit(channel, "logs", "fanout", "", words)
}

func receiveLogs(channel *amqp.Channel, _ []string) {
	subscribe(channel, "logs", "fanout", []string{""})
}

func emitLogDirect(channel *amqp.Channel, arguments []string) {
	emit(channel, "direct_logs", "direct", arguments[0], arguments[1:])
}

func receiveLogsDirect(channel *amqp.Channel, severities []string) {
	subscribe(channel, "direct_logs", "direct", severities)
}

func emitLogTopic(channel *amqp.Channel, arguments []string) {
	emit(channel, "topic_logs", "topic", arguments[0], arguments[1:])
}

func receiveLogsTopic(channel *amqp.Channel, keys []string) {
	subscribe(channel, "topic_logs", "topic", keys)
}

// 6. RPC: a reply queue of the client's own, answers told apart by correlation id.

func fibonacci(number int) int {
	if number < 2 {
		return number
	}
	return fibonacci(number-1) + fibonacci(number-2)
}

func rpcServer(channel *amqp.Channel, _ []string) {
	quorumQueue(channel, "rpc_queue")
	check(channel.Qos(1, 0, false))
	requests := must(channel.Consume("rpc_queue", "", false, false, false, false, nil))
	fmt.Println("waiting")
	for request := range requests {
		result := fibonacci(must(strconv.Atoi(string(request.Body))))
		publish(channel, "", request.ReplyTo, amqp.Publishing{
			CorrelationId: request.CorrelationId, Body: []byte(strconv.Itoa(result)),
		})
		check(request.Ack(false))
		fmt.Printf("answered %s\n", request.Body)
	}
}

func rpcClient(channel *amqp.Channel, arguments []string) {
	queue := temporaryQueue(channel)
	replies := must(channel.Consume(queue, "", true, false, false, false, nil))
	id := strconv.FormatUint(rand.Uint64(), 36)
	request := amqp.Publishing{CorrelationId: id, ReplyTo: queue, Body: []byte(arguments[0])}
	publish(channel, "", "rpc_queue", request)
	for reply := range replies {
		if reply.CorrelationId == id {
			fmt.Printf("got %s\n", reply.Body)
			return
		}
	}
}

// 7. Publisher confirms, many of them outstanding at a time.

func publisherConfirms(channel *amqp.Channel, _ []string) {
	queue := temporaryQueue(channel)
	check(channel.Confirm(false))
	var pending []*amqp.DeferredConfirmation
	for number := 0; number < 50; number++ {
		pending = append(pending, must(channel.PublishWithDeferredConfirm("", queue, true, false,
			amqp.Publishing{Body: []byte(strconv.Itoa(number))})))
	}
	limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, confirmation := range pending {
		if !must(confirmation.WaitContext(limit)) {
			log.Fatal("a message was refused")
		}
	}
	state := must(channel.QueueDeclarePassive(queue, false, false, true, false, nil))
	fmt.Println("confirmed", state.Messages)
}
