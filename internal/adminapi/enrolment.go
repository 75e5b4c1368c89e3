package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"shareai/internal/control"
	"shareai/internal/enrol"
	"shareai/internal/fault"
	"shareai/internal/usage"
)

// Enroller makes machines nodes.
type Enroller interface {
	EnrolNode(ctx context.Context, r enrol.Request, from string) (control.Enrolled, error)
}

// EnrolmentOptions are what the enrolment of nodes works with.
type EnrolmentOptions struct {
	Nodes     Enroller
	Snapshots Snapshots
	// Audience is what tells this installation from all others.
	Audience string
	// GatewayURLs are where nodes are to dial, best first. None: where they enrol.
	GatewayURLs []string
	Log         *slog.Logger
}

// Enrolment answers enrol.Path. It is for the public listener: who asks has a token, and nothing else yet. It is no part
// of the API for administration and of its document; internal/enrol specifies it.
type Enrolment struct {
	EnrolmentOptions
	addresses, all *control.Paces
}

// NewEnrolment makes the handler.
func NewEnrolment(o EnrolmentOptions) *Enrolment {
	o.GatewayURLs = append([]string{}, o.GatewayURLs...) // an empty list, not null
	// The tokens can not be guessed; the bounds keep the work away that guessing makes.
	return &Enrolment{
		EnrolmentOptions: o,
		addresses:        control.NewPaces(30, 500*time.Millisecond),
		all:              control.NewPaces(100, 20*time.Millisecond),
	}
}

// ServeHTTP implements http.Handler.
func (e *Enrolment) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := usage.NewID()
	w.Header().Set("X-Request-Id", id)
	w.Header().Set("Cache-Control", "no-store")
	ctx := context.WithValue(r.Context(), requestID{}, id)
	answer, err := e.enrol(ctx, w, r)
	if err != nil {
		f := fault.From(err)
		if slices.Contains([]fault.Kind{fault.Internal, fault.Unavailable}, f.Kind) {
			e.Log.ErrorContext(ctx, "the enrolment of a node failed", "request_id", id, "error", f)
		}
		if f.Kind == fault.MethodNotAllowed {
			w.Header().Set("Allow", http.MethodPost)
		}
		writeFault(ctx, w, f)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(answer)
}

func (e *Enrolment) enrol(ctx context.Context, w http.ResponseWriter, r *http.Request) (*enrol.Answer, error) {
	from := host(r.RemoteAddr)
	if r.Method != http.MethodPost {
		return nil, fault.New(fault.MethodNotAllowed, "method_not_allowed", "This path takes POST.")
	}
	wait := e.addresses.Take(network(from), time.Now())
	if wait == 0 { // who asks too often counts for himself alone
		wait = e.all.Take("", time.Now())
	}
	if wait > 0 {
		f := fault.New(fault.RateLimited, "too_many_enrolments", "Too many machines enrol at the moment. Try again in a moment; the token is not used up.")
		f.RetryAfter = wait
		return nil, f
	}
	request, err := readEnrolment(w, r)
	if err != nil {
		return nil, err
	}
	enrolled, err := e.Nodes.EnrolNode(ctx, request, from)
	if err != nil {
		return nil, err
	}
	if err := e.Snapshots.Refresh(ctx); err != nil { // else its first link may be refused for a moment
		e.Log.WarnContext(ctx, "a node is enrolled and not known here yet", "node", enrolled.Node.ID, "error", err)
	}
	return &enrol.Answer{
		NodeID: enrolled.Node.ID, KeyID: enrolled.Key.ID, Name: enrolled.Node.Name, Organization: enrolled.Node.Organization,
		Audience: e.Audience, GatewayURLs: e.GatewayURLs,
	}, nil
}

// readEnrolment reads a request. What is wrong with it is said without repeating any of it: it holds a token.
func readEnrolment(w http.ResponseWriter, r *http.Request) (enrol.Request, error) {
	var request enrol.Request
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return request, fault.New(fault.UnsupportedMedia, "unsupported_media_type", "Send JSON, with `Content-Type: application/json`.")
	}
	// Not every writer can; then the server's own bound holds.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, enrol.MaxRequest))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return request, fault.New(fault.TooLarge, "request_too_large", "The request body is larger than 8 KiB.")
	case err != nil:
		return request, fault.New(fault.Timeout, "timeout", "The request body did not arrive in time.").Because(err)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if d.Decode(&request) != nil || d.Decode(&struct{}{}) != io.EOF || exactly(body, &enrol.Request{}) != nil {
		return enrol.Request{}, fault.New(fault.Invalid, "invalid_request",
			"The request is not a JSON object with token, name, public_key, proof, agent_version, hostname, os and arch. Update the agent.")
	}
	return request, nil
}

// network is what one owner of addresses is known by: an IPv4 address, or the first half of an IPv6 address.
func network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	if ip = ip.Unmap().WithZone(""); ip.Is6() {
		return netip.PrefixFrom(ip, 64).Masked().String()
	}
	return ip.String()
}
