package alert

import (
	"fmt"
	"strings"
	"time"
)

// Message is what a receiver gets, as it is sent to a webhook.
type Message struct {
	ID      string  `json:"id"`    // of the delivery: the same when it is sent again
	Event   string  `json:"event"` // alert.opened, alert.raised, alert.ended, alert.test
	Rule    Rule    `json:"rule,omitempty"`
	Subject string  `json:"subject,omitempty"`
	At      Moment  `json:"at"`
	Episode *Course `json:"episode,omitempty"`
	Report
}

// Course is an episode in a message.
type Course struct {
	ID       string `json:"id"`
	Since    Moment `json:"since"`
	OpenedAt Moment `json:"opened_at"`
	EndedAt  Moment `json:"ended_at,omitzero"`
	Seconds  int64  `json:"lasted_seconds,omitempty"` // how long it was bad, once it has ended
}

// Moment is a time that is written in whole seconds of UTC.
type Moment time.Time

// MarshalText implements encoding.TextMarshaler.
func (m Moment) MarshalText() ([]byte, error) {
	return []byte(time.Time(m).UTC().Format(time.RFC3339)), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Moment) UnmarshalText(text []byte) error {
	at, err := time.Parse(time.RFC3339, string(text))
	*m = Moment(at)
	return err
}

// IsZero says whether there is none.
func (m Moment) IsZero() bool { return time.Time(m).IsZero() }

// TestEvent is the event of a message that only shows that messages arrive.
const TestEvent = "alert.test"

// Over says whether the message tells that something is well again.
func (m *Message) Over() bool { return m.Event == "alert."+string(Ends) }

// Delivery is a message on its way to one receiver.
type Delivery struct {
	Receiver string
	Message  Message
}

// Deliveries are the messages of an edge: one for each receiver that wants to hear of the rule. Their ids follow from
// the episode, the edge and the receiver, so that nobody is told the same twice.
func (e *Episode) Deliveries(edge Edge, receivers []Receiver, now time.Time) []Delivery {
	var all []Delivery
	if edge == None {
		return nil
	}
	for i := range receivers {
		r := &receivers[i]
		if !r.Wants(e.Rule) {
			continue
		}
		all = append(all, Delivery{Receiver: r.Name, Message: e.message(edge, r.Name, now)})
	}
	return all
}

func (e *Episode) message(edge Edge, receiver string, now time.Time) Message {
	m := Message{
		ID: fmt.Sprintf("%s.%s.%d.%s", e.ID, edge, e.Level, receiver), Event: "alert." + string(edge),
		Rule: e.Rule, Subject: e.Subject, At: Moment(now), Report: e.Report,
		Episode: &Course{ID: e.ID, Since: Moment(e.Since), OpenedAt: Moment(e.OpenedAt)},
	}
	if edge == Ends {
		m.Episode.EndedAt, m.Episode.Seconds = Moment(e.EndedAt), int64(e.Lasted().Round(time.Second).Seconds())
		m.Title = "Over: " + e.Report.Title
		m.Text = fmt.Sprintf("It lasted %s, from %s on.", Span(e.Lasted()), e.Since.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	return m
}

// TestMessage is what `shareai alerts test` sends.
func TestMessage(id string, now time.Time) Message {
	return Message{
		ID: id, Event: TestEvent, At: Moment(now),
		Report: Report{Title: "A test of ShareAI's alerts", Text: "Nothing has happened. Messages of this gateway arrive here."},
	}
}

// Span writes a time span for people, to the second: 1h2m, 5m, 42s.
func Span(d time.Duration) string {
	text := d.Round(time.Second).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Outgoing is a delivery with what has become of it.
type Outgoing struct {
	Delivery
	State     string // waiting, delivered, failed
	CreatedAt time.Time
	NextAt    time.Time // when it is tried again; while it is being tried, when somebody else may
	Tries     int
	DoneAt    time.Time // zero: it waits
	Error     string    // of the last try
}
