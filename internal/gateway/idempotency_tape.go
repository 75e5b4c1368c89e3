package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"

	"shareai/internal/cluster"
	"shareai/internal/fault"
)

// A tape holds an answer as frames: the head, the body in parts, the end. The first byte of a frame says
// which it is; head and end are JSON.
const (
	headFrame = 'h'
	bodyFrame = 'b'
	endFrame  = 'e'
)

// tapeHead is the head of a recorded answer.
type tapeHead struct {
	Status int         `json:"status"`
	Header http.Header `json:"header"`
}

// tapeEnd is how a recorded answer ended.
type tapeEnd struct {
	Whole   bool        `json:"whole"`  // false: it broke off, and whoever gets it must see that
	Status  int         `json:"status"` // of the record
	Code    string      `json:"code"`
	Trailer http.Header `json:"trailer"`
}

// sharing is an answer while it is made for everybody who sends the same Idempotency-Key. The pipeline
// writes it as it would write to a client, and it goes onto a tape; the client that caused it is served
// from there like all others. So nobody waits for anybody who reads slowly, and the work goes on when
// its client has left: that is the moment at which a repeat is on its way.
type sharing struct {
	tape   *cluster.Tape
	header http.Header
	status int
	full   bool               // the tape did not take all
	client chan error         // how the client was served, once that has ended
	stop   context.CancelFunc // of the work
	ended  bool
}

// share lets the answer go onto a tape. The context that it returns is that of the work; it ends when the
// gateway has to, and not when the client leaves.
func (x *exchange) share(r *http.Request, tape *cluster.Tape) context.Context {
	ctx, stop := context.WithCancel(context.WithoutCancel(r.Context()))
	if life := x.gateway.Life; life != nil {
		detach := context.AfterFunc(life, stop)
		work := stop
		stop = func() { detach(); work() }
	}
	s := &sharing{tape: tape, header: maps.Clone(x.out.header), client: make(chan error, 1), stop: stop}
	client := playback{out: x.out}
	go func() {
		defer func() {
			if p := recover(); p != nil {
				x.gateway.Log.Error("panic while a client was served", "panic", fault.Redact(fmt.Sprint(p)), "stack", string(debug.Stack()))
				s.client <- errPanic
			}
		}()
		s.client <- client.run(r.Context(), tape.Play())
	}()
	x.sharing, x.out = s, newClientWriter(s)
	return ctx
}

// Header implements http.ResponseWriter.
func (s *sharing) Header() http.Header { return s.header }

// WriteHeader implements http.ResponseWriter.
func (s *sharing) WriteHeader(status int) {
	s.status = status
	s.full = s.tape.Append(frameOf(headFrame, tapeHead{Status: status, Header: s.header})) != nil
}

// Write implements http.ResponseWriter.
func (s *sharing) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		part := rest[:min(len(rest), maxBatch)]
		rest = rest[len(part):]
		frame := append(make([]byte, 0, 1+len(part)), bodyFrame)
		if err := s.tape.Append(append(frame, part...)); err != nil {
			s.full = true
			return 0, err
		}
	}
	return len(p), nil
}

// FlushError lets a stream be flushed. What is written is with the players already.
func (s *sharing) FlushError() error { return nil }

// frameOf makes a frame of JSON. Heads and ends are text and numbers, which always have one.
func frameOf(kind byte, content any) []byte {
	data, _ := json.Marshal(content)
	return append([]byte{kind}, data...)
}

// verdict is the fault for whoever waits for the answer. Shared work is not ended by a client's leaving,
// whatever it looks like from inside.
func (x *exchange) verdict(err error) *fault.Error {
	e := fault.From(err)
	if x.sharing == nil || e.Kind != fault.Canceled {
		return e
	}
	if x.sharing.full {
		return errTooLong.Because(e)
	}
	return errStopping.Because(e)
}

// deliver ends a shared answer and waits until its own client has it. whole says that the pipeline has
// written all of it; deliver says whether the client got all of it. It may be called twice.
func (x *exchange) deliver(whole bool) bool {
	s := x.sharing
	if s == nil || s.ended {
		return whole
	}
	s.ended = true
	s.stop()
	end := tapeEnd{Whole: whole && !s.full, Status: x.record.Status, Code: x.record.Code, Trailer: http.Header{}}
	for _, name := range s.header["Trailer"] {
		end.Trailer[name] = s.header[name]
	}
	if last := frameOf(endFrame, end); end.Whole && x.settled && s.status == http.StatusOK && end.Status == http.StatusOK {
		s.tape.Keep(last)
	} else {
		s.tape.Drop(last) // a repeat shall have a better chance
	}
	return <-s.client == nil
}

// playback passes a recorded answer on to a client.
type playback struct {
	out    *clientWriter
	repeat *exchange // of a request that repeats another; nil for the client of the work itself
	head   *tapeHead // nil until it has come
	end    *tapeEnd  // nil until it has come
}

// run plays until the answer has ended, the client has left, or the recording is lost. An answer that
// broke off is an error.
func (p *playback) run(ctx context.Context, from cluster.Player) error {
	var held [][]byte
	for {
		frames, err := from.Next(ctx)
		last := errors.Is(err, io.EOF)
		if err != nil && !last {
			return err
		}
		if held != nil {
			frames = slices.Concat(held, frames)
		}
		if err := p.foresee(frames); err != nil {
			return err
		}
		held = nil
		if p.end == nil && !last {
			known := p.ready(frames)
			frames, held = frames[:known], frames[known:]
			if known == 0 {
				continue
			}
		}
		for _, frame := range frames {
			if err := p.pass(frame[0], frame[1:]); err != nil {
				return err
			}
		}
		if p.end != nil && p.end.Whole {
			return nil
		}
		if p.end != nil || last {
			return errRepeatBroken
		}
		if err := p.out.flush(); err != nil {
			return clientLeft(err)
		}
	}
}

// ready is how many of the frames may be passed on before the end has come. The last bytes of an answer wait for it: a
// client that has them leaves, and would be recorded as one that left early. A failure waits as a whole, until its
// key is free again: whoever hears of it may repeat at once.
func (p *playback) ready(frames [][]byte) int {
	if p.head == nil || len(frames) == 0 {
		return len(frames)
	}
	if p.head.Status >= http.StatusBadRequest || p.head.Header.Get("Content-Length") != "" {
		return 0
	}
	if bytes.HasSuffix(frames[len(frames)-1], doneEvent) {
		return len(frames) - 1
	}
	return len(frames)
}

// foresee looks for the end before what comes with it is written, so that a repeat is recorded before its
// client has all of it, as every request is.
func (p *playback) foresee(frames [][]byte) error {
	sent := p.out.sent
	for _, frame := range frames {
		switch frame[0] {
		case headFrame:
			p.head = new(tapeHead)
			if err := json.Unmarshal(frame[1:], p.head); err != nil {
				return fmt.Errorf("the head of a tape: %w", err)
			}
			if p.head.Status < 200 || p.head.Status > 599 {
				return fmt.Errorf("the head of a tape: status %d", p.head.Status)
			}
		case bodyFrame:
			sent += int64(len(frame) - 1)
		case endFrame:
			p.end = new(tapeEnd)
			if err := json.Unmarshal(frame[1:], p.end); err != nil {
				return fmt.Errorf("the end of a tape: %w", err)
			}
		}
	}
	if x := p.repeat; x != nil && p.head != nil && p.end != nil && p.end.Whole {
		x.record.Reason, x.record.BytesOut = "replay of "+p.head.Header.Get(requestIDHeader), sent
		x.settle(p.end.Status, p.end.Code)
	}
	return nil
}

// pass writes what a frame holds.
func (p *playback) pass(kind byte, data []byte) error {
	switch kind {
	case headFrame:
		own := p.out.header[requestIDHeader] // every request has its own
		maps.Copy(p.out.header, p.head.Header)
		p.out.header[requestIDHeader] = own
		if p.repeat != nil {
			p.out.header[replayedHeader] = []string{"true"}
		}
		p.out.begin(p.head.Status)
	case bodyFrame:
		if !p.out.began {
			return errors.New("a tape begins without a head")
		}
		if err := p.out.write(data); err != nil {
			return clientLeft(err)
		}
	case endFrame:
		maps.Copy(p.out.header, p.end.Trailer)
	}
	return nil
}

const requestIDHeader = "X-Request-Id"

func clientLeft(cause error) error {
	return fault.New(fault.Canceled, "client_closed_request", "The client stopped reading.").Because(cause)
}
