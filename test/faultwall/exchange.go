package faultwall

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// exchange is one call being answered. What it writes is written at once; that a client has left shows
// at the next write, which then does nothing.
type exchange struct {
	*Server
	request *Request
	conn    *net.TCPConn
	in      *bufio.Reader
	life    context.Context
	prefill Prefill
	gate    func(context.Context, int)

	events []event // of the answer, for a stream
	next   int     // the first of them that has not been sent
	pieces int     // of content that have been sent
	plain  bool    // the body of the stream is not chunked
	failed error
}

func (x *exchange) write(text string) {
	if x.failed == nil {
		_, x.failed = x.conn.Write([]byte(text))
	}
}

// head writes the head of an answer; more are complete lines.
func (x *exchange) head(status int, contentType string, more ...string) {
	x.write(headText("HTTP/1.1", status, contentType, more...))
}

func headText(version string, status int, contentType string, more ...string) string {
	phrase := http.StatusText(status)
	if phrase == "" {
		phrase = "Status"
	}
	lines := []string{fmt.Sprintf("%s %d %s", version, status, phrase), "Date: " + time.Now().UTC().Format(http.TimeFormat)}
	if contentType != "" {
		lines = append(lines, "Content-Type: "+contentType)
	}
	return strings.Join(append(lines, more...), "\r\n") + "\r\n\r\n"
}

// reply writes a whole answer. The connection can be used again.
func (x *exchange) reply(status int, contentType, body string, more ...string) bool {
	x.write(headText("HTTP/1.1", status, contentType, append(more, fmt.Sprintf("Content-Length: %d", len(body)))...) + body)
	return x.failed == nil
}

const (
	jsonType   = "application/json"
	streamType = "text/event-stream"
	chunked    = "Transfer-Encoding: chunked"
)

// part writes a piece of a body: a chunk, unless the stream is plain.
func (x *exchange) part(text string) {
	if !x.plain {
		text = fmt.Sprintf("%x\r\n%s\r\n", len(text), text)
	}
	x.write(text)
}

// end writes the end of a chunked body.
func (x *exchange) end() bool {
	x.write("0\r\n\r\n")
	return x.failed == nil
}

func (x *exchange) event(data string) { x.part("data: " + data + "\n\n") }

// healthy answers as a good provider does.
func (x *exchange) healthy() bool {
	if x.request.Prefilled && x.prefill == Refuse {
		return x.reply(http.StatusBadRequest, jsonType, failure("The last message must not be from the assistant.", "invalid_request_error", ""))
	}
	if !x.request.Stream {
		return x.reply(http.StatusOK, jsonType, x.body())
	}
	x.begin()
	x.finish()
	return x.done()
}

// answer is what this server says: the whole, or what follows the beginning that it was given.
func (x *exchange) answer() Answer {
	a := x.request.Answer()
	if x.request.Prefilled && x.prefill == Honour && len(a.Choices) == 1 {
		a.Choices[0], _ = a.Choices[0].from(x.request.Prefill)
		a.Completion = len(a.Choices[0].Pieces)
	}
	return a
}

func (x *exchange) body() string { return x.request.whole(x.answer()) }

// begin writes the head of a stream.
func (x *exchange) begin() {
	x.head(http.StatusOK, streamType, chunked)
	x.load()
}

func (x *exchange) load() { x.events = x.request.events(x.answer()) }

// send writes the next event.
func (x *exchange) send() {
	e := x.events[x.next]
	x.next++
	if e.kind == content {
		if x.gate != nil {
			x.gate(x.life, x.pieces)
		}
		x.pieces++
	}
	x.event(e.data)
}

// upTo writes the stream until so many pieces of content are out and another one would follow, or
// all of them; -1 is all of them in any case.
func (x *exchange) upTo(pieces int) {
	for x.next < len(x.events) {
		e := x.events[x.next]
		if e.kind == content && x.pieces == pieces || e.kind > content {
			return
		}
		x.send()
	}
}

// finish writes the rest of the stream but for [DONE].
func (x *exchange) finish() {
	for x.next < len(x.events) {
		x.send()
	}
}

// done writes [DONE] and ends the body.
func (x *exchange) done() bool {
	x.event("[DONE]")
	return x.end()
}

// silence says nothing until the client leaves or the server ends.
func (x *exchange) silence() bool {
	_ = x.pause(0)
	return false
}

// pause waits, unless the client leaves before; 0 is without end.
func (x *exchange) pause(d time.Duration) error {
	var until time.Time
	if d > 0 {
		until = time.Now().Add(d)
	}
	_ = x.conn.SetReadDeadline(until)
	_, err := x.in.Peek(1)
	_ = x.conn.SetReadDeadline(time.Time{})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	x.failed = errGone
	return x.failed
}

// cut closes the connection, as a proxy does that lost its upstream.
func (x *exchange) cut() bool { return false }

// reset breaks the connection.
func (x *exchange) reset() bool {
	reset(x.conn)
	return false
}

// failure is an error in OpenAI's form; an empty code is null.
func failure(message, kind, code string) string {
	e := object{"message": message, "type": kind, "param": nil, "code": nil}
	if code != "" {
		e["code"] = code
	}
	return encode(object{"error": e})
}
