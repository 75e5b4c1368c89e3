package faultwall

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Catalogue lists every fault, each under a name of its own.
func Catalogue() []Fault {
	return slices.Concat(statuses(), limits(), words400(), connections(), framings(), bodies(), openings(), breaks(), events(), endings())
}

// Named returns the fault of a name. It panics where there is none: the name is a constant of a test.
func Named(name string) Fault {
	for _, f := range Catalogue() {
		if f.Name == name {
			return f
		}
	}
	panic("there is no fault " + name)
}

func statuses() []Fault {
	var list []Fault
	for _, code := range []int{400, 401, 403, 404, 408, 409, 422, 429, 500, 501, 503, 529} {
		list = append(list, status(code))
	}
	return append(list,
		refusal("status-502", 502, "text/html", "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>").does("answers 502 with a page of HTML"),
		refusal("status-504", 504, "", "").does("answers 504 with an empty body"),
		refusal("status-302", 302, "", "", "Location: /v1/elsewhere"),
		refusal("status-204", 204, "", ""),
		refusal("error-in-array", 500, jsonType, `[{"error":{"code":500,"message":"Internal error","status":"INTERNAL"}}]`).does("answers 500 with an error in an array"),
		connection("status-500-endless", "answers 500 and never ends the body", func(x *exchange) bool {
			x.head(http.StatusInternalServerError, jsonType, chunked)
			x.part(`{"error":`)
			return x.silence()
		}),
	)
}

// limits are refusals that say when to come back.
func limits() []Fault {
	const ms, seconds, huge = "Retry-After-Ms: 40", "Retry-After: 1", "Retry-After: 86400"
	var list []Fault
	for _, code := range []int{429, 503} {
		list = append(list,
			status(code, seconds).named(fmt.Sprintf("status-%d-seconds", code)),
			status(code, ms).named(fmt.Sprintf("status-%d-ms", code)),
			status(code, huge).named(fmt.Sprintf("status-%d-huge", code)),
			connection(fmt.Sprintf("status-%d-date", code), fmt.Sprintf("answers %d, Retry-After: a date one second ahead", code), func(x *exchange) bool {
				until := time.Now().Add(time.Second).UTC().Format(http.TimeFormat)
				return x.reply(code, jsonType, failure("Later.", "server_error", ""), "Retry-After: "+until)
			}),
		)
	}
	return append(list, status(529, seconds).named("status-529-seconds"), status(503, "Retry-After: soon").named("status-503-nonsense"))
}

// words400 are refusals whose words mean more than their status.
func words400() []Fault {
	said := func(name string, code int, body string) Fault {
		return refusal(name, code, jsonType, body).does(fmt.Sprintf("answers %d %s", code, body))
	}
	return []Fault{
		said("context-openai", 400, failure("This model's maximum context length is 8192 tokens.", "invalid_request_error", "context_length_exceeded")),
		said("context-vllm", 400, `{"object":"error","message":"This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.","type":"BadRequestError","param":null,"code":400}`),
		said("context-llama", 400, `{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error","n_prompt_tokens":9000,"n_ctx":8192}}`),
		said("context-tgi", 422, "{\"error\":\"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8192.\",\"error_type\":\"validation\"}"),
		said("context-ollama", 500, `{"error":"the input exceeds the context length"}`),
		said("context-anthropic", 400, failure("prompt is too long: 9000 tokens > 8192 maximum", "invalid_request_error", "")),
		said("filter-openai", 400, failure("Your request was rejected by the safety system.", "invalid_request_error", "content_policy_violation")),
		said("filter-azure", 400, `{"error":{"message":"The response was filtered.","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}`),
		said("filter-deepseek", 400, failure("Content Exists Risk", "invalid_request_error", "invalid_request_error")),
		said("model-not-found", 404, failure("The model does not exist.", "invalid_request_error", "model_not_found")),
		said("key-as-400", 400, failure("Incorrect API key provided.", "invalid_request_error", "invalid_api_key")),
		said("quota", 429, failure("You exceeded your current quota.", "insufficient_quota", "insufficient_quota")),
		said("quota-402", 402, failure("Insufficient Balance", "unknown_error", "insufficient_balance")),
	}
}

// connections are faults before the first byte of an answer, or within its head.
func connections() []Fault {
	early := func(f Fault) Fault {
		f.early = true
		return f
	}
	return []Fault{
		{Name: "refused", Does: "refuses connections", Modes: Both, down: true, play: (*exchange).reset},
		early(connection("reset-at-once", "resets the connection before it reads the request", (*exchange).reset)),
		early(connection("close-at-once", "accepts, and closes the connection", (*exchange).cut)),
		early(connection("deaf", "accepts, and answers nothing, whatever is sent", func(x *exchange) bool {
			_, _ = io.Copy(io.Discard, x.in)
			return false
		})),
		connection("reset-unanswered", "reads the request and resets the connection", (*exchange).reset),
		connection("close-unanswered", "reads the request and closes the connection", (*exchange).cut),
		connection("silent", "reads the request and never answers", (*exchange).silence),
		connection("half-status-line", "closes the connection inside the status line", func(x *exchange) bool {
			x.write("HTTP/1.1 20")
			return x.cut()
		}),
		connection("no-http", "answers in another protocol", func(x *exchange) bool {
			x.write("220 wall ESMTP ready\r\n")
			return x.cut()
		}),
		connection("head-stalls", "sends half of a head, then nothing", func(x *exchange) bool {
			x.write("HTTP/1.1 200 OK\r\nContent-Type: ")
			return x.silence()
		}),
		connection("head-endless", "sends one header after the other, without end", func(x *exchange) bool {
			x.write("HTTP/1.1 200 OK\r\n")
			for i := 0; x.pause(20*time.Millisecond) == nil && x.failed == nil; i++ {
				x.write(fmt.Sprintf("X-Filler-%d: wall\r\n", i))
			}
			return false
		}),
		connection("head-huge", "sends a header of 256 KiB", func(x *exchange) bool {
			x.write("HTTP/1.1 200 OK\r\nX-Huge: " + strings.Repeat("x", 256<<10) + "\r\n\r\n")
			return x.cut()
		}),
		connection("head-reset", "resets the connection inside the head", func(x *exchange) bool {
			x.write("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
			return x.reset()
		}),
		{Name: "body-stalls", Does: "sends a good head, then nothing", Modes: Both, play: func(x *exchange) bool {
			x.head(http.StatusOK, x.contentType(), chunked)
			return x.silence()
		}},
		{Name: "body-missing", Does: "sends a good head and closes the connection", Modes: Both, play: func(x *exchange) bool {
			x.head(http.StatusOK, x.contentType(), chunked)
			return x.cut()
		}},
		{Name: "body-reset", Does: "sends a good head and resets the connection", Modes: Both, play: func(x *exchange) bool {
			x.head(http.StatusOK, x.contentType(), chunked)
			return x.reset()
		}},
	}
}

func (x *exchange) contentType() string {
	if x.request.Stream {
		return streamType
	}
	return jsonType
}

// framings are whole answers whose bytes are wrapped in a wrong or rare way.
func framings() []Fault {
	return []Fault{
		unary("http10", "answers in HTTP/1.0, ended by the connection's end", func(x *exchange) bool {
			x.write(headText("HTTP/1.0", http.StatusOK, jsonType) + x.body())
			return x.cut()
		}),
		unary("trickle", "sends the body byte by byte", func(x *exchange) bool {
			body := x.body()
			x.head(http.StatusOK, jsonType, fmt.Sprintf("Content-Length: %d", len(body)))
			for i := range len(body) {
				x.write(body[i : i+1])
			}
			return x.failed == nil
		}),
		unary("length-too-long", "announces ten bytes more than it sends, and closes", func(x *exchange) bool {
			body := x.body()
			x.head(http.StatusOK, jsonType, fmt.Sprintf("Content-Length: %d", len(body)+10))
			x.write(body)
			return x.cut()
		}),
		unary("length-too-short", "announces ten bytes less than it sends", func(x *exchange) bool {
			body := x.body()
			x.head(http.StatusOK, jsonType, fmt.Sprintf("Content-Length: %d", len(body)-10))
			x.write(body)
			return x.cut()
		}),
		unary("length-no-number", "announces a length that is no number", func(x *exchange) bool {
			x.head(http.StatusOK, jsonType, "Content-Length: many")
			x.write(x.body())
			return x.cut()
		}),
		unary("chunks-broken", "sends a chunk whose length is no number", func(x *exchange) bool {
			x.head(http.StatusOK, jsonType, chunked)
			x.write("zz\r\n" + x.body() + "\r\n0\r\n\r\n")
			return x.cut()
		}),
		unary("chunks-unended", "sends all of the body and no last chunk", func(x *exchange) bool {
			x.head(http.StatusOK, jsonType, chunked)
			x.part(x.body())
			return x.cut()
		}),
		unary("gzip-unasked", "sends the body in gzip, which nobody asked for", func(x *exchange) bool {
			return x.reply(http.StatusOK, jsonType, zip(x.body()), "Content-Encoding: gzip")
		}),
		unary("gzip-truncated", "sends half of the body in gzip", func(x *exchange) bool {
			zipped := zip(x.body())
			return x.reply(http.StatusOK, jsonType, zipped[:len(zipped)/2], "Content-Encoding: gzip")
		}),
	}
}

func zip(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.String()
}

// bodies are whole answers that do not say what they should.
func bodies() []Fault {
	said := func(name, does, contentType, body string) Fault {
		return unary(name, does, func(x *exchange) bool { return x.reply(http.StatusOK, contentType, body) })
	}
	half := func(x *exchange) string { b := x.body(); return b[:len(b)/2] }
	return []Fault{
		unary("json-cut", "sends half of the JSON as if it were whole", func(x *exchange) bool { return x.reply(http.StatusOK, jsonType, half(x)) }),
		unary("body-cut", "closes the connection inside the body", func(x *exchange) bool {
			x.head(http.StatusOK, jsonType, fmt.Sprintf("Content-Length: %d", len(x.body())))
			x.write(half(x))
			return x.cut()
		}),
		unary("body-reset-inside", "resets the connection inside the body", func(x *exchange) bool {
			x.head(http.StatusOK, jsonType, fmt.Sprintf("Content-Length: %d", len(x.body())))
			x.write(half(x))
			return x.reset()
		}),
		unary("body-stalls-inside", "says nothing more inside the body", func(x *exchange) bool {
			x.head(http.StatusOK, jsonType, fmt.Sprintf("Content-Length: %d", len(x.body())))
			x.write(half(x))
			return x.silence()
		}),
		said("body-empty", "sends an empty body", jsonType, ""),
		said("json-empty", "sends {}", jsonType, "{}"),
		said("json-null", "sends null", jsonType, "null"),
		said("json-other", "sends an object of another API", jsonType, `{"status":"ok","result":{"text":"hello"}}`),
		said("choices-none", "sends an answer without a choice", jsonType, `{"id":"wall-1","object":"chat.completion","model":"m","choices":[],"data":[]}`),
		unary("answer-empty", "sends an answer with an empty text", func(x *exchange) bool {
			a := x.answer()
			for i := range a.Choices {
				a.Choices[i] = Choice{Finish: "stop"}
			}
			a.Vectors = nil
			return x.reply(http.StatusOK, jsonType, x.request.whole(a))
		}),
		said("html", "sends a page of HTML with 200", "text/html; charset=utf-8", "<!doctype html><html><head><title>Sign in</title></head></html>"),
		unary("text-type", "sends its JSON as text/plain", func(x *exchange) bool { return x.reply(http.StatusOK, "text/plain", x.body()) }),
		unary("no-type", "sends its JSON without a content type", func(x *exchange) bool { return x.reply(http.StatusOK, "", x.body()) }),
		said("error-200", "sends an error object with 200", jsonType, failure("The engine died.", "server_error", "")),
		said("error-200-code", "sends an error object with 200 and the number 503 in it", jsonType, `{"error":{"message":"No capacity.","code":503}}`),
		said("error-200-text", "sends an error text with 200", jsonType, `{"error":"The engine died."}`),
		unary("filtered", "sends half of a text with the finish_reason content_filter", func(x *exchange) bool {
			a := x.answer()
			for i := range a.Choices {
				c := &a.Choices[i]
				c.Pieces, c.Calls, c.Finish = c.Pieces[:len(c.Pieces)/2], nil, "content_filter"
			}
			return x.reply(http.StatusOK, jsonType, x.request.whole(a))
		}),
	}
}

// openings are streams that go wrong before their first content.
func openings() []Fault {
	opening := func(name, does string, play func(*exchange) bool) Fault {
		return Fault{Name: name, Does: does, Modes: Stream, play: play}
	}
	list := []Fault{
		opening("stream-empty", "sends an event stream without any event", func(x *exchange) bool { x.begin(); return x.end() }),
		opening("stream-only-done", "sends [DONE] as the only event", func(x *exchange) bool { x.begin(); return x.done() }),
		opening("stream-only-bad", "sends events that are no JSON, then [DONE]", func(x *exchange) bool {
			x.begin()
			for range x.events {
				x.event(`{"choices":[{"delta":{"content":`)
			}
			return x.done()
		}),
		opening("stream-only-comments", "sends comments without end", func(x *exchange) bool {
			x.begin()
			for x.pause(20*time.Millisecond) == nil && x.failed == nil {
				x.part(": still working\n\n")
			}
			return false
		}),
		opening("stream-answer-empty", "sends a finish_reason and no content", func(x *exchange) bool {
			x.begin()
			x.events = slices.DeleteFunc(x.events, func(e event) bool { return e.kind == content })
			x.finish()
			return x.done()
		}),
		opening("stream-filtered", "sends the finish_reason content_filter and no content", func(x *exchange) bool {
			x.begin()
			x.upTo(0)
			x.filter()
			return x.done()
		}),
		opening("stream-html", "sends a page of HTML with 200", func(x *exchange) bool {
			return x.reply(http.StatusOK, "text/html", "<html><head><title>Sign in</title></head></html>")
		}),
		opening("stream-text-type", "sends its events as text/plain", func(x *exchange) bool {
			x.head(http.StatusOK, "text/plain", chunked)
			x.load()
			x.finish()
			return x.done()
		}),
		opening("stream-json", "sends one JSON text where a stream was asked for", func(x *exchange) bool { return x.reply(http.StatusOK, jsonType, x.body()) }),
		opening("stream-error-200", "sends an error object with 200 where a stream was asked for", func(x *exchange) bool {
			return x.reply(http.StatusOK, jsonType, failure("The engine died.", "server_error", ""))
		}),
		opening("stream-gzip", "sends the stream in gzip, which nobody asked for", func(x *exchange) bool {
			x.head(http.StatusOK, streamType, chunked, "Content-Encoding: gzip")
			x.part(zip("data: [DONE]\n\n"))
			return x.end()
		}),
		opening("stream-chunks-broken", "sends a chunk whose length is no number", func(x *exchange) bool {
			x.begin()
			x.write("zz\r\ndata: {}\r\n")
			return x.cut()
		}),
		opening("event-oversized", "sends an event of 17 megabytes", func(x *exchange) bool {
			x.begin()
			x.oversized()
			x.finish()
			return x.done()
		}),
		opening("slow-first-token", "sends the role at once and the first content after half a minute", func(x *exchange) bool {
			x.begin()
			x.upTo(0)
			if x.pause(patience) != nil {
				return false
			}
			x.finish()
			return x.done()
		}),
	}
	for _, form := range ErrorForms() {
		list = append(list, ErrorFirst(form), ErrorAfter(form, 0))
	}
	return append(list, StallAfter(0), CutAfter(0), ResetAfter(0), EndAfter(0), DoneAfter(0))
}

// filter ends every choice for what it says.
func (x *exchange) filter() {
	for i := range x.request.choices {
		x.event(x.request.chunk(i, object{}, "content_filter"))
	}
}

// oversized writes an event of megabytes.
func (x *exchange) oversized() {
	x.part("data: {\"filler\":\"")
	for range oversize {
		x.part(filler)
	}
	x.part("\"}\n\n")
}

// oversize is in megabytes.
const oversize = 17

var filler = strings.Repeat("x", 1<<20)

// breaks are streams that break off after content.
func breaks() []Fault {
	const some = 3
	list := []Fault{
		StallAfter(1), StallAfter(some), StallAfter(-1),
		ResetAfter(1), ResetAfter(some), ResetAfter(-1),
		EndAfter(1), EndAfter(some), EndAfter(-1), // the last one is a stream without finish_reason and [DONE]
		DoneAfter(1), DoneAfter(some), DoneAfter(-1), // and this one without finish_reason
		stream("chunks-broken-after-3", "sends a chunk whose length is no number "+place(some), some, func(x *exchange) bool {
			x.write("zz\r\ndata: {}\r\n")
			return x.cut()
		}),
		stream("event-cut-after-3", "closes the connection inside an event "+place(some), some, func(x *exchange) bool {
			x.part("data: " + x.events[x.next].data[:20])
			return x.cut()
		}),
		stream("event-oversized-after-3", "sends an event of 17 megabytes "+place(some), some, func(x *exchange) bool {
			x.oversized()
			return x.cut()
		}),
	}
	for pieces := range defaultPieces {
		list = append(list, CutAfter(pieces+1))
	}
	for _, form := range ErrorForms() {
		list = append(list, ErrorAfter(form, some), ErrorAfter(form, -1))
	}
	return list
}

// events are streams of which single events are wrong.
func events() []Fault {
	const some = 3
	return []Fault{
		{Name: "bad-event-first", Does: "sends an additional event that is no JSON as the first one, and goes on", Modes: Stream, play: func(x *exchange) bool {
			x.begin()
			x.event("{")
			x.finish()
			return x.done()
		}},
		BadEventAfter(0), BadEventAfter(some), LostEventAfter(some),
		stream("split-utf8", "sends half a character, a moment nothing, and the other half", 0, func(x *exchange) bool {
			for x.next < len(x.events) {
				x.splitInsideCharacter()
			}
			return x.done()
		}),
		stream("split-utf8-events", "sends half of each long character in one event and the other half in the next", 0, func(x *exchange) bool {
			for x.next < len(x.events) {
				one, two := halves(x.events[x.next].data)
				x.event(one)
				if two != "" {
					x.event(two)
				}
				x.next++
			}
			return x.done()
		}),
	}
}

// splitInsideCharacter sends the next event in two pieces, parted inside its first long character.
func (x *exchange) splitInsideCharacter() {
	text := "data: " + x.events[x.next].data + "\n\n"
	x.next++
	at := strings.IndexFunc(text, isLong) + 1
	if at == 0 {
		at = len(text) / 2
	}
	x.part(text[:at])
	_ = x.pause(time.Millisecond) // so that they do not arrive together
	x.part(text[at:])
}

func isLong(r rune) bool { return r > 0x7f }

// halves splits an event inside the first long character of its text. Without one, the second is empty.
func halves(data string) (one, two string) {
	at := strings.IndexFunc(data, isLong) + 1
	if at == 0 {
		return data, ""
	}
	begin := strings.LastIndex(data[:at], `":"`) + len(`":"`)
	end := at
	for data[end] != '"' || data[end-1] == '\\' {
		end++
	}
	return data[:at] + data[end:], data[:begin] + data[at:]
}

// endings are streams whose content is whole, and which are odd otherwise.
func endings() []Fault {
	finished := func(name, does string, end func(*exchange) bool) Fault {
		return stream(name, does, -1, func(x *exchange) bool {
			x.finish()
			return end(x)
		})
	}
	form := func(name, does string, write func(x *exchange, data string)) Fault {
		return Fault{Name: name, Does: does, Modes: Stream, play: func(x *exchange) bool {
			x.begin()
			for _, e := range x.events {
				write(x, e.data)
			}
			return x.done()
		}}
	}
	return []Fault{
		finished("no-done", "ends a finished stream without [DONE]", (*exchange).end),
		finished("finished-cut", "closes the connection after the finish_reason", (*exchange).cut),
		finished("finished-reset", "resets the connection after the finish_reason", (*exchange).reset),
		finished("finished-stall", "says nothing more after the finish_reason", (*exchange).silence),
		finished("done-stall", "never ends the body after [DONE]", func(x *exchange) bool {
			x.event("[DONE]")
			return x.silence()
		}),
		finished("finished-bad-event", "sends an event that is no JSON after the finish_reason", func(x *exchange) bool {
			x.event("{")
			return x.done()
		}),
		stream("stream-filtered-after-3", "sends the finish_reason content_filter "+place(3), 3, func(x *exchange) bool {
			x.filter()
			return x.done()
		}),
		{Name: "stream-http10", Does: "streams in HTTP/1.0, ended by the connection's end", Modes: Stream, play: func(x *exchange) bool {
			x.write(headText("HTTP/1.0", http.StatusOK, streamType))
			x.plain = true
			x.load()
			x.finish()
			x.event("[DONE]")
			return x.cut()
		}},
		form("stream-trickle", "sends the events byte by byte", func(x *exchange, data string) {
			for _, b := range []byte("data: " + data + "\n\n") {
				x.part(string([]byte{b}))
			}
		}),
		form("stream-slow", "takes 20 ms before each event", func(x *exchange, data string) {
			if x.pause(20*time.Millisecond) == nil {
				x.event(data)
			}
		}),
		form("stream-crlf", "ends lines with CR LF", func(x *exchange, data string) { x.part("data: " + data + "\r\n\r\n") }),
		form("stream-no-space", "leaves no space after data:", func(x *exchange, data string) { x.part("data:" + data + "\n\n") }),
		form("stream-two-lines", "spreads each event over two lines", func(x *exchange, data string) {
			x.part("data: {\ndata: " + data[1:] + "\n\n")
		}),
		form("stream-comments", "sends comments, ids and unknown fields between the events", func(x *exchange, data string) {
			x.part(": ping\n\nid: 7\nretry: 10\nwhatever\ndata: " + data + "\n\n\n")
		}),
		{Name: "stream-no-role", Does: "leaves out the event with the role", Modes: Stream, play: func(x *exchange) bool {
			x.begin()
			x.events = slices.DeleteFunc(x.events, func(e event) bool { return e.kind == role })
			x.finish()
			return x.done()
		}},
		{Name: "stream-at-once", Does: "sends the whole stream in one piece with a length", Modes: Stream, play: func(x *exchange) bool {
			x.load()
			var body strings.Builder
			for _, e := range append(x.events, event{"[DONE]", finish}) {
				body.WriteString("data: " + e.data + "\n\n")
			}
			return x.reply(http.StatusOK, streamType, body.String())
		}},
	}
}
