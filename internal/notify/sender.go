package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"shareai/internal/alert"
	"shareai/internal/egress"
	"shareai/internal/fault"
)

// The bounds of sending.
const (
	sendTime    = 20 * time.Second // for one try
	connectTime = 5 * time.Second
	readAnswer  = 64 << 10 // bytes, so that the connection can end in order

	longestReason = 300 // bytes
)

// Options are what a Sender works with.
type Options struct {
	UserAgent string
	// Roots are the certificates that are trusted. Nil: those of the system.
	Roots *x509.CertPool
	// Resolver looks up names. Nil: the system's.
	Resolver *net.Resolver
}

// Sender sends messages, one at a time or many.
type Sender struct {
	options Options
	public  *http.Client // reaches the public internet only
	private *http.Client // and private networks too
}

// NewSender makes a sender.
func NewSender(o Options) *Sender {
	s := &Sender{options: o}
	s.public, s.private = s.client(egress.PublicOnly()), s.client(egress.AnywhereBut)
	return s
}

func (s *Sender) client(allow egress.Guard) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext: s.dialer(allow).DialContext, TLSClientConfig: s.tls(""), TLSHandshakeTimeout: connectTime,
			DisableKeepAlives: true, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (s *Sender) dialer(allow egress.Guard) *net.Dialer {
	return &net.Dialer{Timeout: connectTime, Resolver: s.options.Resolver, Control: allow.Control}
}

// clientFor is the client that may go where the receiver is.
func (s *Sender) clientFor(to *alert.Receiver) *http.Client {
	if to.PrivateNetwork {
		return s.private
	}
	return s.public
}

// guardOf says where a receiver may be.
func guardOf(to *alert.Receiver) egress.Guard {
	if to.PrivateNetwork {
		return egress.AnywhereBut
	}
	return egress.PublicOnly()
}

func (s *Sender) tls(host string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.options.Roots, ServerName: host}
}

// Error is why a message was not delivered. Its text has nothing in it that is secret.
type Error struct {
	Reason string
	// RetryAfter is how long the receiver asked to be left alone; 0: it did not.
	RetryAfter time.Duration
	Cause      error
}

func (e *Error) Error() string { return e.Reason }
func (e *Error) Unwrap() error { return e.Cause }

// Send sends a message. Its error is an *Error.
func (s *Sender) Send(ctx context.Context, to *alert.Receiver, m *alert.Message) error {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	var err error
	switch {
	case to.Webhook != nil:
		err = s.webhook(ctx, to, m)
	case to.Slack != nil:
		err = s.slack(ctx, to, m)
	default:
		err = s.email(ctx, to, m)
	}
	return explain(ctx, err)
}

// explain puts an error into words that do not name the address: it may be a secret.
func explain(ctx context.Context, err error) error {
	var known *Error
	var dns *net.DNSError
	var failed *url.Error
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case errors.Is(err, egress.ErrRefused):
		return &Error{Reason: "the address leads to where the gateway must not reach; private_network: true allows private ones", Cause: err}
	case errors.As(err, &dns):
		return &Error{Reason: "the name of the host does not resolve", Cause: err}
	case errors.Is(err, context.DeadlineExceeded), ctx.Err() != nil:
		return &Error{Reason: "there was no answer in time", Cause: err}
	case errors.As(err, &failed):
		return &Error{Reason: brief(failed.Err), Cause: err} // the rest of its text is the URL
	default:
		return &Error{Reason: brief(err), Cause: err}
	}
}

// brief is an error in one line that can be stored and shown.
func brief(err error) string {
	return fault.Clip(strings.Join(strings.Fields(fault.Redact(err.Error())), " "), longestReason)
}

func (s *Sender) webhook(ctx context.Context, to *alert.Receiver, m *alert.Message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	header := http.Header{}
	header.Set("Webhook-Id", m.ID)
	header.Set("Webhook-Timestamp", at)
	header.Set("Webhook-Signature", Signature(to.Webhook.Secret, m.ID, at, body))
	return s.post(ctx, to, to.Webhook.URL.Reveal(), post{header, body})
}

func (s *Sender) slack(ctx context.Context, to *alert.Receiver, m *alert.Message) error {
	body, err := json.Marshal(slackMessage(m))
	if err != nil {
		return err
	}
	return s.post(ctx, to, to.Slack.URL.Reveal(), post{http.Header{}, body})
}

// post is what is posted.
type post struct {
	header http.Header
	body   []byte
}

func (s *Sender) post(ctx context.Context, to *alert.Receiver, address string, p post) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(p.body))
	if err != nil {
		return err
	}
	request.Header = p.header
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", s.options.UserAgent)
	answer, err := s.clientFor(to).Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, readAnswer)) // nobody reads what it says
	if answer.StatusCode >= 200 && answer.StatusCode <= 299 {
		return nil
	}
	reason := fmt.Sprintf("it answered %d", answer.StatusCode)
	if answer.StatusCode >= 300 && answer.StatusCode <= 399 {
		reason += ", and redirections are not followed"
	}
	seconds, _ := strconv.Atoi(answer.Header.Get("Retry-After")) // a date is not worth the trouble
	return &Error{Reason: reason, RetryAfter: time.Duration(max(seconds, 0)) * time.Second}
}
