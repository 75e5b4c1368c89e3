package faultwall

import (
	"fmt"
	"net/http"
	"time"
)

// Modes are the kinds of calls that a fault can strike.
type Modes int

// The kinds.
const (
	Unary Modes = 1 << iota
	Stream
	Both = Unary | Stream
)

// Fault is one way to fail. The zero value does not fail.
type Fault struct {
	Name  string
	Does  string // what a client of the server sees
	Modes Modes
	// Sent is how many pieces of content a stream has brought when the fault strikes; -1: all of them.
	Sent int

	early bool // strikes before the request is read
	down  bool // nobody listens
	play  func(*exchange) (again bool)
}

func (f Fault) perform(x *exchange) (again bool) {
	if f.play == nil || f.Modes&Unary == 0 && !x.request.Stream || f.Modes&Stream == 0 && x.request.Stream {
		return x.healthy()
	}
	return f.play(x)
}

// Strikes says whether the fault has a meaning for unary calls, or for streams.
func (f Fault) Strikes(stream bool) bool {
	if stream {
		return f.Modes&Stream != 0
	}
	return f.Modes&Unary != 0
}

// Down says whether the fault is that nobody listens, so that no call arrives.
func (f Fault) Down() bool { return f.down }

// Alternate fails, and does not, so many calls each, in turn.
func Alternate(f Fault, each int) func(int, *Request) Fault {
	return func(call int, _ *Request) Fault {
		if call/each%2 == 0 {
			return f
		}
		return Fault{}
	}
}

// patience is for how long a slow answer is kept back: longer than any deadline of a test, in vain when
// the client leaves.
const patience = 30 * time.Second

// refusal is an answer with an error status.
func refusal(name string, status int, contentType, body string, more ...string) Fault {
	does := fmt.Sprintf("answers %d", status)
	for _, line := range more {
		does += ", " + line
	}
	return Fault{Name: name, Does: does, Modes: Both, play: func(x *exchange) bool {
		return x.reply(status, contentType, body, more...)
	}}
}

// status is an answer with an error status in OpenAI's form.
func status(code int, more ...string) Fault {
	kind := map[int]string{
		http.StatusBadRequest: "invalid_request_error", http.StatusUnauthorized: "authentication_error",
		http.StatusTooManyRequests: "rate_limit_error",
	}[code]
	if kind == "" {
		kind = "server_error"
		if code < 500 {
			kind = "invalid_request_error"
		}
	}
	return refusal(fmt.Sprintf("status-%d", code), code, jsonType, failure("The wall says no.", kind, ""), more...)
}

func (f Fault) named(name string) Fault {
	f.Name = name
	return f
}

func (f Fault) does(what string) Fault {
	f.Does = what
	return f
}

// unary is a fault of whole answers; the text is an answer without its head.
func unary(name, does string, play func(*exchange) bool) Fault {
	return Fault{Name: name, Does: does, Modes: Unary, play: play}
}

// connection is a fault of both modes that strikes before an answer.
func connection(name, does string, play func(*exchange) bool) Fault {
	return Fault{Name: name, Does: does, Modes: Both, play: play}
}

// stream is a fault that strikes a stream after so many pieces of content.
func stream(name, does string, sent int, strike func(*exchange) bool) Fault {
	return Fault{Name: name, Does: does, Modes: Stream, Sent: sent, play: func(x *exchange) bool {
		x.begin()
		x.upTo(sent)
		return strike(x)
	}}
}

// after names a fault that strikes after so many pieces.
func after(name string, pieces int) string {
	switch pieces {
	case 0:
		return name + "-after-role"
	case -1:
		return name + "-before-finish"
	default:
		return fmt.Sprintf("%s-after-%d", name, pieces)
	}
}

// place says the same in words.
func place(pieces int) string {
	switch pieces {
	case 0:
		return "after the role"
	case -1:
		return "after all content, before the finish_reason"
	default:
		return fmt.Sprintf("after %d pieces of content", pieces)
	}
}

// CutAfter closes a stream's connection inside its body.
func CutAfter(pieces int) Fault {
	return stream(after("cut", pieces), "closes the connection "+place(pieces), pieces, (*exchange).cut)
}

// ResetAfter resets a stream's connection.
func ResetAfter(pieces int) Fault {
	return stream(after("reset", pieces), "resets the connection "+place(pieces), pieces, (*exchange).reset)
}

// EndAfter ends a stream's body cleanly, as if it were finished, which it is not.
func EndAfter(pieces int) Fault {
	return stream(after("end", pieces), "ends the body cleanly "+place(pieces), pieces, (*exchange).end)
}

// DoneAfter ends a stream with [DONE] although it is not finished.
func DoneAfter(pieces int) Fault {
	return stream(after("done", pieces), "says [DONE] "+place(pieces), pieces, (*exchange).done)
}

// StallAfter says nothing more.
func StallAfter(pieces int) Fault {
	return stream(after("stall", pieces), "says nothing more "+place(pieces), pieces, (*exchange).silence)
}

// ErrorForm is a form in which engines report an error inside a stream.
type ErrorForm struct{ name, event string }

// The forms.
var (
	ErrorNamed   = ErrorForm{"error-event", "event: error\ndata: " + `{"message":"The engine died.","type":"server_error"}`}
	ErrorData    = ErrorForm{"error-data", `data: {"error":{"message":"The engine died.","type":"server_error","code":null}}`}
	ErrorText    = ErrorForm{"error-text", `data: {"error":"The engine died."}`}
	ErrorNumber  = ErrorForm{"error-number", `data: {"error":{"message":"The engine died.","code":503}}`}
	ErrorObject  = ErrorForm{"error-object", `data: {"object":"error","message":"The engine died.","type":"InternalServerError","code":500}`}
	ErrorLimited = ErrorForm{"error-limited", `data: {"error":{"message":"Slow down.","type":"rate_limit_error","code":"rate_limit_exceeded"}}`}
)

// ErrorForms lists the forms.
func ErrorForms() []ErrorForm {
	return []ErrorForm{ErrorNamed, ErrorData, ErrorText, ErrorNumber, ErrorObject, ErrorLimited}
}

// ErrorAfter reports an error inside a stream and ends it.
func ErrorAfter(form ErrorForm, pieces int) Fault {
	return stream(after(form.name, pieces), "sends "+form.event+" "+place(pieces), pieces, func(x *exchange) bool {
		x.part(form.event + "\n\n")
		return x.end()
	})
}

// ErrorFirst reports an error as the first event of a stream.
func ErrorFirst(form ErrorForm) Fault {
	return Fault{
		Name: form.name + "-first", Does: "sends " + form.event + " as the first event", Modes: Stream,
		play: func(x *exchange) bool {
			x.begin()
			x.part(form.event + "\n\n")
			return x.end()
		},
	}
}

// BadEventAfter sends an event that is no JSON between two good ones, and goes on.
func BadEventAfter(pieces int) Fault {
	return stream(after("bad-event", pieces), "sends an additional event that is no JSON "+place(pieces)+", and goes on", pieces, func(x *exchange) bool {
		x.event(`{"id":"wall-1","choi`)
		x.finish()
		return x.done()
	})
}

// LostEventAfter sends an event that is no JSON in the place of a good one, so that its text is lost.
func LostEventAfter(pieces int) Fault {
	return stream(after("lost-event", pieces), "sends half of an event's JSON in the place of the event "+place(pieces)+", and goes on", pieces, func(x *exchange) bool {
		x.event(x.events[x.next].data[:len(x.events[x.next].data)/2])
		x.next++
		x.finish()
		return x.done()
	})
}
