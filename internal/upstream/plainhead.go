package upstream

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// head is the head of an answer, with what follows from it for the body.
type head struct {
	status    int
	minor     int // of HTTP/1.x
	header    http.Header
	length    int64 // of the body; -1: chunked or until the connection closes
	chunked   bool
	keepAlive bool
}

// badHeadError says that a head is not one. Whatever follows it can not be trusted: where two
// readers of a head disagree, one request's answer can become another's.
type badHeadError string

func (e badHeadError) Error() string { return "malformed answer: " + string(e) }

// readHead reads the head of the final answer and passes over the provisional ones. A failure before
// the first byte is a *staleError.
func (c *plainConn) readHead() (head, error) {
	c.r = readers.Get().(*bufio.Reader)
	c.r.Reset(c.Conn)
	defer c.drained()
	if _, err := c.r.Peek(1); err != nil {
		return head{}, &staleError{cause: cut(err)}
	}
	room := maxHead // for all heads of this answer together
	for {
		text, err := c.headText(&room)
		if err != nil {
			return head{}, err
		}
		h, err := parseHead(text)
		switch {
		case err != nil:
			return head{}, err
		case h.status == http.StatusSwitchingProtocols:
			return head{}, badHeadError("it switches protocols")
		case h.status >= 200:
			return h, nil
		}
	}
}

// headText reads up to the empty line and returns the text, the empty line included.
func (c *plainConn) headText(room *int) (string, error) {
	c.head = c.head[:0]
	for begin := 0; ; {
		part, err := c.r.ReadSlice('\n')
		if *room -= len(part); *room < 0 {
			return "", badHeadError("its head is longer than 64 KiB")
		}
		c.head = append(c.head, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return "", cut(err)
		}
		if line := c.head[begin:]; len(line) == 1 || (len(line) == 2 && line[0] == '\r') {
			break
		}
		begin = len(c.head)
	}
	text := string(c.head)
	if cap(c.head) > plainBuffer {
		c.head = nil // one long head is no reason to keep the room
	}
	return text, nil
}

// cut makes an end of file where more was due an error.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// parseHead parses a head that ends with an empty line. It is as strict as RFC 9112 lets a client be.
func parseHead(text string) (head, error) {
	line, rest, err := headLine(text)
	if err != nil {
		return head{}, err
	}
	h := head{length: -1}
	if h.minor, h.status, err = parseStatusLine(line); err != nil {
		return head{}, err
	}
	count := strings.Count(rest, "\n")
	h.header = make(http.Header, count)
	values := make([]string, 0, count)
	for {
		if line, rest, err = headLine(rest); err != nil {
			return head{}, err
		}
		if line == "" {
			break
		}
		name, value, ok := field(line)
		if !ok {
			return head{}, badHeadError("a header line is malformed")
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		if have := h.header[name]; have != nil {
			h.header[name] = append(have, value)
			continue
		}
		values = append(values, value)
		h.header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	return h, h.frame()
}

// field parts a header line. A folded line is none: what is before its colon is no name.
func field(line string) (name, value string, ok bool) {
	name, value, ok = strings.Cut(line, ":")
	value = strings.Trim(value, " \t")
	return name, value, ok && validName(name) && validValue(value)
}

// headLine cuts the first line off, without its end.
func headLine(text string) (line, rest string, err error) {
	line, rest, found := strings.Cut(text, "\n")
	if !found {
		return "", "", badHeadError("its head has no end")
	}
	return strings.TrimSuffix(line, "\r"), rest, nil
}

// parseStatusLine reads "HTTP/1.1 200 OK"; the reason may be missing.
func parseStatusLine(line string) (minor, status int, err error) {
	version, rest, _ := strings.Cut(line, " ")
	code, reason, _ := strings.Cut(rest, " ")
	switch version {
	case "HTTP/1.1":
		minor = 1
	case "HTTP/1.0":
	default:
		return 0, 0, badHeadError("it does not begin with HTTP/1.1")
	}
	if len(code) != 3 || !digits(code) || code[0] < '1' || code[0] > '5' || !validValue(reason) {
		return 0, 0, badHeadError("its status line is malformed")
	}
	status, err = strconv.Atoi(code)
	return minor, status, err
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

var errFraming = badHeadError("Content-Length and Transfer-Encoding do not say how long the body is")

// frame finds out how long the body is and whether the connection lives on after it.
func (h *head) frame() error {
	h.keepAlive = !says(h.header["Connection"], "close") && (h.minor == 1 || says(h.header["Connection"], "keep-alive"))
	coding, lengths := h.header["Transfer-Encoding"], h.header["Content-Length"]
	switch {
	case coding != nil:
		if len(coding) != 1 || !strings.EqualFold(coding[0], "chunked") || lengths != nil || h.minor == 0 {
			return errFraming
		}
		h.chunked = true
	case lengths != nil:
		for _, other := range lengths[1:] {
			if other != lengths[0] {
				return errFraming
			}
		}
		n, err := strconv.ParseInt(lengths[0], 10, 64)
		if err != nil || !digits(lengths[0]) {
			return errFraming
		}
		h.length = n
	}
	if h.status < 200 || h.status == http.StatusNoContent || h.status == http.StatusNotModified {
		h.length, h.chunked = 0, false // whatever the head says, these have no body
	} else if h.length < 0 && !h.chunked {
		h.keepAlive = false // the close of the connection is the end of the body
	}
	return nil
}

// says tells whether a list of options has one.
func says(values []string, option string) bool {
	for _, value := range values {
		for one := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.Trim(one, " \t"), option) {
				return true
			}
		}
	}
	return false
}
