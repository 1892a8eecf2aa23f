// The payment service: asks the bank to charge each order. Go; several of it work side by side, and
// the queue's message groups keep each customer's charges in order.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"math/rand"
	"net/http"
	"os"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"orders/bus"
)

// What a cent of each currency is worth, in thousandths of a euro cent.
var rates = map[string]int64{"EUR": 1000, "CHF": 1060}

func main() {
	bus.Serve("payment", func(delivery amqp.Delivery, order bus.Order) string {
		rate, known := rates[order.Currency]
		if !known {
			// A bug such as any program has: one message brings every worker down.
			panic(fmt.Sprintf("no rate for %q", order.Currency))
		}
		// Fraud checks take a while, some longer than others.
		time.Sleep(time.Duration(rand.Intn(100)) * time.Millisecond)
		return charge(order, order.Cents*rate/1000, delivery.Headers["x-publisher-sequence"])
	})
}

// charge asks under the order's id, so that the bank charges once however often it is asked.
func charge(order bus.Order, cents int64, sequence any) string {
	body, err := json.Marshal(map[string]any{
		"card": order.Card, "cents": cents, "customer": order.Customer, "sequence": sequence,
	})
	bus.Must(err)
	request, err := http.NewRequest("POST", os.Getenv("BANK_URL")+"/charges", bytes.NewReader(body))
	bus.Must(err)
	request.Header.Set("Idempotency-Key", order.ID)
	answer, err := http.DefaultClient.Do(request)
	bus.Must(err)
	answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusOK:
		return "payment.charged"
	case http.StatusPaymentRequired:
		return "payment.declined"
	}
	log.Fatalf("the bank says %s", answer.Status)
	return ""
}
