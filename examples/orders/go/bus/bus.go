// Package bus is how a Go service hears and tells: one queue, one message after the other.
//
// What is told and the acknowledgement of what was heard are one transaction. When the connection
// is lost the program ends; whoever started it starts it again.
package bus

import (
	"encoding/json"
	"fmt"
	"log"
	"os"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Exchange is where all news goes.
const Exchange = "orders"

// Order is what all news carries.
type Order struct {
	ID       string  `json:"id"`
	Customer string  `json:"customer"`
	Cents    int64   `json:"cents"`
	Currency string  `json:"currency"`
	Card     *string `json:"card"`
	Lines    []Line  `json:"lines"`
}

// Line is so many pieces of one article.
type Line struct {
	Quantity int64 `json:"quantity"`
}

// Connect opens a channel; it ends the program when there is no broker.
func Connect() *amqp.Channel {
	connection, err := amqp.Dial(os.Getenv("AMQP_URL"))
	Must(err)
	channel, err := connection.Channel()
	Must(err)
	return channel
}

// Serve calls handle for each message of a queue; its result is the news to tell. A message that is
// no order is rejected. Each message is taken when the one before is done, so that no other one is
// counted as delivered when this one ends the program.
func Serve(queue string, handle func(amqp.Delivery, Order) string) {
	channel := Connect()
	Must(channel.Tx())
	Must(channel.Qos(1, 0, false))
	deliveries, err := channel.Consume(queue, "", false, false, false, false, nil)
	Must(err)
	for delivery := range deliveries {
		var order Order
		if err := json.Unmarshal(delivery.Body, &order); err != nil {
			log.Printf("rejected: %v", err)
			Must(delivery.Reject(false))
		} else {
			tell(channel, handle(delivery, order), order, delivery.Body)
			Must(delivery.Ack(false))
		}
		Must(channel.TxCommit())
	}
	log.Fatal("the broker is gone")
}

func tell(channel *amqp.Channel, key string, order Order, body []byte) {
	Must(channel.Publish(Exchange, key, false, false, amqp.Publishing{
		DeliveryMode: amqp.Persistent,
		ContentType:  "application/json",
		Type:         key,
		MessageId:    fmt.Sprintf("%s/%s", order.ID, key),
		Headers:      amqp.Table{"x-group-id": order.Customer},
		Body:         body,
	}))
}

// Must ends the program when something failed.
func Must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
