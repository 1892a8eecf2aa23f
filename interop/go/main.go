// The interop scenarios through amqp091-go.
//
// Run by interop/run, which sets AMQP_URL and reads one line per scenario from standard output:
// `ok NAME` or `FAIL NAME: why`. See interop/README.md for what each scenario has to show.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const wait = 10 * time.Second

var (
	url    = os.Getenv("AMQP_URL")
	prefix = fmt.Sprintf("interop.go.%d", os.Getpid())
)

// A failure unwinds to the scenario's runner, so that scenarios read as straight lines.
type failure struct{ why string }

func fail(format string, values ...any) { panic(failure{fmt.Sprintf(format, values...)}) }

// must passes a value on and fails on an error.
func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func equal(what string, actual, expected any) {
	if !reflect.DeepEqual(actual, expected) {
		fail("%s: %#v instead of %#v", what, actual, expected)
	}
}

func require(condition bool, format string, values ...any) {
	if !condition {
		fail(format, values...)
	}
}

// refused demands an error of the broker with this code and a text that starts so.
func refused(code int, text string, err error) {
	var reply *amqp.Error
	if !errors.As(err, &reply) {
		fail("not refused with %d but: %v", code, err)
	}
	equal("reply code", reply.Code, code)
	require(strings.HasPrefix(reply.Reason, text), "reply text %q", reply.Reason)
}

// receive waits for one value, which a closed or silent channel never brings.
func receive[T any](from <-chan T, what string) T {
	select {
	case value, open := <-from:
		require(open, "%s: the channel closed", what)
		return value
	case <-time.After(wait):
		fail("%s: nothing within %v", what, wait)
	}
	panic("unreachable")
}

func connect() *amqp.Connection { return must(amqp.Dial(url)) }

// run plays one scenario and says whether it passed.
func run(name string, scenario func()) (passed bool) {
	defer func() {
		if problem := recover(); problem != nil {
			why, expected := problem.(failure)
			if !expected {
				panic(problem)
			}
			fmt.Printf("FAIL %s: %s\n", name, strings.ReplaceAll(why.why, "\n", " "))
			passed = false
		}
	}()
	scenario()
	fmt.Printf("ok %s\n", name)
	return true
}

func main() {
	passed := true
	if len(os.Args) == 3 && os.Args[1] == "restart" {
		how := os.Args[2]
		passed = run("restart-"+how, func() { restart(how) })
	} else if len(os.Args) == 2 && os.Args[1] == "tls" {
		for _, scenario := range tlsScenarios {
			passed = run(scenario.name, func() { scenario.play(prefix + "." + scenario.name) }) && passed
		}
	} else {
		for _, scenario := range scenarios {
			passed = run(scenario.name, func() {
				connection := connect()
				defer connection.Close()
				scenario.play(connection, must(connection.Channel()), prefix+"."+scenario.name)
			}) && passed
		}
	}
	if !passed {
		os.Exit(1)
	}
}

// restart: confirmed messages survive a broker killed or stopped, in order, for a client that
// sees its connection end and connects again.
func restart(how string) {
	const total, acknowledged, held = 200, 20, 10
	queue := prefix + ".restart"
	connection := connect()
	ended := connection.NotifyClose(make(chan *amqp.Error, 1))
	channel := must(connection.Channel())
	must(channel.QueueDeclare(queue, true, false, false, false, nil))
	publishConfirmed(channel, queue, total)
	var last amqp.Delivery
	for number := 0; number < acknowledged+held; number++ {
		delivery, found, err := channel.Get(queue, false)
		check(err)
		require(found, "the queue is empty after %d", number)
		if number == acknowledged-1 {
			last = delivery
			// The gets that follow are answered after the queue has seen this.
			check(last.Ack(true))
		}
	}
	fmt.Println("ready")
	_, err := bufio.NewReader(os.Stdin).ReadString('\n')
	check(err)

	reason := receive(ended, "the end of the connection")
	if how == "term" {
		refused(320, "CONNECTION_FORCED - broker forced connection closure", reason)
	} else {
		require(reason != nil && reason.Code != 320, "a killed broker said %v", reason)
	}
	connection = connect()
	defer connection.Close()
	channel = must(connection.Channel())
	left := must(channel.QueueDeclarePassive(queue, true, false, false, false, nil)).Messages
	// A kill may lose the acknowledgements, but no message that was not acknowledged.
	require(total-acknowledged <= left && left <= total, "%d messages left", left)
	require(how == "kill" || left == total-acknowledged, "%d left after a clean stop", left)
	deliveries := must(channel.Consume(queue, "", true, false, false, false, nil))
	for number := total - left; number < total; number++ {
		equal("body", string(receive(deliveries, "a delivery").Body), fmt.Sprint(number))
	}
	must(channel.QueueDelete(queue, false, false, false))
}
