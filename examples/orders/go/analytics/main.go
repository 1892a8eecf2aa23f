// Analytics: replays the history of all news, from the first, into a report. Go.
//
// The queue `history` has heard everything. The report reads it without acknowledging, so that when
// it leaves all is as before, and the next report reads the same.
package main

import (
	"encoding/json"
	"os"

	"orders/bus"
)

// Each piece of news is counted once, by its kind; what was shipped by its worth, too.
type report struct {
	Kinds  map[string]int `json:"kinds"`
	Cents  int64          `json:"cents_shipped"`
	Pieces int64          `json:"pieces_shipped"`
}

func main() {
	channel := bus.Connect()
	queue, err := channel.QueueDeclarePassive("history", true, false, false, false, nil)
	bus.Must(err)
	deliveries, err := channel.Consume(queue.Name, "", false, true, false, false, nil)
	bus.Must(err)
	found := report{Kinds: map[string]int{}}
	seen := map[string]bool{}
	for left := queue.Messages; left > 0; left-- {
		delivery := <-deliveries
		// Services other than the order service may repeat themselves after a crash.
		if seen[delivery.MessageId] {
			continue
		}
		seen[delivery.MessageId] = true
		var order bus.Order
		bus.Must(json.Unmarshal(delivery.Body, &order))
		found.count(delivery.Type, order)
	}
	bus.Must(json.NewEncoder(os.Stdout).Encode(found))
}

func (r *report) count(key string, order bus.Order) {
	r.Kinds[key]++
	if key == "order.shipped" {
		r.Cents += order.Cents
		for _, line := range order.Lines {
			r.Pieces += line.Quantity
		}
	}
}
